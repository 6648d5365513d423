"""A beat's page: what it is and why, how fast, what ran, what happened; its runs; run now, pause, resume, delete."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import beats, pushed, saving, subjects, uptime
from api.auth import Asking, Permission, Principal, Router, permits
from api.console import charts, journeys
from api.console.forms import as_json, fields
from api.console.overview import failures
from api.console.page import go, go_to, now, render
from api.console.runs import chain, run_url, shaped, slug_of_page
from api.console.words import address
from api.context import services_of
from api.explaining import why
from api.named import NamedBeat, named
from api.objects import PageRef
from api.pushed import shown_ping
from api.showing import heartbeat
from engine.store import episodes, pings, results, reviews, signals, states, views
from engine.store.database import Connection, Row
from engine.store.objects import Stored
from rules.beat import BEAT, AnyBeat
from rules.kinds.dns import DnsBeat
from rules.kinds.external import ExternalBeat, reports
from rules.kinds.heartbeat import HeartbeatBeat, examples
from rules.kinds.kind import ProbedRule
from rules.kinds.tls import TlsBeat
from rules.known import Kind
from rules.owner import OwnerRule
from rules.subject import rule_of

RANGES: Final = {"1h": 1, "24h": 24, "7d": 7 * 24, "14d": 14 * 24, "30d": 30 * 24}  # hours
RUNS: Final = 25
_SHORTEST_CHART: Final = timedelta(minutes=2)

router = Router(prefix="/console/beats/{ref}", include_in_schema=False)


@router.get("")
@permits(Permission.READ)
async def beat_page(request: Request, asking: Asking, beat: NamedBeat) -> Response:
    """Everything about one beat."""
    asked = request.query_params.get("range", "1h")
    span = asked if asked in RANGES else "1h"
    async with services_of(request).pool.acquire() as db:
        shared, at = await standing(request, asking, db, beat), now(request)
        rule, told = BEAT.validate_python(beat.spec), shared["why"]
        runs = await _runs(db, beat, shared["page_slug"])
        return await render(
            request,
            db,
            "beat.html",
            **shared,
            target=rule.target,
            failures=(await failures(db, {beat.id: told}, at))[beat.id],
            probed=isinstance(rule, ProbedRule),
            **await _pushed(request, asking, db, beat, rule, shared["row"]),
            chart=await _chart(db, beat, span, at),
            summary=await beats.summary(db, beat, max(RANGES[span] // 24, 1), at.timestamp()),
            ranges=RANGES,
            range=span,
            runs=runs,
            failed=next(filter(None, (run["failed"] for run in runs)), None)
            if shared["row"]["stage"] != "ok"
            else None,
            courses=journeys.courses(runs),
            **await _evidence(db, beat, rule, at),
        )


async def standing(request: Request, asking: Principal, db: Connection, stored: Stored) -> dict[str, Any]:
    """What the pages of beats and of groups say alike: stage, why, pause, episodes, drafts, history, uptime."""
    at, rule = now(request), rule_of(stored.kind, stored.spec)
    row = (await states.summaries(db, [stored.id]))[stored.id]
    transitions = await states.transitions(db, [stored.id], since=at - timedelta(days=90))
    found = await episodes.listing(db, owner=stored.id, limit=10)
    return {
        "owner": stored,
        "rule": rule,
        "row": row,
        "page_slug": await slug_of_page(db, stored),
        "why": await why(db, asking, stored, row, at.timestamp()),
        **_pause(rule, row["paused_until"], at),
        "episode": next((one for one in found if one["closed_at"] is None), None),
        "episodes": found,
        "drafts": await reviews.actions(db, owner=stored.id, status="pending", limit=5),
        "tally": await reviews.tally(db, owner=stored.id),
        "transitions": transitions[::-1][:20],
        **await uptime.figures(db, stored, at.timestamp()),
    }


async def _pushed(
    request: Request, asking: Principal, db: Connection, beat: Stored, rule: AnyBeat, row: Row
) -> dict[str, Any]:
    opened = (await signals.of_beats(db, [beat.id]))[beat.id]
    if not isinstance(rule, HeartbeatBeat):
        may = isinstance(rule, ExternalBeat) and saving.may_edit(asking, beat)
        lines = reports(beat.slug, services_of(request).settings.public_url or "") if may else ()
        return {"signals": opened, "heartbeat": None, "reports": lines}
    key = (await pings.keys(db, [beat.id])).get(beat.id) if saving.may_edit(asking, beat) else None
    shown = heartbeat(services_of(request), row, key)
    lines = examples(rule.every, rule.cron, shown["url"]) if shown["url"] else ()
    history = [shown_ping(ping) for ping in await pings.listing(db, beat.id, limit=RUNS)]
    return {"signals": opened, "heartbeat": shown, "reports": (), "examples": lines, "pings": history}


def _pause(rule: OwnerRule, until: datetime | None, at: datetime) -> dict[str, Any]:
    paused = until is not None and until.timestamp() > at.timestamp()
    ends = until if paused and until is not None and until.year < 9999 else None
    return {"paused": paused or not rule.enabled, "paused_until": ends}


async def _chart(db: Connection, beat: Stored, span: str, at: datetime) -> charts.Latency:
    found = await beats.latency(db, beat, RANGES[span], at.timestamp())
    items, since = found["items"], at - timedelta(hours=RANGES[span])
    if items:  # a young beat fills the chart with what there is
        since = max(since, min(items[0]["at"], at - _SHORTEST_CHART))
    return charts.latency(items, since, at, found["step"])


async def _evidence(db: Connection, beat: Stored, rule: AnyBeat, at: datetime) -> dict[str, Any]:
    """What a tls or dns beat was shown last."""
    nothing: dict[str, Any] = {"evidence": None, "evidence_at": None, "chain": []}
    if not isinstance(rule, TlsBeat | DnsBeat):
        return nothing
    row = await views.standing(db, beat.id, at - timedelta(days=1))
    if row is None:
        return nothing
    run = beats.shown_result(row)
    return {"evidence": shaped(run), "evidence_at": run["at"], "chain": chain(run)}


async def _runs(db: Connection, beat: Stored, page_slug: str) -> list[dict[str, Any]]:
    rows = [beats.shown_result(row) for row in await results.listing(db, beat.id, limit=RUNS)]
    totals = sorted(run["timings"]["total"] or 0.0 for run in rows)
    scale_s = totals[(len(totals) - 1) * 9 // 10] if totals else 0.0  # one slow run makes no other invisible
    for run in rows:
        run["parts"] = charts.stacked(run["timings"], scale_s)
        run["said"] = ", ".join(f"{part.phase} {charts.shown(part.seconds)}" for part in run["parts"])
        run["url"] = run_url(beat.slug, page_slug, run["run"], run["at"])
        run["failed"] = journeys.failed(run, run["url"])
    return rows


@router.post("/run")
@permits(Permission.WRITE)
async def run_now(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Ask every region for a manual run."""
    await beats.run_now(request, asking, ref, page_ref, 0)
    return go(address("beat", ref, page_ref), "run")


def pausing(router: APIRouter, kind: Kind) -> None:
    """Pause and resume of one kind."""

    @router.post("/pause", name=f"pause_{kind}")
    @permits(Permission.WRITE)
    async def pause(request: Request, asking: Asking, stored: Annotated[Stored, named(kind)]) -> Response:
        lasting = (await fields(request)).get("for")
        await subjects.pause(as_json(request, {"for": lasting} if lasting else {}), asking, stored)
        return go_to(request, stored, "paused")

    @router.post("/resume", name=f"resume_{kind}")
    @permits(Permission.WRITE)
    async def resume(request: Request, asking: Asking, stored: Annotated[Stored, named(kind)]) -> Response:
        await subjects.resume(request, asking, stored)
        return go_to(request, stored, "resumed")


pausing(router, "beat")


@router.post("/ping-key/rotate")
@permits(Permission.WRITE)
async def rotate_ping_key(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Another URL for a heartbeat."""
    await pushed.rotate_ping_key(request, asking, ref, page_ref)
    return go(address("beat", ref, page_ref), "rotated")
