"""The gate on real sockets, on asyncio's loop and on uvloop: what it lets through, what it refuses, and what it bounds."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dnslib
import pytest
import uvloop

from engine.browser import gate as gates
from engine.browser.gate import Gate, Traffic, gate
from engine.browser.inside.relay import relay
from engine.browser.pipe import Pipe
from engine.probes.context import Context
from engine.probes.nameservice import NameService
from rules.address import EgressPolicy
from tests.rig.names import name_server

_S = 30.0
Act = Callable[["Stage"], Awaitable[None]]


@dataclass
class Stage:
    """A gate, and a target behind it that says back what it was sent."""

    gate: Gate
    context: Context
    port: int
    heard: list[bytes] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)  # addresses, one per question
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    said: bytes = b""  # what the target answers instead

    async def open(self, *, block: Sequence[str] = (), site: Sequence[str] = ()) -> Traffic:
        return await self.gate.open(self.context, block=block, site=site)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.gate.path))
        self.writers.append(writer)
        return reader, writer

    async def ask(self, request: str) -> bytes:
        """All that is answered to it until the end."""
        reader, writer = await self.dial()
        writer.write(request.format(port=self.port).encode("latin-1"))
        try:
            return await reader.read()
        finally:
            writer.close()

    async def tunnel(self, to: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.dial()
        writer.write(f"CONNECT {to}:{self.port} HTTP/1.1\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connected\r\n\r\n"
        return reader, writer


async def _played(act: Act, folder: Path, policy: EgressPolicy) -> None:
    heard: list[bytes] = []
    names: dict[str, list[str]] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            heard.append(data)
            writer.write(stage.said or data)
        writer.write(b"bye")
        writer.close()

    def answer(query: dnslib.DNSRecord) -> bytes:
        reply = query.reply()
        left = names.get(str(query.q.qname).rstrip("."), [])
        if left and query.q.qtype == dnslib.QTYPE.A:
            address = left.pop(0) if len(left) > 1 else left[0]
            reply.add_answer(dnslib.RR(query.q.qname, rdata=dnslib.A(address), ttl=0))
        return bytes(reply.pack())

    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (folder / "hosts").write_text("")
    async with _server(serve) as port, name_server(answer) as (dns, _):
        names_of = NameService(str(folder / "resolv.conf"), str(folder / "hosts"), dns)
        context = Context(policy, names=names_of)
        stage = Stage(await gate(folder), context, port, heard, names)
        try:
            async with asyncio.timeout(_S):
                await act(stage)
        finally:
            await stage.gate.close()
            for writer in stage.writers:
                writer.transport.abort()
            await asyncio.sleep(0.01)
            context.close()
    assert not list(folder.glob("gate*"))


@asynccontextmanager
async def _server(serve: Callable[[Any, Any], Awaitable[None]]) -> AsyncIterator[int]:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    def played(act: Act, policy: EgressPolicy | None = None) -> None:
        request.param(_played(act, tmp_path, policy or EgressPolicy()))

    return played


def test_a_tunnel_carries_bytes_both_ways_and_counts_them(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        traffic = await stage.open()
        reader, writer = await stage.tunnel()
        for _ in range(40):
            writer.write(b"x" * 25_000)
        assert await reader.readexactly(1_000_000) == b"x" * 1_000_000
        writer.write_eof()  # half-closed: the answer still comes
        assert await reader.read() == b"bye"
        writer.close()
        await stage.gate.shut()
        assert (traffic.sent_bytes, traffic.received_bytes) == (1_000_000, 1_000_003)
        assert (traffic.connections, traffic.failures, traffic.is_cut) == (1, {}, False)

    play(act)


def test_more_than_the_other_end_takes_is_not_taken_either(play: Callable[..., None]) -> None:
    async def act(_: Stage) -> None:
        loop, ends = asyncio.get_running_loop(), []
        (near, left), (right, far) = socket.socketpair(), socket.socketpair()
        for one in (left, right):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
            ends.append((await loop.create_connection(Pipe, sock=one))[1])
        near.setblocking(False)
        near.send(b"x" * 50_000)
        while not ends[0].early:
            await asyncio.sleep(0.01)
        ends[0].early += b"x" * 150_000  # as one piece may have
        ends[0].join(ends[1])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await loop.sock_sendall(near, b"x" * (20 << 20))  # the far end reads nothing
        assert ends[1].transport.get_write_buffer_size() < 1 << 20
        for end in ends:
            end.abort()
        near.close()
        far.close()

    play(act)


def test_what_comes_with_the_request_is_passed_on(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        await stage.open()
        reader, writer = await stage.dial()
        writer.write(f"CONNECT 127.0.0.1:{stage.port} HTTP/1.1\r\n\r\nearly".encode())
        writer.write_eof()
        assert await reader.read() == b"HTTP/1.1 200 Connected\r\n\r\nearlybye"
        writer.close()

    play(act)


def test_a_plain_request_is_sent_on_as_an_origin_server_wants_it(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        stage.said = (
            b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\nhello"
        )
        await stage.open()
        reader, writer = await stage.dial()
        writer.write(
            f"POST http://127.0.0.1:{stage.port}/a?b=#c HTTP/1.1\r\nHost: evil.example\r\nX-Own: 1\r\nX-Hop: 2\r\n"
            "Connection: keep-alive, x-hop\r\nProxy-Authorization: Basic eDp5\r\nContent-Length: 2\r\n\r\nhi".encode()
        )
        answer = await reader.readuntil(b"hello")
        writer.close()
        assert b"HTTP/1.1 200 OK\r\nconnection: close\r\nconnection: keep-alive\r\n" in answer
        assert b"".join(stage.heard).decode() == (
            f"POST /a?b= HTTP/1.1\r\nhost: 127.0.0.1:{stage.port}\r\nx-own: 1\r\ncontent-length: 2\r\n"
            "connection: close\r\n\r\nhi"
        )

    play(act)


def test_a_websocket_over_plain_http_is_upgraded(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        stage.said = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n\x81\x02hi"
        await stage.open()
        reader, writer = await stage.dial()
        asked = f"GET http://127.0.0.1:{stage.port}/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        writer.write(asked.encode())
        assert await reader.readexactly(len(stage.said)) == stage.said
        writer.close()
        assert b"connection: Upgrade\r\nupgrade: websocket\r\n" in stage.heard[0]

    play(act)


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "2852039166", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]",
     "[fd00:ec2::254]", "0.0.0.0", "[64:ff9b::a9fe:a9fe]", "[fe80::1]", "meta.test"],
)  # fmt: skip
def test_metadata_is_refused_however_it_is_written(play: Callable[..., None], host: str) -> None:
    async def act(stage: Stage) -> None:
        stage.names["meta.test"] = ["169.254.169.254"]
        traffic = await stage.open()
        for port in (80, 25):
            answer = await stage.ask(f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert answer.endswith(b"\r\n\r\negress.refused\n")
        # An answer of the gate's would be taken for the site's.
        assert await stage.ask(f"GET http://{host}/latest HTTP/1.1\r\n\r\n") == b""
        assert {failure.type for failure in traffic.failures.values()} == {"egress.refused"}
        assert f"{host}:25" in traffic.failures

    play(act)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::1]", "10.0.0.1", "in.test", "localhost."]
)
def test_private_addresses_are_the_regions_to_allow(play: Callable[..., None], host: str) -> None:
    async def act(stage: Stage) -> None:
        stage.names["in.test"] = ["192.168.1.1"]
        await stage.open()
        answer = await stage.ask(f"CONNECT {host}:{{port}} HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"192.168" not in answer
        assert stage.heard == []

    play(act, EgressPolicy(denies_private=True))


def test_a_name_that_is_bound_anew_is_judged_anew(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        stage.names["rebound.test"] = ["127.0.0.1", "169.254.169.254"]
        traffic = await stage.open()
        _, writer = await stage.tunnel("rebound.test")
        writer.close()
        answer = await stage.ask("CONNECT rebound.test:{port} HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert traffic.failures[f"rebound.test:{stage.port}"].type == "egress.refused"

    play(act)


def test_why_a_host_was_not_reached_is_remembered_by_host_and_port(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            closed = taken.getsockname()[1]
        traffic = await stage.open()
        assert await stage.ask("GET http://Nowhere.test/ HTTP/1.1\r\n\r\n") == b""
        assert (await stage.ask(f"CONNECT 127.0.0.1:{closed} HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        assert {name: failure.type for name, failure in traffic.failures.items()} == {
            "nowhere.test:80": "dns.no_record",
            f"127.0.0.1:{closed}": "connect.refused",
        }

    play(act)


def test_blocked_hosts_are_not_reached(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        for name in ("ads.test", "shop.test", "img.shop.test"):
            stage.names[name] = ["127.0.0.1"]
        traffic = await stage.open(block=["third-party", "*.SHOP.test"], site=["www.shop.test"])
        for name in ("ads.test", "img.shop.test"):
            assert (await stage.ask(f"CONNECT {name}:{{port}} HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        _, writer = await stage.tunnel("shop.test")
        writer.close()
        assert traffic.blocked == 2

    play(act)


@pytest.mark.parametrize(
    "request_",
    ["GET / HTTP/1.1\r\n\r\n", "GET https://a.test/ HTTP/1.1\r\n\r\n", "GET ftp://a.test/ HTTP/1.1\r\n\r\n",
     "GET http://u:p@127.0.0.1:{port}/ HTTP/1.1\r\n\r\n", "CONNECT 127.0.0.1 HTTP/1.1\r\n\r\n",
     "CONNECT u@127.0.0.1:{port} HTTP/1.1\r\n\r\n", "CONNECT 127.0.0.1:99999 HTTP/1.1\r\n\r\n",
     "CONNECT 127.0.0.1:0 HTTP/1.1\r\n\r\n", "GET http:///x HTTP/1.1\r\n\r\n", "\x00\x01\x02\r\n\r\n", "HELO\r\n\r\n",
     "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
     "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
     "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nA : b\r\n\r\n", "GET http://127.0.0.1:{port}/ HTTP/1.1\r\n a: b\r\n\r\n",
     "GET http://127.0.0.1:{port}/ HTTP/1.1\nA: b\n\n\r\n\r\n", "GET http://127.0.0.1:{port}/\xe4 HTTP/1.1\r\n\r\n",
     "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nA: " + "x" * 70_000, "GET http://127.0.0.1:{port}/" + "x" * 70_000,
     "GET http://127.0.0.1:{port}/ HTTP/1.1\r\n" + "A: b\r\n" * 300 + "\r\n", "CONNECT [::1%lo]:{port} HTTP/1.1\r\n\r\n",
     "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
     "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nA: b\0c\r\n\r\n", "\r\n\r\nGET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n",
     "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"],
    ids=range(26),
)  # fmt: skip
def test_what_is_no_request_is_refused(play: Callable[..., None], request_: str) -> None:
    async def act(stage: Stage) -> None:
        await stage.open()
        assert (await stage.ask(request_)).startswith(b"HTTP/1.1 400 ")
        assert stage.heard == []

    play(act)


def test_a_client_that_takes_its_time_is_sent_away(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "HEAD_S", 0.2)

    async def act(stage: Stage) -> None:
        await stage.open()
        assert (await stage.ask("GET http://127")).startswith(b"HTTP/1.1 408 ")

    play(act)


@pytest.mark.parametrize("way", ["received", "sent"])
def test_too_much_is_cut(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(gates, "MOST_BYTES", 3_000_000)

    async def act(stage: Stage) -> None:
        stage.said = b"y" * 100_000 if way == "received" else b"y"
        traffic = await stage.open()
        idle, _ = await stage.tunnel()
        reader, writer = await stage.tunnel()

        async def pour() -> None:
            while not traffic.is_cut:
                writer.write(b"x" * 100_000)
                await writer.drain()

        async def take() -> None:
            while await reader.read(65_536):
                pass

        await asyncio.gather(pour(), take(), return_exceptions=True)
        assert traffic.is_cut
        assert max(traffic.received_bytes, traffic.sent_bytes) < 5_000_000
        assert await idle.read() == b""
        with suppress(OSError):
            assert await stage.ask("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n") == b""

    play(act)


def test_connections_at_once_and_in_all_are_bounded(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "AT_ONCE", 20)
    monkeypatch.setattr(gates, "MOST_CONNECTIONS", 60)

    async def act(stage: Stage) -> None:
        traffic = await stage.open()
        held = [await stage.tunnel() for _ in range(20)]
        reader, writer = await stage.dial()
        assert await reader.read() == b""
        for _, open_ in [*held, (reader, writer)]:
            open_.close()
        await asyncio.sleep(0.1)
        for _ in range(39):
            _, writer = await stage.tunnel()
            writer.close()
            await writer.wait_closed()
        assert not traffic.is_cut
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await stage.tunnel()
        assert traffic.is_cut

    play(act)


def test_when_a_run_ends_its_connections_do_and_the_next_sees_none_of_it(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        before = await stage.open()
        reader, _ = await stage.tunnel()
        slow, half = await stage.dial()
        half.write(b"CONNECT 127")
        await stage.gate.shut()
        for end in (reader, slow):
            with suppress(ConnectionResetError):
                assert await end.read() == b""
        knocking, late = await stage.dial()  # between two runs
        late.write(f"CONNECT 127.0.0.1:{stage.port} HTTP/1.1\r\n\r\n".encode())
        after = await stage.open()
        with suppress(OSError):
            assert await knocking.read() == b""
        _, writer = await stage.tunnel()
        writer.close()
        assert (before.connections, after.connections) == (2, 1)

    play(act)


def test_the_relay_passes_on_all_and_hangs_up_where_the_gate_is_gone(play: Callable[..., None]) -> None:
    async def act(stage: Stage) -> None:
        await stage.open()
        server = await relay(str(stage.gate.path))
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"CONNECT 127.0.0.1:{stage.port} HTTP/1.1\r\n\r\nhello".encode())
        assert await reader.readexactly(31) == b"HTTP/1.1 200 Connected\r\n\r\nhello"
        writer.write_eof()
        assert await reader.read() == b"bye"
        writer.close()
        await stage.gate.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError):
            assert await reader.read() == b""
        writer.close()
        server.close()
        await asyncio.sleep(0.01)

    play(act)
