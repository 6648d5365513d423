"""The address policy under attack: with private addresses denied, no feature of the probes reaches a canary on this host.

Real runs of real checks; 127.0.0.2 is listed and plays the public internet. Channels, relays and exports have the same
table in tests/engine/test_egress.py.
"""

import asyncio
import contextlib
import itertools
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dnslib
import pytest
from pydantic import ValidationError

from engine.probes.context import Context
from engine.probes.nameservice import NameService
from engine.probes.run import RunOutcome, run
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import compile_check
from tests.rig.addresses import elsewhere, every_url, local_hosts
from tests.rig.names import Answer, name_server
from tests.rig.network import apart

OUTSIDE = "127.0.0.2"
DENYING = EgressPolicy([f"{OUTSIDE}/32"], denies_private=True)
_AT_ONCE = 40


def own_address() -> str | None:
    """The private address this machine has, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(OSError):
        any_socket.connect(("192.0.2.254", 9))
        found = str(any_socket.getsockname()[0])
        return None if EgressPolicy(denies_private=True).refusal(found, "beat") is None else found
    return None


@dataclass
class Stage:
    """Canaries and an outside server on the same port, and a name server that says what a test wants."""

    port: int
    hits: list[str]
    outside: list[bytes]  # what the outside server was sent
    away: str = "/"  # where it redirects to
    names: NameService | None = None

    async def attack(self, policy: EgressPolicy = DENYING, **beat: Any) -> str | None:
        """The error type of a run of `beat`; `refused` where it cannot even be declared, None where all is well."""
        given = {"type": "http", "slug": "a", "retries": 0, "timeout": "5s", **beat}
        reference = given.pop("reference", ())
        context = Context(policy, names=self.names)
        try:
            check = compile_check(BEAT.validate_python(given), {})
            outcome: RunOutcome = await run(check, context, reference=reference)
        except (ValidationError, ValueError):
            return "refused"
        finally:
            context.close()
        assert outcome.failure is None or outcome.failure.type != "probe.internal", outcome.failure
        return outcome.failure.type if outcome.failure else None

    async def attack_all(
        self, beats: Iterable[dict[str, Any]], policy: EgressPolicy = DENYING
    ) -> list[str | None]:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(beat: dict[str, Any]) -> str | None:
            async with slots:
                return await self.attack(policy, **beat)

        return list(await asyncio.gather(*map(one, beats)))


class _Bell(asyncio.DatagramProtocol):
    def __init__(self, rung: Callable[[], None]) -> None:
        self._rung = rung

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._rung()


@contextlib.asynccontextmanager
async def staged(answer: Answer, folder: Path, hosts: str = "") -> AsyncIterator[Stage]:
    loop = asyncio.get_running_loop()
    inside = [one for one in ("127.0.0.1", "127.255.255.254", "::1", own_address()) if one]
    stage = Stage(0, [], [])

    async def caught(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stage.hits.append(f"{writer.get_extra_info('sockname')[0]}: {(await reader.read(200))!r}")
        writer.close()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            stage.outside.append(await reader.read(65_536))
            head = f"HTTP/1.1 302 Found\r\nLocation: {stage.away}\r\nContent-Length: 0\r\n\r\n"
            writer.write(head.encode("utf-8", "surrogateescape"))
            await writer.drain()
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        first = await asyncio.start_server(caught, inside[0], 0)
        stage.port = first.sockets[0].getsockname()[1]
        servers = [first, await asyncio.start_server(served, OUTSIDE, stage.port)]
        servers += [await asyncio.start_server(caught, one, stage.port) for one in inside[1:]]
        for server in servers:
            stack.callback(server.close)
        for one in inside:
            bell = _Bell(lambda one=one: stage.hits.append(f"{one}: a datagram"))  # type: ignore[misc]
            transport, _ = await loop.create_datagram_endpoint(lambda bell=bell: bell, (one, stage.port))  # type: ignore[misc]
            stack.callback(transport.close)
        port, _ = await stack.enter_async_context(name_server(answer, host="127.0.0.3"))
        (folder / "resolv.conf").write_text("nameserver 127.0.0.3\n")
        (folder / "hosts").write_text(hosts)
        stage.names = NameService(str(folder / "resolv.conf"), str(folder / "hosts"), port)
        yield stage
    await asyncio.sleep(0.01)


def saying(zone: str) -> Answer:
    """A name server that gives these records for whatever name, where they are of the asked type or an alias."""

    def answer(query: dnslib.DNSRecord) -> bytes:
        reply, kind = query.reply(), query.q.qtype
        for record in dnslib.RR.fromZone(zone.replace("@", str(query.q.qname))):
            if record.rtype in (kind, dnslib.QTYPE.CNAME):
                reply.add_answer(record)
        return bytes(reply.pack())

    return answer


LOOPBACK = saying("@ 0 IN A 127.0.0.1\n@ 0 IN AAAA ::1\n")


def hosts() -> Iterator[str]:
    for host in dict.fromkeys([*local_hosts(), *elsewhere()]):
        yield host
        if host.startswith("["):
            yield host.strip("[]").replace("%25", "%")


def beats(feature: str, port: int) -> list[dict[str, Any]]:
    """The table of forms, as beats that would reach each by `feature`."""
    outside = f"http://{OUTSIDE}:{port}/"
    if feature == "http":
        return [{"url": url} for url in every_url(port)]
    if feature == "proxy":
        return [{"url": outside, "proxy": url.rstrip("/")} for url in every_url(port)]
    if feature == "token":
        client = {"client_id": "c", "client_secret": "s"}
        return [{"url": outside, "auth": {"oauth2": {"token_url": url, **client}}} for url in every_url(port)]
    if feature == "step":
        steps = ({"name": "first", "url": url} for url in every_url(port))
        return [{"steps": [step]} for step in steps]
    if feature == "resolver":
        servers = (f"{host}:{port}" for host in hosts())
        return [{"type": "dns", "host": "a.example", "resolver": server} for server in servers]
    if feature == "resolvers":
        pairs = ([f"{host}:{port}", f"127.0.0.3:{port}"] for host in hosts())
        return [{"type": "dns", "host": "a.example", "resolvers": pair, "protocol": "tcp"} for pair in pairs]
    if feature == "reference":
        dead = {"type": "tcp", "host": OUTSIDE, "port": 1}
        return [{**dead, "reference": [(host, port)]} for host in hosts()]
    return [{"type": feature, "host": host, "port": port} for host in hosts()]


FEATURES = ("http", "proxy", "token", "step", "tcp", "tls", "resolver", "resolvers", "reference")
_TRANSLATED = ("64:", "2002:", "2001:")  # nobody translates them here: they are waited for in vain
# What a run may say of an address that it did not reach.
_UNREACHED = {
    *("refused", "egress.refused", "dns.malformed", "dns.no_record", "redirect.refused", "probe.no_route"),
    *("probe.config", "dns.nxdomain", "proxy.connect", "auth.token"),
}


@pytest.mark.parametrize("feature", FEATURES)
async def test_no_way_to_write_an_address_reaches_this_host(feature: str, tmp_path: Path) -> None:
    async with staged(LOOPBACK, tmp_path) as stage:
        tried = beats(feature, stage.port)
        found = await stage.attack_all(tried)
    assert len(tried) >= 300
    assert stage.hits == []
    if feature == "reference":  # one that is refused excuses nothing
        assert set(found) == {"connect.refused", "probe.no_network"}
        assert found.count("connect.refused") >= 200
    else:
        reached = [(one, beat) for one, beat in zip(found, tried, strict=True) if one not in _UNREACHED]
        assert reached == []
        assert found.count("egress.refused") >= 100
    if feature in ("proxy", "token"):
        assert stage.outside == [], "nothing is sent without them"


async def test_no_redirect_reaches_this_host(tmp_path: Path) -> None:
    found = []
    async with staged(LOOPBACK, tmp_path) as stage:
        for url in every_url(stage.port):
            stage.away = url.replace("\r", "").replace("\n", "")
            found.append(await stage.attack(url=f"http://{OUTSIDE}:{stage.port}/"))
    assert len(found) >= 300
    assert stage.hits == []
    assert set(found) <= {*_UNREACHED, "redirect.limit", "status"}
    assert found.count("egress.refused") >= 150


@pytest.mark.parametrize("feature", ["http", "proxy", "tcp", "tls", "resolver", "reference"])
async def test_the_policy_is_what_stops_them(feature: str, tmp_path: Path) -> None:
    """The control: where this host is listed, the same forms reach the canaries."""
    open_to_us = EgressPolicy(["127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128"], denies_private=True)
    async with staged(LOOPBACK, tmp_path) as stage:
        near = [
            beat for beat in beats(feature, stage.port) if not any(net in str(beat) for net in _TRANSLATED)
        ]
        tried = [{**beat, "timeout": "1s"} for beat in near[:100]]
        await stage.attack_all(tried, open_to_us)
        await asyncio.sleep(0.1)
    assert len(stage.hits) >= (1 if feature == "resolver" else 25)


ZONES = {
    "an address": "@ 0 IN A 127.0.0.1",
    "an IPv6 address": "@ 0 IN AAAA ::1",
    "a private address": f"@ 0 IN A {own_address() or '10.0.0.1'}",
    "the metadata service": "@ 0 IN A 169.254.169.254",
    "the metadata service by IPv6": "@ 0 IN AAAA fd00:ec2::254",
    "nowhere": "@ 0 IN A 0.0.0.0",
    "nowhere by IPv6": "@ 0 IN AAAA ::",
    "an IPv4 address in an IPv6 one": "@ 0 IN AAAA ::ffff:7f00:1",
    "an address behind a translator": "@ 0 IN AAAA 64:ff9b::7f00:1",
    "a chain of aliases": "@ 0 IN CNAME b.example.\nb.example. 0 IN CNAME c.example.\nc.example. 0 IN A 127.0.0.1",
    "an alias of localhost": "@ 0 IN CNAME localhost.\nlocalhost. 0 IN A 127.0.0.1",
    "one private address of a hundred, the last": "\n".join(
        [*(f"@ 0 IN A {OUTSIDE}" for _ in range(99)), "@ 0 IN A 127.0.0.1"]
    ),
    "one private address of a hundred, the first": "\n".join(
        ["@ 0 IN A 127.0.0.1", *(f"@ 0 IN A {OUTSIDE}" for _ in range(99))]
    ),
}


@pytest.mark.parametrize("zone", ZONES.values(), ids=ZONES)
async def test_a_name_leads_nowhere_it_may_not(zone: str, tmp_path: Path) -> None:
    async with staged(saying(zone), tmp_path) as stage:
        found = await stage.attack_all(_by_name(f"a.example:{stage.port}"))
    assert stage.hits == []
    assert set(found) <= {"egress.refused", "connect.refused", "probe.no_network", "dns.no_record"}


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.169.254", "0177.0.0.1", "127.1", "[::1]", "::1%lo"]
)
async def test_the_hosts_file_leads_nowhere_it_may_not(address: str, tmp_path: Path) -> None:
    async with staged(saying(""), tmp_path, f"{address} a.example\n") as stage:
        found = await stage.attack_all(_by_name(f"a.example:{stage.port}"))
    assert stage.hits == []
    assert set(found) <= {
        "egress.refused",
        "probe.no_network",
        "connect.refused",
        "dns.malformed",
        "dns.no_record",
        "auth.token",
    }


def _by_name(authority: str) -> list[dict[str, Any]]:
    """Every feature that connects to a name, aimed at this one."""
    host, _, port = authority.partition(":")
    url, outside = f"http://{authority}/", f"http://{OUTSIDE}:{port}/"
    return [
        {"url": url},
        {"url": url, "ip": 6},
        {"url": url.replace("http:", "https:")},
        {"url": outside, "proxy": url.rstrip("/")},
        {
            "url": outside,
            "auth": {"oauth2": {"token_url": url, "client_id": "c", "client_secret": "s"}},
        },
        {"type": "tcp", "host": host, "port": int(port)},
        {"type": "tls", "host": host, "port": int(port)},
        {"type": "icmp", "host": host, "packets": 1, "wait": "50ms"},
        {"type": "tcp", "host": OUTSIDE, "port": 1, "reference": [(host, int(port))]},
    ]


def rebinding(addresses: Sequence[str]) -> Answer:
    """Another answer to each query, with a TTL of 0: the way a name passes a check and is then connected to."""
    turns = itertools.cycle(addresses)

    def answer(query: dnslib.DNSRecord) -> bytes | None:
        return saying(f"@ 0 IN A {next(turns)}")(query)

    return answer


@pytest.mark.parametrize(
    "turns",
    [(OUTSIDE, "127.0.0.1"), ("127.0.0.1", OUTSIDE), (OUTSIDE, OUTSIDE, "169.254.169.254", "127.0.0.1")],
    ids=["public first", "private first", "now and then"],
)
async def test_a_rebinding_name_server_leads_nowhere_it_may_not(turns: Sequence[str], tmp_path: Path) -> None:
    async with staged(rebinding(turns), tmp_path) as stage:
        stage.away = f"http://a.example:{stage.port}/again"  # each hop asks for the name once more
        found = await stage.attack_all(30 * _by_name(f"a.example:{stage.port}"))
    assert stage.hits == []
    assert stage.outside, "it was reached while it was public"
    assert found.count("egress.refused") >= 30


def _pings_seen(policy: EgressPolicy, folder: Path) -> tuple[int, list[str | None]]:
    """How many echo requests a network saw while every form was pinged in it, and what the runs said."""
    count = 0

    async def pinged() -> list[str | None]:
        nonlocal count
        found = []
        with contextlib.ExitStack() as stack:
            ears = [
                stack.enter_context(socket.socket(family, socket.SOCK_RAW, protocol))
                for family, protocol in (
                    (socket.AF_INET, socket.IPPROTO_ICMP),
                    (socket.AF_INET6, socket.IPPROTO_ICMPV6),
                )
            ]
            async with staged(LOOPBACK, folder) as stage:
                for host in hosts():
                    beat = {"type": "icmp", "host": host, "packets": 1, "wait": "10ms"}
                    found.append(await stage.attack(policy, **beat))
            for ear, at, request in zip(ears, (20, 0), (8, 128), strict=True):
                ear.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        count += ear.recv(100)[at] == request
        return found

    found = asyncio.run(pinged())
    return count, found


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux'")
def test_no_ping_is_sent_to_what_may_not_be_reached(tmp_path: Path) -> None:
    seen, found = apart(lambda: _pings_seen(DENYING, tmp_path))
    assert (len(found) >= 300, seen) == (True, 0)
    assert set(found) <= _UNREACHED


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux'")
def test_the_policy_is_what_stops_the_pings(tmp_path: Path) -> None:
    listed = EgressPolicy(["127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128"])
    seen, found = apart(lambda: _pings_seen(listed, tmp_path))
    assert seen >= found.count(None) >= 50
