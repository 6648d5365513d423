"""What an alerting system does with each kind of news: an episode, or an incident by hand, is one alert there, opened, taken and ended under its key."""

from collections.abc import Mapping
from typing import Final, Literal

from evaluators.model import Notice, Stage

Does = Literal["trigger", "acknowledge", "resolve", "note"]

DOES: Final[Mapping[str, Does]] = {
    "open": "trigger",
    "change": "trigger",
    "reminder": "trigger",
    "escalation": "trigger",
    "digest": "trigger",
    "test": "trigger",  # and ended at once
    "recovery": "resolve",
    "acknowledged": "acknowledge",
    "comment": "note",
    "assigned": "note",
    "snoozed": "note",
    "flapping": "note",
    "unknown": "note",
    "draft": "note",
    "incident": "note",
    "silence": "note",
}
"""News that is not here, or of no episode, opens nothing that anything would end: it is told by other channels."""


def alert_of(notice: Notice) -> tuple[Does, str] | None:
    """What is done there, and the key of the alert, the same from open to recovery; None for nothing."""
    if notice.told == "incident" and notice.incident and not notice.episode:  # by hand: an alert of its own
        return "resolve" if notice.stage is Stage.OK else "trigger", notice.incident
    key, does = f"test:{notice.id}" if notice.told == "test" else notice.episode, DOES.get(notice.told)
    return (does, key) if does and key else None
