"""The loop around the schedule: slots, extra runs, failures, lateness."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from engine.clock import SystemClock
from engine.scheduler import Lateness, Scheduler

RunOne = Callable[[int, float], Awaitable[None]]


@contextlib.asynccontextmanager
async def running(run_one: RunOne, count: int, *, slots: int = 1000) -> AsyncIterator[Scheduler[int]]:
    scheduler: Scheduler[int] = Scheduler(SystemClock(), run_one, slots=slots)
    scheduler.entries.put((n, 0.05, n / count) for n in range(count))
    task = asyncio.create_task(scheduler.run())
    try:
        yield scheduler
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.005)


async def test_what_is_due_is_started_with_its_wall_clock_time() -> None:
    seen: list[tuple[int, float]] = []

    async def run_one(key: int, scheduled_at: float) -> None:
        seen.append((key, scheduled_at - SystemClock().epoch_s()))

    async with running(run_one, 10) as scheduler:
        await until(lambda: {key for key, _ in seen} == set(range(10)))
    assert all(-1.0 < early_s <= 0.001 for _, early_s in seen)
    assert scheduler.lateness.count == scheduler.started


async def test_a_full_house_makes_others_wait_and_counts_them() -> None:
    gate, inside = asyncio.Event(), set[int]()

    async def run_one(key: int, scheduled_at: float) -> None:
        inside.add(key)
        await gate.wait()

    async with running(run_one, 10, slots=3) as scheduler:
        await until(lambda: len(inside) == 3 and scheduler.overdue_s > 0.05)
        assert scheduler.in_progress == 3
        gate.set()
        await until(lambda: len(inside) == 10)
    assert scheduler.delayed > 0


async def test_extra_runs_take_a_fifth_of_the_slots_even_in_a_full_house() -> None:
    gate = asyncio.Event()

    async def run_one(key: int, scheduled_at: float) -> None:
        await gate.wait()

    async def extra() -> None:
        await gate.wait()

    async with running(run_one, 20, slots=10) as scheduler:
        await until(lambda: scheduler.in_progress == 10)
        assert [scheduler.run_extra(extra) for _ in range(3)] == [True, True, False]
        assert scheduler.refused == 1


async def test_one_slot_still_has_room_for_one_extra_run() -> None:
    scheduler: Scheduler[int] = Scheduler(SystemClock(), lambda *_: asyncio.sleep(0), slots=1)
    assert scheduler.run_extra(lambda: asyncio.sleep(0))
    assert not scheduler.run_extra(lambda: asyncio.sleep(0))
    await until(lambda: scheduler.in_progress == 0)


async def test_a_run_that_fails_as_it_must_not_is_logged_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done = set[int]()

    async def run_one(key: int, scheduled_at: float) -> None:
        if key == 0:
            raise RuntimeError("a bug")
        done.add(key)

    async with running(run_one, 3):
        await until(lambda: done == {1, 2} and "a bug" in caplog.text)


async def test_an_entry_put_in_while_all_sleep_is_started() -> None:
    seen = asyncio.Event()

    async def run_one(key: int, scheduled_at: float) -> None:
        seen.set()

    async with running(run_one, 0) as scheduler:
        await asyncio.sleep(0)
        scheduler.entries.put([(1, 60.0, 0.0)])
        scheduler.wake()
        await asyncio.wait_for(seen.wait(), 5.0)


def test_a_quantile_is_at_most_an_eighth_too_high() -> None:
    lateness = Lateness()
    for n in range(1, 1001):
        lateness.record(n / 1000)
    assert 0.99 <= lateness.quantile_s(0.99) <= 0.99 * 1.125
    assert lateness.quantile_s(1.0) == lateness.max_s == 1.0
