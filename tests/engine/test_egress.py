"""The guarded connector, proved with a canary: a listener on this host that counts whoever reaches it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from engine.egress import EgressRefusedError, connect, open_session
from rules.address import EgressPolicy, Purpose


@dataclass
class Canary:
    port: int
    reached: int = 0


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    """Counts connections on every address of this host; answers HTTP 204."""
    sock = socket.create_server(("0.0.0.0", 0))
    found = Canary(sock.getsockname()[1])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.reached += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, sock=sock)
    yield found
    server.close()
    await server.wait_closed()


def _v6(v4: str) -> list[str]:
    """The IPv6 addresses that lead to an IPv4 one: mapped, NAT64, 6to4, each written in several ways."""
    a, b, c, d = (int(part) for part in v4.split("."))
    high, low = f"{a:02x}{b:02x}", f"{c:02x}{d:02x}"
    return [
        f"[::ffff:{v4}]",
        f"[::FFFF:{high}:{low}]",
        f"[0:0:0:0:0:ffff:{high}:{low}]",
        f"[0000:0000:0000:0000:0000:ffff:{v4}]",
        f"[64:ff9b::{v4}]",
        f"[64:ff9b::{high}:{low}]",
        f"[2002:{high}:{low}::]",
        f"[2002:{high}:{low}::1]",
    ]


def _numbers(v4: str) -> list[str]:
    """The ways inet_aton reads an IPv4 address: decimal, octal, hexadecimal, short and padded."""
    a, b, c, d = (int(part) for part in v4.split("."))
    whole = a << 24 | b << 16 | c << 8 | d
    return [
        v4,
        f"{v4}.",
        f"{v4}..",
        str(whole),
        f"0x{whole:x}",
        f"0X{whole:08X}",
        f"0{whole:o}",
        f"000{whole:o}",
        f"{a}.{b << 16 | c << 8 | d}",
        f"{a}.{b}.{c << 8 | d}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0x{a:x}.{b}.{c}.{d}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"00{a:o}.{b}.{c}.0x{d:x}",
        f"0x{a:x}.{b << 16 | c << 8 | d}",
        f"{a}.0x{b << 16 | c << 8 | d:x}",
        f"{a}.{b}.0{c << 8 | d:o}",
    ]


_LOCAL_HOSTS = [
    *_numbers("127.0.0.1"),
    *_numbers("127.255.255.254"),
    *_numbers("0.0.0.0"),
    *_v6("127.0.0.1"),
    *_v6("0.0.0.0"),
    *("127.1", "127.0.1", "0", "0x0", "00", "0.0", "127.00.00.01", "0x7f.1", "0177.1", "127.0x1"),
    *("localhost", "LOCALHOST", "LocalHost", "localhost.", "localhost..", "lo%63alhost"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::]", "[0:0::0]", "[::0.0.0.1]", "[::127.0.0.1]"),
    *("[::1%25lo]", "[::ffff:0:127.0.0.1]", "[64:ff9b:1::127.0.0.1]", "[2001:0:4136:e378::80ff:fffe]"),
    *(
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "１２７.0.0.1",
        "ⓛocalhost",
        "127%2e0%2e0%2e1",
        "127.0.0.1%00",
        "127.0.0.1%0a",
    ),
    socket.gethostname(),
]
_ELSEWHERE = [
    *("169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "2852039166", "0xa9fea9fe"),
    *("[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200", "192.0.0.192", "[fe80::1]", "[fe80::1%25lo]"),
    *(
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "192.0.0.1",
        "198.18.0.1",
        "[fc00::1]",
        "[fd12::1]",
    ),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "[ff02::1]", "[fec0::1]", "[2001:db8::1]", "[100::1]"),
]


def _urls(port: int) -> list[str]:
    hosts = [f"http://{host}:{port}/" for host in (*_LOCAL_HOSTS, *_ELSEWHERE)]
    shapes = [
        f"http://user:word@127.0.0.1:{port}/",
        f"http://example.org@127.0.0.1:{port}/",
        f"http://example.org:80@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}#@example.org/",
        f"http://127.0.0.1:{port}?@example.org/",
        f"http://127.0.0.1:{port}\\@example.org/",
        f"http://example.org\\@127.0.0.1:{port}/",
        f"https://127.0.0.1:{port}/",
        f"https://localhost:{port}/",
        f"ws://127.0.0.1:{port}/",
        f"HTTP://127.0.0.1:{port}/",
        f"ftp://127.0.0.1:{port}/",
        f"gopher://127.0.0.1:{port}/_x",
        f"//127.0.0.1:{port}/",
        f"http:/127.0.0.1:{port}/",
        f"http:///127.0.0.1:{port}/",
        f" http://127.0.0.1:{port}/",
        f"http://{'a' * 70}.invalid:{port}/",
        "file:///etc/passwd",
    ]
    return hosts + shapes


async def _try(url: str, policy: EgressPolicy, purpose: Purpose) -> Exception | int:
    async with open_session(policy, purpose, timeout_s=2) as session:
        try:
            async with session.get(url, allow_redirects=False) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError) as failure:
            return failure


async def test_no_way_to_write_an_address_reaches_this_host_for_a_channel(canary: Canary) -> None:
    urls = _urls(canary.port)
    assert len(set(urls)) >= 130

    outcomes = await asyncio.gather(*(_try(url, EgressPolicy(), "channel") for url in urls))

    answered = [url for url, outcome in zip(urls, outcomes, strict=True) if isinstance(outcome, int)]
    assert (answered, canary.reached) == ([], 0)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0x7f.1", "0x7f000001", "[::ffff:127.0.0.1]", "u:p@127.0.0.1"],
)
async def test_the_same_addresses_are_reached_when_listed(canary: Canary, host: str) -> None:
    allowed = EgressPolicy(["127.0.0.0/8"])

    assert await _try(f"http://{host}:{canary.port}/", allowed, "channel") == 204
    assert canary.reached == 1


async def test_the_guard_is_what_stops_them(canary: Canary) -> None:
    """The control: with this host listed, the same URLs do reach it."""
    allowed = EgressPolicy(["127.0.0.0/8", "0.0.0.0/8"])
    outcomes = await asyncio.gather(
        *(_try(f"http://{host}:{canary.port}/", allowed, "channel") for host in _LOCAL_HOSTS)
    )
    assert outcomes.count(204) == canary.reached >= 40


@pytest.mark.parametrize("purpose", ["beat", "relay"])
async def test_beats_and_relays_may_reach_this_host_and_never_metadata(
    canary: Canary, purpose: Purpose
) -> None:
    assert await _try(f"http://127.0.0.1:{canary.port}/", EgressPolicy(), purpose) == 204
    failure = await _try("http://169.254.169.254/latest/meta-data/", EgressPolicy(), purpose)
    assert isinstance(failure, aiohttp.ClientConnectorError)
    assert isinstance(failure.os_error, EgressRefusedError)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254"])
async def test_a_refusal_is_typed_and_says_what_to_do(host: str) -> None:
    failure = await _try(f"http://{host}:9/", EgressPolicy(), "channel")

    assert isinstance(failure, aiohttp.ClientConnectorError)
    assert isinstance(failure.os_error, EgressRefusedError)
    assert "list it in egress.allow to reach it" in str(failure.os_error)


async def test_each_redirect_is_judged_anew(canary: Canary) -> None:
    async def away(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{canary.port}/"})

    app = web.Application()
    app.router.add_get("/", away)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.2", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with open_session(EgressPolicy(["127.0.0.2"]), "channel", timeout_s=3) as session:
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await session.get(f"http://127.0.0.2:{port}/")
        assert isinstance(caught.value.os_error, EgressRefusedError)
        assert canary.reached == 0
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "::1", "::ffff:127.0.0.1", "0"]
)
async def test_connect_refuses_the_same_addresses(canary: Canary, host: str) -> None:
    with pytest.raises(EgressRefusedError):
        await connect(EgressPolicy(), "channel", host, canary.port, 3)
    assert canary.reached == 0


async def test_connect_hands_over_a_connected_socket(canary: Canary) -> None:
    sock = await connect(EgressPolicy(), "relay", "localhost", canary.port, 3)
    with sock:
        assert sock.getpeername() == ("127.0.0.1", canary.port)
        assert not sock.getblocking()


async def test_connect_reports_a_closed_port_and_a_name_that_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await connect(EgressPolicy(), "relay", "127.0.0.1", port, 3)
    with pytest.raises(socket.gaierror):
        await connect(EgressPolicy(), "relay", "a" * 70, 25, 3)
