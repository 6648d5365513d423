"""A JSON document as a tree that people read and pick from: bounded in size, depth and length of texts, with a path for each value. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from api.console.words import cut
from rules.selection import normal_path

MOST_NODES: Final = 600
MOST_INNER: Final = 100
MOST_DEPTH: Final = 16
_KINDS: Final = {str: "text", bool: "yes or no", int: "number", float: "number", type(None): "null"}


@dataclass(slots=True)
class Branch:
    """A value with its place: `inner` and `count` of a list or mapping, `hidden` of those that are not shown."""

    name: str
    path: str
    kind: str
    text: str = ""
    count: int = 0
    hidden: int = 0
    inner: list["Branch"] = field(default_factory=list)


def tree(document: Any) -> Branch:
    """`document` as far as people can read it."""
    left = iter(range(MOST_NODES))
    return _branch("", "$", document, 0, left)


def leaves(branch: Branch) -> Iterator[str]:
    """Paths of the values that are shown."""
    if not branch.inner and not branch.count:
        yield branch.path
    for inner in branch.inner:
        yield from leaves(inner)


def _branch(name: str, path: str, value: Any, depth: int, left: Iterator[int]) -> Branch:
    if not isinstance(value, dict | list):
        shown = value if isinstance(value, str) else json.dumps(value)
        return Branch(name, path, _KINDS.get(type(value), "text"), cut(shown))
    made = Branch(name, path, "list" if isinstance(value, list) else "object", count=len(value))
    members = value.items() if isinstance(value, dict) else enumerate(value)
    if depth < MOST_DEPTH:
        for key, inner in members:
            if len(made.inner) == MOST_INNER or next(left, None) is None:
                break
            made.inner.append(
                _branch(cut(str(key), 100), path + normal_path([key])[1:], inner, depth + 1, left)
            )
    made.hidden = made.count - len(made.inner)
    return made
