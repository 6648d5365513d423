"""A page as static files: every address that an export has, in every language of the page. Where they go is others' to say."""

import time
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from typing import Final
from urllib.parse import urlsplit

from api.status.document import Document
from api.status.view import CSP, Place, Rendition
from api.status.views import VIEWS
from rules.language import language

File = tuple[str, bytes, str]
"""Path below the page, what is in it, and its media type."""
REST_S: Final = 0.0005
"""After each file, which took as long: threads take turns, and the event loop is not to wait for those of thousands of files."""
REFUSED: Final = (
    "the page is not public, and files cannot ask who reads them: say `public` to write it all the same"
)


def place_of(page: Document, origin: str, base: str, live: str, *, index: bool) -> Place:
    """Where an export is read. `index`: links name the index.html of a folder, for hosts that do not look for it."""
    leaf = "/index.html" if index else "/"
    if urlsplit(live).hostname in ("127.0.0.1", "::1", "localhost"):
        live = ""  # nobody told us how others reach it
    return Place(base, origin, language(page.rule.languages[0]), is_live=False, live=live, leaf=leaf)


def files(page: Document, place: Place) -> Iterator[File]:
    """One after the other as they are made, in a thread; what leads to others comes after them, the page itself last of all."""
    page, (first, *others) = replace(page, proof="", seal=""), page.rule.languages
    spoken = [replace(place, language=language(code), is_prefixed=True) for code in others]
    asked = {
        (where.language.code, path): (where, path)
        for where in (*spoken, replace(place, language=language(first), is_prefixed=False))
        for view in VIEWS
        if view.is_spoken or not where.is_prefixed
        for path in view.paths(page)
    }
    for where, path in sorted(asked.values(), key=lambda one: one[1] == ""):
        view, found = next((one, match) for one in VIEWS if (match := one.pattern.fullmatch(path)))
        given = {name: said for name, said in found.groupdict().items() if said is not None}
        rendition = view.make(page, where, given)
        if rendition is not None:
            yield _file(f"{where.language.code}/{path}" if where.is_prefixed else path, rendition)
            time.sleep(REST_S)


def _file(path: str, rendition: Rendition) -> File:
    if not rendition.media_type.startswith("text/html"):
        return path, rendition.body, rendition.media_type
    if "." not in path.rpartition("/")[2]:
        path = f"{path.rstrip('/')}/index.html".removeprefix("/")
    # A static host sends no header of ours. Who may frame a page cannot be said in it.
    policy = rendition.headers.get("Content-Security-Policy", CSP).split("; ")
    said = "; ".join(part for part in policy if not part.startswith("frame-ancestors"))
    head = f'<head><meta http-equiv="Content-Security-Policy" content="{escape(said)}">'
    return path, rendition.body.replace(b"<head>", head.encode(), 1), rendition.media_type
