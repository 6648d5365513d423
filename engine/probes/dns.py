"""The `dns` probe: one question to the named resolver or the system's. Uses no cache and no search list."""

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.reversename
from dns.rdtypes.txtbase import TXTBase

from engine.probes.attempt import Watch
from engine.probes.connect import judge
from engine.probes.context import Context
from engine.probes.query import Server, ask, parse_name
from engine.probes.resolver import literal_address
from engine.probes.trouble import TroubleError
from evaluators.observation import Observation, Record
from rules.kinds.dns import DnsCheck

RECORDS_MAX = 200  # of one answer, kept


async def probe(check: DnsCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """Ask once, and again while nobody answers. Raises `TroubleError`."""
    watch.enter("dns")
    servers = _servers(check, context)
    seen.address = servers[0][0]
    message, seen.address = await ask(context.poller, servers, _name(check), check.record)
    seen.rcode = dns.rcode.to_text(message.rcode())
    records = ((rrset, record) for rrset in message.answer for record in rrset)
    seen.records = [
        Record(dns.rdatatype.to_text(rrset.rdtype), to_text(record), rrset.ttl)
        for (rrset, record), _ in zip(records, range(RECORDS_MAX), strict=False)
    ]


def _servers(check: DnsCheck, context: Context) -> tuple[Server, ...]:
    if check.resolver is None:
        known = context.resolver.names.servers()
        if known is None:
            raise TroubleError("probe.config", "this machine's resolv.conf names no resolver; set `resolver`")
        return known.servers  # the machine's own: not judged, as clouds put theirs on link-local addresses
    address = literal_address(check.resolver[0])
    if address is None:
        raise TroubleError("probe.config", f"the resolver {check.resolver[0]!r} is not an address")
    judge(context, address)
    return ((address, check.resolver[1]),)


def _name(check: DnsCheck) -> dns.name.Name:
    address = literal_address(check.host) if check.record == "PTR" else None
    return dns.reversename.from_address(address) if address else parse_name(check.host)


def to_text(record: dns.rdata.Rdata) -> str:
    """A record as people write it: names without the last dot, the strings of a TXT joined and without quotes."""
    if isinstance(record, TXTBase):
        return b"".join(record.strings).decode("utf-8", "replace")
    words = record.to_text().split(" ")
    return " ".join(word.removesuffix(".") if len(word) > 1 else word for word in words)
