"""Public pages: a raw path before the application. `/p/{slug}/...`, and everything on a host name of a page's own, made from memory.

What has to be written down (who subscribes, who gives a password) is the application's: `LIVE`, in `api.status.routes`. On a
page's own host nothing else of Upbeat can be reached.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.context import Services
from api.origin import base_url, scheme_of
from api.problems import ProblemError, answer, missing
from api.status import access, pages, text
from api.status.addresses import Addresses
from api.status.document import Document
from api.status.kept import SECURITY, Kept, Made, made
from api.status.reading import Reader
from api.status.view import Place, Rendition, View
from api.status.views import VIEWS
from rules.language import language

PREFIX: Final = "/p/"
PLACE: Final = "upbeat.place"
"""Of a scope: where the page is shown that a live route is about."""
LIVE: Final = frozenset({"subscribe", "confirm", "manage", "unsubscribe", "unlock"})
"""First parts of paths below a page that the application answers."""
_UNGATED: Final = frozenset({"unlock", "confirm", "unsubscribe"})
"""Those of them that nobody has to be let in for: to be let in, and to be told no more."""
LONGEST: Final = 200
"""Characters of an option that a view is given; a longer one is none."""
_HOST: Final = re.compile(rb"([\w.-]{0,255}|\[[\da-fA-F:.]{2,45}\])((?::\d{0,5})?)")
_ONLY_READ: Final = made(
    Rendition(b"use GET or HEAD\n", "text/plain", {"Allow": "GET, HEAD"}, 405), is_public=True, is_listed=True
)
_ABSURD: Final = made(
    Rendition(b"the Host header names no host\n", "text/plain", status=400), is_public=True, is_listed=True
)


class Front:
    """Takes what is for a public page; everything else is the application's."""

    def __init__(self, app: ASGIApp, services: Services, addresses: Addresses) -> None:
        self._app, self._services, self._addresses = app, services, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        except ProblemError as problem:
            await _refuse(scope, receive, send, problem)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        name, port = _named(host)
        if name is None:
            await _send(scope, send, _ABSURD)
            return
        path, now_s = scope["path"], self._services.clock.monotonic_s()
        slug = await self._addresses.shown_at(name, now_s)
        if slug is not None:
            base, rest = "", path[1:]
            # The name is proved; a port is whatever who asks says, unless all of us is reached there.
            is_ours = port and urlsplit(self._services.settings.public_url or "").netloc.endswith(port)
            origin = f"{scheme_of(HTTPConnection(scope))}://{name}{port if is_ours else ''}"
        elif path.startswith(PREFIX):
            slug, _, rest = path[len(PREFIX) :].partition("/")
            base = PREFIX + slug
            origin = self._services.settings.public_url or base_url(HTTPConnection(scope))
        else:
            await self._app(scope, receive, send)
            return
        rest = text.for_reader(rest, scope["headers"])
        kept = self._kept(scope["app"].state)
        copy = await kept.page(slug, now_s)
        if copy is None:
            raise missing("there is no such status page")
        is_read = scope["method"] in ("GET", "HEAD")
        if is_read and copy.is_public and not scope["query_string"]:
            found = kept.plain.get((copy.number, base, origin, "", rest, ()))
            if found is not None:
                await _send(scope, send, found)
                return
        connection, page = HTTPConnection(scope), copy.document
        asked = _asked(scope)
        key = access.key_of(page, connection, asked)
        first, _, below = rest.partition("/")
        is_prefixed = first in copy.languages
        place = Place(
            base,
            origin.rstrip("/"),
            language(first if is_prefixed else page.rule.languages[0]),
            key=key or "",
            is_prefixed=is_prefixed,
        )
        below = below if is_prefixed else rest
        bare = below.removesuffix("/")
        if is_read and bare not in ("", below) and (bare in LIVE or _view(bare, place)[0]):  # as in an export
            await _send(scope, send, _elsewhere(f"{base}/{rest[:-1]}", scope["query_string"]))
            return
        live = below.partition("/")[0]
        if live in LIVE and (key is not None or live in _UNGATED):
            method = "GET" if is_read else scope["method"]  # the server sends no body to HEAD
            inner = {**scope, "method": method, "path": f"{PREFIX}{slug}/{below}", PLACE: (page, place)}
            await self._app(inner, receive, send)
            return
        view, groups = _view(below, place)
        is_open = view is not None and view.is_open
        if key is None and not is_open:
            wanted = f"{below}?{scope['query_string'].decode('latin-1')}".removesuffix("?")
            view, groups, rest = _GATE, {}, f"{place.language.code}\0gate"
            if text.asks(scope["headers"]):
                view, rest = _GATE_TEXT, f"{rest}.txt"
            asked = {_TO: wanted if len(wanted) <= LONGEST else ""}
        elif not is_read:
            await _send(scope, send, _ONLY_READ)
            return
        found = await kept.rendition(copy, view, place, rest, groups, asked) if view else None
        if found is None:
            is_text = text.asks(scope["headers"])
            rest = f"{place.language.code}\0{'.txt' if is_text else ''}"
            found = await kept.rendition(copy, _MISSING_TEXT if is_text else _MISSING, place, rest, {}, {})
        assert found is not None
        is_entered = bool(key) and not is_open and asked.get(access.KEY) == key
        await _send(scope, send, found, access.cookie(page, place, connection) if is_entered else None)

    def _kept(self, state: Any) -> Kept:
        kept: Kept | None = getattr(state, "status_pages", None)
        if kept is None:
            reader = Reader(self._services)

            async def read(slug: str) -> Document | None:
                now_s = self._services.clock.monotonic_s()
                return await reader.page(slug) if await self._addresses.has(slug, now_s) else None

            kept = state.status_pages = Kept(read)
        return kept


@lru_cache(1024)
def _named(host: bytes) -> tuple[str | None, str]:
    """The name in a Host header, as names are compared, and what follows it; None: it is none (RFC 9110 section 7.2)."""
    found = _HOST.fullmatch(host)
    if found is None:
        return None, ""
    port = found[2].decode()
    return found[1].decode().lower().rstrip("."), "" if port in (":", ":80", ":443") else port


def _asked(scope: Scope) -> dict[str, str]:
    if not scope["query_string"]:
        return {}
    try:
        given = parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=50)
    except ValueError:  # too many
        return {}
    return {name: value for name, value in given if len(value) <= LONGEST}


def _view(rest: str, place: Place) -> tuple[View | None, Mapping[str, str | None]]:
    for view in VIEWS:
        found = view.pattern.fullmatch(rest)
        if found is not None and (view.is_spoken or not place.is_prefixed):
            return view, found.groupdict()
    return None, {}


def _elsewhere(path: str, query: bytes) -> Made:
    """To what is one address only."""
    headers = {"Location": f"{path}?{query.decode('latin-1')}".removesuffix("?")}
    return made(Rendition(b"", "text/plain", headers, 308), is_public=True, is_listed=True)


_TO: Final = "to"
_GATE: Final = View(
    re.compile(""),
    lambda page, place, given: pages.gate(access.outside(page), place, to=given[_TO]),
    options=frozenset({_TO}),
)
# Also of who is not let in, below what is open: it tells no more than the gate does.
_MISSING: Final = View(re.compile(""), lambda page, place, _: pages.missing(access.outside(page), place))
_GATE_TEXT: Final = View(re.compile(""), lambda page, place, _: text.gate(access.outside(page), place))
_MISSING_TEXT: Final = View(re.compile(""), lambda page, place, _: text.missing(access.outside(page), place))


async def _refuse(scope: Scope, receive: Receive, send: Send, problem: ProblemError) -> None:
    """Where there is no page whose look it could have: as everywhere else."""
    response = await answer(Request(scope), problem)
    for name, value in {**SECURITY, "Cache-Control": "no-store"}.items():
        response.headers.setdefault(name, value)
    await response(scope, receive, send)


async def _send(scope: Scope, send: Send, rendition: Made, cookie: str | None = None) -> None:
    """The rendition as it is sent: 304 for who has it, gzip for who reads it."""
    known = encodings = b""
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            encodings += b"," + value
        elif name == b"if-none-match":
            known += b"," + value
    status, head, body = rendition.status, rendition.head, rendition.body
    if known and rendition.etag and _has(known, rendition.etag):
        status, head, body = 304, rendition.same_head, b""
    elif rendition.gzip_head is not head and _takes_gzip(encodings):
        head, body = rendition.gzip_head, rendition.gzipped
    if cookie is not None:
        head = [*head, (b"set-cookie", cookie.encode("latin-1"))]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _has(known: bytes, etag: bytes) -> bool:
    opaque = etag.removeprefix(b"W/")
    return any(tag.strip().removeprefix(b"W/") in (opaque, b"*") for tag in known.split(b","))


@lru_cache(1024)
def _takes_gzip(encodings: bytes) -> bool:
    for one in encodings.lower().split(b","):
        name, _, quality = one.replace(b" ", b"").partition(b";")
        if name == b"gzip":
            return re.fullmatch(rb"q=0(\.0*)?", quality) is None
    return False
