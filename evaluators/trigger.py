"""What a trigger makes of what it sees: signals, by fingerprint and in event time. Pure; the deadlines of its clocks are folded as ticks.

Time `at` is the server's and never goes back. An event that happened before the last one of its fingerprint that was
applied is late: it changes nothing. Only a recovery of the same trigger and fingerprint, silence or expiry ends a signal.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from evaluators.event import Document
from evaluators.matching import Matched, Matcher
from evaluators.model import Severity
from rules.trigger import Trigger

ABSENCE: Final = ""
"""The fingerprint of the signal of absence: no item has it."""

Kind = Literal[
    "opened",
    "escalated",
    "deescalated",
    "refreshed",
    "resolved",
    "counted",  # towards `repeats`
    "held",  # waits for `for`
    "cooling",  # waits for the end of `cooldown`
    "ignored",
    "error",
]
Cause = Literal["event", "held", "cooled", "recovery", "silence", "expiry", "absence", "present", "ended"]


class Limits(Struct, frozen=True):
    """The clocks and counts of a rule; seconds, infinite where there is none."""

    count: int = 1
    within_s: float = math.inf
    for_s: float = 0.0
    silence_s: float = math.inf
    expires_s: float = math.inf
    cooldown_s: float = 0.0
    absence_s: float = math.inf
    absence: Severity = "critical"


class Key(Struct, frozen=True, array_like=True):
    """What is remembered of one fingerprint."""

    severity: Severity | None = None  # of the open signal
    since: float = 0.0  # when it opened
    event_at: float = 0.0  # event time of the last one that was applied
    seen_at: float = 0.0  # when the last one that fired came
    pending: Severity | None = None  # it fires, and is not open yet
    opens_at: float = 0.0  # then it opens, if it still fires; 0: once it was counted often enough
    counted: tuple[float, ...] = ()  # event times, towards `repeats`
    closed_at: float = 0.0
    event: str = ""  # the last one that fired
    message: str = ""
    values: dict[str, str] = {}


class Head(Struct, frozen=True):
    """What is remembered of the trigger as a whole."""

    at: float = 0.0  # of the last fact
    enabled_at: float = 0.0  # 0: it is not enabled
    seen_at: float = 0.0  # when an event came that it took
    heard_from: float = 0.0  # nobody could hear until then: silence begins anew
    is_absent: bool = False


class Signalled(Struct, frozen=True):
    """For the target: a signal opened, changed its severity or (None) ended. `event` is the last that fired."""

    at: float
    fingerprint: str
    severity: Severity | None
    cause: Cause
    event: str = ""
    message: str = ""


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What became of one item of an event; kept with the event and shown to people."""

    kind: Kind
    index: int = 0
    reason: str = (
        ""  # of `ignored` and `error`: unmapped, suppressed, late, repeat, no open signal, disabled, ...
    )
    fingerprint: str = ""
    severity: Severity | None = None


class Course:
    """One trigger's way through time: live, in preview and in a comparison alike.

    `changed` names the fingerprints whose keys are new since it was last cleared; one that is no longer in `keys` is gone.
    """

    def __init__(self, rule: Trigger, head: Head, keys: Mapping[str, Key]) -> None:
        self.head, self.keys, self.changed = head, dict(keys), set[str]()
        self.matcher = Matcher(rule)
        raise NotImplementedError

    def switch(self, at: float, *, enabled: bool) -> None:
        """It was enabled or disabled: disabled it opens nothing, and what is open may end."""
        raise NotImplementedError

    def hear(self, at: float) -> None:
        """Nobody could hear until `at`: what was silent or absent by then is not."""
        raise NotImplementedError

    def pass_time(self, until: float) -> list[Signalled]:
        """Fold a tick for every deadline up to `until`, the soonest first."""
        raise NotImplementedError

    def see(
        self, at: float, event: str, document: Document, received_at: float, *, is_repeat: bool = False
    ) -> tuple[Matched, list[Outcome], list[Signalled]]:
        """Fold an event at `at`, after all deadlines up to then. A repeat only says that it is still there."""
        raise NotImplementedError

    def end(self, at: float, fingerprint: str) -> list[Signalled]:
        """A person says that it is over."""
        raise NotImplementedError

    @property
    def next_deadline(self) -> float | None:
        """When time alone does something."""
        raise NotImplementedError
