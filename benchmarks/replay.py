"""Stored results replayed under two policies, beside a loop that only reads and decodes the same rows.

    python -m benchmarks.replay [--days 5] [--beats 20]

Three regions, one run a minute, 0.5 % bad runs; 30 days of 100 beats are 12.96 million rows. The ratio is of CPU in this
process; the wall time is of two worker processes, as the server runs them, and memory what a worker takes beyond an idle one.
"""

import argparse
import asyncio
import resource
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.bench import cpu_s, line
from engine.embedded.supervisor import start
from engine.jobs import Jobs
from engine.replay import CHUNK_S, WARM_UP_S, What, work
from engine.store import jobs, objects, replays, retention
from engine.store.audit import Actor
from engine.store.database import Connection, Pool, migrate, open_pool, transaction
from engine.store.replays import Found, Plan, Played
from evaluators.policy import Bound
from tests.rig.installation import family
from tests.rig.process import fresh_folder

REGIONS = ("ap", "eu", "us")
NEW: dict[str, Any] = {"quorum": {"critical": "any", "consecutive": {"open": 3}}}
_FILL = (
    "INSERT INTO results (scheduled_at, run_id, beat_id, region, kind, verdict, at, seen_at, boot_id, seq, attempts, "
    "check_version, total) SELECT t.at, gen_random_uuid(), b.id, r.slug, 'scheduled', "
    "CASE WHEN random() < 0.005 THEN 'critical' ELSE 'ok' END, t.at + interval '30 ms', t.at + interval '50 ms', "
    "r.boot, (extract(epoch FROM t.at) * 1000)::int8, 1, 1, 0.03 FROM "
    "(SELECT $1::timestamptz + m * interval '1 minute' AS minute FROM generate_series(0, 1439) m) d "
    "CROSS JOIN unnest($3::text[], $4::uuid[]) WITH ORDINALITY AS r (slug, boot, place) "
    "CROSS JOIN unnest($2::uuid[]) WITH ORDINALITY AS b (id, n) CROSS JOIN LATERAL "
    "(SELECT d.minute + r.place * interval '20 s' + b.n * interval '113 ms' AS at) t ORDER BY t.at"
)


async def fill(pool: Pool, beats: int, days: int) -> Plan:
    """The rows, and the plan to replay all of them."""
    began = datetime(2025, 1, 1, tzinfo=UTC)
    spec = {"type": "tcp", "host": "h.example", "port": 443, "interval": "60s"}
    bound, components = Bound(regions=REGIONS), list[list[Played]]()
    async with transaction(pool) as connection:
        page = await objects.create(
            connection, Actor("benchmark", "api"), "page", None, {"slug": "p", "name": "P"}
        )
        for number in range(beats):
            mine = {"slug": f"b{number}", **spec}
            beat = await objects.create(connection, Actor("benchmark", "api"), "beat", page.id, mine)
            components.append(
                [Played(beat.id, beat.slug, "beat", [mine, mine | NEW], bound, began.timestamp())]
            )
    boots = [UUID(int=place + 1) for place in range(len(REGIONS))]
    ids = [one.id for component in components for one in component]
    async with pool.acquire() as connection:
        for day in range(days):
            await retention._make_day(
                connection, "results", "scheduled_at", (began + timedelta(days=day)).date()
            )
            await connection.execute(
                _FILL, began + timedelta(days=day), ids, list(REGIONS), boots, timeout=600
            )
        await connection.execute("ANALYZE results", timeout=600)
    return Plan(began.timestamp(), began.timestamp() + 86400.0 * days + 120.0, False, components)


async def read(connection: Connection, plan: Plan) -> int:
    """Only read and decode what a replay would."""
    rows = 0
    async with connection.transaction(readonly=True):
        await connection.execute("SET LOCAL work_mem = '32MB'")
        begin, reading = plan.since - WARM_UP_S, What(connection, plan, plan.components)
        while begin < plan.until:
            async for batch in reading.batches(begin, min(begin + CHUNK_S, plan.until)):
                for _n, _at, _region, _boot, _seq, _more in batch:
                    rows += 1
            begin += CHUNK_S
    return rows


async def run(pool: Pool, running: Jobs, plan: Plan, workers: int) -> tuple[Found, float]:
    """What the server's workers find, and in how many seconds."""
    began_s = time.perf_counter()
    async with pool.acquire() as connection:
        replay = await jobs.create(connection, "replay", "benchmark", [], {}, plan, workers)
    assert replay is not None
    running.start("replay", replay, workers, 3600.0)
    while True:
        await asyncio.sleep(0.1)
        async with pool.acquire() as connection:
            row = await jobs.get(connection, "replay", replay)
        assert row is not None
        if row["status"] not in ("waiting", "running"):
            assert row["status"] == "done", row["error"]
            return replays.decode(row["found"]), time.perf_counter() - began_s


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


async def measure(folder: Path, beats: int, days: int) -> None:
    servers = await start(folder / "data", durable=False)
    try:
        pool = await open_pool(servers.database_url, size=4)
        await migrate(pool)
        plan = await fill(pool, beats, days)
        postgres = next(fact.pid for fact in servers.facts() if fact.name == "postgres")
        running = Jobs(pool, lambda: servers.database_url)
        await run(pool, running, Plan(plan.since, plan.until, False, []), 2)
        idle_mib = _peak_mib()
        spent: dict[str, list[float]] = {}
        found = Found()
        async with pool.acquire() as connection:
            await read(connection, plan)  # the cache is warm for all that follows
            for name in ("read", "replay") * (3 if days * beats <= 300 else 1):
                server_s, own_s = cpu_s(family(postgres)), time.process_time()
                if name == "read":
                    await read(connection, plan)
                else:
                    found = await work(connection, plan, 0, 1, lambda *_: None)
                took = [time.process_time() - own_s, cpu_s(family(postgres)) - server_s]
                spent[name] = min(took, spent.get(name, took))
        whole, wall_s = await run(pool, running, plan, 2)
        peak_mib = _peak_mib() - idle_mib
        await running.close()
        await pool.close()
    finally:
        await servers.stop()
    assert found.rows == whole.rows == beats * days * 1440 * len(REGIONS)
    ratio = spent["replay"][0] / spent["read"][0]
    full_s = wall_s * 12.96e6 / whole.rows
    line(
        "replay",
        spent["replay"][0] / found.rows * 1e6,
        unit="us of CPU per result, two policies",
        baseline=spent["read"][0] / found.rows * 1e6,
        target="<= 3 min for 12.96 M results on two cores, CPU <= 4x, memory <= +128 MiB",
        is_met=full_s <= 180 and ratio <= 4 and peak_mib <= 128,
        ran=f"{whole.rows} results of {beats} beats in {days} days, two workers {wall_s:.1f} s; baseline reads and decodes",
        wall_s=round(wall_s, 1),
        at_this_rate_full_s=round(full_s, 1),
        memory_mib=round(peak_mib, 1),
        postgres_cpu_s=[round(spent[name][1], 1) for name in ("read", "replay")],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--beats", type=int, default=20)
    given = parser.parse_args()
    with fresh_folder(Path("/var/tmp")) as folder:
        asyncio.run(measure(folder, given.beats, given.days))


if __name__ == "__main__":
    main()
