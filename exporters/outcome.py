"""What came of one try to deliver: a value, never an exception; and what an earlier one left."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known when a delivery is tried. `remote`: what an earlier one of the same line left to be remembered.

    `is_repeat`: this very delivery was tried before, and may have arrived.
    """

    remote: Mapping[str, Any] = field(default_factory=dict)
    is_repeat: bool = False


FIRST = Memory()


@dataclass(frozen=True, slots=True)
class Delivered:
    """The other side has it. `remote`: what to remember for the next delivery of its line; None: what was.

    `reason`: what was done otherwise than asked, for operators.
    """

    remote: Mapping[str, Any] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """What it is about was removed there by hand: that is respected, and nothing of its line goes there again."""

    reason: str = "it was removed there by hand"


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. `after_s`: what the other side asked to wait (Retry-After), None for the engine's own schedule."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never: trying the same again cannot help. `for_good`: nor can anything else there (HTTP 410)."""

    reason: str
    for_good: bool = False


Outcome = Delivered | Removed | Retry | Rejected


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a system. `path` may hold a query, never a key."""

    method: str
    path: str
    body: Any


@dataclass(frozen=True, slots=True)
class Report:
    """What came of asking about a target: whether it could be, lines for operators, and of a dry run what it would say and send."""

    outcome: Outcome
    lines: tuple[str, ...] = ()
    title: str = ""
    text: str = ""
    calls: tuple[Call, ...] = ()
