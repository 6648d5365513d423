"""Gatus' conditions, such as `[BODY].status == any(UP, OK)`, as assertions. It knows no endpoint."""

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from upbeat.imports.source import go_duration_s

OPERATORS: Final = {"==": "eq", "!=": "ne", "<=": "le", ">=": "ge", "<": "lt", ">": "gt"}
_SPLIT: Final = re.compile(r"^(.*?)\s+(==|!=|<=|>=|<|>)\s+(.*)$", re.DOTALL)
_LOOSE: Final = re.compile(r"^(.*?)\s*(==|!=|<=|>=|<|>)\s*(.*)$", re.DOTALL)
_PLACEHOLDER: Final = re.compile(r"(len|has)?\(?\[([A-Z_]+)\]([^)]*)\)?")
_CALL: Final = re.compile(r"(pat|any)\((.*)\)", re.DOTALL)
_ORDERING: Final = ("lt", "le", "gt", "ge")
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
    left, operator, right = match[1].strip(), OPERATORS[match[2]], match[3].strip()
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
            if operator not in _ORDERING:
                raise ConditionError("compares a measured time with one value")
            of = "rtt" if kind == "icmp" else "timing.total"
            return {"of": of, operator: f"{round(_seconds(expected) * 1000, 6):g}ms"}
        case "CERTIFICATE_EXPIRATION" if kind in ("http", "tls", "tcp"):
            return {"of": "certificate.leaf_days_left", operator: round(_seconds(expected) / 86400, 9)}
        case "DNS_RCODE" if kind == "dns":
            return {"of": "rcode"} | _textual(operator, expected)
        case "BODY" if kind == "dns":
            return {"of": "record", "type": record} | _record(operator, expected, record)
        case "BODY" if kind in ("http", "tcp"):
            return _body(asked)
    raise ConditionError(f"[{asked.subject}] of a {kind} beat has no counterpart")


def _record(operator: str, expected: str, record: str) -> dict[str, Any]:
    """Gatus writes names with their last dot, and of an MX the name alone."""
    if record in ("CNAME", "NS", "MX", "PTR"):
        expected = re.sub(r"\.(?=\s*(,|\)?$))", "", expected)
    return _textual(operator, expected, before=r"\d+ " if record == "MX" else "")


def _body(asked: Condition) -> dict[str, Any]:
    operator, expected = asked.operator, asked.expected
    if asked.call == "len" and not expected.isdecimal():
        raise ConditionError("len() is a number")
    if asked.call == "len" and not asked.path and int(expected) <= 1:
        return {"of": "size", operator: int(expected)}  # whether there is anything at all, JSON or not
    if asked.call == "has":
        if expected not in ("true", "false") or operator not in ("eq", "ne"):
            raise ConditionError("has() is true or false")
        return {
            "of": "json",
            "path": json_path(asked.path),
            "exists": (expected == "true") == (operator == "eq"),
        }
    if not asked.call and not asked.path:
        if operator in _ORDERING:
            return {"of": "body", "as": "number", operator: _float(expected)}
        return {"of": "body"} | _textual(
            operator, expected, before=r"\s*", after=r"\s*"
        )  # which Gatus cuts off
    made = {"of": "json", "path": json_path(asked.path)}
    if asked.call == "len":
        return made | _length(operator, int(expected))
    if operator in _ORDERING:
        return made | {operator: _float(expected)}
    call = _CALL.fullmatch(expected)
    if call and call[1] == "pat":
        return made | _textual(operator, expected)
    given = call[2].split(",") if call else [expected]
    return made | one_of(operator, [value for text in given for value in typed(text.strip())])


def _length(operator: str, number: int) -> dict[str, Any]:
    """Gatus counts the items of a list and the characters of anything else; which it is shows only in the answer."""
    least = {"gt": number + 1, "lt": None, "le": None}.get(operator, number)
    most = {"lt": number - 1, "gt": None, "ge": None}.get(operator, number)
    kinds: list[dict[str, Any]] = []
    for kind, bounded in (("array", "Items"), ("string", "Length")):
        bounds = {f"min{bounded}": least, f"max{bounded}": most}
        kinds.append(
            {"type": kind} | {name: max(bound, 0) for name, bound in bounds.items() if bound is not None}
        )
    if most is None and (least or 0) <= 1:  # whatever else there is has a character
        kinds.append({"type": ["object", "number", "boolean"]})
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


def _textual(operator: str, expected: str, *, before: str = "", after: str = "") -> dict[str, Any]:
    """Of text: equal, one of, or a pattern. `before` and `after` are expressions of what may stand around it."""
    if operator not in ("eq", "ne"):
        raise ConditionError("compares texts by size")
    call = _CALL.fullmatch(expected)
    negated = {"not": True} if operator == "ne" else {}
    if call and call[1] == "pat":
        glob = call[2].strip()
        inner = glob.strip("*")
        begins, ends = glob.startswith("*") or before, glob.endswith("*") or after
        if inner and not re.search(r"[*?\[\]\\]", inner) and (glob == f"*{inner}*" or not (before or after)):
            return {
                "contains" if begins and ends else "ends" if begins else "starts" if ends else "eq": inner
            } | negated
        return {"matches": f"^{before}{_translated(glob)}{after}$"} | negated
    wanted = [one.strip() for one in call[2].split(",")] if call else [expected]
    if before or after:
        return {"matches": f"^{before}(?:{'|'.join(map(_literal, wanted))}){after}$"} | negated
    return {"in": wanted} | negated if call else {operator: expected}


def _literal(text: str) -> str:
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def _translated(glob: str) -> str:
    translated = {"*": "(?s:.*)", "?": "(?s:.)"}
    parts = re.findall(r"\\.|\[[^\]]*\]|.", glob, re.DOTALL)
    return "".join(
        translated.get(part) or (part if part[0] in "[\\" and len(part) > 1 else _literal(part))
        for part in parts
    )


def _number(operator: str, expected: str) -> dict[str, Any]:
    """Of a status: compared, one of, or of one class."""
    call = _CALL.fullmatch(expected)
    negated = {"not": True} if operator == "ne" else {}
    if operator in ("eq", "ne") and (family := re.fullmatch(r"pat\(\s*([1-5])(\*|\?\?)\s*\)", expected)):
        return {"between": [int(family[1]) * 100, int(family[1]) * 100 + 99]} | negated
    given = [one.strip() for one in call[2].split(",")] if call and call[1] == "any" else [expected]
    if not all(one.isascii() and one.isdigit() for one in given):
        raise ConditionError(f"{expected} is no whole number")
    return {operator: int(expected)} if call is None else {"in": [int(one) for one in given]} | negated


def one_of(operator: str, values: list[Any]) -> dict[str, Any]:
    """Equal (`eq`) to one of them, or (`ne`) to none."""
    if len(values) == 1:
        return {operator: values[0]}
    return {"in": values} | ({"not": True} if operator == "ne" else {})


def typed(text: str) -> list[Any]:
    """All that is written like this: peers compare what JSON holds as text, and 5 and "5" are the same to them."""
    if text in ("null", "nil"):
        return [None, text]
    if re.fullmatch(r"true|false|-?\d{1,15}(\.\d{1,10})?|[{\[].*", text, re.DOTALL):
        with contextlib.suppress(ValueError, RecursionError):
            return [json.loads(text), text]
    return [text]


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ConditionError(f"{text} is no number") from None
    return int(number) if number.is_integer() else number


def _seconds(text: str) -> float:
    """Of a duration, or a number of milliseconds."""
    try:
        return float(text) / 1000 if text.isdecimal() else go_duration_s(text)
    except ValueError:
        raise ConditionError(f"{text} is no duration") from None
