"""Pings acknowledged after their commit by a whole `upbeat serve`, the sender beside it, and a plain FastAPI route's.

    python -m benchmarks.heartbeats [--seconds 20] [--keep-alive]

200 heartbeats are pinged over fresh connections, as curl does, from 256 senders in one process on the same cores; on
disk, with fsync. Every acknowledged ping is counted in the database afterwards. CPU is of Upbeat's processes, the
evaluator's work on what was acknowledged included; PostgreSQL's is shown beside it. Baseline: the same requests to a
FastAPI route that looks the key up and inserts one row a request, on the same PostgreSQL.
"""

import argparse
import asyncio
import contextlib
import itertools
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import asyncpg
import msgspec
import uvicorn
import uvloop
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from benchmarks.bench import by_program, cpu_s, line, quantile
from tests.rig.process import Upbeat, free_port, fresh_folder, until

BEATS = 200
SENDERS = 256
CONFIG = "version: 1\npage: {slug: shop, name: Shop}\nbeats:\n" + "".join(
    f"  - {{slug: job-{n}, type: heartbeat, every: 1h}}\n" for n in range(BEATS)
)


class Sender(asyncio.Protocol):
    """One request after the other over one connection, or over one each."""

    def __init__(self, pings: Iterator[bytes], seen: list[float], until_s: float, keep: bool) -> None:
        self._pings, self._seen, self._until_s, self._keep = pings, seen, until_s, keep
        self._began_s, self._got = 0.0, b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._send()

    def _send(self) -> None:
        self._began_s = self._began_s or time.perf_counter()
        self._transport.write(next(self._pings))

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._got.endswith(b"\r\n\r\nok\n"):
            return
        assert self._got.startswith(b"HTTP/1.1 200"), self._got
        now_s = time.perf_counter()
        self._seen.append(now_s - self._began_s)
        self._got, self._began_s = b"", 0.0
        if self._keep and now_s < self._until_s:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def send(port: int, paths: list[str], seconds: float, keep: bool) -> list[float]:
    """How long each of the acknowledged took."""
    loop, seen = asyncio.get_running_loop(), list[float]()
    pings = itertools.cycle(
        f"GET {path}?rid=r{n % 7} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/8.14.1\r\n"
        f"{'' if keep else 'Connection: close'}{'' if keep else chr(13) + chr(10)}\r\n".encode()
        for n, path in enumerate(paths)
    )
    until_s = time.perf_counter() + seconds

    async def sender() -> None:
        while time.perf_counter() < until_s:
            _, protocol = await loop.create_connection(
                lambda: Sender(pings, seen, until_s, keep), "127.0.0.1", port
            )
            await protocol.done

    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return seen


async def sent(port: int, paths: list[str], seconds: float, keep: bool) -> list[float]:
    """`send` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.heartbeats", "--send"]
    with tempfile.TemporaryFile() as told:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=told)
        await process.communicate(msgspec.json.encode((port, paths, seconds, keep)))
        if process.returncode:
            raise RuntimeError(f"the sender ended with {process.returncode}")
        told.seek(0)
        return msgspec.json.decode(told.read(), type=list[float])


def plain(dsn: str) -> FastAPI:
    """The route anybody would write first."""
    state = dict[str, Any]()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=10, max_size=10) as state["pool"]:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/ping/{key}")
    async def ping(key: str, rid: str = "") -> PlainTextResponse:
        async with state["pool"].acquire() as db:
            beat = await db.fetchval("SELECT beat_id FROM ping_keys WHERE key = $1", key)
            await db.execute("INSERT INTO plain (beat_id, at, run) VALUES ($1, now(), $2)", beat, rid)
        return PlainTextResponse("ok\n")

    return app


async def baseline(
    database: "asyncpg.Connection[Any]", dsn: str, paths: list[str], seconds: float
) -> tuple[int, float]:
    """(pings, CPU seconds of its process)."""
    await database.execute(
        "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, beat_id uuid, at timestamptz, run text)"
    )
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.heartbeats", "--plain", str(port), "--dsn", dsn
    )
    try:
        await until(lambda: _connects(port), "the plain route serves")
        before_s = cpu_s([process.pid])
        await sent(port, paths, seconds, False)
        count: int = await database.fetchval("SELECT count(*) FROM plain")
        return count, cpu_s([process.pid]) - before_s
    finally:
        process.terminate()
        await process.wait()


async def _connects(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def measure(folder: Path, seconds: float, keep: bool) -> None:
    config = folder / "upbeat.yaml"
    config.write_text(CONFIG, "utf-8")
    async with Upbeat(folder / "data", config) as upbeat:
        await upbeat.start()
        dsn = f"postgresql://upbeat@/upbeat?host={upbeat.data / 'run'}&port=5432"
        database = await asyncpg.connect(dsn)
        keys = await database.fetch("SELECT key FROM ping_keys")
        paths = [f"/ping/{row['key']}" for row in keys]
        assert upbeat.process is not None
        await sent(upbeat.port, paths, 2.0, keep)
        pids = by_program(upbeat.process.pid)
        before = {name: cpu_s(pids[name]) for name in pids}
        count_before = await _stored(database)
        began_s = time.perf_counter()
        took = await sent(upbeat.port, paths, seconds, keep)
        wall_s = time.perf_counter() - began_s
        waiting = await database.fetchval("SELECT count(*) FROM pushed")
        await until(lambda: _folded(database), "everything is folded", 120)
        drained_s = time.perf_counter() - began_s - wall_s
        stored = await _stored(database) - count_before
        spent = {name: cpu_s(by_program(upbeat.process.pid)[name]) - before[name] for name in pids}
        pids_postgres = pids["postgres"]
        server_s = cpu_s(pids_postgres)
        theirs, theirs_s = await baseline(database, dsn, paths, seconds / 2)
        server_s = cpu_s(pids_postgres) - server_s
        await database.close()
    us = spent["upbeat"] / len(took) * 1e6
    line(
        "heartbeats_keep_alive" if keep else "heartbeats",
        len(took) / seconds,
        unit="pings/s acknowledged after commit",
        baseline=theirs / (seconds / 2),
        target=">= 2,000 pings/s",
        is_met=len(took) / seconds >= 2000 and stored >= len(took),
        higher_is_better=True,
        ran=f"{BEATS} heartbeats, {SENDERS} senders for {seconds:.0f} s, fsync; baseline FastAPI and one INSERT each",
        stored=stored,
        acknowledged=len(took),
        p50_ms=round(quantile(took, 0.5) * 1e3, 1),
        p99_ms=round(quantile(took, 0.99) * 1e3, 1),
        cpu_us_per_ping=round(us, 1),
        postgres_us_per_ping=round(spent["postgres"] / len(took) * 1e6, 1),
        baseline_cpu_us_per_ping=round(theirs_s / theirs * 1e6, 1),
        baseline_postgres_us_per_ping=round(server_s / theirs * 1e6, 1),
        waiting_at_the_end=waiting,
        drained_s=round(drained_s, 1),
    )


async def _stored(database: "asyncpg.Connection[Any]") -> int:
    return int(await database.fetchval("SELECT (SELECT count(*) FROM pings) + (SELECT count(*) FROM pushed)"))


async def _folded(database: "asyncpg.Connection[Any]") -> bool:
    return not await database.fetchval("SELECT count(*) FROM pushed")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--keep-alive", action="store_true")
    parser.add_argument("--send", action="store_true")
    parser.add_argument("--plain", type=int)
    parser.add_argument("--dsn")
    given = parser.parse_args()
    if given.send:
        port, paths, seconds, keep = msgspec.json.decode(
            sys.stdin.buffer.read(), type=tuple[int, list[str], float, bool]
        )
        sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(send(port, paths, seconds, keep))))
    elif given.plain:
        uvicorn.run(plain(given.dsn), port=given.plain, log_level="error", access_log=False)
    else:
        with fresh_folder(Path("/var/tmp")) as folder:
            uvloop.run(measure(folder, given.seconds, given.keep_alive))


if __name__ == "__main__":
    main()
