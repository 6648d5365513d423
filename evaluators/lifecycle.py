"""The life of an incident and of announced maintenance: which status follows which, what is affected, and how much customers feel it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from evaluators.model import Impact, Severity
from evaluators.public import PRECEDENCE
from rules.duration import format_duration
from rules.incident import Step

OPEN: Final = ("investigating", "identified", "monitoring")
"""Statuses of an incident that lasts; any of them may follow any other."""
ENDED: Final = ("resolved", "completed", "cancelled")
"""Statuses after which nothing more is expected."""
_BY_SEVERITY: Final[dict[Severity, Impact]] = {"warning": "minor", "critical": "major"}
_BY_STATUS: Final[dict[str, Impact]] = {
    "degraded_performance": "minor",
    "partial_outage": "major",
    "major_outage": "critical",
}


class Life(Struct, frozen=True):
    """Where an incident stands. Times are seconds since the epoch."""

    status: str
    ended_at: float | None = None
    is_merged: bool = False
    was_over: bool = False  # when it was entered


class Dated(Struct, frozen=True):
    """An update that is entered after the fact."""

    at: float
    status: str
    text: str


def impact_of(severity: Severity | None, statuses: Iterable[str], given: Impact | None) -> Impact:
    """How much customers feel it: as a person set it, else by severity (critical is major, warning minor), else by components."""
    if given is not None:
        return given
    if severity is not None:
        return _BY_SEVERITY[severity]
    order: tuple[Impact, ...] = ("none", "minor", "major", "critical")
    return max((_BY_STATUS.get(status, "none") for status in statuses), key=order.index, default="none")


def step_of(life: Life, status: str | None) -> Step:
    """Which step it is to say this status, None for the same, of an incident that has begun."""
    return "resolve" if status in ENDED and life.status not in ENDED else "update"


def refusal(life: Life, status: str | None, at: float, reopen_within_s: float) -> str | None:
    """Why people may not say this of it now; None where they may. `status` None: it stays what it is."""
    if life.is_merged:
        return "it was merged into another incident, which goes on: say it there"
    if life.status not in ENDED or status is None:
        return None
    if status not in OPEN:
        return f"it is {life.status} already; what else is to be said of it is said without a status"
    if life.was_over:
        return "it was entered after it was over: it is not opened again; begin another"
    if life.ended_at is not None and at - life.ended_at > reopen_within_s:
        within = format_duration(reopen_within_s)
        return f"it ended more than {within} ago, the time in which its page opens one again (reopen_within); begin another"
    return None


def merge_refusal(life: Life, into: Life, *, is_same: bool, is_same_page: bool) -> str | None:
    """Why one incident may not be merged into another; None where it may."""
    if is_same:
        return "an incident is not merged into itself"
    if not is_same_page:
        return "they are on different pages, with other readers and publishers"
    over = "it is over" if life.status in ENDED else "the other one is over" if into.status in ENDED else None
    return f"{over}: only incidents that are not are merged" if over else None


def merged(components: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """What two incidents say of their components, as one: the worse of each."""
    return {
        key: max((of[key] for of in (components, others) if key in of), key=PRECEDENCE.__getitem__)
        for key in (*components, *(key for key in others if key not in components))
    }


def backfill_mistakes(
    began: float, acknowledged: float | None, resolved: float | None, said: Sequence[Dated], now: float
) -> list[tuple[str, str]]:
    """(JSON Pointer, what is wrong) with an incident that is entered after the fact: all in the past, and in order."""
    times = [("/started_at", began)]
    times += [("/acknowledged_at", acknowledged)] if acknowledged is not None else []
    times += [("/resolved_at", resolved)] if resolved is not None else []
    mistakes = [(where, "is in the future; it is about what was") for where, at in times if at > now]
    mistakes += [
        (later, f"is before {earlier.strip('/')}")
        for (earlier, first), (later, second) in pairwise(times)
        if second < first
    ]
    before = began
    for n, update in enumerate(said):
        if update.at > now:
            mistakes.append((f"/updates/{n}/at", "is in the future; it is about what was"))
        if update.at < before:
            mistakes.append(
                (f"/updates/{n}/at", "is before " + ("the update before it" if n else "started_at"))
            )
        if update.status in ENDED and n < len(said) - 1:
            mistakes.append((f"/updates/{n}/status", f"is {update.status}, and more is said after it"))
        before = max(before, update.at)
    is_over = said[-1].status in ENDED
    if is_over != (resolved is not None):
        wanted = (
            "is missing: the last update says resolved"
            if is_over
            else "needs a last update that says resolved"
        )
        mistakes.append(("/resolved_at", wanted))
    if resolved is not None and said[-1].at > resolved:
        mistakes.append(("/resolved_at", "is before the last update"))
    return mistakes
