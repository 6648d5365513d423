"""The delivery loop: takes what is due from the outbox, hands it to its channel or publisher, writes down what came of it.

At least once, in order per (target, line), each with its own schedule: a slow or dead target delays nobody else. What a
channel is lives in `exporters`; which one serves a target is `upbeat`'s to say.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from engine.leases import Leases
from engine.store import outbox
from engine.store.database import DATABASE_AWAY, Connection, Pool, Row
from evaluators.model import Item
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Removed, Retry

AT_ONCE = 32
IDLE_S = 0.5
NOTE_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """A channel or publisher as it is declared, and the page whose secrets it may use."""

    kind: str
    spec: Mapping[str, Any]
    page_id: UUID | None


Send = Callable[[Target, Item, Memory], Awaitable[Outcome]]
"""Deliver this to that target; never raises."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Health:
    """Counts for /metrics."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0


class Delivery:
    """The exporter role's outbox part. One process at a time holds the lease; a second one waits to take over."""

    def __init__(self, pool: Pool, send: Send, *, holder: str) -> None:
        self.health = Health()
        self._pool, self._send = pool, send
        self.lease = Leases(pool, "delivery", ["0"], holder)
        self._busy: set[tuple[object, str]] = set()
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.lease.run())
                group.create_task(self._work(group))
        finally:
            await self.lease.release()

    async def _work(self, group: asyncio.TaskGroup) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), IDLE_S)
            self._freed.clear()
            if not self.lease.held:
                continue
            try:
                await self._start_due(group)
            except DATABASE_AWAY as away:
                _log.warning("deliveries wait for the database: %s", away)
                await asyncio.sleep(2.0)

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        free = AT_ONCE - len(self._busy)
        if free <= 0:
            return
        # A delivery that ends while we look is still due in what we see: its line waits for the next look.
        busy = frozenset(self._busy)
        async with self._pool.acquire() as connection:
            rows = await outbox.due(connection, AT_ONCE)
        for row in rows:
            line = (row["target_id"], row["line"])
            if line not in busy and free > 0:
                free -= 1
                self._busy.add(line)
                group.create_task(self._deliver(row, line))

    async def _deliver(self, row: Row, line: tuple[object, str]) -> None:
        try:
            outcome = await self._try(row)
            # Sent is sent: a database that answers but takes no word of it must not make us send it again and again.
            while not await self._noted(row, outcome):
                await asyncio.sleep(NOTE_AGAIN_S)
        finally:
            self._busy.discard(line)
            self._freed.set()  # what waits behind it need not wait for the next look

    async def _try(self, row: Row) -> Outcome:
        if row["removed_at"] is not None:
            return Rejected(f"the {row['kind']} was removed")
        if row["gone_at"] is not None:
            return Removed()
        try:
            target = Target(row["kind"], row["spec"], row["page_id"])
            memory = Memory(row["remote"] or {}, is_repeat=row["begun_at"] is not None)
            async with self._pool.acquire() as connection:
                await outbox.begin(connection, row["id"])
            return await self._send(target, msgspec.convert(row["item"], Item), memory)
        except DATABASE_AWAY as away:
            return Retry(f"the database is away: {type(away).__name__}")
        except Exception as bug:  # one bad item must not stop the others
            _log.exception("delivery %d to %s", row["id"], row["slug"])
            return Retry(f"a bug in Upbeat: {type(bug).__name__}")

    async def _noted(self, row: Row, outcome: Outcome) -> bool:
        try:
            async with self._pool.acquire() as connection:
                await self._write(connection, row, outcome)
        except DATABASE_AWAY as away:
            _log.warning("what came of delivery %d could not be written yet: %s", row["id"], away)
            return False
        return True

    async def _write(self, connection: Connection, row: Row, outcome: Outcome) -> None:
        if isinstance(outcome, Delivered | Removed):
            async with connection.transaction():
                is_gone = isinstance(outcome, Removed)
                remote = row["remote"] or {} if isinstance(outcome, Removed) else outcome.remote
                if remote is not None:
                    await outbox.remember(connection, row["target_id"], row["line"], remote, is_gone=is_gone)
                await outbox.delivered(
                    connection, row["id"], outcome.reason if isinstance(outcome, Removed) else None
                )
            self.health.delivered += 1
            return
        after_s = None
        if isinstance(outcome, Retry) and row["attempts"] < len(outbox.SCHEDULE_S):
            after_s = max(outbox.SCHEDULE_S[row["attempts"]], outcome.after_s or 0.0)
        await outbox.failed(connection, row["id"], outcome.reason, after_s)
        if after_s is None:
            self.health.dead += 1
            _log.error("%s will not get delivery %d: %s", row["slug"], row["id"], outcome.reason)
        else:
            self.health.retried += 1
