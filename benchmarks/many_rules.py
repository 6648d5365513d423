"""Events judged: CPU of one event against 200 rules of its inbox, beside one rule; and how fast a backlog goes, beside one without rules.

Real PostgreSQL (with fsync) and NATS. Alertmanager-like bodies of 3 KB. Of the 200 rules each takes the events of one service,
as teams write them, so that one of them matches; each event opens a signal or ends one.
"""

import argparse
import asyncio
import gc
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks.bench import line
from engine.bus import Bus
from engine.embedded.supervisor import start
from engine.store import inboxes, objects, triggers
from engine.store.audit import Actor
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.ids import new_id
from engine.store.inboxes import Delivery
from engine.store.objects import Stored
from engine.triggering import Triggering
from rules.trigger import Trigger
from tests.rig.process import fresh_folder, until
from upbeat.serve import GC_THRESHOLD

ACTOR = Actor("benchmark", "cli")
RULES, HOSTS, PER_PUT = 200, 50, 500


def rule(number: int) -> dict[str, Any]:
    return {
        "slug": f"service-{number}",
        "inbox": "in",
        "enabled": True,
        "each": "$.alerts",
        "when": [
            {"value": "$.labels.service", "eq": f"service-{number}"},
            {"value": "$.labels.severity", "in": ["critical", "page", "warning"]},
        ],
        "critical": [
            {"value": "$.status", "eq": "firing"},
            {"value": "$.labels.severity", "in": ["critical", "page"]},
        ],
        "warning": {"value": "$.status", "eq": "firing"},
        "recovery": {"value": "$.status", "eq": "resolved"},
        "fingerprint": "{$.labels.alertname}/{$.labels.instance}",
        "message": "{$.annotations.summary}",
        "target": {"external": "all"},
    }


def body(number: int, items: int) -> bytes:
    def alert(item: int) -> dict[str, Any]:
        host = (number + item) % HOSTS
        return {
            "status": "firing" if (number // RULES + item) % 2 == 0 else "resolved",
            "labels": {
                "alertname": "HighLatency",
                "instance": f"host-{host}:9100",
                "service": f"service-{number % RULES}",
                "severity": "critical" if host % 2 else "warning",
                "cluster": "eu-1",
            },
            "annotations": {
                "summary": f"latency of host-{host} is high",
                "description": "The 99th percentile was above 2 s for 5 minutes. " * (48 // items),
            },
            "startsAt": "2026-11-20T10:00:00.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example:9090/graph?g0.expr=latency&g0.tab=1",
            "fingerprint": f"{host:016x}",
        }

    sent = {
        "version": "4",
        "status": "firing",
        "receiver": "upbeat",
        "alerts": [alert(item) for item in range(items)],
    }
    return msgspec.json.encode(sent)


async def judged(pool: Pool, bus: Bus, inbox: Stored, count: int, items: int = 1) -> tuple[float, float]:
    """(CPU seconds of this process, wall seconds) from the first to the last of `count` events that wait."""
    now = time.time()
    for first in range(0, count, PER_PUT):
        async with transaction(pool) as connection:
            await inboxes.put(
                connection,
                [
                    Delivery(
                        new_id(),
                        inbox.id,
                        now,
                        "192.0.2.1",
                        [("Content-Type", "application/json")],
                        "",
                        body(n, items),
                    )
                    for n in range(first, first + PER_PUT)
                ],
            )
    worker = Triggering(pool, bus, holder=f"bench {now}")
    cpu_s, began_s = time.process_time(), time.perf_counter()
    task = asyncio.create_task(worker.run())

    async def is_empty() -> bool:
        return not await pool.fetchval("SELECT EXISTS (SELECT FROM arrivals)")

    await until(is_empty, "all are judged", 600)
    took = time.process_time() - cpu_s, time.perf_counter() - began_s
    task.cancel()
    await asyncio.wait([task])
    assert not worker.health.trouble
    assert sum(worker.health.verdicts.values()) == count
    return took


async def measure(folder: Path, count: int) -> None:
    gc.set_threshold(*GC_THRESHOLD)  # as in `upbeat serve`
    servers = await start(folder)
    pool, bus = await open_pool(servers.database_url), Bus()
    await migrate(pool)
    await bus.connect(servers.nats_url, name="benchmark")
    found: dict[int, tuple[float, float]] = {}
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "p", "name": "P"})
        inbox = await objects.create(db, ACTOR, "inbox", page.id, {"slug": "in"})
        await triggers.expect_target(db, ACTOR, page.id, Trigger.model_validate(rule(0)).target)
    made = 0
    for rules in (0, 1, RULES):
        async with transaction(pool) as db:
            for number in range(made, rules):
                await objects.create(db, ACTOR, "trigger", page.id, rule(number))
        made = rules
        await judged(pool, bus, inbox, PER_PUT)  # compiled and warm
        gc.freeze()
        found[rules] = await judged(pool, bus, inbox, count)
    two_items = await judged(pool, bus, inbox, count, 2)
    signals = await pool.fetchval("SELECT count(*) FROM pushed")
    await bus.close()
    await pool.close()
    await servers.stop()
    cpu_ms = {rules: cpu_s / count * 1e3 for rules, (cpu_s, _) in found.items()}
    line(
        "many_rules",
        cpu_ms[RULES],
        unit=f"ms of CPU per event against {RULES} rules",
        baseline=cpu_ms[1],
        target="<= 1 ms",
        is_met=cpu_ms[RULES] <= 1.0,
        ran=f"{count} events of {len(body(1, 1))} bytes, from the queue to the commit; baseline one rule",
        without_rules_ms=round(cpu_ms[0], 4),
        with_two_items_ms=round(two_items[0] / count * 1e3, 4),
        signals=signals,
    )
    per_s = {rules: count / wall_s for rules, (_, wall_s) in found.items()}
    line(
        "backlog",
        per_s[1],
        unit="events/s judged of a backlog",
        baseline=per_s[0],
        target=">= 1,000/s",
        is_met=per_s[1] >= 1000,
        higher_is_better=True,
        ran=f"{count} events against one rule of one inbox, one process, fsync; baseline without rules",
        with_many_rules=round(per_s[RULES], 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=10_000)
    with fresh_folder(Path("/var/tmp")) as folder:
        uvloop.run(measure(folder, parser.parse_args().events))


if __name__ == "__main__":
    main()
