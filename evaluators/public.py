"""What the public is shown of a component and of a page: one status by precedence. Its uptime is `evaluators.uptime`'s."""

from collections.abc import Iterable

from rules.component import ComponentStatus

PRECEDENCE: dict[str, int] = {
    "operational": 0,
    "under_maintenance": 1,
    "degraded_performance": 2,
    "partial_outage": 3,
    "major_outage": 4,
}
"""Open incidents above degraded above maintenance above operational; the worst wins."""


def component_status(manual: ComponentStatus | None, impacts: Iterable[str]) -> str:
    """A manual status wins until it is cleared; else the worst of what open incidents say."""
    return manual or max(impacts, key=lambda status: PRECEDENCE[status], default="operational")


def overall_status(statuses: Iterable[str]) -> str:
    """A page's one status: the worst of its components."""
    return max(statuses, key=lambda status: PRECEDENCE[status], default="operational")
