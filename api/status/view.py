"""What a view of a public page is: a pure function from the page's document to bytes. Live and exported pages are made by the same ones."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from api.status.document import Document
from rules.language import Language

CSP: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types upbeat"
)
OPEN: Final[Mapping[str, str]] = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
"""Headers of what programs and other sites' pages may read. Of a page that is not public they are left out."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page is shown, and to whom: what its links begin with, and its words."""

    base: str  # of paths: "/p/shop"; "" on a host of its own, and at the root of an export
    origin: str  # scheme and host, for links that are read elsewhere
    language: Language
    is_live: bool = True  # an export has nothing behind it: no forms
    key: str = (
        ""  # the link's proof of access, for addresses that carry it (feeds); "" where the page is public
    )
    live: str = ""  # of an export: the address of the live page, for forms; "" unknown
    leaf: str = (
        ""  # of an export: what addresses of pages end with, which are folders there: "/" or "/index.html"
    )

    def path(self, path: str = "", *, language: str | None = None) -> str:
        """Of something on this page, in its language (or another: a code, "" for what has none), as it stands in a link."""
        prefix = self._prefix if language is None else language and f"{language}/"
        if self.leaf:
            page, mark, rest = path.partition("#")
            ending = "" if "." in page.rpartition("/")[2] else self.leaf
            return f"{self.base}/{prefix}{(page + ending).removeprefix('/')}{mark}{rest}"
        return f"{self.base}/{prefix}{path}" if prefix or path else self.base or "/"

    def url(self, path: str = "", *, language: str | None = None) -> str:
        """The same with scheme and host."""
        return self.origin + self.path(path, language=language)

    @property
    def _prefix(self) -> str:
        return f"{self.language.code}/" if self.is_prefixed else ""

    is_prefixed: bool = False  # whether the language stands in the path: it is not the page's first


@dataclass(frozen=True, slots=True)
class Rendition:
    """What a view made. `headers` beside those that every rendition has; a CSP of its own replaces `CSP`."""

    body: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


Make = Callable[[Document, Place, Mapping[str, str]], Rendition | None]
"""(page, where, groups of the path and allowed options of the query) -> it; None where there is no such thing."""


def _none(_: Document) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class View:
    """One kind of address below a page. Pure, and bounded: what it makes is kept until the page changes."""

    pattern: re.Pattern[str]  # of the path below the page, without its first slash and without a language
    make: Make
    paths: Callable[[Document], Iterable[str]] = _none  # those that an export has
    is_spoken: bool = False  # whether it is made in each language of the page
    is_open: bool = (
        False  # whether who is not let in is shown it too: style and pictures, nothing that the page says
    )
    options: frozenset[str] = frozenset()  # names in the query that it heeds; others change nothing


def view(
    pattern: str,
    make: Make,
    *,
    paths: Callable[[Document], Iterable[str]] | Iterable[str] = _none,
    is_spoken: bool = False,
    is_open: bool = False,
    options: Iterable[str] = (),
) -> View:
    """A `View` of a pattern (RE, whole path) whose exported paths are given, or made from the document."""
    listed = paths if callable(paths) else lambda _, known=tuple(paths): known
    return View(re.compile(pattern, re.ASCII), make, listed, is_spoken, is_open, frozenset(options))
