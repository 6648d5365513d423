"""Memory of 10,000 configured beats that are not due, in a probe, beside the same probe without beats.

    python benchmarks/idle_memory.py [--beats N]

Each figure is the resident memory of a fresh process that has loaded the catalog from PostgreSQL and scheduled
everything (interval one day), after a garbage collection. Every beat has its own URL; headers and assertions are
alike, as they are when people copy them.
"""

import argparse
import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

import uvloop

from engine.bus import Bus
from engine.clock import SystemClock
from engine.embedded.supervisor import start
from engine.prober import Prober
from engine.probes.context import Context
from engine.secrets import Secrets
from engine.spool import Spool
from engine.store.database import Pool, migrate, open_pool
from engine.store.ids import new_id, partition_of
from rules.address import EgressPolicy

TARGET_MB = 60


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


async def declare(pool: Pool, beats: int) -> None:
    page, ids = new_id(), [new_id() for _ in range(beats)]
    spec = {
        "type": "http",
        "interval": 86_400,
        "headers": {"Accept": "application/json", "Authorization": "Bearer ${env:PATH}"},
        "assertions": [
            {"of": "status", "eq": 200},
            {"of": "json", "path": "$.status", "eq": "ok"},
            {"of": "timing.total", "lt": "5s"},
        ],
    }
    insert = "INSERT INTO objects (id, kind, page_id, slug, spec) VALUES ($1, $2, $3, $4, $5)"
    await pool.execute(insert, page, "page", None, "bench", {"slug": "bench"})
    await pool.execute(insert, new_id(), "region", None, "here", {"slug": "here"})
    urls = [f"https://service-{n}.example.com/health/{n}" for n in range(beats)]
    await pool.executemany(
        insert,
        [
            (one, "beat", page, f"b{n}", {**spec, "slug": f"b{n}", "url": url})
            for n, (one, url) in enumerate(zip(ids, urls, strict=True))
        ],
    )
    await pool.executemany(
        "INSERT INTO states (subject_id, partition) VALUES ($1, $2)",
        [(one, partition_of(one)) for one in ids],
    )


async def probe(database_url: str, nats_url: str, beats: int) -> None:
    """One fresh process: load, schedule, say how much memory that takes. It has no slot to run anything in."""
    pool, bus, clock = await open_pool(database_url), Bus(), SystemClock()
    await bus.connect(nats_url, name="bench")
    spool = Spool(bus, pool, str(uuid4()), clock=clock)
    environment = dict(os.environ)
    prober = Prober(
        pool,
        bus,
        spool,
        Context(EgressPolicy()),
        clock,
        holder="bench",
        secrets=Secrets(environment),
        slots=0,
    )
    running = asyncio.create_task(prober.run())
    async with asyncio.timeout(60):
        while not prober.catalog.loaded.is_set() or len(prober.scheduler.entries) < beats:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    gc.collect()
    print(resident_mb())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bus.close()
    await pool.close()


async def main(beats: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="upbeat-bench-"))
    servers = await start(folder, durable=False)
    try:
        pool = await open_pool(servers.database_url)
        await migrate(pool)
        seen = []
        for count in (0, beats):
            if count:
                await declare(pool, count)
            command = [sys.executable, __file__, "--beats", str(count), "--probe", servers.database_url]
            done = await asyncio.to_thread(
                subprocess.run, [*command, servers.nats_url], check=True, capture_output=True, text=True
            )
            seen.append(float(done.stdout))
        await pool.close()
    finally:
        await servers.stop()
        shutil.rmtree(folder)
    empty_mb, full_mb = seen
    said = {
        "name": "idle-memory",
        "figure": {"mb": round(full_mb - empty_mb, 1)},
        "baseline": {"mb": round(empty_mb, 1)},
        "ratio": round(full_mb / empty_mb, 2),
        "target": {"mb": TARGET_MB * beats / 10_000},
        "ran": {"beats": beats, "bytes_per_beat": round((full_mb - empty_mb) * 1e6 / beats)},
    }
    print(json.dumps(said))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beats", type=int, default=10_000)
    parser.add_argument("--probe", nargs=2, metavar=("DATABASE_URL", "NATS_URL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.probe:
        uvloop.run(probe(given.probe[0], given.probe[1], given.beats))
    else:
        uvloop.run(main(given.beats))
