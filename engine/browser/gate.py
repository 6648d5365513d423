"""The egress proxy of sandboxes: HTTP CONNECT and plain HTTP on a Unix socket, every address judged. Holds no credential.

One `Gate` per sandbox, open for one run at a time; what was connected in a run is cut when it ends. Every connection has
one of its own to one judged address, and what follows the head of its request is passed on as it is: who smuggles a
second request into the first speaks to the server it was connected to, as with CONNECT.

It shares its loop with every other check. So all that is in here is per connection or per piece of some 64 KiB, what
is written waits in bounded buffers, and bytes, connections and refusals are counted and have an end.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httptools

from engine.browser.pipe import Pipe
from engine.probes.attempt import Watch, failure_of
from engine.probes.connect import connect
from engine.probes.context import Context
from engine.probes.trouble import TroubleError, of_os_error, timed_out
from evaluators.model import Failure
from evaluators.observation import Observation
from rules.blocking import is_blocked
from rules.target import Target, parse_target

MOST_BYTES: Final = 200 << 20
"""Received in one run, and as many sent; then every connection is cut, and the run fails."""
MOST_CONNECTIONS: Final = 5000
"""In one run; then none is taken any more."""
AT_ONCE: Final = 256
HEAD_BYTES: Final = 65_536
HEAD_S: Final = 10.0
CONNECT_S: Final = 10.0
_MOST_FAILURES: Final = 500
_BACKLOG: Final = 128
_PAUSE_S: Final = 0.2
_MOST_HEADERS: Final = 200
_AUTHORITY: Final = re.compile(r"(?:[^\s/?#@:\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_ORIGIN: Final = re.compile(r"http://[^/?#]*", re.IGNORECASE)
# Interim answers, then the line of the answer proper, which ends this.
_ANSWER: Final = re.compile(
    rb"(?:HTTP/1\.[01] 1(?!01)[0-9]{2}[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n)*HTTP/1\.[01] ([0-9]{3})[^\n]*\n"
)
_ANSWER_BYTES: Final = 16_384
_HOP_BY_HOP: Final = frozenset(  # RFC 9110, 7.6.1
    (b"connection", b"proxy-connection", b"keep-alive", b"proxy-authorization", b"te", b"upgrade", b"host")
)


@dataclass(slots=True)
class Traffic:
    """What went through in one run."""

    received_bytes: int = 0
    sent_bytes: int = 0
    connections: int = 0
    is_cut: bool = False  # more than was allowed
    # Why `host:port` could not be reached, the last of each; host as in a URL: lower case, IPv6 in brackets.
    failures: dict[str, Failure] = field(default_factory=dict)
    blocked: int = 0  # by `block`


class _Run:
    """What is open between `open` and `shut`."""

    def __init__(self, context: Context, block: Sequence[str], site: Sequence[str]) -> None:
        self.context, self.block, self.site = context, tuple(block), tuple(site)
        self.traffic = Traffic()
        self.tasks: set[asyncio.Task[None]] = set()  # one per connection

    def count(self, *, received: int = 0, sent: int = 0) -> None:
        traffic = self.traffic
        traffic.received_bytes += received
        traffic.sent_bytes += sent
        if max(traffic.received_bytes, traffic.sent_bytes) > MOST_BYTES:
            self.cut()

    def cut(self) -> None:
        self.traffic.is_cut = True
        for task in self.tasks:
            task.cancel()

    def remember(self, target: Target, trouble: TroubleError) -> None:
        host = f"[{target.host}]" if ":" in target.host else target.host
        failures = self.traffic.failures
        failures.pop(f"{host}:{target.port}", None)
        if len(failures) >= _MOST_FAILURES:
            failures.pop(next(iter(failures)))
        failures[f"{host}:{target.port}"] = failure_of(trouble)

    async def dial(self, target: Target) -> socket.socket:
        """Connected to a judged address. Raises `TroubleError`, which is remembered."""
        watch, limit = Watch(self.context.clock), asyncio.timeout(CONNECT_S)
        try:
            if is_blocked(target.host, self.block, self.site):
                self.traffic.blocked += 1
                raise TroubleError("egress.refused", f"{target.host} is one that the journey blocks")
            async with limit:
                wire = await connect(self.context, watch, Observation(), target.host, target.port)
            return wire.detach()
        except TroubleError as known:
            trouble = known
        except OSError as failure:
            late = limit.expired()
            trouble = timed_out(watch.phase, CONNECT_S) if late else of_os_error(watch.phase, failure)
        except asyncio.CancelledError:  # the run was over first
            kind = f"{watch.phase or 'dns'}.timeout"
            self.remember(target, TroubleError(kind, "no connection before the run was over"))
            raise
        self.remember(target, trouble)
        raise trouble from None


class _Client(Pipe):
    """The sandbox's end: a request, then bytes."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self._run = run
        # The size of the request's head, 0 where there is none.
        self.asked: asyncio.Future[int] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self._run.count(sent=len(data))
            super().data_received(data)
            return
        self.early += data
        end = self.early.find(b"\r\n\r\n", max(0, len(self.early) - len(data) - 3), HEAD_BYTES)
        if end >= 0 or len(self.early) >= HEAD_BYTES:
            self.transport.pause_reading()
            self._ask(end + 4 if end >= 0 else 0)

    def eof_received(self) -> bool:
        self._ask(0)
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ask(0)
        if not self.lost.done():
            self.lost.set_result(None)
        super().connection_lost(exc)

    def answer(self, status: str, text: str) -> None:
        """Say it and hang up."""
        body = f"{text}\n"
        self.transport.write(
            f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"
            f"connection: close\r\n\r\n{body}".encode()
        )
        self.transport.close()

    def _ask(self, size: int) -> None:
        if not self.asked.done():
            self.asked.set_result(size)


class _Server(Pipe):
    """The target's end. An answer to a plain request ends the connection, whatever the target says of it."""

    def __init__(self, run: _Run, *, is_plain: bool) -> None:
        super().__init__()
        self._run = run
        self._head: bytearray | None = bytearray() if is_plain else None

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            super().data_received(data)
            return
        self._run.count(received=len(data))
        if self._head is not None:
            self._head += data
            data = self._closed(self._head)
        if data:
            super().data_received(data)

    def eof_received(self) -> bool:
        if self._head and self.other is not None:
            super().data_received(bytes(self._head))
        return super().eof_received()

    def _closed(self, head: bytearray) -> bytes:
        """`head` with a header that closes, once it is known where that belongs; until then nothing."""
        found = _ANSWER.match(head)
        if found is None and len(head) < _ANSWER_BYTES:
            return b""
        self._head = None  # what is no HTTP is passed on as it is
        if found is not None and found[1] != b"101":
            head[found.end() : found.end()] = b"connection: close\r\n"
        return bytes(head)


class Gate:
    """Listens on `path` until closed."""

    def __init__(self, path: Path, listener: socket.socket) -> None:
        self.path = path
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._run: _Run | None = None

    async def open(self, context: Context, *, block: Sequence[str] = (), site: Sequence[str] = ()) -> Traffic:
        """A run begins: judged by `context`'s policy, without the hosts of `block`; `site` are the journey's own hosts."""
        for _ in range(2 * _BACKLOG):  # who knocked when it was shut
            try:
                self._listener.accept()[0].close()
            except OSError:
                break
        self._run = _Run(context, block, site)
        self._listen(self._run)
        return self._run.traffic

    async def shut(self) -> None:
        """The run is over: every connection is cut, none is taken."""
        run, self._run = self._run, None
        if run is not None:
            self._loop.remove_reader(self._listener)
            for task in run.tasks:
                task.cancel()
            await asyncio.gather(*run.tasks, return_exceptions=True)

    async def close(self) -> None:
        """Listen no more."""
        await self.shut()
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def _listen(self, run: _Run) -> None:
        if run is self._run:
            self._loop.add_reader(self._listener, self._accept, run)

    def _accept(self, run: _Run) -> None:
        try:
            taken, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # out of files
            self._loop.remove_reader(self._listener)
            self._loop.call_later(_PAUSE_S, self._listen, run)
            return
        run.traffic.connections += 1
        if run.traffic.connections > MOST_CONNECTIONS:
            self._loop.remove_reader(self._listener)
            run.cut()
        if run.traffic.is_cut or len(run.tasks) >= AT_ONCE:
            taken.close()
            return
        task = self._loop.create_task(_serve(run, taken))
        run.tasks.add(task)
        task.add_done_callback(run.tasks.discard)
        task.add_done_callback(lambda _: taken.close())  # one that is cancelled at once is never begun


async def gate(folder: Path) -> Gate:
    """One that listens in `folder`, shut. Only its owner may connect: `sandbox.start` gives it away."""
    path = folder / "gate"
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return Gate(path, listener)


async def _serve(run: _Run, taken: socket.socket) -> None:
    """One connection, from its request to its end."""
    client, server = _Client(run), None
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(lambda: client, taken)
        try:
            async with asyncio.timeout(HEAD_S):
                size = await client.asked
            target, head = _asked(bytes(client.early[:size]))
        except TimeoutError:
            client.answer("408 Request Timeout", "no request came")
            return await client.lost
        except ValueError as wrong:
            client.answer("400 Bad Request", f"not a request that a proxy understands: {wrong}")
            return await client.lost
        try:
            out = await run.dial(target)
        except TroubleError as trouble:
            if head:  # an answer of ours would be taken for the site's
                client.transport.close()
            else:
                client.answer(_refusal(trouble.kind), trouble.kind)
        else:
            server = _Server(run, is_plain=bool(head))
            try:
                await loop.create_connection(lambda: server, sock=out)
            except BaseException:
                out.close()
                raise
            client.early[:size] = head
            if not head:
                client.transport.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            client.join(server)
        await client.lost
    except OSError:
        pass  # one of them hung up
    finally:
        for end in (client, server):
            if end is not None:
                end.abort()


def _refusal(kind: str) -> str:
    if kind == "egress.refused":
        return "403 Forbidden"
    return "504 Gateway Timeout" if kind.endswith(".timeout") else "502 Bad Gateway"


class _Head:
    """The callbacks of httptools."""

    def __init__(self) -> None:
        self.url, self.headers, self.is_whole = b"", list[tuple[bytes, bytes]](), False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_whole = True


def _asked(data: bytes) -> tuple[Target, bytes]:
    """Where a request wants to, and the head it is sent on with; none for CONNECT. Raises `ValueError`."""
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as wrong:
        raise ValueError(str(wrong)) from None
    if not head.is_whole:
        raise ValueError(f"a head ends within {HEAD_BYTES} bytes")
    if len(head.headers) > _MOST_HEADERS:
        raise ValueError(f"more than {_MOST_HEADERS} headers")
    method, url = parser.get_method(), head.url.decode("ascii")
    if method == b"CONNECT":
        if not _AUTHORITY.fullmatch(url):
            raise ValueError("CONNECT takes host:port")
        return parse_target(f"http://{url}"), b""
    origin = _ORIGIN.match(url)
    if origin is None:
        raise ValueError("only absolute http URLs")
    target, path = parse_target(url), url[origin.end() :].partition("#")[0]
    fields = dict(head.headers)
    named = fields.get(b"connection", b"").lower().replace(b" ", b"").split(b",")
    lines = [b"%b: %b" % (name, value) for name, value in head.headers if name not in {*_HOP_BY_HOP, *named}]
    if b"upgrade" in named and fields.get(b"upgrade", b"").lower() == b"websocket":
        lines += [b"connection: Upgrade", b"upgrade: websocket"]
    else:
        lines.append(b"connection: close")
    first = f"{method.decode()} {path if path.startswith('/') else '/' + path} HTTP/1.1\r\nhost: {target.authority}"
    return target, b"\r\n".join([first.encode(), *lines, b"", b""])
