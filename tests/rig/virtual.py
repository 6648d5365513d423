"""The real catalog, partitions and store in virtual time: no probes and no bus, and no second passes unless it is told to.

`tests.engine.world.World` declares and measures; here is what lies between it and the database, and the time it lives in.
"""

import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

from engine.bus import Bus, encode
from engine.catalog import Catalog
from engine.clock import SystemClock
from engine.evaluator import Health, Partition
from engine.store import objects
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.ids import PARTITIONS, derived_id, partition_of
from engine.store.pushed import SUBJECT
from engine.subject import Subject, compile_subject
from evaluators.model import Batch, ConfirmOrder, Result
from tests.engine.world import ACTOR, REGIONS, World

_pages = itertools.count()


@dataclass
class Time:
    """A clock that stands still."""

    now: float = field(default_factory=time.time)
    ticks: float = 0.0
    jumps: int = 0

    def epoch_s(self) -> float:
        return self.now

    def monotonic_s(self) -> float:
        return self.ticks


@dataclass
class Parcel:
    """A delivery that nobody may give back: nothing here fails by design."""

    data: bytes
    stored_at: float
    is_acked: bool = False

    async def ack(self) -> None:
        self.is_acked = True

    async def nak(self, delay_s: float) -> None:
        raise AssertionError(f"given back for {delay_s} s")


@dataclass
class Wire:
    """What a partition needs of a bus, from hand to hand."""

    clock: Time
    connected: bool = True
    waiting: list[deque[Parcel]] = field(default_factory=lambda: [deque() for _ in range(PARTITIONS)])
    orders: list[tuple[str, ConfirmOrder]] = field(default_factory=list)
    told: set[int] = field(default_factory=set)

    async def fetch(self, _consumer: str, partition: int, most: int, _wait_s: float) -> list[Parcel]:
        queue = self.waiting[partition]
        return [queue.popleft() for _ in range(min(most, len(queue)))]

    async def publish(self, batch: Batch) -> None:
        self.waiting[batch.partition].append(Parcel(encode(batch), self.clock.now))

    async def order(self, region: str, _partition: int, order: ConfirmOrder) -> None:
        self.orders.append((region, order))

    async def announce(self, subject: str, data: bytes) -> None:
        pass

    async def announce_each(self, subject: str, partitions: Iterable[int]) -> None:
        if subject == SUBJECT:
            self.told.update(partitions)


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said = list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@dataclass
class Virtual:
    """A world, and who works on it."""

    world: World
    clock: Time
    wire: Wire
    catalog: Catalog[Subject]
    partitions: list[Partition]
    errors: _Errors

    async def declared(self) -> None:
        """Take up what was declared, changed, paused or removed."""
        await self.catalog.refresh()
        await self.settle()

    async def settle(self) -> None:
        """Work until nothing is left to do at this moment."""
        while busy := [number for number in range(PARTITIONS) if self._is_busy(number)]:
            for number in busy:
                partition = self.partitions[number]
                if number in self.wire.told:
                    self.wire.told.discard(number)
                    partition.look_soon()
                self.clock.ticks += 1.0
                partition._looked_s = self.clock.ticks  # it was not away: nothing happened
                await partition._turn()
        assert not self.errors.said, self.errors.said

    def _is_busy(self, number: int) -> bool:
        partition = self.partitions[number]
        due = partition._deadlines[0][0] <= self.clock.now if partition._deadlines else False
        return bool(self.wire.waiting[number] or partition.dirty or number in self.wire.told or due)

    async def send(self, results: list[Result]) -> None:
        """These come now, one batch per partition."""
        by_partition: dict[int, list[Result]] = {}
        for result in results:
            by_partition.setdefault(partition_of(UUID(result.beat_id)), []).append(result)
        for some in by_partition.values():
            await self.world.publish(some)
        await self.settle()

    async def answer(self) -> None:
        """Orders for more runs are obeyed as probes would."""
        orders, self.wire.orders = self.wire.orders, []
        slugs = {str(stored.id): slug for slug, stored in self.world.declared.items()}
        answers = [
            self.world.result(
                slugs[order.beat_id],
                region,
                order.kind,
                run_id=str(derived_id(order.request, region, n)),
                request=order.request,
                n=n,
            )
            for region, order in orders
            for n in range(order.runs)
        ]
        if answers:
            await self.send(answers)

    async def round(self, *slugs: str, interval_s: float = 60.0) -> None:
        """Everybody looks at these once, and the interval passes."""
        await self.send([self.world.result(slug, region) for slug in slugs for region in REGIONS])
        await self.answer()
        await self.wait(interval_s)

    async def wait(self, seconds: float, step_s: float = 10.0) -> None:
        """Time passes."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + step_s)
            await self.settle()


@contextlib.asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Pool]:
    """A migrated database with three regions."""
    pool = await open_pool(database_url)
    await migrate(pool)
    yield pool
    await pool.close()


@contextlib.asynccontextmanager
async def virtual(pool: Pool) -> AsyncIterator[Virtual]:
    """A world of its own; what was in the database before is gone."""
    await pool.execute("TRUNCATE objects CASCADE")
    clock = Time()
    wire = Wire(clock)
    async with transaction(pool) as connection:
        page = await objects.create(
            connection, ACTOR, "page", None, {"slug": f"p{next(_pages)}", "name": "P"}
        )
    world = World(pool, cast(Bus, wire), page, cast(SystemClock, clock))
    for region in REGIONS:
        await world.declare("region", region)
    partitions = list[Partition]()

    def changed(subject_id: UUID, _: Subject | None) -> None:
        partitions[partition_of(subject_id)].dirty.add(subject_id)

    catalog = Catalog(pool, compile_subject, relations=world.relations, on_change=changed)
    given: dict[str, Any] = {
        "refresh": catalog.refresh,
        "public_url": lambda: "http://upbeat.test",
        "children": lambda subject_id: world.relations.children.get(subject_id, ()),
    }
    partitions += (
        Partition(number, pool, cast(Bus, wire), cast(SystemClock, clock), catalog.entries, Health(), **given)
        for number in range(PARTITIONS)
    )
    errors: Final = _Errors()
    log = logging.getLogger("engine.evaluator")
    log.addHandler(errors)
    try:
        made = Virtual(world, clock, wire, catalog, partitions, errors)
        async with pool.acquire() as connection:
            await catalog._sweep(connection)
        yield made
    finally:
        log.removeHandler(errors)
