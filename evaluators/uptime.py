"""Uptime: how much of a time something was up, down, unknown or under maintenance. The one way to compute it; it reads nothing.

Everything is made of spans: stretches of time with one value, sorted, none over another. Values come from transitions,
or from approved incidents; pauses, absences and maintenance are laid over them (`covered`); of several things the
worst counts at each moment (`worst`). `bars` cuts the result wherever somebody asks. What is `unknown` is neither up
nor down, and neither is what was before something existed: that is no time at all.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import add
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

from evaluators.public import PRECEDENCE

PAUSED: Final = "paused"
MAINTENANCE: Final = "maintenance"
STAGES: Final = ("ok", "warning", "critical")
INCIDENTS_DOWN: Final = frozenset({"partial_outage", "major_outage"})
_UNKNOWN: Final = frozenset({"unknown", PAUSED})
_BADNESS: Final = PRECEDENCE | {stage: rank for rank, stage in enumerate(STAGES)}

Windows = Sequence[tuple[float, float]]
"""Stretches of time, in any order, also over each other."""


class Span(Struct, frozen=True):
    """A stretch of time with one value; seconds since the epoch."""

    start: float
    end: float
    value: str


class Parts(Struct, frozen=True):
    """A time and what it was made of, in seconds; or the scheduled runs in it, in numbers."""

    up: float = 0
    down: float = 0
    unknown: float = 0
    maintenance: float = 0

    @property
    def uptime(self) -> float | None:
        """The share that was up, of what is known; None while nothing is."""
        known = self.up + self.down
        return self.up / known if known else None

    def __add__(self, other: "Parts") -> "Parts":
        """Both together."""
        return Parts(*map(add, astuple(self), astuple(other)))


class Bar(Struct, frozen=True):
    """One stretch of what was asked for, and the worst that is known of it."""

    start: float
    end: float
    parts: Parts
    worst: str | None = None


def lasting(points: Sequence[tuple[float, str]], born: float, until: float) -> list[Span]:
    """Spans from `born` to `until` of something that became what it is at these `points`; before the first: unknown."""
    spans, begin, now = [], born, "unknown"
    for at, value in (*points, (until, "")):
        if begin < (end := min(at, until)):
            spans.append(Span(begin, end, now))
            begin = end
        now = value
    return spans


def merged(windows: Windows) -> list[tuple[float, float]]:
    """The same time, sorted, without overlaps."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(windows):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
    return found


def covered(spans: Sequence[Span], windows: Windows, value: str) -> list[Span]:
    """`spans` with `value` wherever a window lies over them."""
    if not (clean := merged(windows)):
        return [*spans]
    made: list[Span] = []
    first = 0
    for span in spans:
        at = span.start
        while first < len(clean) and clean[first][1] <= at:
            first += 1
        for place in range(first, len(clean)):
            start, end = clean[place]
            if start >= span.end:
                break
            if at < start:
                made.append(Span(at, start, span.value))
            at = min(end, span.end)
            made.append(Span(max(start, span.start), at, value))
        if at < span.end:
            made.append(span if at == span.start else Span(at, span.end, span.value))
    return made


def worst(lines: Iterable[Sequence[Span]], rank: Mapping[str, int]) -> list[Span]:
    """Of all that is at a moment the highest by `rank`; where nothing is, no span. Spans of one line never overlap."""
    names = sorted(rank, key=rank.__getitem__, reverse=True)
    places = {name: place for place, name in enumerate(names)}
    nothing = len(names)
    changes: list[tuple[float, int, int]] = []  # when, and a line's place until and from then
    for line in lines:
        until, was = -math.inf, nothing
        for span in line:
            if until < span.start:
                changes.append((until, was, nothing))
                was = nothing
            changes.append((span.start, was, places[span.value]))
            until, was = span.end, places[span.value]
        changes.append((until, was, nothing))
    changes.sort()
    there = [0] * nothing + [len(changes)]
    made: list[Span] = []
    begin, now = 0.0, nothing  # the highest since `begin`
    for (at, was, place), (following, _, _) in pairwise([*changes, (math.inf, 0, 0)]):
        there[was] -= 1
        there[place] += 1
        if at == following:
            continue
        highest = 0
        while not there[highest]:
            highest += 1
        if highest != now:
            if now != nothing:
                made.append(Span(begin, at, names[now]))
            begin, now = at, highest
    return made


def ranked(down: Iterable[str]) -> dict[str, int]:
    """Which stage counts where several meet: what is down, then what nobody knows, then what is up."""
    bad = set(down)
    up = [stage for stage in STAGES if stage not in bad]
    order = (PAUSED, MAINTENANCE, *up, "unknown", *(stage for stage in STAGES if stage in bad))
    return {value: rank for rank, value in enumerate(order)}


def of_incidents(updates: Iterable[tuple[object, float, str | None]], until: float) -> list[Span]:
    """What approved incidents said, over each other: (incident, at, status), None once it is resolved or says nothing.

    In the order of time. What the last update of an incident says lasts until `until`.
    """
    said: dict[object, tuple[float, str | None]] = {}
    made: list[Span] = []
    for incident, at, status in updates:
        start, before = said.get(incident, (at, None))
        if before is not None and start < at:
            made.append(Span(start, at, before))
        said[incident] = at, status
    made += [Span(start, until, status) for start, status in said.values() if status and start < until]
    return made


def told_since(impacts: Iterable[Span], born: float) -> float:
    """Since when it is known what was told of something: its birth, or before that what was entered of the time before."""
    return min([born, *(span.start for span in impacts)])


def incident_line(impacts: Iterable[Span], born: float, until: float) -> list[Span]:
    """Spans from `born` to `until`: the worst that approved incidents say at a moment, else operational."""
    cut = [
        Span(start, end, span.value)
        for span in impacts
        if (start := max(span.start, born)) < (end := min(span.end, until))
    ]
    whole = [Span(born, until, "operational")] if born < until else []
    return worst([whole, *([span] for span in cut)], PRECEDENCE)  # incidents may be over each other


def bars(spans: Sequence[Span], edges: Sequence[float], down: frozenset[str]) -> list[Bar]:
    """What lies between each two `edges` (ascending)."""
    made: list[Bar] = []
    first = 0
    for left, right in pairwise(edges):
        sums = dict.fromkeys(("up", "down", "unknown", "maintenance"), 0.0)
        values = set[str]()
        while first < len(spans) and spans[first].end <= left:
            first += 1
        for place in range(first, len(spans)):
            span = spans[place]
            if span.start >= right:
                break
            sums[_part(span.value, down)] += min(span.end, right) - max(span.start, left)
            values.add(span.value)
        seen = max(values & _BADNESS.keys(), key=_BADNESS.__getitem__, default=None)
        made.append(Bar(left, right, Parts(**sums), seen))
    return made


def _part(value: str, down: frozenset[str]) -> str:
    if value in down:
        return "down"
    if value in _UNKNOWN:
        return "unknown"
    return "maintenance" if value == MAINTENANCE else "up"


def of_runs(ok: int, warning: int, critical: int, error: int) -> Parts:
    """Scheduled runs as parts: an `error` is the probe's own, and says nothing."""
    return Parts(ok + warning, critical, error)


def edges(since: float, until: float, step_s: float | None) -> list[float]:
    """`since`, `until`, and between them every whole multiple of `step_s` since the epoch: days begin at midnight UTC."""
    inner: list[float] = []
    if step_s is not None:
        number = since // step_s + 1
        while number * step_s < until:
            inner.append(number * step_s)
            number += 1
    return [since, *inner, until]
