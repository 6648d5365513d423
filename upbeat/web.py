"""The HTTP server: uvicorn on a socket of our own, so that a port in use is said before anything else starts."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from upbeat.settings import SettingsError

REQUEST_S = 20.0
"""How long a client may take to send a request, head and body. Longer ones hold file handles that probes need."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the composition root's."""
        yield


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
    app: ASGIApp, listener: socket.socket, *, end_streams: Callable[[], None], request_s: float = REQUEST_S
) -> None:
    """Answer on `listener` until cancelled; then streams are ended, and requests under way get 5 seconds."""
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            http="httptools",
            ws="none",
            lifespan="off",
        )
    )
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    hurry = asyncio.ensure_future(_hurry(server, request_s))
    try:
        await asyncio.shield(task)
    finally:
        hurry.cancel()
        end_streams()
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _hurry(server: _Server, request_s: float) -> None:
    """Hang up on clients that owe a request for longer than `request_s`; uvicorn itself waits for ever."""
    owing: dict[tuple[Any, int], float] = {}
    while True:
        await asyncio.sleep(request_s / 4)
        now_s = asyncio.get_running_loop().time()
        found: set[Any] = {one for one in server.server_state.connections if _owes(one)}
        keys = [(one, id(one.cycle)) for one in found]  # a next request is another cycle
        owing = {key: owing.get(key, now_s) for key in keys}
        for (one, _), since_s in owing.items():
            if now_s - since_s >= request_s:
                one.transport.abort()


def _owes(connection: Any) -> bool:
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        return connection.timeout_keep_alive_task is None  # else uvicorn ends it
    return bool(cycle.more_body)
