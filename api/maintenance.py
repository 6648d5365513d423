"""What is special to maintenance windows: one time of it is ended, extended or cancelled, and spoken of. Declaring is `api.objects`."""

from typing import Annotated, Literal, Self

import msgspec
from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, takes
from api.context import Services, services_of
from api.named import named
from api.objects import answer
from api.problems import ProblemError, invalid
from api.shapes import ShownMaintenance, gives
from api.windows import rule_of
from engine.bus import LIVE
from engine.store import announcing, objects
from engine.store.audit import record
from engine.store.database import Connection, transaction
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators.lifecycle import ENDED
from rules.duration import Duration
from rules.maintenance import MOST_S, Extended, Maintenance, Moment, Span
from rules.shape import Rule, expect_one, spec_of

MOST_ENDED = 500

router = Router(prefix="/api/v1/maintenances/{ref}", tags=["maintenances"])

Window = Annotated[Stored, named("maintenance")]


class Extension(Rule):
    """Until when the time of it that runs, or comes next, lasts: a time, or by how much longer."""

    until: Moment | None = None
    by: Annotated[Duration | None, Field(gt=0, le=MOST_S)] = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        expect_one("an extension", ("until", "by"), sorted(self.model_fields_set))
        return self


class Say(Rule):
    """An update of what was announced; without a status that stays what it is."""

    text: Annotated[str, Field(min_length=1, max_length=25_000)]
    status: Literal["in_progress", "verifying", "completed"] | None = None
    notify: bool = True
    is_markdown: bool = False


@router.post("/end")
@permits(Permission.WRITE)
@gives(ShownMaintenance)
async def end(request: Request, asking: Asking, stored: Window) -> Response:
    """End the time of it that runs now; one that comes again comes again. 409 when it does not run."""
    return await answer(request, asking, await ended(services_of(request), asking, stored))


@router.post("/extend")
@permits(Permission.WRITE)
@takes(Extension)
@gives(ShownMaintenance)
async def extend(request: Request, asking: Asking, stored: Window) -> Response:
    """Let the time of it that runs, or comes next, last longer. What was announced says so."""
    sent = await read_body(request, Extension)
    return await answer(request, asking, await extended(services_of(request), asking, stored, sent))


@router.post("/cancel")
@permits(Permission.WRITE)
@gives(ShownMaintenance)
async def cancel(request: Request, asking: Asking, stored: Window) -> Response:
    """Cancel the time of it that comes next; what runs is over early. One that comes again comes again."""
    return await answer(request, asking, await cancelled(services_of(request), asking, stored))


@router.post("/say")
@permits(Permission.REVIEW)
@takes(Say)
@gives(ShownMaintenance)
async def say(request: Request, asking: Asking, stored: Window) -> Response:
    """An update by a person of the time of it that was announced; `completed` ends it."""
    sent = await read_body(request, Say)
    return await answer(request, asking, await said(services_of(request), asking, stored, sent))


async def ended(services: Services, asking: Principal, stored: Stored) -> Stored:
    """The window with its running time ended."""
    now_s, span = _next(services, stored)
    if span[0] > now_s:
        raise _does_not_run(stored, span)
    return await cancelled(services, asking, stored)


async def cancelled(services: Services, asking: Principal, stored: Stored) -> Stored:
    """The window with its running time ended, or its next one left out."""
    now_s, span = _next(services, stored)
    moments = [*rule_of(stored).ended, moment(max(now_s, span[0]))]
    return await _changed(services, asking, stored, now_s, {"ended": moments[-MOST_ENDED:]})


async def extended(services: Services, asking: Principal, stored: Stored, sent: Extension) -> Stored:
    """The window whose running or next time lasts longer."""
    now_s, (start, end) = _next(services, stored)
    rule = rule_of(stored)
    until = rule.at(sent.until) if sent.until is not None else end + (sent.by or 0.0)
    if not end < until <= start + MOST_S:
        said = f"it lasts until {moment(end):%Y-%m-%dT%H:%MZ} already; name a later time, within a year"
        raise invalid([("/until" if sent.until is not None else "/by", said)])
    if rule.rrule is not None and rule.spans(end, until):
        raise ProblemError(
            409, "comes-again", f"{stored.slug} begins again before {moment(until):%Y-%m-%dT%H:%MZ}"
        )
    kept = [one for one in rule.extended if rule.at(one.start) != start]
    longer = {"start": moment(start), "end": moment(until)}
    return await _changed(
        services, asking, stored, now_s, {"extended": [*kept, Extended.model_validate(longer)][-MOST_ENDED:]}
    )


async def said(services: Services, asking: Principal, stored: Stored, sent: Say) -> Stored:
    """The window, of which this was said in public."""
    asking.require(Permission.REVIEW, stored.page_id)
    now_s = services.clock.epoch_s()
    async with transaction(services.pool) as db:
        await db.execute("SELECT FROM objects WHERE id = $1 FOR UPDATE", stored.id)
        rows = [row for row in await announcing.listing(db, [stored.id], now_s) if row["status"] not in ENDED]
        if not rows:
            raise ProblemError(
                409, "not-announced", f"customers were told of no time of {stored.slug} that lasts or comes"
            )
        runs = rows[0]["starts_at"].timestamp() <= now_s < rows[0]["ends_at"].timestamp()
        await announcing.say(
            db,
            rows[0],
            sent.text,
            sent.status,
            now_s,
            asking.name,
            notify=sent.notify,
            is_markdown=sent.is_markdown,
        )
        await record(
            db, asking.actor, "maintenance.say", stored.slug, stored.page_id, None, sent.model_dump()
        )
        if sent.status == "completed" and runs:
            stored = await _replaced(
                db, asking, stored, {"ended": [*rule_of(stored).ended, moment(now_s)][-MOST_ENDED:]}
            )
    await _announce(services, stored)
    return stored


def _next(services: Services, stored: Stored) -> tuple[float, Span]:
    """Now, and the time of it that runs, or else comes next."""
    now_s = services.clock.epoch_s()
    span = rule_of(stored).next(now_s)
    if span is None:
        raise _does_not_run(stored, span)
    return now_s, span


def _does_not_run(stored: Stored, span: Span | None) -> ProblemError:
    then = f"; its next time begins at {moment(span[0]):%Y-%m-%dT%H:%MZ}" if span else ""
    return ProblemError(409, "not-running", f"{stored.slug} does not run now{then}")


async def _changed(
    services: Services, asking: Principal, stored: Stored, now_s: float, what: dict[str, object]
) -> Stored:
    """The window with this changed, and what customers are to be told of that told."""
    async with transaction(services.pool) as db:
        stored = await _replaced(db, asking, stored, what)
        await announcing.follow(db, stored.id, now_s, asking.name)
    await _announce(services, stored)
    return stored


async def _replaced(db: Connection, asking: Principal, stored: Stored, what: dict[str, object]) -> Stored:
    """What it names may be gone by now: that is not asked again."""
    asking.require(*saving.needed(stored))
    rule: Maintenance = rule_of(stored).model_copy(update=what)
    return await objects.replace(db, asking.actor, stored, spec_of(rule))


async def _announce(services: Services, stored: Stored) -> None:
    await services.bus.announce(LIVE, msgspec.json.encode([{"event": "action", "page": str(stored.page_id)}]))
