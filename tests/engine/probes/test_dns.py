"""The dns probe and the resolver against a name server in the test, by UDP and TCP."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.probes import message
from engine.probes.context import Context
from engine.probes.nameservice import NameService
from engine.probes.resolver import literal_address
from engine.probes.run import RunOutcome, run
from engine.probes.trouble import TroubleError
from evaluators.model import Verdict
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import compile_check
from tests.rig.names import (
    Answer,
    another_question,
    coded,
    garbage,
    good,
    name_server,
    silent,
    truncated,
    zone,
)

OnLoop = Callable[[Coroutine[Any, Any, Any]], Any]
V4, V6 = socket.AF_INET, socket.AF_INET6


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
    on_loop: OnLoop,
    udp: Answer,
    tcp: Answer = silent,
    *others: Answer,
    timeout_s: float = 3.0,
    **beat: Any,
) -> RunOutcome:
    """A run against a name server; with `others` against several, which are compared."""

    async def played() -> RunOutcome:
        async with AsyncExitStack() as stack:
            ports = [(await stack.enter_async_context(name_server(one, tcp)))[0] for one in (udp, *others)]
            servers = [f"127.0.0.1:{port}" for port in ports]
            named = {"resolvers": servers} if others else {"resolver": servers[0]}
            given = {"type": "dns", "slug": "d", **named, **beat}
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
        pytest.param("2001:db8::1", "PTR", "six.example", id="an IPv6 address turned round"),
        pytest.param("www.example", "CNAME", "a.example", id="the alias itself"),
        pytest.param("example", "SOA", "ns.example admin.example 7 3600 600 86400 60", id="SOA"),
        pytest.param("example", "NS", "ns2.example", id="NS"),
        pytest.param("example", "CAA", '0 issue "ca.example"', id="CAA"),
        pytest.param("_sip._tcp.example", "SRV", "1 2 5060 a.example", id="a name with underscores"),
        pytest.param("BÜCHER.example", "A", "192.0.2.9", id="a name that is not ASCII"),
        pytest.param("straße.example", "A", "192.0.2.10", id="a sharp s, which is not two"),
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


def test_tcp_is_used_alone_where_it_is_asked_for(on_loop: OnLoop) -> None:
    assert play(on_loop, silent, good, host="a.example", protocol="tcp").verdict is Verdict.OK


def test_an_answer_that_tcp_cuts_as_well_has_its_own_error_type(on_loop: OnLoop) -> None:
    assert kind(play(on_loop, truncated, truncated, host="a.example")) == "dns.truncated"


def test_that_an_answer_was_cut_can_be_asserted(on_loop: OnLoop) -> None:
    wanted = [{"of": "flags", "contains": "tc"}]
    assert play(on_loop, truncated, good, host="a.example", assertions=wanted).verdict is Verdict.OK
    assert kind(play(on_loop, good, host="a.example", assertions=wanted)) == "assertion.flags"


def validating(query: dnslib.DNSRecord) -> bytes:
    """Says AD to who asks for it with DO."""
    reply = zone(query)
    reply.header.ad = int(any(option.rtype == dnslib.QTYPE.OPT and option.edns_do for option in query.ar))
    return bytes(reply.pack())


def test_signatures_are_asked_for_only_by_option(on_loop: OnLoop) -> None:
    wanted = [{"of": "flags", "contains": "ad"}]
    assert play(on_loop, validating, host="a.example", dnssec=True, assertions=wanted).verdict is Verdict.OK
    assert kind(play(on_loop, validating, host="a.example", assertions=wanted)) == "assertion.flags"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"of": "record", "type": "A", "count": 2}, None),
        ({"of": "record", "type": "A", "count": 1}, "assertion.record"),
        ({"of": "ttl", "type": "A", "eq": "5s"}, None),
        ({"of": "ttl", "type": "A", "ge": "1m"}, "assertion.ttl"),
        ({"of": "ttl", "type": "MX", "lt": "1m"}, "assertion.ttl"),
        ({"of": "rcode", "eq": "NOERROR"}, None),
        ({"of": "flags", "contains": "aa"}, None),
    ],
)
def test_records_are_counted_and_their_ttl_judged(
    on_loop: OnLoop, wanted: dict[str, Any], expected: str | None
) -> None:
    assert kind(play(on_loop, good, host="a.example", assertions=[wanted])) == expected


def test_evidence_shows_the_aliases_on_the_way(on_loop: OnLoop) -> None:
    wanted = [{"of": "record", "type": "A", "eq": "192.0.2.99"}]
    seen = play(on_loop, good, host="www.example", assertions=wanted).evidence
    assert seen is not None
    assert seen["records"] == [
        {"type": "CNAME", "text": "a.example", "ttl_s": 0},
        {"type": "A", "text": "192.0.2.1", "ttl_s": 5},
        {"type": "A", "text": "192.0.2.2", "ttl_s": 5},
    ]


def test_a_record_of_another_name_answers_nothing(on_loop: OnLoop) -> None:
    def strayed(query: dnslib.DNSRecord) -> bytes:
        reply = query.reply()
        reply.add_answer(*dnslib.RR.fromZone("evil.example. 5 IN A 192.0.2.66"))
        return bytes(reply.pack())

    assert kind(play(on_loop, strayed, host="a.example")) == "dns.no_record"


def saying(*addresses: str) -> Answer:
    def answer(query: dnslib.DNSRecord) -> bytes:
        return bytes(zone(query, "".join(f"a.example. 9 IN A {one}\n" for one in addresses)).pack())

    return answer


def test_resolvers_agree_whatever_the_order_of_records(on_loop: OnLoop) -> None:
    one, other = saying("192.0.2.1", "192.0.2.2"), saying("192.0.2.2", "192.0.2.1")
    assert play(on_loop, one, silent, other, host="a.example").verdict is Verdict.OK


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (saying("192.0.2.1", "192.0.2.3"), "192.0.2.1, 192.0.2.3"),
        (coded(dnslib.RCODE.NXDOMAIN), "NXDOMAIN"),
        (coded(dnslib.RCODE.NOERROR), "no A record"),
    ],
)
def test_resolvers_that_disagree_are_told_with_what_each_said(
    on_loop: OnLoop, other: Answer, says: str
) -> None:
    outcome = play(on_loop, saying("192.0.2.1"), silent, saying("192.0.2.1"), other, host="a.example")
    assert outcome.failure is not None
    assert outcome.failure.type == "dns.disagree"
    assert outcome.failure.message.endswith(f" says {says}")
    assert outcome.failure.message.count(" says 192.0.2.1; ") == 2
    assert outcome.evidence is not None
    assert [len(one["records"]) for one in outcome.evidence["answers"]][:2] == [1, 1]


def test_resolvers_that_need_not_agree_must_each_hold(on_loop: OnLoop) -> None:
    wanted = [
        {"of": "timing.total", "lt": "1m"},
        {"of": "record", "type": "A", "starts": "192.0.2."},
    ]
    given: dict[str, Any] = {"host": "a.example", "agree": False, "assertions": wanted}
    near, away = saying("192.0.2.7"), saying("198.51.100.1")
    assert play(on_loop, saying("192.0.2.1"), silent, near, **given).verdict is Verdict.OK
    assert kind(play(on_loop, near, silent, away, near, **given)) == "assertion.record"
    assert kind(play(on_loop, near, silent, coded(dnslib.RCODE.SERVFAIL), **given)) == "dns.servfail"


def test_a_resolver_may_be_a_name(on_loop: OnLoop) -> None:
    async def played() -> list[RunOutcome]:
        async with name_server(good) as (port, _):
            context = Context(EgressPolicy())
            asked: list[dict[str, Any]] = [
                {"resolver": f"localhost:{port}"},
                {"resolvers": [f"localhost:{port}", f"127.0.0.1:{port}"]},
            ]
            asked += [{"resolver": f"nowhere.invalid:{port}"}]
            given: dict[str, Any] = {"type": "dns", "slug": "d", "host": "a.example", "retries": 0}
            found = [
                await run(compile_check(BEAT.validate_python(given | one), {}), context) for one in asked
            ]
            context.close()
            return found

    alone, beside, nowhere = on_loop(played())
    assert (alone.verdict, beside.verdict) == (Verdict.OK, Verdict.OK)
    assert str(kind(nowhere)).startswith(("dns.", "probe."))


def test_a_resolver_that_fails_is_named(on_loop: OnLoop) -> None:
    outcome = play(on_loop, good, silent, garbage, host="a.example")
    assert outcome.failure is not None
    assert (outcome.failure.type, outcome.failure.message[:10]) == ("dns.malformed", "127.0.0.1:")


def test_a_resolver_that_is_silent_is_named(on_loop: OnLoop) -> None:
    outcome = play(on_loop, good, silent, silent, host="a.example", timeout_s=0.5)
    assert outcome.failure is not None
    assert outcome.failure.type == "dns.timeout"
    assert outcome.evidence is not None
    silent_one = outcome.evidence["answers"][1]
    assert outcome.failure.message == f"{silent_one['server']}: {silent_one['error']}"
    assert [one["rcode"] for one in outcome.evidence["answers"]] == ["NOERROR", None]


def test_the_search_list_is_not_for_beats(on_loop: OnLoop, system: Callable[..., NameService]) -> None:
    async def played() -> list[str]:
        async with name_server(good) as (port, asked):
            context = Context(
                EgressPolicy(), names=system(port, "nameserver 127.0.0.1\nsearch corp.example\n")
            )
            given = {"type": "dns", "slug": "d", "host": "host", "retries": 0}
            assert kind(await run(compile_check(BEAT.validate_python(given), {}), context)) == "dns.nxdomain"
            context.close()
            return list(asked)

    assert on_loop(played()) == ["host. A"]


_QUESTION = message.ask_for(message.to_wire("www.example"), "A")
_ANSWER = good(dnslib.DNSRecord.parse(_QUESTION.wire))


@given(
    st.lists(st.tuples(st.integers(2, len(_ANSWER) - 1), st.integers(0, 255)), max_size=8), st.integers(0, 40)
)
def test_a_broken_answer_is_an_answer_or_malformed(changes: list[tuple[int, int]], cut: int) -> None:
    broken = bytearray(_ANSWER)
    for at, byte in changes:
        broken[at] = byte
    try:
        message.read(_QUESTION, bytes(broken[: len(broken) - cut])).chain(_QUESTION)
    except TroubleError as trouble:
        assert trouble.kind == "dns.malformed"  # noqa: PT017 - or no trouble at all


def test_an_alias_to_nothing_at_the_very_end_is_malformed(on_loop: OnLoop) -> None:
    def cut(query: dnslib.DNSRecord) -> bytes:
        reply = query.reply()
        reply.add_answer(*dnslib.RR.fromZone("a.example. 5 IN CNAME b.example."))
        data = bytes(reply.pack())
        end = data.rindex(b"\x01b")  # the alias' name, of which nothing is left
        return data[: end - 2] + b"\0\0"

    assert kind(play(on_loop, cut, host="a.example")) == "dns.malformed"


@given(st.binary(max_size=600))
def test_any_bytes_are_an_answer_or_malformed(noise: bytes) -> None:
    try:
        message.read(_QUESTION, _ANSWER[:12] + noise).chain(_QUESTION)
    except TroubleError as trouble:
        assert trouble.kind == "dns.malformed"  # noqa: PT017 - or no trouble at all


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


def test_an_answer_that_lives_no_time_is_not_kept(look: Look) -> None:
    assert look("www.example", times=2)[1] == ["www.example. A"] * 2


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
