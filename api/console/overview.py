"""The console's first page: what is wrong now, what waits for a person, and all beats, in a constant number of queries."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.console.forms import whole
from api.console.page import now, render
from api.console.review import triggers_of
from api.context import services_of
from api.showing import policy_of
from engine.store import episodes, objects, regions, reviews, signals, views
from engine.store.database import Connection, Row
from engine.store.states import decode_state
from evaluators.explain import Why, explain
from rules.subject import rule_of

PART: Final = 100  # beats shown at once
SPARKS: Final = 30
STAGES: Final = ("critical", "warning", "unknown", "ok", "paused")
_SHOWN_EPISODES: Final = 20

router = Router(prefix="/console", include_in_schema=False)


@router.get("")
@permits(Permission.READ)
async def overview(request: Request, asking: Asking) -> Response:
    """Counts, open episodes with why, drafts, beats."""
    query, pages = request.query_params, asking.pages_for(Permission.READ)
    stage = query.get("stage") if query.get("stage") in STAGES else None
    q, tag, part = query.get("q", "").strip()[:200], query.get("tag") or None, whole(query.get("part"), 1)
    asked: dict[str, Any] = {"q": q, "tag": tag or "", "stage": stage or ""}
    async with services_of(request).pool.acquire() as db:
        slugs = [stored.slug for stored in await objects.listing(db, "region")]
        is_whole = not (q or tag or stage)
        rows = await views.subjects(
            db,
            pages=pages,
            kind="beat" if stage else None,  # what the tiles count
            folded=is_whole,
            search=q or None,
            stage=stage,
            tag=tag,
            limit=PART,
            offset=(part - 1) * PART,
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
            triggers=await triggers_of(db, drafts),
            drafts_by_episode={row["episode_id"]: row for row in drafts},
            **happening,
            rows=await _lines(request, db, rows),
            together=await views.run_together(db, slugs),
            total=total,
            part=part,
            parts=-(-total // PART),
            part_url=lambda n: "?" + urlencode({k: v for k, v in asked.items() if v} | {"part": n}),
            can_write=asking.pages_for(Permission.WRITE) != [],
            sick=await regions.suspended(db),
            reasons=(await services_of(request).health(None, False)).reasons,
        )


async def _lines(request: Request, db: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    at = now(request)
    groups = [row["id"] for row in rows if row["kind"] == "group"]
    members, counts = await members_of(db, groups), await views.member_counts(db, groups)
    every = [*rows, *(member for found in members.values() for member in found)]
    totals = await views.newest_totals(db, [row["id"] for row in every], at - timedelta(days=1), SPARKS)

    def line(row: Row, names: Mapping[str, str], inner: list[dict[str, Any]]) -> dict[str, Any]:
        rule = rule_of(row["kind"], row["spec"])
        return {
            **row,
            "title": rule.title,
            "type": row["spec"].get("type", "group"),
            "tags": rule.tags,
            "why": why_of(row, at, names),
            "totals": totals[row["id"]],
            "members": inner,
            "counts": counts.get(row["id"]),  # of a group
        }

    return [
        line(row, _names(inner), [line(member, {}, []) for member in inner])
        for row in rows
        for inner in [members.get(row["id"], [])]
    ]


async def members_of(db: Connection, groups: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """The members of each of these, the worst first; of many only those."""
    found = defaultdict[UUID, list[Row]](list)
    for row in await views.subjects(db, members_of=groups, limit=PART * 10):
        found[row["group_id"]].append(row)
    return found


def _names(rows: Sequence[Row]) -> dict[str, str]:
    return {str(row["id"]): row["spec"].get("name") or row["slug"] for row in rows}


async def _episodes(request: Request, db: Connection, pages: Any) -> dict[str, Any]:
    """Open episodes, each with its votes and what the newest runs failed with; of a group those of its members."""
    at = now(request)
    found = await episodes.listing(db, pages=pages, state="open", limit=_SHOWN_EPISODES)
    owners = await views.subjects(db, ids=[row["owner_id"] for row in found], limit=_SHOWN_EPISODES)
    members = await members_of(db, [row["id"] for row in owners if row["kind"] == "group"])
    whys = {row["id"]: why_of(row, at, _names(members[row["id"]])) for row in owners}
    shown = sorted((e for e in found if e["owner_id"] in whys), key=lambda e: e["severity"] != "critical")
    beats = {row["id"]: whys[row["id"]] for row in owners if row["kind"] == "beat"}
    beats |= {row["id"]: why_of(row, at) for found in members.values() for row in found}
    return {
        "episodes": shown,
        "whys": whys,
        "members": members,
        "failures": await failures(db, beats, at),
        "told": await signals.of_beats(db, [*whys, *beats], 5),
    }


async def failures(db: Connection, whys: Mapping[UUID, Why], at: datetime) -> dict[UUID, dict[str, str]]:
    """Of each beat and region, why its newest run failed, where it did."""
    pairs = [(beat, vote.voter) for beat, why in whys.items() for vote in why.votes]
    found: dict[UUID, dict[str, str]] = {beat: {} for beat in whys}
    for (beat, region), message in (await views.newest_failures(db, pairs, at - timedelta(days=1))).items():
        found[beat][region] = message
    return found


def why_of(row: Row, at: datetime, names: Mapping[str, str] | None = None) -> Why:
    """Why it is what it is, of a row of `views.subjects`; `names` has what its members are called."""
    policy = policy_of(row["kind"], row["spec"], row["bound"])
    return explain(policy, decode_state(row["state"]), at.timestamp(), names or {})
