"""Selecting values from JSON: RFC 9535 JSONPath, bounded when it is written; definite paths become plain getters."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery
from jsonpath_rfc9535.filter_expressions import Expression, FilterQuery, RootFilterQuery
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment, JSONPathSegment
from jsonpath_rfc9535.selectors import FilterSelector, IndexSelector, NameSelector

MAX_PATH_LENGTH: Final = 1000
MAX_DESCENTS: Final = 2
MAX_SELECTED: Final = 100
MAX_CONTAINERS: Final = 50_000  # lists and objects of a document that is taken apart
MAX_SEARCHED: Final = 20_000  # values of a document that is searched: by `*`, `..`, a slice or a filter

# A definite path names one value and needs no engine: $.a.b[0]['c']
_STEPS = r"""\.([A-Za-z_][A-Za-z0-9_]*)|\[(0|[1-9][0-9]{0,8})\]|\['([^'\\\x00-\x1f]*)'\]|\["([^"\\\x00-\x1f]*)"\]"""
_STEP = re.compile(_STEPS)
_DEFINITE = re.compile(rf"\$(?:{_STEPS})*")

Select = Callable[[Any], list[Any]]
"""All values a path names in a document, in order; an empty list where there is none."""


class UnreadableError(Exception):
    """A document that is not what the assertion takes it for; the message says how."""


class BudgetError(Exception):
    """A document that would take too long; the message names the bound."""


class _Environment(JSONPathEnvironment):
    max_recursion_depth = 100

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        # Their regular expressions backtrack without bound; `matches` runs on RE2 instead.
        for name in ("match", "search"):
            self.function_extensions.pop(name, None)


@lru_cache(maxsize=4096)
def compile_path(path: str) -> Select:
    """The compiled `path`. Raises `ValueError` saying where the path is wrong."""
    if len(path) > MAX_PATH_LENGTH:
        raise ValueError(f"the path has {len(path)} characters; {MAX_PATH_LENGTH} are allowed")
    if _DEFINITE.fullmatch(path):
        return _getter(path)
    try:
        query = _Environment().compile(path)
        _refuse_costly(query, path)
    except JSONPathError as wrong:
        raise ValueError(f"{path!r} is not a JSONPath (RFC 9535): {wrong}") from None
    except RecursionError:
        raise ValueError(f"the path is nested too deeply: {path[:60]!r}") from None

    def select(document: Any) -> list[Any]:
        try:
            return [node.value for node in query.find(document)]
        except (JSONPathError, RecursionError):
            return []  # too deep to walk: it selects nothing, and the assertion fails as missing

    return select


def places(path: str, document: Any) -> list[tuple[str | int, ...]]:
    """Where the values are that `path`, which is a JSONPath, names in `document`. Raises `BudgetError` where nobody can say."""
    try:
        return [tuple(node.location) for node in _compiled(path).find(document)]
    except (JSONPathError, RecursionError):
        raise BudgetError(f"the document is too deep for {path!r}") from None


@lru_cache(maxsize=1024)
def _compiled(path: str) -> JSONPathQuery:
    return _Environment().compile(path)


def expect_within_budget(body: bytes, *, is_searched: bool) -> None:
    """Raises `BudgetError` where taking JSON apart, or searching it, would hold everything up for long."""
    if len(body) <= MAX_SEARCHED:  # fewer bytes cannot hold as many values
        return
    containers = body.count(b"[") + body.count(b"{")
    if containers > MAX_CONTAINERS:
        raise BudgetError(f"the body has about {containers} lists and objects; {MAX_CONTAINERS} are read")
    if is_searched and containers + body.count(b",") > MAX_SEARCHED:
        raise BudgetError(
            f"the body has about {containers + body.count(b',')} values; {MAX_SEARCHED} are searched, "
            "and only a path that names one value is followed in more"
        )


def is_definite(path: str) -> bool:
    """Whether `path` can name one value only."""
    return _DEFINITE.fullmatch(path) is not None or _Environment().compile(path).singular_query()


def _refuse_costly(query: JSONPathQuery, path: str) -> None:
    """Raises `ValueError` for a path that may visit the same value very often.

    One `..` visits a value once per level above it, so two of them are bounded by size times depth. Several selectors
    in one bracket multiply what follows. A query of the whole document inside a filter runs once per candidate.
    """
    descents, selectors = 0, 1
    for segment, is_root in _segments(query, is_root=False):
        descents += isinstance(segment, JSONPathRecursiveDescentSegment)
        selectors *= len(segment.selectors)
        if is_root and not all(isinstance(s, NameSelector | IndexSelector) for s in segment.selectors):
            raise ValueError(
                f"{path!r} searches the whole document inside a filter; use @ or a definite path"
            )
    if descents > MAX_DESCENTS:
        raise ValueError(f"{path!r} has {descents} `..`; {MAX_DESCENTS} are allowed")
    if selectors > MAX_SELECTED:
        raise ValueError(f"{path!r} may select a value {selectors} times; {MAX_SELECTED} are allowed")


def _segments(query: JSONPathQuery, *, is_root: bool) -> Iterator[tuple[JSONPathSegment, bool]]:
    """Every segment of `query` and of the queries in its filters, and whether it is part of one that starts at `$` there."""
    for segment in query.segments:
        yield segment, is_root
        for selector in segment.selectors:
            if isinstance(selector, FilterSelector):
                yield from _in_filter(selector.expression, is_root=is_root)


def _in_filter(expression: Expression, *, is_root: bool) -> Iterator[tuple[JSONPathSegment, bool]]:
    if isinstance(expression, FilterQuery):
        yield from _segments(expression.query, is_root=is_root or isinstance(expression, RootFilterQuery))
        return
    for name in ("expression", "left", "right"):
        inner = getattr(expression, name, None)
        if isinstance(inner, Expression):
            yield from _in_filter(inner, is_root=is_root)
    for argument in getattr(expression, "args", ()):
        yield from _in_filter(argument, is_root=is_root)


def _getter(path: str) -> Select:
    steps = tuple(
        int(index) if index else name or quoted or double
        for name, index, quoted, double in _STEP.findall(path)
    )

    def select(document: Any) -> list[Any]:
        value = document
        for step in steps:
            if isinstance(step, int):
                if not isinstance(value, list) or step >= len(value):
                    return []
            elif not isinstance(value, dict) or step not in value:
                return []
            value = value[step]
        return [value]

    return select
