"""What a browser saw on a journey, for the page of its run. It came from a sandbox: none of it is believed, or HTML."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import Struct, field

from api.artifacts import FAILURE
from api.console.charts import Part, stacked
from api.console.charts import shown as in_time
from engine.store import artifacts
from engine.store.database import Connection

MOST_REQUESTS: Final = 500
_MOST_READ: Final = 4000  # to read more takes tenths of a second
MOST_TEXT: Final = 100_000
"""Characters of a console log or a page that are shown; the file has all of it."""
MOST_TRIED: Final = 4_000_000
"""Characters of Base64 in one page."""
PICTURES: Final = ("image/jpeg", "image/png")
_LONGEST: Final = 160  # of an address in a table
_STATES: Final = ("ok", "failed", "skipped")
_STEP: Final = dict.fromkeys(("name", "said", "state", "error", "url", "picture"), "") | {
    **dict.fromkeys(("after_s", "took_s"), 0.0),
    **dict.fromkeys(("is_soft", "is_teardown"), False),
}
_VITALS: Final = {"lcp": (2.5, 4.0), "cls": (0.1, 0.25), "fcp": (1.8, 3.0), "ttfb": (0.8, 1.8)}
"""Good up to the first, poor beyond the second: https://web.dev/articles/vitals."""
_DOCUMENT: Final = {"step": "", "url": ""} | dict.fromkeys(_VITALS)
_COUNTS: Final = ("console_errors", "failed_requests", "requests", "weight_bytes")
_SEEN: Final = dict.fromkeys(_COUNTS, 0.0) | {"browser": "", "isolation": ""}
T = TypeVar("T")
_HAR: Final = "network.har"
_READ: Final = {_HAR, "console.txt", "page.html"}  # what is shown as text


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that is a picture; without `url` it is not there yet (`is_awaited`), or no longer."""

    name: str
    url: str | None
    is_awaited: bool


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


def failed(run: Mapping[str, Any], url: str) -> dict[str, Any] | None:
    """How this run, as the API shows it, failed: where there is a picture of that."""
    picture = _picture(FAILURE, {one["name"]: one for one in run["artifacts"]})
    if picture is None or picture.url is None:
        return None
    step, error = failing(run["evidence"]), run["error"]
    said = {"step": step["name"] if step else "", "message": error["message"] if error else ""}
    return {"region": run["region"], "at": run["at"], "picture": picture.url, "url": url} | said


def failing(evidence: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The step that ended a journey; where none did, the first that failed softly."""
    steps = [one for one in _steps(journey_of(evidence) or {}) if one["state"] == "failed"]
    return min(steps, key=lambda one: one["is_soft"], default=None)


def courses(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[float], str, str]]:
    """What each step took in these runs, of which the newest is first, and the worst of each vital: (name, oldest value first, newest, most)."""
    found: dict[tuple[bool, str], list[float]] = {}
    for run in reversed(runs):
        journey = journey_of(run["evidence"]) or {}
        for step in _steps(journey):
            if step["state"] == "ok":
                found.setdefault((False, step["name"]), []).append(step["took_s"])
        documents = [_fitting(_DOCUMENT, one) for one in _those(dict, journey.get("documents"))]
        for name in _VITALS:
            if values := [one[name] for one in documents if one[name] is not None]:
                found.setdefault((True, name), []).append(max(values))
    return [
        (name.upper() if is_vital else name, values, _told(key, values[-1]), _told(key, max(values)))
        for key, values in found.items()
        for is_vital, name in (key,)
    ]


def _told(key: tuple[bool, str], value: float) -> str:
    return f"{value:.3f}" if key == (True, "cls") else in_time(value)


async def shown(db: Connection, beat_id: UUID, run_id: UUID, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """All that the page of a browser's run shows, of a run as the API shows it; None for other runs."""
    if journey_of(run["evidence"]) is None:
        return None
    data = {
        file["name"]: found["data"]
        for file in run["artifacts"]
        if file["name"] in _READ and (found := await artifacts.read(db, beat_id, run_id, file["name"]))
    }
    return await asyncio.to_thread(laid_out, run["evidence"], run["artifacts"], data)


def tried(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same of a run that is not stored: its pictures are in the page itself, as far as they are small."""
    files, left = [], MOST_TRIED
    for one in result.get("artifacts") or ():
        left -= len(one["data"])
        if left >= 0 and one["type"] in PICTURES:
            files.append(
                {"name": one["name"], "type": one["type"], "href": f"data:{one['type']};base64,{one['data']}"}
            )
    return laid_out(result.get("evidence"), files, {})


def laid_out(
    evidence: Mapping[str, Any] | None, files: Sequence[Mapping[str, Any]], data: Mapping[str, bytes]
) -> dict[str, Any] | None:
    """What the template asks for; `data` is what is in the files that are shown as text."""
    journey = journey_of(evidence)
    if journey is None:
        return None
    known = {one["name"]: one for one in files}
    steps = [
        step | {"picture": _picture(step["picture"] or name * (name in known), known)}
        for n, step in enumerate(_lined(_steps(journey)), 1)
        if (name := f"step-{n}.jpg")  # of many steps the ends are cut
    ]
    last = failing(evidence)
    on_film = {FAILURE, *(step["picture"].name for step in steps if step["picture"])}
    return {
        **_fitting(_SEEN, journey),
        "steps": steps,
        "failing": last,
        "failure": _picture(FAILURE if FAILURE in known else last["picture"] if last else "", known),
        "pictures": [
            picture
            for name in known
            if name not in on_film and (picture := _picture(name, known)) and picture.url
        ],
        "documents": [_judged(_fitting(_DOCUMENT, one)) for one in _those(dict, journey.get("documents"))],
        "errors": _those(str, journey.get("console")),
        "failures": _those(str, journey.get("failures")),
        "notes": _those(str, journey.get("notes")),
        "console": _text(data.get("console.txt", b"")),
        "page": _text(data.get("page.html", b"")),
        "network": network(data[_HAR]) if _HAR in data else None,
        "files": [one for one in files if "state" in one],
    }


def network(har: bytes) -> dict[str, Any]:
    """The requests of a recording in their order, each on the scale of all of them."""
    if (there := har.count(b'"startedDateTime"')) > _MOST_READ:
        return {"lanes": [], "left": 0, "wrong": f"it has {there} requests; at most {_MOST_READ} are read"}
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
    connect_s, tls_s = _seconds(took.connect), _seconds(took.ssl)  # Playwright's do not overlap
    if not entry.request.url.startswith("https:"):  # it says so of these, too
        connect_s, tls_s = connect_s + tls_s, 0.0
    timings = {
        "dns": _seconds(took.dns),
        "connect": connect_s,
        "tls": tls_s,
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
    steps = [_fitting(_STEP, one) for one in _those(dict, journey.get("steps"))]
    return [step if step["state"] in _STATES else step | {"state": "unknown"} for step in steps]


def _lined(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps with their bars on the journey's time line; what took no time is seen, too."""
    scale_s = max((step["after_s"] + step["took_s"] for step in steps), default=0.0)
    if scale_s <= 0:
        return [step | {"parts": ()} for step in steps]
    lined = []
    for step in steps:
        x = min(max(100 * step["after_s"] / scale_s, 0.0), 99.5)
        width = min(max(100 * step["took_s"] / scale_s, 0.5), 100 - x)
        lined.append(step | {"parts": (Part(step["state"], x, width, step["took_s"]),)})
    return lined


def _judged(document: dict[str, Any]) -> dict[str, Any]:
    """Each vital that was seen with its stage and the word for it."""
    vitals = {}
    for name, (good, poor) in _VITALS.items():
        value = document[name]
        stage = ("ok", "good") if value is None or value <= good else ("warning", "needs improvement")
        vitals[name] = (value, *(stage if value is None or value <= poor else ("critical", "poor")))
    return document | {"vitals": vitals}


def _picture(name: str, known: Mapping[str, Mapping[str, Any]]) -> Picture | None:
    if not name:
        return None
    file = known.get(name, {"type": "", "href": None})
    return Picture(name, file["href"] if file["type"] in PICTURES else None, file.get("state") == "awaited")


def _text(data: bytes) -> str:
    return data[: 4 * MOST_TEXT].decode("utf-8", "replace")[:MOST_TEXT].replace("\0", "\ufffd")


def _those(kind: type[T], items: Any) -> list[T]:
    return [one for one in items if isinstance(one, kind)] if isinstance(items, list) else []


def _fitting(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `usual`, with the values of `given` where they are of the type."""
    return {key: given[key] if _fits(given.get(key), value) else value for key, value in usual.items()}


def _fits(value: Any, usual: Any) -> bool:
    if usual is None or isinstance(usual, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return isinstance(value, type(usual))
