"""The janitor: makes tomorrow's partitions, rolls up, drops what is too old. One process of an installation does it."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from engine.clock import Clock
from engine.leases import Leases
from engine.store import artifacts, inboxes, jobs, pings, retention, rollups
from engine.store.database import DATABASE_AWAY, Pool
from rules.settings import Retention

EVERY_S = 3600.0
RETRY_S = 30.0

_log = logging.getLogger(__name__)


class Janitor:
    """`keep` is what the installation says of retention now."""

    def __init__(self, pool: Pool, clock: Clock, *, holder: str, keep: Callable[[], Retention]) -> None:
        self._pool, self._clock, self._keep = pool, clock, keep
        self._lease = Leases(pool, "janitor", ["0"], holder)

    async def run(self) -> None:
        """Clean up every hour until cancelled."""
        await self._lease.run_with(self._work())

    async def _work(self) -> None:
        while True:
            if not self._lease.held:
                await asyncio.sleep(1.0)
                continue
            try:
                await self.clean()
                await asyncio.sleep(EVERY_S)
            except DATABASE_AWAY as failure:
                _log.warning("clean-up will be tried again: %s", failure)
                await asyncio.sleep(RETRY_S)

    async def clean(self) -> list[str]:
        """One clean-up. Returns the partitions that were dropped."""
        keep, now = self._keep(), datetime.fromtimestamp(self._clock.epoch_s(), UTC)
        async with self._pool.acquire() as connection:
            await retention.make_days(connection, now.date())
        trouble = None
        try:
            await rollups.roll(
                self._pool
            )  # before anything is dropped; if that cannot be, the disk comes first
        except DATABASE_AWAY as failure:
            trouble = failure
        async with self._pool.acquire() as connection:
            dropped = await retention.drop_days(
                connection, now.date(), days=keep.days, evidence_days=keep.evidence_days, max_bytes=keep.size
            )
            dropped += await retention.drop_events(
                connection, now.date(), days=keep.event_days, max_bytes=keep.event_size
            )
            await inboxes.sweep(connection)
            await rollups.sweep(connection, now, days=keep.rollup_days)
            await retention.sweep(connection, days=keep.days)
            await pings.sweep(connection, keep.days)
            await jobs.sweep(connection)
            await artifacts.expire(
                connection, now, days=keep.artifact_days, max_bytes=keep.artifact_size
            )  # last: with what is left of beats
        if trouble is not None:
            raise trouble
        return dropped
