"""A node against a model: a validated rule, or pydantic's errors in plain words at their lines. No check across objects."""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rules.assertion import HeaderName, HeaderValue
from rules.channels.apprise import AppriseUrl
from rules.channels.channel import SECRET_FIELDS, HttpUrl
from rules.duration import format_duration
from rules.journey import Attribute, Locale
from rules.kinds.browser import BrowserBeat
from rules.kinds.http import HttpBeat, Method
from rules.kinds.kind import Host
from rules.mail import Mailbox, Subject
from rules.node import Node
from rules.owner import ComponentPath, ParentPath
from rules.page import Colour, Contact, FrameOrigin, Homepage, HostName
from rules.problem import Problem, cut, nearest, show
from rules.publishers.folder import Folder
from rules.publishers.publisher import RemoteId
from rules.publishers.s3 import Bucket, Prefix, Region
from rules.publishers.static import Base, NoOrigin, Origin
from rules.settings import PublicUrl
from rules.shape import WRITTEN, Rule, Slug, Tag

_NAMED_MOST: Final = 12  # keys that are listed beside a good guess
_HOST_NAME: Final = "is not a host name in small letters, such as status.example.com; münchen.example is written xn--mnchen-3ya.example"
_PATTERNS: dict[str, str] = {
    get_args(annotated)[1].pattern: words
    for annotated, words in (
        (Slug, "is not a slug: 1 to 63 lower-case letters, digits and inner hyphens"),
        (Tag, "is not a tag: 1 to 63 letters, digits and _ . : / -, a letter or digit first"),
        (HeaderName, "is not a header name"),
        (HeaderValue, "has a line break in it; a header is one line"),
        (ComponentPath, "is not a component: write its slug, or page/slug"),
        (ParentPath, "is neither a beat nor a group: write a beat's slug, or group:slug"),
        (Locale, "is not a locale such as en or de-DE"),
        (Attribute, "is not the name of an attribute, such as data-testid"),
        (Mailbox, "is not a mail address"),
        (HttpUrl, "is not an http or https URL"),
        (AppriseUrl, "is not a URL of Apprise, such as ntfys://ntfy.example/topic"),
        (Host, "is not a host name or address; write it without scheme, port and path"),
        (Method, "is not a method in capital letters, such as GET"),
        (Homepage, "is not an http or https URL"),
        (Contact, "is neither an http or https URL nor an address after mailto:"),
        (Colour, "is not a colour such as #0f766e"),
        (HostName, _HOST_NAME),
        (FrameOrigin, "is not a site without a path, such as https://shop.example or https://*.shop.example"),
        (Subject, "is not a line: it is empty, or has a line break in it"),
        (Folder, "is not an absolute path without / at its end, such as /srv/status"),
        (RemoteId, "is not an id: it has a space or one of / ? # in it"),
        (Bucket, "is not a bucket: 2 to 63 letters, digits and . _ -, a letter or digit first"),
        (Prefix, "is not made of names that each end with / and begin with no dot, such as status/"),
        (Region, "is not a region in small letters, such as eu-central-1"),
        (Origin, "is not scheme and host without a path, such as https://status.example.com"),
        (NoOrigin, "is not scheme and host without a path, such as https://status.example.com"),
        (Base, "is not a path that begins with / and does not end with it, such as /status"),
        (PublicUrl, "is not an http or https URL without query"),
    )
}
_SECRET_FIELDS: Final = SECRET_FIELDS | {
    "body", "body_base64", "proxy", "bearer", "client_secret", "content", "base64",
}  # fmt: skip
_SECRET_PARTS: Final = frozenset({"headers", "json", "form"})
_WORDS = {
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "list_type": "is not a list",
    "dict_type": "is not a mapping",
    "model_type": "is not a mapping",
    "model_attributes_type": "is not a mapping",
}


def check(model: type[Rule], node: Node, file: str, value: Any = None) -> tuple[Rule | None, list[Problem]]:
    """`node` (or `value`, made from it) as a `model`; None and all that is wrong where it is not one."""
    try:
        return model.model_validate(node.plain() if value is None else value, context=WRITTEN), []
    except ValidationError as refused:
        found: dict[tuple[int, str], list[str]] = {}
        errors = refused.errors(include_url=False, include_context=True)
        for error in errors:
            if _is_said_better(error, errors):
                continue
            at, message = _explained(model, node, error)
            said = found.setdefault(at, [])
            if message not in said:
                said.append(message)
        return None, [Problem(file, line, path, _joined(said)) for (line, path), said in found.items()]


def _is_said_better(error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether it is of a list where a word or a list may be, and another says what is wrong in that list."""
    *path, branch = error["loc"] or ("",)
    is_word = error["type"] == "literal_error" and str(branch).startswith("literal[")
    inner = (one["loc"] for one in errors if len(one["loc"]) > len(path) + 1)
    return is_word and isinstance(error["input"], list) and any([*loc[: len(path)]] == path for loc in inner)


def place(node: Node, steps: Sequence[str | int]) -> tuple[Node, list[str | int]]:
    """The node that `steps` lead to, and the steps that could not be gone."""
    lost: list[str | int] = []
    for step in steps:
        inner = node.child(step)
        if inner is None:
            lost.append(step)
        else:
            node = inner
    return node, lost


def _joined(messages: list[str]) -> str:
    """The branches of a union, each saying what it wants, as one sentence."""
    head, *rest = messages
    return "; or ".join([head, *(message.split("; ", 1)[-1] for message in rest)])


def _explained(model: type[Rule], root: Node, error: ErrorDetails) -> tuple[tuple[int, str], str]:
    node, lost = place(root, error["loc"])
    kind = error["type"]
    if kind == "missing":
        key = str(error["loc"][-1])
        return (node.line, f"{node.path}.{key}" if node.path else key), "is missing"
    if kind == "extra_forbidden":
        return (node.line, node.path), unknown_key(str(error["loc"][-1]), _keys(model, error["loc"][:-1]))
    if kind == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        about = node.child(
            message.split(" ", 1)[0].strip("`")
        )  # a whole object: the key its message begins with
        if about is not None and isinstance(node.value, dict):
            node = about
        return (node.line, node.path), _discreet(message, error["input"], _is_secret(model, error["loc"]))
    is_key = bool(lost) and lost[-1] == "[key]"
    # A validator may have converted the value before it was refused: what is written is shown.
    given = str(error["loc"][-2]) if is_key else error["input"] if lost else node.plain()
    shown = "the value" if _is_secret(model, error["loc"]) and not is_key else _clean(show(given))
    said = _said(kind, error, given)
    if kind == "model_type" and not lost and len(keys := _keys(model, error["loc"])) <= _NAMED_MOST:
        said += f"; its keys are {', '.join(keys)}"
    return (node.line, node.path), f"{shown} {said}"


def unknown_key(key: str, allowed: Sequence[str]) -> str:
    """What is said of a key that does not exist; where one key is surely meant, without a wall of names."""
    near = nearest(key, allowed)
    if near and len(allowed) > _NAMED_MOST:
        return f"unknown key{near}"
    return f"unknown key{near or ';'} allowed: {', '.join(allowed)}"


def said_of(error: ErrorDetails) -> str:
    """An error in what is no document, such as a query, in the same words."""
    if error["type"] in ("missing", "value_error"):
        return "is missing" if error["type"] == "missing" else error["msg"].removeprefix("Value error, ")
    return f"{_clean(show(error['input']))} {_said(error['type'], error, error['input'])}"


def _said(kind: str, error: ErrorDetails, given: object) -> str:
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "literal_error":
        return f"is not allowed; write {str(context['expected']).replace(chr(39), '')}"
    if kind == "string_type":
        scalar = not isinstance(given, dict | list) and given is not None
        return "is not text; put it in quotes" if scalar else "is not text"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"does not fit {context['pattern']}")
    if kind in ("string_too_long", "too_long", "string_too_short", "too_short"):
        unit = "character(s)" if kind.startswith("string") else "item(s)"
        if kind.endswith("long"):
            return f"is too long; at most {context['max_length']} {unit} are allowed"
        return f"is too short; at least {context['min_length']} {unit} are needed"
    for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if name in context:
            limit = context[name]
            shown = format_duration(float(limit)) if isinstance(given, str) else f"{limit:g}"
            return f"is out of range; {words} {shown} is allowed"
    return f"is not allowed: {error['msg']}"


def _is_secret(model: type[Rule], steps: Sequence[str | int]) -> bool:
    names = [step for step in steps if isinstance(step, str)]
    is_where = model in (HttpBeat, BrowserBeat) and names[-1:] in (["url"], ["token_url"])
    if not names or is_where or names[-2:] == ["press", "key"]:
        return (
            False  # where a beat looks is no secret; a channel's and a watchdog's URL let anybody write there
        )
    return (
        names[-1] in _SECRET_FIELDS
        or names[-2:] in (["signature", "secrets"], ["fill", "value"])
        or not _SECRET_PARTS.isdisjoint(names[:-1])
    )


def _clean(shown: str) -> str:
    """`shown` without the credentials of a URL."""
    scheme, slashes, rest = shown.partition("://")
    authority, at, tail = rest.partition("@")
    return f"{scheme}://…@{tail}" if slashes and at and "/" not in authority else shown


def _discreet(message: str, given: object, secret: bool) -> str:
    """A validator's own message, with the value it repeats cut, or left out where it is a secret."""
    if isinstance(given, str) and repr(given) in message:
        shown = "the value" if secret else _clean(cut(repr(given)))
        return message.replace(repr(given), shown)
    return message if len(message) <= 600 else f"{message[:599]}…"


def _keys(model: type[Rule], steps: Sequence[str | int]) -> list[str]:
    """The keys that the model at `steps` inside `model` allows."""
    for step in steps:
        field = model.model_fields.get(str(step)) or next(
            (inner for inner in model.model_fields.values() if inner.alias == step), None
        )
        model = (_model_in(field.annotation) or model) if field is not None else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[Rule] | None:
    """The model that a field's annotation holds, under lists, mappings, options and metadata."""
    if isinstance(annotation, type) and issubclass(annotation, Rule):
        return annotation
    if get_origin(annotation) in (Annotated, Union, types.UnionType, list, dict):
        for inner in reversed(get_args(annotation)):
            found = _model_in(inner)
            if found is not None:
                return found
    return None
