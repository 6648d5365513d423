"""Public pages kept in memory for seconds: fast while all is well, still there, with their age, while the database is away.

Measured days are kept for longer.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from api.problems import ProblemError
from api.status.document import days
from api.uptime import measure
from engine.store.database import DATABASE_AWAY, Connection
from engine.store.objects import Stored
from evaluators.uptime import Bar
from rules.component import Component, Uptime

FRESH_S: Final = 1.0
READ_S: Final = 3.0
"""How long the database may take before what is kept is shown."""
MOST_PAGES: Final = 1000
MEASURED_S: Final = 60.0
"""How old measured days may be: they cost more than all else on the page."""
MEASURING_S: Final = 1.0
"""How long a page waits for newer ones, those measured longest ago first, while it has all."""
MOST_MEASURED: Final = 10_000

log = logging.getLogger(__name__)

Read = Callable[[str], Awaitable[dict[str, Any] | None]]
Render = Callable[[dict[str, Any], datetime | None], str]


@dataclass(slots=True)
class Copy:
    """One page as it was read at `as_of`; `is_stale` while newer cannot be read."""

    document: dict[str, Any]
    as_of: datetime
    read_s: float  # monotonic
    is_stale: bool
    html: bytes
    json: bytes
    etag: str


@dataclass(slots=True)
class Measured:
    """The days of components whose uptime is measured."""

    made: dict[UUID, tuple[float, int, list[Bar]]] = field(default_factory=dict)

    async def days(self, db: Connection, components: Sequence[Stored], now_s: float) -> dict[UUID, list[Bar]]:
        """Of those whose uptime is not simply what incidents said, the days up to now (seconds since the epoch)."""
        ways = {one.id: (one, Component.model_validate(one.spec).uptime) for one in components}
        clock = asyncio.get_running_loop().time
        shown, enough = {}, clock() + MEASURING_S
        for key in sorted(ways, key=lambda key: self.made[key][0] if key in self.made else 0.0):
            component, how = ways[key]
            if how == Uptime():
                continue
            at, revision, found = self.made.get(key, (0.0, 0, []))
            is_old = not 0 <= now_s - at < MEASURED_S and clock() < enough
            if is_old or revision != component.revision:
                (found,), _ = await measure(db, component, how, now_s, days(now_s))
                if len(self.made) >= MOST_MEASURED:
                    self.made.clear()
                self.made[key] = now_s, component.revision, found
            shown[key] = found
        return shown


@dataclass(slots=True)
class Kept:
    """The copies of this process."""

    read: Read
    render: Render
    copies: dict[str, Copy] = field(default_factory=dict)
    reading: dict[str, asyncio.Task[Copy | None]] = field(default_factory=dict)

    async def page(self, slug: str, now: datetime, now_s: float) -> Copy | None:
        """The page, or None where there is none. Raises 503 when it was never read and cannot be."""
        copy = self.copies.get(slug)
        # One request reads; the others are answered at once with what is there, or wait for it where nothing is.
        if copy is not None and (now_s - copy.read_s < FRESH_S or slug in self.reading):
            return copy
        if slug not in self.reading:
            self.reading[slug] = asyncio.create_task(self._newer(slug, copy, now, now_s))
            self.reading[slug].add_done_callback(lambda _: self.reading.pop(slug))
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
            log.warning("the status page %s is shown as of %s: %s", slug, copy.as_of, away)
            copy = await asyncio.to_thread(self._made, copy.document, copy.as_of, now_s, is_stale=True)
        else:
            if document is None:
                self.copies.pop(slug, None)
                return None
            copy = await asyncio.to_thread(self._made, document, now, now_s, is_stale=False)
        if len(self.copies) >= MOST_PAGES:
            self.copies.clear()
        self.copies[slug] = copy
        return copy

    def _made(self, document: dict[str, Any], as_of: datetime, now_s: float, *, is_stale: bool) -> Copy:
        # Of what is said, not of when it was read: an unchanged page is 304.
        said = msgspec.json.encode(document)
        etag = f'W/"{hashlib.sha256(said).hexdigest()[:24]}{"-stale" if is_stale else ""}"'
        html = self.render(document, as_of if is_stale else None).encode()
        json = msgspec.json.encode({"as_of": as_of, "is_stale": is_stale} | document)
        return Copy(document, as_of, now_s, is_stale, html, json, etag)
