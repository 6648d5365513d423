"""Why a beat or group is what it is, for REST and console: `evaluators.explain`, with what ids are called."""

from typing import Annotated
from uuid import UUID

from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import reply
from api.context import services_of
from api.named import named
from api.shapes import ShownWhy, gives
from api.showing import may_name, page_slugs, policy_of
from engine.store import objects, states, views
from engine.store.database import Connection, Row
from engine.store.objects import Stored
from engine.store.states import decode_state
from evaluators.explain import Why, explain
from evaluators.explain import named as ids_in
from rules.known import Kind
from rules.subject import rule_of

router = Router(prefix="/api/v1", tags=["explain"])


async def why(db: Connection, asking: Principal, stored: Stored, row: Row, now_s: float) -> Why:
    """Why `stored` is what the `row` of its state says."""
    policy, state = policy_of(stored.kind, stored.spec, row["bound"]), decode_state(row["state"])
    names = await _names(db, asking, stored, ids_in(policy, state))
    together = await views.run_together(db, policy.regions)
    return explain(policy, state, now_s, names, together=together)


async def _names(db: Connection, asking: Principal, stored: Stored, ids: set[str]) -> dict[str, str]:
    """What people call these; those of another page by page and slug."""
    found = await objects.several(db, [UUID(one) for one in ids]) if ids else []
    pages = await page_slugs(db) if found else {}

    def called(one: Stored) -> str:
        if one.page_id == stored.page_id:
            return one.spec.get("name") or one.slug
        page = pages.get(one.page_id) if one.page_id else None
        return f"{page}/{one.slug}" if may_name(asking, one) else "of another page"

    return {str(one.id): called(one) for one in found}


def _routes(kind: Kind) -> None:
    @router.get(f"/{kind}s/{{ref}}/explain", name=f"Explain a {kind}'s stage", operation_id=f"explain_{kind}")
    @permits(Permission.READ)
    @gives(ShownWhy)
    async def read(request: Request, asking: Asking, stored: Annotated[Stored, named(kind)]) -> Response:
        """Votes, what they amount to, what stands beside the stage, and what would change it, in sentences."""
        services = services_of(request)
        async with services.pool.acquire() as db:
            row = (await states.summaries(db, [stored.id]))[stored.id]
            told = await why(db, asking, stored, row, services.clock.epoch_s())
        title = rule_of(kind, stored.spec).title
        about = {"kind": kind, "slug": stored.slug, "title": title}
        return reply(about | {"stage": row["stage"], "since": row["since"]} | asdict(told))


for _kind in ("beat", "group"):
    _routes(_kind)
