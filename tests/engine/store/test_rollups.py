"""Roll-ups equal a count over the raw rows: after late rows, duplicates, killed rollers, and beside open transactions."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.store import results, retention, rollups
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.ids import new_id
from evaluators import sketch
from evaluators.model import PHASES, Failure, Kind, Result, Timings, Verdict
from evaluators.uptime import Parts

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
SINCE = NOW.replace(minute=0) - timedelta(days=7)
BEAT = uuid4()
BOOT = str(uuid4())
DAY_S = 86_400
TYPES = {Verdict.WARNING: "degraded", Verdict.CRITICAL: "connect.refused", Verdict.ERROR: "probe.network"}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url)
    await migrate(opened)
    async with opened.acquire() as db:
        await retention.make_days(db, NOW.date())
    yield opened
    await opened.close()


def run(chance: random.Random, at: datetime, **more: Any) -> Result:
    verdict = chance.choices(list(Verdict), (8, 1, 2, 1))[0]
    total = chance.lognormvariate(-2, 1.5)
    known = {
        "run_id": str(new_id()),
        "beat_id": str(BEAT),
        "region": chance.choice(("eu", "us")),
        "kind": chance.choices(list(Kind), (8, 1, 1))[0],
        "verdict": verdict,
        "scheduled_at": at.timestamp(),
        "at": at.timestamp() + chance.random() + 0.001,
        "seq": 1,
        "attempts": 1,
        "timings": Timings(connect=total / 3 if chance.random() < 0.7 else None, total=total),
        "failure": Failure(TYPES[verdict], "so it was") if verdict in TYPES else None,
    }
    return Result(**(known | more))


def early(chance: random.Random) -> datetime:
    """Mostly of this hour, sometimes of days ago."""
    back_s = chance.choice((600.0, 4000.0, 5 * 86400.0))
    return NOW - timedelta(seconds=chance.random() * back_s)


async def store(pool: Pool, *made: Result) -> None:
    async with transaction(pool) as db:
        await results.insert(db, [(BOOT, result.at, result) for result in made], NOW.timestamp())


async def summed(pool: Pool, **more: Any) -> dict[Any, Any]:
    """What `read` says, per region."""
    async with pool.acquire() as db:
        rows = await rollups.read(db, BEAT, SINCE, **more)
    return {
        row["region"]: (
            {verdict.value: row[verdict] for verdict in Verdict},
            row["failures"],
            (row["last_at"].timestamp(), row["last_verdict"]),
            rollups.sketches(row),
        )
        for row in rows
    }


def bucket(seconds: float) -> int:
    """As the module says: of the real number that is stored."""
    place = 0
    while sketch.LEAST_S * sketch.GAMMA**place < seconds:
        place += 1
    return place


async def counted(pool: Pool) -> dict[Any, Any]:
    """The same by hand."""
    found: dict[Any, Any] = {}
    for row in await pool.fetch("SELECT * FROM results WHERE kind = 'scheduled' ORDER BY at"):
        if row["scheduled_at"] < SINCE or row["beat_id"] != BEAT:
            continue
        counts, failures, _, kept = found.get(
            row["region"], (dict.fromkeys([v.value for v in Verdict], 0), Counter(), None, {})
        )
        counts[row["verdict"]] += 1
        failures.update([row["failure_type"]] if row["failure_type"] else [])
        for phase in PHASES if row["verdict"] != "error" else ():
            if row[phase] is not None:
                kept.setdefault(phase, Counter()).update([bucket(row[phase])])
        found[row["region"]] = (counts, failures, (row["at"].timestamp(), row["verdict"]), kept)
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_roll_ups_are_what_the_raw_rows_are_whatever_happened(pool: Pool, seed: int) -> None:
    chance = random.Random(seed)
    known: list[Result] = []
    for step in range(12):
        made = [run(chance, early(chance)) for _ in range(chance.randrange(1, 60))]
        await store(pool, *made, *chance.sample(known, min(len(known), 5)))  # some come a second time
        known += made
        if step % 3 == 0:
            await rollups.roll(pool)
            await pool.execute(
                "UPDATE rolled SET at = $1", NOW - timedelta(days=9)
            )  # everything fresh is seen
        assert await summed(pool) == await counted(pool)
    await asyncio.gather(rollups.roll(pool), rollups.roll(pool))
    assert await summed(pool) == await counted(pool)
    assert sum((await summed(pool))["eu"][0].values()) > 50


def _snapped(edge: float) -> float:
    """As `pieces` says, with raw rows kept since the day before NOW and hours for 32 days."""
    yesterday = (NOW - timedelta(days=1)).replace(hour=0, minute=0).timestamp()
    hours = NOW.replace(hour=0, minute=0).timestamp() - 31 * DAY_S
    unit_s = 1 if edge >= yesterday else 3600 if edge >= hours else DAY_S
    return edge if unit_s == 1 else math.ceil(edge / unit_s) * unit_s


async def test_any_stretch_is_counted_as_the_raw_rows_are(pool: Pool) -> None:
    chance, now = random.Random(5), NOW.timestamp()
    made = [run(chance, NOW - timedelta(seconds=40 * DAY_S * chance.random() ** 3)) for _ in range(600)]
    await store(pool, *made[:500])
    await rollups.roll(pool)
    await pool.execute("UPDATE rolled SET at = $1", NOW - timedelta(days=60))  # everything fresh is seen
    await store(pool, *made[500:])
    cuts = sorted(now - 41 * DAY_S * chance.random() ** 3 for _ in range(60))
    stretches = [
        *pairwise([now - 45 * DAY_S, *cuts, now + 1]),
        (cuts[20], cuts[50]),
        (now - 45 * DAY_S, now + 1),
    ]
    async with pool.acquire() as db:
        found, resolution_s = await rollups.count(db, [BEAT], stretches, now)
        exact = (await rollups.count(db, [BEAT], stretches[-1:], now))[1]
    assert (resolution_s, exact) == (DAY_S, DAY_S)
    scheduled = [one for one in made if one.kind == Kind.SCHEDULED]
    for (since, until), parts in zip(stretches, found, strict=True):
        there = [one for one in scheduled if _snapped(since) <= one.scheduled_at < _snapped(until)]
        of = Counter(one.verdict for one in there)
        up = of[Verdict.OK] + of[Verdict.WARNING]
        assert (parts.up, parts.down, parts.unknown) == (up, of[Verdict.CRITICAL], of[Verdict.ERROR])
    assert sum((parts for parts in found[:61]), Parts()) == found[-1] != Parts()


@given(st.integers(0, 40 * 48), st.integers(0, 40 * 48), st.integers(0, 40), st.integers(0, 40))
def test_pieces_of_a_stretch_adjoin_and_are_whole(left: int, right: int, raw: int, hours: int) -> None:
    """In half hours; raw rows and hours are kept from some midnights on."""
    since, until = sorted((left * 1800.0, right * 1800.0))
    raw_s, hours_s = max(raw, hours) * DAY_S, min(raw, hours) * DAY_S
    found, _ = rollups.pieces(since, until, raw_s, hours_s)
    assert all(a[1] == b[0] for a, b in pairwise(found))
    for start, end, unit in found:
        assert start < end
        assert start % (unit * 3600 or 1) == end % (unit * 3600 or 1) == 0
        assert unit or start >= raw_s
        assert unit == 24 or start >= hours_s


async def test_a_row_that_is_committed_after_later_ones_is_counted(pool: Pool) -> None:
    chance = random.Random(1)
    slow, quick = (run(chance, NOW, kind=Kind.SCHEDULED, region="eu") for _ in range(2))
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        async with transaction(pool) as db:
            await results.insert(db, [(BOOT, slow.at, slow)], NOW.timestamp())  # has its position now
            began.set()
            await go_on.wait()

    writing = asyncio.create_task(slowly())
    await began.wait()
    try:
        await store(pool, quick)
        with pytest.raises(
            asyncpg.LockNotAvailableError
        ):  # not before it is known what becomes of the slow one
            await rollups.roll(pool)
        assert sum((await summed(pool))["eu"][0].values()) == 1
    finally:
        go_on.set()
        await writing
    await rollups.roll(pool)
    assert await pool.fetchval("SELECT position FROM rolled") == 2
    assert await summed(pool) == await counted(pool)
    assert sum((await summed(pool))["eu"][0].values()) == 2


async def test_a_killed_roller_has_done_nothing_and_the_next_one_does_it(
    pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "SLICE", 40)
    chance = random.Random(2)
    await store(pool, *(run(chance, NOW - timedelta(seconds=n)) for n in range(100)))
    await store(pool, *(run(chance, NOW - timedelta(days=1, seconds=n)) for n in range(100)))
    holder = await asyncpg.connect(database_url)
    other = await open_pool(database_url, size=1)
    async with holder.transaction():
        await holder.execute("LOCK TABLE rollups IN SHARE MODE")  # where the roller stands in its first slice
        rolling = asyncio.create_task(rollups.roll(other))
        waits = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'rollups'::regclass"
        while (pid := await pool.fetchval(waits)) is None and not rolling.done():
            await asyncio.sleep(0.01)
        await pool.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await rolling
    await holder.close()
    other.terminate()
    assert await pool.fetchval("SELECT position FROM rolled") == 0
    assert await pool.fetchval("SELECT count(*) FROM rollups") == 0
    assert await rollups.roll(pool) == 200
    assert await rollups.roll(pool) == 0
    assert await summed(pool) == await counted(pool)


async def test_timings_that_are_none_spoil_nothing(pool: Pool) -> None:
    odd = (float("nan"), float("inf"), -1.0, 0.0, 1e-12, 3e38)
    runs = [
        run(
            random.Random(3),
            NOW,
            kind=Kind.SCHEDULED,
            verdict=Verdict.OK,
            region="eu",
            timings=Timings(total=s),
        )
        for s in odd
    ]
    await store(pool, *runs)
    await rollups.roll(pool)
    counts, _, _, kept = (await summed(pool))["eu"]
    assert counts["ok"] == len(odd)
    assert kept == {"total": {0: 2}}


async def test_per_step_a_chart_has_what_a_summary_has(pool: Pool) -> None:
    chance = random.Random(4)
    await store(pool, *(run(chance, early(chance), beat_id=str(BEAT)) for _ in range(200)))
    await rollups.roll(pool)
    async with pool.acquire() as db:
        steps = await rollups.read(db, BEAT, SINCE, step=timedelta(hours=2), region="us")
    whole = (await summed(pool, region="us"))["us"]
    assert len({row["start"] for row in steps}) > 1
    assert all((row["start"] - SINCE) % timedelta(hours=2) == timedelta(0) for row in steps)
    assert {v.value: sum(row[v] for row in steps) for v in Verdict} == whole[0]
    totals = sketch.merged(s for row in steps for s in rollups.sketches(row).values())
    assert totals == whole[3]["total"]


async def test_hours_are_kept_for_a_month_and_days_as_long_as_is_said(pool: Pool) -> None:
    for days in (1, 33, 401):
        await store(pool, run(random.Random(5), NOW - timedelta(days=days), kind=Kind.SCHEDULED))
    await rollups.roll(pool)
    async with pool.acquire() as db:
        await rollups.sweep(db, NOW, days=400)
    kept = await pool.fetch("SELECT hours, count(*) AS n FROM rollups GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in kept] == [(1, 1), (24, 2)]
