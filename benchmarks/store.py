"""Results stored per second through `engine.store.results.insert`, beside `executemany` of the same rows.

    python -m benchmarks.store [--seconds 20]

Batches of 1,000, each its own transaction with fsync on a real disk, unique index, 5 % with evidence. CPU is of this
process and PostgreSQL together.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.bench import cpu_s, line
from benchmarks.results import results
from engine.embedded.supervisor import start
from engine.store import retention
from engine.store.database import Connection, migrate, open_pool, transaction
from engine.store.results import _COLUMNS, _row, insert
from evaluators.model import Result
from tests.rig.installation import family
from tests.rig.process import fresh_folder

BATCH = 1000
Store = Callable[[Connection, list[tuple[str, float, Result]]], Awaitable[Any]]
_ONE = (
    f"INSERT INTO plain ({', '.join(name for name, _, _ in _COLUMNS)}) VALUES ("
    + ", ".join(
        value.replace(f"r.{name}", f"${place}::{kind}")
        for place, (name, kind, value) in enumerate(_COLUMNS, 1)
    )
    + ") ON CONFLICT DO NOTHING"
)


async def ours(connection: Connection, batch: list[tuple[str, float, Result]]) -> None:
    assert len(await insert(connection, batch, time.time())) == len(batch)


async def theirs(connection: Connection, batch: list[tuple[str, float, Result]]) -> None:
    seen = time.time()
    await connection.executemany(_ONE, [_row(boot, at, result, seen) for boot, at, result in batch])


async def measure(folder: Path, seconds: float) -> None:
    servers = await start(folder / "data")
    try:
        pool = await open_pool(servers.database_url, size=2)
        await migrate(pool)
        postgres = next(fact.pid for fact in servers.facts() if fact.name == "postgres")
        async with pool.acquire() as connection:
            await retention.make_days(connection, datetime.fromtimestamp(time.time(), UTC).date())
            await connection.execute("CREATE TABLE plain (LIKE results INCLUDING ALL)")
        beats = [str(uuid4()) for _ in range(333)]
        boot = str(uuid4())

        async def batches(store: Store, for_s: float) -> tuple[float, float, int]:
            """(rows a second, CPU us a row, rows) of so long; making the rows is not counted."""
            rows, wall_s, spent_s = 0, 0.0, 0.0
            while wall_s < for_s:
                made = results(beats, ["eu", "us", "ap"], 1, began=time.time(), interval_s=1.0, bad=0.05)
                batch = [(boot, result.at, result) for result in made]
                servers_s = cpu_s(family(postgres))  # looking costs CPU as well: outside of our own share
                own_s, began_s = time.process_time(), time.perf_counter()
                async with transaction(pool) as connection:
                    await store(connection, batch)
                wall_s += time.perf_counter() - began_s
                spent_s += time.process_time() - own_s
                spent_s += cpu_s(family(postgres)) - servers_s
                rows += len(batch)
            return rows / wall_s, spent_s / rows * 1e6, rows

        await batches(ours, 1.0)
        await batches(theirs, 1.0)
        rate, cpu_us, rows = await batches(ours, seconds)
        plain_rate, plain_us, _ = await batches(theirs, seconds / 2)
        async with pool.acquire() as connection:
            await connection.execute("VACUUM ANALYZE results")
            size = await connection.fetchval(
                "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'results'::regclass"
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
