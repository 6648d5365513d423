"""A received delivery as rules see it: its body taken apart whatever it was sent as. What rules make of it is `evaluators.matching`."""

from typing import Any, Literal

from msgspec import Struct

Form = Literal["json", "form", "multipart", "text"]


class Event(Struct, frozen=True):
    """A delivery as it is stored. Header names as they came; the query without its question mark."""

    id: str
    received_at: float  # server time, seconds since the epoch
    headers: tuple[tuple[str, str], ...]
    query: str
    body: bytes
    is_test: bool = False


class Document(Struct, frozen=True):
    """What there is to select from. `trouble`: why the body is nothing but text; `body` is None then."""

    form: Form
    body: Any
    text: str
    headers: dict[str, str]  # by lower-case name; those of the same name joined by ", "
    query: dict[str, str]  # the last of several of the same name
    trouble: str | None = None


def read(event: Event) -> Document:
    """`event` taken apart. Total: what cannot be parsed is text, with the reason."""
    raise NotImplementedError
