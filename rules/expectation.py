"""Assertions compiled: what `evaluators.assess` judges a run by, with nothing left to parse."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rules.assertion import Assertion, compile_pattern
from rules.selection import Select, compile_path


@dataclass(frozen=True, slots=True)
class Expectation:
    """A compiled assertion. `select` is set for `json`, `pattern` for `matches`."""

    of: str
    operator: str
    expected: Any
    severity: str
    key: str | None = None  # header name in lower case, record type
    select: Select | None = None
    pattern: Any = None


def compile_assertions(assertions: Iterable[Assertion]) -> tuple[Expectation, ...]:
    """Each assertion compiled, in the order they were written."""
    return tuple(_expectation(assertion) for assertion in assertions)


def _expectation(assertion: Assertion) -> Expectation:
    return Expectation(
        assertion.of,
        assertion.operator,
        assertion.expected,
        assertion.severity,
        assertion.name.lower() if assertion.name else assertion.type,
        compile_path(assertion.path) if assertion.path else None,
        compile_pattern(assertion.matches) if assertion.matches is not None else None,
    )
