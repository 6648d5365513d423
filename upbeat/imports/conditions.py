"""Gatus' conditions, such as `[BODY].status == any(UP, OK)`, as assertions. It knows no endpoint."""

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from upbeat.imports.source import go_duration_s

_OPERATORS: Final = {"==": "eq", "!=": "ne", "<=": "le", ">=": "ge", "<": "lt", ">": "gt"}
_SPLIT: Final = re.compile(r"^(.*?)\s+(==|!=|<=|>=|<|>)\s+(.*)$", re.DOTALL)
_LOOSE: Final = re.compile(r"^(.*?)\s*(==|!=|<=|>=|<|>)\s*(.*)$", re.DOTALL)
_PLACEHOLDER: Final = re.compile(r"(len|has)?\(?\[([A-Z_]+)\]([^)]*)\)?")
_CALL: Final = re.compile(r"(pat|any)\((.*)\)", re.DOTALL)
_FLIPPED: Final = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ConditionError(ValueError):
    """A condition without a counterpart."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition taken apart. `call` is the function around the subject, `path` what follows it."""

    subject: str
    path: str
    call: str
    operator: str
    expected: str


def read_condition(text: str) -> Condition:
    """Raises `ConditionError` for what is none."""
    match = _SPLIT.match(text.strip()) or _LOOSE.match(text.strip())
    if match is None:
        raise ConditionError("is no comparison")
    left, operator, right = match[1].strip(), _OPERATORS[match[2]], match[3].strip()
    found = _PLACEHOLDER.fullmatch(left)
    if found is None:
        found, left, right, operator = _PLACEHOLDER.fullmatch(right), right, left, _FLIPPED[operator]
    if found is None or _PLACEHOLDER.fullmatch(right):
        raise ConditionError("compares no single placeholder with a value")
    return Condition(found[2], found[3], found[1] or "", operator, right)


def assertion_of(text: str, kind: str, record: str = "A") -> dict[str, Any] | None:
    """The assertion of a `kind` beat that holds when the condition does; None for one that every beat has.

    Raises `ConditionError`.
    """
    asked = read_condition(text)
    operator, expected = asked.operator, asked.expected
    match asked.subject:
        case "CONNECTED":
            if (operator, expected) in (("eq", "true"), ("ne", "false")):
                return None
            raise ConditionError("asks that nothing answers")
        case "STATUS" if kind == "http":
            return {"of": "status"} | _number(operator, expected)
        case "RESPONSE_TIME":
            of = "rtt" if kind == "icmp" else "timing.total"
            if operator not in ("lt", "le", "gt", "ge"):
                raise ConditionError("compares a measured time with one value")
            return {
                "of": of,
                operator: f"{_float(expected):g}ms" if expected.isdigit() else _seconds(expected),
            }
        case "CERTIFICATE_EXPIRATION" if kind in ("http", "tls", "tcp"):
            return {"of": "certificate.days_left", operator: round(_seconds(expected) / 86400, 6)}
        case "DNS_RCODE" if kind == "dns":
            return {"of": "rcode"} | _textual(operator, expected)
        case "BODY" if kind == "dns":
            return {"of": "record", "type": record} | _textual(operator, expected)
        case "BODY" if kind in ("http", "tcp"):
            return _body(asked)
    raise ConditionError(f"[{asked.subject}] of a {kind} beat has no counterpart")


def _body(asked: Condition) -> dict[str, Any]:
    if asked.call == "has":
        if asked.expected not in ("true", "false") or asked.operator not in ("eq", "ne"):
            raise ConditionError("has() is true or false")
        there = (asked.expected == "true") == (asked.operator == "eq")
        return {"of": "json", "path": json_path(asked.path), "exists": there}
    if asked.call == "len":
        if not asked.expected.isdigit():
            raise ConditionError("len() is a number")
        if not asked.path and int(asked.expected) <= 1:  # whether there is anything at all, JSON or not
            return {"of": "size", asked.operator: int(asked.expected)}
        return {"of": "json", "path": json_path(asked.path)} | _length(asked.operator, int(asked.expected))
    if not asked.path:
        return {"of": "body"} | _textual(asked.operator, asked.expected)
    made = {"of": "json", "path": json_path(asked.path)}
    if asked.operator in ("lt", "le", "gt", "ge"):
        return made | {asked.operator: _float(asked.expected)}
    if _CALL.fullmatch(asked.expected):
        return made | _textual(asked.operator, asked.expected)
    return made | _one_of(asked.operator, [asked.expected])


def _length(operator: str, number: int) -> dict[str, Any]:
    """Gatus counts the items of a list and the characters of a text; which it is shows only in the answer."""
    least = {"gt": number + 1, "lt": None, "le": None}.get(operator, number)
    most = {"lt": number - 1, "gt": None, "ge": None}.get(operator, number)
    kinds = []
    for kind, bounded in (("array", "Items"), ("string", "Length")):
        bounds = {f"min{bounded}": least, f"max{bounded}": most}
        kinds.append(
            {"type": kind} | {name: max(bound, 0) for name, bound in bounds.items() if bound is not None}
        )
    return {"schema": {"anyOf": kinds}} | ({"not": True} if operator == "ne" else {})


def json_path(path: str) -> str:
    """Gatus' path, such as `.data[0].some-key`, as a JSONPath."""
    made, rest = "$", path.strip()
    while rest:
        if match := re.match(r"\[(\d+)\]", rest):
            made += match[0]
        elif match := re.match(r"\.?([^.\[\]]+)", rest):
            name = match[1]
            made += (
                f".{name}"
                if _NAME.fullmatch(name)
                else "['" + name.replace("\\", "\\\\").replace("'", "\\'") + "']"
            )
        else:
            raise ConditionError(f"the path {path!r} is not understood")
        rest = rest[match.end() :]
    return made


def _textual(operator: str, expected: str) -> dict[str, Any]:
    """Of text: equal, one of, or a pattern."""
    if operator not in ("eq", "ne"):
        raise ConditionError("compares texts by size")
    call = _CALL.fullmatch(expected)
    negated = {"not": True} if operator == "ne" else {}
    if call is None:
        return {operator: expected}
    if call[1] == "any":
        return {"in": [one.strip() for one in call[2].split(",")]} | negated
    return _pattern(call[2].strip()) | negated


def _pattern(glob: str) -> dict[str, Any]:
    """`*x*` is contained, `x*` begins; anything else is a regular expression."""
    inner = glob.strip("*")
    if inner and not re.search(r"[*?\[\]\\]", inner):
        begins, ends = glob.startswith("*"), glob.endswith("*")
        return {"contains" if begins and ends else "ends" if begins else "starts" if ends else "eq": inner}
    translated = {"*": "(?s:.*)", "?": "(?s:.)"}
    parts = re.findall(r"\\.|\[[^\]]*\]|.", glob, re.DOTALL)
    whole = "".join(
        translated.get(part) or (part if part[0] in "[\\" and len(part) > 1 else re.escape(part))
        for part in parts
    )
    return {"matches": f"^{whole}$"}


def _number(operator: str, expected: str) -> dict[str, Any]:
    """Of a whole number: compared, or one of."""
    call = _CALL.fullmatch(expected)
    given = [one.strip() for one in call[2].split(",")] if call and call[1] == "any" else [expected]
    if not all(one.isascii() and one.isdigit() for one in given):
        raise ConditionError(f"{expected} is no whole number")
    if call is None:
        return {operator: int(expected)}
    return {"in": [int(one) for one in given]} | ({"not": True} if operator == "ne" else {})


def _one_of(operator: str, given: list[str]) -> dict[str, Any]:
    """Gatus compares what JSON holds as text: 5 and "5" are the same to it."""
    (text,) = given
    typed: list[Any] = [text]
    if text in ("true", "false"):
        typed = [text == "true", text]
    elif re.fullmatch(r"-?\d{1,15}", text):
        typed = [int(text), text]
    elif re.fullmatch(r"-?\d{1,15}\.\d{1,10}", text):
        typed = [float(text), text]
    elif text in ("null", "nil"):
        typed = [None, text]
    elif text[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            typed = [json.loads(text), text]
    if len(typed) == 1:
        return {operator: text}
    return {"in": typed} | ({"not": True} if operator == "ne" else {})


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ConditionError(f"{text} is no number") from None
    return int(number) if number.is_integer() else number


def _seconds(text: str) -> float:
    try:
        return go_duration_s(text)
    except ValueError:
        raise ConditionError(f"{text} is no duration") from None
