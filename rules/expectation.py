"""Assertions and conditions compiled: what runs and events are judged by, with nothing left to parse."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rules.assertion import Assertion, Severity, compile_selection
from rules.comparison import Comparison, compile_schema
from rules.condition import Condition
from rules.pattern import compile_pattern
from rules.secret import is_secret_name
from rules.selection import is_definite

if TYPE_CHECKING:
    from rules.schema import Schema

_NAMES: Final = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class Expectation:
    """A compiled assertion. `select` is set for `json`, `xml` and `html`; `pattern` for `matches`; `schema` for `schema`."""

    of: str
    operator: str
    expected: Any
    severity: Severity
    key: str | None = None  # header name in lower case, cookie, step, record type, path
    select: Callable[..., list[Any]] | None = None
    pattern: Any = None
    schema: "Schema | None" = None
    wanted: bool = True  # what the operator is to say of a value; False where it is negated
    is_plural: bool = False  # of what may be several values, so that none of them is a count too
    is_number: bool = False  # text that is declared to be a number
    is_secret: bool = False  # whose text is not shown
    limit: int | None = None  # values of a document that are looked at


def compile_assertions(assertions: Iterable[Assertion]) -> tuple[Expectation, ...]:
    """Each assertion compiled, in the order they were written."""
    return tuple(_expectation(assertion) for assertion in assertions)


def _expectation(assertion: Assertion) -> Expectation:
    operator, expected, wanted = _asked(assertion)
    select, is_plural = None, assertion.of in ("record", "ttl", "xml", "html")
    if assertion.path is not None:
        select = compile_selection(assertion.of, assertion.path, assertion.attribute)
        is_plural = is_plural or not is_definite(assertion.path)
    return Expectation(
        assertion.of,
        operator,
        expected,
        assertion.severity,
        _key(assertion),
        select,
        compile_pattern(assertion.matches) if assertion.matches is not None else None,
        compile_schema(assertion.schema_) if assertion.schema_ is not None else None,
        wanted,
        is_plural,
        assertion.as_ == "number",
        _is_secret(assertion),
        {"count": 0, "exists": 1}.get(operator),
    )


def compile_condition(condition: Condition, *, is_plural: bool) -> Expectation:
    """A comparison of what may be one value, or several."""
    operator, expected, wanted = _asked(condition)
    return Expectation(
        "json",
        operator,
        expected,
        "critical",
        condition.value,
        pattern=compile_pattern(condition.matches) if condition.matches is not None else None,
        schema=compile_schema(condition.schema_) if condition.schema_ is not None else None,
        wanted=wanted,
        is_plural=is_plural,
        is_number=condition.as_ == "number",
    )


def compile_comparison(of: str, comparison: Comparison) -> Expectation:
    """A comparison of one value of `of`, which is there."""
    operator, expected, wanted = _asked(comparison)
    pattern = compile_pattern(comparison.matches) if comparison.matches is not None else None
    return Expectation(of, operator, expected, "critical", pattern=pattern, wanted=wanted)


def _asked(comparison: Comparison) -> tuple[str, Any, bool]:
    """Its operator, what that compares with, and what it is to say."""
    operator, expected, wanted = comparison.operator, comparison.expected, not comparison.not_
    if operator in ("exists", "empty", "changed"):  # each says which it wants, so that `not` is the other
        return operator, expected is wanted, True
    return operator, expected, wanted


def _is_secret(assertion: Assertion) -> bool:
    """Whether what it looks at is called like a secret: a cookie, a header, the last name of a path."""
    last = _NAMES.findall(assertion.attribute or assertion.path or assertion.name or "")[-1:]
    return assertion.of == "cookie" or (assertion.of != "step" and any(map(is_secret_name, last)))


def _key(assertion: Assertion) -> str | None:
    name = assertion.name.lower() if assertion.name and assertion.of == "header" else assertion.name
    return name or assertion.type or assertion.path
