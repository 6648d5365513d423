"""A migrated database, a bus with an empty stream, and a small evaluator that only commits what it reads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from engine.bus import EVALUATOR, STREAM, Bus, BusError, Delivery, decode
from engine.clock import SystemClock
from engine.store import watermarks
from engine.store.database import Pool, migrate, open_pool
from engine.store.ids import PARTITIONS
from evaluators.model import Batch, Result


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url)
    await migrate(opened)
    yield opened
    opened.terminate()


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    connected = Bus()
    await connected.connect(nats_url, name="tests")
    await connected._client.jetstream().delete_stream(STREAM)  # and what it knows of duplicates
    await _ensured(connected)
    yield connected
    await connected.close()


async def _ensured(bus: Bus) -> None:
    """Make the stream; a server that still removes the deleted one's files refuses it for a moment."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await bus.ensure()
            except BusError:
                await asyncio.sleep(0.1)


Until = Callable[..., Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """`await until(condition, within_s)`: asks often, fails at the deadline."""

    async def wait(holds: Callable[[], object], within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while not holds():
                await asyncio.sleep(0.01)

    return wait


@dataclass
class Committer:
    """Reads every partition and commits each result once, by its run id. It forgets to acknowledge every other message."""

    pool: Pool
    bus: Bus
    results: list[Result] = field(default_factory=list)  # committed, in order
    batches: list[Batch] = field(default_factory=list)  # seen, repetitions included
    _runs: set[str] = field(default_factory=set)
    _count: int = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for partition in range(PARTITIONS):
                group.create_task(self._follow(partition))

    async def _follow(self, partition: int) -> None:
        while True:
            for delivery in await self.bus.fetch(EVALUATOR, partition, 16, 0.5):
                await self._commit(delivery)

    async def _commit(self, delivery: Delivery) -> None:
        batch = decode(delivery.data)
        async with self.pool.acquire() as connection, connection.transaction():
            now_s = SystemClock().epoch_s()
            await watermarks.advance(connection, batch.boot_id, batch.partition, [batch.seq], now_s)
        self.batches.append(batch)
        for result in batch.results:
            if result.run_id not in self._runs:
                self._runs.add(result.run_id)
                self.results.append(result)
        self._count += 1
        if self._count % 2:
            await delivery.ack()
        else:
            await delivery.nak(0.05)  # as if the acknowledgement was lost and the wait was over


@pytest.fixture
def committer(pool: Pool, bus: Bus) -> Committer:
    """One that is not running yet; `running(committer.run())` runs it."""
    return Committer(pool, bus)


Running = Callable[[Awaitable[None]], "asyncio.Task[None]"]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """`running(coroutine)` runs it until the test ends."""
    tasks: list[asyncio.Task[None]] = []

    def start(work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        tasks.append(task)
        return task

    yield start
    for task in reversed(tasks):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
