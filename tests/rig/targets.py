"""Local targets that fail on cue: HTTP, TCP and DNS servers with one mood each, and a receiver of webhooks."""

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from dnslib import QTYPE, RCODE, RR, TXT, A, DNSRecord

Mood = Literal["answers", "fails", "refuses", "hangs", "drags", "resets", "babbles"]
"""Well; an error (500, SERVFAIL); closed; silent; a byte now and then; RST after the request; no protocol at all."""

HEALTHY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\nconnection: close\r\n\r\n"
    b'{"status":"ok"}'
)
FAILING = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
BABBLE = b"\x00\xff\x13SSH-2.0-none of your business\r\n" * 20


async def _hung_up(writers: set[asyncio.StreamWriter]) -> None:
    """Abort all connections, those as well that were accepted a moment ago and are served only now."""
    for _ in range(50):  # who drags an answer out notices later
        for writer in tuple(writers):
            writer.transport.abort()
        await asyncio.sleep(0)


class StreamTarget:
    """An `http` or `tcp` target on `host`. It keeps its port while it refuses."""

    host = "127.0.0.1"

    def __init__(self, kind: Literal["http", "tcp"] = "http") -> None:
        self.kind, self.port, self.asked = kind, 0, 0
        self.mood: Mood = "answers"
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def becomes(self, mood: Mood) -> None:
        """Change the mood; answers that hang or drag end with it."""
        self.mood = mood
        for writer in tuple(self._writers):
            writer.transport.abort()
        if mood == "refuses":
            await self._close()
        elif self._server is None:
            await self._open()

    async def _open(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listener, backlog=1000)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
            await _hung_up(self._writers)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.becomes("refuses")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self._writers.add(writer)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # they hung up
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.kind == "tcp" and self.mood == "answers":
            await reader.read(1)
            return
        await reader.readuntil(b"\r\n\r\n")
        match self.mood:
            case "hangs":
                await reader.read()
            case "drags":
                for byte in HEALTHY * 20:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0.1)
            case "resets":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            case "babbles":
                writer.write(BABBLE)
            case "fails":
                writer.write(FAILING)
            case _:
                writer.write(HEALTHY)
        if not writer.is_closing():
            await writer.drain()


class DnsTarget(asyncio.DatagramProtocol):
    """A name server on 127.0.0.1 that knows one `address` for every name, and `texts` of some."""

    def __init__(self) -> None:
        self.mood: Mood = "answers"
        self.address = "192.0.2.7"
        self.texts: dict[str, list[str]] = {}  # at names, in TXT records
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    async def becomes(self, mood: Mood) -> None:
        """Change the mood."""
        self.mood = mood

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert self._transport is not None
        if self.mood == "hangs":
            return
        if self.mood == "babbles":
            self._transport.sendto(BABBLE, addr)
            return
        reply = DNSRecord.parse(data).reply()
        if self.mood == "fails":
            reply.header.rcode = RCODE.SERVFAIL
        elif reply.q.qtype == QTYPE.TXT:
            for text in self.texts.get(str(reply.q.qname).rstrip("."), ()):
                reply.add_answer(RR(str(reply.q.qname), QTYPE.TXT, rdata=TXT(text), ttl=1))
        else:
            reply.add_answer(RR(str(reply.q.qname), QTYPE.A, rdata=A(self.address), ttl=1))
        self._transport.sendto(reply.pack(), addr)


@dataclass
class Receiver:
    """Where operators are told: remembers (webhook-id, payload) in order of arrival."""

    port: int = 0
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await _hung_up(self._writers)

    @property
    def url(self) -> str:
        """For the channel."""
        return f"http://127.0.0.1:{self.port}/hook"

    def words(self, beat: str) -> list[str]:
        """What was said of this beat: open, draft, recovery, ..."""
        return [payload["data"]["told"] for _, payload in self.told if payload["data"]["beat"] == beat]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                self.told.append((fields["webhook-id"], json.loads(body)))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        self._writers.discard(writer)
        writer.close()
