"""Which pages there are, and on which host names of their own: read anew while somebody asks, kept while nobody can say."""

import asyncio
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
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

_MAY_BE: Final = re.compile(r"\.[a-z][a-z0-9-]*$")
"""How names end that a page may have: not as addresses do, nor without a dot."""

log = logging.getLogger(__name__)


def away(what: str) -> ProblemError:
    """503: it is there or not, and nobody can say which."""
    said = f"{what} cannot be read right now"
    return ProblemError(503, "database-away", said, headers={"Retry-After": "5"})


@dataclass(slots=True)
class Addresses:
    """Of this process. The host of `public_url` is never a page's."""

    services: Services
    slugs: Collection[str] = ()
    hosts: Mapping[str, str] | None = None  # -> the page's slug; None: nobody could say yet
    read_s: float = float("-inf")
    is_known: bool = False  # whether it was read the last time
    reading: "asyncio.Task[None] | None" = None

    async def shown_at(self, name: str, now_s: float) -> str | None:
        """The slug of the page whose host this is; None: it is none's. Raises 503 while nobody could say yet.

        Who comes by a name that no page can have waits for nothing, and so does everybody else where what is there is young
        enough, or could not be read the last time.
        """
        is_nobodys = not _MAY_BE.search(name) or name == self._ours
        if now_s - self.read_s >= FRESH_S or (self.hosts is None and not is_nobodys):
            task = self._start(now_s)
            is_old = self.is_known and now_s - self.read_s >= SOON_S
            if not is_nobodys and (self.hosts is None or is_old):
                await asyncio.shield(task)
        if is_nobodys:
            return None
        if self.hosts is None:
            raise away("this name")
        return self.hosts.get(name)

    async def has(self, slug: str, now_s: float) -> bool:
        """Whether there is this page. Many who ask for none cost one query after the other. Raises 503 when nobody can say."""
        if slug in self.slugs:
            return True
        if self.reading is not None:
            await asyncio.shield(self.reading)  # it may have begun before the page was there
        if slug not in self.slugs:
            await asyncio.shield(self._start(now_s))
        if slug not in self.slugs and not self.is_known:
            raise away("this page")
        return slug in self.slugs

    @property
    def _ours(self) -> str | None:
        return urlsplit(self.services.settings.public_url or "").hostname

    def _start(self, now_s: float) -> "asyncio.Task[None]":
        if self.reading is None:
            self.reading = asyncio.create_task(self._read(now_s))
        return self.reading

    async def _read(self, now_s: float) -> None:
        is_known = False
        try:
            async with asyncio.timeout(READ_S), unless_cancelled(self.services.pool) as db:
                known = await hosts.known(db)
            self.hosts = {host: slug for slug, found in known.items() for host in found}
            self.slugs, is_known = known.keys(), True
        except DATABASE_AWAY as failure:
            if self.is_known:
                why = str(failure) or type(failure).__name__
                log.warning("which pages there are is what it was before: %s", why)
        finally:
            self.read_s, self.is_known, self.reading = now_s, is_known, None
