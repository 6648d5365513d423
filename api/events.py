"""Server-sent events: what changes, as it changes, to whom may read it. News only: what was missed is read anew."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.auth import Asking, Permission, Principal, Router, identify, permits
from api.context import Services, services_of
from api.origin import is_foreign
from api.problems import ProblemError
from engine.bus import LIVE_ALL, Listening

HEARTBEAT_S: Final = 15.0
TRUST_S: Final = 1.0
"""How long a principal is believed without asking the database again: a revoked token hears nothing after that."""
QUEUE: Final = 1000
MOST_CLIENTS: Final = 500
MOST_OF_ONE: Final = 50
"""Streams of one person or token, who must not take everybody's."""

router = Router(prefix="/api/v1", tags=["live"])


class Hub:
    """One subscription of this process, fanned out to its clients. A client that does not read loses its oldest news."""

    def __init__(self) -> None:
        self.clients: dict[asyncio.Queue[dict[str, Any] | None], str] = {}
        self._listening: Listening | None = None
        self._starting = asyncio.Lock()
        self._is_closed = False

    @contextlib.asynccontextmanager
    async def client(
        self, services: Services, who: str
    ) -> AsyncIterator[asyncio.Queue[dict[str, Any] | None]]:
        """A queue that hears everything while the block lasts, for `who`."""
        async with self._starting:
            if self._listening is None:
                self._listening = await services.bus.listen(LIVE_ALL, self._hear)
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(QUEUE)
        self.clients[queue] = who
        if self._is_closed:
            queue.put_nowait(None)
        try:
            yield queue
        finally:
            self.clients.pop(queue, None)

    async def _hear(self, payload: bytes) -> None:
        for item in msgspec.json.decode(payload, type=list[dict[str, Any]]):
            self._tell(item)

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._is_closed = True
        self._tell(None)

    def _tell(self, item: dict[str, Any] | None) -> None:
        for queue in self.clients:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(item)


@router.get("/events")
@permits(Permission.READ)
async def events(request: Request, asking: Asking) -> Response:
    """`event:` is `stage`, `result`, `ping`, `signal` or `action`; `data:` is JSON with the slugs of page and beat."""
    if is_foreign(request):
        raise ProblemError(403, "forged", "another site's page made this request")
    hub: Hub = request.app.state.hub
    if not services_of(request).bus.connected:
        raise ProblemError(503, "bus-away", "there are no live news now", headers={"Retry-After": "5"})
    mine = list(hub.clients.values()).count(asking.key_id or asking.name)
    if len(hub.clients) >= MOST_CLIENTS or mine >= MOST_OF_ONE:
        raise ProblemError(503, "busy", "too many live viewers", headers={"Retry-After": "30"})
    return StreamingResponse(
        _stream(request, hub), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _stream(request: Request, hub: Hub) -> AsyncIterator[bytes]:
    services = services_of(request)
    clock = services.clock
    asking: Principal = request.state.principal
    trusted_s = told_s = clock.monotonic_s()
    yield b"retry: 2000\n\n"
    async with hub.client(services, asking.key_id or asking.name) as queue:
        while True:
            item: dict[str, Any] | None = {}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRUST_S):
                    item = await queue.get()
            if item is None:
                return
            now_s = clock.monotonic_s()
            if now_s - trusted_s >= TRUST_S:
                fresh = await _still(request)
                if fresh is None:
                    return
                asking, trusted_s = fresh, now_s
            if item and _may_hear(asking, item):
                told_s = now_s
                yield _framed(item)
            elif now_s - told_s >= HEARTBEAT_S:
                told_s = now_s
                yield b": still here\n\n"


async def _still(request: Request) -> Principal | None:
    with contextlib.suppress(ProblemError):
        asking = await identify(request)
        if asking.pages_for(Permission.READ) != []:
            return asking
    return None


def _may_hear(asking: Principal, item: dict[str, Any]) -> bool:
    try:
        return asking.may(Permission.READ, UUID(str(item.get("page"))))
    except ValueError:
        return asking.may(Permission.READ, None)


def _framed(item: dict[str, Any]) -> bytes:
    data = {key: value for key, value in item.items() if key != "event"}
    return b"event: %s\ndata: %s\n\n" % (str(item.get("event", "news")).encode(), msgspec.json.encode(data))
