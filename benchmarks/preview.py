"""Stored events previewed by a worker under one rule, beside `json.loads` of the same bodies.

    python -m benchmarks.preview [--events 100000]

Bodies of 3 KB as an Alertmanager posts them, four alerts each. Wall time and CPU are of the server's own warm worker, from
the request to what was found; the CPU of PostgreSQL, which is on the other core, is said beside it. Memory is what the
worker takes beyond one that has tried a single event. A preview of 200 events is what the console asks for while one types.
"""

import argparse
import asyncio
import json
import os
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.bench import cpu_s, line
from engine.embedded.supervisor import start
from engine.jobs import Jobs
from engine.store import jobs
from engine.store.database import Pool, migrate, open_pool
from engine.store.ids import new_id
from engine.store.previews import Plan, Side
from tests.rig.installation import family
from tests.rig.process import fresh_folder

BEGAN = 1_760_000_000.0
APART_S = 20.0
HEADERS = (
    '[["Host","upbeat.example"],["User-Agent","Alertmanager/0.28.1"],["Content-Type","application/json"]]'
)
RULE: dict[str, Any] = {
    "slug": "alertmanager",
    "inbox": "alerts",
    "when": [{"value": "$.commonLabels.team", "eq": "shop"}],
    "critical": [
        {"value": "$.status", "eq": "firing"},
        {"value": "$.commonLabels.severity", "in": ["critical", "page"]},
    ],
    "warning": [{"value": "$.status", "eq": "firing"}],
    "recovery": [{"value": "$.status", "eq": "resolved"}],
    "fingerprint": "{$.groupKey}",
    "message": "{$.alerts[0].annotations.summary}",
    "target": {"external": "shop"},
}
EACH: dict[str, Any] = {
    **RULE,
    "each": "$.alerts[*]",
    "when": [{"value": "$.labels.team", "eq": "shop"}],
    "critical": [
        {"value": "$.status", "eq": "firing"},
        {"value": "$.labels.severity", "in": ["critical", "page"]},
    ],
    "fingerprint": "{$.fingerprint}",
    "time": {"values": ["$.startsAt"]},
    "message": "{$.annotations.summary}",
}


def body(number: int) -> bytes:
    """About 3 KB."""
    drawn = random.Random(number)
    alerts: list[dict[str, Any]] = []
    for _ in range(4):
        instance = drawn.randrange(500)
        alerts.append(
            {
                "status": drawn.choice(("firing", "resolved")),
                "labels": {
                    "alertname": drawn.choice(("HighErrorRate", "HighLatency", "DiskFull")),
                    "cluster": "eu-west-1",
                    "instance": f"10.4.{instance // 250}.{instance % 250}:9100",
                    "severity": drawn.choice(("critical", "warning", "info")),
                    "team": drawn.choice(("shop", "search", "pay", "data")),
                },
                "annotations": {
                    "summary": f"{drawn.random():.4f} of the requests to the checkout fail",
                    "description": f"See the dashboard of the service; the run was {drawn.getrandbits(500):x}.",
                    "runbook_url": "https://runbooks.example/high-error-rate",
                },
                "startsAt": datetime.fromtimestamp(BEGAN + APART_S * number, UTC).isoformat(),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": f"https://prometheus.example/graph?g0.expr={drawn.getrandbits(250):x}",
                "fingerprint": f"{instance:016x}",
            }
        )
    first = alerts[0]["labels"]
    whole = {
        "version": "4",
        "groupKey": f"{{}}:{{instance={first['instance']}}}",
        "truncatedAlerts": 0,
        "status": alerts[0]["status"],
        "receiver": "upbeat",
        "commonLabels": first,
        "externalURL": "https://alertmanager.example",
    }
    return json.dumps(whole | {"alerts": alerts}).encode()


async def fill(pool: Pool, bodies: list[bytes]) -> UUID:
    """An inbox's events, as they are once they were judged."""
    inbox = new_id()
    async with pool.acquire() as connection:
        for begin in range(0, len(bodies), 5000):
            part = range(begin, min(begin + 5000, len(bodies)))
            given = [new_id() for _ in part], [BEGAN + APART_S * n for n in part]
            await connection.execute(
                "INSERT INTO events (id, inbox_id, received_at, address, headers, query, body) SELECT id, $1, to_timestamp(at), "
                "'192.0.2.7', $4::text::json, '', body FROM unnest($2::uuid[], $3::float8[], $5::bytea[]) AS e (id, at, body)",
                *(inbox, *given, HEADERS, bodies[begin : begin + 5000]),
                timeout=600,
            )
            await connection.execute(
                "INSERT INTO judged (inbox_id, event_id, received_at, at, is_repeat, verdict, outcomes) SELECT $1, id, "
                "to_timestamp(at), at, false, 'unmatched', '{}' FROM unnest($2::uuid[], $3::float8[]) WITH ORDINALITY "
                "AS e (id, at, n) ORDER BY n",
                *(inbox, *given),
            )
        await connection.execute("VACUUM ANALYZE events, judged", timeout=600)
    return inbox


async def run(pool: Pool, running: Jobs, plan: Plan) -> tuple[int, float]:
    """The events of a preview, and the seconds until it is there."""
    began_s = time.perf_counter()
    async with pool.acquire() as connection:
        preview = await jobs.create(connection, "preview", "benchmark", [], {}, plan)
    assert preview is not None
    running.start("preview", preview, 1, 600.0)
    while True:
        async with pool.acquire() as connection:
            row = await jobs.get(connection, "preview", preview)
        assert row is not None
        if row["status"] not in ("waiting", "running"):
            assert row["status"] == "done", row["error"]
            return row["rows"], time.perf_counter() - began_s
        await asyncio.sleep(0.005)


def _memory_mib(pids: list[int], key: str) -> float:
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(text.partition(f"{key}:")[2].split()[0]) for text in texts if f"{key}:" in text) / 1024


async def measure(folder: Path, events: int) -> None:
    bodies = [body(number) for number in range(events)]
    servers = await start(folder / "data", durable=False)
    try:
        pool = await open_pool(servers.database_url, size=4)
        await migrate(pool)
        inbox = await fill(pool, bodies)
        postgres = next(fact.pid for fact in servers.facts() if fact.name == "postgres")
        servers_pids = [fact.pid for fact in servers.facts() if fact.pid]
        running = Jobs(pool, lambda: servers.database_url)
        whole = Plan([Side(RULE)], inbox, [], BEGAN, BEGAN + APART_S * events, [])

        each = Plan([Side(EACH)], inbox, [], whole.since, whole.until, [])

        def of(count: int) -> Plan:
            return Plan(whole.sides, inbox, [], BEGAN, BEGAN + APART_S * count - 1.0, [])

        _, cold_s = await run(pool, running, of(1))
        workers = [
            pid
            for pid in family(os.getpid())
            if all(pid not in family(one) for one in servers_pids) and pid != os.getpid()
        ]
        idle_mib = _memory_mib(workers, "VmRSS")
        spent: dict[str, list[float]] = {}
        brief_s = min([(await run(pool, running, of(200)))[1] for _ in range(5)])
        count = 0
        for plan, name in ((whole, "one"), (each, "four")) * 3:
            began_s = time.process_time()
            for one in bodies:
                json.loads(one)
            loads_s = time.process_time() - began_s
            server_s, own_s = cpu_s(family(postgres)), cpu_s(workers)
            count, wall_s = await run(pool, running, plan)
            took = [wall_s, cpu_s(workers) - own_s, cpu_s(family(postgres)) - server_s, loads_s]
            spent[name] = min(took, spent.get(name, took))
        peak_mib = _memory_mib(workers, "VmHWM") - idle_mib
        await running.close()
        await pool.close()
    finally:
        await servers.stop()
    assert count == events
    wall_s, own_s, server_s, loads_s = spent["one"]
    at_full = 100_000 / events
    line(
        "preview",
        own_s / events * 1e6,
        unit="us of CPU per event of 3 KB",
        baseline=loads_s / events * 1e6,
        target="100,000 events in <= 3 s, CPU <= 3x, memory <= +64 MiB",
        is_met=wall_s * at_full <= 3 and own_s <= 3 * loads_s and peak_mib <= 64,
        ran=f"{events} events of {sum(map(len, bodies)) / events:.0f} bytes, one rule; baseline json.loads",
        wall_s=round(wall_s, 2),
        memory_mib=round(peak_mib, 1),
        postgres_cpu_s=round(server_s, 2),
        with_postgres_ratio=round((own_s + server_s) / loads_s, 2),
        of_four_items_each_s=round(spent["four"][0], 2),
        of_four_items_each_ratio=round(spent["four"][1] / spent["four"][3], 2),
        of_200_events_s=round(brief_s, 3),
        of_one_by_a_cold_worker_s=round(cold_s, 3),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    given = parser.parse_args()
    with fresh_folder(Path("/var/tmp")) as folder:
        asyncio.run(measure(folder, given.events))


if __name__ == "__main__":
    main()
