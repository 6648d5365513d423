"""Episodes, actions and incidents: read, and decided by people. What may be said is decided in `evaluators.review`."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from fastapi import Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.objects import PageRef, locate
from api.paging import AtAndId, Cursor, Limit, page, read_cursor
from api.problems import invalid, missing
from api.shapes import ShownAction, ShownEpisode, ShownIncident, gives
from engine.bus import LIVE
from engine.store import incidents, reviews
from engine.store.audit import Actor
from engine.store.database import Connection, Row, transaction
from engine.store.ids import read, show
from evaluators.review import Status
from rules.known import Kind
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


IncidentStatus = Literal["open", "investigating", "identified", "monitoring", "resolved"]
Open = Annotated[bool | None, Query(alias="open")]
OfBeat = Annotated[str | None, Query(max_length=100, description="Slug or id of the beat that owns it.")]
OfGroup = Annotated[str | None, Query(max_length=100, description="Slug or id of the group that owns it.")]
_OWNERS: Final[tuple[Kind, ...]] = ("beat", "group")


async def _listed(
    request: Request,
    asking: Principal,
    page_ref: str | None,
    limit: int,
    cursor: str | None,
    owner: tuple[str | None, str | None],
    query: Callable[..., Awaitable[list[Row]]],
    show_all: Callable[[Connection, Sequence[Row]], Awaitable[list[dict[str, Any]]]],
    at: str = "created_at",
) -> Response:
    """Of what `query` finds on the pages they may read, of this beat or group, one part, newest `at` first."""
    async with services_of(request).pool.acquire() as db:
        pages: Sequence[UUID] | None = asking.pages_for(Permission.READ)
        if page_ref is not None:
            pages = [(await locate(db, asking, "page", page_ref)).id]
        named = [(kind, ref) for kind, ref in zip(_OWNERS, owner, strict=True) if ref is not None]
        if len(named) > 1:
            raise invalid([("/group", "name a beat or a group, not both")])
        owners = [(await locate(db, asking, kind, ref, page_ref)).id for kind, ref in named]
        rows = await query(
            db,
            pages=pages,
            owner=next(iter(owners), None),
            before=read_cursor(cursor, AtAndId),
            limit=limit + 1,
        )
        items = await show_all(db, rows[:limit])
    last = (rows[limit - 1][at], rows[limit - 1]["id"]) if len(rows) > limit else None
    return page(request, items, last)


@router.get("/episodes")
@permits(Permission.READ)
@gives(ShownEpisode, listed=True)
async def list_episodes(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    is_open: Open = None,
    beat: OfBeat = None,
    group: OfGroup = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    query = partial(reviews.episodes, is_open=is_open)
    owner = (beat, group)
    return await _listed(request, asking, page_ref, limit, cursor, owner, query, _shown_episodes, "opened_at")


async def _shown_episodes(_: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    about = ("owner", "owner_kind", "owner_name", "page", "number", "severity", "peak")
    kept = (*about, "opened_at", "closed_at", "cause", "frozen", "flapping", "reopened")
    return [{"id": show("episode", row["id"])} | {name: row[name] for name in kept} for row in rows]


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
    return await _listed(request, asking, page_ref, limit, cursor, (beat, group), query, shown_actions)


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
            "components": _components(row["components"], names),
            "incident": show("incident", row["incident_id"]) if row["incident_id"] else None,
            "deliveries": [{"target": f"page {row['page']}", "status": "done"}] if row["incident_id"] else [],
        }
        for row in rows
    ]


def _components(impacts: dict[str, str], names: dict[str, tuple[str, str, str]]) -> list[dict[str, str]]:
    return [
        {"page": names[c][0], "slug": names[c][1], "name": names[c][2], "status": status}
        for c, status in impacts.items()
        if c in names
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


@router.get("/incidents")
@permits(Permission.READ)
@gives(ShownIncident, listed=True)
async def list_incidents(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    status: IncidentStatus | None = None,
    beat: OfBeat = None,
    group: OfGroup = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first; `open` is every one that is not resolved."""
    query = partial(incidents.listing, status=status)
    return await _listed(request, asking, page_ref, limit, cursor, (beat, group), query, shown_incidents)


@router.get("/incidents/{ref}")
@permits(Permission.READ)
@gives(ShownIncident)
async def read_incident(request: Request, asking: Asking, ref: str) -> Response:
    """One incident."""
    async with services_of(request).pool.acquire() as db:
        item = await shown_incident(db, asking, ref)
    return reply(item, headers={"ETag": f'"{item["revision"]}"'})


async def shown_incident(db: Connection, asking: Principal, ref: str) -> dict[str, Any]:
    """The incident that a path names, as JSON. Raises 404."""
    incident_id, pages = read("incident", ref), asking.pages_for(Permission.READ)
    rows = await incidents.listing(db, pages=pages, incident=incident_id, limit=1) if incident_id else []
    if not rows:
        raise missing(f"there is no incident {ref!r}")
    (item,) = await shown_incidents(db, rows)
    return item


async def shown_incidents(db: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Incidents as JSON, updates newest first."""
    names = await incidents.component_names(db, sorted({c for row in rows for c in row["components"]}))
    updates = await incidents.updates(db, [row["id"] for row in rows])
    kept = ("title", "status", "page", "owner", "owner_kind", "created_at", "resolved_at", "revision")
    return [
        {"id": show("incident", row["id"])}
        | {name: row[name] for name in kept}
        | {
            "episode": show("episode", row["episode_id"]) if row["episode_id"] else None,
            "components": _components(row["components"], names),
            "updates": [
                {"id": show("update", u["id"])} | {name: u[name] for name in ("status", "text", "at", "by")}
                for u in updates[row["id"]]
            ],
        }
        for row in rows
    ]
