"""The HTTP server: uvicorn on a socket of our own, so that a port in use is said before anything else starts."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from upbeat.settings import SettingsError

REQUEST_S = 8.0
"""How long a client may take to send a request, head and body. Longer ones hold file handles that probes need."""
CROWDED_S = 1.0
"""The same while more than half of the clients are there that may be."""
MOST_HEAD_BYTES = 64_000
MOST_HEADERS = 200
MOST_CONNECTIONS = 4000


def most_connections() -> int:
    """How many clients may be connected: they get half of the file handles; probes and the database need the others."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if allowed == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, allowed // 2)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the composition root's."""
        yield


class _Protocol(HttpToolsProtocol):
    """uvicorn's, but for what it takes without bounds, connections and heads, and bodies that it loses to an upgrade."""

    most = MOST_CONNECTIONS
    _is_in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if len(self.headers) > MOST_HEADERS:
            raise _HeadError
        if not self._is_offer():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._is_offer():
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)  # from 0 where another head begins in there
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._is_offer():
                self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._is_in_head and self._head_bytes > MOST_HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")

    def _is_offer(self) -> bool:
        """Whether the client would speak another protocol. The parser then takes its body for that."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _decline(self, rest: bytes) -> None:
        """Begin again with the request as it is without its offer: what clients of Java offer with every POST."""
        kept = [(name, value) for name, value in self.headers if name not in (b"connection", b"upgrade")]
        lines = b"".join(b"%b: %b\r\n" % header for header in kept)
        version = self.parser.get_http_version().encode()
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, lines)
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(head + rest)


class _HeadError(Exception):
    """A head that is refused; the parser makes it a request that is not valid."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `SettingsError` saying what to do when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as refused:
        listener.close()
        hint = (
            "stop what listens there, or choose another with --port" if port else "choose another with --host"
        )
        raise SettingsError(f"{host}:{port} cannot be listened on ({refused.strerror}); {hint}") from None
    listener.setblocking(False)
    return listener


async def serve_http(
    app: ASGIApp,
    listener: socket.socket,
    *,
    end_streams: Callable[[], None],
    request_s: float = REQUEST_S,
    most: int | None = None,
) -> None:
    """Answer on `listener` until cancelled; then streams are ended, and requests under way get 5 seconds."""
    most = most or most_connections()
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            http=type("Bounded", (_Protocol,), {"most": most}),
            ws="none",
            lifespan="off",
        )
    )
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    hurry = asyncio.ensure_future(_hurry(server, request_s, most))
    try:
        await asyncio.shield(task)
    finally:
        hurry.cancel()
        end_streams()
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _hurry(server: _Server, request_s: float, most: int) -> None:
    """Hang up on clients that owe a request for longer than `request_s`; uvicorn itself waits for ever."""
    owing: dict[tuple[Any, int], float] = {}
    while True:
        await asyncio.sleep(request_s / 16)
        now_s = asyncio.get_running_loop().time()
        connections: set[Any] = server.server_state.connections
        patience_s = request_s if len(connections) <= most // 2 else min(request_s, CROWDED_S)
        keys = [(one, id(one.cycle)) for one in connections if _owes(one)]  # a next request is another cycle
        owing = {key: owing.get(key, now_s) for key in keys}
        for (one, _), since_s in owing.items():
            if now_s - since_s >= patience_s:
                one.transport.abort()


def _owes(connection: Any) -> bool:
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        return connection.timeout_keep_alive_task is None  # else uvicorn ends it
    return bool(cycle.more_body)
