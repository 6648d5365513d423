"""The spool on a real bus and database: everything handed in is committed once, whatever gets lost on the way."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from uuid import uuid4

import msgspec
import pytest

from engine.bus import STREAM, Bus
from engine.clock import SystemClock
from engine.spool import BATCH, Spool
from engine.store.database import Pool
from engine.store.ids import PARTITIONS, new_id
from evaluators.model import Batch, Kind, Result, Timings, Verdict

Until = Callable[..., Awaitable[None]]


class Committer(Protocol):
    """What the fixture gives."""

    results: list[Result]
    batches: list[Batch]

    async def run(self) -> None: ...


Running = Callable[[Awaitable[None]], "asyncio.Task[None]"]


def spool(bus: Bus, pool: Pool, **options: Any) -> Spool:
    given = {"poll_s": 0.05, "repeat_s": 0.2, **options}
    return Spool(bus, pool, str(uuid4()), clock=SystemClock(), **given)


def result(n: int = 0) -> Result:
    return Result(str(new_id()), "beat", "eu", Kind.SCHEDULED, Verdict.OK, 1.0, 2.0, n, 1, Timings(0.1))


def fill(one: Spool, count: int) -> None:
    for n in range(count):
        one.add(n % PARTITIONS, result(n))


async def test_everything_is_committed_once_though_acknowledgements_get_lost(
    bus: Bus, pool: Pool, committer: Committer, until: Until, running: Running
) -> None:
    one = spool(bus, pool)
    running(committer.run())
    running(one.run())
    for _ in range(5):
        fill(one, 1000)
        await asyncio.sleep(0.06)
    await until(lambda: one.held == 0, 20.0)
    assert len(committer.results) == 5000
    assert max(Counter(done.run_id for done in committer.results).values()) == 1
    assert one.oldest_uncommitted_s == 0.0
    assert one.dropped == 0


async def test_good_news_waits_for_company_and_anything_else_hurries_it_on(
    bus: Bus, pool: Pool, until: Until, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.spool.CALM_FLUSH_S", 600.0)
    one = spool(bus, pool)
    running(one.run())
    one.add(0, result())
    one.add(1, msgspec.structs.replace(result(), verdict=Verdict.CRITICAL))
    await until(lambda: all(lane.open is None for lane in one._lanes.values()))
    one.add(0, result())
    one.add(1, msgspec.structs.replace(result(), kind=Kind.MANUAL))
    await until(lambda: all(lane.open is None for lane in one._lanes.values()))


async def test_while_nobody_evaluates_only_one_batch_a_partition_is_tried_again(
    bus: Bus, pool: Pool, until: Until, running: Running
) -> None:
    one = spool(bus, pool)
    running(one.run())
    for _ in range(5):
        one.add(0, result())
        await until(lambda: one._lanes[0].open is None)
    await until(lambda: one.repeated >= 4)
    stored = await bus._client.jetstream().stream_info(STREAM)
    assert stored.state.messages == len(one._lanes[0].held) > 1
    assert one.oldest_uncommitted_s > 0.5


async def test_messages_the_stream_lost_but_knows_are_sent_under_a_new_id(
    bus: Bus, pool: Pool, committer: Committer, until: Until, running: Running
) -> None:
    one = spool(bus, pool)
    running(one.run())
    one.add(0, result())
    await until(lambda: one._lanes[0].held and one._lanes[0].held[1].is_published)
    await bus._client.jetstream().purge_stream(STREAM)
    running(committer.run())
    one.add(0, result())
    await until(lambda: one.held == 0, 20.0)
    assert len(committer.results) == 2


async def test_a_wiped_bus_gets_everything_again_though_nothing_new_is_measured(
    bus: Bus, pool: Pool, committer: Committer, until: Until, running: Running
) -> None:
    one = spool(bus, pool)
    running(one.run())
    for _ in range(3):
        fill(one, 100)
        await asyncio.sleep(0.06)
    await until(lambda: all(held.is_published for lane in one._lanes.values() for held in lane.held.values()))
    await bus._client.jetstream().delete_stream(STREAM)
    await bus.ensure()
    running(committer.run())
    await until(lambda: one.held == 0, 20.0)
    assert len(committer.results) == 300


async def test_however_long_the_outage_what_was_dropped_takes_no_memory(
    bus: Bus, pool: Pool, nats_url: str, committer: Committer, until: Until, running: Running
) -> None:
    away = Bus()  # not connected yet
    one = spool(away, pool, most=BATCH)
    for n in range(2000):
        one.add(0, result(n))
        one._seal_all()  # small batches, as in a quiet partition
    assert one.dropped == 2000 - BATCH
    assert len(one._lanes[0].held) == len(one._order) == BATCH
    assert len(one._queue) < 4 * BATCH
    running(committer.run())
    running(one.run())
    await asyncio.sleep(0)
    await away.connect(nats_url, name="tests")
    await until(lambda: one.held == 0, 20.0)
    one.add(0, result())
    await until(lambda: one.held == 0, 20.0)
    await away.close()


async def test_full_memory_drops_the_oldest_and_counts_them_and_leaves_no_gap(
    bus: Bus, pool: Pool, nats_url: str, committer: Committer, until: Until, running: Running
) -> None:
    away = Bus()  # not connected yet
    one = spool(away, pool, most=2 * BATCH)
    handed_in = [result(n) for n in range(5 * BATCH + 7)]
    for each in handed_in:
        one.add(0, each)
    assert one.held <= 2 * BATCH
    assert one.held + one.dropped == len(handed_in)
    running(committer.run())
    await away.connect(nats_url, name="tests")
    running(one.run())
    await until(lambda: one.held == 0 and not one._lanes[0].held, 20.0)
    assert [each.run_id for each in committer.results] == [each.run_id for each in handed_in[one.dropped :]]
    await away.close()


async def test_memory_is_bounded_in_bytes_too(pool: Pool) -> None:
    away = Bus()  # not connected
    one = spool(away, pool, most_bytes=1 << 20)
    telling = msgspec.structs.replace(result(), evidence={"body": "x" * 10_000})
    for _ in range(300):
        one.add(0, telling)
    assert one.dropped > 0
    kept = sum(len(held.data) for held in one._lanes[0].held.values())
    assert 0 < kept <= 1 << 20


async def test_draining_waits_until_all_is_committed(
    bus: Bus, pool: Pool, committer: Committer, running: Running
) -> None:
    one = spool(bus, pool)
    running(committer.run())
    fill(one, 500)
    assert await one.drain(10.0)
    assert len(committer.results) == 500


async def test_draining_gives_up_in_time(bus: Bus, pool: Pool) -> None:
    one = spool(bus, pool)
    fill(one, 5)
    async with asyncio.timeout(3.0):
        assert not await one.drain(0.3)


async def test_a_database_that_is_away_is_waited_for(
    bus: Bus, pool: Pool, committer: Committer, until: Until, running: Running
) -> None:
    one = spool(bus, pool)
    running(one.run())
    await pool.execute("ALTER TABLE watermarks RENAME TO elsewhere")
    fill(one, 10)
    with contextlib.suppress(TimeoutError):
        await until(lambda: one.held == 0, 0.5)
    assert one.held == 10
    await pool.execute("ALTER TABLE elsewhere RENAME TO watermarks")
    running(committer.run())
    await until(lambda: one.held == 0)


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1])
async def test_batches_are_full_or_soon_sent(
    bus: Bus, pool: Pool, committer: Committer, running: Running, count: int
) -> None:
    one = spool(bus, pool)
    running(committer.run())
    for n in range(count):
        one.add(0, result(n))
    assert await one.drain(10.0)
    first = {each.seq: each for each in reversed(committer.batches)}
    assert [len(first[seq].results) for seq in sorted(first)] == [BATCH] * (count // BATCH) + [
        rest for rest in (count % BATCH,) if rest
    ]
