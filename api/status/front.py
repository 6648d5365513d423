"""Public pages: a raw path before the application. `/p/{slug}/...`, and everything on a host name of a page's own, made from memory.

What has to be written down (who subscribes, who gives a password) is the application's: `LIVE`, in `api.status.routes`. On a
page's own host nothing else of Upbeat can be reached.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import Services
from api.origin import base_url
from api.problems import ProblemError, answer, missing
from api.status import access, pages
from api.status.document import Document
from api.status.kept import Kept, Made
from api.status.previews import is_listed
from api.status.reading import Reader
from api.status.view import CSP, OPEN, Place, Rendition, View
from api.status.views import VIEWS
from engine.store import hosts
from engine.store.database import DATABASE_AWAY
from engine.store.states import moment
from rules.language import language

PREFIX: Final = "/p/"
PLACE: Final = "upbeat.place"
"""Of a scope: where the page is shown that a live route is about."""
LIVE: Final = frozenset({"subscribe", "confirm", "manage", "unsubscribe", "unlock"})
"""First parts of paths below a page that the application answers."""
_UNGATED: Final = frozenset({"unlock", "unsubscribe"})
"""Those of them that nobody has to be let in for: to be let in, and to be told no more."""
HOSTS_S: Final = 5.0
_SECURITY: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": CSP,
    "Cache-Control": "public, no-cache",
}
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Hosts:
    """The host names of pages, read anew every few seconds while somebody asks."""

    services: Services
    slugs: Mapping[str, str] = field(default_factory=dict)
    read_s: float = float("-inf")
    reading: "asyncio.Task[None] | None" = None

    async def slug(self, host: str) -> str | None:
        """Of the page that is shown there."""
        now_s = self.services.clock.monotonic_s()
        if now_s - self.read_s >= HOSTS_S and self.reading is None:
            self.reading = asyncio.create_task(self._read(now_s))
        if self.reading is not None and self.read_s == float("-inf"):
            await asyncio.shield(self.reading)
        return self.slugs.get(host)

    async def _read(self, now_s: float) -> None:
        try:
            async with asyncio.timeout(2.0), self.services.pool.acquire() as db:
                self.slugs = await hosts.verified(db)
        except DATABASE_AWAY as away:
            _log.warning("host names of pages are those of before: %s", away)
        finally:
            self.read_s, self.reading = now_s, None


class Front:
    """Takes what is for a public page; everything else is the application's."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services, self._hosts = app, services, Hosts(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path: str = scope["path"]
        slug = await self._hosts.slug(headers.get("host", "").partition(":")[0].lower().rstrip("."))
        if slug is not None:
            base, rest = "", path[1:]
        elif path.startswith(PREFIX):
            slug, _, rest = path[len(PREFIX) :].partition("/")
            base = PREFIX + slug
        else:
            await self._app(scope, receive, send)
            return
        try:
            copy = await self._kept(scope["app"].state).page(
                slug, moment(self._services.clock.epoch_s()), self._services.clock.monotonic_s()
            )
        except ProblemError as away:
            await _refuse(scope, receive, send, away)
            return
        if copy is None:
            await _refuse(scope, receive, send, missing("there is no such status page"))
            return
        connection = HTTPConnection(scope)
        rule = copy.document.rule
        first, _, below = rest.partition("/")
        is_prefixed = first in rule.languages[1:]
        rest = below if is_prefixed else rest
        asked = _asked(scope)
        key = access.key_of(copy.document, connection, asked)
        place = Place(
            base,
            f"{connection.url.scheme}://{headers.get('host', '')}" if base == "" else base_url(connection),
            language(first if is_prefixed else rule.languages[0]),
            key=key or "",
            is_prefixed=is_prefixed,
        )
        first = rest.partition("/")[0]
        if first in LIVE and (key is not None or first in _UNGATED):
            inner = {**scope, "path": f"{PREFIX}{slug}/{rest}", PLACE: (copy.document, place)}
            await self._app(inner, receive, send)
            return
        view, groups = _view(rest, place)
        is_open = view is not None and view.is_open
        if key is None and not is_open:
            query = scope["query_string"].decode("latin-1")
            wanted = f"{rest}?{query}" if query else rest
            await _send(send, scope, pages.gate(access.outside(copy.document), place, to=wanted))
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _send(
                send, scope, Rendition(b"use GET or HEAD\n", "text/plain", {"Allow": "GET, HEAD"}, 405)
            )
            return
        made = await copy.rendition(view, place, groups, asked) if view else None
        if made is None:
            await _send(send, scope, pages.missing(copy.document, place))
            return
        rendition = made.rendition
        if key and asked.get(access.KEY) == key and not is_open:
            entered = {"Set-Cookie": access.cookie(copy.document, place, connection)}
            rendition = replace(rendition, headers={**rendition.headers, **entered})
        await _send(send, scope, rendition, copy.document, made, headers)

    def _kept(self, state: Any) -> Kept:
        kept: Kept | None = getattr(state, "status_pages", None)
        if kept is None:
            kept = state.status_pages = Kept(Reader(self._services).page)
        return kept


def _asked(scope: Scope) -> dict[str, str]:
    try:
        return dict(parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=50))
    except ValueError:  # too many
        return {}


def _view(rest: str, place: Place) -> tuple[View | None, Mapping[str, str | None]]:
    for view in VIEWS:
        found = view.pattern.fullmatch(rest)
        if found is not None and (view.is_spoken or not place.is_prefixed):
            return view, found.groupdict()
    return None, {}


async def _refuse(scope: Scope, receive: Receive, send: Send, problem: ProblemError) -> None:
    """Where there is no page whose look it could have: as everywhere else."""

    async def framed(message: Message) -> None:
        if message["type"] == "http.response.start":
            said = MutableHeaders(scope=message)
            for name, value in {**_SECURITY, "Cache-Control": "no-store"}.items():
                said.setdefault(name, value)
        await send(message)

    response = await answer(Request(scope), problem)
    await response(scope, receive, framed)


async def _send(
    send: Send,
    scope: Scope,
    rendition: Rendition,
    page: Document | None = None,
    made: Made | None = None,
    headers: Headers | None = None,
) -> None:
    """The rendition as it is sent: 304 for who has it, gzip for who reads it."""
    said = {**_SECURITY, **rendition.headers, "Content-Type": rendition.media_type}
    status, body = rendition.status, rendition.body
    if page is not None and not page.rule.access.is_public:
        said = {name: value for name, value in said.items() if name not in OPEN} | {
            "Cross-Origin-Resource-Policy": "same-origin"
        }
        if "immutable" not in said["Cache-Control"]:  # what is, is shown at the gate too
            said["Cache-Control"] = "private, no-cache"
    if page is not None and not is_listed(page):
        said["X-Robots-Tag"] = "noindex"
    if made is None:
        said["Cache-Control"] = "no-store"
    elif headers is not None:
        said |= {"ETag": made.etag, "Vary": "Accept-Encoding"}
        if made.etag in (tag.strip() for tag in headers.get("if-none-match", "").split(",")):
            status, body = 304, b""
            said.pop("Content-Type")
        elif made.gzipped is not None and "gzip" in headers.get("accept-encoding", ""):
            said["Content-Encoding"], body = "gzip", made.gzipped
    if status != 304:
        said["Content-Length"] = str(len(body))
    listed = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in said.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
