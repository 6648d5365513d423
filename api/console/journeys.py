"""What a browser saw on a journey, for the page of its run. It came from a sandbox: none of it is believed, or HTML."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from math import isfinite
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import Struct, field

from api.console.charts import Part, stacked
from engine.store import artifacts
from engine.store.database import Connection

MOST_REQUESTS: Final = 500
MOST_TEXT: Final = 100_000
"""Characters of a console log or a page that are shown; the file has all of it."""
MOST_TRIED: Final = 4_000_000
"""Characters of Base64 in one page."""
FAILURE: Final = "failure.jpg"
PICTURES: Final = ("image/jpeg", "image/png")
_LONGEST: Final = 160  # of an address in a table
_STATES: Final = ("ok", "failed", "skipped")
_STEP: Final = {
    "name": "",
    "said": "",
    "state": "",
    "after_s": 0.0,
    "took_s": 0.0,
    "error": "",
    "url": "",
} | {
    "is_soft": False,
    "is_teardown": False,
    "picture": "",
}
_VITALS: Final = {"lcp": (2.5, 4.0), "cls": (0.1, 0.25), "fcp": (1.8, 3.0), "ttfb": (0.8, 1.8)}
"""Good up to the first, poor beyond the second: https://web.dev/articles/vitals."""
_DOCUMENT: Final = {"step": "", "url": ""} | dict.fromkeys(_VITALS)
_COUNTS: Final = {"console_errors": 0.0, "failed_requests": 0.0, "requests": 0.0, "weight_bytes": 0.0}
_SEEN: Final = _COUNTS | {"browser": "", "isolation": ""}
_HAR: Final = "network.har"
_READ: Final = {_HAR, "console.txt", "page.html"}  # what is shown as text
_FILE: Final = {"name": "", "type": "", "size_bytes": 0.0}

UrlOf = Callable[[str], str]
"""Where a file of the run, by its name, is read."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that is a picture; without `url` it is not there yet, or no longer."""

    name: str
    url: str | None


class _Took(Struct):
    """Milliseconds; negative where there was none."""

    dns: float = -1
    connect: float = -1
    ssl: float = -1
    send: float = -1
    wait: float = -1
    receive: float = -1


class _Content(Struct):
    size: float = -1
    media_type: str = field(default="", name="mimeType")


class _Answered(Struct):
    status: int
    content: _Content = field(default_factory=_Content)
    transferred: float = field(default=-1, name="_transferSize")
    failure: str = field(default="", name="_failureText")


class _Asked(Struct):
    method: str
    url: str


class _Entry(Struct):
    begun: Annotated[datetime, msgspec.Meta(tz=True)] = field(name="startedDateTime")
    time: float
    request: _Asked
    response: _Answered
    timings: _Took = field(default_factory=_Took)


class _Log(Struct):
    entries: list[_Entry]


class _Har(Struct):
    """Of HTTP Archive 1.2 what is shown; the rest of it is skipped without being built."""

    log: _Log


_read_har: Final = msgspec.json.Decoder(_Har).decode


def journey_of(evidence: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the evidence of a run says of its journey, as far as it was not cut."""
    found = (evidence or {}).get("journey")
    return found if isinstance(found, dict) else None


def failing(evidence: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The step that ended a journey; where none did, the first that failed softly."""
    steps = _steps(journey_of(evidence) or {})
    return min(
        (step for step in steps if step["state"] == "failed"), key=lambda one: one["is_soft"], default=None
    )


async def pictured(db: Connection, run_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The runs of which is kept how they failed, each with its beat."""
    kept = chain.from_iterable((await artifacts.of_runs(db, run_ids)).values())
    return {
        row["run_id"]: row["beat_id"] for row in kept if row["name"] == FAILURE and row["type"] in PICTURES
    }


def courses(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[float]]]:
    """What each step took in these runs, of which the newest is first, and the slowest of each vital: (name, oldest value first)."""
    found: dict[str, list[float]] = {}
    for run in reversed(runs):
        journey = journey_of(run["evidence"]) or {}
        for step in _steps(journey):
            if step["state"] == "ok":
                found.setdefault(step["name"], []).append(step["took_s"])
        documents = [_fitting(_DOCUMENT, one) for one in _objects(journey.get("documents"))]
        for name in ("lcp", "fcp", "ttfb"):
            if values := [one[name] for one in documents if one[name] is not None]:
                found.setdefault(name.upper(), []).append(max(values))
    return list(found.items())


async def shown(
    db: Connection, beat_id: UUID, run_id: UUID, evidence: Mapping[str, Any] | None, url_of: UrlOf
) -> dict[str, Any] | None:
    """All that the page of a browser's run shows; None for other runs."""
    if journey_of(evidence) is None:
        return None
    kept = (await artifacts.of_runs(db, [run_id])).get(run_id, [])
    data = {
        row["name"]: found["data"]
        for row in kept
        if row["name"] in _READ and (found := await artifacts.read(db, beat_id, run_id, row["name"]))
    }
    return await asyncio.to_thread(laid_out, evidence, kept, data, url_of)


def tried(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same of a run that is not stored: its pictures are in the page itself, as far as they are small."""
    kept: dict[str, Mapping[str, Any]] = {}
    left = MOST_TRIED
    for one in result.get("artifacts") or ():
        left -= len(one["data"])
        if one["type"] in PICTURES and left >= 0:
            kept[one["name"]] = one
    return laid_out(
        {"journey": journey_of(result.get("evidence"))},
        list(kept.values()),
        {},
        lambda name: f"data:{kept[name]['type']};base64,{kept[name]['data']}",
    )


def laid_out(
    evidence: Mapping[str, Any] | None,
    rows: Sequence[Any],
    data: Mapping[str, bytes],
    url_of: UrlOf,
) -> dict[str, Any] | None:
    """What the template asks for; `rows` are the files that there are, `data` what is in those that are shown as text."""
    journey = journey_of(evidence)
    if journey is None:
        return None
    kept = {row["name"]: row for row in rows}
    named = {one["name"] for one in _files(evidence)} | kept.keys()
    steps = [step | {"picture": _picture(step["picture"], kept, url_of)} for step in _lined(_steps(journey))]
    last = failing(evidence)
    failure = _picture(FAILURE if FAILURE in named else last["picture"] if last else "", kept, url_of)
    on_film = {FAILURE, *(step["picture"].name for step in steps if step["picture"])}
    return {
        **_fitting(_SEEN, journey),
        "steps": steps,
        "failing": last,
        "failure": failure,
        "pictures": [
            _picture(name, kept, url_of)
            for name, row in sorted(kept.items())
            if row["type"] in PICTURES and name not in on_film
        ],
        "documents": [_judged(_fitting(_DOCUMENT, one)) for one in _objects(journey.get("documents"))],
        "errors": _texts(journey.get("console")),
        "failures": _texts(journey.get("failures")),
        "console": _text(data.get("console.txt", b"")),
        "page": _text(data.get("page.html", b"")),
        "network": network(data[_HAR]) if _HAR in data else None,
        "files": [dict(row) | {"url": url_of(row["name"])} for row in kept.values() if "data" not in row],
        "missing": sorted(named - kept.keys()),
    }


def network(har: bytes) -> dict[str, Any]:
    """The requests of a recording in their order, each on the scale of all of them."""
    try:
        entries = sorted(_read_har(har).log.entries, key=lambda one: one.begun)
    except (msgspec.MsgspecError, RecursionError) as wrong:
        return {"lanes": [], "left": 0, "wrong": str(wrong)[:_LONGEST]}
    began = entries[0].begun if entries else None
    lanes = [(entry, (entry.begun - began).total_seconds()) for entry in entries[:MOST_REQUESTS] if began]
    scale_s = max((after_s + _seconds(entry.time) for entry, after_s in lanes), default=0.0)
    return {
        "lanes": [_lane(entry, after_s, scale_s) for entry, after_s in lanes],
        "left": max(len(entries) - MOST_REQUESTS, 0),
        "wrong": None,
    }


def _lane(entry: _Entry, after_s: float, scale_s: float) -> dict[str, Any]:
    try:
        parts = urlsplit(entry.request.url)
        host, path = parts.netloc.rpartition("@")[2], parts._replace(scheme="", netloc="").geturl() or "/"
    except ValueError:  # such as http://[
        host, path = "", entry.request.url
    took, answer = entry.timings, entry.response
    timings = {
        "dns": _seconds(took.dns),
        "connect": max(_seconds(took.connect) - _seconds(took.ssl), 0.0),
        "tls": _seconds(took.ssl),
        "ttfb": _seconds(took.send) + _seconds(took.wait),
        "transfer": _seconds(took.receive),
    }
    size = answer.transferred if answer.transferred >= 0 else answer.content.size
    return {
        "method": entry.request.method[:20],
        "host": host[:_LONGEST],
        "path": path[:_LONGEST] + "…" * (len(path) > _LONGEST),
        "type": answer.content.media_type.partition(";")[0][:60],
        "status": answer.status if answer.status > 0 else None,
        "failure": answer.failure[:_LONGEST],
        "size_bytes": size if size >= 0 else None,
        "parts": stacked(timings, scale_s, after_s),
        "after_s": after_s,
        "seconds": _seconds(entry.time),
    }


def _seconds(milliseconds: float) -> float:
    return min(max(milliseconds, 0.0), 1e9) / 1000


def _steps(journey: Mapping[str, Any]) -> list[dict[str, Any]]:
    steps = [_fitting(_STEP, one) for one in _objects(journey.get("steps"))]
    return [step if step["state"] in _STATES else step | {"state": "unknown"} for step in steps]


def _lined(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps with their bars on the journey's time line."""
    scale_s = max((step["after_s"] + step["took_s"] for step in steps), default=0.0)
    return [
        step
        | {"parts": (Part(step["state"], *_stretch(step, scale_s), step["took_s"]),) if scale_s > 0 else ()}
        for step in steps
    ]


def _stretch(step: Mapping[str, Any], scale_s: float) -> tuple[float, float]:
    x = min(max(100 * step["after_s"] / scale_s, 0.0), 99.5)
    return x, min(max(100 * step["took_s"] / scale_s, 0.5), 100 - x)  # what took no time is seen, too


def _judged(document: dict[str, Any]) -> dict[str, Any]:
    """Each vital that was seen with its stage and the word for it."""
    vitals = {}
    for name, (good, poor) in _VITALS.items():
        value = document[name]
        stage = ("ok", "good") if value is None or value <= good else ("warning", "needs improvement")
        vitals[name] = (value, *(stage if value is None or value <= poor else ("critical", "poor")))
    return document | {"vitals": vitals}


def _picture(name: str, kept: Mapping[str, Mapping[str, Any]], url_of: UrlOf) -> Picture | None:
    if not name:
        return None
    return Picture(name, url_of(name) if name in kept and kept[name]["type"] in PICTURES else None)


def _text(data: bytes) -> str:
    return data[: 4 * MOST_TEXT].decode("utf-8", "replace")[:MOST_TEXT].replace("\0", "\ufffd")


def _files(evidence: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [_fitting(_FILE, one) for one in _objects((evidence or {}).get("artifacts"))]


def _objects(items: Any) -> list[dict[str, Any]]:
    return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []


def _texts(items: Any) -> list[str]:
    return [one for one in items if isinstance(one, str)] if isinstance(items, list) else []


def _fitting(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `usual`, with the values of `given` where they are of the type."""
    return {key: given[key] if _fits(given.get(key), value) else value for key, value in usual.items()}


def _fits(value: Any, usual: Any) -> bool:
    if usual is None or isinstance(usual, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return isinstance(value, type(usual))
