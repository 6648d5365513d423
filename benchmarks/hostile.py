"""200 healthy beats beside hostile targets, on the real engine: how late they start, and what memory the hostility takes.

First alone, then beside 500 targets that send a byte a second, then beside every other kind of harm `tests.rig.hostile`
knows. Lateness is read from the stored rows. Memory is the growth of Upbeat's processes, sampled twice a second.
"""

import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from benchmarks.bench import by_program, line, pss_mb
from tests.rig.hostile import BEHAVIOURS, HostileTarget
from tests.rig.process import Upbeat, fresh_folder
from tests.rig.targets import StreamTarget

HEALTHY, LORIS = 200, 500
SLOW = ("slow-head", "slow-body", "endless-chunks")
FAST = tuple(behaviour for behaviour in BEHAVIOURS if behaviour not in SLOW)
SETTLE_S, MEASURE_S = 8.0, 20.0
ASSERTS = "assertions: [{of: json, path: '$.status', eq: ok}]"


def serve(ready: Connection) -> None:
    """Answer until killed, well on one port and badly on another."""

    async def main() -> None:
        async with StreamTarget() as well, HostileTarget() as badly:
            ready.send((well.port, badly.port))
            await asyncio.sleep(3600)

    uvloop.run(main())


def document(well: int, badly: int, slow: int, fast: int) -> str:
    beats = [
        f'  - {{slug: well-{n}, type: http, url: "http://127.0.0.1:{well}/{n}", {ASSERTS}}}'
        for n in range(HEALTHY)
    ]
    for kind, count, behaviours in (("slow", slow, SLOW), ("fast", fast, FAST)):
        beats += [
            f'  - {{slug: {kind}-{n}, type: http, url: "http://127.0.0.1:{badly}/{behaviours[n % len(behaviours)]}/{n}", '
            f"interval: 10s, timeout: 9s, {ASSERTS}}}"
            for n in range(count)
        ]
    text = "\n".join(beats)
    return (
        "version: 1\npage: {slug: p, name: P}\nregions: [eu]\n"
        f"defaults: {{interval: 1s, timeout: 900ms, retries: 0, quorum: {{confirm: off}}}}\nbeats:\n{text}\n"
    )


async def late_ms(database: Any, began: float, ended: float) -> tuple[float, int]:
    row = await database.fetchrow(
        "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM r.at - r.scheduled_at)::float8 - r.total) AS p99, "
        "count(*) FILTER (WHERE verdict <> 'ok') AS bad FROM results r JOIN objects o ON o.id = r.beat_id "
        "WHERE o.slug LIKE 'well-%' AND r.scheduled_at >= to_timestamp($1) AND r.scheduled_at < to_timestamp($2)",
        began,
        ended,
    )
    return row["p99"] * 1e3, row["bad"]


async def measure(folder: Path, well: int, badly: int) -> list[dict[str, Any]]:
    config, seen = folder / "upbeat.yaml", []
    config.write_text(document(well, badly, 0, 0), "utf-8")
    async with Upbeat(folder / "data", config) as upbeat:
        await upbeat.start(60)
        assert upbeat.process is not None
        pids = by_program(upbeat.process.pid)["upbeat"]
        database = await asyncpg.connect(host=str(upbeat.data / "run"), user="upbeat", database="upbeat")
        for slow, fast in ((0, 0), (LORIS, 0), (0, len(FAST))):
            config.write_text(document(well, badly, slow, fast), "utf-8")
            await asyncio.sleep(SETTLE_S)
            began, most_mb = time.time(), 0.0
            while time.time() < began + MEASURE_S:
                await asyncio.sleep(0.5)
                most_mb = max(most_mb, pss_mb(pids))
            ended = time.time()
            await asyncio.sleep(2)
            p99_ms, bad = await late_ms(database, began, ended)
            failures = await database.fetch(
                "SELECT split_part(o.spec->>'url', '/', 4) AS what, r.failure_type AS type, max(total) AS total, count(*) AS runs "
                "FROM results r JOIN objects o ON o.id = r.beat_id WHERE o.slug NOT LIKE 'well-%' "
                "AND r.scheduled_at >= to_timestamp($1) GROUP BY 1, 2 ORDER BY 1, 2",
                began,
            )
            classes = {f"{row['what']}: {row['type']}": round(row["total"], 2) for row in failures}
            seen.append({"p99_ms": p99_ms, "not_ok": bad, "mb": most_mb, "classes": classes})
        await database.close()
    return seen


def main() -> None:
    mine, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        with fresh_folder(Path("/var/tmp")) as folder:
            alone, *beside = asyncio.run(measure(folder, *mine.recv()))
    finally:
        server.terminate()
        server.join()
    limits_mb = (64, 8 * len(FAST))
    for name, seen, limit_mb in zip(("slow", "fast"), beside, limits_mb, strict=True):
        grown_mb = seen["mb"] - alone["mb"]
        count = LORIS if name == "slow" else len(FAST)
        line(
            f"hostile_{name}",
            seen["p99_ms"],
            unit="ms, p99 lateness of healthy beats",
            baseline=alone["p99_ms"],
            target=f"baseline + 10 ms, all ok, memory + {limit_mb} MiB",
            is_met=seen["p99_ms"] <= alone["p99_ms"] + 10 and not seen["not_ok"] and grown_mb <= limit_mb,
            ran=f"{HEALTHY} healthy beats every second beside {count} hostile ones every 10 s, {MEASURE_S:.0f} s",
            grown_mb=round(grown_mb, 1),
            healthy_not_ok=seen["not_ok"],
            slowest_s_by_class=seen["classes"],
        )


if __name__ == "__main__":
    main()
