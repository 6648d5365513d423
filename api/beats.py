"""What is special to beats: results, run now, pause and resume, history, uptime and latency. Declaring them is `api.objects`."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Self

from fastapi import Query
from pydantic import AwareDatetime, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.objects import PageRef, answer, locate
from api.paging import AtAndId, Cursor, Limit, page, read_cursor
from api.problems import ProblemError, invalid
from api.shapes import ShownBeat, ShownResult, gives
from engine.store import objects, results, states
from engine.store.audit import record
from engine.store.database import Connection, Row, transaction
from engine.store.ids import new_id, partition_of, show
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators.model import PHASES, ConfirmOrder, Kind, Stage
from evaluators.public import Span, bars
from rules.duration import Duration
from rules.shape import Rule

DAY_S: Final = 86400
_RANK: Final = {"ok": 0, "warning": 1, "critical": 2}
_DOWN: Final = frozenset({"critical"})
_LATENCY_STEPS: Final = 96
_POLL_S: Final = 0.1
_LAST_YEAR: Final = 9990

router = Router(prefix="/api/v1/beats/{ref}", tags=["beats"])


class Pause(Rule):
    """Until when a beat is paused: neither of the two means until somebody resumes it."""

    until: AwareDatetime | None = None
    for_: Duration | None = Field(default=None, alias="for", gt=0, le=366 * DAY_S)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.until is not None and self.for_ is not None:
            raise ValueError("until or for, not both")
        if self.until is not None and self.until.year > _LAST_YEAR:
            raise ValueError(
                f"until lies after {_LAST_YEAR}; leave it out to pause until somebody resumes it"
            )
        return self


async def find_beat(request: Request, asking: Asking, ref: str, page_ref: str | None) -> Stored:
    """The beat that the path names."""
    async with services_of(request).pool.acquire() as db:
        return await locate(db, asking, "beat", ref, page_ref)


@router.get("/results")
@permits(Permission.READ)
@gives(ShownResult, listed=True)
async def list_results(
    request: Request,
    asking: Asking,
    ref: str,
    page_ref: PageRef = None,
    region: Annotated[str | None, Query(max_length=63)] = None,
    kind: Kind | None = None,
    run_request: Annotated[str | None, Query(alias="request", max_length=100)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    async with services_of(request).pool.acquire() as db:
        beat = await locate(db, asking, "beat", ref, page_ref)
        before = read_cursor(cursor, AtAndId)
        rows = await results.listing(
            db, beat.id, region=region, kind=kind, request=run_request, before=before, limit=limit + 1
        )
    last = (rows[limit - 1]["scheduled_at"], rows[limit - 1]["run_id"]) if len(rows) > limit else None
    return page(request, [shown_result(row) for row in rows[:limit]], last)


def shown_result(row: Row) -> dict[str, Any]:
    """A row of `results` as the contract says."""
    failed = row["failure_type"] is not None
    return {
        "run": show("run", row["run_id"]),
        "verdict": row["verdict"],
        "kind": row["kind"],
        "region": row["region"],
        "at": row["at"],
        "scheduled_at": row["scheduled_at"],
        "attempts": row["attempts"],
        "timings": {phase: _seconds(row[phase]) for phase in PHASES},
        "assertions": [
            {"of": o["of"], "ok": o["ok"], "actual": o.get("actual"), "message": o.get("message", "")}
            | {"severity": o.get("severity", "critical")}
            for o in row["outcomes"] or []
        ],
        "error": {"type": row["failure_type"], "message": row["failure_message"]} if failed else None,
        "evidence": row["evidence"],
        "request": row["request"],
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)  # a `real` has no more


@router.post("/run", status_code=202)
@permits(Permission.WRITE)
async def run_now(
    request: Request,
    asking: Asking,
    ref: str,
    page_ref: PageRef = None,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the results.")] = 0,
) -> Response:
    """One `manual` run in each region, which never votes. With `wait`, 200 and the results when all are committed."""
    services, beat = services_of(request), await find_beat(request, asking, ref, page_ref)
    asking.require(Permission.WRITE, beat.page_id)
    if not services.bus.connected:
        raise ProblemError(503, "bus-away", "the bus cannot be reached, so no probe can be asked")
    async with transaction(services.pool) as db:
        regions = beat.spec.get("regions") or [r.slug for r in await objects.listing(db, "region")]
        name = f"req_{new_id().hex}"
        await record(db, asking.actor, "beat.run", beat.slug, beat.page_id, None, {"request": name})
    order = ConfirmOrder(str(beat.id), name, 1, 0.0, Kind.MANUAL)
    for region in regions:
        await services.bus.order(region, partition_of(beat.id), order)
    rows = await _awaited(services, beat, name, len(regions), wait) if wait else []
    body: dict[str, Any] = {
        "request": name,
        "regions": regions,
        "results": [shown_result(row) for row in rows],
    }
    return reply(body, 200 if len(rows) >= len(regions) else 202)


async def _awaited(services: Services, beat: Stored, name: str, wanted: int, wait_s: float) -> list[Row]:
    began_s = services.clock.monotonic_s()
    since = moment(services.clock.epoch_s() - DAY_S)
    while True:
        async with services.pool.acquire() as db:
            rows = await results.listing(db, beat.id, request=name, since=since)
        if len(rows) >= wanted or services.clock.monotonic_s() - began_s >= wait_s:
            return rows
        await asyncio.sleep(_POLL_S)


@router.post("/pause")
@permits(Permission.WRITE)
@takes(Pause)
@gives(ShownBeat)
async def pause(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Stop running it; also a file's beat, as this is no part of what it declares."""
    services, asked = services_of(request), await read_body(request, Pause)
    now_s = services.clock.epoch_s()
    until = asked.until or (moment(now_s + asked.for_) if asked.for_ is not None else None)
    if until is not None and until.timestamp() <= now_s:
        raise invalid([("/until", "this is in the past")])
    beat = await find_beat(request, asking, ref, page_ref)
    asking.require(Permission.WRITE, beat.page_id)
    async with transaction(services.pool) as db:
        await states.pause(db, asking.actor, beat, until)
    return await answer(request, asking, beat)


@router.post("/resume")
@permits(Permission.WRITE)
@gives(ShownBeat)
async def resume(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Run it again."""
    beat = await find_beat(request, asking, ref, page_ref)
    asking.require(Permission.WRITE, beat.page_id)
    async with transaction(services_of(request).pool) as db:
        await states.resume(db, asking.actor, beat)
    return await answer(request, asking, beat)


Days = Annotated[int, Query(ge=1, le=400)]


@router.get("/transitions")
@permits(Permission.READ)
async def list_transitions(
    request: Request, asking: Asking, ref: str, page_ref: PageRef = None, days: Days = 30, limit: Limit = 100
) -> Response:
    """Newest first, at most `limit`; the one before the period is among them."""
    services = services_of(request)
    since = moment(services.clock.epoch_s()) - timedelta(days=days)
    async with services.pool.acquire() as db:
        beat = await locate(db, asking, "beat", ref, page_ref)
        rows = await states.transitions(db, [beat.id], since=since)
    items = [{name: row[name] for name in ("at", "was", "stage", "votes")} for row in reversed(rows)]
    return reply({"items": items[:limit], "next": None})


@router.get("/uptime")
@permits(Permission.READ)
async def read_uptime(
    request: Request, asking: Asking, ref: str, page_ref: PageRef = None, days: Days = 90
) -> Response:
    """A bar a day, UTC: its worst stage, and the share of the time it was not critical, of the time anything was known."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        beat = await locate(db, asking, "beat", ref, page_ref)
        return reply(await uptime(db, beat, days, services.clock.epoch_s()))


async def uptime(db: Connection, beat: Stored, days: int, now_s: float) -> dict[str, Any]:
    """`bars` and the `up_ratio` of them all."""
    start_s = now_s // DAY_S * DAY_S - (days - 1) * DAY_S
    rows = await states.transitions(db, [beat.id], since=moment(start_s))
    spans = _spans(rows)
    daily = bars(spans, start=start_s, step_s=DAY_S, count=days, now=now_s, down=_DOWN, rank=_RANK)
    (whole,) = bars(spans, start=start_s, step_s=days * DAY_S, count=1, now=now_s, down=_DOWN, rank=_RANK)
    return {
        "bars": [{"start": moment(b.start), "stage": b.value, "up_ratio": b.up_ratio} for b in daily],
        "up_ratio": whole.up_ratio,
    }


def _spans(rows: list[Row]) -> list[Span]:
    ends = [row["at"].timestamp() for row in rows[1:]]
    return [
        Span(row["at"].timestamp(), end, Stage(row["stage"]))
        for row, end in zip(rows, [*ends, None], strict=False)  # no rows: no spans
    ]


@router.get("/latency")
@permits(Permission.READ)
async def read_latency(
    request: Request,
    asking: Asking,
    ref: str,
    page_ref: PageRef = None,
    hours: Annotated[int, Query(ge=1, le=30 * 24)] = 24,
) -> Response:
    """Per region and step: the median and 95th percentile of `total`, in seconds."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        beat = await locate(db, asking, "beat", ref, page_ref)
        return reply(await latency(db, beat, hours, services.clock.epoch_s()))


async def latency(db: Connection, beat: Stored, hours: int, now_s: float) -> dict[str, Any]:
    """`step` in seconds and `items` by time and region."""
    step_s = max(hours * 3600 // _LATENCY_STEPS, 30)
    since: datetime = moment(now_s - hours * 3600)
    rows = await results.latency(db, beat.id, since, step_s)
    items = [dict(row) | {"p50": _seconds(row["p50"]), "p95": _seconds(row["p95"])} for row in rows]
    return {"step": step_s, "items": items}
