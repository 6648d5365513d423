"""Migrations: up, down and up again with data, taking turns, and never onto a newer schema."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import MigrationError, Pool, migrate, open_pool, transaction, versions

TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migrations'"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url)
    yield opened
    await opened.close()


async def test_up_down_and_up_again_with_data_leaves_nothing_behind(pool: Pool) -> None:
    assert await migrate(pool) == [f"{name} up" for name in versions()]
    async with transaction(pool) as connection:
        page = {"slug": "p", "name": "P"}
        await objects.create(connection, Actor("test", "api"), "page", None, page)
    assert await migrate(pool, to="") == [f"{name} down" for name in reversed(versions())]
    assert await pool.fetchval(TABLES) == 0
    await migrate(pool)
    assert await pool.fetchval("SELECT count(*) FROM objects") == 0


async def test_results_and_their_evidence_survive_the_way_up_and_down(pool: Pool) -> None:
    await migrate(pool, to="0001_foundation")
    row = (
        "INSERT INTO results (scheduled_at, run_id, beat_id, region, kind, verdict, at, seen_at, boot_id, seq, attempts, "
        "check_version, evidence) VALUES ('2026-11-20Z', gen_random_uuid(), gen_random_uuid(), 'eu', 'scheduled', 'critical', "
        "'2026-11-20Z', now(), gen_random_uuid(), 1, 1, 1, $1)"
    )
    await pool.execute(row, {"status": 503})
    await pool.execute(row, None)
    await migrate(pool, to="0002_rollups")
    assert await pool.fetchval("SELECT evidence->>'status' FROM evidence") == "503"
    assert await pool.fetchval("SELECT count(*) FROM results") == 2
    await migrate(pool, to="0001_foundation")
    assert await pool.fetchval("SELECT evidence->>'status' FROM results WHERE evidence IS NOT NULL") == "503"
    assert await pool.fetchval("SELECT count(*) FROM results") == 2


async def test_a_second_time_does_nothing(pool: Pool) -> None:
    await migrate(pool)
    assert await migrate(pool) == []


async def test_two_at_once_take_turns(pool: Pool) -> None:
    first, second = await asyncio.gather(migrate(pool), migrate(pool))
    assert sorted((len(first), len(second))) == [0, len(versions())]


async def test_a_database_of_a_newer_program_is_refused_by_name(pool: Pool) -> None:
    await migrate(pool)
    await pool.execute("INSERT INTO migrations (version) VALUES ('9999_future')")
    with pytest.raises(MigrationError, match="9999_future"):
        await migrate(pool)


async def test_a_table_that_somebody_holds_ends_the_migration_and_not_the_database(
    pool: Pool, database_url: str
) -> None:
    await migrate(pool)
    holder = await asyncpg.connect(database_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE objects IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(MigrationError, match="holds a table"):
            await migrate(pool, to="")
    await holder.close()
    assert await pool.fetchval("SELECT count(*) FROM objects") == 0
