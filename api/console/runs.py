"""The page of one run: what failed first, where its time went, the same moment in other regions, and the evidence."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from api import beats
from api.auth import Permission, Router, permits
from api.console import journeys
from api.console.charts import Part, stacked
from api.console.page import render
from api.console.words import address
from api.context import services_of
from api.named import NamedBeat
from api.problems import missing
from engine.store import objects, states, views
from engine.store.database import Connection
from engine.store.ids import read
from engine.store.objects import Stored
from evaluators.model import PHASES
from rules.beat import BEAT, AnyBeat
from rules.kinds.kind import ProbedRule

LONGEST_RUN: Final = timedelta(minutes=40)  # six attempts of 300 s with back-off
_DAY_S: Final = 86_400
_RANK: Final = {"critical": 0, "warning": 1}
_PLAIN: Final = (
    *("address", "addresses", "status", "reason", "protocol"),
    *("rcode", "flags", "token_s", "body", "packets"),
)
_RECORD: Final = {"type": "", "text": "", "ttl_s": None}
_ANSWER: Final = {"server": "", "rcode": None, "flags": (), "error": None}
_SHOWN: Final = {"version": "", "cipher": "", "ocsp": None}
_CERTIFICATE: Final = dict.fromkeys(("subject", "issuer", "sha256", "key", "signature"), "")
_HOP: Final = {"url": "", "status": "", "timings": dict.fromkeys(PHASES)}
_STEP: Final = {"name": "", "status": None, "error": None, "timings": dict.fromkeys(PHASES)}

EpochS = Annotated[float, Query(ge=0, le=4e9, allow_inf_nan=False)]

router = Router(prefix="/console/beats/{ref}", include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of the waterfall: an attempt, a redirect or a step, on the scale of the whole run."""

    label: str
    detail: str
    parts: tuple[Part, ...]
    seconds: float | None
    error: str | None

    @property
    def said(self) -> str:
        """Its phases in words, for who cannot see the bar."""
        return ", ".join(f"{part.phase} {part.seconds * 1000:.1f} ms" for part in self.parts) or "no phases"


def run_url(slug: str, page_slug: str, run: str, at: datetime) -> str:
    """Where a run is shown; its time spares a search through all days."""
    return address("beat", slug, page_slug, "runs", run, at=f"{at.timestamp():.0f}")


async def slug_of_page(db: Connection, stored: Stored) -> str:
    """The slug of an object's home page."""
    home = await objects.get(db, stored.page_id) if stored.page_id else None
    return home.slug if home else ""


@router.get("/runs/{run_ref}")
@permits(Permission.READ)
async def run_page(request: Request, beat: NamedBeat, run_ref: str, at: EpochS) -> Response:
    """One run with its assertions and evidence; `at` is about when it ended, in seconds since the epoch."""
    run_id = read("run", run_ref)
    first, last = (states.moment(at) + sign * LONGEST_RUN for sign in (-1, 1))
    async with services_of(request).pool.acquire() as db:
        row = await views.run(db, beat.id, run_id, first, last) if run_id else None
        if row is None:
            raise missing("there is no such run; raw results are kept for 30 days")
        run = beats.shown_result(row)
        page_slug, rule = await slug_of_page(db, beat), BEAT.validate_python(beat.spec)
        return await render(
            request,
            db,
            "run.html",
            beat=beat,
            probed=isinstance(rule, ProbedRule),
            title=beat.spec.get("name") or beat.slug,
            page_slug=page_slug,
            run=run,
            evidence=shaped(run) | ({} if beat.spec.get("verify", True) else {"unverified": True}),
            assertions=failing_first(run["assertions"]),
            journey=await journeys.shown(db, beat.id, row["run_id"], run),
            lanes=waterfall(run),
            chain=chain(run),
            beside=await _beside(db, beat, page_slug, rule, run),
        )


def failing_first(assertions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The worst that does not hold on top, otherwise as they were declared."""
    return sorted(assertions, key=lambda one: 2 if one["ok"] else _RANK[one["severity"]])


def waterfall(run: Mapping[str, Any]) -> list[Lane]:
    """The attempts of a run below each other, each from its own begin; then the redirects and steps of the last one."""
    evidence = run["evidence"] or {}
    tried = run["tried"]
    hops, steps = _all_of(_HOP, evidence.get("hops")), _all_of(_STEP, evidence.get("steps"))
    if journeys.journey_of(evidence):
        steps = []  # which have a time line of their own
    scale_s = max([run["timings"]["total"] or 0.0, *(one["timings"]["total"] or 0.0 for one in tried)])
    lanes = [
        _lane(
            f"attempt {n}",
            f"began after {one['after']:.1f} s" if one["after"] else "",
            one["timings"],
            scale_s,
            one["error"]["message"],
        )
        for n, one in enumerate(tried, 1)
    ]
    last = f"attempt {len(tried) + 1}" if tried else "run"
    lanes.append(_lane(last, "", run["timings"], scale_s, _said(run)))
    return lanes + list(_inner(hops, steps, scale_s))


def _inner(hops: Sequence[Any], steps: Sequence[Any], scale_s: float) -> Iterator[Lane]:
    begins_s = 0.0
    for hop in () if steps else hops:
        where = f"{hop['status']} {hop['url']}"
        yield _lane("redirect", where, hop["timings"], scale_s, None, begins_s)
        begins_s += hop["timings"]["total"] or 0.0
    for step in steps:
        detail = f"HTTP {step['status']}" if step["status"] else "not reached"
        yield _lane(step["name"], detail, step["timings"], scale_s, step["error"], begins_s)
        begins_s += step["timings"]["total"] or 0.0


def _lane(
    label: str,
    detail: str,
    timings: Mapping[str, float | None],
    scale_s: float,
    error: str | None,
    begins_s: float = 0.0,
) -> Lane:
    parts = stacked(timings, scale_s, begins_s)
    return Lane(label, detail, parts, timings["total"], error)


def _said(run: Mapping[str, Any]) -> str | None:
    return run["error"]["message"] if run["error"] else None


def shaped(run: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence of a run with every key the page asks for: what was cut to size may have lost any of its parts."""
    found = run["evidence"] or {}
    answers = [
        one | {"records": _all_of(_RECORD, one.get("records"))}
        for one in _all_of(_ANSWER, found.get("answers"))
    ]
    return {key: found.get(key) for key in _PLAIN} | {
        "unverified": bool(found.get("unverified")),
        "headers": [pair for pair in found.get("headers") or () if isinstance(pair, list) and len(pair) == 2],
        "records": _all_of(_RECORD, found.get("records")),
        "answers": answers,
        "tls": _SHOWN | shown | {"faults": shown.get("faults") or []}
        if isinstance(shown := found.get("tls"), dict)
        else None,
    }


def _all_of(empty: Mapping[str, Any], items: Any) -> list[dict[str, Any]]:
    """The items that are objects, each with the keys of `empty`."""
    return [{**empty, **one} for one in items or () if isinstance(one, dict)]


def chain(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The certificates that were shown, leaf first, with the days they had left then."""
    shown = (run["evidence"] or {}).get("tls") or {}
    whole = [
        one
        for one in _all_of(_CERTIFICATE, shown.get("certificates"))
        if "not_before" in one and "not_after" in one
    ]
    return [
        one
        | {
            "names": [name for name in one.get("names") or () if isinstance(name, str)],
            "place": "leaf" if n == 0 else "root" if one["subject"] == one["issuer"] else "intermediate",
            "from": states.moment(one["not_before"]),
            "until": states.moment(one["not_after"]),
            "days": int((one["not_after"] - run["at"].timestamp()) // _DAY_S),
        }
        for n, one in enumerate(whole)
    ]


async def _beside(
    db: Connection, beat: Stored, page_slug: str, rule: AnyBeat, run: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What every region said nearest to this run, on one scale; nothing where it runs in one only."""
    if not isinstance(rule, ProbedRule):
        return []
    rows = await views.around(db, beat.id, run["scheduled_at"], timedelta(seconds=1.5 * rule.interval))
    shown = [beats.shown_result(row) for row in rows]
    scale_s = max((one["timings"]["total"] or 0.0 for one in shown), default=0.0)
    return [
        one
        | {
            "lane": _lane(one["region"], "", one["timings"], scale_s, _said(one)),
            "url": run_url(beat.slug, page_slug, one["run"], one["at"]),
            "is_this": one["run"] == run["run"],
        }
        for one in shown
        if len(shown) > 1
    ]
