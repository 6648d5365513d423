"""A web server that means harm: what it does to a client is the path that is asked for."""

import asyncio
import contextlib
import gzip
import socket
import struct
from typing import Final, Self

HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
ENDLESS: Final = 10 << 30
DRIP_S: Final = 1.0
BEHAVIOURS: Final = (
    "slow-head", "slow-body", "endless-chunks", "huge-body", "gzip-bomb", "tiny-chunks", "redirect-loop", "huge-head",
    "many-heads", "interim-flood", "garbage", "reset", "silence",
)  # fmt: skip


class HostileTarget:
    """`http://127.0.0.1:port/{behaviour}`."""

    def __init__(self) -> None:
        self.port = 0
        self.sent_bytes = 0  # of the largest answer that was taken
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2000)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, RuntimeError, asyncio.IncompleteReadError):  # they hung up
            asked = await reader.readuntil(b"\r\n\r\n")
            await self._harm(asked.split(b" ", 2)[1].split(b"/")[1].decode(), writer)
        writer.transport.abort()

    async def _harm(self, behaviour: str, writer: asyncio.StreamWriter) -> None:
        match behaviour:
            case "slow-head":
                writer.write(b"HTTP/1.1 200 OK\r\nx: ")
                await self._for_ever(writer, b"x", DRIP_S)
            case "slow-body":
                writer.write(HEAD + b"content-length: 1000000\r\n\r\n")
                await self._for_ever(writer, b" ", DRIP_S)
            case "endless-chunks":
                writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
                await self._for_ever(writer, b"1\r\n \r\n", DRIP_S)
            case "huge-body":
                writer.write(HEAD + b"content-length: %d\r\n\r\n" % ENDLESS)
                await self._for_ever(writer, b" " * 65_536, 0)
            case "gzip-bomb":
                bomb = gzip.compress(bytes(10 << 20), 9)
                writer.write(
                    HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb
                )
            case "tiny-chunks":
                writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
                await self._for_ever(writer, b"1\r\n \r\n" * 10_000, 0)
            case "redirect-loop":
                writer.write(b"HTTP/1.1 302 Found\r\nlocation: /redirect-loop\r\ncontent-length: 0\r\n\r\n")
            case "huge-head":
                writer.write(HEAD + b"x: ")
                await self._for_ever(writer, b"x" * 65_536, 0)
            case "many-heads":
                writer.write(HEAD + b"x: y\r\n" * 10_000 + b"\r\n")
            case "interim-flood":
                await self._for_ever(writer, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0)
            case "garbage":
                writer.write(bytes(range(256)) * 100)
            case "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            case _:
                await asyncio.sleep(3600)
        await writer.drain()
        writer.write_eof()
        await asyncio.sleep(5)

    async def _for_ever(self, writer: asyncio.StreamWriter, data: bytes, every_s: float) -> None:
        sent = 0
        while True:
            writer.write(data)
            await writer.drain()
            sent += len(data)
            self.sent_bytes = max(self.sent_bytes, sent)
            await asyncio.sleep(every_s)
