"""Naming a value of a received event, and texts made of such values. Reading them from an event is `evaluators.matching`.

A reference is a JSONPath of the item (`$.labels.severity`), or of the whole body (`body:$.status`), a header
(`header:X-GitHub-Event`), a parameter of the query (`query:env`), a value that the trigger names (`value:host`), or
`text`: the body as it came. Without `each` the item is the body.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, StringConstraints

from rules.comparison import is_kept
from rules.problem import show
from rules.selection import compile_path

Source = Literal["item", "body", "header", "query", "value", "text"]
MAX_TEMPLATE: Final = 1000
_PREFIXES: Final[dict[str, Source]] = {
    "body:": "body",
    "header:": "header",
    "query:": "query",
    "value:": "value",
}
_SHAPES: Final = "a JSONPath such as $.status, body:$.status, header:X-Event, query:name, value:name or text"


@dataclass(frozen=True, slots=True)
class Reference:
    """One value: where it is taken from, and its path or name (a header's in lower case)."""

    source: Source
    name: str
    text: str  # as it was written

    def __str__(self) -> str:
        return self.text


def parse_reference(text: str) -> Reference:
    """The reference in `text`. Raises `ValueError` saying what is wrong with it."""
    if text == "text":
        return Reference("text", "", text)
    if text.startswith("$"):
        compile_path(text)
        return Reference("item", text, text)
    for prefix, source in _PREFIXES.items():
        if text.startswith(prefix) and (name := text.removeprefix(prefix)):
            if source == "body":
                compile_path(name)
            return Reference(source, name.lower() if source == "header" else name, text)
    raise ValueError(f"{show(text)} names no value; write {_SHAPES}")


def parse_template(text: str) -> tuple[str | Reference, ...]:
    """The parts of a text with references in braces: `{$.host}/{header:X-Env}`. `{{` and `}}` are braces.

    A text that is a reference alone needs no braces. Raises `ValueError` saying what is wrong with it.
    """
    if len(text) > MAX_TEMPLATE:
        raise ValueError(f"the text has {len(text)} characters; {MAX_TEMPLATE} are allowed")
    if text.startswith(("$", *_PREFIXES)) and "{" not in text:
        return (parse_reference(text),)
    parts: list[str | Reference] = []
    plain, place = "", 0
    while place < len(text):
        char = text[place]
        if text[place : place + 2] in ("{{", "}}"):
            plain, place = plain + char, place + 2
        elif char == "{":
            end = _end(text, place + 1)
            parts += [plain, parse_reference(text[place + 1 : end].strip())]
            plain, place = "", end + 1
        elif char == "}":
            raise ValueError(f"{show(text)} has a }} that nothing opened; write }}}} for a brace")
        else:
            plain, place = plain + char, place + 1
    return tuple(part for part in (*parts, plain) if part)


def _end(text: str, place: int) -> int:
    """Where the brace is closed that was opened before `place`: not inside quotes."""
    quote = ""
    while place < len(text):
        char = text[place]
        if quote:
            place += char == "\\"
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "}":
            return place
        place += 1
    raise ValueError(f"{show(text)} has a {{ that is not closed; write {{{{ for a brace")


def _read_by(parse: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        if not is_kept(text):
            raise ValueError("NUL and half a surrogate pair are not allowed")
        return text

    return AfterValidator(check)


ValueRef = Annotated[str, StringConstraints(min_length=1, max_length=1000), _read_by(parse_reference)]
"""A reference as operators write it."""
Template = Annotated[str, StringConstraints(max_length=MAX_TEMPLATE), _read_by(parse_template)]
"""A text with references in braces."""
