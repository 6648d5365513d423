"""Idempotency keys on PostgreSQL: how long an answer stands."""

from engine.store import idempotency
from engine.store.database import Connection, Pool


async def _taken_again_after(pool: Pool, age: str, *, is_finished: bool) -> bool:
    async with pool.acquire() as connection:
        assert await _begin(connection)
        if is_finished:
            await idempotency.finish(connection, "me", "key", 201, {}, b"{}")
        await connection.execute(f"UPDATE idempotency SET at = now() - interval '{age}'")
        return await _begin(connection)


async def _begin(connection: Connection) -> bool:
    return await idempotency.begin(connection, "me", "key", b"digest") is None


async def test_an_answer_stands_for_a_day(pool: Pool) -> None:
    assert not await _taken_again_after(pool, "23 hours", is_finished=True)


async def test_after_a_day_the_key_is_free_and_its_answer_gone(pool: Pool) -> None:
    assert await _taken_again_after(pool, "25 hours", is_finished=True)
    assert await pool.fetchval("SELECT status IS NULL AND body IS NULL FROM idempotency")


async def test_a_request_that_never_ended_is_tried_again_after_two_minutes(pool: Pool) -> None:
    assert await _taken_again_after(pool, "3 minutes", is_finished=False)
