"""A peer's file as plain values that know which of them were looked at: the rest is named. It judges no key itself."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rules.duration import parse_duration_s

MOST_ALIASED: Final = 200_000  # values that aliases may stand for, besides what is written
MOST_DEPTH: Final = 100
MOST_NUMBER: Final = 1e12
_GO_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0} | {
    "d": 86400.0,
    "w": 604_800.0,
    "y": 31_536_000.0,
}
_GO_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d|w|y)")
_YES, _NO = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


class SourceError(Exception):
    """The file cannot be read as what it is said to be."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something of the source that has no counterpart, or not quite the same one. `line` 0: unknown."""

    path: str
    message: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """A file's plain value, and the lines of its keys."""

    value: Any
    lines: Mapping[str, int]
    documents: int = 1  # of which the first is the value, as peers read them


def read_yaml(text: str) -> Read:
    """YAML with anchors and merge keys, unknown tags taken as text. Raises `SourceError`."""
    try:
        documents = [*YAML(typ="rt", pure=True).load_all(text)]
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError) as wrong:
        said = re.sub(
            r"\s*(To suppress this check|Duplicate keys will become).*", "", str(wrong), flags=re.DOTALL
        )
        raise SourceError(f"it is not YAML: {' '.join(said.split())[:300]}") from None
    root, lines = documents[0] if documents else None, dict[str, int]()
    if isinstance(root, Mapping) and {"apiVersion", "kind", "metadata"} <= root.keys():
        held = ", ".join(map(str, root.get("data") or ()))
        raise SourceError(f"it is a Kubernetes {root['kind']}; give the file it holds{held and ': ' + held}")
    return Read(_plain(root, "", lines, 0, [_most(text)]), lines, len(documents))


def read_json(text: str) -> Read:
    """JSON. Raises `SourceError`."""
    try:
        return Read(_plain(json.loads(text), "", {}, 0, [_most(text)]), {})
    except (ValueError, RecursionError) as wrong:
        raise SourceError(f"it is not JSON: {wrong}") from None


def _most(text: str) -> int:
    return len(text) // 2 + MOST_ALIASED  # every value written takes two characters


def _plain(value: Any, path: str, lines: dict[str, int], depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > MOST_DEPTH:
        said = f"its aliases stand for more than {MOST_ALIASED} values, or it is nested more than {MOST_DEPTH} deep"
        raise SourceError(said)
    if isinstance(value, Mapping):
        made = {}
        for key, inner in value.items():
            at = joined(path, key)
            lines.update(_line(value, key, at))
            made[str(key)] = _plain(inner, at, lines, depth + 1, left)
        return made
    if isinstance(value, list | tuple | set):
        items = list(value)
        for number in range(len(items)):
            lines.update(_line(value, number, f"{path}[{number}]"))
        return [_plain(item, f"{path}[{n}]", lines, depth + 1, left) for n, item in enumerate(items)]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return bool(value) if kind is bool else kind(value)
    if isinstance(value, bytes):  # `!!binary`
        return value.decode("utf-8", "surrogateescape")
    return None if value is None else str(getattr(value, "value", value))


def _line(holder: Any, key: Any, path: str) -> dict[str, int]:
    marks = getattr(getattr(holder, "lc", None), "data", None) or {}
    return {path: marks[key][0] + 1} if key in marks else {}


def joined(path: str, key: object) -> str:
    """The path of `key` below `path`."""
    return f"{path}.{key}" if path else str(key)


def go_duration_s(value: object) -> float:
    """Seconds of `1m30s`, `500ms`, `2d` or a number of seconds. Raises `ValueError`."""
    text = str(value).strip().lower()
    parts = _GO_PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _GO_UNITS_S[unit] for number, unit in parts)
    seconds = parse_duration_s(float(text))
    if seconds > MOST_NUMBER:
        raise ValueError(f"{text} is too long")
    return seconds


class Fields:
    """A mapping of the source whose keys are taken one by one; `rest` names those that nobody took."""

    def __init__(self, value: Any, path: str, note: Callable[[str, str], None]) -> None:
        self.path, self._note = path, note
        self._given: dict[str, Any] = value if isinstance(value, dict) else {}
        self._taken: set[str] = set()
        if not isinstance(value, dict) and value is not None:
            note(path, "is not a mapping; left out")

    def at(self, key: object) -> str:
        """The path of a key."""
        return joined(self.path, key)

    def note(self, key: str, message: str) -> None:
        """Say something of a key; it counts as taken."""
        self._taken.add(key)
        self._note(self.at(key), message)

    def note_given(self, message: str, *keys: str) -> None:
        """Say something of those keys that are there."""
        for key in filter(self.has, keys):
            self.note(key, message)

    def has(self, key: str) -> bool:
        """Whether a key is there and not null."""
        return self._given.get(key) is not None

    def take(self, *keys: str) -> Any:
        """The value of the first of `keys` that is there; None without."""
        self._taken.update(keys)
        return next((self._given[key] for key in keys if self._given.get(key) is not None), None)

    def text(self, *keys: str) -> str:
        """As text; empty without."""
        value = self.take(*keys)
        if isinstance(value, dict | list):
            self._note(self.at(keys[0]), "is not text; left out")
            return ""
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    def number(self, *keys: str) -> float | None:
        """As a number, also where it is written as text."""
        value = self.take(*keys)
        try:
            number = None if value is None or value == "" else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if number is None or abs(number) < MOST_NUMBER:
            return number
        self._note(self.at(keys[0]), f"{str(value)[:60]!r} is not a number that can be; left out")
        return None

    def seconds(self, *keys: str) -> float | None:
        """A duration as Go writes it, or a number of seconds."""
        value = self.take(*keys)
        try:
            return None if value is None or value == "" else go_duration_s(value)
        except (TypeError, ValueError):
            self._note(self.at(keys[0]), f"{str(value)[:60]!r} is not a duration; left out")
            return None

    def flag(self, key: str, *, default: bool) -> bool:
        """As yes or no, however it is written."""
        value = self.take(key)
        said = str(value).strip().lower()
        if value is None or said not in _YES | _NO:
            if value is not None:
                self._note(self.at(key), f"{value!r} is neither true nor false; {default} is taken")
            return default
        return said in _YES

    def items(self, *keys: str) -> list[Any]:
        """As a list; a single value is a list of one."""
        value = self.take(*keys)
        return value if isinstance(value, list) else [] if value is None else [value]

    def fields(self, key: str) -> "Fields":
        """The mapping at a key, empty without."""
        return Fields(self.take(key), self.at(key), self._note)

    def each(self, *keys: str) -> "Iterator[Fields]":
        """The mappings in the list at a key."""
        place = self.at(next((key for key in keys if self.has(key)), keys[0]))
        for number, item in enumerate(self.items(*keys)):
            yield Fields(item, f"{place}[{number}]", self._note)

    def note_on(self, message: str, *keys: str) -> None:
        """Say something of those keys that are switched on."""
        for key in keys:
            if self.flag(key, default=False):
                self._note(self.at(key), message)

    def texts(self, key: str) -> dict[str, str]:
        """The mapping of texts at a key."""
        inner = self.fields(key)
        return {name: inner.text(name) for name in inner}

    def replaced(self, replace: Callable[[str], str]) -> "Fields":
        """The same mapping, every text in it replaced."""
        return Fields(_replaced(self._given, replace), self.path, self._note)

    def over(self, defaults: "Fields | None") -> "Fields":
        """The same mapping with `defaults` for what is absent."""
        return Fields({**(defaults._given if defaults else {}), **self._given}, self.path, self._note)

    def __iter__(self) -> Iterator[str]:
        return iter([*self._given])

    def leave(self, *keys: str) -> None:
        """These mean nothing here: not even named."""
        self._taken.update(keys)

    def rest(self, message: str = "has no counterpart; left out") -> None:
        """Name every key that was not taken."""
        for key, value in self._given.items():
            if key not in self._taken and value not in (None, "", [], {}):
                self._note(self.at(key), message)


def _replaced(value: Any, replace: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, replace) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, replace) for inner in value]
    return replace(value) if isinstance(value, str) else value
