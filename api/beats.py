"""What is special to beats: results and sums of them, run now. Declaring is `api.objects`."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from api import artifacts
from api.auth import Asking, Permission, Router, permits
from api.body import reply
from api.context import Services, services_of
from api.objects import PageRef, locate
from api.paging import AtAndId, Cursor, Limit, page, read_cursor
from api.problems import ProblemError
from api.shapes import ShownResult, ShownSummary, gives
from engine.store import objects, results, rollups
from engine.store.audit import record
from engine.store.database import Connection, Row, transaction
from engine.store.ids import new_id, partition_of, show
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators import sketch
from evaluators.model import PHASES, ConfirmOrder, Kind, Verdict
from evaluators.uptime import of_runs
from rules.beat import BEAT
from rules.kinds.kind import ProbedRule

HOUR_S: Final = 3600
DAY_S: Final = 86400
Span = Literal["1d", "7d", "14d", "30d", "90d", "365d"]
SPANS: Final[dict[Span, int]] = {"1d": 1, "7d": 7, "14d": 14, "30d": 30, "90d": 90, "365d": 365}  # days
_LATENCY_STEPS: Final = 96
_RAW_HOURS: Final = 24
_QUANTILES: Final = (0.5, 0.75, 0.9, 0.95, 0.99)
_POLL_S: Final = 0.1

router = Router(prefix="/api/v1/beats/{ref}", tags=["beats"])


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
        "tried": [
            {
                "after": _seconds(attempt["after_s"]),
                "timings": {phase: _seconds(s) for phase, s in zip(PHASES, attempt["timings"], strict=True)},
                "error": attempt["failure"],
            }
            for attempt in row["tried"] or []
        ],
        "assertions": [
            {"of": o["of"], "ok": o["ok"], "actual": o.get("actual"), "message": o.get("message", "")}
            | {"severity": o.get("severity", "critical"), "step": o.get("step", ""), "key": o.get("key", "")}
            for o in row["outcomes"] or []
        ],
        "error": {"type": row["failure_type"], "message": row["failure_message"]} if failed else None,
        "evidence": row["evidence"],
        "artifacts": artifacts.of_result(row),
        "certificate_days": _seconds(row["certificate_days"]),
        "trace_id": row["trace_id"].hex if row["trace_id"] else None,
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
    rule = BEAT.validate_python(beat.spec)
    if not isinstance(rule, ProbedRule):
        raise ProblemError(409, "wrong-type", rule.not_run())
    if not services.bus.connected:
        raise ProblemError(503, "bus-away", "the bus cannot be reached, so no probe can be asked")
    async with transaction(services.pool) as db:
        regions = rule.regions or [r.slug for r in await objects.listing(db, "region")]
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


@router.get("/summary")
@permits(Permission.READ)
@gives(ShownSummary)
async def read_summary(
    request: Request,
    asking: Asking,
    ref: str,
    page_ref: PageRef = None,
    span: Annotated[Span, Query(alias="range")] = "7d",
    region: Annotated[str | None, Query(max_length=63)] = None,
) -> Response:
    """Scheduled runs by verdict, the newest, and percentiles of each phase: per region and of all together."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        beat = await locate(db, asking, "beat", ref, page_ref)
        return reply(await summary(db, beat, SPANS[span], services.clock.epoch_s(), region))


async def summary(
    db: Connection, beat: Stored, days: int, now_s: float, region: str | None = None
) -> dict[str, Any]:
    """`since` (a full hour, so many days ago), `all` and `regions`."""
    since = moment(now_s // HOUR_S * HOUR_S - days * DAY_S)
    rows = await rollups.read(db, beat.id, since, region=region)
    return {
        "since": since,
        "all": _sum(rows),
        "regions": [_sum([row]) | {"region": row["region"]} for row in rows],
    }


def _sum(rows: Sequence[Row]) -> dict[str, Any]:
    counts = {verdict.value: sum(row[verdict] for row in rows) for verdict in Verdict}
    runs = sum(counts.values())
    last = max(rows, key=lambda row: row["last_at"], default=None)
    errors: Counter[str] = Counter()
    for row in rows:
        errors.update(row["failures"])
    kept = [rollups.sketches(row) for row in rows]
    phases = {phase: sketch.merged(k[phase] for k in kept if phase in k) for phase in PHASES}
    return {
        "runs": runs,
        **counts,
        "runs_up_ratio": of_runs(**counts).uptime,
        "errors": dict(errors.most_common()),
        "last": {"at": last["last_at"], "verdict": last["last_verdict"]} if last else None,
        "quantiles": {
            phase: {f"p{q * 100:.0f}": _seconds(s) for q, s in zip(_QUANTILES, found, strict=True)}
            for phase, cells in phases.items()
            if cells and (found := sketch.quantiles_s(cells, _QUANTILES))
        },
    }


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
    """`step` in seconds and `items` by time and region; for longer than a day from roll-ups, in steps of full hours."""
    if hours <= _RAW_HOURS:
        step_s = max(hours * HOUR_S // _LATENCY_STEPS, 30)
        rows = await results.latency(db, beat.id, moment(now_s - hours * HOUR_S), step_s)
        items = [dict(row) | {"p50": _seconds(row["p50"]), "p95": _seconds(row["p95"])} for row in rows]
        return {"step": step_s, "items": items}
    step_s = -(-hours // _LATENCY_STEPS) * HOUR_S
    since = moment(now_s // step_s * step_s - hours * HOUR_S // step_s * step_s)
    rows = await rollups.read(db, beat.id, since, step=timedelta(seconds=step_s))
    return {"step": step_s, "items": [_step(row) for row in rows if row["counts"]]}


def _step(row: Row) -> dict[str, Any]:
    p50, p95 = sketch.quantiles_s(rollups.sketches(row)["total"], (0.5, 0.95))
    return {
        "at": row["start"],
        "region": row["region"],
        "p50": _seconds(p50),
        "p95": _seconds(p95),
        "runs": row["ok"] + row["warning"] + row["critical"],
        "bad": row["warning"] + row["critical"],
    }
