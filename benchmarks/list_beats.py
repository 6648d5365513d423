"""The API's list of 5,000 beats, 100 a page, right after a start, beside a list of 50."""

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks.bench import line
from engine.embedded.supervisor import start
from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import migrate, open_pool, transaction
from tests.rig.process import Upbeat, fresh_folder

ACTOR = Actor("benchmark", "api")


async def fill(url: str, count: int) -> None:
    pool = await open_pool(url, size=2)
    await migrate(pool)
    async with transaction(pool) as connection:
        page = await objects.create(connection, ACTOR, "page", None, {"slug": "p", "name": "P"})
        for slug in ("eu", "us", "ap"):
            await objects.create(connection, ACTOR, "region", None, {"slug": slug})
        for n in range(count):
            spec = {
                "slug": f"beat-{n:05}",
                "type": "http",
                "url": f"https://host-{n}.example/health",
                "tags": ["bench"],
            }
            await objects.create(connection, ACTOR, "beat", page.id, spec)
    async with pool.acquire() as connection:
        await connection.execute("ANALYZE")
    await pool.close()


async def ask(folder: Path, url: str, nats_url: str) -> tuple[float, float]:
    """(seconds of the first answer after a start, median of the next pages)."""
    environment = {"UPBEAT_DATABASE_URL": url, "UPBEAT_NATS_URL": nats_url}
    async with Upbeat(folder, environment=environment, arguments=("--roles", "api")) as upbeat:
        await upbeat.start()
        took, cursor = [], ""
        for _ in range(6):
            began_s = time.perf_counter()
            page = await upbeat.get(f"/beats?limit=100{cursor}")
            took.append(time.perf_counter() - began_s)
            cursor = f"&cursor={page['next']}" if page["next"] else ""
    return took[0], statistics.median(took[1:])


async def measure(folder: Path) -> None:
    servers = await start(folder / "servers")
    try:
        admin = await open_pool(servers.database_url, size=1)
        for name in ("few", "many"):
            async with admin.acquire() as connection:
                await connection.execute(f"CREATE DATABASE {name}")
        await admin.close()
        urls = {name: servers.database_url.replace("/upbeat?", f"/{name}?") for name in ("few", "many")}
        await fill(urls["few"], 50)
        await fill(urls["many"], 5000)
        few = await ask(folder / "few", urls["few"], servers.nats_url)
        many = await ask(folder / "many", urls["many"], servers.nats_url)
    finally:
        await servers.stop()
    line(
        "list_beats",
        many[0] * 1e3,
        unit="ms, first request after a start",
        baseline=few[0] * 1e3,
        target="<= 300 ms, <= 2x",
        is_met=many[0] <= 0.3 and many[0] <= 2 * few[0],
        ran="GET /api/v1/beats?limit=100 of 5,000 beats in 3 regions; baseline 50 beats",
        warm_ms=round(many[1] * 1e3, 1),
        baseline_warm_ms=round(few[1] * 1e3, 1),
    )


def main() -> None:
    with fresh_folder(Path("/var/tmp")) as folder:
        asyncio.run(measure(folder))


if __name__ == "__main__":
    main()
