"""An installation without probes for tests: real PostgreSQL and NATS, a real catalog and evaluator, and a table that says what is down.

`World.look` is a scheduled run of a beat; orders for more runs are answered as a probe would, from the same table.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from engine.bus import Bus
from engine.catalog import Catalog
from engine.clock import SystemClock
from engine.evaluator import Evaluator
from engine.relations import Relations
from engine.store import objects, states
from engine.store.audit import Actor
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.ids import PARTITIONS, derived_id, new_id, partition_of
from engine.store.objects import Stored
from engine.subject import Subject, compile_subject
from evaluators.model import Batch, ConfirmOrder, Failure, Kind, Result, Timings, Verdict
from evaluators.state import State
from rules.known import Kind as ObjectKind

ACTOR = Actor("test", "api")
REGIONS = ("ap", "eu", "us")
QUORUM: dict[str, Any] = {"confirm": {"runs": 2, "spacing": "20ms", "wait": "3s"}}


@dataclass
class World:
    """What is declared in it, and what is down: a beat's slug, or slug@region."""

    pool: Pool
    bus: Bus
    page: Stored
    clock: SystemClock = field(default_factory=SystemClock)
    declared: dict[str, Stored] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)  # beats whose orders nobody answers
    asked: list[tuple[str, str]] = field(default_factory=list)  # (beat, region) of orders
    boot: str = field(default_factory=lambda: str(uuid4()))
    relations: Relations = field(default_factory=Relations)
    _seqs: dict[int, int] = field(default_factory=dict)
    _runs: int = 0

    # ---- what is declared

    async def declare(self, kind: ObjectKind, slug: str, **spec: Any) -> Stored:
        async with transaction(self.pool) as connection:
            home = None if kind == "region" else self.page.id
            made = await objects.create(connection, ACTOR, kind, home, {"slug": slug, **spec})
        self.declared[slug] = made
        return made

    async def beat(self, slug: str, *parents: str, **spec: Any) -> Stored:
        base = {"type": "tcp", "host": f"{slug}.example", "port": 443, "interval": "60s", "quorum": QUORUM}
        related = {"depends_on": list(parents)} if parents else {}
        return await self.declare("beat", slug, **base | related | spec)

    async def change(self, slug: str, **spec: Any) -> None:
        """Its keys become these; None takes a key out."""
        stored = self.declared[slug]
        merged = {key: value for key, value in {**stored.spec, **spec}.items() if value is not None}
        async with transaction(self.pool) as connection:
            self.declared[slug] = await objects.replace(connection, ACTOR, stored, merged)

    async def change_page(self, **spec: Any) -> None:
        async with transaction(self.pool) as connection:
            self.page = await objects.replace(connection, ACTOR, self.page, {**self.page.spec, **spec})

    async def remove(self, slug: str) -> None:
        async with transaction(self.pool) as connection:
            await objects.remove(connection, ACTOR, self.declared[slug])

    async def pause(self, slug: str, *, again: bool = False) -> None:
        async with transaction(self.pool) as connection:
            if again:
                await states.resume(connection, ACTOR, self.declared[slug])
            else:
                await states.pause(connection, ACTOR, self.declared[slug], None)

    # ---- what is measured

    def result(
        self, slug: str, region: str, kind: Kind = Kind.SCHEDULED, at: float | None = None, **more: Any
    ) -> Result:
        is_down = slug in self.down or f"{slug}@{region}" in self.down
        self._runs += 1
        at = self.clock.epoch_s() if at is None else at
        return Result(
            run_id=more.pop("run_id", None) or str(new_id()),
            beat_id=str(self.declared[slug].id),
            region=region,
            kind=kind,
            verdict=Verdict.CRITICAL if is_down else Verdict.OK,
            scheduled_at=at,
            at=at,
            seq=self._runs,
            attempts=1,
            timings=Timings(total=0.01),
            failure=Failure("connect.refused", "nobody listens") if is_down else None,
            check_version=self.declared[slug].revision,
            **more,
        )

    async def look(self, *slugs: str, regions: Iterable[str] = REGIONS, times: int = 1) -> None:
        """These are run in these regions, once after the other."""
        for _ in range(times):
            for slug in slugs:
                await self.publish([self.result(slug, region) for region in regions])

    async def publish(self, results: list[Result], boot: str = "") -> None:
        """One batch of one beat's results."""
        partition = partition_of(UUID(results[0].beat_id))
        self._seqs[partition] = self._seqs.get(partition, 0) + 1
        now = self.clock.epoch_s()
        await self.bus.publish(
            Batch(boot or self.boot, self._seqs[partition], partition, now, tuple(results))
        )

    def probe(self, region: str) -> Callable[[ConfirmOrder], Coroutine[Any, Any, None]]:
        """Answers orders for `region`."""
        tasks = set[asyncio.Task[None]]()

        async def obey(order: ConfirmOrder) -> None:
            slug = next(slug for slug, stored in self.declared.items() if str(stored.id) == order.beat_id)
            self.asked.append((slug, region))
            for n in range(order.runs) if slug not in self.mute else ():
                if n:
                    await asyncio.sleep(order.spacing_s)
                run_id = str(derived_id(order.request, region, n))
                await self.publish(
                    [self.result(slug, region, order.kind, run_id=run_id, request=order.request, n=n)]
                )

        async def take(order: ConfirmOrder) -> None:
            task = asyncio.create_task(obey(order))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        return take

    # ---- what comes of it

    async def state(self, slug: str) -> State:
        text = await self.pool.fetchval(
            "SELECT state::text FROM states WHERE subject_id = $1", self.declared[slug].id
        )
        return states.decode_state(text)

    async def stage(self, slug: str) -> str:
        return (await self.state(slug)).stage

    async def history(self, slug: str) -> list[str]:
        rows = await self.pool.fetch(
            "SELECT stage FROM transitions WHERE subject_id = $1 ORDER BY id", self.declared[slug].id
        )
        return [row["stage"] for row in rows]

    async def episodes(self) -> list[tuple[str, str | None]]:
        """Owner and cause of the end of each."""
        rows = await self.pool.fetch(
            "SELECT o.slug, e.cause FROM episodes e JOIN objects o ON o.id = e.owner_id ORDER BY e.opened_at"
        )
        return [(row["slug"], row["cause"]) for row in rows]

    async def told(self) -> list[tuple[str, str | None]]:
        rows = await self.pool.fetch(
            "SELECT item->>'told' AS told, item->>'beat' AS beat FROM outbox ORDER BY id"
        )
        return [(row["told"], row["beat"]) for row in rows]

    async def until(self, holds: Callable[[], Coroutine[Any, Any, object]], within_s: float = 20.0) -> None:
        """Ask until it is so."""
        async with asyncio.timeout(within_s):
            while not await holds():
                await asyncio.sleep(0.02)

    async def becomes(self, slug: str, stage: str) -> None:
        async def is_so() -> bool:
            return await self.stage(slug) == stage

        await self.until(is_so)

    async def well(self, *slugs: str) -> None:
        """All of them are looked at and ok."""
        await self.look(*slugs)
        for slug in slugs:
            await self.becomes(slug, "ok")

    async def calm(self) -> None:
        """Nothing pushed waits, and nobody waits for an answer."""

        async def is_so() -> bool:
            waits = "SELECT count(*) FROM pushed"
            asking = "SELECT count(*) FROM states WHERE state->>'askers' IS NOT NULL OR state->>'round' IS NOT NULL"
            return not await self.pool.fetchval(waits) and not await self.pool.fetchval(asking)

        await self.until(is_so)


@contextlib.asynccontextmanager
async def made(database_url: str, nats_url: str) -> AsyncIterator[World]:
    """A world with three regions, a page and a channel that wants to hear all, and nobody in it."""
    pool = await open_pool(database_url)
    await migrate(pool)
    bus = Bus()
    await bus.connect(nats_url, name="test")
    async with transaction(pool) as connection:
        page = await objects.create(connection, ACTOR, "page", None, {"slug": "p", "name": "P"})
    world = World(pool, bus, page)
    for region in REGIONS:
        await world.declare("region", region)
    hook = {"type": "webhook", "url": "http://127.0.0.1:9/hook"}
    await world.declare("channel", "ops", **hook)
    listening = [
        await bus.orders(region, partition, world.probe(region))
        for region in REGIONS
        for partition in range(PARTITIONS)
    ]
    yield world
    for one in listening:
        await one.stop()
    await bus.close()
    await pool.close()


@contextlib.asynccontextmanager
async def evaluated(world: World, holder: str = "one") -> AsyncIterator[Evaluator]:
    """Its catalog is followed, and an evaluator works."""

    def changed(subject_id: UUID, _: Subject | None) -> None:
        evaluator.changed(subject_id)

    catalog = Catalog(world.pool, compile_subject, relations=world.relations, on_change=changed)
    evaluator = Evaluator(
        world.pool,
        world.bus,
        world.clock,
        catalog.entries,
        holder=holder,
        refresh=catalog.refresh,
        public_url=lambda: "http://upbeat.test",
        children=lambda subject_id: world.relations.children.get(subject_id, ()),
    )

    async def holds_all() -> bool:
        return len(evaluator.leases.held) == PARTITIONS

    tasks = [asyncio.create_task(catalog.run())]
    try:
        await catalog.loaded.wait()
        tasks.append(asyncio.create_task(evaluator.run()))
        await world.until(holds_all)
        yield evaluator
    finally:
        for task in reversed(tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
