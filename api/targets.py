"""How channels and publishers are doing, and their dead letters sent again. Testing one and single deliveries are `api.channels`'."""

from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import reply
from api.context import services_of
from api.objects import PageRef, locate
from api.shapes import gives
from api.shown_episodes import ShownHealth
from engine.store import outbox, targets
from engine.store.database import Row, transaction
from engine.store.ids import show
from rules.known import Kind, plural

router = Router(prefix="/api/v1")


def shown_health(row: Row) -> dict[str, Any]:
    """How a target is, as JSON."""
    state = (
        "stopped" if row["stopped_at"] else "failing" if row["failures"] else "ok" if row["ok_at"] else "new"
    )
    kept = [name for name in ShownHealth.__struct_fields__ if name not in ("id", "state")]
    return {"id": show(row["kind"], row["id"]), "state": state} | {name: row[name] for name in kept}


async def replay(
    request: Request, asking: Principal, kind: Kind, ref: str, page_ref: str | None = None
) -> int:
    """Make all dead letters of a target pending again; how many there were."""
    async with transaction(services_of(request).pool) as db:
        target = await locate(db, asking, kind, ref, page_ref)
        asking.require(Permission.WRITE, target.page_id)
        await targets.resume(db, target.id)
        return await outbox.retry(db, asking.actor, None, target_id=target.id)


def _routes(kind: Literal["channel", "publisher"]) -> None:
    path = f"/{plural(kind)}/{{ref}}"

    @router.get(
        f"{path}/health", tags=[plural(kind)], name=f"Health of a {kind}", operation_id=f"{kind}_health"
    )
    @permits(Permission.READ)
    @gives(ShownHealth)
    async def health(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
        """Whether it takes what it is sent, and what waits for it or was given up."""
        async with services_of(request).pool.acquire() as db:
            target = await locate(db, asking, kind, ref, page_ref)
            (row,) = await targets.health(db, None, target.id)
        return reply(shown_health(row))

    @router.post(
        f"{path}/replay-dead",
        status_code=202,
        tags=[plural(kind)],
        name=f"Replay a {kind}'s dead letters",
        operation_id=f"replay_dead_of_{kind}",
    )
    @permits(Permission.WRITE)
    async def replay_dead(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
        """Send everything again that it was given up for; what it stopped to be asked is asked again."""
        return reply({"replayed": await replay(request, asking, kind, ref, page_ref)}, 202)


_routes("channel")
_routes("publisher")
