"""YAML 1.2 text as nodes that know their line and key path. It knows no key by name and builds no Python objects.

Only JSON's types exist: tags, merge keys and complex keys are refused, keys are text as written. Depth and the
expansion of aliases are bounded, so that a hostile document costs no more than its own length.
"""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from rules.problem import ConfigError, Problem, cut, show

MAX_BYTES: Final = 4_000_000
MAX_DEPTH: Final = 50
MAX_ALIASED: Final = 100_000
"""Values that all aliases of a document may stand for together."""

# YAML 1.2.2, 10.3.2: the core schema.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it is written. `line` counts from 1 and is its key's where it has one."""

    line: int
    path: str
    value: "Scalar | dict[str, Node] | list[Node]"
    size: int = 1  # values in it, itself included
    height: int = 0  # levels below it

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: inner.plain() for key, inner in self.value.items()}
        if isinstance(self.value, list):
            return [inner.plain() for inner in self.value]
        return self.value

    def child(self, step: str | int) -> "Node | None":
        """The value at a key or index; in a list of texts, a text names itself."""
        if isinstance(self.value, dict):
            return self.value.get(str(step))
        if not isinstance(self.value, list):
            return None
        if isinstance(step, int):
            return self.value[step] if 0 <= step < len(self.value) else None
        return next((inner for inner in self.value if inner.value == step), None)

    def scalars(self) -> "Iterator[Node]":
        """Every scalar inside, itself if it is one."""
        if isinstance(self.value, dict):
            for inner in self.value.values():
                yield from inner.scalars()
        elif isinstance(self.value, list):
            for inner in self.value:
                yield from inner.scalars()
        else:
            yield self


def read(text: str, file: str) -> tuple[Node, list[Problem]]:
    """The document in `text`, and the mistakes that did not hinder reading it (keys written twice).

    Raises `ConfigError` for what is no YAML 1.2, too large, too deep, or not exactly one document.
    """
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > MAX_BYTES:
        raise ConfigError([Problem(file, 1, "", f"the file has {size_bytes} bytes; {MAX_BYTES} are allowed")])
    reader = _Reader(text, file)
    try:
        return reader.document(), reader.problems
    except MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        raise ConfigError([Problem(file, mark.line + 1 if mark else 1, "", _words(wrong))]) from None
    except YAMLError as wrong:  # a character that YAML does not know
        place = getattr(wrong, "position", 0)
        said = f"the character U+{getattr(wrong, 'character', 0):04X} is not allowed in YAML"
        raise ConfigError([Problem(file, text.count("\n", 0, place) + 1, "", said)]) from None


def _words(wrong: MarkedYAMLError) -> str:
    said = " ".join(filter(None, (str(wrong.problem or ""), str(wrong.context or ""))))
    if r"'\t'" in said:
        return "a tab where YAML wants spaces: indent with spaces"
    if "mapping values are not allowed here" in said:
        return "not YAML: a colon and a space inside a value; put the value in quotes"
    if "that cannot start any token" in said:
        character = said.split("'")[1]
        return f"not YAML: a value cannot begin with {character}; put it in quotes"
    if "expected <block end>" in said:
        return "not YAML: the indentation fits nothing above it"
    if "flow mapping" in said and "'{'" in said:
        return "not YAML: inside { } a value that holds ${...} is put in quotes"
    return f"not YAML: {said}"


class _Reader:
    """Builds nodes from parser events, one recursion per level, never deeper than `MAX_DEPTH`."""

    def __init__(self, text: str, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
        self._anchors: dict[str, Node | None] = {}  # None while its node is being read
        self._aliased = 0

    def document(self) -> Node:
        """The one document."""
        root: Node | None = None
        for event in self._events:
            if not isinstance(event, DocumentStartEvent):
                continue
            if root is not None:
                raise self._wrong(_line(event), "", "a second document begins here; one is allowed")
            first = next(self._events)
            root = self._node(first, _line(first), "", 0)
        if root is None or root.value is None:
            raise self._wrong(1, "", "the file is empty; write at least `version: 1`")
        return root

    def _wrong(self, line: int, path: str, message: str) -> ConfigError:
        return ConfigError([*self.problems, Problem(self._file, line, path, message)])

    def _node(self, event: Event, line: int, path: str, depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, path, depth)
        if depth > MAX_DEPTH:
            raise self._wrong(_line(event), cut(path), f"nested more than {MAX_DEPTH} deep")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise self._wrong(
                _line(event), path, f"tags such as {tag} are not allowed; write the plain value"
            )
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, MappingStartEvent):
            made = self._mapping(line, path, depth)
        elif isinstance(event, SequenceStartEvent):
            made = self._sequence(line, path, depth)
        else:
            assert isinstance(event, ScalarEvent)
            made = Node(line, path, _scalar(event))
        if anchor is not None:
            self._anchors[anchor] = made
        return made

    def _alias(self, event: AliasEvent, path: str, depth: int) -> Node:
        name = event.anchor
        if name not in self._anchors:
            raise self._wrong(_line(event), path, f"*{name} refers to no anchor above it (&{name})")
        target = self._anchors[name]
        if target is None:
            raise self._wrong(_line(event), path, f"*{name} stands inside the value it refers to")
        if depth + target.height > MAX_DEPTH:
            raise self._wrong(_line(event), cut(path), f"nested more than {MAX_DEPTH} deep")
        self._aliased += target.size
        if self._aliased > MAX_ALIASED:
            raise self._wrong(_line(event), path, f"aliases stand for more than {MAX_ALIASED} values")
        return target

    def _sequence(self, line: int, path: str, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._node(event, _line(event), f"{path}[{len(items)}]", depth + 1))
        return _holding(line, path, items, items)

    def _mapping(self, line: int, path: str, depth: int) -> Node:
        members: dict[str, Node] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, path)
            at, inner = _line(event), _join(path, key)
            value = self._node(next(self._events), at, inner, depth + 1)
            if key in members:
                said = f"the key is written twice; first on line {members[key].line}"
                self.problems.append(Problem(self._file, at, inner, said))
            else:
                members[key] = value
        return _holding(line, path, members, members.values())

    def _key(self, event: Event, path: str) -> str:
        if not isinstance(event, ScalarEvent) or event.tag is not None:
            raise self._wrong(_line(event), path, "a key must be plain text")
        if event.value == "<<" and not event.style:
            raise self._wrong(
                _line(event), path, "merge keys (<<) are not YAML 1.2; use `defaults` or write the keys out"
            )
        return str(event.value)


def _holding(line: int, path: str, value: "dict[str, Node] | list[Node]", inner: Collection[Node]) -> Node:
    size, height = sum(node.size for node in inner), max((node.height for node in inner), default=-1)
    return Node(line, path, value, size + 1, height + 1)


def _join(path: str, key: str) -> str:
    if not re.fullmatch(r"[\w$/-]+", key):
        return f"{path}[{show(key)}]"
    return f"{path}.{key}" if path else key


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _scalar(event: ScalarEvent) -> Scalar:
    text = str(event.value)
    if event.style:
        return text  # quoted or block
    if text in _NULL:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
