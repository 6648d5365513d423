"""Actions: read, and decided by people. What may be said is decided in `evaluators.review`."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api import artifacts
from api.auth import OPERATOR_KEYS, Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.meant import affected, publishers_of
from api.objects import PageRef, locate
from api.origin import base_url
from api.owned import OfBeat, OfGroup, components, listed
from api.paging import Cursor, Limit
from api.problems import ProblemError, invalid, missing
from api.shapes import gives
from api.shown_actions import ShownAction, ShownTally
from engine.bus import LIVE
from engine.store import drafts, incidents, objects, reach, reviews
from engine.store.audit import Actor
from engine.store.database import Connection, Row, transaction
from engine.store.ids import read, show
from engine.store.objects import Stored
from evaluators.fitting import fitted, is_cut, lost
from evaluators.model import Post
from evaluators.review import Status
from evaluators.routing import wants
from rules.channel import CHANNEL
from rules.channels.channel import Told
from rules.component import Impact
from rules.incident import Review, Step
from rules.known import Kind
from rules.owner import ComponentPath
from rules.publisher import PUBLISHER
from rules.shape import Name, Rule, Slug, Text

router = Router(prefix="/api/v1", tags=["incidents"])


class Approval(Rule):
    """What is approved: this revision, as it was read. `publishers`: it goes to these and its own page only."""

    revision: int = Field(ge=1)
    publishers: list[Slug] | None = Field(default=None, max_length=100)
    comment: Text = ""


class Rejection(Rule):
    """Why not. `revision`: as it was read; 409 where it says something else by now."""

    reason: Text = ""
    revision: int | None = Field(default=None, ge=1)


class Wording(Rule):
    """What a pending action says instead. A list of components replaces the one before."""

    revision: int = Field(ge=1)
    title: Name | None = None
    text: Annotated[str, Field(min_length=1, max_length=25_000)] | None = None
    components: Annotated[dict[ComponentPath, Impact], Field(max_length=100)] | None = None
    is_markdown: bool | None = None


OfTrigger = Annotated[str | None, Query(max_length=100, description="Slug or id of a trigger it rests on.")]
Mine = Annotated[bool, Query(description="Only what you wrote or decided, or whose episode is yours.")]


@router.get("/actions")
@permits(Permission.READ)
@gives(ShownAction, listed=True)
async def list_actions(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    status: Status | None = None,
    step: Step | None = None,
    mine: Mine = False,
    beat: OfBeat = None,
    group: OfGroup = None,
    trigger: OfTrigger = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    by, trigger_id = asking.name if mine else None, None
    if trigger is not None:
        async with services_of(request).pool.acquire() as db:
            trigger_id = (await locate(db, asking, "trigger", trigger, page_ref)).id
    query = partial(reviews.actions, status=status, step=step, by=by, trigger=trigger_id)
    return await listed(request, asking, page_ref, limit, cursor, (beat, group), query, shown_actions)


@router.get("/actions/tally")
@permits(Permission.READ)
@gives(ShownTally)
async def tally(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    beat: OfBeat = None,
    group: OfGroup = None,
    trigger: OfTrigger = None,
) -> Response:
    """How often what was proposed, by one of these or by all, was approved as it was, changed, rejected, or left to expire."""
    given: dict[Kind, str | None] = {"beat": beat, "group": group, "trigger": trigger}
    named = [(kind, ref) for kind, ref in given.items() if ref is not None]
    if len(named) > 1:
        raise invalid([("", "name one of beat, group and trigger")])
    async with services_of(request).pool.acquire() as db:
        pages: Sequence[UUID] | None = asking.pages_for(Permission.READ)
        if page_ref is not None:
            pages = [(await locate(db, asking, "page", page_ref)).id]
        one = await locate(db, asking, *named[0], page_ref) if named else None
        of = {"trigger" if one.kind == "trigger" else "owner": one.id} if one else {}
        return reply(await reviews.tally(db, pages=pages, owner=of.get("owner"), trigger=of.get("trigger")))


async def shown_actions(db: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Actions as JSON: what they say, where, and what came of it."""
    ids, pages = [row["id"] for row in rows], list({row["page_id"] for row in rows})
    impacts = await reach.impacts(db, [row for row in rows if row["status"] == Status.PENDING])
    originals = [row["original"]["components"] for row in rows if row["original"]]
    named = [*originals, *(row["components"] for row in rows)]
    keys = {key for components in named for key in components}
    keys |= {one.component for found in impacts.values() for one in found}
    names = await incidents.component_names(db, sorted(keys))
    publishers = await objects.listing(db, "publisher", pages=pages)
    channels = await objects.listing(db, "channel", pages=pages)
    approvals, deliveries = await reviews.approvals(db, ids), await reach.deliveries(db, ids)
    runs = [read("run", item.get("run", "")) for row in rows for item in row["evidence"]]
    pictures = await artifacts.failures(db, [run for run in runs if run])
    open_still = await reach.still_open(db, [row["of_incident"] for row in rows if row["of_incident"]])
    return [
        {
            "id": show("action", row["id"]),
            "episode": show("episode", row["episode_id"]) if row["episode_id"] else None,
            "incident": show("incident", row["of_incident"]) if row["of_incident"] else None,
        }
        | {name: row[name] for name in _KEPT}
        | {
            "components": components(row["components"], names),
            "impact": [
                dict(zip(("page", "slug", "name"), names[one.component], strict=True))
                | {"before": one.before, "after": one.after}
                for one in impacts.get(row["id"], ())
            ],
            "evidence": [
                item | ({"picture": found} if (found := pictures.get(item.get("run"))) else {})
                for item in row["evidence"]
            ],
            "original": row["original"]
            and row["original"] | {"components": components(row["original"]["components"], names)},
            "targets": saying(row, [one for one in publishers if one.page_id == row["page_id"]], names),
            "told": [one.slug for one in channels if one.page_id == row["page_id"] and _is_told(row, one)],
            "deliveries": [
                {"target": one["slug"]} | {name: one[name] for name in _DELIVERED}
                for one in deliveries[row["id"]]
            ],
            "still_open": open_still.get(row["of_incident"], []),
            "approvals": [{"by": one["by"], "at": one["at"]} for one in approvals[row["id"]]],
            "approvals_needed": Review.model_validate(row["review"] or {}).approvals,
        }
        for row in rows
    ]


_KEPT: Final = tuple(
    name
    for name in ShownAction.__struct_fields__
    if name
    not in ("id", "episode", "incident", "components", "impact", "original", "targets", "told", "deliveries")
    and name not in ("still_open", "approvals", "approvals_needed")
)
_DELIVERED: Final = ("status", "attempts", "last_error", "finished_at", "is_gone")


def saying(
    row: Row | Mapping[str, Any], publishers: Sequence[Stored], names: Mapping[str, tuple[str, str, str]]
) -> list[dict[str, Any]]:
    """Its own page, and the publishers that its incident goes to: what each is told."""
    paths = {"/".join(names[key][:2]): status for key, status in row["components"].items() if key in names}
    post = Post(
        id="",
        step=row["step"],
        incident="",
        kind="incident",
        page=row["page"],
        title=row["title"],
        status="",
        impact=row["impact"] or "none",
        at=0.0,
        began_at=0.0,
        components=paths,
        text=row["text"],
        is_markdown=row["is_markdown"],
        notify=row["notify"],
    )
    own = {"target": "page", "is_chosen": True, "title": post.title, "text": post.text}
    shown: list[dict[str, Any]] = [own | {"is_cut": False, "notes": []}]
    for stored in publishers:
        if row["goes_to"] is not None and stored.id not in row["goes_to"]:
            continue
        rule = PUBLISHER.validate_python(stored.spec)
        if rule.enabled:
            ours, is_chosen = fitted(post, rule), row["publishers"] is None or stored.id in row["publishers"]
            said = {"target": stored.slug, "is_chosen": is_chosen, "title": ours.title, "text": ours.text}
            shown.append(said | {"is_cut": is_cut(post, ours, rule), "notes": [*lost(post, ours, rule)]})
    return shown


def _is_told(row: Row, channel: Stored) -> bool:
    telling = drafts.waiting(row, 0.0, "")
    is_listed = telling.listed is None or channel.slug in telling.listed
    also: Told | None = None if row["episode_id"] else "incident"
    return wants(CHANNEL.validate_python(channel.spec), telling.notice, is_listed=is_listed, also=also)


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


async def home_of(db: Connection, row: Row) -> Stored:
    """The page of an action or incident."""
    found = await objects.get(db, row["page_id"])
    assert found is not None
    return found


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
    """Say yes to a revision: it is published in that transaction, once as many did as its page asks for.

    One more yes is harmless and shows who said the first.
    """
    services, sent = services_of(request), await read_body(request, Approval)
    return reply(await decide(services, asking, ref, approving(services, sent, base_url(request))))


def approving(services: Services, sent: Approval, public_url: str) -> Decision:
    """That a person approves this."""

    async def decision(db: Connection, by: Actor, action: UUID) -> Row:
        row = await reviews.one(db, action)
        if by.key_id in OPERATOR_KEYS and Review.model_validate(row["review"] or {}).approvals > 1:
            detail = "its page wants two people, and the machine's own token is nobody: sign in, or send a token of yours"
            raise ProblemError(403, "forbidden", detail)
        publishers = await publishers_of(db, await home_of(db, row), sent.publishers)
        if publishers is not None and row["goes_to"] is not None:
            publishers = [one for one in publishers if one in row["goes_to"]]
        return await reviews.approve(
            db,
            by,
            action,
            sent.revision,
            services.clock.epoch_s(),
            publishers=publishers,
            comment=sent.comment,
            public_url=public_url,
        )

    return decision


@router.post("/actions/{ref}/reject")
@permits(Permission.REVIEW)
@takes(Rejection)
@gives(ShownAction)
async def reject(request: Request, asking: Asking, ref: str) -> Response:
    """Say no."""
    services, sent = services_of(request), await read_body(request, Rejection)
    return reply(await decide(services, asking, ref, rejecting(services, sent)))


def rejecting(services: Services, sent: Rejection) -> Decision:
    """That a person rejects it."""
    return lambda db, by, action: reviews.reject(
        db, by, action, sent.reason, services.clock.epoch_s(), sent.revision
    )


@router.patch("/actions/{ref}")
@permits(Permission.REVIEW)
@takes(Wording)
@gives(ShownAction)
async def edit(request: Request, asking: Asking, ref: str) -> Response:
    """Change what a pending action says: a new revision, which nobody has approved yet."""
    services, sent = services_of(request), await read_body(request, Wording)
    return reply(await decide(services, asking, ref, editing(services, asking, sent)))


def editing(services: Services, asking: Principal, sent: Wording) -> Decision:
    """That a person changes what it says."""

    async def decision(db: Connection, by: Actor, action: UUID) -> Row:
        row = await reviews.one(db, action)
        named = sent.components and await affected(
            db, asking, await home_of(db, row), sent.components, row["components"]
        )
        return await reviews.edit(
            db,
            by,
            action,
            sent.revision,
            services.clock.epoch_s(),
            title=sent.title,
            text=sent.text,
            components=named,
            is_markdown=sent.is_markdown,
        )

    return decision
