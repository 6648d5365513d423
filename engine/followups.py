"""What is owed once time has passed: each look finds what is due in the database, and does it in a transaction of its own.

One process at a time holds the lease; what is done is written with what it does, so that two of them do nothing twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from engine.clock import Clock
from engine.leases import Leases
from engine.store import announcing, digests, episodes, incidents, posts, refreshing, reviews, slack
from engine.store.database import DATABASE_AWAY, Connection, Pool, transaction

EVERY_S: Final = 2.0

Look = Callable[[Connection, float, str], Awaitable[object]]
"""(connection in a transaction, now in seconds since the epoch, public URL): does whatever is due."""

LOOKS: Final[Sequence[Look]] = (
    reviews.expire,
    reviews.escalate,
    announcing.look,
    incidents.break_silence,
    posts.settle,
    episodes.remind,
    digests.end,
    slack.remind,
    slack.withdraw,
    refreshing.look,
)
"""In the order in which they are taken."""

_log = logging.getLogger(__name__)


class Followups:
    """Takes every look every few seconds."""

    def __init__(self, pool: Pool, clock: Clock, *, holder: str, public_url: Callable[[], str]) -> None:
        self._pool, self._clock, self._public_url = pool, clock, public_url
        self._lease = Leases(pool, "followups", ["0"], holder)

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lease.run())
                group.create_task(self._follow_up())
        finally:
            await self._lease.release()

    async def _follow_up(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._lease.held:
                await self.look()

    async def look(self) -> None:
        """Take every look once; one that fails stops no other."""
        for look in LOOKS:
            try:
                async with transaction(self._pool) as connection:
                    await look(connection, self._clock.epoch_s(), self._public_url())
            except DATABASE_AWAY as away:
                _log.warning("what is due waits for the database: %s", away)
            except Exception:  # one bug must not stop the others
                _log.exception("%s", getattr(look, "__qualname__", look))
