"""Previews under /api/v1: what a rule would make of stored events and pasted samples. They run elsewhere; here they are asked for."""

import asyncio
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from fastapi import Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api import replays, saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.objects import locate
from api.problems import ProblemError, invalid, missing
from api.received import Fired, traced
from api.replays import MOST_DAYS, Ref
from api.shapes import gives
from api.shown_preview import ShownPreview
from api.shown_triggers import ShownSeen
from api.uptime import read_span, read_time
from engine.store import jobs, objects, previews, received, states
from engine.store.database import Connection, Row, transaction
from engine.store.ids import read, show
from engine.store.objects import Stored
from engine.store.previews import SAMPLE, Plan, Sample, Side
from engine.store.states import moment
from rules.duration import Duration
from rules.shape import Rule, spec_of
from rules.subject import rule_of
from rules.trigger import Trigger

OfEvent = Annotated[str, Query(max_length=100, description="The id of a line.")]
APART_S: Final = 60.0
"""Between samples that do not say when they came."""

router = Router(prefix="/api/v1/previews", tags=["previews"])


class Pasted(Fired):
    """A delivery that was not received: text as it is, anything else as JSON."""

    at: str | None = Field(
        default=None,
        max_length=60,
        description="When it comes; a minute after the one before when not given.",
    )


class Against(Rule):
    """What to compare with: another rule, or a version of the trigger."""

    rule: dict[str, Any] | None = Field(default=None, description="A trigger as it would be declared.")
    revision: int | None = Field(default=None, ge=1, description="A version that the trigger had.")


class AskedPreview(Rule):
    """Which rule to try, on what. Nothing but the preview itself comes of it."""

    rule: dict[str, Any] | None = Field(default=None, description="A trigger as it would be declared.")
    trigger: Ref | None = Field(default=None, description="Instead of it, one that is: slug or id.")
    revision: int | None = Field(default=None, ge=1, description="A version that the trigger had.")
    against: Against | Literal["saved"] | None = Field(
        default=None,
        description="What to compare with; `saved` is the trigger of that slug as it is declared now.",
    )
    page: Ref | None = Field(default=None, description="The page of the trigger, where that is not clear.")
    inbox: Ref | None = Field(default=None, description="Another inbox than the rule's.")
    since: str = Field(
        default="30d", max_length=60, description="From when: RFC 3339, or a duration, so long ago."
    )
    until: str = Field(default="0s", max_length=60, description="Until when, likewise.")
    stored: bool = Field(default=True, description="Whether it is over stored events, or over samples alone.")
    samples: Annotated[list[Pasted], Field(max_length=50)] = Field(
        default=[], description="Deliveries that come after the stored ones."
    )
    budget: Duration = Field(
        default=10.0,
        ge=1,
        le=120,
        description="How long it may take; what was found by then is what there is.",
    )


@router.post("", status_code=202)
@permits(Permission.READ)
@takes(AskedPreview)
@gives(ShownPreview)
async def create_preview(request: Request, asking: Asking) -> Response:
    """Begin a preview: 202 with its id. It is kept for an hour.

    A rule that is written here, or of another inbox, is tried on stored events by an editor only: its conditions see what is not shown.
    """
    made = await begin(request, asking, await read_body(request, AskedPreview))
    async with services_of(request).pool.acquire() as db:
        row = await find(db, asking, made)
    return reply(replays.timed(shown_preview(row)), 202, {"Location": f"/api/v1/previews/{made}"})


@router.get("/{preview}")
@permits(Permission.READ)
@gives(ShownPreview)
async def read_preview(request: Request, asking: Asking, preview: str) -> Response:
    """How far it is, and what it found so far: of one rule `findings`, of two the `difference`."""
    async with services_of(request).pool.acquire() as db:
        row = await find(db, asking, preview)
    return await asyncio.to_thread(lambda: reply(replays.timed(shown_preview(row))))


@router.get("/{preview}/trace")
@permits(Permission.READ)
@gives(ShownSeen)
async def trace_preview(
    request: Request, asking: Asking, preview: str, event: OfEvent, of: Literal["old", "new"] = "new"
) -> Response:
    """Why a rule of a preview makes of an event what it does; `event` is the id of a line, `old` is what was compared with."""
    async with services_of(request).pool.acquire() as db:
        job = await find(db, asking, preview)
        plan = previews.decode_plan(await jobs.plan_of(db, job["id"]))
        row = _pasted(plan, event)
        if row is None and plan.inbox and (event_id := read("event", event)):
            row = await received.one(db, event_id)
    if row is None or row["inbox_id"] != plan.inbox:
        raise missing(f"this preview is not over an event {event!r}")
    rule = Trigger.model_validate(plan.sides[-1 if of == "new" else 0].rule)
    return reply(await asyncio.to_thread(traced, row, plan.hidden, rule))


@router.delete("/{preview}", status_code=204)
@permits(Permission.READ)
async def cancel_preview(request: Request, asking: Asking, preview: str) -> Response:
    """Nobody wants it any more: it ends within a second."""
    return await replays.cancel(request, asking, preview, "preview")


async def find(db: Connection, asking: Principal, text: str) -> Row:
    """The preview called so, if they may read its page. Raises 404."""
    return await replays.find(db, asking, text, "preview")


async def begin(request: Request, asking: Principal, asked: AskedPreview) -> str:
    """Store what was asked and have it run; its id. Raises 403, 404, 409, 422, 429."""
    services = services_of(request)
    now = services.clock.epoch_s()
    since, until = read_span(asked.since, asked.until, now, MOST_DAYS)
    if (asked.rule is None) is (asked.trigger is None):
        raise invalid([("/rule", "say which rule to try: either `rule` or `trigger`")])
    if not asked.stored and not asked.samples:
        raise invalid([("/samples", "there is nothing to try it on; paste one, or leave `stored` on")])
    samples = _samples(asked, until, now)
    if not asked.stored:
        since, until = samples[0].at - 1.0, samples[-1].at
    async with transaction(services.pool) as db:
        rules, page_id = await _rules(services, db, asking, asked)
        asking.require(Permission.READ, page_id)
        if asked.inbox is not None:
            inbox = await locate(db, asking, "inbox", asked.inbox, asked.page)
        else:
            inbox = await objects.find(db, "inbox", rules[-1].inbox, pages=[page_id] if page_id else None)
        compared = asked.against.rule if isinstance(asked.against, Against) else None
        if asked.stored and any(one is not None for one in (asked.rule, compared, asked.inbox)):
            # Conditions of one's own, or of one's own page, ask what they like of what is hidden: that is for who may save them.
            asking.require(Permission.WRITE, inbox.page_id)
        sides = [await _side(db, rule, page_id) for rule in rules]
        hidden = inbox.spec.get("redact", [])
        plan = Plan(sides, inbox.id if asked.stored else None, hidden, since, until, samples)
        shown = {
            **asked.model_dump(mode="json", exclude={"samples"}),
            "since": moment(since),
            "until": moment(until),
            "samples": len(samples),
        }
        pages = {one for one in (page_id, inbox.page_id) if one is not None}
        row = await replays.keep(db, "preview", asking, pages, shown, plan)
    services.start_job("preview", row["id"], 1, asked.budget)
    return show("preview", row["id"])


async def _rules(
    services: Services, db: Connection, asking: Principal, asked: AskedPreview
) -> tuple[list[Trigger], UUID | None]:
    """The rule that is tried, behind the one it is compared with; and its page."""
    stored = await locate(db, asking, "trigger", asked.trigger, asked.page) if asked.trigger else None
    if stored is None:
        rule, page_id = await _written(services, db, asking, asked.rule, asked.page, "/rule")
    else:
        rule, page_id = await _version(db, stored, asked.revision, "/revision"), stored.page_id
    against = asked.against
    if against is None:
        return [rule], page_id
    if isinstance(against, Against) and (against.rule is None) is (against.revision is None):
        raise invalid(
            [("/against", "say what to compare with: `rule`, `revision`, or `saved` instead of both")]
        )
    if isinstance(against, Against) and against.rule is not None:
        other, home = await _written(services, db, asking, against.rule, asked.page, "/against/rule")
        if home != page_id:
            raise invalid([("/against/rule/page", "both rules are of one page")])
        return [other, rule], page_id
    if stored is None:
        stored = await objects.find(db, "trigger", rule.slug, pages=[page_id] if page_id else None)
    revision = against.revision if isinstance(against, Against) else None
    return [await _version(db, stored, revision, "/against/revision"), rule], page_id


async def _written(
    services: Services, db: Connection, asking: Principal, document: Any, page: str | None, place: str
) -> tuple[Trigger, UUID | None]:
    """A rule from the request, refused as if it was to be saved."""
    try:
        rule, page_id = await saving.tried(services, db, asking, "trigger", document, page)
    except ProblemError as wrong:
        if not wrong.errors:
            raise
        raise invalid([(place + pointer, said) for pointer, said in wrong.errors]) from None
    assert isinstance(rule, Trigger)
    return rule, page_id


async def _version(db: Connection, stored: Stored, revision: int | None, place: str) -> Trigger:
    if revision is None or revision == stored.revision:
        return Trigger.model_validate(stored.spec)
    found = await received.versions(db, stored.id, revision=revision, limit=1)
    if not found:
        raise invalid([(place, f"there is no revision {revision} of trigger {stored.slug!r}")])
    return Trigger.model_validate(found[0]["spec"])


async def _side(db: Connection, rule: Trigger, page_id: UUID | None) -> Side:
    """`rule` with what its signals would be about, as that is declared now."""
    kind: Literal["beat", "group"] = "group" if rule.target.group else "beat"
    slug = rule.target.group or rule.target.beat or rule.target.external or ""
    try:
        target = await objects.find(db, kind, slug, pages=[page_id] if page_id else None)
    except objects.MissingError:
        return Side(spec_of(rule), kind)
    owner = rule_of(kind, target.spec)
    components = await previews.component_names(db, page_id, owner.components)
    members = (await states.members(db, [target.id]))[target.id] if kind == "group" else ()
    return Side(spec_of(rule), kind, target.spec, components, len(members))


def _samples(asked: AskedPreview, until: float, now: float) -> list[Sample]:
    """What was pasted, in the order of time. The first comes when the stored ones end, unless it says when."""
    found, at = list[Sample](), until - APART_S if asked.stored else now - APART_S * (len(asked.samples) + 1)
    for number, pasted in enumerate(asked.samples):
        at = read_time(f"samples/{number}/at", pasted.at, now) if pasted.at is not None else at + APART_S
        headers, body = pasted.sent()
        found.append(Sample(at, headers, pasted.query, body))
    return sorted(found, key=lambda one: one.at)


def _pasted(plan: Plan, event: str) -> Any:
    """The sample of this name, as if it was stored."""
    number = event.removeprefix(f"{SAMPLE} ")
    if number == event or not number.isdecimal() or not 0 < int(number) <= len(plan.samples):
        return None
    sample = plan.samples[int(number) - 1]
    return {name: getattr(sample, name) for name in ("headers", "query", "body")} | {
        "id": UUID(int=0),
        "inbox_id": plan.inbox,
        "received": sample.at,
        "tested_by": None,
    }


# ---- as it is shown


def shown_preview(row: Row) -> dict[str, Any]:
    """A stored preview; times in what was found are seconds since the epoch. `is_cut`: its time was over before it was done."""
    found: dict[str, Any] = msgspec.json.decode(row["found"]) if row["found"] else {}
    shown = replays.shown_job("preview", row) | {"is_cut": row["is_cut"]}
    return shown | {name: found.get(name) for name in ("findings", "difference")}
