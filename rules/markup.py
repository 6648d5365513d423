"""Selecting values from XML (XPath 1.0) and HTML (CSS). What no budget could bound is refused when it is written.

libxml2 expands no entity twice over and asks no network here; but its XPath has no limit of steps, and
a second `//`, a sibling axis or two node sets compared are quadratic: `//a//a` takes 1.4 s of a document of 42 kB
(docs/decisions/0013). XPath is therefore a subset that is linear in the document, whose elements are counted before.
HTML never becomes a tree: its events are matched as they come, with one bit per step of the selector.

Imports lxml and cssselect, so it is itself imported only where an assertion needs it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import cssselect
from cssselect import parser as css
from lxml import etree

from rules.secret import cut
from rules.selection import BudgetError, UnreadableError

MAX_ELEMENTS: Final = 20_000
MAX_DEPTH: Final = 100
MAX_VALUES: Final = 1000  # that are compared; only `count` takes more
MAX_TEXT: Final = 2**21  # characters of all values together
MAX_PREDICATES: Final = 8
MAX_STEPS: Final = 24  # of all selectors of a list together
_CHUNK: Final = 32_768

Find = Callable[[Any, int | None], list[Any]]
"""All values in a document, in order. Of more than `limit` only the place is kept, as None."""

_LITERAL: Final = r"""(?P<literal>"[^"]*"|'[^']*'|\d+(?:\.\d*)?|\.\d+)"""
_TOKENS: Final = re.compile(
    rf"\s*(?:{_LITERAL}|(?P<name>[^\W\d][\w.-]*(?::(?:\*|[^\W\d][\w.-]*))?)"
    r"|(?P<sign>//|::|\.\.|!=|<=|>=|[/\[\]().,@|$=<>+*-]))\s*"
)
_FUNCTIONS: Final = (
    *("boolean", "ceiling", "concat", "contains", "count", "false", "floor", "last", "local-name", "name"),
    *("namespace-uri", "node", "normalize-space", "not", "number", "position", "round", "starts-with"),
    *("string", "string-length", "substring", "substring-after", "substring-before", "sum", "text", "true"),
)
_COMPARED: Final = frozenset({"=", "!=", "<", "<=", ">", ">="})
_OPENS: Final = frozenset({"", "(", ",", "and", "or", "div", "mod", "+", "-", *_COMPARED})


def parse_xml(body: bytes) -> Any:
    """The root element. Raises `UnreadableError` for what is not XML, `BudgetError` for what is too much of it."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(body.strip(), parser)
    except etree.LxmlError as wrong:
        raise UnreadableError(f"the body is not XML ({cut(str(wrong), 120)})") from None
    subset = root.getroottree().docinfo.internalDTD
    if subset is not None and next(subset.iterentities(), None) is not None:
        raise UnreadableError("the document declares entities, which are not read")
    elements = int(root.xpath("count(//*)"))
    if elements > MAX_ELEMENTS or root.xpath("boolean(" + "/*" * (MAX_DEPTH + 1) + ")"):
        raise BudgetError(f"{elements} elements; {MAX_ELEMENTS} are looked at, in {MAX_DEPTH} levels")
    return root


def compile_xpath(path: str) -> Find:
    """The compiled `path`. Raises `ValueError` saying where it is wrong or what it may not use."""
    try:
        etree.XPath(path)
    except etree.XPathSyntaxError as wrong:
        raise ValueError(f"{path!r} is not an XPath 1.0 expression: {wrong}") from None
    _refuse_costly(path)

    def find(root: Any, limit: int | None) -> list[Any]:
        prefixes = {prefix: uri for prefix, uri in root.nsmap.items() if prefix}
        try:
            found = root.xpath(path, namespaces=prefixes, smart_strings=False)
        except etree.XPathError:  # a prefix that this document does not declare: nothing is called so
            return []
        if not isinstance(found, list):
            return [found]
        return _bounded(
            found,
            limit,
            lambda node: node if isinstance(node, str) else node.xpath("string()", smart_strings=False),
        )

    return find


def _refuse_costly(path: str) -> None:
    """Raises `ValueError` for what is not linear in the document."""
    tokens = [(found.lastgroup, found[found.lastgroup or 0]) for found in _TOKENS.finditer(path)]
    before, depth, searches, predicates = "", 0, 0, 0
    for at, (kind, word) in enumerate(tokens):
        after = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if kind == "name" and after == "(" and word not in _FUNCTIONS and word not in _OPENS:
            raise ValueError(f"{path!r} calls {word}(); there are {', '.join(_FUNCTIONS)}")
        if kind == "sign":
            searches += word == "//"
            predicates += word == "["
            depth += (word == "[") - (word == "]")
            if word in ("::", "..", "|", "$"):
                raise ValueError(f"{path!r} has {word}; a path goes down by / and @, and searches by one //")
            if word == "//" and (searches > 1 or depth or before not in _OPENS):
                raise ValueError(f"{path!r} searches twice; one // is allowed, where the path begins")
            if word == "/" and depth and before in (*_OPENS, "["):
                raise ValueError(f"{path!r} goes back to the document inside [ ]; use a path from there")
            if word in _COMPARED and not _is_value(tokens, at):
                raise ValueError(f"{path!r} compares two paths; compare with text or a number")
        before = word if kind != "literal" else "text"
    if predicates > MAX_PREDICATES:
        raise ValueError(f"{path!r} has {predicates} conditions in [ ]; {MAX_PREDICATES} are allowed")


def _is_value(tokens: list[tuple[str | None, str]], at: int) -> bool:
    """Whether a text, a number, or a function of none stands on a side of the comparison at `at`."""
    sides = (tokens[at - 1], tokens[at + 1] if at + 1 < len(tokens) else ("", ""))
    return any(kind == "literal" for kind, _ in sides) or sides[1][1] in ("last", "true", "false")


def _bounded(found: list[Any], limit: int | None, text: Callable[[Any], str]) -> list[Any]:
    """The texts of what was found, within the budget."""
    if limit is None and len(found) > MAX_VALUES:
        raise BudgetError(f"{len(found)} values are found; {MAX_VALUES} are compared")
    values: list[Any] = []
    size = 0
    for node in found[:limit]:
        values.append(text(node))
        size += len(values[-1])
        if size > MAX_TEXT:
            raise BudgetError(f"the values have more than {MAX_TEXT} characters")
    return values + [None] * (len(found) - len(values))


class _Element(NamedTuple):
    """One element as it begins."""

    tag: str
    attributes: Mapping[str, str]
    number: int  # among its siblings, from 1


Test = Callable[[_Element], bool]

_ABOVE, _PARENT, _ADJACENT, _EARLIER = range(4)
_COMBINATORS: Final = {" ": _ABOVE, ">": _PARENT, "+": _ADJACENT, "~": _EARLIER}


def compile_css(selector: str, attribute: str | None) -> Find:
    """The compiled `selector`: texts of the elements, blanks collapsed, or their `attribute`. Raises `ValueError`."""
    steps: list[tuple[Test, int, int]] = []  # test, where the step before it was matched, its bit
    wanted = 0
    try:
        for alternative in css.parse(selector):
            if alternative.pseudo_element is not None:
                raise ValueError(f"{selector!r} asks for a pseudo-element; an answer has none")
            for number, (combinator, compound) in enumerate(_chain(alternative.parsed_tree)):
                before = 1 << (len(steps) - 1) if number else 0
                steps.append((_compound(compound), _COMBINATORS[combinator], before))
            wanted |= 1 << (len(steps) - 1)
        if len(steps) + selector.count(",") > MAX_STEPS:
            raise ValueError(f"{selector[:60]!r} has too many parts; {MAX_STEPS} are allowed")
    except cssselect.SelectorError as wrong:
        raise ValueError(f"{selector!r} is not a CSS selector: {wrong}") from None
    except RecursionError:
        raise ValueError(f"the selector is nested too deeply: {selector[:60]!r}") from None

    def find(text: str, limit: int | None) -> list[Any]:
        matcher = _Matcher(steps, wanted, attribute and attribute.lower(), limit)
        parser = etree.HTMLParser(target=matcher, encoding="utf-8", no_network=True)
        body = text.encode("utf-8", "replace")
        try:
            for at in range(0, len(body), _CHUNK):  # in parts, so that it ends where the matcher gives up
                parser.feed(body[at : at + _CHUNK])
            parser.close()
        except etree.LxmlError:
            pass  # a document of nothing; HTML itself is never wrong
        return _bounded(matcher.found, limit, lambda parts: " ".join("".join(parts).split()))

    return find


class _Matcher:
    """Takes the events of a document and keeps what the selector finds."""

    def __init__(
        self, steps: list[tuple[Test, int, int]], wanted: int, attribute: str | None, limit: int | None
    ) -> None:
        self.found: list[list[str]] = []
        self._steps, self._wanted, self._attribute, self._limit = steps, wanted, attribute, limit
        self._elements = self._size = 0
        # Per open element: the bits of all above and of itself, of the last child and of all its children; their number.
        self._levels: list[list[int]] = [[0, 0, 0, 0, 0]]
        self._open: list[tuple[int, list[str]]] = []  # level and text of elements that were found and go on

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        level = self._levels[-1]
        level[4] += 1
        element = _Element(tag, attributes, level[4])
        bits = 0
        for at, (test, where, before) in enumerate(self._steps):
            if (not before or level[where] & before) and test(element):
                bits |= 1 << at
        level[_ADJACENT] = bits
        level[_EARLIER] |= bits
        self._levels.append([level[_ABOVE] | bits, bits, 0, 0, 0])
        if self._elements > MAX_ELEMENTS or len(self._levels) > MAX_DEPTH:
            raise BudgetError(f"more than {MAX_ELEMENTS} elements, or {MAX_DEPTH} levels of them")
        if bits & self._wanted:
            self._find(attributes)

    def _find(self, attributes: Mapping[str, str]) -> None:
        text: list[str] = []
        if self._attribute is not None:
            if self._attribute not in attributes:
                return
            text.append(attributes[self._attribute])
        elif self._limit is None or len(self.found) < self._limit:
            self._open.append((len(self._levels), text))
        self.found.append(text)

    def end(self, tag: str) -> None:
        if self._open and self._open[-1][0] == len(self._levels):
            self._open.pop()
        if len(self._levels) > 1:
            self._levels.pop()

    def data(self, text: str) -> None:
        for _, kept in self._open:
            kept.append(text)
            self._size += len(text) + 8
        if self._size > MAX_TEXT:
            raise BudgetError(f"the values have more than {MAX_TEXT} characters")

    def close(self) -> None:
        """Nothing is left to do."""


def _chain(tree: Any) -> Iterator[tuple[str, Any]]:
    """The compounds of a selector from left to right, each with the combinator before it."""
    if isinstance(tree, css.CombinedSelector):
        yield from _chain(tree.selector)
        yield tree.combinator, tree.subselector
    else:
        yield " ", tree


def _compound(tree: Any) -> Test:
    """What one element must be. Raises `ValueError` for what is not known before its end, or not linear."""
    tests: list[Test] = []
    while not isinstance(tree, css.Element):
        tests.append(_simple(tree))
        tree = tree.selector
    if tree.element is not None:
        name = tree.element.lower()
        tests.append(lambda element: element.tag == name)
    if len(tests) == 1:
        return tests[0]
    tests.reverse()
    return lambda element: all(test(element) for test in tests)


def _simple(tree: Any) -> Test:
    if isinstance(tree, css.Class):
        name = tree.class_name
        return lambda element: name in element.attributes.get("class", "").split()
    if isinstance(tree, css.Hash):
        return lambda element: element.attributes.get("id") == tree.id
    if isinstance(tree, css.Attrib):
        return _attribute(tree)
    if isinstance(tree, css.Negation):
        inner = _any([tree.subselector])
        return lambda element: not inner(element)
    if isinstance(tree, css.Matching | css.SpecificityAdjustment):
        return _any(tree.selector_list)
    if isinstance(tree, css.Pseudo) and tree.ident == "first-child":
        return lambda element: element.number == 1
    if isinstance(tree, css.Function) and tree.name == "nth-child":
        try:
            step, first = css.parse_series(tree.arguments)
        except ValueError:
            raise ValueError(":nth-child() takes a number such as 2, or a series such as 2n+1") from None
        return lambda element: (
            element.number == first
            if not step
            else (element.number - first) % step == 0 and (element.number - first) // step >= 0
        )
    name = getattr(tree, "ident", None) or getattr(tree, "name", None) or "has"
    raise ValueError(
        f":{name} cannot be asked; there are :first-child, :nth-child(), :not(), :is() and :where()"
    )


def _any(trees: Iterable[Any]) -> Test:
    if any(isinstance(tree, css.CombinedSelector) for tree in trees):
        raise ValueError("inside :not(), :is() and :where() stands one element, without what is around it")
    tests = [_compound(tree) for tree in trees]
    return lambda element: any(test(element) for test in tests)


_ATTRIBUTE_TESTS: Final[dict[str, Callable[[str, str], bool]]] = {
    "=": lambda has, value: has == value,
    "!=": lambda has, value: has != value,
    "~=": lambda has, value: value in has.split(),
    "|=": lambda has, value: has == value or has.startswith(value + "-"),
    "^=": lambda has, value: value != "" and has.startswith(value),
    "$=": lambda has, value: value != "" and has.endswith(value),
    "*=": lambda has, value: value != "" and value in has,
}


def _attribute(tree: Any) -> Test:
    name = tree.attrib.lower()
    if tree.operator == "exists":
        return lambda element: name in element.attributes
    test, value = _ATTRIBUTE_TESTS[tree.operator], tree.value.value
    return lambda element: name in element.attributes and test(element.attributes[name], value)
