"""Results stored per second through `engine.store.results.insert`, beside `executemany` of the same rows.

    python -m benchmarks.store [--seconds 20]

Batches of 1,000, each its own transaction with fsync on a real disk, unique index, 5 % with evidence. Theirs is one table
of the same columns and indexes. CPU is of this process and PostgreSQL together.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from benchmarks.bench import cpu_s, line
from benchmarks.results import results
from engine.embedded.supervisor import start
from engine.store import retention
from engine.store.database import Connection, migrate, open_pool, transaction
from engine.store.results import insert
from evaluators.model import PHASES, Result
from tests.rig.installation import family
from tests.rig.process import fresh_folder

BATCH = 1000
Store = Callable[[Connection, list[tuple[str, float, Result]]], Awaitable[Any]]
_COLUMNS = (
    *(
        ("scheduled_at", "float8"),
        ("run_id", "uuid"),
        ("beat_id", "uuid"),
        ("region", "text"),
        ("kind", "text"),
    ),
    *(("verdict", "text"), ("at", "float8"), ("seen_at", "float8"), ("boot_id", "uuid"), ("seq", "int8")),
    *(("attempts", "int2"), ("check_version", "int8"), *((phase, "float4") for phase in PHASES)),
    *(("failure_type", "text"), ("failure_message", "text"), ("outcomes", "json"), ("evidence", "json")),
)
_VALUES = ", ".join(
    f"to_timestamp(${n}::float8)"
    if kind == "float8"
    else f"${n}::text::{kind}"
    if kind == "json"
    else f"${n}::{kind}"
    for n, (_, kind) in enumerate(_COLUMNS, 1)
)
_ONE = (
    f"INSERT INTO plain ({', '.join(name for name, _ in _COLUMNS)}) VALUES ({_VALUES}) ON CONFLICT DO NOTHING"
)


def _plain(boot_id: str, at: float, result: Result, seen_at: float) -> tuple[Any, ...]:
    failure = result.failure
    return (
        *(result.scheduled_at, result.run_id, result.beat_id, result.region, result.kind, result.verdict),
        *(at, seen_at, boot_id, result.seq, result.attempts, result.check_version),
        *(getattr(result.timings, phase) for phase in PHASES),
        *((failure.type, failure.message) if failure else (None, None)),
        msgspec.json.encode(result.outcomes).decode(),
        msgspec.json.encode(result.evidence).decode() if result.evidence else None,
    )


async def ours(connection: Connection, batch: list[tuple[str, float, Result]]) -> None:
    assert len(await insert(connection, batch, time.time())) == len(batch)


async def theirs(connection: Connection, batch: list[tuple[str, float, Result]]) -> None:
    seen = time.time()
    await connection.executemany(_ONE, [_plain(boot, at, result, seen) for boot, at, result in batch])


async def measure(folder: Path, seconds: float) -> None:
    servers = await start(folder / "data")
    try:
        pool = await open_pool(servers.database_url, size=2)
        await migrate(pool)
        postgres = next(fact.pid for fact in servers.facts() if fact.name == "postgres")
        async with pool.acquire() as connection:
            await retention.make_days(connection, datetime.fromtimestamp(time.time(), UTC).date())
            await connection.execute("CREATE TABLE plain (LIKE results INCLUDING ALL, evidence json)")
        beats = [str(uuid4()) for _ in range(333)]
        boot = str(uuid4())

        async def one(store: Store) -> tuple[float, float]:
            """(wall, CPU) seconds of a batch; making its rows is not counted."""
            made = results(beats, ["eu", "us", "ap"], 1, began=time.time(), interval_s=1.0, bad=0.05)
            batch = [(boot, result.at, result) for result in made]
            servers_s = cpu_s(family(postgres))  # looking costs CPU as well: outside of our own share
            own_s, began_s = time.process_time(), time.perf_counter()
            async with transaction(pool) as connection:
                await store(connection, batch)
            wall_s, own_s = time.perf_counter() - began_s, time.process_time() - own_s
            return wall_s, own_s + cpu_s(family(postgres)) - servers_s

        spent = {ours: [0.0, 0.0], theirs: [0.0, 0.0]}
        done = -20
        until_s = time.perf_counter() + seconds
        while time.perf_counter() < until_s:  # in turn: whatever else the machine does hits both
            done += 1
            for store, sums in spent.items():
                wall_s, busy_s = await one(store)
                if done > 0:
                    sums[0] += wall_s
                    sums[1] += busy_s
        rows = done * len(beats) * 3
        rate, plain_rate = (rows / wall_s for wall_s, _ in spent.values())
        cpu_us, plain_us = (busy_s / rows * 1e6 for _, busy_s in spent.values())
        async with pool.acquire() as connection:
            await connection.execute("VACUUM ANALYZE results, evidence")
            size = await connection.fetchval(
                "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent IN ('results'::regclass, 'evidence'::regclass)"
            )
            stored = await connection.fetchval("SELECT count(*) FROM results")
        await pool.close()
    finally:
        await servers.stop()
    line(
        "store",
        rate,
        unit="rows/s",
        baseline=plain_rate,
        target=">= 20,000 rows/s, CPU <= 1/1.2",
        is_met=rate >= 20_000 and cpu_us <= plain_us / 1.2,
        higher_is_better=True,
        ran=f"{rows} rows in batches of {len(beats) * 3}, fsync, 5 % with evidence; baseline executemany",
        cpu_us_per_row=round(cpu_us, 1),
        baseline_cpu_us_per_row=round(plain_us, 1),
        cpu_ratio=round(cpu_us / plain_us, 3),
        bytes_per_row=round(int(size) / stored),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    with fresh_folder(Path("/var/tmp")) as folder:
        asyncio.run(measure(folder, given.seconds))


if __name__ == "__main__":
    main()
