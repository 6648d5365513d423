"""The console's first page: what is wrong now, what waits for a person, and all beats, in a constant number of queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.console.forms import whole
from api.console.page import now, render
from api.context import services_of
from api.showing import policy_of
from engine.store import objects, reviews, signals, views
from engine.store.database import Connection, Row
from engine.store.states import decode_state
from evaluators.explain import Vote, Why, explain
from rules.beat import BEAT, AnyBeat

PART: Final = 100  # beats shown at once
SPARKS: Final = 30
STAGES: Final = ("critical", "warning", "unknown", "ok", "paused")
_SHOWN_EPISODES: Final = 20

router = Router(prefix="/console", include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table of beats."""

    slug: str
    page: str
    title: str
    type: str
    tags: list[str]
    stage: str
    paused: bool
    since: Any
    votes: tuple[Vote, ...]
    totals: list[float]


@router.get("")
@permits(Permission.READ)
async def overview(request: Request, asking: Asking) -> Response:
    """Counts, open episodes with why, drafts, beats."""
    query, pages = request.query_params, asking.pages_for(Permission.READ)
    stage = query.get("stage") if query.get("stage") in STAGES else None
    q, tag, part = query.get("q", "").strip()[:200], query.get("tag") or None, whole(query.get("part"), 1)
    asked: dict[str, Any] = {"q": q, "tag": tag or "", "stage": stage or ""}
    async with services_of(request).pool.acquire() as db:
        regions = [stored.slug for stored in await objects.listing(db, "region")]
        rows = await views.beats(
            db, pages=pages, search=q or None, stage=stage, tag=tag, limit=PART, offset=(part - 1) * PART
        )
        total = rows[0]["total"] if rows else 0
        drafts = await reviews.actions(db, pages=pages, status="pending", limit=10)
        happening = await _episodes(request, db, pages)
        shown = {row["id"] for row in happening["episodes"]}
        return await render(
            request,
            db,
            "overview.html",
            **asked,
            counts=await views.stage_counts(db, pages),
            tags=await views.tags(db, pages),
            many_pages=len(await objects.listing(db, "page", pages=pages)) > 1,
            drafts=[row for row in drafts if row["episode_id"] not in shown],
            drafts_by_episode={row["episode_id"]: row for row in drafts},
            **happening,
            rows=await _lines(request, db, rows),
            together=await views.run_together(db, regions),
            total=total,
            part=part,
            parts=-(-total // PART),
            part_url=lambda n: "?" + urlencode({k: v for k, v in asked.items() if v} | {"part": n}),
            can_write=asking.pages_for(Permission.WRITE) != [],
            reasons=(await services_of(request).health(None, False)).reasons,
        )


async def _lines(request: Request, db: Connection, rows: Sequence[Row]) -> list[Line]:
    since = now(request) - timedelta(days=1)
    totals = await views.newest_totals(db, [row["id"] for row in rows], since, SPARKS)
    lines = []
    for row in rows:
        rule: AnyBeat = BEAT.validate_python(row["spec"])
        why = _why(row, now(request))
        place = (row["slug"], row["page"], rule.title, rule.type, rule.tags, row["stage"])
        lines.append(Line(*place, row["paused"], row["since"], why.votes, totals[row["id"]]))
    return lines


async def _episodes(request: Request, db: Connection, pages: Any) -> dict[str, Any]:
    """Open episodes, each with its votes and what the newest runs failed with."""
    episodes = await reviews.episodes(db, pages=pages, is_open=True, limit=_SHOWN_EPISODES)
    beats = await views.beats(db, ids=[row["owner_id"] for row in episodes], limit=_SHOWN_EPISODES)
    whys = {row["id"]: _why(row, now(request)) for row in beats}
    pairs = [(beat, vote.region) for beat, why in whys.items() for vote in why.votes]
    failures = await views.newest_failures(db, pairs, now(request) - timedelta(days=1))
    shown = sorted((e for e in episodes if e["owner_id"] in whys), key=lambda e: e["severity"] != "critical")
    told = await signals.of_beats(db, [row["owner_id"] for row in shown])
    return {"episodes": shown, "whys": whys, "failures": failures, "told": told}


def _why(row: Row, at: datetime) -> Why:
    policy = policy_of("beat", row["spec"], row["bound"])
    return explain(policy, decode_state(row["state"]), at.timestamp())
