"""What is answered while the database is silent: 503 at once, rather than a request that hangs as long as it does.

A database that is dead refuses connections, and each request says so itself. One that stands still (a stopped process, a
disk that does not answer) takes connections and keeps them waiting; only looking at it from outside tells.
"""

import asyncio
import json
import logging
from typing import Final

import asyncpg
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOK_S: Final = 1.0
SILENT_S: Final = 2.0
# Pings and deliveries give up by themselves.
WITHOUT_DATABASE: Final = (
    "/healthz", "/readyz", "/metrics", "/static/", "/ping/", "/api/v1/external-events/",
)  # fmt: skip

_log = logging.getLogger(__name__)
_BODY: Final = json.dumps(
    {
        "type": "https://github.com/upbeat-monitoring/upbeat/blob/main/docs/reference/api.md#database-away",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "the database does not answer; nothing was changed unless this was about to be confirmed",
    }
).encode()
_HEADERS: Final = [
    (b"content-type", b"application/problem+json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"retry-after", b"2"),
    (b"cache-control", b"no-store"),
]


class Watch:
    """Looks at the database once a second over a connection of its own; `silent` is set while it does not answer."""

    def __init__(self, url: str) -> None:
        self.silent = asyncio.Event()
        self._url = url

    async def run(self) -> None:
        """Look until cancelled."""
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        try:
            while True:
                try:
                    async with asyncio.timeout(SILENT_S):
                        if connection is None or connection.is_closed():
                            connection = await asyncpg.connect(self._url, timeout=SILENT_S)
                        await connection.execute("SELECT 1")
                    self.silent.clear()
                except TimeoutError:
                    if not self.silent.is_set():
                        _log.warning(
                            "the database is silent: requests are answered with 503 until it answers"
                        )
                    self.silent.set()
                    _drop(connection)
                    connection = None
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    self.silent.clear()  # it is away, not silent: requests fail by themselves, and fast
                    _drop(connection)
                    connection = None
                await asyncio.sleep(LOOK_S)
        finally:
            _drop(connection)


def _drop(connection: "asyncpg.Connection[asyncpg.Record] | None") -> None:
    if connection is not None:
        connection.terminate()


class Patience:
    """An application that gives up on requests while the database is silent; an answer that has begun goes on."""

    def __init__(self, app: ASGIApp, silent: asyncio.Event) -> None:
        self._app, self._silent = app, silent
        self._given_up: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(WITHOUT_DATABASE):
            await self._app(scope, receive, send)
            return
        if self._silent.is_set():
            await _refuse(send)
            return
        has_begun = is_over = False

        async def heard(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if not is_over:
                await send(message)

        work = asyncio.ensure_future(self._work(scope, receive, heard))
        silence = asyncio.ensure_future(self._silent.wait())
        try:
            await asyncio.wait((work, silence), return_when=asyncio.FIRST_COMPLETED)
            if work.done() or has_begun:
                await work
                return
            is_over = True
            await _refuse(send)
        finally:
            silence.cancel()
            # What waits for the database may not even be cancelled before it answers: nobody waits for that.
            work.cancel()
            self._given_up.add(work)
            work.add_done_callback(self._forget)

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _forget(self, work: "asyncio.Task[None]") -> None:
        self._given_up.discard(work)
        if not work.cancelled():
            work.exception()


async def _refuse(send: Send) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
