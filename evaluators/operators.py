"""The operators of assertions: whether one value is as expected, and why not. Where values come from is `evaluators.subjects`.

Types are never guessed: `True` is not 1 and `"1"` is not 1, while whole and broken numbers compare as numbers. An
operator that is asked of a type it has no meaning for says neither yes nor no, so that `not` makes no yes of it.
"""

from collections.abc import Callable
from typing import Any, Final

from rules.expectation import Expectation

Test = Callable[[Any, Expectation], bool | None]


def is_number(value: Any) -> bool:
    """Whether it is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(left: Any, right: Any) -> bool:
    """Equality without guessing types, at any depth."""
    if type(left) is str and type(right) is str:  # as nearly always
        return left == right
    if is_number(left) and is_number(right):
        return bool(left == right)
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return bool(left == right)


def is_empty(value: Any) -> bool:
    """Whether there is nothing in it."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def kind_of(value: Any) -> str:
    """What it is, in words."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]


def _is_item(wanted: Any, items: list[Any]) -> bool:
    """Whether one of many `items` is the same: quick, where `in` takes True for 1."""
    if isinstance(wanted, bool):
        return any(item is wanted for item in items)
    if is_number(wanted):
        return wanted in [item for item in items if not isinstance(item, bool)]
    return wanted in items and any(same(item, wanted) for item in items)


def _contains(value: Any, e: Expectation) -> bool | None:
    if isinstance(value, list):
        return _is_item(e.expected, value)
    return e.expected in value if isinstance(value, str) and isinstance(e.expected, str) else None


def _matches(value: Any, e: Expectation) -> bool | None:
    if not isinstance(value, str):
        return None
    # As bytes: half of a surrogate pair, which JSON may hold, is no text to RE2.
    return e.pattern.search(value.encode("utf-8", "replace")) is not None


def _between(value: Any, e: Expectation) -> bool | None:
    return e.expected[0] <= value <= e.expected[1] if is_number(value) else None


COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": lambda value, limit: bool(value == limit),
    "ne": lambda value, limit: bool(value != limit),
    "lt": lambda value, limit: value < limit,
    "le": lambda value, limit: value <= limit,
    "gt": lambda value, limit: value > limit,
    "ge": lambda value, limit: value >= limit,
}

TESTS: Final[dict[str, Test]] = {
    "eq": lambda value, e: same(value, e.expected),
    "ne": lambda value, e: not same(value, e.expected),
    "lt": lambda value, e: value < e.expected if is_number(value) else None,
    "le": lambda value, e: value <= e.expected if is_number(value) else None,
    "gt": lambda value, e: value > e.expected if is_number(value) else None,
    "ge": lambda value, e: value >= e.expected if is_number(value) else None,
    "between": _between,
    "in": lambda value, e: _is_item(value, e.expected),
    "contains": _contains,
    "starts": lambda value, e: value.startswith(e.expected) if isinstance(value, str) else None,
    "ends": lambda value, e: value.endswith(e.expected) if isinstance(value, str) else None,
    "matches": _matches,
    "schema": lambda value, e: e.schema.fits(value) if e.schema else None,
}
"""Whether a value is as expected: None where its type has no answer. `exists`, `empty` and `count` are asked of all values."""


def hold_together(values: list[Any], e: Expectation) -> bool:
    """Whether all values, or none, are as `exists`, `empty` or `count` has it."""
    if e.operator == "exists":
        return bool(values) is e.expected
    if e.operator == "empty":
        return all(map(is_empty, values)) if e.expected else bool(values) and not any(map(is_empty, values))
    operator, number = e.expected
    if not e.is_plural and not values:
        return e.wanted and (operator, number) == ("eq", 0)
    if not e.is_plural and not isinstance(values[0], list | dict):
        return False
    return COMPARE[operator](len(values if e.is_plural else values[0]), number) is e.wanted


_NUMBERS: Final = frozenset({"lt", "le", "gt", "ge", "between"})


def why_not(value: Any, e: Expectation) -> str:
    """What more there is to say of a value that does not hold, or nothing."""
    if e.operator == "schema":
        return f", which does not fit at {e.schema.misfit(value)}" if e.schema and e.wanted else ""
    if (e.operator in _NUMBERS or e.is_number) and not is_number(value):
        return f", {kind_of(value)} and not a number"
    if e.operator in ("starts", "ends", "matches") and not isinstance(value, str):
        return f", {kind_of(value)} and not text"
    if e.operator == "contains" and not isinstance(value, str | list):
        return f", {kind_of(value)} and neither text nor a list"
    if e.operator == "eq" and kind_of(value) != kind_of(e.expected):
        return f", {kind_of(value)} and not {kind_of(e.expected)}"
    return ""
