"""Start lateness of 10,000 beats every 10 s, on one uvloop loop, beside an asyncio timer that does nothing at the same rate.

    python benchmarks/scheduler.py [empty|http] [--beats N] [--interval S] [--seconds S]

`empty`: the scheduler alone, its runs do nothing. `http`: the whole probe role: declared beats in PostgreSQL, leases,
catalog, HTTP runs with two assertions against a server in another process, batches on NATS, watermarks committed by a
reader on the same loop. Measured after a warm-up of 1.5 intervals, in which every beat has its first run and falls
into its place.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import uvloop

from engine.bus import EVALUATOR, Bus, decode
from engine.clock import SystemClock
from engine.embedded.supervisor import start
from engine.prober import Prober
from engine.probes.context import Context
from engine.schedule import fraction_of
from engine.scheduler import Lateness, Scheduler
from engine.secrets import Secrets
from engine.spool import Spool
from engine.store.database import Pool, migrate, open_pool
from engine.store.ids import PARTITIONS, new_id, partition_of
from engine.store.watermarks import advance
from rules.address import EgressPolicy

BODY = b'{"status": "ok"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
)


@dataclass
class Measured:
    """Starts since the warm-up."""

    lateness: Lateness = field(default_factory=Lateness)
    per_100_ms: Counter[int] = field(default_factory=Counter)
    off_grid_s: float = 0.0
    cpu_s: float = 0.0
    finished: int | None = None
    oldest_uncommitted_s: float | None = None


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Watched(Scheduler[UUID]):
    """A scheduler whose runs do nothing but note when they began."""

    def __init__(self, beats: list[UUID], interval_s: float) -> None:
        super().__init__(SystemClock(), self._note)
        self.seen: Measured | None = None
        self._interval_s, self._places = interval_s, {beat: fraction_of(beat) for beat in beats}
        self.entries.put((beat, interval_s, place) for beat, place in self._places.items())

    async def _note(self, beat: UUID, scheduled_at: float) -> None:
        if (seen := self.seen) is not None:
            seen.per_100_ms[int(time.monotonic() * 10)] += 1
            off = (scheduled_at / self._interval_s - self._places[beat] + 0.5) % 1.0 - 0.5
            seen.off_grid_s = max(seen.off_grid_s, abs(off) * self._interval_s)


async def timer(rate: float, seconds: float) -> Lateness:
    """The baseline: one asyncio timer after the other, each at its own time on the grid."""
    loop, clock, lateness, done = asyncio.get_running_loop(), SystemClock(), Lateness(), asyncio.Event()
    began_s = clock.monotonic_s()

    def tick(n: int) -> None:
        lateness.record(clock.monotonic_s() - (began_s + n / rate))
        if n >= rate * seconds:
            done.set()
        else:
            loop.call_later(max(began_s + (n + 1) / rate - clock.monotonic_s(), 0.0), tick, n + 1)

    tick(0)
    await done.wait()
    return lateness


async def empty(beats: int, interval_s: float, seconds: float) -> Measured:
    scheduler = Watched([new_id() for _ in range(beats)], interval_s)
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(1.5 * interval_s)
    scheduler.seen, began_s = Measured(), cpu_s()
    scheduler.lateness = scheduler.seen.lateness
    await asyncio.sleep(seconds)
    scheduler.seen.cpu_s = cpu_s() - began_s
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return scheduler.seen


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER % (len(BODY), BODY))
        self.transport.close()


def serve(ready: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Answering, "0.0.0.0", 0, backlog=4096)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


@contextlib.asynccontextmanager
async def target() -> AsyncIterator[int]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield await asyncio.to_thread(ours.recv)
    finally:
        process.kill()
        process.join()


async def declare(pool: Pool, beats: int, interval_s: float, port: int) -> None:
    page = new_id()
    ids = [new_id() for _ in range(beats)]
    spec = {
        "type": "http",
        "interval": interval_s,
        "timeout": min(5.0, interval_s),
        "assertions": [{"of": "status", "eq": 200}, {"of": "json", "path": "$.status", "eq": "ok"}],
    }
    insert = "INSERT INTO objects (id, kind, page_id, slug, spec) VALUES ($1, $2, $3, $4, $5)"
    rows = [
        (
            one,
            "beat",
            page,
            f"b{n}",
            {**spec, "slug": f"b{n}", "url": f"http://127.0.0.{1 + n % 16}:{port}/{n}"},
        )
        for n, one in enumerate(ids)
    ]
    await pool.execute(insert, page, "page", None, "bench", {"slug": "bench"})
    await pool.execute(insert, new_id(), "region", None, "here", {"slug": "here"})
    await pool.executemany(insert, rows)
    await pool.executemany(
        "INSERT INTO states (subject_id, partition) VALUES ($1, $2)",
        [(one, partition_of(one)) for one in ids],
    )


async def commit(pool: Pool, bus: Bus, partition: int) -> None:
    """In the evaluator's place: decode, and commit the watermark."""
    while True:
        deliveries = await bus.fetch(EVALUATOR, partition, 64, 1.0)
        if not deliveries:
            continue
        batches = [decode(delivery.data) for delivery in deliveries]
        async with pool.acquire() as connection, connection.transaction():
            seqs = [batch.seq for batch in batches]
            await advance(connection, batches[0].boot_id, partition, seqs, time.time())
        for delivery in deliveries:
            await delivery.ack()


async def http(beats: int, interval_s: float, seconds: float) -> Measured:
    folder = Path(tempfile.mkdtemp(prefix="upbeat-bench-"))
    servers = await start(folder, durable=False)
    try:
        async with target() as port:
            pool, bus, clock = await open_pool(servers.database_url, size=20), Bus(), SystemClock()
            await migrate(pool)
            await declare(pool, beats, interval_s, port)
            await bus.connect(servers.nats_url, name="bench")
            spool = Spool(bus, pool, str(uuid4()), clock=clock)
            prober = Prober(
                pool, bus, spool, Context(EgressPolicy()), clock, holder="bench", secrets=Secrets({})
            )
            work = [asyncio.create_task(commit(pool, bus, partition)) for partition in range(PARTITIONS)]
            work.append(asyncio.create_task(prober.run()))
            while len(prober.scheduler.entries) < beats:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5 * interval_s)
            seen, began_s, results = Measured(), cpu_s(), prober._seq
            prober.scheduler.lateness = seen.lateness
            await asyncio.sleep(seconds)
            seen.cpu_s = cpu_s() - began_s
            seen.finished, seen.oldest_uncommitted_s = prober._seq - results, spool.oldest_uncommitted_s
            for task in reversed(work):  # the prober first: it waits until its last results are committed
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await bus.close()
            await pool.close()
            return seen
    finally:
        await servers.stop()
        shutil.rmtree(folder)


async def main(mode: str, beats: int, interval_s: float, seconds: float) -> None:
    base = await timer(beats / interval_s, min(seconds, 10.0))
    seen = await (http if mode == "http" else empty)(beats, interval_s, seconds)
    counts = [count for _, count in sorted(seen.per_100_ms.items())[1:-1]]
    p99_ms, base_ms = seen.lateness.quantile_s(0.99) * 1000, base.quantile_s(0.99) * 1000
    said = {
        "name": f"scheduler-{mode}",
        "figure": {"p99_ms": round(p99_ms, 2), "max_ms": round(seen.lateness.max_s * 1000, 2)},
        "baseline": {"p99_ms": round(base_ms, 2), "max_ms": round(base.max_s * 1000, 2)},
        "ratio": round(p99_ms / base_ms, 2),
        "target": {"p99_ms": 20 if mode == "http" else 10, "max_ms": 100},
        "ran": {
            "beats": beats,
            "interval_s": interval_s,
            "starts": seen.lateness.count,
            "finished": seen.finished,
            "oldest_uncommitted_s": seen.oldest_uncommitted_s,
            "cpu_us_per_start": round(seen.cpu_s / max(seen.lateness.count, 1) * 1e6, 1),
            "off_grid_ms": round(seen.off_grid_s * 1000, 3) if counts else None,
            "starts_per_100_ms": [min(counts), max(counts)] if counts else None,
        },
    }
    print(json.dumps(said))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", nargs="?", default="empty", choices=["empty", "http"])
    parser.add_argument("--beats", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    uvloop.run(main(given.mode, given.beats, given.interval, given.seconds))
