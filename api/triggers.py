"""What triggers have beside being declared: versions, open signals, a record, and the promotion that lets them speak by themselves."""

from typing import Annotated, Any, Final

from msgspec.structs import asdict
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.named import NamedTrigger
from api.objects import answer
from api.paging import Cursor, Limit, NumberOnly, page, read_cursor
from api.problems import ProblemError, missing
from api.shapes import gives
from api.shown_triggers import ShownOpen, ShownRecord, ShownTrigger, ShownVersion
from engine.store import objects, pushed, received, records, triggers
from engine.store.database import Connection, Row, transaction
from engine.store.ids import show
from engine.store.objects import Stored
from engine.store.records import Record
from engine.store.states import ConflictError, moment
from rules.incident import Step
from rules.sentence import sentence
from rules.shape import Rule
from rules.trigger import Trigger

_TRIES: Final = 5

router = Router(prefix="/api/v1/triggers/{ref}", tags=["triggers"])


class Ended(Rule):
    """Which signal is over; that of absence has an empty fingerprint."""

    fingerprint: Annotated[str, Field(max_length=2000)]


class Promotion(Rule):
    """Which steps need no review any more, on the record that was read."""

    steps: Annotated[list[Step], Field(min_length=1, max_length=3)]
    record: Annotated[str, Field(max_length=100, description="`record` of the record, as it was read.")]


# ---- versions


@router.get("/versions")
@permits(Permission.READ)
@gives(ShownVersion, listed=True)
async def list_versions(
    request: Request, trigger: NamedTrigger, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Every version there ever was, newest first."""
    before = read_cursor(cursor, NumberOnly)
    async with services_of(request).pool.acquire() as db:
        rows = await received.versions(db, trigger.id, before=before[0] if before else None, limit=limit + 1)
    last = (rows[limit - 1]["revision"],) if len(rows) > limit else None
    return page(request, [_shown_version(row) for row in rows[:limit]], last)


@router.get("/versions/{revision}")
@permits(Permission.READ)
@gives(ShownVersion)
async def read_version(request: Request, trigger: NamedTrigger, revision: str) -> Response:
    """One version."""
    number = int(revision) if revision.isdecimal() and len(revision) < 19 else -1
    async with services_of(request).pool.acquire() as db:
        rows = await received.versions(db, trigger.id, revision=number)
    if not rows:
        raise missing(f"trigger {trigger.slug!r} has no revision {revision!r}")
    return reply(_shown_version(rows[0]))


def _shown_version(row: Row) -> dict[str, Any]:
    return {**row, "sentence": sentence(Trigger.model_validate(row["spec"]))}


# ---- signals


@router.get("/signals")
@permits(Permission.READ)
@gives(ShownOpen, listed=True)
async def list_trigger_signals(request: Request, trigger: NamedTrigger) -> Response:
    """What it has open, the newest first, at most 1000."""
    async with services_of(request).pool.acquire() as db:
        found = await records.opened(db, trigger.id)
    return reply({"items": [one._asdict() for one in found], "next": None})


@router.post("/signals/end", status_code=204)
@permits(Permission.WRITE)
@takes(Ended)
async def end_signal(request: Request, asking: Asking, trigger: NamedTrigger) -> Response:
    """Say that a signal is over. The next event that fires opens it again."""
    sent = await read_body(request, Ended)
    await end(services_of(request), asking, trigger, sent.fingerprint)
    return Response(status_code=204)


async def end(services: Services, asking: Principal, trigger: Stored, fingerprint: str) -> None:
    """End a signal by hand. Raises 403, 404, 503."""
    asking.require(Permission.WRITE, trigger.page_id)
    for _ in range(_TRIES):
        try:
            async with transaction(services.pool) as db:
                partitions = await triggers.end(
                    db, asking.actor, trigger, fingerprint, services.clock.epoch_s()
                )
        except ConflictError:
            continue
        if not partitions:
            raise missing(f"trigger {trigger.slug!r} has no open signal {fingerprint!r}")
        await services.bus.announce_each(pushed.SUBJECT, partitions)
        return
    raise ProblemError(
        503,
        "busy",
        "events come faster than this signal can be ended; try again",
        headers={"Retry-After": "1"},
    )


# ---- promotion


@router.get("/record")
@permits(Permission.READ)
@gives(ShownRecord)
async def read_record(request: Request, trigger: NamedTrigger) -> Response:
    """What it did since it has this rule, and what people made of it: what a promotion rests on."""
    async with services_of(request).pool.acquire() as db:
        return reply(await shown_record(db, trigger))


async def shown_record(db: Connection, trigger: Stored) -> dict[str, Any]:
    """The record of a trigger as the contract says."""
    found, rule, _ = await _record(db, trigger)
    return asdict(found) | {
        "since": moment(found.since) if found.since else None,
        "may_promote": found.lacks is None,
        "why_not": found.lacks,
        "record": found.digest(rule),
    }


async def _record(db: Connection, trigger: Stored) -> tuple[Record, Trigger, dict[str, Any] | None]:
    rule = Trigger.model_validate(trigger.spec)
    standing = (await records.standings(db, [trigger.id]))[trigger.id]
    return await records.record(db, trigger.id, rule, standing.tally), rule, standing.promoted


@router.post("/promote")
@permits(Permission.WRITE)
@takes(Promotion)
@gives(ShownTrigger)
async def promote_trigger(request: Request, asking: Asking, trigger: NamedTrigger) -> Response:
    """Let steps be taken without review. A file says `auto` itself; any other change of its rule makes this void for good.

    409 where the record is another than the one that was read, or has no real firing and recovery.
    """
    sent = await read_body(request, Promotion)
    return await answer(request, asking, await promote(services_of(request), asking, trigger, sent))


async def promote(services: Services, asking: Principal, trigger: Stored, sent: Promotion) -> Stored:
    """Promote `trigger`. Raises 403, 409."""
    asking.require(Permission.WRITE, trigger.page_id)
    async with transaction(services.pool) as db:
        trigger = await objects.find(db, "trigger", show("trigger", trigger.id), lock=True)
        found, rule, before = await _record(db, trigger)
        if sent.record != (digest := found.digest(rule)):
            said = "its record is another one now; read it again"
            raise ProblemError(409, "record-changed", said, record=digest)
        if found.lacks is not None:
            raise ProblemError(409, "no-record", found.lacks)
        known = before["steps"] if before and before["rule"] == rule.digest else []
        promoted = {
            "by": asking.name,
            "at": services.clock.epoch_s(),
            "rule": rule.digest,
            "steps": sorted({*known, *sent.steps}),
            "record": asdict(found),
        }
        incidents = trigger.spec.get("incidents", {}) | dict.fromkeys(sent.steps, "auto")
        if trigger.managed_by != "file" and incidents != trigger.spec.get("incidents"):
            trigger = await objects.replace(
                db, asking.actor, trigger, trigger.spec | {"incidents": incidents}
            )
        await triggers.promote(db, asking.actor, trigger, promoted)
    return trigger
