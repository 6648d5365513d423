"""What the public is shown of a component: its status by precedence, its uptime from approved incidents."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from rules.component import ComponentStatus

PRECEDENCE: dict[str, int] = {
    "operational": 0,
    "under_maintenance": 1,
    "degraded_performance": 2,
    "partial_outage": 3,
    "major_outage": 4,
}
"""Open incidents above degraded above maintenance above operational; the worst wins."""


class Span(Struct, frozen=True):
    """A stretch of time with one value; seconds since the epoch, `end` None while it lasts."""

    start: float
    end: float | None
    value: str


class Bar(Struct, frozen=True):
    """One stretch of a bar chart: its worst value, and the share of known time that was not down (None: nothing known)."""

    start: float
    value: str | None
    up_ratio: float | None


def component_status(manual: ComponentStatus | None, impacts: Iterable[str]) -> str:
    """A manual status wins until it is cleared; else the worst of what open incidents say."""
    return manual or max(impacts, key=lambda status: PRECEDENCE[status], default="operational")


def overall_status(statuses: Iterable[str]) -> str:
    """A page's one status: the worst of its components."""
    return max(statuses, key=lambda status: PRECEDENCE[status], default="operational")


def bars(
    spans: Sequence[Span],
    *,
    start: float,
    step_s: float,
    count: int,
    now: float,
    down: frozenset[str],
    rank: dict[str, int],
) -> tuple[Bar, ...]:
    """`count` bars of `step_s` seconds from `start`.

    A bar's value is the worst by `rank` of the spans that touch it; its ratio is by duration. Values missing in
    `rank` (unknown, paused) count as no knowledge: never as up, never as down.
    """
    made: list[Bar] = []
    for index in range(count):
        left, right = start + index * step_s, min(start + (index + 1) * step_s, now)
        known_s = down_s = 0.0
        worst: str | None = None
        for span in spans:
            overlap_s = min(span.end if span.end is not None else now, right) - max(span.start, left)
            if overlap_s <= 0 or span.value not in rank:
                continue
            known_s += overlap_s
            down_s += overlap_s if span.value in down else 0.0
            if worst is None or rank[span.value] > rank[worst]:
                worst = span.value
        made.append(Bar(left, worst, 1 - down_s / known_s if known_s else None))
    return tuple(made)
