"""`upbeat serve` from an empty folder to its first committed result, the next start, and its idle memory."""

import asyncio
import contextlib
import time
from pathlib import Path

import asyncpg

from benchmarks.bench import by_program, line, pss_mb
from tests.rig.process import Upbeat, fresh_folder
from tests.rig.targets import StreamTarget

CONFIG = """\
version: 1
page: {{slug: shop, name: Shop}}
components: [{{slug: checkout, name: Checkout}}, {{slug: search, name: Search}}, {{slug: login, name: Login}}]
regions: [eu-west, us-east, ap-south]
defaults: {{interval: 5s, timeout: 2s}}
beats:
{beats}
"""
BEATS = 6
SETTLE_S = 20.0


async def first_result(upbeat: Upbeat) -> float:
    """Seconds from the launch to a result that was committed after it."""
    began_s, since = time.monotonic(), time.time()
    upbeat.launch()
    while time.monotonic() - began_s < 60:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            database = await asyncpg.connect(
                host=str(upbeat.data / "run"), user="upbeat", database="upbeat", timeout=2
            )
            try:
                while not await database.fetchval(
                    "SELECT EXISTS (SELECT 1 FROM results WHERE seen_at > to_timestamp($1))", since
                ):
                    await asyncio.sleep(0.02)
                return time.monotonic() - began_s
            finally:
                await database.close()
        await asyncio.sleep(0.02)
    raise TimeoutError(upbeat.last_words())


async def measure(folder: Path) -> None:
    async with StreamTarget() as target:
        beats = "\n".join(
            f'  - {{slug: b{n}, type: http, url: "http://127.0.0.1:{target.port}/{n}"}}' for n in range(BEATS)
        )
        config = folder / "upbeat.yaml"
        config.write_text(CONFIG.format(beats=beats), "utf-8")
        async with Upbeat(folder / "data", config) as upbeat:
            first_s = await first_result(upbeat)
            began_s = time.monotonic()
            await upbeat.stop()
            stop_s = time.monotonic() - began_s
            again_s = await first_result(upbeat)
            await asyncio.sleep(SETTLE_S)
            assert upbeat.process is not None
            programs = by_program(upbeat.process.pid)
            memory = {name: round(pss_mb(pids), 1) for name, pids in programs.items()}
    ran = f"{BEATS} beats in 3 regions every 5 s, on {folder.parent}"
    line(
        "start",
        first_s,
        unit="s",
        baseline=None,
        target="<= 5 s",
        is_met=first_s <= 5,
        ran=f"empty folder; {ran}",
    )
    line(
        "start_again",
        again_s,
        unit="s",
        baseline=first_s,
        target="<= 2 s",
        is_met=again_s <= 2,
        ran=f"after a clean stop; {ran}",
        stop_s=round(stop_s, 2),
    )
    total = sum(memory.values())
    line(
        "idle_pss",
        total,
        unit="MB",
        baseline=None,
        target="<= 250 MB",
        is_met=total <= 250,
        ran=f"whole tree {SETTLE_S:.0f} s after the start; {ran}",
        of=memory,
    )


def main() -> None:
    with fresh_folder(Path("/var/tmp")) as folder:
        asyncio.run(measure(folder))


if __name__ == "__main__":
    main()
