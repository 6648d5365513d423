"""What is wrong with a document, in plain words: file, line, key, value, what is allowed. It judges nothing itself."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

SHOWN = 60
"""Characters of an offending value that are shown."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `line` counts from 1; `path` is the key path, e.g. `beats[0].quorum.critical`, or empty."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigError(Exception):
    """A document that cannot be used, with everything that is wrong in it, in order of lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unique = sorted(set(problems), key=lambda problem: (problem.line, problem.path, problem.message))
        super().__init__("\n".join(map(str, unique)))
        self.problems = tuple(unique)


def show(value: object) -> str:
    """`value` as a person would write it, cut."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return cut(repr(value))


def cut(text: str) -> str:
    """At most `SHOWN` characters of `text`."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean ...?` where one of `allowed` is spelled nearly like `word`, else nothing."""
    found = difflib.get_close_matches(word[:100], list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
