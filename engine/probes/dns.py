"""The `dns` probe: one question to the system's resolver or to named ones. Uses no cache and no search list."""

import asyncio
import socket
from dataclasses import replace

import dns.exception
import dns.rdata
import dns.rdatatype
from dns.rdtypes.txtbase import TXTBase
from msgspec import structs

from engine.probes import message
from engine.probes.attempt import Watch
from engine.probes.connect import by_family, judge, resolve
from engine.probes.context import Context
from engine.probes.query import Server, ask
from engine.probes.resolver import literal_address
from engine.probes.trouble import TroubleError
from evaluators.assess import assess
from evaluators.model import Failure, Verdict
from evaluators.observation import Answered, Observation, Record
from rules.kinds.dns import DnsCheck

RECORDS_MAX = 200  # of one answer, kept
_PATIENCE = 0.9  # of the time left for one of several servers, so that who is silent can be named


async def probe(check: DnsCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """Ask once, and again while nobody answers; several resolvers at the same time. Raises `TroubleError`."""
    watch.enter("dns")
    if len(check.resolvers) > 1:
        await _compare(check, context, watch, seen)
    else:
        servers = await _servers(check, context, watch)
        seen.address = _shown(servers[0])
        _take(seen, await _ask(check, context, servers))


async def _compare(check: DnsCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """Ask all resolvers. What is seen is the first answer that does not hold, so that each of them has to."""
    servers = [await _found(context, watch, server) for server in check.resolvers]
    seen.answers = [Answered(_shown(server)) for server in check.resolvers]

    async def one(number: int, server: Server) -> None:
        left_s = _PATIENCE * (watch.ends_s - context.clock())
        try:
            async with asyncio.timeout(left_s):
                answered = await _ask(check, context, (server,))
        except TimeoutError:
            answered = Answered("", failure=Failure("dns.timeout", f"no answer within {left_s:.3g} s"))
        except TroubleError as trouble:
            answered = Answered("", failure=Failure(trouble.kind, str(trouble)))
        seen.answers[number] = structs.replace(answered, server=_shown(check.resolvers[number]))

    await asyncio.gather(*(one(number, server) for number, server in enumerate(servers)))
    for answered in seen.answers:
        if answered.failure is not None:
            raise TroubleError(answered.failure.type, f"{answered.server}: {answered.failure.message}")
    if check.agree and len({_compared(check, answered) for answered in seen.answers}) > 1:
        said = "; ".join(
            f"{answered.server} says {', '.join(_compared(check, answered))}" for answered in seen.answers
        )
        raise TroubleError("dns.disagree", f"{check.host} {check.record}: {said}")
    timeless = replace(
        check, expectations=tuple(e for e in check.expectations if not e.of.startswith("timing."))
    )
    for answered in seen.answers:
        _take(seen, answered)
        if assess(timeless, seen)[0] is not Verdict.OK:
            return
    _take(seen, seen.answers[0])


def _compared(check: DnsCheck, answered: Answered) -> tuple[str, ...]:
    """What resolvers are to agree on: the records of the asked type in any order, or why there are none."""
    exact = check.record in ("TXT", "CAA")
    texts = {record.text for record in answered.records if record.type == check.record}
    found = sorted(texts if exact else {text.lower() for text in texts})
    said = f"no {check.record} record" if answered.rcode == "NOERROR" else str(answered.rcode)
    return tuple(found) or (said,)


def _take(seen: Observation, answered: Answered) -> None:
    seen.address, seen.rcode = answered.server, answered.rcode
    seen.records, seen.flags = list(answered.records), answered.flags


async def _ask(check: DnsCheck, context: Context, servers: tuple[Server, ...]) -> Answered:
    address = literal_address(check.host) if check.record == "PTR" else None
    name = message.to_wire(message.turned_round(address) if address else check.host)
    question = message.ask_for(name, check.record, dnssec=check.dnssec)
    answer, server = await ask(context.poller, servers, question, tcp=check.tcp)
    records = tuple(_record(answer.data, part) for part in answer.chain(question)[:RECORDS_MAX])
    return Answered(_shown(server), answer.rcode_text, records, answer.flags)


async def _servers(check: DnsCheck, context: Context, watch: Watch) -> tuple[Server, ...]:
    if check.resolvers:
        return tuple([await _found(context, watch, server) for server in check.resolvers])
    known = context.resolver.names.servers()
    if known is None:
        raise TroubleError("probe.config", "this machine's resolv.conf names no resolver; set `resolver`")
    return known.servers  # the machine's own: not judged, as clouds put theirs on link-local addresses


async def _found(context: Context, watch: Watch, server: Server) -> Server:
    """A named server with its address, which the policy allows. Its name is looked up as any other's."""
    host, port = server
    if (address := literal_address(host)) is not None:
        judge(context, address)
        return address, port

    async def one(family: socket.AddressFamily) -> str:
        return await resolve(context, watch, Observation(), host, family)

    return await by_family("any", one), port


def _shown(server: Server) -> str:
    address, port = server
    if port == 53:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _record(data: bytes, part: message.Part) -> Record:
    try:
        record = dns.rdata.from_wire(
            "IN", dns.rdatatype.RdataType.make(part.type), data, part.start, part.size
        )
    except dns.exception.DNSException as wrong:
        raise TroubleError("dns.malformed", f"the answer cannot be read: {wrong}") from None
    return Record(dns.rdatatype.to_text(record.rdtype), to_text(record), part.ttl_s)


def to_text(record: dns.rdata.Rdata) -> str:
    """A record as people write it: names without the last dot, the strings of a TXT joined and without quotes."""
    if isinstance(record, TXTBase):
        return b"".join(record.strings).decode("utf-8", "replace")
    words = record.to_text().split(" ")
    return " ".join(word.removesuffix(".") if len(word) > 1 else word for word in words)
