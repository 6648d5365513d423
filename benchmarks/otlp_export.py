"""CPU that OTLP export costs at 5,000 results a second over 10,000 series, exported every 60 s, beside the same with export off.

One minute's work is done without waiting: 300,000 results in batches of 100, every one with a trace id, and one flush over
HTTP, gzipped, to a receiver in another process. Each temporality is measured. Run: python -m benchmarks otlp_export
"""

import asyncio
import json
import multiprocessing
import random
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import get_args

import aiohttp
import msgspec
from aiohttp import web

from engine.egress import open_session
from evaluators.model import Kind, Result, Timings, Verdict
from exporters.measurement import Named, Totals
from exporters.otlp import Destination, HttpSender, OtlpSettings, Tally, resource
from exporters.otlp_encoding import Temporality
from exporters.outcome import Delivered
from rules.address import EgressPolicy

RATE, SERIES, INTERVAL_S, BATCH = 5_000, 10_000, 60, 100
TARGET = 0.02
ROUNDS = 3


def receive(say: Connection) -> None:
    """Take whatever is posted and say how many bytes came, compressed, on the next GET."""
    seen = {"requests": 0, "bytes": 0}

    async def post(request: web.Request) -> web.Response:
        seen["requests"] += 1
        seen["bytes"] += int(request.headers["Content-Length"])
        await request.read()
        return web.Response()

    async def tell(request: web.Request) -> web.Response:
        return web.json_response(seen)

    async def serve() -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/metrics", post)
        app.router.add_get("/", tell)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        say.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())


def batches() -> list[bytes]:
    """An interval's results as they come off the bus."""
    chance = random.Random(7)
    encoder = msgspec.msgpack.Encoder()

    def result(n: int) -> Result:
        bad = n % 100 == 0
        verdict = Verdict.CRITICAL if bad else Verdict.OK
        timings = Timings(*(chance.expovariate(15) for _ in range(6)))
        return Result(
            f"run-{n}",
            f"beat-{n % SERIES}",
            "eu-west",
            Kind.SCHEDULED,
            verdict,
            0.0,
            0.0,
            n,
            1,
            timings,
            trace_id=chance.randbytes(16).hex(),
        )

    everything = [result(n) for n in range(RATE * INTERVAL_S)]
    return [encoder.encode(everything[n : n + BATCH]) for n in range(0, len(everything), BATCH)]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of an interval's work: CPU seconds, those of the flush alone, longest hold of the loop in seconds."""

    cpu_s: float
    flush_s: float = 0.0
    hold_s: float = 0.0


async def interval(encoded: list[bytes], totals: Totals | None, to: Destination | None) -> Cost:
    decode = msgspec.msgpack.Decoder(tuple[Result, ...]).decode
    began = time.process_time()
    for batch in encoded:
        results = decode(batch)
        if totals is not None:
            totals.observe(results)
    observed = time.process_time()
    if to is None:
        return Cost(observed - began)
    watching = asyncio.create_task(longest_hold_s())
    await asyncio.sleep(0)
    assert isinstance(await to.flush(), Delivered)
    watching.cancel()
    ended = time.process_time()
    return Cost(ended - began, ended - observed, HOLDS[-1])


HOLDS: list[float] = []


async def longest_hold_s() -> None:
    """Keep in `HOLDS` the longest time the loop did not come round."""
    HOLDS.append(0.0)
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        HOLDS[-1] = max(HOLDS[-1], time.perf_counter() - began - 0.001)


async def measure(port: int, temporality: Temporality) -> dict[str, object]:
    encoded = batches()
    url = f"http://127.0.0.1:{port}"
    settings = OtlpSettings(url, interval_s=INTERVAL_S, temporality=temporality)
    names = {f"beat-{n}": Named(f"beat-{n}", "shop", "http", destination=settings) for n in range(SERIES)}
    totals, tally = Totals(names.get), Tally()
    totals.keeps_exemplars = True
    policy = EgressPolicy()
    sender = HttpSender(lambda: open_session(policy, "relay", timeout_s=10.0), settings, tally)
    to = Destination(settings, sender, totals, resource("benchmark", "0"), tally)
    await interval(encoded, totals, to)  # every series exists, as in a server that has been up for a while
    before = await seen(url)
    on, off = [], []
    for _ in range(ROUNDS):
        on.append(await interval(encoded, totals, to))
        off.append((await interval(encoded, None, None)).cpu_s)
    sent = {name: count - before[name] for name, count in (await seen(url)).items()}
    await to.close()
    middle = sorted(on, key=lambda cost: cost.cpu_s)[ROUNDS // 2]
    baseline_s = sorted(off)[ROUNDS // 2]
    share = (middle.cpu_s - baseline_s) / INTERVAL_S
    return {
        "name": "otlp_export" if temporality == "cumulative" else f"otlp_export, {temporality}",
        "figure": round(share, 5),
        "baseline": round(baseline_s / INTERVAL_S, 5),
        "ratio": round(middle.cpu_s / baseline_s, 3),
        "target": TARGET,
        "met": share <= TARGET,
        "ran": f"{RATE} results/s, {SERIES} series with 6 phases and exemplars, decode only as baseline, export every "
        f"{INTERVAL_S} s over HTTP with gzip; median of {ROUNDS}; figure is the share of a core export adds",
        "observe_us_per_result": round(
            (middle.cpu_s - baseline_s - middle.flush_s) / (RATE * INTERVAL_S) * 1e6, 2
        ),
        "figure_at_15_s": round(
            (middle.cpu_s - baseline_s - middle.flush_s) / INTERVAL_S + middle.flush_s / 15, 5
        ),
        "flush_cpu_s": round(middle.flush_s, 3),
        "longest_loop_hold_ms": round(middle.hold_s * 1000, 1),
        "requests_per_flush": sent["requests"] // ROUNDS,
        "bytes_per_flush": sent["bytes"] // ROUNDS,
    }


async def seen(url: str) -> dict[str, int]:
    """What the receiver has had."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        counts: dict[str, int] = await answer.json()
        return counts


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=receive, args=(theirs,), daemon=True)
    receiver.start()
    try:
        port = ours.recv()
        for temporality in get_args(Temporality):
            print(json.dumps(asyncio.run(measure(port, temporality))))
    finally:
        receiver.terminate()
        receiver.join()


if __name__ == "__main__":
    main()
