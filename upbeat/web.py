"""The HTTP server: uvicorn on a socket of our own, so that a port in use is said before anything else starts."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from upbeat.settings import SettingsError


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


async def serve_http(app: ASGIApp, listener: socket.socket, *, end_streams: Callable[[], None]) -> None:
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
    try:
        await asyncio.shield(task)
    finally:
        end_streams()
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task
