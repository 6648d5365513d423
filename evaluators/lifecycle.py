"""The life of an incident and of announced maintenance: which status follows which, and how much customers feel it. Pure."""

from collections.abc import Iterable
from typing import Final

from evaluators.model import Impact, Severity

ENDED: Final = ("resolved", "completed", "cancelled")
"""Statuses after which nothing more is expected."""
_BY_SEVERITY: Final[dict[Severity, Impact]] = {"warning": "minor", "critical": "major"}
_BY_STATUS: Final[dict[str, Impact]] = {
    "degraded_performance": "minor",
    "partial_outage": "major",
    "major_outage": "critical",
}


def impact_of(severity: Severity | None, statuses: Iterable[str], given: Impact | None) -> Impact:
    """How much customers feel it: as a person set it, else by severity (critical is major, warning minor), else by components."""
    if given is not None:
        return given
    if severity is not None:
        return _BY_SEVERITY[severity]
    order: tuple[Impact, ...] = ("none", "minor", "major", "critical")
    return max((_BY_STATUS.get(status, "none") for status in statuses), key=order.index, default="none")
