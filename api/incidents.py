"""Incidents: read, and handled by people. What customers see of them is `api.status`'s, drafts are `api.reviews`'."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC
from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, read_json, reply, takes, validated
from api.context import Services, services_of
from api.meant import affected, publishers_of
from api.objects import IfMatch, PageRef, locate
from api.origin import base_url
from api.owned import OfBeat, OfGroup, components, listed
from api.paging import Cursor, Limit
from api.problems import invalid, missing
from api.reviews import home_of, shown_actions
from api.saving import expected_revision
from api.shapes import gives
from api.shown_incidents import ShownIncident, ShownSaid
from engine.bus import LIVE
from engine.store import broadcasts, by_hand, incidents, objects, reach, reviews
from engine.store.audit import Actor, record
from engine.store.database import Connection, Row, transaction
from engine.store.ids import read, show
from engine.store.incidents import Moment, Said
from engine.store.objects import StaleError, Stored
from evaluators.lifecycle import Dated, backfill_mistakes, impact_of
from evaluators.model import Impact
from rules import component, maintenance, page
from rules.owner import ComponentPath
from rules.shape import Name, Rule, Slug

router = Router(prefix="/api/v1", tags=["incidents"])

Status = Literal["investigating", "identified", "monitoring", "resolved"]
IncidentStatus = Literal["open", "investigating", "identified", "monitoring", "resolved"]
Words = Annotated[str, Field(min_length=1, max_length=25_000)]
Affected = Annotated[dict[ComponentPath, component.Impact], Field(max_length=100)]
At = Annotated[maintenance.Moment, AfterValidator(lambda at: at if at.tzinfo else at.replace(tzinfo=UTC))]
_NOTIFY: Final = "is missing: say true or false, whether subscribers are told"


class DatedUpdate(Rule):
    """What customers were told then."""

    at: At
    status: Status
    text: Words


class Backfilled(Rule):
    """When it was; without `updates`, the incident's status and text are its only one, at its end."""

    started_at: At
    acknowledged_at: At | None = None
    resolved_at: At | None = None
    updates: list[DatedUpdate] = Field(default=[], max_length=200)


class Speech(Rule):
    """What an update says. A list of components replaces the one before."""

    notify: bool
    components: Affected | None = None
    impact: Impact | None = None
    is_markdown: bool = False
    draft: bool = False


class NewIncident(Speech):
    """An incident by hand. `publishers`: slugs of those it goes to; not given, to all of its page."""

    page: Slug | None = None
    title: Name
    status: Status = "investigating"
    text: Words | None = None
    publishers: list[Slug] | None = Field(default=None, max_length=100)
    backfilled: Backfilled | None = None


class NewUpdate(Speech):
    """An update; without a status that stays what it is."""

    status: Status | None = None
    text: Words


class Edit(Rule):
    """What changes without a word; `impact` null: what follows from the severity or the components."""

    title: Name | None = None
    components: Affected | None = None
    impact: Impact | None = None


class Text(Rule):
    """Words."""

    text: Words


class Into(Rule):
    """The incident that goes on."""

    into: str = Field(max_length=100)


# ---- read


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
    query = partial(incidents.listing, status=status, kind="incident")
    return await listed(request, asking, page_ref, limit, cursor, (beat, group), query, shown_incidents)


@router.get("/incidents/{ref}")
@permits(Permission.READ)
@gives(ShownIncident)
async def read_incident(request: Request, asking: Asking, ref: str) -> Response:
    """One incident."""
    async with services_of(request).pool.acquire() as db:
        (item,) = await shown_incidents(db, [await find_incident(db, asking, ref)])
    return _shown(item)


async def find_incident(
    db: Connection, asking: Principal, ref: str, permission: Permission = Permission.READ
) -> Row:
    """The incident that a path names, if they may do that to it. Raises 403, 404."""
    incident_id, pages = read("incident", ref), asking.pages_for(Permission.READ)
    found = incident_id and await incidents.listing(
        db, pages=pages, incident=incident_id, kind="incident", limit=1
    )
    if not found:
        raise missing(f"there is no incident {ref!r}")
    asking.require(permission, found[0]["page_id"])
    return found[0]


async def shown_incidents(db: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Incidents as JSON, updates newest first."""
    updates = await incidents.updates(db, [row["id"] for row in rows])
    said = [*rows, *(update for row in rows for update in updates[row["id"]])]
    names = await incidents.component_names(db, sorted({c for one in said for c in one["components"]}))
    publishers = {publisher for row in rows for publisher in row["publishers"] or ()}
    slugs = {one.id: one.slug for one in await objects.several(db, list(publishers))} if publishers else {}
    open_still = await reach.still_open(db, [row["id"] for row in rows])
    times = ("created_at", "acknowledged_at", "resolved_at", "revision")
    kept = (*times, "title", "status", "page", "owner", "owner_kind", "by", "taken_over_by", "is_backfilled")
    told = ("status", "text", "is_markdown", "notify", "at", "by", "edited_at", "edited_by")
    return [
        {"id": show("incident", row["id"])}
        | {name: row[name] for name in kept}
        | {
            "impact": impact_of(row["severity"], row["components"].values(), row["impact"]),
            "impact_by": "person" if row["impact"] else "default",
            "episode": show("episode", row["episode_id"]) if row["episode_id"] else None,
            "merged_into": show("incident", row["merged_into"]) if row["merged_into"] else None,
            "publishers": None
            if row["publishers"] is None
            else sorted(slugs[one] for one in row["publishers"] if one in slugs),
            "components": components(row["components"], names),
            "updates": [
                {"id": show("update", u["id"]), "components": components(u["components"], names)}
                | {name: u[name] for name in told}
                for u in updates[row["id"]]
            ],
            "still_open": open_still[row["id"]],
            "report": None
            if row["report"] is None
            else {"text": row["report"]} | {name: row[f"report_{name}"] for name in ("status", "at", "by")},
        }
        for row in rows
    ]


# ---- begun and spoken of


@router.post("/incidents", status_code=201)
@permits(Permission.REVIEW)
@takes(NewIncident)
@gives(ShownSaid)
async def create_incident(request: Request, asking: Asking, page_ref: PageRef = None) -> Response:
    """Begin one, or enter one that is over (`backfilled`). 202 with the action where it is to be reviewed first."""
    sent = validated(NewIncident, await _read_speech(request))
    item = await create(services_of(request), asking, sent, page_ref, base_url(request))
    return reply(item, 202 if "step" in item else 201)


@router.post("/incidents/{ref}/updates", status_code=201)
@permits(Permission.REVIEW)
@takes(NewUpdate)
@gives(ShownSaid)
async def create_update(request: Request, asking: Asking, ref: str) -> Response:
    """Say something of it; of one that is over, another status opens it again. 202 with the action where it is to be reviewed first."""
    sent = validated(NewUpdate, await _read_speech(request))
    item = await update(services_of(request), asking, ref, sent, base_url(request))
    return reply(item, 202 if "step" in item else 201)


async def _read_speech(request: Request) -> Any:
    document = await read_json(request)
    if isinstance(document, dict) and "notify" not in document:
        raise invalid([("/notify", _NOTIFY)])
    return document


async def create(
    services: Services, asking: Principal, sent: NewIncident, page_ref: str | None, public_url: str
) -> dict[str, Any]:
    """The new incident with who is notified, or the action that asks for it."""
    now_s = services.clock.epoch_s()
    async with transaction(services.pool) as db:
        home = await page_of(db, asking, sent.page or page_ref)
        text = _text_of(sent)
        said = Said(
            "open",
            sent.status,
            sent.title,
            text,
            await affected(db, asking, home, sent.components or {}),
            now_s,
            asking.name,
            impact=sent.impact,
            notify=sent.notify,
            is_markdown=sent.is_markdown,
            publishers=await publishers_of(db, home, sent.publishers),
            is_by_hand=True,
            public_url=public_url,
        )
        if sent.backfilled is not None:
            item = await _answer(db, await _backfill(db, asking.actor, home, said, sent), ())
        elif sent.draft or _wants_approval(home):
            item = await _drafted(db, asking, home, said)
        else:
            item = await _answer(
                db, *await by_hand.begin(db, asking.actor, home.id, said), notify=sent.notify
            )
    await announce(services, home.id)
    return item


async def update(
    services: Services, asking: Principal, ref: str, sent: NewUpdate, public_url: str
) -> dict[str, Any]:
    """The incident with who is notified, or the action that asks for the update."""
    moment = Moment(services.clock.epoch_s(), public_url)
    async with transaction(services.pool) as db:
        found = await find_incident(db, asking, ref, Permission.REVIEW)
        home = await home_of(db, found)
        named = sent.components and await affected(db, asking, home, sent.components, found["components"])
        row, said = await by_hand.update_of(
            db,
            asking.actor,
            found["id"],
            moment,
            status=sent.status,
            text=sent.text,
            components=named,
            impact=sent.impact,
            notify=sent.notify,
            is_markdown=sent.is_markdown,
        )
        if sent.draft or _wants_approval(home):
            item = await _drafted(db, asking, home, said, found["id"])
        else:
            item = await _answer(
                db, found["id"], await by_hand.say(db, asking.actor, row, said), notify=sent.notify
            )
    await announce(services, home.id)
    return item


def _text_of(sent: NewIncident) -> str:
    past = sent.backfilled
    if past is None or not past.updates:
        if sent.text is None:
            raise invalid([("/text", "is missing: say what customers are to read")])
    elif sent.text is not None or "status" in sent.model_fields_set:
        where = "/text" if sent.text is not None else "/status"
        raise invalid(
            [(where, "is that of the only update; there are several: say it in backfilled.updates")]
        )
    return sent.text or ""


def _wants_approval(home: Stored) -> bool:
    return page.Page.model_validate(home.spec).review.approvals > 1


async def _backfill(db: Connection, actor: Actor, home: Stored, said: Said, sent: NewIncident) -> UUID:
    past = sent.backfilled
    assert past is not None
    if sent.notify:
        raise invalid([("/notify", "is true; what is entered after the fact notifies nobody: send false")])
    if sent.draft or _wants_approval(home):
        raise invalid([("/backfilled", "is no draft, and not for a page that wants two approvals")])
    began = past.started_at.timestamp()
    acknowledged, resolved = (
        at.timestamp() if at else None for at in (past.acknowledged_at, past.resolved_at)
    )
    updates = [Dated(one.at.timestamp(), one.status, one.text) for one in past.updates]
    updates = updates or [Dated(resolved or began, sent.status, said.text)]
    if mistakes := backfill_mistakes(began, acknowledged, resolved, updates, said.at):
        raise invalid([(f"/backfilled{where}", what) for where, what in mistakes])
    said = replace(said, at=began)
    return await by_hand.backfill(db, actor, home.id, said, updates, acknowledged, resolved)


async def _drafted(
    db: Connection, asking: Principal, home: Stored, said: Said, incident: UUID | None = None
) -> dict[str, Any]:
    action = await reviews.draft(db, home.id, said, incident)
    await record(db, asking.actor, "action.draft", str(action), home.id)
    (item,) = await shown_actions(db, [await reviews.one(db, action)])
    return item


async def _answer(
    db: Connection, incident: UUID, told: Sequence[str], *, notify: bool = False
) -> dict[str, Any]:
    (row,) = await incidents.listing(db, incident=incident)
    (item,) = await shown_incidents(db, [row])
    heard = await broadcasts.reach(db, row["page_id"], row["named"]) if notify else 0
    return item | {"notified": {"subscribers": heard, "targets": told}}


async def page_of(
    db: Connection, asking: Principal, ref: str | None, permission: Permission = Permission.REVIEW
) -> Stored:
    """The page that is named, or the only one."""
    if ref is not None:
        found = await locate(db, asking, "page", ref)
    else:
        pages = await objects.listing(db, "page", pages=asking.pages_for(permission), limit=20)
        if len(pages) != 1:
            named = ", ".join(one.slug for one in pages)
            why = f"there are several, such as {named}" if pages else "there is none"
            raise invalid([("/page", f"is missing: {why}")])
        found = pages[0]
    asking.require(permission, found.id)
    return found


# ---- changed


Work = Callable[[Connection, Actor, UUID, Moment], Coroutine[Any, Any, None]]


async def handle(
    services: Services, asking: Principal, ref: str, work: Work, public_url: str, expected: int | None = None
) -> dict[str, Any] | None:
    """Do this with the incident `ref`, tell live viewers, and show what it is now; None once it is deleted.

    `expected` is its revision then. Raises `StaleError`.
    """
    moment = Moment(services.clock.epoch_s(), public_url, asking.name)
    async with transaction(services.pool) as db:
        row = await find_incident(db, asking, ref, Permission.REVIEW)
        if expected is not None:
            (held,) = await incidents.held(db, row["id"])
            if held["revision"] != expected:
                raise StaleError(held["revision"])
        await work(db, asking.actor, row["id"], moment)
        rows = await incidents.listing(db, incident=row["id"])
        item = (await shown_incidents(db, rows))[0] if rows else None
    await announce(services, row["page_id"])
    return item


async def announce(services: Services, page_id: UUID) -> None:
    """Let whoever watches the page of an incident look again."""
    await services.bus.announce(LIVE, msgspec.json.encode([{"event": "action", "page": str(page_id)}]))


async def _handled(
    request: Request, asking: Principal, ref: str, work: Work, if_match: str | None = None
) -> Response:
    expected = expected_revision(if_match)
    item = await handle(services_of(request), asking, ref, work, base_url(request), expected)
    return _shown(item) if item else Response(status_code=204)


def _shown(item: dict[str, Any]) -> Response:
    return reply(item, headers={"ETag": f'"{item["revision"]}"'})


@router.patch("/incidents/{ref}")
@permits(Permission.REVIEW)
@takes(Edit)
@gives(ShownIncident)
async def edit_incident(request: Request, asking: Asking, ref: str, if_match: IfMatch = None) -> Response:
    """Change its title, components or impact without a word to anybody; publishers follow."""
    sent = await read_body(request, Edit)
    work = await edit(services_of(request), asking, ref, sent)
    return await _handled(request, asking, ref, work, if_match)


async def edit(services: Services, asking: Principal, ref: str, sent: Edit) -> Work:
    """The work of changing it so."""
    changes = {key: value for key, value in sent if value is not None}
    if "impact" in sent.model_fields_set:
        changes["impact"] = sent.impact
    if sent.components is not None:
        async with services.pool.acquire() as db:
            found = await find_incident(db, asking, ref, Permission.REVIEW)
            home = await home_of(db, found)
            changes["components"] = await affected(db, asking, home, sent.components, found["components"])
    return partial(by_hand.edit, changes=changes)


@router.patch("/incidents/{ref}/updates/{update_ref}")
@permits(Permission.REVIEW)
@takes(Text)
@gives(ShownIncident)
async def edit_update(
    request: Request, asking: Asking, ref: str, update_ref: str, if_match: IfMatch = None
) -> Response:
    """Correct what an update says, here and where it has not left yet."""
    sent = await read_body(request, Text)
    work = partial(by_hand.reword, update=read("update", update_ref), text=sent.text)
    return await _handled(request, asking, ref, work, if_match)


@router.delete("/incidents/{ref}", status_code=204)
@permits(Permission.REVIEW)
async def delete_incident(request: Request, asking: Asking, ref: str) -> Response:
    """Take it away: nobody sees it any more, here and elsewhere. It is kept in the database, and audited."""
    return await _handled(request, asking, ref, by_hand.remove)


@router.post("/incidents/{ref}/merge")
@permits(Permission.REVIEW)
@takes(Into)
@gives(ShownIncident)
async def merge_incident(request: Request, asking: Asking, ref: str) -> Response:
    """Let another one go on for both; what this one is then is shown. Nobody is notified."""
    sent = await read_body(request, Into)
    return await _handled(request, asking, ref, await merge(services_of(request), asking, sent))


async def merge(services: Services, asking: Principal, sent: Into) -> Work:
    """The work of merging one into this."""
    async with services.pool.acquire() as db:
        other = await find_incident(db, asking, sent.into, Permission.REVIEW)
    return partial(by_hand.merge, into=other["id"])


@router.post("/incidents/{ref}/take-over")
@permits(Permission.REVIEW)
@gives(ShownIncident)
async def take_over(request: Request, asking: Asking, ref: str) -> Response:
    """Speak of it instead of its beat or group, which says nothing more by itself; its drafts are withdrawn."""
    return await _handled(request, asking, ref, by_hand.take_over)


@router.post("/incidents/{ref}/hand-back")
@permits(Permission.REVIEW)
@gives(ShownIncident)
async def hand_back(request: Request, asking: Asking, ref: str) -> Response:
    """Let its beat or group speak again; where that has recovered meanwhile, the end is a draft."""
    return await _handled(request, asking, ref, by_hand.hand_back)


@router.put("/incidents/{ref}/report")
@permits(Permission.REVIEW)
@takes(Text)
@gives(ShownIncident)
async def write_report(request: Request, asking: Asking, ref: str) -> Response:
    """Write what was learnt, as Markdown: a draft, or another text of what is published."""
    sent = await read_body(request, Text)
    return await _handled(request, asking, ref, partial(by_hand.report, text=sent.text))


@router.post("/incidents/{ref}/report/{verb}")
@permits(Permission.REVIEW)
@gives(ShownIncident)
async def publish_report(
    request: Request, asking: Asking, ref: str, verb: Literal["publish", "unpublish"]
) -> Response:
    """Show it with the incident, which is over; or make it a draft again."""
    return await _handled(request, asking, ref, partial(by_hand.report, is_public=verb == "publish"))


@router.delete("/incidents/{ref}/report")
@permits(Permission.REVIEW)
@gives(ShownIncident)
async def delete_report(request: Request, asking: Asking, ref: str) -> Response:
    """Take it away."""
    return await _handled(request, asking, ref, by_hand.report)
