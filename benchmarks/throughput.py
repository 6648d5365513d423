"""1,000 HTTP runs a second through the whole engine, beside the same runs without bus and database.

    python -m benchmarks.throughput [--workers 1,2] [--rate 1000] [--seconds 20]

Probe -> NATS -> evaluator -> PostgreSQL, embedded servers with fsync on a real disk. Lateness is read from the stored
rows: the end of a run, less its duration, less when it was due. CPU is of all Upbeat processes; that of the servers
is shown beside it. The target is another process.
"""

import argparse
import asyncio
import multiprocessing
import time
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from benchmarks.bench import by_program, cpu_s, line, quantile
from benchmarks.http_probe import HOSTS, serve
from engine.clock import SystemClock
from engine.probes.context import Context
from engine.probes.run import run
from engine.scheduler import Scheduler
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import compile_check
from tests.rig.process import Upbeat, fresh_folder

WARM_S = 12.0
ASSERTIONS = "[{of: status, eq: 200}, {of: json, path: '$.status', eq: ok}, {of: timing.total, lt: 5s}]"


def document(port: int, rate: int) -> str:
    beats = "\n".join(
        f'  - {{slug: b{n}, type: http, url: "http://{HOSTS[n % len(HOSTS)]}:{port}/{n}", assertions: {ASSERTIONS}}}'
        for n in range(rate)
    )
    return (
        "version: 1\npage: {slug: shop, name: Shop}\nregions: [eu]\ndefaults: {interval: 1s, timeout: 900ms, retries: 0}\n"
        f"beats:\n{beats}\n"
    )


async def engine(folder: Path, port: int, rate: int, seconds: float, workers: int) -> dict[str, Any]:
    """The whole engine for `seconds`."""
    config = folder / "upbeat.yaml"
    config.write_text(document(port, rate), "utf-8")
    async with Upbeat(folder / f"data-{workers}", config, arguments=("--workers", str(workers))) as upbeat:
        await upbeat.start(60)
        assert upbeat.process is not None
        await asyncio.sleep(WARM_S)
        programs = by_program(upbeat.process.pid)
        before = {name: cpu_s(pids) for name, pids in programs.items()}
        began = time.time()
        await asyncio.sleep(seconds)
        spent = {name: cpu_s(pids) - before[name] for name, pids in programs.items()}
        ended = time.time()
        await asyncio.sleep(3)  # what was due in the last moment is committed
        database = await asyncpg.connect(host=str(upbeat.data / "run"), user="upbeat", database="upbeat")
        row = await database.fetchrow(
            "WITH r AS (SELECT *, extract(epoch FROM at - scheduled_at)::float8 - total AS late_s FROM results "
            "WHERE scheduled_at >= to_timestamp($1) AND scheduled_at < to_timestamp($2)) "
            "SELECT count(*) AS runs, count(*) FILTER (WHERE verdict = 'ok') AS ok, "
            "percentile_cont(0.5) WITHIN GROUP (ORDER BY late_s) AS p50, "
            "percentile_cont(0.99) WITHIN GROUP (ORDER BY late_s) AS p99, max(late_s) AS worst, "
            "percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM seen_at - at)) AS committed FROM r",
            began,
            ended,
        )
        await database.close()
    assert row is not None
    runs = row["runs"]
    return {
        "workers": workers,
        "runs": runs,
        "due": round(rate * (ended - began)),
        "not_ok": runs - row["ok"],
        "late_p50_ms": round(row["p50"] * 1e3, 2),
        "late_p99_ms": round(row["p99"] * 1e3, 2),
        "late_max_ms": round(row["worst"] * 1e3, 1),
        "commit_delay_p99_ms": round(row["committed"] * 1e3, 1),
        "cpu_us_per_run": {name: round(seconds_ / runs * 1e6, 1) for name, seconds_ in spent.items()},
    }


async def bare(port: int, rate: int, seconds: float) -> tuple[float, float]:
    """(CPU us per run, p99 lateness in s) of the same runs on the same scheduler, results thrown away."""
    beats = [
        {"type": "http", "slug": "b", "url": f"http://{HOSTS[n % len(HOSTS)]}:{port}/{n}", "assertions": [
            {"of": "status", "eq": 200}, {"of": "json", "path": "$.status", "eq": "ok"}, {"of": "timing.total", "lt": "5s"}
        ]}
        for n in range(rate)
    ]  # fmt: skip
    checks = [compile_check(BEAT.validate_python(beat), {}) for beat in beats]
    context, done, late = Context(EgressPolicy()), 0, list[float]()

    async def one(key: int, due: float) -> None:
        nonlocal done
        late.append(time.time() - due)
        await run(checks[key], context)
        done += 1

    scheduler: Scheduler[int] = Scheduler(SystemClock(), one)
    scheduler.entries.put([(n, 1.0, n / rate) for n in range(rate)])
    work = asyncio.create_task(scheduler.run())
    await asyncio.sleep(5)
    done, before = 0, time.process_time()
    late.clear()
    await asyncio.sleep(seconds)
    spent_s = time.process_time() - before
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    context.close()
    return spent_s / done * 1e6, quantile(late, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    mine, theirs = multiprocessing.Pipe()
    target = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, None), daemon=True)
    target.start()
    port = mine.recv()
    try:
        baseline_us, late_s = uvloop.run(bare(port, given.rate, min(given.seconds, 10.0)))
        for workers in map(int, given.workers.split(",")):
            with fresh_folder(Path("/var/tmp")) as folder:
                seen = asyncio.run(engine(folder, port, given.rate, given.seconds, workers))
            is_whole = seen["runs"] >= 0.995 * seen["due"] and not seen["not_ok"]
            line(
                f"throughput_{workers}",
                seen["cpu_us_per_run"]["upbeat"],
                unit="CPU us per run, Upbeat's processes",
                baseline=baseline_us,
                target="every run committed, p99 lateness <= 20 ms",
                is_met=is_whole and seen["late_p99_ms"] <= 20,
                ran=f"{given.rate} http runs/s for {given.seconds:.0f} s, {workers} worker(s), embedded servers with fsync; "
                "baseline the same runs on the same scheduler without bus and database",
                baseline_late_p99_ms=round(late_s * 1e3, 2),
                **seen,
            )
    finally:
        target.terminate()
        target.join()


if __name__ == "__main__":
    main()
