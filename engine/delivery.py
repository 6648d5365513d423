"""The delivery loop: takes what is due from the outbox, hands it to its channel or publisher, writes down what came of it.

At least once, in order per (target, line), each with its own schedule. Each target has a few places of its own, so that a slow
or dead one delays nobody else. What a channel is lives in `exporters`; which one serves a target is `upbeat`'s to say.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.clock import Clock, SystemClock
from engine.leases import Leases
from engine.store import digests, objects, outbox, targets, telling
from engine.store.database import DATABASE_AWAY, POISON, Connection, Pool, Row
from engine.store.ids import derived_id
from evaluators.digest import Pace
from evaluators.model import Item, Notice
from evaluators.routing import BEGINS
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Removed, Retry
from rules.models import TYPED

PER_TARGET: Final = 4
"""Deliveries to one target at once."""
JITTER: Final = 0.1
"""A wait is longer by up to this share, so that what failed together is not tried again together."""
AILING_S: Final = 300.0
"""Seconds since the first try of one delivery after which others are told that a target does not answer."""
PATIENCE_S: Final = 86400.0
"""For so long it is no failed try that the other side asks to come later."""
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
    digested: int = 0  # told together with others


class Delivery:
    """The exporter role's outbox part. One process at a time holds the lease; a second one waits to take over."""

    def __init__(
        self,
        pool: Pool,
        send: Send,
        *,
        holder: str,
        clock: Clock | None = None,
        public_url: Callable[[], str] = str,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.health = Health()
        self._pool, self._send, self._clock = pool, send, clock or SystemClock()
        self._public_url, self._chance = public_url, chance
        self.lease = Leases(pool, "delivery", ["0"], holder)
        self._busy: set[tuple[UUID, str]] = set()
        self._taken: Counter[UUID] = Counter()  # places, by target
        self._rests: dict[UUID, float] = {}  # a target asked to be left alone until then
        self._paces: dict[UUID, Pace] = {}
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
            # Not `wait_for`: before Python 3.12 that may swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._freed.wait()
            self._freed.clear()
            if not self.lease.held:
                continue
            try:
                await self._start_due(group)
            except DATABASE_AWAY as away:
                _log.warning("deliveries wait for the database: %s", away)
                await asyncio.sleep(2.0)

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        now = self._clock.epoch_s()
        # A delivery that ends while we look is still due in what we see: its line waits for the next look.
        busy = frozenset(self._busy)
        async with self._pool.acquire() as connection:
            rows = await outbox.due(connection, 2 * PER_TARGET, now)
            starting: list[Row] = []
            for target_id, found in groupby(rows, key=lambda row: row["target_id"]):
                if self._rests.get(target_id, 0.0) > now:
                    continue
                heads = [row for row in found if (target_id, row["line"]) not in busy]
                if heads and heads[0]["kind"] == "channel" and not _closed(heads[0]):
                    heads = await self._paced(connection, heads, now)
                starting += heads[: PER_TARGET - self._taken[target_id]]
            begun = await outbox.begin(connection, [row["id"] for row in starting], now) if starting else {}
        for row in starting:
            if row["id"] in begun:
                line = (row["target_id"], row["line"])
                self._busy.add(line)
                self._taken[row["target_id"]] += 1
                group.create_task(self._deliver(row, line, begun[row["id"]]))

    async def _paced(self, connection: Connection, heads: list[Row], now: float) -> list[Row]:
        """Of a channel's `heads` those that are told one by one; in a storm the rest leaves together, or waits for it."""
        target_id, spec = heads[0]["target_id"], heads[0]["spec"]
        if spec.get("payload", "upbeat") != "upbeat":  # others' JSON has no word for a digest
            return heads
        is_paired = spec["type"] in digests.paired()
        folded = [row for row in heads if is_paired and row["digest_id"] and _told(row) not in BEGINS]
        if folded:
            heads = [row for row in heads if row not in folded]
            self.health.digested += await digests.fold(connection, target_id, now)
        pace = self._paces.setdefault(target_id, Pace())
        over = spec.get("digest_over", TYPED["channel"][spec["type"]].model_fields["digest_over"].default)
        if over is None or not pace.is_storm(heads[0]["waiting"] if heads else 0, over, now):
            return heads
        # What ends an alert that was opened alone ends it alone.
        alone = [row for row in heads if row["line"].startswith("digest_") or row["item"]["type"] == "post"]
        if is_paired:
            alone += [row for row in heads if row["begun_at"] or (row["was_told"] and not row["digest_id"])]
        if pace.may_gather(now):
            busy = [line for target, line in self._busy if target == target_id]
            async with connection.transaction():
                gathered = await digests.gather(
                    connection, target_id, now, self._public_url(), is_paired=is_paired, busy=busy
                )
            if not gathered:
                return heads
            pace.told(now, gathered, together=True)
            self.health.digested += gathered
        return alone

    async def _deliver(self, row: Row, line: tuple[UUID, str], item: Any) -> None:
        try:
            outcome = await self._try(row, item)
            # Sent is sent: a database that answers but takes no word of it must not make us send it again and again.
            while not await self._noted(row, outcome):
                await asyncio.sleep(NOTE_AGAIN_S)
        finally:
            self._busy.discard(line)
            self._taken[row["target_id"]] -= 1
            self._freed.set()  # what waits behind it need not wait for the next look

    async def _try(self, row: Row, item: Any) -> Outcome:
        if why := _closed(row):
            return Rejected(why)
        if row["gone_at"] is not None:
            return Removed()
        try:
            target = Target(row["kind"], row["spec"], row["page_id"])
            memory = Memory(row["remote"] or {}, is_repeat=row["begun_at"] is not None)
            return await self._send(target, msgspec.convert(item, Item), memory)
        except DATABASE_AWAY as away:
            return Retry(f"the database is away: {type(away).__name__}")
        except Exception as bug:  # one bad item must not stop the others
            _log.exception("delivery %d to %s", row["id"], row["slug"])
            return Retry(f"a bug in Upbeat: {type(bug).__name__}")

    async def _noted(self, row: Row, outcome: Outcome) -> bool:
        try:
            async with self._pool.acquire() as connection:
                await self._write(connection, row, outcome)
        except (*POISON, UnicodeError):
            _log.exception("what came of delivery %d", row["id"])
            return await self._noted(row, Rejected("what the other side said of it cannot be stored"))
        except DATABASE_AWAY as away:
            _log.warning("what came of delivery %d could not be written yet: %s", row["id"], away)
            return False
        return True

    async def _write(self, connection: Connection, row: Row, outcome: Outcome) -> None:
        now, target_id = self._clock.epoch_s(), row["target_id"]
        if isinstance(outcome, Delivered | Removed):
            async with connection.transaction():
                is_gone = isinstance(outcome, Removed)
                remote = row["remote"] or {} if isinstance(outcome, Removed) else outcome.remote
                if remote is not None:
                    await outbox.remember(connection, target_id, row["line"], remote, is_gone=is_gone)
                await outbox.delivered(connection, row["id"], outcome.reason)
                if not is_gone:
                    await targets.well(connection, target_id, now)
            self.health.delivered += 1
            if row["kind"] == "channel" and _told(row) != "digest":
                self._paces.setdefault(target_id, Pace()).told(now)
            return
        after_s, for_s = None, now - row["begun_at"].timestamp() if row["begun_at"] else 0.0
        asked_s = outcome.after_s or 0.0 if isinstance(outcome, Retry) else 0.0
        is_asked = asked_s > 0.0 and for_s < PATIENCE_S
        failures = 0 if is_asked else row["attempts"]
        if isinstance(outcome, Retry) and failures < len(outbox.SCHEDULE_S):
            after_s = max(outbox.SCHEDULE_S[failures] * (1.0 + JITTER * self._chance()), asked_s)
            self._rests[target_id] = max(self._rests.get(target_id, 0.0), now + asked_s)
        async with connection.transaction():
            await outbox.failed(connection, row["id"], outcome.reason, after_s, now, counts=not is_asked)
            if not _closed(row):
                is_gone = isinstance(outcome, Rejected) and outcome.for_good
                await targets.ill(connection, target_id, now, outcome.reason, is_gone=is_gone)
                if after_s is None or for_s >= AILING_S:
                    await self._tell_others(connection, row, outcome.reason, now, is_dead=after_s is None)
        if after_s is None:
            self.health.dead += 1
            _log.error("%s will not get delivery %d: %s", row["slug"], row["id"], outcome.reason)
        else:
            self.health.retried += 1

    async def _tell_others(
        self, connection: Connection, row: Row, reason: str, now: float, *, is_dead: bool
    ) -> None:
        """That a target did not get something, or does not answer: to the other channels of its page, once an hour."""
        if row["page_id"] is None or _told(row) == "delivery":
            return
        page = await objects.get(connection, row["page_id"])
        what = row["item"].get("title") or f"a step of {row['line']}"
        said = "did not get something, and will not" if is_dead else "does not answer"
        notice = Notice(
            id=str(derived_id("notice", "delivery", row["target_id"], is_dead, int(now // 3600))),
            told="delivery",
            title=f"The {row['kind']} {row['slug']} {said}: {reason}"[:200],
            at=now,
            page=page.slug if page else None,
            why=(str(what),),
            link=f"{self._public_url()}/console/{row['kind']}s",
        )
        line = f"delivery:{row['target_id']}"
        await telling.tell_all(
            connection, [telling.Telling(row["page_id"], None, line, notice, but=row["target_id"])]
        )


def _closed(row: Row) -> str | None:
    """Why its target is not asked at all."""
    if row["removed_at"] is not None:
        return f"the {row['kind']} was removed"
    if not row["spec"].get("enabled", True):
        return f"the {row['kind']} is not enabled"
    if row["stopped_at"] is not None:
        return f"nothing is sent there since it said {row['error']}: edit or test it"
    return None


def _told(row: Row) -> str | None:
    told: str | None = row["item"].get("told")
    return told
