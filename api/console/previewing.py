"""What a rule would have made of the past, as a pane of a page: asked for, waited for a moment, and drawn. What previews are is `api.previews`'."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api import previews
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import validated
from api.console.forms import in_a_line
from api.console.page import bare
from api.console.words import lasting
from api.context import services_of
from api.previews import AskedPreview
from api.problems import ProblemError
from engine.store.states import moment

RANGES: Final = (("1h", "hour"), ("1d", "day"), ("7d", "7 days"), ("30d", "30 days"))
LINES: Final = 100
DRAFTS: Final = 20
LANES: Final = 10
_NAMED: Final = 3
_BUDGET: Final = "20s"
_WAITS: Final = 5
_WAIT_S: Final = 0.1
_NOTHING: Final[dict[str, Any]] = {
    "id": "",
    "runs": False,
    "done": 0.0,
    "wrong": "",
    "is_cut": False,
} | dict.fromkeys(("found", "old", "new", "compared"))
_RUNS: Final = ("waiting", "running")
_WIDTH: Final = 1000.0
_SEEN: Final = 12.0  # of that width: less is not seen
_OUTCOMES: Final = 5
_OUTCOME: Final = {"reason": "", "fingerprint": "", "severity": None}
_DRAFT: Final = {"status": "pending"}
_ORDER: Final = ("matched", "error", "ignored", "unmatched")

router = Router(prefix="/console/previews", include_in_schema=False)


@router.get("/{preview}")
@permits(Permission.READ)
async def pane(request: Request, asking: Asking, preview: str) -> Response:
    """How far it is, and what it found: the pane alone."""
    found = await _shown(request, asking, preview)
    if "builder" in request.query_params:  # its buttons are of the form around it
        return bare(request, "preview.html", preview=found, draft=None)
    return bare(request, "preview.html", preview=found)


async def begun(
    request: Request,
    asking: Principal,
    asked: Mapping[str, Any],
    span: str,
    sample: str = "",
    before: str = "",
    *,
    waits: bool = True,
) -> dict[str, Any]:
    """Begin a preview in place of the one `before`, and show what there is of it; `waits`: after a moment."""
    if before:
        with suppress(ProblemError):  # it is gone, or somebody else's
            await previews.cancel_preview(request, asking, before)
    body = {**asked, "since": span if span in dict(RANGES) else "7d", "budget": _BUDGET}
    if sample:
        body["samples"] = [{"body": sample}]
    try:
        made = await previews.begin(request, asking, validated(AskedPreview, body))
    except ProblemError as refused:
        return _NOTHING | {"wrong": in_a_line(refused)}
    shown = await _shown(request, asking, made)
    for _ in range(_WAITS if waits else 0):
        await asyncio.sleep(_WAIT_S)
        shown = await _shown(request, asking, made)
        if not shown["runs"]:
            break
    return shown


async def _shown(request: Request, asking: Principal, preview: str) -> dict[str, Any]:
    async with services_of(request).pool.acquire() as db:
        row = await previews.find(db, asking, preview)
    return await asyncio.to_thread(_view, previews.shown_preview(row))


def _view(shown: Mapping[str, Any]) -> dict[str, Any]:
    """A preview of the API as its pane shows it."""
    found, compared = shown["findings"], shown["difference"]
    return _NOTHING | {
        "id": shown["id"],
        "runs": shown["status"] in _RUNS,
        "done": shown["done"],
        "wrong": shown["error"] or "",
        "is_cut": shown["is_cut"],
        "found": _found(found) if found else None,
        "compared": _compared(compared) if compared else None,
        **({name: _found(compared[name]) for name in ("old", "new")} if compared else {}),
    }


def _found(found: Mapping[str, Any]) -> dict[str, Any]:
    until = max(found["until"], found["since"] + 1)
    since = min([until - 1, *(one["at"] for one in found["lines"][:1])])  # before that nothing came
    lines = [_line(one) for one in found["lines"][-LINES:][::-1]]
    lanes = _lanes(found["episodes"], since, until)
    return {
        **found,
        "verdicts": [(name, found["verdicts"][name]) for name in _ORDER if found["verdicts"].get(name)],
        "advice": sorted(found["advice"], key=lambda one: one["severity"] != "warning"),
        "lists": [
            ("Events it took, or could not judge", [one for one in lines if one["verdict"] != "unmatched"]),
            ("Events that did not match", [one for one in lines if one["verdict"] == "unmatched"]),
        ],
        "left_out": found["events"] - len(lines),
        "lanes": lanes[:LANES],
        "lanes_left_out": max(len(lanes) - LANES, 0),
        "drafts": [_DRAFT | one | {"moment": moment(one["at"])} for one in found["drafts"][-DRAFTS:][::-1]],
        "open": found["open_signals"],
        "since": moment(since),
        "until": moment(until),
    }


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    """An event of which two rules make something else has `new` outcomes."""
    outcomes = (line.get("outcomes") or line.get("new") or ())[:_OUTCOMES]
    return {
        "id": line["id"],
        "verdict": line.get("verdict"),
        "moment": moment(line["at"]),
        "outcomes": [_OUTCOME | outcome for outcome in outcomes],
    }


def _compared(compared: Mapping[str, Any]) -> list[tuple[str, int, list[dict[str, Any]]]]:
    lists = {
        "only_old": "Only the old one does something",
        "only_new": "Only the new one does something",
        "changed": "Both do something else",
    }
    return [
        (said, compared["counts"].get(name, 0), [_line(one) for one in compared[name][:DRAFTS]])
        for name, said in lists.items()
    ]


def _lanes(episodes: Sequence[Mapping[str, Any]], since: float, until: float) -> list[dict[str, Any]]:
    """Episodes by what they were about, the newest first: where each stands in the time between, in a width of 1000."""
    by = defaultdict[tuple[str, ...], list[tuple[float, float, Mapping[str, Any]]]](list)
    for one in reversed(episodes):
        about = tuple(one.get("fingerprints") or [one.get("beat") or "(absence)"])
        by[about].append((one["opened"], one.get("closed") or until, one))
    scale = _WIDTH / max(until - since, 1.0)
    return [
        {
            "names": about[:_NAMED],
            "more": len(about) > _NAMED,
            "parts": [_part(begin, end, one, since, scale) for begin, end, one in own],
            "count": len(own),
            "open": any(one.get("closed") is None for _, _, one in own),
            "lasted": lasting(sum(end - begin for begin, end, _ in own)),
            "first": moment(min(begin for begin, _, _ in own)),
        }
        for about, own in by.items()
    ]


def _part(
    begin: float, end: float, episode: Mapping[str, Any], since: float, scale: float
) -> tuple[float, float, str]:
    x = min(max((begin - since) * scale, 0.0), _WIDTH - _SEEN)
    return x, max((end - since) * scale - x, _SEEN), episode["severity"]
