"""CPU of one complete HTTP or HTTPS run (deadline, assertions, verdict) beside `ab` on the same server. No scheduler, no bus.

    python benchmarks/http_probe.py [http|https] [--loop uvloop|asyncio] [--runs N]

The server is a separate process (uvloop, one precomputed answer) and its CPU is not counted. The baseline is `ab`,
fresh connections, which verifies no certificate and asserts nothing; without `ab` it is the aiohttp client.
Closed loop at concurrency 200 over 16 loopback addresses. CPU is user and system time of the client alone.
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import resource
import shutil
import ssl
import statistics
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import aiohttp
import trustme
import uvloop

from engine.probes.context import Context
from engine.probes.run import run
from evaluators.model import Verdict
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import Check, compile_check

CONCURRENCY = 200
HOSTS = [f"127.0.0.{n}" for n in range(1, 17)]
TARGET = {"http": 1 / 0.27, "https": 1 / 0.6}  # of ab's CPU, for the whole engine
BODY = json.dumps({"status": "ok", "items": [{"id": n, "name": f"item {n}"} for n in range(32)]}).encode()
ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver: bench\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(BODY), BODY)
)
ASSERTIONS = [
    {"of": "status", "eq": 200},
    {"of": "json", "path": "$.status", "eq": "ok"},
    {"of": "timing.total", "lt": "5s"},
]


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER)
        self.transport.close()


def serve(ready: Connection, certificate: str | None) -> None:
    """Answer until killed."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Answering, "0.0.0.0", 0, ssl=context, backlog=4096)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def saturate(count: int, one: Callable[[int], Awaitable[None]]) -> None:
    """`one(n)` for every n below `count`, 200 at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


async def measure(checks: list[Check], trusted: str, count: int) -> float:
    """CPU microseconds of a run."""
    context = Context(EgressPolicy(), authorities=trusted)
    bad: list[Any] = []

    async def one(number: int) -> None:
        outcome = await run(checks[number % len(checks)], context)
        if outcome.verdict is not Verdict.OK:
            bad.append(outcome)

    await saturate(CONCURRENCY * 2, one)
    before = cpu_s()
    await saturate(count, one)
    spent_s = cpu_s() - before
    context.close()
    assert not bad, (len(bad), bad[0])
    return spent_s / count * 1e6


async def measure_aiohttp(urls: list[str], trusted: ssl.SSLContext, count: int) -> float:
    """CPU microseconds of a bare request."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True, ssl=trusted)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(number: int) -> None:
            async with session.get(urls[number % len(urls)]) as answer:
                await answer.json()

        before = cpu_s()
        await saturate(count, one)
        return (cpu_s() - before) / count * 1e6


def measure_ab(urls: list[str], count: int) -> float:
    """CPU microseconds of a request of `ab`."""
    before = cpu_s(resource.RUSAGE_CHILDREN)
    for url in urls[:4]:
        said = subprocess.run(
            ["ab", "-q", "-n", str(count // 4), "-c", str(CONCURRENCY), url],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        failed = re.search(r"Failed requests:\s+(\d+)", said)
        assert failed is not None
        assert failed.group(1) == "0", said
    return (cpu_s(resource.RUSAGE_CHILDREN) - before) / count * 1e6


def compare(scheme: str, loop: str, urls: list[str], trusted: str, count: int) -> dict[str, Any]:
    """The figure and its baseline, one after the other, three times; the medians."""
    beats = [{"type": "http", "slug": "bench", "url": url, "assertions": ASSERTIONS} for url in urls]
    checks = [compile_check(BEAT.validate_python(beat), {}) for beat in beats]
    runner: Callable[[Coroutine[Any, Any, float]], float] = uvloop.run if loop == "uvloop" else asyncio.run
    has_ab = shutil.which("ab") is not None
    figures, baselines = [], []
    for _ in range(3):
        figures.append(runner(measure(checks, trusted, count)))
        baselines.append(
            measure_ab(urls, count)
            if has_ab
            else runner(measure_aiohttp(urls, ssl.create_default_context(cadata=trusted), count))
        )
    figure, baseline = statistics.median(figures), statistics.median(baselines)
    return {
        "name": f"{scheme} probe, saturated",
        "figure": round(figure, 1),
        "unit": "CPU us per run",
        "baseline": round(baseline, 1),
        "ratio": round(figure / baseline, 2),
        "target": round(TARGET[scheme], 2),
        "spread": [round(min(figures), 1), round(max(figures), 1)],
        "ran": f"run() with 3 assertions on {loop}, {count} runs x 3, concurrency {CONCURRENCY}; baseline "
        + ("ab, fresh connections" if has_ab else "aiohttp client, fresh connections"),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scheme", nargs="?", default="http", choices=["http", "https"])
    parser.add_argument("--loop", default="uvloop", choices=["uvloop", "asyncio"])
    parser.add_argument("--runs", type=int, default=0)
    options = parser.parse_args()
    scheme, count = options.scheme, options.runs or (8000 if options.scheme == "http" else 1600)
    authority = trustme.CA()
    trusted = authority.cert_pem.bytes().decode()
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "server.pem"
        leaf = authority.issue_cert(*HOSTS)
        pem.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        mine, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(
            target=serve, args=(theirs, str(pem) if scheme == "https" else None), daemon=True
        )
        server.start()
        port = mine.recv()
        urls = [f"{scheme}://{host}:{port}/" for host in HOSTS]
        print(json.dumps(compare(scheme, options.loop, urls, trusted, count)))
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
