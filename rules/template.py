"""Templates of public text: a part of Jinja2 that is bounded by how it is made, checked when it is written. What is said by default is `evaluators.words`.

A list says what of Jinja2 there is; all else is refused: no calls, no arithmetic, no assignments, no filter that could
make much out of little. Names and attributes are known from `VARIABLES`, so that nothing but those can be asked for:
attributes are keys of mappings and places in lists, never of Python. Turns of loops are counted, output is counted, and
a deadline is asked for in between. Whatever stands in `{{ }}` is data: it is put on one line, and in Markdown escaped.

Imports Jinja2, so it is itself imported only where there is a template.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from jinja2 import TemplateSyntaxError, nodes, pass_context
from jinja2.environment import Template as Compiled
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import SandboxedEnvironment

from rules.comparison import is_kept
from rules.markdown import escaped, one_line
from rules.problem import nearest
from rules.zone import zone_name

MAX_SOURCE: Final = 8192
"""Bytes of a template."""
MAX_OUTPUT: Final = 25_000
"""Bytes that it may say: no more than people may write."""
MAX_TURNS: Final = 10_000
"""Of all its loops together."""
_MAX_DEPTH: Final = 35  # of the tree that Jinja2 makes of it
_MAX_LOOPS: Final = 2
_MAX_CONST: Final = 100  # characters of a text
_MAX_NUMBER: Final = 10**9

VARIABLES: Final[dict[str, str]] = {
    "what": "Names of the components it affects, joined as in a sentence; the name of the beat or group where it feeds none.",
    "name": "Name of the beat or group.",
    "slug": "Its slug.",
    "kind": "`beat` or `group`.",
    "stage": "What it is now: `warning`, `critical` or, at the end, `ok`.",
    "severity": "`warning` or `critical`: how bad it is, or at the end how bad it was.",
    "since": "When the episode began; see the filter `at`.",
    "regions[]": "Where it is bad, at the end where it was: names of regions, in order.",
    "evidence": "Why, in a few words of ours: never what a target or a sender said.",
    "components[].name": "Name of a component it affects.",
    "components[].slug": "Its slug.",
    "components[].status": "What it is shown as: `degraded_performance`, `partial_outage`, `major_outage` or `operational`.",
    "page.name": "Name of the page.",
    "page.slug": "Its slug.",
    "url": "What is checked, where that is a URL or host without references; else empty.",
    "captures.NAME": "A value that a trigger or beat lists in `publish`; empty where it is not known.",
}
"""What a template may say, and what that is. `[]` is a list."""
_ANY: Final = "NAME"

Shape = dict[str, Any] | list[Any] | None
"""What is known of a value: fields of a mapping, the shape of a list's items, or None for text and numbers."""


class TemplateError(ValueError):
    """A template that is not allowed, or that failed; the message says why."""


class _Allowance:
    """What one rendering may still do."""

    def __init__(self, expired: Callable[[], bool]) -> None:
        self._expired, self._turns, self._bytes = expired, MAX_TURNS, MAX_OUTPUT

    def turn(self) -> None:
        self._turns -= 1
        if self._turns < 0:
            raise TemplateError(f"its loops take more than {MAX_TURNS} turns")
        self._expect_time()

    def say(self, text: str) -> None:
        self._bytes -= len(text.encode())
        if self._bytes < 0:
            raise TemplateError(f"it says more than {MAX_OUTPUT} bytes")
        self._expect_time()

    def _expect_time(self) -> None:
        if self._expired():
            raise TemplateError("it takes too long")


class Template:
    """A compiled template."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled

    def render(self, values: Mapping[str, Any], expired: Callable[[], bool]) -> str:
        """What it says of `values`, without space around. Raises `TemplateError` over its bounds and once `expired`; what it compares wrongly raises `TypeError`."""
        allowance, parts = _Allowance(expired), list[str]()
        for part in self._compiled.generate(**values, _allowance=allowance):
            allowance.say(part)
            parts.append(part)
        return "".join(parts).strip()


# ---- filters


def _text(value: Any, between: str = ", ") -> str:
    """As it is shown; the items of a list with `between` them."""
    if isinstance(value, datetime):
        return _at(value, "%Y-%m-%d %H:%M UTC")
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        return between.join(map(_text, value))
    return "" if value is None else str(value)


def _truncate(value: Any, most: int = 100) -> str:
    text = _text(value)
    return text if len(text) <= most else f"{text[: max(most - 1, 0)].rstrip()}…"


_DIRECTIVES: Final = "YymdeHIMSpaAbBjZz%"


def _at(value: Any, format_: str = "%Y-%m-%d %H:%M", zone: str = "UTC") -> str:
    """A time as `at('%H:%M')`, or elsewhere as `at('%H:%M', 'Europe/Berlin')`."""
    for place, char in enumerate(pieces := format_.replace("%%", "")):
        if char == "%" and pieces[place + 1 : place + 2] not in tuple(_DIRECTIVES):
            raise TemplateError(f"at {format_!r}: a % goes before one of {' '.join(_DIRECTIVES)}")
    if not isinstance(value, datetime):
        return _text(value)
    return value.astimezone(ZoneInfo(zone_name(zone))).strftime(format_)


FILTERS: Final[dict[str, tuple[Callable[..., Any], str]]] = {
    "upper": (lambda value: _text(value).upper(), "In capital letters."),
    "lower": (lambda value: _text(value).lower(), "In small letters."),
    "title": (lambda value: _text(value).title(), "Each Word With A Capital."),
    "capitalize": (lambda value: _text(value).capitalize(), "The first letter a capital, the others small."),
    "trim": (lambda value: _text(value).strip(), "Without space around."),
    "join": (_text, "The items of a list with `', '` between them, or what is given."),
    "default": (
        lambda value, other="": other if value is None or value in ("", []) else value,
        "What is given, where there is nothing: `captures.city|default('one city')`.",
    ),
    "first": (
        lambda value: value[0] if value else None,
        "The first item of a list, the first character of a text.",
    ),
    "last": (lambda value: value[-1] if value else None, "The last one."),
    "length": (lambda value: len(value or ""), "How many items or characters."),
    "round": (
        lambda value, digits=0: round(float(value), digits) if digits else round(float(value)),
        "A number with as many digits after the point as are given, else none.",
    ),
    "truncate": (_truncate, "At most as many characters as are given (100), with an ellipsis."),
    "at": (_at, "A time as strftime writes it, in UTC or a zone: `since|at('%H:%M', 'Europe/Berlin')`."),
}
"""What may follow a `|`, and what that does."""


@pass_context
def _counted(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    allowance: _Allowance = context["_allowance"]
    for item in items:
        allowance.turn()
        yield item


# ---- compiling


class _Environment(SandboxedEnvironment):
    """Asks values for nothing but keys and places: there is no way into Python."""

    def __init__(self, finalize: Callable[[Any], str]) -> None:
        super().__init__(
            autoescape=False, finalize=finalize, trim_blocks=True, lstrip_blocks=True, cache_size=0
        )
        self.globals.clear()
        self.tests.clear()
        self.filters = {name: function for name, (function, _) in FILTERS.items()} | {"_counted": _counted}

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, LoopContext):
            return getattr(obj, argument)
        if isinstance(obj, dict):
            return obj.get(argument)
        if isinstance(obj, list) and type(argument) is int and -len(obj) <= argument < len(obj):
            return obj[argument]
        return None

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)


_PLAIN: Final = _Environment(lambda value: one_line(_text(value)))
_MARKDOWN: Final = _Environment(lambda value: escaped(one_line(_text(value))))


@lru_cache(maxsize=4096)
def check(source: str) -> frozenset[str]:
    """The names of the captures it asks for. Raises `TemplateError` for what is not allowed, saying what is."""
    return _parsed(source)[1]


@lru_cache(maxsize=1024)
def compile_template(source: str, *, is_markdown: bool) -> Template:
    """`source`, ready to be rendered. Raises as `check`."""
    parsed, _ = _parsed(source)
    for loop in parsed.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, "_counted", [], [], None, None, lineno=loop.lineno)
    environment = _MARKDOWN if is_markdown else _PLAIN
    return Template(environment.from_string(parsed))


def _parsed(source: str) -> tuple[nodes.Template, frozenset[str]]:
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE:
        raise TemplateError(f"it has more than {MAX_SOURCE} bytes")
    if not is_kept(source):
        raise TemplateError("NUL and half a surrogate pair are not allowed")
    try:
        parsed = _PLAIN.parse(source)
        depth = _depth(parsed)
    except TemplateSyntaxError as wrong:
        raise TemplateError(f"line {wrong.lineno}: {wrong.message}") from None
    except (RecursionError, ValueError, OverflowError):  # too deep, or a number of 5,000 digits
        raise TemplateError("it is nested too deeply, or has too long a number") from None
    if depth > _MAX_DEPTH:
        raise TemplateError("it is nested too deeply")
    checker = _Checker()
    checker.body(parsed.body, _SHAPES, 0)
    return parsed, frozenset(checker.captures)


def _shapes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in VARIABLES:
        name, _, field = path.partition(".")
        if name.endswith("[]"):
            (items,) = found.setdefault(name[:-2], [{} if field else None])
            if field:
                items[field] = None
        elif field:
            found.setdefault(name, {})[field] = None
        else:
            found[name] = None
    return found


_SHAPES: Final = _shapes()
_LOOP: Final = {"first": None, "last": None, "index": None}
_ALLOWED: Final = f"there are variables, if, for, comparisons, and the filters {', '.join(FILTERS)}"


class _Checker:
    """Goes through a template once: refuses what is not on the list, and finds the captures that are asked for."""

    def __init__(self) -> None:
        self.captures = set[str]()

    def body(self, body: Sequence[nodes.Node], scope: Mapping[str, Any], loops: int) -> None:
        for node in body:
            if isinstance(node, nodes.Output):
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        self.shape(part, scope)
            elif isinstance(node, nodes.If):
                self.shape(node.test, scope)
                for inner in (node.body, node.elif_, node.else_):
                    self.body(inner, scope, loops)
            elif isinstance(node, nodes.For):
                self._loop(node, scope, loops)
            else:
                raise _refused(node)

    def _loop(self, node: nodes.For, scope: Mapping[str, Any], loops: int) -> None:
        items = self.shape(node.iter, scope)
        if not isinstance(items, list) or node.recursive:
            raise _wrong(node, "a loop is over one of the lists regions and components, and not recursive")
        if loops == _MAX_LOOPS:
            raise _wrong(node, f"loops are nested {_MAX_LOOPS} deep at most")
        if not isinstance(node.target, nodes.Name) or node.target.name in {*_SHAPES, "loop", "_allowance"}:
            raise _wrong(node, "a loop has one name of its own for an item")
        inner = {**scope, node.target.name: items[0]}
        if node.test is not None:
            self.shape(node.test, inner)
        self.body(node.body, {**inner, "loop": _LOOP}, loops + 1)
        self.body(node.else_, scope, loops)

    def shape(self, node: nodes.Node, scope: Mapping[str, Any]) -> Shape:
        """What is known of the value of an expression."""
        if isinstance(node, nodes.Name):
            return self._field(node, scope, node.name, "variable")
        if isinstance(node, nodes.Getattr):
            return self._of(node, self.shape(node.node, scope), node.attr)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            return self._of(node, self.shape(node.node, scope), node.arg.value)
        if isinstance(node, nodes.Filter) and node.node is not None:
            return self._filtered(node, self.shape(node.node, scope))
        if isinstance(node, nodes.Const):
            _expect_small(node)
        elif isinstance(
            node,
            nodes.Compare | nodes.Operand | nodes.And | nodes.Or | nodes.Not | nodes.CondExpr,
        ):
            for inner in node.iter_child_nodes():
                self.shape(inner, scope)
        elif isinstance(node, nodes.List | nodes.Tuple):  # of variables it could be made large without a loop
            for item in node.items:
                _expect_small(item)
        else:
            raise _refused(node)
        return None

    def _of(self, node: nodes.Node, shape: Shape, key: Any) -> Shape:
        if isinstance(shape, list) and type(key) is int and abs(key) < _MAX_NUMBER:
            item: Shape = shape[0]
            return item
        if not isinstance(shape, dict) or not isinstance(key, str):
            raise _wrong(node, f"{key!r} is not a part of it; texts have none")
        if _ANY in shape:
            self.captures.add(key)
            return None
        return self._field(node, shape, key, "field")

    def _field(self, node: nodes.Node, known: Mapping[str, Any], name: str, called: str) -> Shape:
        if name not in known:
            said = f"there is no {called} {name}{nearest(name, known)}; there are: {', '.join(sorted(known))}"
            raise _wrong(node, said)
        shape: Shape = known[name]
        return shape

    def _filtered(self, node: nodes.Filter, shape: Shape) -> Shape:
        if node.name not in FILTERS:
            raise _wrong(node, f"there is no filter {node.name}{nearest(node.name, FILTERS)}; {_ALLOWED}")
        if node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise _wrong(node, f"{node.name} takes plain values")
        given = [_expect_small(one) for one in node.args]
        function = FILTERS[node.name][0]
        try:
            inspect.signature(function).bind(None, *given)
            if given:  # a wrong format, zone or number is known before it is needed
                function(_SAMPLES.get(node.name, ["x"] * 100), *given)
        except (TypeError, ValueError, AttributeError) as wrong:
            raise _wrong(node, f"{node.name}: {wrong}") from None
        return shape[0] if node.name in ("first", "last") and isinstance(shape, list) else None


_SAMPLES: Final = {"at": datetime(2000, 1, 1, tzinfo=UTC), "round": 0}


def _expect_small(node: nodes.Node) -> Any:
    value = node.value if isinstance(node, nodes.Const) else node
    if isinstance(value, str) and len(value) <= _MAX_CONST:
        return value
    if value is None or (isinstance(value, int | float) and abs(value) < _MAX_NUMBER):
        return value
    raise _wrong(node, f"a value that is written here is a text of {_MAX_CONST} characters or a number")


def _depth(node: nodes.Node) -> int:
    return 1 + max(map(_depth, node.iter_child_nodes()), default=0)


def _wrong(node: nodes.Node, said: str) -> TemplateError:
    return TemplateError(f"line {node.lineno}: {said}")


def _refused(node: nodes.Node) -> TemplateError:
    is_sum = isinstance(node, nodes.BinExpr | nodes.UnaryExpr)
    return _wrong(
        node, f"{'arithmetic' if is_sum else type(node).__name__.lower()} is not allowed; {_ALLOWED}"
    )
