"""The dns probe and the resolver against a name server in the test, by UDP and TCP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dnslib
import pytest

from engine.probes.context import Context
from engine.probes.nameservice import NameService
from engine.probes.resolver import literal_address
from engine.probes.run import RunOutcome, run
from engine.probes.trouble import TroubleError
from evaluators.model import Verdict
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import compile_check

OnLoop = Callable[[Coroutine[Any, Any, Any]], Any]
Answer = Callable[[dnslib.DNSRecord], bytes | None]
V4, V6 = socket.AF_INET, socket.AF_INET6

ZONE = """
a.example. 5 IN A 192.0.2.1
a.example. 5 IN A 192.0.2.2
six.example. 5 IN AAAA 2001:db8::1
www.example. 0 IN CNAME a.example.
loop.example. 5 IN CNAME loop.example.
metadata.example. 5 IN A 169.254.169.254
mail.example. 5 IN MX 10 mx.example.
txt.example. 5 IN TXT "v=spf1 " "-all"
srv.example. 5 IN SRV 1 2 443 a.example.
host.corp.example. 5 IN A 192.0.2.7
1.2.0.192.in-addr.arpa. 5 IN PTR a.example.
"""


def zone(query: dnslib.DNSRecord, text: str = ZONE) -> dnslib.DNSRecord:
    reply, asked, kind = query.reply(), query.q.qname, query.q.qtype
    records = dnslib.RR.fromZone(text)
    names = {asked}
    for record in records:
        if record.rname in names and record.rtype in (kind, dnslib.QTYPE.CNAME):
            reply.add_answer(record)
            if record.rtype == dnslib.QTYPE.CNAME and record.rdata.label not in names:
                names.add(record.rdata.label)
                for target in records:
                    if target.rname == record.rdata.label and target.rtype == kind:
                        reply.add_answer(target)
    if all(record.rname != asked for record in records):
        reply.header.rcode = dnslib.RCODE.NXDOMAIN
    return reply


def good(query: dnslib.DNSRecord) -> bytes:
    return bytes(zone(query).pack())


def coded(rcode: int) -> Answer:
    def answer(query: dnslib.DNSRecord) -> bytes:
        reply = query.reply()
        reply.header.rcode = rcode
        return bytes(reply.pack())

    return answer


def silent(query: dnslib.DNSRecord) -> None:
    return None


def garbage(query: dnslib.DNSRecord) -> bytes:
    return bytes(query.pack()[:2]) + b"\x80\x00garbage"


def another_question(query: dnslib.DNSRecord) -> bytes:
    other = dnslib.DNSRecord.question("evil.example")
    other.header.id = query.header.id
    return bytes(other.reply().pack())


def truncated(query: dnslib.DNSRecord) -> bytes:
    reply = query.reply()
    reply.header.tc = 1
    return bytes(reply.pack())


class Name(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer, asked: list[str]) -> None:
        self.answer, self.asked = answer, asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dnslib.DNSRecord.parse(data)
        self.asked.append(f"{query.q.qname} {dnslib.QTYPE[query.q.qtype]}")
        answer = self.answer(query)
        if answer is not None:
            self.transport.sendto(answer, addr)


@asynccontextmanager
async def name_server(
    udp: Answer, tcp: Answer = silent, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Any]:
    """Yields (port, what was asked)."""
    asked: list[str] = []

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = tcp(dnslib.DNSRecord.parse(await reader.readexactly(size))) or b""
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(stream, host, port)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: Name(udp, asked), (host, port))
    try:
        yield port, asked
    finally:
        transport.close()
        server.close()
        await asyncio.sleep(0.01)


@pytest.fixture
def system(tmp_path: Path) -> Callable[..., NameService]:
    def made(port: int, resolv_conf: str = "nameserver 127.0.0.1\n", hosts: str = "") -> NameService:
        (tmp_path / "resolv.conf").write_text(resolv_conf)
        (tmp_path / "hosts").write_text(hosts)
        return NameService(str(tmp_path / "resolv.conf"), str(tmp_path / "hosts"), port)

    return made


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def play(
    on_loop: OnLoop, udp: Answer, tcp: Answer = silent, timeout_s: float = 3.0, **beat: Any
) -> RunOutcome:
    async def played() -> RunOutcome:
        async with name_server(udp, tcp) as (port, _):
            given = {"type": "dns", "slug": "d", "resolver": f"127.0.0.1:{port}", **beat}
            check = compile_check(BEAT.validate_python(given), {})
            check = replace(check, pace=replace(check.pace, timeout_s=timeout_s, retries=0))
            context = Context(EgressPolicy())
            outcome = await run(check, context)
            assert not context.poller._edges, "a socket was left open"
            context.close()
            return outcome

    outcome = on_loop(played())
    assert isinstance(outcome, RunOutcome)
    return outcome


@pytest.mark.parametrize(
    ("host", "record", "expected"),
    [
        pytest.param("a.example", "A", "192.0.2.2", id="one of several addresses"),
        pytest.param("A.EXAMPLE.", "A", "192.0.2.1", id="any case, with the last dot"),
        pytest.param("six.example", "AAAA", "2001:db8::1", id="IPv6"),
        pytest.param("www.example", "A", "192.0.2.1", id="behind an alias"),
        pytest.param("mail.example", "MX", "10 mx.example", id="MX without the last dot"),
        pytest.param("txt.example", "TXT", "v=spf1 -all", id="TXT joined, without quotes"),
        pytest.param("srv.example", "SRV", "1 2 443 a.example", id="SRV"),
        pytest.param("192.0.2.1", "PTR", "a.example", id="an address turned round"),
    ],
)
def test_records_are_text_as_people_write_it(on_loop: OnLoop, host: str, record: str, expected: str) -> None:
    wanted = [{"of": "record", "type": record, "eq": expected}]
    assert play(on_loop, good, host=host, record=record, assertions=wanted).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("host", "answer", "expected"),
    [
        pytest.param("no.example", good, "dns.nxdomain", id="no such name"),
        pytest.param("six.example", good, "dns.no_record", id="no such record"),
        pytest.param("a.example", coded(dnslib.RCODE.SERVFAIL), "dns.servfail", id="SERVFAIL"),
        pytest.param("a.example", coded(dnslib.RCODE.REFUSED), "dns.refused", id="REFUSED"),
        pytest.param("a.example", coded(dnslib.RCODE.FORMERR), "dns.servfail", id="another error"),
        pytest.param("a.example", garbage, "dns.malformed", id="garbage"),
        pytest.param("a.example", another_question, "dns.malformed", id="another question"),
        pytest.param("a..example", good, "dns.malformed", id="no domain name"),
        pytest.param("x" * 64 + ".example", good, "dns.malformed", id="a label that is too long"),
    ],
)
def test_every_bad_answer_has_its_error_type(
    on_loop: OnLoop, host: str, answer: Answer, expected: str
) -> None:
    outcome = play(on_loop, answer, host=host)
    assert (kind(outcome), outcome.verdict) == (expected, Verdict.CRITICAL)


def test_silence_is_a_timeout(on_loop: OnLoop) -> None:
    outcome = play(on_loop, silent, host="a.example", timeout_s=0.15)
    assert (kind(outcome), outcome.verdict) == ("dns.timeout", Verdict.CRITICAL)


def test_a_cut_answer_is_asked_for_again_by_tcp(on_loop: OnLoop) -> None:
    assert play(on_loop, truncated, good, host="a.example").verdict is Verdict.OK


def test_tcp_that_breaks_off_is_malformed(on_loop: OnLoop) -> None:
    assert kind(play(on_loop, truncated, lambda _: b"", host="a.example")) == "dns.malformed"


def test_a_closed_port_is_refused(on_loop: OnLoop) -> None:
    assert kind(play(on_loop, good, host="a.example", resolver="127.0.0.9:1")) == "dns.refused"


def test_a_resolver_that_may_not_be_reached_is_not_asked(on_loop: OnLoop) -> None:
    assert kind(play(on_loop, good, host="a.example", resolver="169.254.169.254")) == "egress.refused"


def test_no_route_to_the_resolver_is_the_probes_own_trouble(on_loop: OnLoop) -> None:
    async def played() -> RunOutcome:
        context = Context(EgressPolicy(["255.255.255.255/32"]))
        given = {"type": "dns", "slug": "d", "host": "a.example", "resolver": "255.255.255.255", "retries": 0}
        outcome = await run(compile_check(BEAT.validate_python(given), {}), context)
        context.close()
        return outcome

    outcome = on_loop(played())
    assert (kind(outcome), outcome.verdict) == ("probe.no_route", Verdict.ERROR)


def test_nxdomain_can_be_what_is_expected(on_loop: OnLoop) -> None:
    wanted = [{"of": "rcode", "eq": "NXDOMAIN"}]
    assert play(on_loop, good, host="no.example", assertions=wanted).verdict is Verdict.OK


Look = Callable[..., Any]


@pytest.fixture
def look(on_loop: OnLoop, system: Callable[..., NameService]) -> Look:
    """`look(host, family)`: its addresses or its error type, and what was asked."""

    def looked(host: str, family: Any = V4, *, answer: Answer = good, times: int = 1, **files: str) -> Any:
        async def played() -> Any:
            async with name_server(answer) as (port, asked):
                found: Any = None
                context = Context(EgressPolicy(), names=system(port, **files))
                try:
                    async with asyncio.timeout(5):
                        for _ in range(times):
                            found = await context.resolver.addresses(host, family)
                except TroubleError as trouble:
                    found = trouble.kind
                assert not context.poller._edges, "a socket was left open"
                context.close()
                return found, asked

        return on_loop(played())

    return looked


@pytest.mark.parametrize(
    ("host", "family", "expected"),
    [
        ("a.example", V4, ("192.0.2.1", "192.0.2.2")),
        ("six.example", V6, ("2001:db8::1",)),
        ("www.example", V4, ("192.0.2.1", "192.0.2.2")),
        ("six.example", V4, "dns.no_record"),
        ("no.example", V4, "dns.nxdomain"),
        ("loop.example", V4, "dns.malformed"),
        ("a..b", V4, "dns.malformed"),
    ],
)
def test_names_become_addresses(look: Look, host: str, family: Any, expected: Any) -> None:
    assert look(host, family)[0] == expected


def test_answers_are_kept(look: Look) -> None:
    assert look("a.example", times=3)[1] == ["a.example. A"]


def test_failures_are_not_kept(look: Look) -> None:
    assert look("a.example", answer=coded(dnslib.RCODE.SERVFAIL))[0] == "dns.servfail"


def test_the_hosts_file_comes_first(look: Look) -> None:
    hosts = "# comment\n192.0.2.50 Own.Example other # more\n::5 own.example\n"
    assert look("own.EXAMPLE", hosts=hosts) == (("192.0.2.50",), [])
    assert look("own.example", V6, hosts=hosts) == (("::5",), [])
    assert look("other", V6, hosts=hosts) == ("dns.no_record", [])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost"])
def test_localhost_is_loopback_whatever_a_server_says(look: Look, host: str) -> None:
    assert look(host) == (("127.0.0.1",), [])


@pytest.mark.parametrize(
    ("host", "ndots", "asked"),
    [
        ("host", 1, ["host.corp.example. A"]),
        ("a.example", 1, ["a.example. A"]),
        ("host.corp", 2, ["host.corp.corp.example. A", "host.corp.example. A"]),
        ("host.", 1, ["host. A"]),
    ],
)
def test_the_search_list_is_followed(look: Look, host: str, ndots: int, asked: list[str]) -> None:
    conf = f"nameserver 127.0.0.1\nsearch corp.example example\noptions ndots:{ndots}\n"
    assert look(host, resolv_conf=conf)[1] == asked


def test_a_server_that_cannot_be_asked_is_passed_over(look: Look) -> None:
    conf = "nameserver 127.0.0.9\nnameserver 127.0.0.1\n"
    assert look("a.example", resolv_conf=conf)[0] == ("192.0.2.1", "192.0.2.2")


@pytest.mark.parametrize("conf", ["", "nameserver fe80::1%eth0\n", "nameserver nonsense\n"])
def test_without_a_usable_resolv_conf_the_c_library_is_asked(look: Look, conf: str) -> None:
    found, asked = look("ip6-localhost.invalid", resolv_conf=conf)
    assert isinstance(found, str)
    assert asked == []


def test_a_changed_hosts_file_is_read_again(tmp_path: Path, system: Callable[..., NameService]) -> None:
    names = system(53)
    (tmp_path / "hosts").write_text("192.0.2.60 new.example\n")
    assert names.hosts() == {"new.example": ("192.0.2.60",)}


def test_a_name_that_leads_to_metadata_is_not_connected_to(
    on_loop: OnLoop, system: Callable[..., NameService]
) -> None:
    async def played() -> RunOutcome:
        async with name_server(good) as (port, _):
            context = Context(EgressPolicy(), names=system(port))
            given = {"type": "http", "slug": "m", "url": "http://metadata.example/", "retries": 0}
            outcome = await run(compile_check(BEAT.validate_python(given), {}), context)
            context.close()
            return outcome

    assert kind(on_loop(played())) == "egress.refused"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("::1", "::1"),
        ("[0:0::1]", "::1"),
        ("::ffff:7f00:1", "::ffff:127.0.0.1"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("a.example", None),
        ("3com.example", None),
        ("1a", None),
    ],
)
def test_an_address_in_any_spelling_is_the_one_that_is_connected_to(host: str, expected: str | None) -> None:
    assert literal_address(host) == expected


@pytest.mark.parametrize(
    "host", ["1.2.3.4.5", "256.1.1.1", "a.1", "0x", "1.2.3.0xg.4", "::g", "fe80::1%lo", "09"]
)
def test_what_looks_like_an_address_and_is_none_is_refused(host: str) -> None:
    with pytest.raises(TroubleError) as refused:
        literal_address(host)
    assert refused.value.kind == "dns.malformed"
