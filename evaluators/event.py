"""A received delivery as rules see it: its body taken apart whatever it was sent as. What rules make of it is `evaluators.matching`.

JSON is read under any content type, also one object a line, and as senders write it: raw line breaks in texts, NaN, the last of keys of the
same name. A number that no double and no 4,300 digits hold is kept as the text it was written as.
"""

import json
import math
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct
from python_multipart.multipart import parse_options_header

from evaluators.observation import decoded
from rules.selection import MAX_CONTAINERS, MAX_SEARCHED, BudgetError, UnreadableError

Form = Literal["json", "form", "multipart", "text"]

MAX_DEPTH: Final = 64
MAX_VALUES: Final = MAX_SEARCHED
MAX_FIELDS: Final = 1000  # of a form or a query
_MAX_DIGITS: Final = 4300  # what Python reads of a whole number


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
    headers: dict[str, str] = {}
    for name, value in event.headers:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    content_type = headers.get("content-type", "")
    text = _text(event.body, content_type)
    query = _query(event.query) if event.query else {}
    try:
        form, body = _taken_apart(event.body, text, content_type)
    except (UnreadableError, BudgetError) as wrong:
        return Document("text", None, text, headers, query, f"the body {wrong}")
    return Document(form, body, text, headers, query)


def parse_json(text: str) -> Any:
    """What JSON `text` holds, of any kind. Raises `UnreadableError`, and `BudgetError` for more than is looked at."""
    containers = text.count("[") + text.count("{")
    if containers > MAX_CONTAINERS:
        raise BudgetError(f"has about {containers} lists and objects; {MAX_CONTAINERS} are read")
    try:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeError):
            value = _TOLERANT.decode(text.removeprefix("\ufeff"))
    except RecursionError:
        raise BudgetError(f"is nested deeper than {MAX_DEPTH}") from None
    except ValueError as wrong:
        raise UnreadableError(f"is not JSON: {wrong}" if text.strip() else "is empty") from None
    is_long = len(text) >= MAX_VALUES  # else there are not so many in it
    if containers > MAX_DEPTH or (is_long and containers + text.count(",") >= MAX_VALUES):
        expect_bounded(value)
    return value


def expect_bounded(value: Any) -> None:
    """Raises `BudgetError` where `value` is deeper or has more in it than is looked at."""
    level, count, depth = [value], 0, 0
    while level:
        count, depth = count + len(level), depth + 1
        if count > MAX_VALUES:
            raise BudgetError(f"has more than {MAX_VALUES} values")
        containers = [one for one in level if isinstance(one, dict | list)]
        if containers and depth > MAX_DEPTH:
            raise BudgetError(f"is nested deeper than {MAX_DEPTH}")
        level = [i for one in containers for i in (one.values() if isinstance(one, dict) else one)]


def _whole(text: str) -> Any:
    return int(text) if len(text) <= _MAX_DIGITS else text


def _broken(text: str) -> Any:
    return number if math.isfinite(number := float(text)) else text


_TOLERANT: Final = json.JSONDecoder(
    strict=False, parse_int=_whole, parse_float=_broken, parse_constant=lambda text: text
)


def _text(body: bytes, content_type: str) -> str:
    """Valid UTF is what it says, whatever was declared; else the declared encoding, and what that cannot read replaced."""
    try:
        return body.decode(json.detect_encoding(body))
    except UnicodeDecodeError:
        return decoded(body, content_type)


def _query(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        return {}


def _taken_apart(body: bytes, text: str, content_type: str) -> tuple[Form, Any]:
    kind = content_type.partition(";")[0].strip().lower()
    form: Form | None = None
    if kind == "application/x-www-form-urlencoded":
        form = "form"
    elif kind == "multipart/form-data":
        form = "multipart"
    if form is None:
        try:
            return "json", parse_json(text)
        except UnreadableError:
            if (lines := _lines(text)) is None:
                raise
            return "json", lines
    if isinstance(found := _structure(text), dict | list):
        return "json", found  # what `curl -d` sends says that it is a form
    pairs = _pairs(text) if form == "form" else _parts(body, content_type)
    fields: dict[str, Any] = {}
    repeated = set[str]()
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif name in repeated:
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
            repeated.add(name)
    expect_bounded(fields)
    return form, fields


def _lines(text: str) -> list[Any] | None:
    """The objects of JSON Lines, one a line; None where it is nothing of the kind."""
    lines = [line for line in text.removeprefix("\ufeff").split("\n") if line.strip()]
    if len(lines) < 2 or not all(line.lstrip().startswith("{") for line in lines):
        return None
    try:
        found = [parse_json(line) for line in lines]
    except UnreadableError:
        return None
    expect_bounded(found)
    return found


def _structure(text: str) -> Any:
    """The object or list that `text` is as JSON, otherwise the text."""
    if not text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        return text
    try:
        return parse_json(text)
    except UnreadableError:
        return text


def _pairs(text: str) -> list[tuple[str, Any]]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BudgetError(f"has more than {MAX_FIELDS} fields") from None
    return [(name, _structure(value)) for name, value in pairs]


def _parts(body: bytes, content_type: str) -> list[tuple[str, Any]]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise UnreadableError("is not multipart: its type names no boundary")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_FIELDS + 2)[1:]
    if len(parts) > MAX_FIELDS + 1:
        raise BudgetError(f"has more than {MAX_FIELDS} fields")
    if not parts or not parts[-1].startswith(b"--"):
        raise UnreadableError("is not multipart: its last boundary is missing")
    return [_part(part) for part in parts[:-1]]


def _part(part: bytes) -> tuple[str, Any]:
    """Name and value of a field; a file says what it is, and `content` is what it holds as JSON."""
    head, _, data = part.partition(b"\r\n\r\n")
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    options = parse_options_header(headers.get(b"content-disposition"))[1]
    kind = headers.get(b"content-type", b"").decode("utf-8", "replace")
    name = options.get(b"name", b"").decode("utf-8", "replace")
    value = _structure(_text(data, kind))
    if b"filename" not in options:
        return name, value
    file = {"name": options[b"filename"].decode("utf-8", "replace"), "type": kind, "size": len(data)}
    return name, file if isinstance(value, str) else {**file, "content": value}
