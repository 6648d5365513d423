"""What came of one try to deliver: a value, never an exception."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivered:
    """The other side has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. `after_s`: what the other side asked to wait (Retry-After), None for the engine's own schedule."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never: trying the same again cannot help."""

    reason: str


Outcome = Delivered | Retry | Rejected
