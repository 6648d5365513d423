"""What a trigger sees in an event: per item what it says, of what, and when, with a trace of why. It remembers nothing: see `evaluators.trigger`."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from evaluators.event import Document
from rules.trigger import Trigger

Says = Literal["critical", "warning", "recovery"]
Ignored = Literal["unmatched", "unmapped", "suppressed"]

Before = Callable[[str], Mapping[str, str]]
"""By fingerprint, what the values were that `changed` looks at, in the event before; empty where there was none."""


class Traced(Struct, frozen=True):
    """One condition as it was judged. `part`: when, critical, warning, recovery, suppress, truncated, fingerprint, time."""

    part: str
    of: str  # the reference, or `all`, `any`, `none`
    wanted: str  # in words: `is one of critical, page`
    holds: bool | None  # None: not looked at, as it was decided before
    actual: Any = None  # what was found, cut; [] where nothing was
    depth: int = 0
    note: str = ""


class Item(Struct, frozen=True, omit_defaults=True):
    """One item of an event: it `says` something, or is `ignored`, or there is an `error` in words."""

    index: int
    says: Says | None = None
    ignored: Ignored | None = None
    error: str = ""  # such as `fingerprint: $.host is missing`
    fingerprint: str = ""
    at: float = 0.0  # event time: never after the time of receipt
    message: str = ""
    values: dict[str, str] = {}  # what `changed` looks at now, by reference
    trace: tuple[Traced, ...] = ()


class Matched(Struct, frozen=True):
    """What a trigger sees in one event. `error`: of the event as a whole, which then has no items."""

    items: tuple[Item, ...] = ()
    is_truncated: bool = False
    error: str = ""


class Matcher:
    """A compiled trigger."""

    def __init__(self, rule: Trigger) -> None:
        raise NotImplementedError

    def match(
        self, document: Document, received_at: float, before: Before, *, is_traced: bool = False
    ) -> Matched:
        """What it sees in `document`. Total: nothing raises, and no document takes longer than its budget."""
        raise NotImplementedError
