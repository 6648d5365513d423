"""The whole engine beside its peers: probe -> NATS -> evaluator -> PostgreSQL, embedded servers with fsync on a real disk.

    python -m benchmarks.throughput paced|punctual|saturated|workers [--scheme http|https] [--seconds 15]

`paced`: 500 runs a second, beside blackbox_exporter probing the same target at the same rate. `saturated`: more due than
one process can do, beside `ab` and Go's client. `workers`: the same by two processes beside one. `punctual`: 1,000 runs a second.

Lateness is read from the stored rows: the end of a run, less its duration, less when it was due. CPU is of all
Upbeat processes; that of PostgreSQL and NATS is shown beside it. The target is another process.
"""

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import trustme

from benchmarks.bench import by_program, cpu_s, line
from benchmarks.http_probe import HOSTS, measure_ab, serve
from benchmarks.peers import blackbox_us, go_us, has_blackbox, has_go
from tests.rig.process import Upbeat, fresh_folder

WARM_S = 12.0
SATURATING = {"http": 6000, "https": 1800}  # runs/s due, more than a core can do
ASSERTIONS = "[{of: status, eq: 200}, {of: json, path: '$.status', eq: ok}, {of: timing.total, lt: 5s}]"


def document(base: str, port: int, rate: int, interval_s: int) -> str:
    beats = "\n".join(
        f'  - {{slug: b{n}, type: http, url: "{base}://{HOSTS[n % len(HOSTS)]}:{port}/{n}", assertions: {ASSERTIONS}}}'
        for n in range(rate * interval_s)
    )
    return (
        "version: 1\npage: {slug: shop, name: Shop}\nregions: [eu]\n"
        f"defaults: {{interval: {interval_s}s, timeout: {interval_s * 950}ms, retries: 0}}\nbeats:\n{beats}\n"
    )


async def engine(
    folder: Path, text: str, rate: int, seconds: float, workers: int, environment: dict[str, str]
) -> dict[str, Any]:
    """The whole engine for `seconds`."""
    config = folder / "upbeat.yaml"
    config.write_text(text, "utf-8")
    arguments = ("--workers", str(workers))
    async with Upbeat(
        folder / f"data-{workers}", config, arguments=arguments, environment=environment
    ) as upbeat:
        await upbeat.start(120)
        assert upbeat.process is not None
        await asyncio.sleep(WARM_S)
        programs = by_program(upbeat.process.pid)
        before = {name: cpu_s(pids) for name, pids in programs.items()}
        began = time.time()
        await asyncio.sleep(seconds)
        spent = {name: cpu_s(pids) - before[name] for name, pids in programs.items()}
        ended = time.time()
        await asyncio.sleep(4)  # what ended in the last moment is committed
        database = await asyncpg.connect(host=str(upbeat.data / "run"), user="upbeat", database="upbeat")
        row = await database.fetchrow(
            "WITH r AS (SELECT *, extract(epoch FROM at - scheduled_at)::float8 - total AS late_s FROM results "
            "WHERE at >= to_timestamp($1) AND at < to_timestamp($2)) "
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
        "runs_per_s": round(runs / (ended - began)),
        "not_ok": runs - row["ok"],
        "late_p50_ms": round(row["p50"] * 1e3, 2),
        "late_p99_ms": round(row["p99"] * 1e3, 2),
        "late_max_ms": round(row["worst"] * 1e3, 1),
        "commit_delay_p99_ms": round(row["committed"] * 1e3, 1),
        "cpu_us_per_run": {name: round(seconds_ / runs * 1e6, 1) for name, seconds_ in spent.items()},
    }


@contextmanager
def target(scheme: str) -> Iterator[tuple[int, bytes, dict[str, str]]]:
    """A server of another process: its port, its authority, and the environment that makes Upbeat trust it."""
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        leaf, trusted = Path(folder) / "leaf.pem", Path(folder) / "authority.pem"
        leaf.write_bytes(authority.issue_cert(*HOSTS).private_key_and_cert_chain_pem.bytes())
        trusted.write_bytes(authority.cert_pem.bytes())
        mine, theirs = multiprocessing.Pipe()
        arguments = (theirs, str(leaf) if scheme == "https" else None)
        server = multiprocessing.get_context("spawn").Process(target=serve, args=arguments, daemon=True)
        server.start()
        try:
            yield mine.recv(), authority.cert_pem.bytes(), {"SSL_CERT_FILE": str(trusted)}
        finally:
            server.terminate()
            server.join()


def measure(scheme: str, port: int, environment: dict[str, str], **how: Any) -> dict[str, Any]:
    rate, interval_s = how["rate"], how.pop("interval_s")
    with fresh_folder(Path("/var/tmp")) as folder:
        text = document(scheme, port, rate, interval_s)
        return asyncio.run(engine(folder, text, environment=environment, **how))


def paced(scheme: str, seconds: float) -> None:
    with target(scheme) as (port, authority, environment):
        urls = [f"{scheme}://{host}:{port}/" for host in HOSTS]
        theirs = (
            blackbox_us(urls, rate=500, seconds=seconds, authority_pem=authority) if has_blackbox() else None
        )
        seen = measure(scheme, port, environment, rate=500, interval_s=1, seconds=seconds, workers=1)
    ours, share = seen["cpu_us_per_run"]["upbeat"], 1 / 2 if scheme == "http" else 1 / 1.2
    line(
        f"{scheme}_paced",
        ours,
        unit="CPU us per run, Upbeat's processes",
        baseline=theirs,
        target=f"<= {share:.2f} of blackbox_exporter",
        is_met=theirs is not None and ours <= share * theirs and not seen["not_ok"],
        ran=f"500 {scheme} runs/s for {seconds:.0f} s; baseline blackbox_exporter http_2xx, the same rate",
        **seen,
    )


def punctual(scheme: str, seconds: float) -> None:
    with target(scheme) as (port, _, environment):
        seen = measure(scheme, port, environment, rate=1000, interval_s=1, seconds=seconds, workers=1)
    line(
        f"{scheme}_punctual",
        seen["late_p99_ms"],
        unit="ms, p99 from due to begun",
        baseline=None,
        target="<= 20 ms, every run committed",
        is_met=seen["late_p99_ms"] <= 20 and seen["runs"] >= 0.995 * seen["due"] and not seen["not_ok"],
        ran=f"1,000 {scheme} runs/s for {seconds:.0f} s through the whole engine",
        **seen,
    )


def saturated(scheme: str, seconds: float) -> None:
    rate = SATURATING[scheme]
    with target(scheme) as (port, authority, environment):
        urls = [f"{scheme}://{host}:{port}/" for host in HOSTS]
        ab_us = measure_ab(urls, 20_000 if scheme == "http" else 4_000)
        go = go_us(urls, 20_000, authority) if scheme == "http" and has_go() else None
        seen = measure(scheme, port, environment, rate=rate, interval_s=2, seconds=seconds, workers=1)
    ours, share = seen["cpu_us_per_run"]["upbeat"], 0.27 if scheme == "http" else 0.6
    line(
        f"{scheme}_saturated",
        ours,
        unit="CPU us per run, Upbeat's processes",
        baseline=ab_us,
        target=f"<= 1/{share} of ab, and 1.4 of Go (http)",
        is_met=ours <= ab_us / share and (go is None or ours <= 1.4 * go) and not seen["not_ok"],
        ran=f"{rate} {scheme} runs/s due, one worker, {seconds:.0f} s; baseline ab, fresh connections",
        go_us=go and round(go, 1),
        go_ratio=go and round(ours / go, 2),
        **seen,
    )


def two_workers(scheme: str, seconds: float) -> None:
    with target(scheme) as (port, _, environment):
        one, two = (
            measure(
                scheme,
                port,
                environment,
                rate=SATURATING[scheme],
                interval_s=2,
                seconds=seconds,
                workers=workers,
            )
            for workers in (1, 2)
        )
    figures = [seen["cpu_us_per_run"]["upbeat"] for seen in (one, two)]
    line(
        f"{scheme}_two_workers",
        figures[1],
        unit="CPU us per run, Upbeat's processes",
        baseline=figures[0],
        target="<= 1.1 of one process",
        is_met=figures[1] <= 1.1 * figures[0],
        ran=f"{SATURATING[scheme]} {scheme} runs/s due for {seconds:.0f} s, two workers; baseline one; the target beside them",
        speed_up=round(two["runs_per_s"] / one["runs_per_s"], 2),
        one=one,
        **two,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["paced", "punctual", "saturated", "workers"])
    parser.add_argument("--scheme", default="http", choices=["http", "https"])
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args()
    measured = {"paced": paced, "punctual": punctual, "saturated": saturated, "workers": two_workers}
    measured[given.what](given.scheme, given.seconds)


if __name__ == "__main__":
    main()
