"""Uptime of beats, groups and components over any time: by stages, by runs, or by what the public was told. The one way to it.

The API, the console and the status page all ask `measure`; what is computed is `evaluators.uptime`'s.
"""

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Permission, Router, permits
from api.body import reply, validated
from api.context import services_of
from api.named import named
from api.problems import invalid
from api.shapes import ShownUptime, gives
from engine.store import objects, rollups
from engine.store import uptime as stored_uptime
from engine.store.database import Connection
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators.uptime import (
    INCIDENTS_DOWN,
    MAINTENANCE,
    Bar,
    Parts,
    Span,
    Windows,
    bars,
    covered,
    edges,
    incident_line,
    ranked,
    told_since,
    worst,
)
from rules.component import Component, Uptime, UptimeBy
from rules.duration import parse_duration_s
from rules.known import Kind

DAY_S: Final = 86400.0
DAYS: Final = 90
FIGURES: Final = {"24 h": 1, "7 d": 7, "30 d": 30, "90 d": 90}  # days
MOST_BARS: Final = 1000
LAST_YEAR: Final = 9990
KINDS: Final[tuple[Kind, ...]] = ("beat", "group", "component")
MEASURED: Final = Uptime(by="duration")
"""How beats and groups are looked at unless somebody says otherwise."""

Time = Annotated[str, Query(max_length=60, description="RFC 3339, or a duration: so long ago.")]


async def measure(
    db: Connection, stored: Stored, how: Uptime, now: float, *cuts: Sequence[float]
) -> tuple[list[list[Bar]], int]:
    """Of a beat, group or component, for each of `cuts` the bars between its edges; and how exact they are, in seconds."""
    since, until = min(cut[0] for cut in cuts), min(max(cut[-1] for cut in cuts), now)
    born = stored.created_at.timestamp()
    parts = [stored]
    if stored.kind == "component" and how.by != "manual":
        page = await objects.get(db, stored.page_id) if stored.page_id else None
        parts = await stored_uptime.feeding(db, stored, page.slug if page else "", since)
    beats = await stored_uptime.measured(db, parts) if how.by == "requests" else []
    windows: dict[UUID, Windows] = {}
    if how.exclude_maintenance:
        around = {one.id: one for one in (stored, *parts, *beats)}
        windows = await stored_uptime.windows(db, [*around.values()], since, until)
    if how.by == "requests":
        return await _by_requests(db, stored, parts, beats, windows, now, cuts)
    if how.by == "manual":
        down = INCIDENTS_DOWN
        said = await stored_uptime.impacts(db, stored, since, until)
        line = incident_line(said, max(told_since(said, born), since), until)
    else:
        down = frozenset[str](how.down)
        line, rank = [], ranked(how.down)
        for left, right in pairwise(await stored_uptime.slices(db, parts, since, until)):
            lines = await stored_uptime.stages(db, parts, left, right)
            line += worst([covered(lines[p.id], windows.get(p.id, ()), MAINTENANCE) for p in parts], rank)
        if stored.kind == "component":
            line = [Span(max(s.start, born), s.end, s.value) for s in line if s.end > born]
    line = covered(line, windows.get(stored.id, ()), MAINTENANCE)
    return [bars(line, cut, down) for cut in cuts], 0


async def _by_requests(
    db: Connection,
    stored: Stored,
    parts: Sequence[Stored],
    beats: Sequence[Stored],
    windows: Mapping[UUID, Windows],
    now: float,
    cuts: Sequence[Sequence[float]],
) -> tuple[list[list[Bar]], int]:
    first = min((beat.created_at.timestamp() for beat in beats), default=0.0)
    begun = first // rollups.HOUR_S * rollups.HOUR_S
    born = max(begun, stored.created_at.timestamp()) if stored.kind == "component" else begun
    groups = {(part.page_id, part.slug): part.id for part in parts if part.kind == "group"}
    # Beats, by when they, their group or the whole are under maintenance.
    apart = defaultdict[Windows, list[UUID]](list)
    for beat in beats:
        around = (beat.id, groups.get((beat.page_id, beat.spec.get("group", ""))), stored.id)
        apart[tuple(span for one in around if one for span in windows.get(one, ()))].append(beat.id)
    flat = [pair for cut in cuts for pair in pairwise(cut)]
    sums, resolution_s = [Parts() for _ in flat], 0
    for left_out, ids in apart.items():
        pieces = [
            (place, piece)
            for place, (left, right) in enumerate(flat)
            for piece in covered([Span(max(left, born), right, "")], left_out, MAINTENANCE)
        ]
        counted, exact_s = await rollups.count(db, ids, [(p.start, p.end) for _, p in pieces], now)
        resolution_s = max(resolution_s, exact_s)
        for (place, piece), runs in zip(pieces, counted, strict=True):
            is_out = piece.value == MAINTENANCE
            sums[place] += Parts(maintenance=runs.up + runs.down + runs.unknown) if is_out else runs
    made = iter(Bar(left, right, p, _look(p)) for (left, right), p in zip(flat, sums, strict=True))
    return [[next(made) for _ in pairwise(cut)] for cut in cuts], resolution_s


def _look(runs: Parts) -> str | None:
    """As what a bar of runs is shown."""
    if runs.uptime is None:
        return None
    return "ok" if not runs.down else "warning" if runs.uptime >= 0.5 else "critical"


def whole(found: Sequence[Bar]) -> Parts:
    """All bars together."""
    return sum((bar.parts for bar in found), Parts())


async def figures(db: Connection, stored: Stored, now: float) -> dict[str, Any]:
    """For the console: of a beat or group the `figures` of the usual spans, and `bars` of the last `DAYS` days, UTC."""
    days = edges(first_day(now), now, DAY_S)
    found, _ = await measure(
        db, stored, MEASURED, now, days, *((now - n * DAY_S, now) for n in FIGURES.values())
    )
    daily, *spans = found
    return {
        "bars": [
            {"status": bar.worst, "date": f"{moment(bar.start):%d %b}", "uptime": bar.parts.uptime}
            for bar in daily
        ],
        "figures": {name: whole(span).uptime for name, span in zip(FIGURES, spans, strict=True)},
    }


def first_day(now: float) -> float:
    """Midnight, UTC, of the first of `DAYS` days that end today."""
    return now // DAY_S * DAY_S - (DAYS - 1) * DAY_S


def routes(kind: Kind) -> APIRouter:
    """The route of one kind."""
    router = Router(prefix=f"/api/v1/{kind}s/{{ref}}", tags=[f"{kind}s"])

    @router.get("/uptime", name=f"Uptime of a {kind}", operation_id=f"read_{kind}_uptime")
    @permits(Permission.READ)
    @gives(ShownUptime)
    async def read_uptime(
        request: Request,
        stored: Annotated[Stored, named(kind)],
        since: Time = "30d",
        until: Time = "0s",
        by: Annotated[UptimeBy | None, Query(description="A component's own way unless given.")] = None,
        down: Annotated[
            str | None, Query(max_length=30, description="critical, or critical,warning.")
        ] = None,
        exclude_maintenance: bool | None = None,
        step: Annotated[str | None, Query(max_length=30, description="One bar per so much time.")] = None,
    ) -> Response:
        """The share that was up, of the time (or runs) of which anything is known; and what is not known beside it."""
        now = services_of(request).clock.epoch_s()
        begin, end = read_span(since, until, now)
        how = _how(stored, by, down, exclude_maintenance)
        cut = edges(begin, end, _step(step, end - begin, how))
        async with services_of(request).pool.acquire() as db:
            (found,), resolution_s = await measure(db, stored, how, now, cut)
        return reply(
            {
                "since": moment(begin),
                "until": moment(end),
                "by": how.by,
                "down": sorted(INCIDENTS_DOWN) if how.by == "manual" else how.down,
                "exclude_maintenance": how.exclude_maintenance,
                "resolution_s": resolution_s,
                **_shown(whole(found), how.by),
                "bars": [
                    {"start": moment(bar.start), "end": moment(bar.end), "worst": bar.worst}
                    | _shown(bar.parts, how.by)
                    for bar in (found if step else ())
                ],
            }
        )

    return router


def _shown(parts: Parts, by: UptimeBy) -> dict[str, Any]:
    digits = None if by == "requests" else 6
    said = {name: round(getattr(parts, name), digits) for name in Parts.__struct_fields__}
    return {
        "uptime": parts.uptime,
        "seconds": None if by == "requests" else said,
        "runs": said if by == "requests" else None,
    }


def read_time(name: str, text: str, now: float) -> float:
    """What `text` says, seconds since the epoch: RFC 3339, or a duration, so long ago. Raises 422 at `/name`."""
    at = -1.0
    try:
        at = now - parse_duration_s(text)
    except ValueError:
        with contextlib.suppress(ValueError):
            read = datetime.fromisoformat(text)
            at = read.timestamp() if read.tzinfo is not None and 1970 <= read.year < LAST_YEAR else at
    if at < 0:
        said = f"{text!r} is neither a time since 1970 such as 2026-01-31T18:00Z nor a duration such as 30d"
        raise invalid([(f"/{name}", said)])
    return at


def read_span(since: str, until: str, now: float, most_days: float = math.inf) -> tuple[float, float]:
    """Both times, and never after `now`. Raises 422 where the first is not before the other, or too long before it."""
    begin, end = read_time("since", since, now), min(read_time("until", until, now), now)
    if not 0 < end - begin <= most_days * DAY_S:
        most = "" if most_days == math.inf else f", and at most {most_days:g} days"
        raise invalid([("/since", f"{since} is not before {'now' if end == now else until}{most}")])
    return begin, end


def _how(stored: Stored, by: UptimeBy | None, down: str | None, exclude: bool | None) -> Uptime:
    own = Component.model_validate(stored.spec).uptime if stored.kind == "component" else MEASURED
    asked = own if by in (None, own.by) else Uptime(by=by)
    given: dict[str, Any] = asked.model_dump(exclude_defaults=True)
    if down is not None:
        given["down"] = [stage.strip() for stage in down.split(",")]
    if exclude is not None:
        given["exclude_maintenance"] = exclude
    return validated(Uptime, given)


def _step(text: str | None, length_s: float, how: Uptime) -> float | None:
    if text is None:
        return None
    try:
        step_s = parse_duration_s(text)
    except ValueError as wrong:
        raise invalid([("/step", str(wrong))]) from None
    if step_s <= 0 or length_s / step_s > MOST_BARS:
        raise invalid([("/step", f"{text} makes more than {MOST_BARS} bars; write a longer one")])
    if how.by == "requests" and step_s % rollups.HOUR_S:
        raise invalid([("/step", f"{text} is not full hours, by which runs are counted; write 1h or 1d")])
    return step_s


ROUTERS: Final = tuple(routes(kind) for kind in KINDS)
