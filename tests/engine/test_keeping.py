"""Files of runs reach the database as soon as it is there, in bounded memory, and nobody waits for them."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from engine import keeping
from engine.keeping import Keeping
from engine.store import artifacts
from engine.store.database import Pool
from engine.tasks import end
from evaluators.observation import Artifact

Until = Callable[..., Awaitable[None]]


def files(size_bytes: int = 10) -> tuple[Artifact, ...]:
    return (Artifact("failure.jpg", "image/jpeg", uuid4().bytes * (size_bytes // 16 + 1)),)


async def stored(pool: Pool) -> set[UUID]:
    return {row["run_id"] for row in await pool.fetch("SELECT run_id FROM run_artifacts")}


async def test_what_is_handed_in_is_stored(pool: Pool, until: Until) -> None:
    keeper, run = Keeping(pool), uuid4()
    running = asyncio.create_task(keeper.run())
    keeper.keep(str(run), uuid4(), 1e9, files())
    keeper.keep(str(uuid4()), uuid4(), 1e9, ())
    await until(lambda: not keeper.held_bytes)
    await end([running])
    assert await stored(pool) == {run}
    assert keeper.dropped == 0


async def test_while_the_database_is_away_the_newest_are_held_and_come_through_later(
    pool: Pool, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETRY_FIRST_S", 0.02)
    keeper, runs = Keeping(pool, most_bytes=3500), [uuid4() for _ in range(5)]
    await pool.execute("ALTER TABLE run_artifacts RENAME TO away")
    running = asyncio.create_task(keeper.run())
    for run in runs:
        keeper.keep(str(run), uuid4(), 1e9, files(1000))
        await asyncio.sleep(0.01)
    await pool.execute("ALTER TABLE away RENAME TO run_artifacts")
    await until(lambda: not keeper.held_bytes, 30)
    await end([running])
    kept = await stored(pool)
    assert kept >= set(runs[3:])  # and one more: the oldest, if it was just being tried
    assert len(kept) == 5 - keeper.dropped


async def test_what_cannot_be_stored_is_dropped_and_holds_nothing_up(pool: Pool, until: Until) -> None:
    keeper, run = Keeping(pool), uuid4()
    keeper.keep(
        str(uuid4()), uuid4(), 1e9, (Artifact("large.jpg", "image/jpeg", bytes(artifacts.MOST_BYTES + 1)),)
    )
    keeper.keep(str(uuid4()), uuid4(), 1e9, (Artifact("a\0b", "image/jpeg", b"x"),))
    keeper.keep(str(run), uuid4(), 1e9, files())
    await keeper.drain(20)
    assert await stored(pool) == {run}
    assert (keeper.dropped, keeper.held_bytes) == (2, 0)


async def test_at_the_end_what_is_left_is_stored_or_counted(pool: Pool) -> None:
    keeper, run = Keeping(pool), uuid4()
    running = asyncio.create_task(keeper.run())
    keeper.keep(str(run), uuid4(), 1e9, files())
    await end([running])
    await keeper.drain(20)
    assert await stored(pool) == {run}
    keeper.keep(str(uuid4()), uuid4(), 1e9, files())
    await keeper.drain(0)
    assert (keeper.dropped, keeper.held_bytes) == (1, 0)
