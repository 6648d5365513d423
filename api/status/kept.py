"""Public pages kept in memory: read anew in the background while somebody looks, still there, with their age, without a database.

What was made of a page is kept until the page changes. Measured days and older incidents are read less often: `api.status.reading`.
"""

import asyncio
import gzip
import hashlib
import itertools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from api.problems import ProblemError
from api.status.addresses import away
from api.status.document import Document
from api.status.previews import is_listed
from api.status.view import CSP, Place, Rendition, View
from engine.store.database import DATABASE_AWAY

FRESH_S: Final = 1.0
SOON_S: Final = 10.0
"""What is older is not shown before it is read anew; what is younger is, while that is done."""
READ_S: Final = 3.0
"""How long the database may take before what is kept is shown."""
REDRAWN: Final = timedelta(seconds=60)
"""How far the moment that a page names may be behind, while nothing else of it changes."""
MOST_PAGES: Final = 1000
MOST_BYTES: Final = 48 << 20
"""Of renditions in this process."""
MOST_OPTIONAL_BYTES: Final = 16 << 20
"""Of those that depend on a query or on an odd host, beside the others: whoever makes up many takes the place of none of those."""
MOST_ORIGINS: Final = 8
"""Under which a page is reached and has room of its own. Who asks may name any, where no `public_url` says which it is."""
AT_ONCE: Final = 2
LEAST_GZIP: Final = 500
SECURITY: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": CSP,
}

log = logging.getLogger(__name__)

Read = Callable[[str], Awaitable[Document | None]]
Head = list[tuple[bytes, bytes]]
Key = tuple[int, str, str, str, str, tuple[tuple[str, str], ...]]
"""(number of the copy; base, origin and key of the place; path with its language, options)"""


@dataclass(frozen=True, slots=True)
class Made:
    """A rendition as it is sent: its body with and without gzip, each with the head that belongs to it."""

    status: int
    body: bytes
    head: Head
    gzipped: bytes
    gzip_head: Head
    etag: bytes  # b"": it is sent whole each time
    same_head: Head  # of 304

    @property
    def size_bytes(self) -> int:
        """In memory, with what is around it."""
        return len(self.body) + (len(self.gzipped) if self.gzipped is not self.body else 0) + 4000


def made(rendition: Rendition, *, is_public: bool, is_listed: bool, is_proved: bool = False) -> Made:
    """As it is sent. Of a page that is not public, others may neither keep nor read it; who has its proof may show it (a badge)."""
    said = {**SECURITY, "Cache-Control": "public, no-cache", **rendition.headers}
    if not is_public:
        said.pop("Access-Control-Allow-Origin", None)
        if not is_proved:
            said["Cross-Origin-Resource-Policy"] = "same-origin"
        if "immutable" not in said["Cache-Control"]:  # what is, is shown at the gate too
            said["Cache-Control"] = "private, no-cache"
    if not is_listed:
        said["X-Robots-Tag"] = "noindex"
    etag = b""
    if rendition.status == 200:
        # Weak: the same with and without gzip.
        etag = b'W/"%b"' % hashlib.sha256(rendition.body).hexdigest()[:24].encode()
        vary = "Accept-Encoding" if is_public else "Accept-Encoding, Cookie"
        if rendition.media_type.startswith("text/html"):  # who wants text is shown that
            vary += ", Accept"
        said |= {"ETag": etag.decode(), "Vary": vary}
    else:
        said["Cache-Control"] = "no-store"
    body = rendition.body
    gzipped = b""
    if len(body) >= LEAST_GZIP and not rendition.media_type.startswith(("image/png", "image/jpeg")):
        gzipped = gzip.compress(body, 6, mtime=0)
    same = _head(said)
    said["Content-Type"] = rendition.media_type
    plain = _head(said | {"Content-Length": str(len(body))})
    if not gzipped or len(gzipped) >= len(body):
        return Made(rendition.status, body, plain, body, plain, etag, same)
    smaller = _head(said | {"Content-Length": str(len(gzipped)), "Content-Encoding": "gzip"})
    return Made(rendition.status, body, plain, gzipped, smaller, etag, same)


def _head(said: Mapping[str, str]) -> Head:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in said.items()]


@dataclass(slots=True)
class Shelf:
    """Renditions of all pages, up to so many bytes: those that were asked for longest ago go first. Each is made once, whoever waits."""

    most_bytes: int
    made: OrderedDict[Key, Made] = field(default_factory=OrderedDict)
    making: dict[Key, asyncio.Task[Made | None]] = field(default_factory=dict)
    size_bytes: int = 0
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def get(self, key: Key) -> Made | None:
        """What is there."""
        if (found := self.made.get(key)) is not None:
            self.made.move_to_end(key)
        return found

    async def take(self, key: Key, make: Callable[[], Made | None]) -> Made | None:
        """What is there, or what `make` makes in a thread. None, which is not kept: there is no such thing."""
        if (found := self.get(key)) is not None:
            return found
        if key not in self.making:
            self.making[key] = asyncio.create_task(self._make(key, make))
            self.making[key].add_done_callback(lambda _: self.making.pop(key))
        return await asyncio.shield(self.making[key])

    async def _make(self, key: Key, make: Callable[[], Made | None]) -> Made | None:
        async with self.slots:
            found = await asyncio.to_thread(make)
        if found is not None:
            self.made[key] = found
            self.size_bytes += found.size_bytes
            while self.size_bytes > self.most_bytes:
                self.size_bytes -= self.made.popitem(last=False)[1].size_bytes
        return found

    def forget(self, number: int) -> None:
        """What was made of a copy that nobody is shown any more."""
        for key in [key for key in self.made if key[0] == number]:
            self.size_bytes -= self.made.pop(key).size_bytes


_numbers = itertools.count()


@dataclass(slots=True)
class Copy:
    """One page as it was read."""

    document: Document
    read_s: float  # monotonic: when it was last tried to read it
    seen_at: datetime  # when it was last read
    is_public: bool
    is_listed: bool
    languages: frozenset[str]  # those with a prefix
    origins: set[str]  # the first ones under which it was asked for
    number: int = field(default_factory=lambda: next(_numbers))


@dataclass(slots=True)
class Kept:
    """The copies of this process, and what was made of them."""

    read: Read
    copies: OrderedDict[str, Copy] = field(default_factory=OrderedDict)
    reading: dict[str, asyncio.Task[Copy | None]] = field(default_factory=dict)
    plain: Shelf = field(default_factory=lambda: Shelf(MOST_BYTES))
    optional: Shelf = field(default_factory=lambda: Shelf(MOST_OPTIONAL_BYTES))

    async def page(self, slug: str, now_s: float) -> Copy | None:
        """The page, or None where there is none. Raises 503 when it was never read and cannot be."""
        copy = self.copies.get(slug)
        if copy is not None:
            self.copies.move_to_end(slug)
            if now_s - copy.read_s < FRESH_S:
                return copy
        # One request reads; the others are answered at once with what is there, or wait for it where nothing is.
        is_reading = slug in self.reading
        if not is_reading:
            self.reading[slug] = asyncio.create_task(self._newer(slug, copy, now_s))
            self.reading[slug].add_done_callback(lambda _: self.reading.pop(slug))
        if copy is not None and (is_reading or now_s - copy.read_s < SOON_S):
            return copy
        return await asyncio.shield(self.reading[slug])

    async def _newer(self, slug: str, copy: Copy | None, now_s: float) -> Copy | None:
        try:
            async with asyncio.timeout(READ_S):
                document = await self.read(slug)
        except Exception as failure:
            is_away = isinstance(failure, (*DATABASE_AWAY, ProblemError))
            if copy is None:
                if is_away:
                    raise away("this page") from None
                raise
            # A bug is no reason to take away what was read before it.
            document = replace(copy.document, stale_since=copy.document.stale_since or copy.seen_at)
            if copy.document.stale_since is None:
                why = str(failure) or type(failure).__name__
                said = ("the status page %s is shown as of %s: %s", slug, copy.seen_at, why)
                log.log(logging.WARNING if is_away else logging.ERROR, *said, exc_info=not is_away)
        if document is None:
            self._forget(slug)
            return None
        seen_at = copy.seen_at if copy is not None and document.stale_since else document.at
        if copy is not None and replace(document, at=copy.document.at) == copy.document:
            copy.read_s, copy.seen_at = now_s, seen_at
            if document.at - copy.document.at < REDRAWN:
                return copy  # nothing is otherwise: what was made of it stands
        self._forget(slug)
        while len(self.copies) >= MOST_PAGES:
            self._forget(next(iter(self.copies)))
        rule = document.rule
        is_public, others = rule.access.is_public, frozenset(rule.languages[1:])
        origins = copy.origins if copy is not None else set()
        self.copies[slug] = Copy(document, now_s, seen_at, is_public, is_listed(document), others, origins)
        return self.copies[slug]

    def _forget(self, slug: str) -> None:
        if (copy := self.copies.pop(slug, None)) is not None:
            self.plain.forget(copy.number)
            self.optional.forget(copy.number)

    async def rendition(
        self,
        copy: Copy,
        view: View,
        place: Place,
        path: str,
        given: Mapping[str, str | None],
        options: Mapping[str, str],
    ) -> Made | None:
        """What `view` makes of it there. None: there is no such thing. A bug in a view is a 500 of that view alone."""
        heeded = {name: value for name, value in sorted(options.items()) if name in view.options}

        def make() -> Made | None:
            try:
                values = heeded | {name: value for name, value in given.items() if value is not None}
                rendition = view.make(copy.document, place, values)
            except Exception:
                log.exception("%r of the status page %s cannot be made", path, copy.document.rule.slug)
                rendition = Rendition(b"this cannot be shown: a fault of Upbeat\n", "text/plain", status=500)
            if rendition is None:
                return None
            return made(
                rendition, is_public=copy.is_public, is_listed=copy.is_listed, is_proved=bool(place.key)
            )

        if len(copy.origins) < MOST_ORIGINS:
            copy.origins.add(place.origin)
        shelf = self.optional if heeded or place.origin not in copy.origins else self.plain
        key = (copy.number, place.base, place.origin, place.key, path, tuple(heeded.items()))
        return await shelf.take(key, make)
