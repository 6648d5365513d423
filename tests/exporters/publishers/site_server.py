"""What local status pages have in common: a real HTTP server with a key, refusals, and answers that get lost. Which rules it has is each one's."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

KEY = "key-of-the-tests"


class Refusal(Exception):  # noqa: N818  # an answer
    """An answer other than what was asked for."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.answer = (status, body, headers)


class SiteServer(ABC):
    """One status page. `lose`: the next request that begins so is done, and its answer lost; `hang`: it never comes.

    `waits`: Retry-After of the next requests. `says`: what everything is answered that was done. `breaks_at`: that many
    requests from now one is `lost` or `refused`.
    """

    component: str  # the id of one that it shows

    def __init__(self) -> None:
        self.url, self.lose, self.hang = "", "", ""
        self.waits: list[str] = []
        self.says: str | None = None
        self.refuses: Refusal | None = None
        self.asked: list[str] = []
        self.notified = 0
        self.breaks_at, self.breaks = 0, ""
        self._ids = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        """Serve until left."""
        server = cls()
        app = web.Application(middlewares=[server._answer])
        app.add_routes(server.routes())
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield server
        finally:
            await runner.cleanup()

    @abstractmethod
    def routes(self) -> Iterable[web.RouteDef]: ...

    @abstractmethod
    def authenticate(self, request: web.Request) -> None:
        """Raises what a wrong key is answered."""

    @abstractmethod
    def limited(self, wait: str) -> Refusal:
        """What too many requests are answered."""

    @abstractmethod
    def seen(self) -> list[tuple[str, str, list[str]]]:
        """(title, status, what was said) of every incident, in the order they were made; statuses in Upbeat's words."""

    @abstractmethod
    def shown(self) -> str:
        """What its component is shown as, in Upbeat's words."""

    @abstractmethod
    def remove(self) -> None:
        """Take every incident away, by hand."""

    def new_id(self) -> int:
        self._ids += 1
        return self._ids

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        said = f"{request.method} {request.path}"
        self.asked.append(said)
        try:
            if self.waits:
                raise self.limited(self.waits.pop(0))
            if self.refuses:
                raise self.refuses
            self.authenticate(request)
            self.breaks_at -= 1
            if self.breaks_at == 0 and self.breaks == "refused":
                raise Refusal(503, {})
            answer = await handler(request)
        except Refusal as refusal:
            status, body, headers = refusal.answer
            return web.json_response(body, status=status, headers=headers)
        if self.breaks_at == 0 and self.breaks == "lost":
            self.lose = request.method
        if self.lose and said.startswith(self.lose):
            self.lose = ""
            assert request.transport is not None
            request.transport.abort()
        if self.hang and said.startswith(self.hang):
            self.hang = ""
            await asyncio.Event().wait()
        return answer if self.says is None else web.Response(text=self.says, content_type="application/json")


def now_s() -> float:
    return time.time()
