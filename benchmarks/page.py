"""A kept status page as it is read again and again: Upbeat beside nginx with the same bytes as a file, each on the same core."""

import asyncio
import gzip
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from benchmarks.bench import cpu_s, line
from engine.embedded.supervisor import start
from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import migrate, open_pool, transaction
from engine.store.ids import new_id
from tests.rig.installation import family
from tests.rig.process import Upbeat, fresh_folder

ACTOR = Actor("benchmark", "api")
CORE, BESIDE = 0, 1
READERS, SECONDS, ROUNDS = 32, 3, 3
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; gzip_static on; keepalive_requests 1000000; default_type text/html;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  open_file_cache max=100;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; index index.html; }}
}}
"""


@dataclass(slots=True)
class Served:
    rate: float  # per second of wall time
    cpu_us: float  # per request


def ask(url: str, server: list[int], *, gzipped: bool) -> Served:
    """Read `url` over HTTP/1.1 with keep-alive from the other core."""
    said = ["-H", "Accept-Encoding: gzip"] if gzipped else []
    load = ["wrk", "-t", "1", "-c", str(READERS), "-d", f"{SECONDS}s", *said, url]
    before = cpu_s(server)
    done = subprocess.run(
        ["taskset", "-c", str(BESIDE), *load], capture_output=True, text=True, check=True
    ).stdout
    spent_s, found = cpu_s(server) - before, re.search(r"(\d+) requests in ([\d.]+)s", done)
    assert found is not None, done
    assert "Non-2xx" not in done, done
    assert "Socket errors" not in done, done
    return Served(int(found[1]) / float(found[2]), spent_s / int(found[1]) * 1e6)


@contextmanager
def nginx(folder: Path, body: bytes) -> Iterator[tuple[str, list[int]]]:
    www = folder / "www"
    www.mkdir(parents=True)
    (www / "index.html").write_bytes(body)
    (www / "index.html.gz").write_bytes(gzip.compress(body, 6))
    for path in (folder, www):
        path.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    command = ["taskset", "-c", str(CORE), "nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with subprocess.Popen(command) as running:
        try:
            for _ in range(500):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}/", [*family(running.pid)]
        finally:
            running.terminate()


async def fill(url: str) -> None:
    """A page of 30 components in 5 groups with a quarter of a year of incidents."""
    pool = await open_pool(url, size=2)
    await migrate(pool)
    now = datetime.fromtimestamp(time.time(), UTC)
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "shop", "name": "Shop"})
        made = [
            await objects.create(
                db, ACTOR, "component", page.id, {"slug": f"c{n}", "name": f"Part {n}", "group": f"G{n % 5}"}
            )
            for n in range(30)
        ]
        for n in range(60):
            incident, at = new_id(), now - timedelta(days=n * 1.5, hours=3)
            said = {str(made[n % 30].id): "major_outage"}
            await db.execute(
                "INSERT INTO incidents (id, page_id, title, status, components, created_at, resolved_at) "
                "VALUES ($1, $2, $3, 'resolved', $4, $5, $6)",
                incident,
                page.id,
                f"Trouble {n}",
                said,
                at,
                at + timedelta(hours=1),
            )
            for place, status in enumerate(("investigating", "identified", "resolved")):
                await db.execute(
                    "INSERT INTO updates (id, incident_id, status, text, components, at, by) "
                    "VALUES ($1, $2, $3, 'We look into it, and say more.', $4, $5, 'b')",
                    new_id(),
                    incident,
                    status,
                    said,
                    at + timedelta(minutes=20 * place),
                )
    await pool.close()


async def measure(folder: Path) -> None:
    servers = await start(folder / "servers")
    try:
        await fill(servers.database_url)
        told = {"UPBEAT_DATABASE_URL": servers.database_url, "UPBEAT_NATS_URL": servers.nats_url}
        async with Upbeat(folder / "upbeat", environment=told, arguments=("--roles", "api")) as upbeat:
            await upbeat.start()
            assert upbeat.process is not None
            mine = [*family(upbeat.process.pid)]
            for pid in mine:
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), {CORE})
            url = f"http://127.0.0.1:{upbeat.port}/p/shop"
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                body = await answer.read()
            with nginx(folder / "nginx", body) as (theirs_url, theirs):
                for gzipped in (False, True):
                    await compare(url, mine, theirs_url, theirs, body, gzipped=gzipped)
    finally:
        await servers.stop()


async def compare(
    url: str, mine: list[int], theirs_url: str, theirs: list[int], body: bytes, *, gzipped: bool
) -> None:
    ours, beside = list[Served](), list[Served]()
    for _ in range(ROUNDS):  # by turns, so that what else runs here is the same for both
        ours.append(await asyncio.to_thread(ask, url, mine, gzipped=gzipped))
        beside.append(await asyncio.to_thread(ask, theirs_url, theirs, gzipped=gzipped))
    cpu_us, baseline_us = (min(one.cpu_us for one in served) for served in (ours, beside))
    rate, baseline_rate = (max(one.rate for one in served) for served in (ours, beside))
    line(
        "page_gzip" if gzipped else "page",
        1e6 / cpu_us,
        unit="requests per second of a core's time",
        baseline=1e6 / baseline_us,
        target=">= 0.1x",
        is_met=cpu_us <= 10 * baseline_us,
        higher_is_better=True,
        ran=f"GET of a kept page of 30 components, {len(body)} bytes, keep-alive, {READERS} readers; baseline nginx, the same bytes",
        rate=round(rate),
        baseline_rate=round(baseline_rate),
        rate_ratio=round(rate / baseline_rate, 3),
        bytes=len(gzip.compress(body, 6)) if gzipped else len(body),
    )


def main() -> None:
    if missing := [name for name in ("nginx", "wrk") if shutil.which(name) is None]:
        sys.exit(
            f"page: nothing was measured: {' and '.join(missing)} missing (Debian's nginx-light and wrk)"
        )
    with fresh_folder(Path("/var/tmp")) as folder:
        asyncio.run(measure(folder))


if __name__ == "__main__":
    main()
