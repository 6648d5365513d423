"""Roll-ups equal a count over the raw rows: after late rows, duplicates, killed rollers, and beside open transactions."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from engine.store import results, retention, rollups
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.ids import new_id
from evaluators import sketch
from evaluators.model import PHASES, Failure, Kind, Result, Timings, Verdict

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
SINCE = NOW.replace(minute=0) - timedelta(days=7)
BEAT = uuid4()
BOOT = str(uuid4())
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
