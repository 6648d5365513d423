"""Files of runs: stored once, read by their run, dropped by age and by size, and never from under who keeps them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from engine.store import artifacts, objects, retention
from engine.store.audit import Actor
from engine.store.database import Connection, Pool, migrate, open_pool, transaction
from evaluators.observation import Artifact

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BEAT = uuid4()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url)
    await migrate(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def db(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection:
        yield connection


def picture(data: bytes, name: str = "failure.jpg") -> Artifact:
    return Artifact(name, "image/jpeg", data)


async def kept(db: Connection, files: Sequence[Artifact], ago: timedelta = timedelta()) -> UUID:
    run = uuid4()
    await artifacts.keep(db, run, BEAT, (NOW - ago).timestamp(), files)
    return run


async def names(db: Connection, *runs: UUID) -> list[list[str]]:
    found = await artifacts.of_runs(db, runs)
    return [[row["name"] for row in found.get(run, [])] for run in runs]


async def test_a_run_is_kept_once_however_often_it_comes_and_a_content_once_whoever_has_it(
    db: Connection,
) -> None:
    one, other = uuid4(), uuid4()
    files = [picture(b"same"), picture(b"same", "step-1.jpg"), picture(b"else", "step-2.jpg")]
    for run in (one, one, other):
        await artifacts.keep(db, run, BEAT, NOW.timestamp(), files)
    assert await names(db, one, other) == [["failure.jpg", "step-1.jpg", "step-2.jpg"]] * 2
    assert await artifacts.size_bytes(db) == 8
    read = await artifacts.read(db, BEAT, one, "step-2.jpg")
    assert read is not None
    assert (read["type"], read["data"]) == ("image/jpeg", b"else")
    assert await artifacts.read(db, uuid4(), one, "step-2.jpg") is None


async def test_what_is_too_large_is_refused_and_nothing_of_its_run_is_kept(db: Connection) -> None:
    large = picture(bytes(artifacts.MOST_BYTES + 1), "large.jpg")
    with pytest.raises(ValueError, match=r"large\.jpg has 8388609 bytes; at most 8388608"):
        await kept(db, [picture(b"small"), large])
    assert await artifacts.size_bytes(db) == 0
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute("INSERT INTO artifacts VALUES (sha256($1), $1)", large.data)
    await kept(db, [picture(large.data[1:])])


async def test_what_is_too_old_goes_and_what_somebody_else_has_stays(db: Connection) -> None:
    old = await kept(db, [picture(b"old"), picture(b"shared", "b.jpg")], timedelta(days=15))
    young = await kept(db, [picture(b"shared")], timedelta(days=13))
    await artifacts.expire(db, NOW, days=14, max_bytes=10**9)
    assert await names(db, old, young) == [[], ["failure.jpg"]]
    assert await artifacts.size_bytes(db) == len(b"shared")


async def test_of_too_much_the_oldest_runs_go_whole_and_no_more_than_needed(db: Connection) -> None:
    runs = [
        await kept(
            db,
            [picture(bytes([n]) * 60_000), picture(bytes([n, n]) * 20_000, "b.jpg")],
            timedelta(hours=9 - n),
        )
        for n in range(9)
    ]
    await artifacts.expire(db, NOW, days=14, max_bytes=450_000)
    assert await names(db, *runs) == [[]] * 5 + [["b.jpg", "failure.jpg"]] * 4
    assert await artifacts.size_bytes(db) == 400_000
    await artifacts.expire(db, NOW, days=14, max_bytes=0)
    assert await artifacts.size_bytes(db) == 0


async def test_many_more_than_one_step_takes_all_go(db: Connection) -> None:
    for n in range(3):
        await kept(db, [picture(b"%d" % i, f"{i}.jpg") for i in range(n * 300, n * 300 + 300)])
    await artifacts.expire(db, NOW + timedelta(days=15), days=14, max_bytes=10**9)
    assert await artifacts.size_bytes(db) == 0


async def _waits(pool: Pool) -> None:
    """Until somebody waits for a lock."""
    async with asyncio.timeout(20):
        while not await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def test_a_content_that_is_kept_again_while_it_expires_is_not_lost(pool: Pool) -> None:
    async with pool.acquire() as keeper, pool.acquire() as janitor:
        old = await kept(keeper, [picture(b"same")], timedelta(days=15))
        keeping = keeper.transaction()
        await keeping.start()
        young = await kept(keeper, [picture(b"same")])
        await artifacts.expire(janitor, NOW, days=14, max_bytes=10**9)  # waits for nobody
        await keeping.commit()
        await artifacts.expire(janitor, NOW, days=14, max_bytes=10**9)
        assert await names(janitor, old, young) == [[], ["failure.jpg"]]
        assert await artifacts.read(janitor, BEAT, young, "failure.jpg")


async def test_a_content_that_is_kept_while_it_is_being_dropped_is_kept_anew(pool: Pool) -> None:
    async with pool.acquire() as keeper, pool.acquire() as janitor:
        await kept(janitor, [picture(b"same")], timedelta(days=15))
        dropping = janitor.transaction()
        await dropping.start()
        await artifacts.expire(janitor, NOW, days=14, max_bytes=10**9)
        coming = asyncio.create_task(kept(keeper, [picture(b"same")]))
        await _waits(pool)
        await dropping.commit()
        run = await coming
        assert await artifacts.read(keeper, BEAT, run, "failure.jpg")
        assert await artifacts.size_bytes(keeper) == 4


async def test_many_who_keep_the_same_while_it_expires_lose_nothing_and_leave_nothing(pool: Pool) -> None:
    files = [picture(bytes([n]) * 1000, f"{n}.jpg") for n in range(6)]

    async def keep_many() -> list[UUID]:
        async with pool.acquire() as db:
            return [await kept(db, files[n % 3 :]) for n in range(30)]

    async def expire_many() -> None:
        async with pool.acquire() as db:
            for _ in range(30):
                await artifacts.expire(db, NOW, days=14, max_bytes=2500)

    await asyncio.gather(keep_many(), keep_many(), expire_many(), keep_many())
    async with pool.acquire() as db:
        assert (
            await db.fetchval(
                "SELECT count(*) FROM run_artifacts r WHERE NOT EXISTS (SELECT FROM artifacts a WHERE a.sha256 = r.sha256)"
            )
            == 0
        )
        await artifacts.expire(db, NOW, days=14, max_bytes=0)
        assert await artifacts.size_bytes(db) == 0


async def test_a_beat_that_is_removed_keeps_its_files_for_a_month(pool: Pool) -> None:
    actor = Actor("test", "api")
    async with transaction(pool) as db:
        page = await objects.create(db, actor, "page", None, {"slug": "p", "name": "P"})
        beats = [
            await objects.create(
                db, actor, "beat", page.id, {"slug": slug, "type": "tcp", "host": "a", "port": 1}
            )
            for slug in ("a", "b", "c")
        ]
        for days, beat in zip((40, 20), beats, strict=False):
            await db.execute(
                "UPDATE objects SET removed_at = now() - $2 * interval '1 day' WHERE id = $1", beat.id, days
            )
        for beat in beats:
            await artifacts.keep(
                db, uuid4(), beat.id, NOW.timestamp(), [picture(beat.slug.encode(), "x.jpg")]
            )
        await retention.sweep(db, days=30)
        left = {row["beat_id"] for row in await db.fetch("SELECT beat_id FROM run_artifacts")}
        assert left == {beats[1].id, beats[2].id}
        await artifacts.expire(db, NOW, days=14, max_bytes=10**9)
        assert await artifacts.size_bytes(db) == 2


async def test_the_way_down_takes_the_files_and_leaves_the_runs(pool: Pool) -> None:
    async with pool.acquire() as db:
        await kept(db, [picture(b"x")])
    await migrate(pool, to="0008_page")
    assert await pool.fetchval("SELECT to_regclass('artifacts')") is None
    await migrate(pool)
    async with pool.acquire() as db:
        await kept(db, [picture(b"x")])
