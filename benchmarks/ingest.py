"""Deliveries acknowledged after their commit by a whole `upbeat serve`, the senders beside it, and a plain FastAPI route's.

    python -m benchmarks.ingest [--seconds 60] [--senders 64]

Bodies of 3 KB with a token and the name of a delivery, over connections that stay open, from one process on the same
cores; on disk, with fsync. Then the same at half of that load, by a schedule: what takes long there is waited for by
nobody else. Every acknowledged delivery is counted in the database. Baseline: the same requests to a FastAPI route that
looks the token up and inserts one row a request, on the same PostgreSQL. CPU a request is compared where nothing but the
API runs, as with the baseline; what it is with all else of Upbeat, which judges each event meanwhile, stands beside it.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, cast

import asyncpg
import msgspec
import uvicorn
import uvloop
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

from benchmarks.bench import by_program, cpu_s, line, quantile
from engine.store import inboxes, objects
from engine.store.audit import Actor
from engine.store.database import codecs
from tests.rig.process import Upbeat, free_port, fresh_folder, until

CONFIG = "version: 1\npage: {{slug: shop, name: Shop}}\ninboxes:\n  - {{slug: alerts, rate_limit: {rate}}}\n"
PATH = "/api/v1/external-events/ingest"
BODY_BYTES = 3000


class Load(msgspec.Struct):
    """What is to be sent. No `rate`: as fast as it is answered."""

    port: int
    path: str
    token: str
    senders: int
    seconds: float
    rate: float = 0.0
    most: int = 0


class Sent(msgspec.Struct):
    """What was answered: by status, the seconds until each 202, and how many refusals did not say when to come back."""

    statuses: dict[int, int]
    took_s: list[float]
    mute: int


def body(number: int) -> bytes:
    """An Alertmanager's notification of 3 KB."""
    alerts: list[dict[str, Any]] = []
    while True:
        n = number * 10 + len(alerts)
        alerts.append(
            {
                "status": "firing" if n % 3 else "resolved",
                "labels": {
                    "alertname": "LatencyHigh",
                    "instance": f"10.{n % 250}.3.4:9100",
                    "service": f"checkout-{n % 40}",
                    "severity": "critical",
                },
                "annotations": {
                    "summary": f"p99 is {n * 7919 % 9000} ms",
                    "runbook": f"https://r.example/{n}",
                },
                "startsAt": f"2026-03-0{1 + n % 9}T10:{n % 60:02}:17.{n * 104729 % 1000:03}Z",
                "fingerprint": f"{n * 2654435761 % 2**64:016x}",
            }
        )
        text = json.dumps({"version": "4", "groupKey": f"{{}}:{{n={number}}}", "alerts": alerts, "pad": ""})
        if len(text) > BODY_BYTES - 400:
            return (text[:-2] + "x" * (BODY_BYTES - len(text)) + '"}').encode()


class Sender(asyncio.Protocol):
    """One delivery after the other over one connection, each when it is due."""

    def __init__(self, due: Iterator[tuple[float, bytes]], sent: Sent) -> None:
        self._due, self._sent, self._began_s, self._got = due, sent, 0.0, b""
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._next()

    def _next(self) -> None:
        at_s, request = next(self._due, (0.0, b""))
        if not request:
            self._transport.close()
        elif (wait_s := at_s - time.perf_counter()) > 0:
            self._loop.call_later(wait_s, self._send, at_s, request)
        else:
            self._send(at_s or time.perf_counter(), request)

    def _send(self, began_s: float, request: bytes) -> None:
        self._began_s = began_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._got.endswith(b"}"):  # each answer is one JSON object, and comes whole
            return
        status = int(self._got[9:12])
        self._sent.statuses[status] = self._sent.statuses.get(status, 0) + 1
        if status == 202:
            self._sent.took_s.append(time.perf_counter() - self._began_s)
        elif b"\r\nretry-after: " not in self._got:
            self._sent.mute += 1
        self._got = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def requests(load: Load) -> Iterator[tuple[float, bytes]]:
    """(when it is due, 0 for at once; the request), until the time or the number is over."""
    bodies = [body(n) for n in range(200)]
    head = (
        f"POST {load.path} HTTP/1.1\r\nHost: upbeat.example\r\nUser-Agent: Alertmanager/0.27.0\r\n"
        f"Content-Type: application/json\r\nX-External-Event-Token: {load.token}\r\n"
        f"Content-Length: {BODY_BYTES}\r\nwebhook-id: msg-{time.time_ns()}-"
    ).encode()
    began_s = time.perf_counter()
    for n in itertools.count():
        at_s = began_s + n / load.rate if load.rate else 0.0
        if (load.most and n >= load.most) or (at_s or time.perf_counter()) >= began_s + load.seconds:
            return
        yield at_s, b"%b%d\r\n\r\n%b" % (head, n, bodies[n % 200])


async def send(load: Load) -> Sent:
    """Send it from this process."""
    loop, sent, due = asyncio.get_running_loop(), Sent({}, [], 0), requests(load)

    async def sender() -> None:
        _, protocol = await loop.create_connection(lambda: Sender(due, sent), "127.0.0.1", load.port)
        await protocol.done

    await asyncio.gather(*(sender() for _ in range(load.senders)))
    return sent


async def sent_by_another(load: Load) -> Sent:
    """`send` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ingest", "--send"]
    with tempfile.TemporaryFile() as told:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=told)
        await process.communicate(msgspec.json.encode(load))
        if process.returncode:
            raise RuntimeError(f"the senders ended with {process.returncode}")
        told.seek(0)
        return msgspec.json.decode(told.read(), type=Sent)


def plain(dsn: str) -> FastAPI:
    """The route anybody would write first."""
    state = dict[str, Any]()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=10, max_size=10) as state["pool"]:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/plain")
    async def ingest(
        request: Request,
        x_external_event_token: Annotated[str, Header()],
        webhook_id: Annotated[str, Header()],
    ) -> JSONResponse:
        said, headers = await request.body(), json.dumps(dict(request.headers))
        async with state["pool"].acquire() as db:
            inbox = await db.fetchval("SELECT 1 FROM plain_tokens WHERE token = $1", x_external_event_token)
            event = await db.fetchval(
                "INSERT INTO plain (inbox, name, headers, body) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (inbox, name) DO NOTHING RETURNING id",
                inbox,
                webhook_id,
                headers,
                said,
            )
        return JSONResponse({"id": event}, 202)

    return app


async def baseline(
    database: "asyncpg.Connection[Any]", dsn: str, senders: int, seconds: float
) -> tuple[int, float]:
    """(deliveries, CPU seconds of its process)."""
    await database.execute(
        "CREATE TABLE plain_tokens (token text PRIMARY KEY); INSERT INTO plain_tokens VALUES ('t'); "
        "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, inbox int, name text, headers json, "
        "body bytea, at timestamptz NOT NULL DEFAULT now(), UNIQUE (inbox, name))"
    )
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.ingest", "--plain", str(port), "--dsn", dsn]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await until(lambda: _connects(port), "the plain route serves")
        before_s = cpu_s([process.pid])
        sent = await sent_by_another(Load(port, "/plain", "t", senders, seconds))
        return sent.statuses.get(202, 0), cpu_s([process.pid]) - before_s
    finally:
        process.terminate()
        await process.wait()


async def _connects(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.asynccontextmanager
async def serving(
    folder: Path, rate: int, *arguments: str
) -> AsyncIterator[tuple[Upbeat, str, "asyncpg.Connection[Any]", str]]:
    """(Upbeat with one inbox, its token, a connection to its database, how to make another)."""
    config = folder / "upbeat.yaml"
    config.write_text(CONFIG.format(rate=rate), "utf-8")
    async with Upbeat(folder / "data", config, arguments=arguments) as upbeat:
        await upbeat.start()
        dsn = f"postgresql://upbeat@/upbeat?host={upbeat.data / 'run'}&port=5432"
        database = await asyncpg.connect(dsn)
        await codecs(database)
        async with database.transaction():
            inbox = await objects.find(database, "inbox", "alerts")
            issued = await inboxes.issue_token(database, Actor("benchmark", "cli"), inbox)
        yield upbeat, issued.text, database, dsn
        await database.close()


async def stored(database: "asyncpg.Connection[Any]") -> int:
    """How many events there are."""
    return int(await database.fetchval("SELECT count(*) FROM events"))


class Found(msgspec.Struct):
    """One run; CPU is in microseconds a request."""

    sent: Sent
    stored: int
    cpu_us: float
    postgres_us: float


async def run(
    upbeat: Upbeat, token: str, database: "asyncpg.Connection[Any]", senders: int, seconds: float
) -> Found:
    assert upbeat.process is not None
    await sent_by_another(Load(upbeat.port, PATH, token, senders, 5.0))  # what is loaded is frozen after 3 s
    count_before = await stored(database)
    before = {name: cpu_s(pids) for name, pids in by_program(upbeat.process.pid).items()}
    sent = await sent_by_another(Load(upbeat.port, PATH, token, senders, seconds))
    after = {name: cpu_s(pids) for name, pids in by_program(upbeat.process.pid).items()}
    spent_us = {name: (after[name] - before[name]) / len(sent.took_s) * 1e6 for name in after}
    return Found(sent, await stored(database) - count_before, spent_us["upbeat"], spent_us["postgres"])


async def measure(folder: Path, seconds: float, senders: int) -> None:
    async with serving(folder / "whole", 10_000_000) as (upbeat, token, database, _):
        whole = await run(upbeat, token, database, senders, seconds)
        rate = len(whole.sent.took_s) / seconds
        half = await sent_by_another(Load(upbeat.port, PATH, token, senders, seconds / 2, rate / 2))
        waiting = await database.fetchval("SELECT count(*) FROM arrivals")
    async with serving(folder / "alone", 10_000_000, "--roles", "api") as (upbeat, token, database, dsn):
        alone = await run(upbeat, token, database, senders, seconds / 4)
        assert upbeat.process is not None
        server_s = cpu_s(by_program(upbeat.process.pid)["postgres"])
        theirs, theirs_s = await baseline(database, dsn, senders, seconds / 4)
        server_us = (cpu_s(by_program(upbeat.process.pid)["postgres"]) - server_s) / theirs * 1e6
    theirs_us = theirs_s / theirs * 1e6
    half_ms = quantile(half.took_s, 0.99) * 1e3
    is_whole = whole.stored >= len(whole.sent.took_s)
    line(
        "ingest",
        rate,
        unit="deliveries/s acknowledged after commit",
        baseline=theirs / (seconds / 4),
        target=">= 5,000/s, >= 5x less CPU per request, p99 <= 100 ms at half load",
        is_met=rate >= 5000 and theirs_us >= 5 * alone.cpu_us and half_ms <= 100 and is_whole,
        higher_is_better=True,
        ran=f"3 KB, {senders} senders for {seconds:.0f} s, token and name, fsync; baseline FastAPI and one INSERT each",
        statuses=whole.sent.statuses,
        acknowledged=len(whole.sent.took_s),
        stored=whole.stored,
        p50_ms=round(quantile(whole.sent.took_s, 0.5) * 1e3, 1),
        p99_ms=round(quantile(whole.sent.took_s, 0.99) * 1e3, 1),
        half_load_p50_ms=round(quantile(half.took_s, 0.5) * 1e3, 1),
        half_load_p99_ms=round(half_ms, 1),
        unjudged_at_the_end=waiting,
        alone_per_s=round(len(alone.sent.took_s) / (seconds / 4)),
        cpu_us=round(alone.cpu_us, 1),
        postgres_us=round(alone.postgres_us, 1),
        cpu_us_with_judging=round(whole.cpu_us, 1),
        postgres_us_with_judging=round(whole.postgres_us, 1),
        baseline_cpu_us=round(theirs_us, 1),
        baseline_postgres_us=round(server_us, 1),
        cpu_ratio=round(theirs_us / alone.cpu_us, 1),
        cpu_ratio_with_postgres=round((theirs_us + server_us) / (alone.cpu_us + alone.postgres_us), 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--senders", type=int, default=64)
    parser.add_argument("--send", action="store_true")
    parser.add_argument("--plain", type=int)
    parser.add_argument("--dsn")
    given = parser.parse_args()
    if given.send:
        load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
        sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(send(load))))
    elif given.plain:
        uvicorn.run(plain(given.dsn), port=given.plain, log_level="error", access_log=False)
    else:
        with fresh_folder(Path("/var/tmp")) as folder:
            for name in ("whole", "alone"):
                (folder / name).mkdir()
            uvloop.run(measure(folder, given.seconds, given.senders))


if __name__ == "__main__":
    main()
