"""The guarded connector, proved with a canary: a listener on this host that counts whoever reaches it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from engine.egress import EgressRefusedError, connect, open_session
from rules.address import EgressPolicy, Purpose
from tests.rig.addresses import elsewhere, every_url, local_hosts


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
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # some connect and hang up
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, sock=sock)
    yield found
    server.close()
    await server.wait_closed()


async def _try(url: str, policy: EgressPolicy, purpose: Purpose) -> Exception | int:
    async with open_session(policy, purpose, timeout_s=2) as session:
        try:
            async with session.get(url, allow_redirects=False) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError) as failure:
            return failure


@pytest.mark.parametrize(
    ("purpose", "policy"),
    [("channel", EgressPolicy()), ("relay", EgressPolicy(denies_private=True))],
    ids=["a channel", "OTLP or the watchdog, with private addresses denied"],
)
async def test_no_way_to_write_an_address_reaches_this_host(
    canary: Canary, purpose: Purpose, policy: EgressPolicy
) -> None:
    urls = every_url(canary.port)
    assert len(set(urls)) >= 300

    outcomes = await asyncio.gather(*(_try(url, policy, purpose) for url in urls))

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
        *(_try(f"http://{host}:{canary.port}/", allowed, "channel") for host in local_hosts())
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


async def test_connect_refuses_them_too(canary: Canary) -> None:
    """The way of mail relays and of OTLP by gRPC."""

    async def tried(host: str) -> OSError | None:
        try:
            (await connect(EgressPolicy(denies_private=True), "relay", host, canary.port, 5)).close()
        except OSError as failure:
            return failure
        return None

    hosts = [host.strip("[]") for host in (*local_hosts(), *elsewhere())]
    failures = await asyncio.gather(*map(tried, hosts))
    assert None not in failures
    assert sum(isinstance(failure, EgressRefusedError) for failure in failures) >= 200
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
