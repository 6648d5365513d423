"""Selecting values from JSON: RFC 9535 JSONPath, bounded when it is written and while it searches.

`jsonpath_rfc9535` reads paths. Following them is ours, as its own way has no bound. A path that can name one value only
is a plain getter.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, Protocol, cast

from iregexp_check import check as is_iregexp
from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError, JSONPathQuery
from jsonpath_rfc9535.exceptions import JSONPathTypeError
from jsonpath_rfc9535.filter_expressions import (
    ComparisonExpression,
    Expression,
    FilterExpression,
    FilterExpressionLiteral,
    FilterQuery,
    FunctionExtension,
    LogicalExpression,
    PrefixExpression,
    RootFilterQuery,
    StringLiteral,
)
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment, JSONPathSegment
from jsonpath_rfc9535.selectors import (
    FilterSelector,
    IndexSelector,
    JSONPathSelector,
    NameSelector,
    SliceSelector,
)

from rules.pattern import compile_pattern

MAX_PATH_LENGTH: Final = 1000
MAX_DESCENTS: Final = 2
MAX_SELECTED: Final = 100
MAX_CONTAINERS: Final = 50_000  # lists and objects of a document that is taken apart
MAX_SEARCHED: Final = 20_000  # values of a document that is searched: by `*`, `..`, a slice or a filter
MAX_STEPS: Final = 100_000  # about 50 ms
MAX_SEARCH: Final = 250_000_000  # instructions of an expression times characters: about 2 s at worst
_ANY_DEPTH: Final = 100
_STEPS_A_PATTERN: Final = 1000  # to compile one that the document brings along

# A definite path names one value and needs no engine: $.a.b[0]['c']
_STEPS = r"""\.([A-Za-z_][A-Za-z0-9_]*)|\[(0|[1-9][0-9]{0,8})\]|\['([^'\\\x00-\x1f]*)'\]|\["([^"\\\x00-\x1f]*)"\]"""
_STEP = re.compile(_STEPS)
_DEFINITE = re.compile(rf"\$(?:{_STEPS})*")
_ODD_NAME = re.compile(r"\.(@?\w+(?:[-:/@]\w+)+|@\w+)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEARCHING: Final = ("match", "search")
_CONTROL = re.compile("[\x00-\x1f]")
_UNICODE: Final = "\\u"
_DOT = re.compile(
    r"\\.|\[(?:\\.|[^\]\\])*\]|\.", re.DOTALL
)  # one that stands for a character is the last of these

Steps = tuple[str | int, ...]
"""The names and indexes that lead to a value."""


class UnreadableError(Exception):
    """A document that is not what the assertion takes it for; the message says how."""


class BudgetError(Exception):
    """A document that would take too long; the message names the bound."""


class Budget:
    """What searching may still cost. A step is a value visited, compared or tried."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, steps: int = 1) -> None:
        """Raises `BudgetError` where there is not as much left."""
        self.left -= steps
        if self.left < 0:
            raise BudgetError(f"it takes more than {MAX_STEPS} steps")


def search(pattern: Any, text: str, budget: Budget) -> Any:
    """Where RE2 finds `pattern` in `text`, as bytes. Raises `BudgetError`."""
    budget.spend(1 + int(len(text) * steps_a_character(pattern)))
    return pattern.search(text.encode("utf-8", "replace"))  # half of a surrogate pair is no text to RE2


def expect_searchable(pattern: Any, size: int) -> None:
    """Raises `BudgetError` where so many characters are too many for so large a pattern, which few are."""
    if pattern.programsize * size > MAX_SEARCH:
        raise BudgetError(
            f"the regular expression, of {pattern.programsize} instructions, is too large for {size} characters; "
            "write smaller numbers into its {..}"
        )


def steps_a_character(pattern: Any) -> float:
    """What RE2 may cost: it is quick, unless a large pattern and a text are made for each other."""
    return max(1 / 16, float(pattern.programsize - 48) / 256)


class Select(Protocol):
    """All values a path names in a document, in order; an empty list where there is none. Raises `BudgetError`."""

    def __call__(self, document: Any, budget: Budget | None = None) -> list[Any]: ...


class _Nothing:
    """What a filter compares where there is no value."""


_NOTHING: Final = _Nothing()
_Node = tuple[Any, Any]
"""A value and its place: the place of what it is in and its name or index there, nothing for the document."""
_Follow = Callable[[Any, Any, Budget], list[_Node]]
_Pick = Callable[[Any, Any, Budget], Iterable[tuple[str | int, Any]]]
_Value = Callable[[Any, Any, Budget], Any]


class _Environment(JSONPathEnvironment):
    max_recursion_depth = 100


@lru_cache(maxsize=4096)
def compile_path(path: str) -> Select:
    """The compiled `path`. Raises `ValueError` saying where the path is wrong."""
    steps, follow = _compiled(path)
    if steps is not None:
        return _getter(steps)

    def select(document: Any, budget: Budget | None = None) -> list[Any]:
        return [value for value, _ in _followed(follow, document, budget or Budget())]

    return select


def places(path: str, document: Any, budget: Budget) -> list[Steps]:
    """Where the values are that `path` names. Raises `BudgetError`."""
    return [_steps_to(place) for _, place in _followed(_compiled(path)[1], document, budget)]


@lru_cache(maxsize=4096)
def outline(path: str) -> tuple[str | int | None, ...]:
    """The steps of a path as far as it is known how deep they lead; None is one of which any may be meant."""
    steps, found = _compiled(path)[0], list[str | int | None]()
    for segment in _Environment().compile(path).segments if steps is None else ():
        if isinstance(segment, JSONPathRecursiveDescentSegment):
            return (*found, *[None] * _ANY_DEPTH)
        one = segment.selectors[0] if len(segment.selectors) == 1 else None
        found.append(getattr(one, "name", getattr(one, "index", None)))
    found += steps or ()
    return tuple(None if isinstance(step, int) and step < 0 else step for step in found)


def meets(steps: Iterable[str | int | None], others: Iterable[str | int | None]) -> bool:
    """Whether what one of two outlines names may be what the other names, or be in it."""
    pairs = zip(steps, others, strict=False)
    return all(one == other or one is None or other is None for one, other in pairs)


def normal_path(steps: Iterable[str | int]) -> str:
    """The path that names the one value where `steps` lead to: `$.alerts[0]['a-b']`."""
    return "$" + "".join(map(_step, steps))


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
    return _compiled(path)[0] is not None


def _in_brackets(path: str) -> str:
    """How a name is written that has more in it than a dot can take, where `path` seems to have one."""
    odd = _ODD_NAME.search(path)
    return f"; a name with other characters in it is written ['{odd[1]}']" if odd else ""


@lru_cache(maxsize=4096)
def _compiled(path: str) -> tuple[Steps | None, _Follow]:
    """The steps of a path that can name one value only, and what follows any."""
    if len(path) > MAX_PATH_LENGTH:
        raise ValueError(f"the path has {len(path)} characters; {MAX_PATH_LENGTH} are allowed")
    if _DEFINITE.fullmatch(path):
        return (steps := _steps_in(path)), _along(steps)
    try:
        query = _Environment().compile(path)
        _refuse_costly(query, path)
        singular = _singular(query)
        return singular, _query(query) if singular is None else _along(singular)
    except JSONPathError as wrong:
        raise ValueError(f"{path!r} is not a JSONPath (RFC 9535): {wrong}{_in_brackets(path)}") from None
    except RecursionError:
        raise ValueError(f"the path is nested too deeply: {path[:60]!r}") from None


def _followed(follow: _Follow, document: Any, budget: Budget) -> list[_Node]:
    try:
        return follow(document, document, budget)
    except RecursionError:
        raise BudgetError("what is compared in it is nested too deeply") from None


def _steps_to(place: Any) -> Steps:
    steps: list[str | int] = []
    while place:
        place, step = place
        steps.append(step)
    return tuple(reversed(steps))


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _NAME.fullmatch(step):
        return f".{step}"
    quote = '"' if "'" in step and '"' not in step else "'"
    text = step.replace("\\", r"\\").replace(quote, f"\\{quote}")
    return f"[{quote}{_CONTROL.sub(lambda char: f'{_UNICODE}{ord(char[0]):04x}', text)}{quote}]"


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


def _singular(query: JSONPathQuery) -> Steps | None:
    """The steps of a query that can name one value only."""
    if not query.singular_query():
        return None
    selectors = [segment.selectors[0] for segment in query.segments]
    return tuple(s.name if isinstance(s, NameSelector) else cast("IndexSelector", s).index for s in selectors)


def _steps_in(path: str) -> Steps:
    return tuple(
        int(index) if index else name or quoted or double
        for name, index, quoted, double in _STEP.findall(path)
    )


def _getter(steps: Steps) -> Select:
    def select(document: Any, budget: Budget | None = None) -> list[Any]:
        value = document
        for step in steps:
            if isinstance(step, int):
                if type(value) is not list or not -len(value) <= step < len(value):
                    return []
            elif type(value) is not dict or step not in value:
                return []
            value = value[step]
        return [value]

    return select


def _along(steps: Steps) -> _Follow:
    """The same, with the place."""
    select = _getter(steps)

    def follow(value: Any, _: Any, budget: Budget) -> list[_Node]:
        budget.spend()
        found, inner = select(value), value
        place: Any = ()
        for step in steps if found else ():
            place = (place, step + len(inner) if isinstance(step, int) and step < 0 else step)
            inner = inner[step]
        return [(one, place) for one in found]

    return follow


def _query(query: JSONPathQuery) -> _Follow:
    segments = [
        (isinstance(segment, JSONPathRecursiveDescentSegment), [_selector(one) for one in segment.selectors])
        for segment in query.segments
    ]

    def follow(value: Any, root: Any, budget: Budget) -> list[_Node]:
        nodes: list[_Node] = [(value, ())]
        for descends, picks in segments:
            found: list[_Node] = []
            for inner, place in _descend(nodes, budget) if descends else nodes:
                for pick in picks:
                    chosen = [(child, (place, step)) for step, child in pick(inner, root, budget)]
                    budget.spend(1 + len(chosen))
                    found += chosen
            nodes = found
        return nodes

    return follow


def _descend(nodes: list[_Node], budget: Budget) -> Iterator[_Node]:
    """Each of `nodes` and what is inside it, a value before what it has in it."""
    for node in nodes:
        waiting = [node]
        while waiting:
            yield (one := waiting.pop())
            value, place = one
            inner = [
                (child, (place, step)) for step, child in _children(value) if isinstance(child, dict | list)
            ]
            budget.spend(1 + len(inner))
            waiting += reversed(inner)


def _children(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _selector(selector: JSONPathSelector) -> _Pick:
    if isinstance(selector, NameSelector | IndexSelector):
        along = _along((selector.name if isinstance(selector, NameSelector) else selector.index,))
        return lambda value, root, budget: [(place[1], one) for one, place in along(value, root, budget)]
    if isinstance(selector, SliceSelector):
        part = selector.slice
        return lambda value, _, __: (
            [(index, value[index]) for index in range(*part.indices(len(value)))]
            if isinstance(value, list) and part.step != 0
            else ()
        )
    if isinstance(selector, FilterSelector):
        holds = _claim(selector.expression)
        return lambda value, root, budget: [one for one in _children(value) if holds(one[1], root, budget)]
    return lambda value, _, __: _children(value)


def _claim(e: Expression) -> _Value:
    """What says whether a logical expression is true of a candidate."""
    if isinstance(e, FilterExpression):
        return _claim(e.expression)
    if isinstance(e, PrefixExpression):
        inner = _claim(e.right)
        return lambda value, root, budget: not inner(value, root, budget)
    if isinstance(e, LogicalExpression):
        left, right = _claim(e.left), _claim(e.right)
        if e.operator == "&&":
            return lambda value, root, budget: left(value, root, budget) and right(value, root, budget)
        return lambda value, root, budget: left(value, root, budget) or right(value, root, budget)
    if isinstance(e, ComparisonExpression):
        return _compared(_operand(e.left), e.operator, _operand(e.right))
    if isinstance(e, FunctionExtension) and e.name in _SEARCHING:
        return _searched(e)
    if not isinstance(e, FilterQuery):  # behind `!` the library lets others pass
        raise JSONPathTypeError(f"{e} is neither true nor false", token=e.token)
    nodes = _nodes(e)
    return lambda value, root, budget: bool(nodes(value, root, budget))


def _nodes(e: Expression) -> _Follow:
    query = cast("FilterQuery", e).query
    steps = _singular(query)
    follow = _query(query) if steps is None else _along(steps)
    if isinstance(e, RootFilterQuery):
        return lambda _, root, budget: follow(root, root, budget)
    return follow


def _operand(e: Expression) -> _Value:
    """What gives one value, or nothing."""
    if isinstance(e, FilterExpressionLiteral):
        return lambda _, __, ___: e.value
    if isinstance(e, FunctionExtension) and e.name == "length":
        inner = _operand(e.args[0])

        def length(value: Any, root: Any, budget: Budget) -> Any:
            found = inner(value, root, budget)
            return len(found) if isinstance(found, str | list | dict) else _NOTHING

        return length
    if not isinstance(e, FilterQuery) and not (isinstance(e, FunctionExtension) and e.name not in _SEARCHING):
        raise JSONPathTypeError(f"{e} is not a value", token=e.token)
    is_count = isinstance(e, FunctionExtension) and e.name == "count"
    query = e.args[0] if isinstance(e, FunctionExtension) else e
    if not is_count and (steps := _singular(cast("FilterQuery", query).query)) is not None:
        select, is_root = _getter(steps), isinstance(query, RootFilterQuery)

        def named(value: Any, root: Any, _: Budget) -> Any:
            found = select(root if is_root else value)
            return found[0] if found else _NOTHING

        return named
    nodes = _nodes(query)
    if is_count:
        return lambda value, root, budget: len(nodes(value, root, budget))

    def one(value: Any, root: Any, budget: Budget) -> Any:
        found = nodes(value, root, budget)
        return found[0][0] if len(found) == 1 else _NOTHING

    return one


def _compared(left: _Value, operator: str, right: _Value) -> _Value:
    compare = _COMPARE[operator]

    def holds(value: Any, root: Any, budget: Budget) -> bool:
        budget.spend(2)
        return compare(left(value, root, budget), right(value, root, budget), budget)

    return holds


def _same(left: Any, right: Any, budget: Budget) -> bool:
    """Equality as JSON has it: true is not 1, at any depth."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        budget.spend(len(left))
        return all(_same(one, other, budget) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        budget.spend(len(left))
        return all(_same(one, right[key], budget) for key, one in left.items())
    return not isinstance(left, list | dict) and bool(left == right)


def _less(left: Any, right: Any, _: Budget) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return numbers and not isinstance(left, bool) and not isinstance(right, bool) and left < right


_COMPARE: Final[dict[str, Callable[[Any, Any, Budget], bool]]] = {
    "==": _same,
    "!=": lambda left, right, budget: not _same(left, right, budget),
    "<": _less,
    ">": lambda left, right, budget: _less(right, left, budget),
    "<=": lambda left, right, budget: _less(left, right, budget) or _same(left, right, budget),
    ">=": lambda left, right, budget: _less(right, left, budget) or _same(left, right, budget),
}


def _searched(e: FunctionExtension) -> _Value:
    """`match` and `search`: I-Regexp (RFC 9485), run by RE2."""
    text, pattern, is_whole = _operand(e.args[0]), _operand(e.args[1]), e.name == "match"
    literal = e.args[1] if isinstance(e.args[1], StringLiteral) else None
    if literal is not None:
        _iregexp(literal.value, is_whole)  # refused now rather than never matching

    def holds(value: Any, root: Any, budget: Budget) -> bool:
        found, wanted = text(value, root, budget), pattern(value, root, budget)
        if not isinstance(found, str) or not isinstance(wanted, str) or len(wanted) > MAX_PATH_LENGTH:
            return False
        budget.spend(0 if literal else _STEPS_A_PATTERN)
        try:
            compiled = _iregexp(wanted, is_whole)
        except ValueError:
            return False
        return search(compiled, found, budget) is not None

    return holds


@lru_cache(maxsize=1024)
def _iregexp(pattern: str, is_whole: bool) -> Any:
    """The RE2 of an I-Regexp. Raises `ValueError` for what is none, and for what RE2 refuses."""
    if not is_iregexp(pattern):
        raise ValueError(
            f"{pattern!r} is not an I-Regexp (RFC 9485), which has neither \\d nor \\b nor (?: )"
        )
    written = _DOT.sub(lambda part: r"[^\n\r]" if part[0] == "." else part[0], pattern)
    return compile_pattern(rf"\A(?:{written})\z" if is_whole else written)
