"""What a document declares, once it is valid: settings and objects. How it is read is `rules.config`."""

from dataclasses import dataclass

from rules.known import Kind
from rules.problem import Problem
from rules.settings import Settings
from rules.shape import Rule


@dataclass(frozen=True, slots=True)
class Declared:
    """One object. `page` is its home page, also in `spec`; None for pages and regions. `line` 0: implied, not written."""

    kind: Kind
    slug: str
    page: str | None
    spec: Rule
    line: int


@dataclass(frozen=True, slots=True)
class Document:
    """A whole valid file. Objects come in the order page, region, component, channel, beat, each as written."""

    file: str
    settings: Settings
    objects: tuple[Declared, ...]
    warnings: tuple[Problem, ...] = ()
