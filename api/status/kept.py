"""Public pages kept in memory: read anew in the background while somebody looks, still there, with their age, without a database.

What was made of a page is kept until the page changes: `Copy.rendition`. Measured days and older incidents are read less often: `api.status.reading`.
"""

import asyncio
import gzip
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from api.problems import ProblemError
from api.status.document import Document
from api.status.view import Place, Rendition, View
from engine.store.database import DATABASE_AWAY

FRESH_S: Final = 1.0
SOON_S: Final = 10.0
"""What is older is not shown before it is read anew; what is younger is, while that is done."""
READ_S: Final = 3.0
"""How long the database may take before what is kept is shown."""
MOST_PAGES: Final = 1000
MOST_RENDITIONS: Final = 500
"""Of one page: options of the query make many of one address."""
LEAST_GZIP: Final = 500

log = logging.getLogger(__name__)

Read = Callable[[str], Awaitable[Document | None]]


@dataclass(frozen=True, slots=True)
class Made:
    """A rendition as it is sent."""

    rendition: Rendition
    etag: str
    gzipped: bytes | None  # where that is smaller


Key = tuple[int, Place, tuple[str | None, ...], tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class Copy:
    """One page as it was read, and what was made of it since."""

    document: Document
    read_s: float  # monotonic
    made: OrderedDict[Key, Made | None] = field(default_factory=OrderedDict)

    async def rendition(
        self, view: View, place: Place, groups: Mapping[str, str | None], options: Mapping[str, str]
    ) -> Made | None:
        """What `view` makes of it there. None: there is no such thing."""
        heeded = {name: value for name, value in sorted(options.items()) if name in view.options}
        key = (id(view), place, tuple(groups.values()), tuple(heeded.items()))
        if key not in self.made:
            given = heeded | {name: value for name, value in groups.items() if value is not None}
            self.made[key] = await asyncio.to_thread(_make, view, self.document, place, given)
            if len(self.made) > MOST_RENDITIONS:
                self.made.popitem(last=False)
        return self.made[key]


def _make(view: View, page: Document, place: Place, given: Mapping[str, str]) -> Made | None:
    rendition = view.make(page, place, given)
    if rendition is None:
        return None
    etag = f'W/"{hashlib.sha256(rendition.body).hexdigest()[:24]}"'  # weak: the same with and without gzip
    smaller = None
    if len(rendition.body) >= LEAST_GZIP and not rendition.media_type.startswith("image/png"):
        smaller = gzip.compress(rendition.body, 6, mtime=0)
    return Made(rendition, etag, smaller)


@dataclass(slots=True)
class Kept:
    """The copies of this process."""

    read: Read
    copies: dict[str, Copy] = field(default_factory=dict)
    reading: dict[str, asyncio.Task[Copy | None]] = field(default_factory=dict)

    async def page(self, slug: str, now: datetime, now_s: float) -> Copy | None:
        """The page, or None where there is none. Raises 503 when it was never read and cannot be."""
        copy = self.copies.get(slug)
        if copy is not None and now_s - copy.read_s < FRESH_S:
            return copy
        # One request reads; the others are answered at once with what is there, or wait for it where nothing is.
        is_reading = slug in self.reading
        if not is_reading:
            self.reading[slug] = asyncio.create_task(self._newer(slug, copy, now, now_s))
            self.reading[slug].add_done_callback(lambda _: self.reading.pop(slug))
        if copy is not None and (is_reading or now_s - copy.read_s < SOON_S):
            return copy
        return await asyncio.shield(self.reading[slug])

    async def _newer(self, slug: str, copy: Copy | None, now: datetime, now_s: float) -> Copy | None:
        try:
            async with asyncio.timeout(READ_S):
                document = await self.read(slug)
        except DATABASE_AWAY as away:
            if copy is None:
                raise ProblemError(
                    503, "database-away", "this page cannot be read right now", headers={"Retry-After": "5"}
                ) from None
            log.warning("the status page %s is shown as of %s: %s", slug, copy.document.at, away)
            document = replace(copy.document, stale_since=copy.document.stale_since or copy.document.at)
        if document is None:
            self.copies.pop(slug, None)
            return None
        if copy is not None and replace(document, at=copy.document.at) == copy.document:
            copy.read_s = now_s  # nothing is otherwise: what was made of it stands, its moment included
            return copy
        if len(self.copies) >= MOST_PAGES:
            self.copies.clear()
        self.copies[slug] = Copy(document, now_s)
        return self.copies[slug]
