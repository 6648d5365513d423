"""From outage to episode on the real engine: 60 beats, 3 regions, interval 30 s, default policy, refusing target.

All fail at the same moment, so one outage gives a distribution. The baseline is 60 more beats of the same outage
without confirmation: each region's own two failures in a row.
"""

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path

import asyncpg

from benchmarks.bench import line, quantile
from tests.rig.process import Upbeat, fresh_folder, until
from tests.rig.targets import StreamTarget

BEATS = 60
SETTLE_S = 40.0
"""First runs are spread over a few seconds; a turn later every region is at its own place in the interval."""


async def measure(folder: Path) -> None:
    async with StreamTarget() as target:
        kinds = {"confirmed": "", "alone": ", quorum: {confirm: off}"}
        beats = "\n".join(
            f'  - {{slug: {kind}-{n}, type: http, url: "http://127.0.0.1:{target.port}/{kind}/{n}"{extra}}}'
            for kind, extra in kinds.items()
            for n in range(BEATS)
        )
        config = folder / "upbeat.yaml"
        config.write_text(
            "version: 1\npage: {slug: p, name: P}\nregions: [eu, us, ap]\n"
            f"defaults: {{interval: 30s, timeout: 10s}}\nbeats:\n{beats}\n",
            "utf-8",
        )
        async with Upbeat(folder / "data", config) as upbeat:
            await upbeat.start(60)
            database = await asyncpg.connect(host=str(upbeat.data / "run"), user="upbeat", database="upbeat")

            async def count(sql: str) -> int:
                found: int = await database.fetchval(sql)
                return found

            ok = "SELECT count(*) FROM states WHERE stage = 'ok'"
            await until(lambda: _reaches(count(ok), 2 * BEATS), "all are ok", 90)
            await asyncio.sleep(SETTLE_S)
            down_at = time.time()
            await target.becomes("refuses")
            await until(
                lambda: _reaches(count("SELECT count(*) FROM episodes"), 2 * BEATS), "all are seen", 150
            )
            rows = await database.fetch(
                "SELECT o.slug, extract(epoch FROM e.opened_at)::float8 AS at FROM episodes e JOIN objects o ON o.id = e.owner_id"
            )
            await database.close()
    took = {kind: [row["at"] - down_at for row in rows if row["slug"].startswith(kind)] for kind in kinds}
    p50, p99 = (quantile(took["confirmed"], q) for q in (0.5, 0.99))
    line(
        "detection",
        p50,
        unit="s, p50",
        baseline=quantile(took["alone"], 0.5),
        target="p50 <= 8 s, p99 <= 13 s",
        is_met=p50 <= 8 and p99 <= 13,
        ran=f"{BEATS} beats refusing at once, interval 30 s, 3 regions; baseline {BEATS} beats with confirm: off",
        p99_s=round(p99, 2),
        max_s=round(max(took["confirmed"]), 2),
        baseline_p99_s=round(quantile(took["alone"], 0.99), 2),
    )


async def _reaches(counting: Awaitable[int], wanted: int) -> bool:
    return await counting >= wanted


def main() -> None:
    with fresh_folder() as folder:
        asyncio.run(measure(folder))


if __name__ == "__main__":
    main()
