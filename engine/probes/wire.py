"""Non-blocking sockets awaited with little work: one per attempt, closed by it. Speaks no protocol and keeps no time.

Linux: all sockets of a loop sit in one edge-triggered epoll, itself a single reader of the event loop, because one
registration per socket costs less than add_reader and remove_reader around every wait (measured: 18 us of a run on
uvloop, 38 us on asyncio). An edge may come while nobody waits, so it is kept until the next wait; who waits must
try again afterwards, as an edge may also be stale. Elsewhere: the loop's own readers and writers.

TLS reads and writes memory, and we the socket: OpenSSL on a socket goes on for as long as records come that have no
content, and a server that sends nothing else would hold the whole loop.
"""

import asyncio
import errno
import os
import select
import socket
from contextlib import suppress
from typing import Final, Self

from OpenSSL import SSL

from engine.probes.trouble import NO_ROUTE, TroubleError, no_route, of_tls

READ_BYTES: Final = 16_384  # one TLS record
_CHUNK_BYTES: Final = 65_536  # of what is sent through TLS, in memory at once
_FED_MAX: Final = 2000  # pieces read without content, such as new keys without end
_ROUNDS: Final = 16  # ready sockets taken per turn of the loop, so that timers are not late


class Poller:
    """Tells sockets of one event loop that they are ready."""

    __slots__ = ("_edges", "_epoll", "kept", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._edges: dict[int, Wire] = {}
        self.kept: list[socket.socket] = []  # open as long as this is
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            self.loop.add_reader(self._epoll.fileno(), self._dispatch)

    def close(self) -> None:
        """Stop. No wire may be open."""
        while self.kept:
            self.kept.pop().close()
        if self._epoll is not None:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def add(self, wire: "Wire") -> None:
        """Watch `wire` until `remove`."""
        if self._epoll is not None:
            self._edges[wire.fd] = wire
            self._epoll.register(wire.fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def remove(self, wire: "Wire", *, stays: bool = False) -> None:
        """Forget `wire`; closing its socket takes it out of the epoll, and one that `stays` open has to be taken."""
        known = self._edges.pop(wire.fd, None)
        if stays and known is not None and self._epoll is not None:
            self._epoll.unregister(wire.fd)

    async def wait(self, wire: "Wire", *, write: bool) -> None:
        """Until `wire` may be ready."""
        waiter = wire.waiter = self.loop.create_future()
        if self._epoll is not None:
            await waiter
            return
        add, remove = self.loop.add_reader, self.loop.remove_reader
        if write:
            add, remove = self.loop.add_writer, self.loop.remove_writer
        add(wire.fd, wire.wake)
        try:
            await waiter
        finally:
            remove(wire.fd)

    def _dispatch(self) -> None:
        assert self._epoll is not None
        edges = self._edges
        for fd, events in self._epoll.poll(0, _ROUNDS):
            if fd in edges:
                edges[fd].wake(events)


class Wire:
    """One socket to one judged address. Use as a context manager: leaving it closes the socket."""

    __slots__ = ("_early", "_events", "_fed", "_poller", "_session", "fd", "socket", "waiter")

    def __init__(
        self, poller: Poller, family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0
    ) -> None:
        self.socket = socket.socket(family, kind, protocol)
        self.socket.setblocking(False)
        self._session: SSL.Connection | None = None
        self._fed = 0
        self._poller = poller
        self._early = False
        self._events = 0
        self.fd = self.socket.fileno()
        self.waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._poller.remove(self)
        self.socket.close()

    def detach(self) -> socket.socket:
        """Its socket, for who speaks by other means, and closes it."""
        self._poller.remove(self, stays=True)
        return self.socket

    def wake(self, events: int = 0) -> None:
        """An edge: something changed. `events` are epoll's."""
        self._events = events
        if self.waiter is None or self.waiter.done():
            self._early = True
        else:
            self.waiter.set_result(None)

    async def _ready(self, *, write: bool = False) -> None:
        if self._early:
            self._early = False
        else:
            await self._poller.wait(self, write=write)

    async def connect(self, address: str, port: int) -> None:
        """Connect, waiting without limit. Raises `OSError` from afar, `TroubleError` where this machine has no route."""
        try:
            self.socket.connect((address, port))
        except BlockingIOError:
            self._poller.add(self)
            await self._ready(write=True)
            if number := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number)) from None
            self._early = bool(self._events & select.POLLIN)  # a server that speaks first spent that edge
            return
        except OSError as failure:
            # Said at once, so by the local kernel; the same number later on is a router's answer.
            if failure.errno in NO_ROUTE:
                raise no_route(address, failure) from None
            raise
        self._poller.add(self)

    async def shake_hands(self, session: SSL.Connection) -> None:
        """Speak through `session`, which has no socket of its own, from now on. Raises `OSError` or `TroubleError`."""
        self._session = session
        while True:
            try:
                session.do_handshake()
            except SSL.WantReadError:
                if not await self._feed(session):
                    raise ConnectionResetError(errno.ECONNRESET, "closed by the server") from None
            except SSL.Error as broken:
                with suppress(OSError):
                    await self._flush(session)  # the alert that tells the server why
                raise of_tls(broken) from None
            else:
                await self._flush(session)
                return

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises `OSError`."""
        session = self._session
        if session is None:
            await self._send(data)
            return
        for start in range(0, len(data), _CHUNK_BYTES):
            try:
                session.sendall(data[start : start + _CHUNK_BYTES])
            except SSL.Error as broken:
                raise of_tls(broken) from None
            await self._flush(session)

    async def receive(self) -> bytes:
        """The next at most 16 KiB, waited for first; empty at the end of the stream. Raises `OSError`."""
        if self._session is None:  # otherwise it may have come with what was read before
            await self._ready()
        return await self.receive_more()

    async def receive_more(self) -> bytes:
        """Like `receive` where more may already be here."""
        session = self._session
        if session is None:
            return await self._receive()
        while True:
            try:
                content = session.recv(READ_BYTES)
            except SSL.WantReadError:
                if not await self._feed(session):
                    return b""  # without TLS's goodbye, as many servers do it
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as broken:
                raise of_tls(broken) from None
            else:
                self._fed = 0
                return content

    async def _feed(self, session: SSL.Connection) -> bool:
        """Hand on to `session` what comes next; False at the end of the stream. Raises `TroubleError` for a flood of nothing."""
        await self._flush(session)
        data = await self._receive()
        if data:
            session.bio_write(data)
        self._fed += 1
        if self._fed > _FED_MAX:
            raise TroubleError("tls.protocol", f"{_FED_MAX} pieces, and nothing in them")
        if self._fed % _ROUNDS == 0:
            await asyncio.sleep(0)  # the other checks have their turn
        return bool(data)

    async def _flush(self, session: SSL.Connection) -> None:
        while True:
            try:
                written = session.bio_read(READ_BYTES)
            except SSL.WantReadError:
                return
            await self._send(written)
            if len(written) < READ_BYTES:
                return

    async def _send(self, data: bytes) -> None:
        while True:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                await self._ready(write=True)
                self._early = True  # that edge may also have been an answer's
            else:
                if sent == len(data):
                    return
                data = data[sent:]

    async def _receive(self) -> bytes:
        while True:
            try:
                return self.socket.recv(READ_BYTES)
            except BlockingIOError:
                await self._ready()
