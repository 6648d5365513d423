"""Which pages there are, and on which host names of their own: read anew while somebody asks, kept while nobody can say."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from api.context import Services
from api.problems import ProblemError
from engine.store import hosts
from engine.store.database import DATABASE_AWAY, unless_cancelled

FRESH_S: Final = 5.0
SOON_S: Final = 10.0
"""What is older is not gone by before it is read anew."""
READ_S: Final = 2.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Addresses:
    """Of this process. The host of `public_url` is never a page's."""

    services: Services
    slugs: Collection[str] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)  # -> the page's slug
    read_s: float = float("-inf")
    is_known: bool = False  # whether it was read the last time
    reading: "asyncio.Task[None] | None" = None

    async def renew(self, now_s: float) -> None:
        """Read them anew, without waiting for it where what is there is young enough, or could not be read the last time."""
        is_needed = (self.is_known and now_s - self.read_s >= SOON_S) or self.read_s == float("-inf")
        task = self._start(now_s)
        if is_needed:
            await asyncio.shield(task)

    async def has(self, slug: str, now_s: float) -> bool:
        """Whether there is this page. Many who ask for none cost one query after the other. Raises 503 when nobody can say."""
        if slug in self.slugs:
            return True
        if self.reading is not None:
            await asyncio.shield(self.reading)  # it may have begun before the page was there
        if slug not in self.slugs:
            await asyncio.shield(self._start(now_s))
        if slug not in self.slugs and not self.is_known:
            said = "this page cannot be read right now"
            raise ProblemError(503, "database-away", said, headers={"Retry-After": "5"})
        return slug in self.slugs

    def _start(self, now_s: float) -> "asyncio.Task[None]":
        if self.reading is None:
            self.reading = asyncio.create_task(self._read(now_s))
        return self.reading

    async def _read(self, now_s: float) -> None:
        is_known = False
        try:
            async with asyncio.timeout(READ_S), unless_cancelled(self.services.pool) as db:
                known = await hosts.known(db)
            ours = urlsplit(self.services.settings.public_url or "").hostname
            self.hosts = {host: slug for slug, found in known.items() for host in found if host != ours}
            self.slugs, is_known = known.keys(), True
        except DATABASE_AWAY as away:
            if self.is_known:
                why = str(away) or type(away).__name__
                log.warning("which pages there are is what it was before: %s", why)
        finally:
            self.read_s, self.is_known, self.reading = now_s, is_known, None
