"""Values taken from one answer into later requests: what operators write of them, and their places `${capture:name}`.

Taking a value from what was seen is `evaluators.capture`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from pydantic import Field, StringConstraints, model_validator

from rules.assertion import HeaderName
from rules.pattern import compile_pattern
from rules.secret import is_secret_name
from rules.selection import Select, compile_path, is_definite
from rules.shape import Rule, expect_one
from rules.wording import expect_among

CAPTURED_MAX_BYTES: Final = 8192
PLACE_FIRST: Final = "${capture:"
_BEFORE_A_PLACE: Final = re.compile(r"https?://[^/?#]+[/?#]")
_PLACE: Final = re.compile(r"\$\{capture:([A-Za-z_][A-Za-z0-9_]{0,62})\}")
_SOURCES: Final = ("json", "header", "cookie", "matches")

CaptureName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


class Hideable(Rule):
    """A value that is kept for later, and may be a secret."""

    secret: bool | None = Field(
        default=None, description="Hidden in everything kept of a run; by its name when not given."
    )

    def is_hidden(self, name: str) -> bool:
        """Whether what is kept of a run may not show it."""
        return is_secret_name(name) if self.secret is None else self.secret


class Capture(Hideable):
    """One value taken from an answer; the run fails where it is not there."""

    json_: str | None = Field(
        default=None, alias="json", max_length=1000, description="RFC 9535 JSONPath; its first value."
    )
    header: HeaderName | None = Field(default=None, description="Name of a header of the answer.")
    cookie: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="Name of a cookie the answer set."
    )
    matches: str | None = Field(
        default=None, max_length=1000, description="RE2 regular expression with one group, searched."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = [name for name in _SOURCES if getattr(self, "json_" if name == "json" else name) is not None]
        expect_one("a capture", _SOURCES, given)
        if self.json_ is not None:
            compile_path(self.json_)
        expect_one_group(self.matches)
        return self


def expect_one_group(pattern: str | None) -> None:
    """Raises `ValueError` for an expression that does not say which part of its match is taken."""
    if pattern is not None and compile_pattern(pattern).groups != 1:
        raise ValueError(f"{pattern!r} needs exactly one group: the part that is taken")


Captures = dict[CaptureName, Capture]


class Publishing(Rule):
    """What takes captures, and may show some of them to customers."""

    publish: list[CaptureName] = Field(
        default=[],
        max_length=20,
        description="Captures that templates may show to customers, as captures.NAME: the first 200 characters.",
    )

    def expect_published(self, captures: Iterable[Mapping[str, Hideable]]) -> None:
        """Raises `ValueError` for what none of `captures` takes, or is a secret in one of them."""
        taken = [(name, one.is_hidden(name)) for each in captures for name, one in each.items()]
        public = {name for name, _ in taken} - {name for name, is_hidden in taken if is_hidden}
        expect_among("publish", self.publish, public, "capture that may be shown")


@dataclass(frozen=True, slots=True)
class Taking:
    """A compiled capture: exactly one of the last four is set."""

    name: str
    is_secret: bool
    is_public: bool = False  # whether templates may show it to customers
    is_searched: bool = False  # whether `select` looks for its value
    select: Select | None = None
    header: str | None = None  # in lower case
    cookie: str | None = None
    pattern: Any = None


def compile_captures(captures: Mapping[str, Capture], publish: Collection[str] = ()) -> tuple[Taking, ...]:
    """Each capture compiled, in the order they were written."""
    return tuple(
        Taking(
            name,
            capture.is_hidden(name),
            name in publish,
            capture.json_ is not None and not is_definite(capture.json_),
            compile_path(capture.json_) if capture.json_ else None,
            capture.header.lower() if capture.header else None,
            capture.cookie,
            compile_pattern(capture.matches) if capture.matches else None,
        )
        for name, capture in captures.items()
    )


def places(value: object) -> Iterator[str]:
    """The name in every `${capture:name}` anywhere inside a JSON-like `value`."""
    if isinstance(value, str):
        yield from _PLACE.findall(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from places(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from places(inner)


def fill(text: str, captured: Mapping[str, str], quoted: Callable[[str], str] = str) -> str:
    """`text` with each `${capture:name}` replaced by its value, `quoted` as its place asks. All must be captured."""
    if PLACE_FIRST not in text:
        return text
    return _PLACE.sub(lambda match: quoted(captured[match.group(1)]), text)


def expect_captured(names: Iterable[str], known: Iterable[str]) -> None:
    """Raises `ValueError` for a place whose value nothing before it captures."""
    there = sorted(known)
    for name in names:
        if name not in there:
            raise ValueError(
                f"${{capture:{name}}} is captured by nothing before it; there are: {', '.join(there) or 'none'}"
            )


def expect_own_host(written: str, url: str) -> None:
    """Raises `ValueError` where a captured value could choose the host of `url`, other than by being the whole URL."""
    if not url.startswith(PLACE_FIRST) and not _BEFORE_A_PLACE.match(url.partition(PLACE_FIRST)[0]):
        raise ValueError(
            f"{written!r} has a capture in its host; a capture is a whole URL, or part of path and query"
        )
