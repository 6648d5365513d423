"""Ten thousand beats fail at once: from their results on the bus until operators were told of all of it, in digests, nothing missing.

Real PostgreSQL (with fsync) and NATS, a real evaluator, outbox and delivery, and channels that are real HTTP servers: one that
answers at once, one whose alerts are ended one by one, one that takes 14 s for each answer.
"""

import argparse
import asyncio
import gc
import time
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import aiohttp
import uvloop
from aiohttp import web

from benchmarks.bench import line
from engine.bus import Bus
from engine.delivery import Delivery, Target
from engine.embedded.supervisor import start
from engine.store import objects
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.ids import PARTITIONS, new_id, partition_of
from engine.store.objects import Stored
from evaluators.model import Batch, Failure, Item, Kind, Notice, Result, Timings, Verdict
from exporters.channels.webhook import WebhookExporter
from exporters.outcome import Memory, Outcome
from rules.channels.webhook import WebhookChannel
from rules.models import TYPED
from tests.engine.world import ACTOR, World, evaluated
from tests.rig.process import fresh_folder, until
from upbeat.serve import GC_THRESHOLD

SLOW_S, PER_BATCH = 14.0, 200
QUORUM: dict[str, Any] = {"confirm": "off", "consecutive": {"open": 1, "close": 1}}


class Paired(WebhookChannel):
    """As a channel whose alerts are ended one by one."""

    pairs: ClassVar[bool] = True


class Receiver:
    """Counts what it is told."""

    def __init__(self, slow_s: float) -> None:
        self.told: list[str] = []
        self.first_at = 0.0
        self.slow_s, self.runner = slow_s, web.AppRunner(web.Application())
        self.runner.app.router.add_post("/", self.answer)

    async def url(self) -> str:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}/"

    async def answer(self, request: web.Request) -> web.Response:
        data = (await request.json())["data"]
        await asyncio.sleep(self.slow_s)
        self.first_at = self.first_at or time.perf_counter()
        self.told.append(data["told"])
        return web.Response(status=204)


async def results(world: World, beats: list[Stored], verdict: Verdict, seq: int) -> None:
    """One of each beat, in batches of their partitions."""
    now, parts = time.time(), [[b for b in beats if partition_of(b.id) == n] for n in range(PARTITIONS)]
    is_ok = verdict is Verdict.OK
    for partition, mine in enumerate(parts):
        for number, first in enumerate(range(0, len(mine), PER_BATCH), 1):
            found = tuple(
                Result(
                    run_id=str(new_id()),
                    beat_id=str(beat.id),
                    region="eu",
                    kind=Kind.SCHEDULED,
                    verdict=verdict,
                    scheduled_at=now,
                    at=now,
                    seq=seq,
                    attempts=1,
                    timings=Timings(total=0.01),
                    failure=None if is_ok else Failure("connect.refused", "nobody listens"),
                    check_version=beat.revision,
                )
                for beat in mine[first : first + PER_BATCH]
            )
            await world.bus.publish(Batch(world.boot, seq * 1000 + number, partition, now, found))


async def declared(world: World, count: int, receivers: dict[str, Receiver]) -> list[Stored]:
    """The channels, and beats that name them all."""
    await world.declare("region", "eu")
    for slug, receiver in receivers.items():
        kind = "slack" if slug == "paired" else "webhook"
        await world.declare(
            "channel",
            slug,
            type=kind,
            url=await receiver.url(),
            digest_over=10,
            on=["open", "recovery", "draft"],
        )
    async with transaction(world.pool) as db:
        return [
            await objects.create(
                db,
                ACTOR,
                "beat",
                world.page.id,
                {"slug": f"b{n}", "type": "tcp", "host": f"h{n}.example", "port": 1, "interval": "10m"}
                | {"quorum": QUORUM, "channels": list(receivers), "regions": ["eu"]},
            )
            for n in range(count)
        ]


async def counted(pool: Pool, sql: str) -> int:
    return int(await pool.fetchval(f"SELECT count(*) FROM {sql}"))


async def measure(folder: Path, count: int) -> None:
    gc.set_threshold(*GC_THRESHOLD)  # as in `upbeat serve`
    TYPED["channel"]["slack"] = Paired
    servers = await start(folder)
    pool, bus = await open_pool(servers.database_url), Bus()
    await migrate(pool)
    await bus.connect(servers.nats_url, name="benchmark")
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "p", "name": "P"})
    world = World(pool, bus, page, boot=str(uuid4()))
    receivers = {"quick": Receiver(0.0), "paired": Receiver(0.0), "slow": Receiver(SLOW_S)}
    beats = await declared(world, count, receivers)
    async with aiohttp.ClientSession() as session, evaluated(world):

        async def send(target: Target, item: Item, memory: Memory) -> Outcome:
            assert isinstance(item, Notice)
            return await WebhookExporter(session, str(target.spec["url"])).export(item, memory)

        await results(world, beats, Verdict.OK, 1)

        async def is_well() -> bool:
            return await counted(pool, "states WHERE stage = 'ok'") == count

        await until(is_well, "all are ok", 300)
        gc.freeze()
        delivery = asyncio.create_task(Delivery(pool, send, holder="bench").run())
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await results(world, beats, Verdict.CRITICAL, 2)
        marks: dict[str, float] = {}

        async def is_told() -> bool:
            if await counted(pool, "episodes WHERE closed_at IS NULL") == count:
                marks.setdefault("opened_s", time.perf_counter() - began_s)
            waits = "outbox n JOIN objects t ON t.id = n.target_id WHERE n.status = 'pending' AND t.slug <> 'slow'"
            return "opened_s" in marks and not await counted(pool, waits)

        await until(is_told, "all is told", 600)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        opened = "(SELECT DISTINCT target_id, line FROM outbox WHERE item->>'told' = 'open') n"
        missing = count * len(receivers) - await counted(pool, opened)
        missing += await counted(pool, "outbox WHERE status IN ('dead', 'dropped')")
        delivery.cancel()
        await asyncio.wait([delivery])
    for receiver in receivers.values():
        await receiver.runner.cleanup()
    await bus.close()
    await pool.close()
    await servers.stop()
    line(
        "storm",
        took_s,
        unit="seconds until all is told",
        baseline=marks["opened_s"],
        target="<= 30 s, nothing missing",
        is_met=took_s <= 30.0 and not missing,
        ran=f"{count} beats fail at once; baseline: until all episodes are open",
        first_message_s=round(receivers["quick"].first_at - began_s, 2),
        cpu_s=round(cpu_s, 2),
        missing=missing,
        messages={slug: len(receiver.told) for slug, receiver in receivers.items() if slug != "slow"},
        digests={slug: receiver.told.count("digest") for slug, receiver in receivers.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beats", type=int, default=10_000)
    given = parser.parse_args()
    with fresh_folder(Path("/var/tmp")) as folder:
        uvloop.run(measure(folder, given.beats))


if __name__ == "__main__":
    main()
