"""Actions: read, and decided by people. What may be said is decided in `evaluators.review`."""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.objects import PageRef
from api.owned import OfBeat, OfGroup, components, listed
from api.paging import Cursor, Limit
from api.problems import missing
from api.shapes import ShownAction, gives
from engine.bus import LIVE
from engine.store import incidents, reviews
from engine.store.audit import Actor
from engine.store.database import Connection, Row, transaction
from engine.store.ids import read, show
from evaluators.review import Status
from rules.shape import Name, Rule, Text

router = Router(prefix="/api/v1", tags=["incidents"])


class Approval(Rule):
    """What is approved: this revision, as it was read."""

    revision: int = Field(ge=1)


class Rejection(Rule):
    """Why not."""

    reason: Text = ""


class Wording(Rule):
    """New words for a pending action."""

    revision: int = Field(ge=1)
    title: Name | None = None
    text: Annotated[str, Field(min_length=1, max_length=4000)] | None = None


@router.get("/actions")
@permits(Permission.READ)
@gives(ShownAction, listed=True)
async def list_actions(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    status: Status | None = None,
    beat: OfBeat = None,
    group: OfGroup = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    query = partial(reviews.actions, status=status)
    return await listed(request, asking, page_ref, limit, cursor, (beat, group), query, shown_actions)


async def shown_actions(db: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Actions as JSON, with the names of their components."""
    names = await incidents.component_names(db, sorted({c for row in rows for c in row["components"]}))
    said = ("revision", "step", "of", "status", "severity", "title", "text", "evidence", "reason")
    kept = (
        *said,
        "owner",
        "owner_kind",
        "owner_name",
        "page",
        "created_at",
        "expires_at",
        "decided_at",
        "decided_by",
    )
    return [
        {"id": show("action", row["id"]), "episode": show("episode", row["episode_id"])}
        | {name: row[name] for name in kept}
        | {
            "components": components(row["components"], names),
            "incident": show("incident", row["incident_id"]) if row["incident_id"] else None,
            "deliveries": [{"target": f"page {row['page']}", "status": "done"}] if row["incident_id"] else [],
        }
        for row in rows
    ]


async def find_action(db: Connection, asking: Principal, ref: str, permission: Permission) -> UUID:
    """The action's id, if they may do that to it. Raises 403, 404."""
    action_id = read("action", ref)
    gone = missing(f"there is no action {ref!r}")
    if action_id is None:
        raise gone
    try:
        row = await reviews.one(db, action_id)
    except LookupError:
        raise gone from None
    if not asking.may(Permission.READ, row["page_id"]):
        raise gone
    asking.require(permission, row["page_id"])
    return action_id


@router.get("/actions/{ref}")
@permits(Permission.READ)
@gives(ShownAction)
async def read_action(request: Request, asking: Asking, ref: str) -> Response:
    """One action."""
    async with services_of(request).pool.acquire() as db:
        action_id = await find_action(db, asking, ref, Permission.READ)
        (item,) = await shown_actions(db, [await reviews.one(db, action_id)])
    return reply(item, headers={"ETag": f'"{item["revision"]}"'})


Decision = Callable[[Connection, Actor, UUID], Coroutine[Any, Any, Row]]


async def decide(services: Services, asking: Principal, ref: str, decision: Decision) -> dict[str, Any]:
    """Carry out a person's decision on the action `ref`, tell live viewers, and show what it is now."""
    async with transaction(services.pool) as db:
        action_id = await find_action(db, asking, ref, Permission.REVIEW)
        row = await decision(db, asking.actor, action_id)
        (item,) = await shown_actions(db, [row])
    news = {"event": "action", "page": str(row["page_id"]), "beat": row["owner"]}
    await services.bus.announce(LIVE, msgspec.json.encode([news]))
    return item


@router.post("/actions/{ref}/approve")
@permits(Permission.REVIEW)
@takes(Approval)
@gives(ShownAction)
async def approve(request: Request, asking: Asking, ref: str) -> Response:
    """Say yes to a revision: it is published in that transaction. A second yes is harmless and shows who said the first."""
    services, sent = services_of(request), await read_body(request, Approval)
    now_s = services.clock.epoch_s()
    return reply(
        await decide(
            services,
            asking,
            ref,
            lambda db, by, action: reviews.approve(db, by, action, sent.revision, now_s),
        )
    )


@router.post("/actions/{ref}/reject")
@permits(Permission.REVIEW)
@takes(Rejection)
@gives(ShownAction)
async def reject(request: Request, asking: Asking, ref: str) -> Response:
    """Say no."""
    services, sent = services_of(request), await read_body(request, Rejection)
    now_s = services.clock.epoch_s()
    return reply(
        await decide(
            services, asking, ref, lambda db, by, action: reviews.reject(db, by, action, sent.reason, now_s)
        )
    )


@router.patch("/actions/{ref}")
@permits(Permission.REVIEW)
@takes(Wording)
@gives(ShownAction)
async def edit(request: Request, asking: Asking, ref: str) -> Response:
    """Change a pending action's words: a new revision."""
    services, sent = services_of(request), await read_body(request, Wording)
    return reply(
        await decide(
            services,
            asking,
            ref,
            lambda db, by, action: reviews.edit(
                db, by, action, sent.revision, title=sent.title, text=sent.text
            ),
        )
    )
