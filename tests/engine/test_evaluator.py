"""The evaluator on a real PostgreSQL and NATS: results in, rows out, whatever happens in between."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from engine.bus import STREAM, Bus, decode, encode
from engine.catalog import Declared
from engine.clock import SystemClock
from engine.evaluator import Evaluator, Health, Partition
from engine.store import objects, results, reviews, states
from engine.store.audit import Actor
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.ids import derived_id, new_id, partition_of
from engine.store.objects import Stored
from engine.subject import Subject, compile_subject
from evaluators.facts import EpisodeOpened
from evaluators.model import Batch, Failure, Kind, Result, Timings, Verdict
from evaluators.policy import Bound

REGIONS = ["eu", "us", "ap"]
ACTOR = Actor("test", "api")
SPEC: dict[str, Any] = {
    "slug": "shop",
    "type": "tcp",
    "host": "shop.example",
    "port": 443,
    "interval": "10s",
    "channels": ["ops"],
    "components": {"checkout": {}},
    "quorum": {"confirm": None},
}


def subject(beat: Stored, *, paused_until_s: float | None = None) -> Subject:
    declared = Declared(beat.id, "beat", beat.page_id, beat.slug, beat.spec, beat.revision, paused_until_s)
    return compile_subject(declared, Bound(regions=tuple(REGIONS)))


@dataclass
class Lab:
    """One page, one component, one channel, one beat and an evaluator that is running."""

    pool: Pool
    bus: Bus
    clock: SystemClock
    subjects: dict[UUID, Subject]
    beat: Stored
    boot: str = field(default_factory=lambda: str(uuid4()))
    seqs: dict[int, int] = field(default_factory=dict)
    runs: int = 0
    working: Evaluator | None = None

    async def send(self, picture: str) -> None:
        """One batch: a letter a region (`x` critical, `w` warning, `.` ok, `-` nothing)."""
        results = []
        for slug, mark in zip(REGIONS, picture, strict=True):
            if mark != "-":
                results.append(self.result(slug, {"x": "critical", "w": "warning", ".": "ok"}[mark]))
        await self.publish(results)

    def result(self, region: str, verdict: str) -> Result:
        self.runs += 1
        now = self.clock.epoch_s()
        bad = Failure("connect.refused", "nobody listens") if verdict != "ok" else None
        return Result(
            run_id=str(new_id()),
            beat_id=str(self.beat.id),
            region=region,
            kind=Kind.SCHEDULED,
            verdict=Verdict(verdict),
            scheduled_at=now,
            at=now,
            seq=self.runs,
            attempts=1,
            timings=Timings(connect=0.01, total=0.01),
            failure=bad,
            check_version=self.beat.revision,
        )

    async def publish(self, results: Sequence[Result]) -> Batch:
        partition = partition_of(self.beat.id)
        self.seqs[partition] = self.seqs.get(partition, 0) + 1
        batch = Batch(self.boot, self.seqs[partition], partition, self.clock.epoch_s(), tuple(results))
        await self.bus.publish(batch)
        return batch

    async def stage(self) -> str:
        stage: str = await self.pool.fetchval("SELECT stage FROM states WHERE subject_id = $1", self.beat.id)
        return stage

    async def becomes(self, stage: str) -> None:
        await eventually(self.stage, stage)

    async def count(self, table: str) -> int:
        count: int = await self.pool.fetchval(f"SELECT count(*) FROM {table}")
        return count

    async def told(self) -> list[str]:
        rows = await self.pool.fetch("SELECT item->>'told' AS told FROM outbox ORDER BY id")
        return [row["told"] for row in rows]

    def tell(self) -> None:
        """The catalog says that the beat changed."""
        assert self.working is not None
        self.working.changed(self.beat.id)

    async def change(self, spec: dict[str, Any]) -> None:
        async with transaction(self.pool) as connection:
            self.beat = await objects.replace(connection, ACTOR, self.beat, spec)
        self.subjects[self.beat.id] = subject(self.beat)
        self.tell()

    async def bring_down(self) -> None:
        await self.send("...")
        await self.becomes("ok")
        await self.send("xxx")
        await self.send("xxx")
        await self.becomes("critical")

    async def bring_up(self) -> None:
        await self.send("...")
        await self.send("...")
        await self.becomes("ok")

    def evaluator(self, holder: str = "one") -> Evaluator:
        async def refresh(_: object) -> None:
            await asyncio.sleep(0)

        return Evaluator(
            self.pool,
            self.bus,
            self.clock,
            self.subjects,
            holder=holder,
            refresh=refresh,
            public_url=lambda: "http://upbeat.test",
            children=lambda _: (),
        )


async def eventually(
    read: Callable[[], Coroutine[Any, Any, Any]], expected: Any, within_s: float = 10.0
) -> None:
    last = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while (last := await read()) != expected:
                await asyncio.sleep(0.02)
    assert last == expected


@pytest.fixture
async def idle(database_url: str, nats_url: str) -> AsyncIterator[Lab]:
    """The lab with nobody evaluating yet."""
    pool = await open_pool(database_url)
    await migrate(pool)
    bus = Bus()
    await bus.connect(nats_url, name="test")
    await bus._client.jetstream().purge_stream(STREAM)  # what another test left is not this one's
    async with transaction(pool) as connection:
        page = await objects.create(connection, ACTOR, "page", None, {"slug": "p", "name": "P"})
        await objects.create(
            connection, ACTOR, "component", page.id, {"slug": "checkout", "name": "Checkout"}
        )
        channel = {"slug": "ops", "type": "webhook", "url": "http://127.0.0.1:9/hook"}
        await objects.create(connection, ACTOR, "channel", page.id, channel)
        beat = await objects.create(connection, ACTOR, "beat", page.id, SPEC)
    subjects = {beat.id: subject(beat)}
    lab = Lab(pool, bus, SystemClock(), subjects, beat)
    yield lab
    await bus.close()
    await pool.close()


@contextlib.asynccontextmanager
async def running(evaluator: Evaluator) -> AsyncIterator[Evaluator]:
    task = asyncio.create_task(evaluator.run())
    try:
        yield evaluator
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def lab(idle: Lab) -> AsyncIterator[Lab]:
    async with running(idle.evaluator()) as evaluator:
        await eventually(lambda: _held(evaluator), 8)
        idle.working = evaluator
        yield idle


async def _held(evaluator: Evaluator) -> int:
    return len(evaluator.leases.held)


async def test_an_outage_becomes_one_episode_one_draft_and_is_withdrawn_on_recovery(lab: Lab) -> None:
    await lab.bring_down()
    drafts = await lab.pool.fetch("SELECT * FROM actions")
    assert [(d["step"], d["status"], d["title"]) for d in drafts] == [("open", "pending", "Outage: Checkout")]
    assert {e["region"]: e["error"]["type"] for e in drafts[0]["evidence"]} == dict.fromkeys(
        REGIONS, "connect.refused"
    )
    assert await lab.count("incidents") == 0
    await lab.bring_up()
    assert await lab.pool.fetchval("SELECT status FROM actions") == "withdrawn"
    assert await lab.pool.fetchval("SELECT cause FROM episodes") == "recovered"
    assert await lab.told() == ["open", "draft", "recovery"]


async def test_evidence_is_of_now_and_reads_no_old_history(lab: Lab) -> None:
    old = msgspec.structs.replace(lab.result("ap", "critical"), scheduled_at=lab.clock.epoch_s() - 86_400.0)
    async with transaction(lab.pool) as connection:
        await results.insert(connection, [(lab.boot, old.at, old)], old.at)
    for picture in ("..-", "xx-", "xx-"):
        await lab.send(picture)
    await lab.becomes("critical")
    evidence = await lab.pool.fetchval("SELECT evidence FROM actions")
    assert [e["region"] for e in evidence] == ["eu", "us"]


async def test_an_approved_draft_is_published_and_resolved_by_recovery(lab: Lab) -> None:
    await lab.bring_down()
    action = await lab.pool.fetchrow("SELECT * FROM actions")
    assert action is not None
    async with transaction(lab.pool) as connection:
        done = await reviews.approve(connection, ACTOR, action["id"], 1, lab.clock.epoch_s())
    assert done["status"] == "done"
    async with transaction(lab.pool) as connection:
        again = await reviews.approve(connection, Actor("other", "api"), action["id"], 1, lab.clock.epoch_s())
    assert again["decided_by"] == "test"
    await lab.bring_up()
    incident = await lab.pool.fetchrow("SELECT * FROM incidents")
    assert incident is not None
    assert (incident["status"], incident["title"]) == ("resolved", "Outage: Checkout")
    assert await lab.count("updates") == 2


async def test_the_same_batch_delivered_again_is_folded_once(lab: Lab) -> None:
    await lab.send("...")
    await lab.becomes("ok")
    batch = await lab.publish([lab.result("eu", "critical")])
    await lab.bus.publish(batch, repeat=1)
    await lab.bus.publish(batch, repeat=2)
    await lab.send("-..")
    await eventually(lambda: lab.count("results"), 6)
    assert await lab.stage() == "ok"
    state = states.decode_state(await lab.pool.fetchval("SELECT state::text FROM states"))
    assert state.regions["eu"].vote.critical == 1


async def test_a_batch_and_its_repeats_fetched_together_are_folded_once(idle: Lab) -> None:
    batch = await idle.publish([idle.result("eu", "critical")])
    await idle.bus.publish(batch, repeat=1)
    await idle.bus.publish(batch, repeat=2)
    async with running(idle.evaluator()):
        await eventually(lambda: idle.count("results"), 1)
        text = "SELECT coalesce(state->'regions'->'eu'->2->>2, '') FROM states"
        await eventually(lambda: idle.pool.fetchval(text), "1")


async def test_a_minority_is_no_outage(lab: Lab) -> None:
    await lab.send("...")
    for _ in range(4):
        await lab.send("x..")
    await eventually(lambda: lab.count("results"), 15)
    assert await lab.stage() == "ok"
    assert await lab.count("episodes") == 0


async def test_two_evaluators_that_both_believe_they_hold_everything_open_one_episode(idle: Lab) -> None:
    async with running(idle.evaluator("one")) as first:
        await eventually(lambda: _held(first), 8)
        second = idle.evaluator("two")
        async with running(second):
            for unit in range(8):
                second._share({str(unit): None}, frozenset())
            await idle.bring_down()
            await idle.bring_up()
            await idle.bring_down()
    assert await idle.count("episodes") == 2
    assert await idle.count("actions") == 2


async def test_a_message_that_is_no_batch_becomes_a_dead_letter_and_the_partition_goes_on(lab: Lab) -> None:
    js = lab.bus._client.jetstream()
    await js.publish(f"upbeat.results.{partition_of(lab.beat.id)}", b"\x00 no batch")
    await lab.send("...")
    await lab.becomes("ok")
    assert await lab.count("dead_letters") == 1


async def test_a_result_the_database_refuses_is_buried_alone(lab: Lab) -> None:
    poison = lab.result("eu", "ok")
    await lab.publish(
        [Result(**{f: getattr(poison, f) for f in poison.__struct_fields__} | {"run_id": "no uuid"})]
    )
    await lab.send("...")
    await lab.becomes("ok")
    await eventually(lambda: lab.count("dead_letters"), 1)


async def test_a_zero_byte_in_what_a_target_said_costs_nobody_a_result(lab: Lab) -> None:
    said = msgspec.structs.replace(lab.result("eu", "critical"), failure=Failure("status", "HTTP 500 a\0b"))
    await lab.publish([said, lab.result("us", "ok"), lab.result("ap", "ok")])
    await lab.becomes("ok")
    kept = "SELECT failure_message FROM results WHERE region = 'eu'"
    assert await lab.pool.fetchval(kept) == "HTTP 500 a\ufffdb"
    assert await lab.count("dead_letters") == 0


async def test_who_folded_a_stale_state_loads_it_again_and_loses_no_result(lab: Lab) -> None:
    await lab.send("...")
    await lab.becomes("ok")
    await lab.send("xxx")
    await eventually(lambda: lab.count("results"), 6)
    async with transaction(
        lab.pool
    ) as connection:  # what another evaluator does meanwhile: it opens the episode
        opened = EpisodeOpened(lab.clock.epoch_s(), 1, "critical")
        await reviews.open_episodes(connection, [(lab.beat, opened)])
        await connection.execute(
            "UPDATE states SET version = version + 1, stage = 'critical', state = (state::jsonb || $1)::json",
            {"stage": "critical", "critical": True, "warning": True, "severity": "critical", "episodes": 1},
        )
    await lab.send("xxx")
    await eventually(lambda: lab.count("results"), 9)
    assert await lab.count("dead_letters") == 0
    assert lab.working is not None
    assert lab.working.health.conflicts == 1


async def test_a_beat_that_cannot_be_judged_stops_no_other(idle: Lab) -> None:
    broken = idle.beat
    async with transaction(idle.pool) as connection:
        assert idle.beat.page_id is not None
        while partition_of(idle.beat.id) != partition_of(broken.id) or idle.beat is broken:
            spec = {**SPEC, "slug": f"shop-{idle.runs}"}
            idle.runs += 1
            idle.beat = await objects.create(connection, ACTOR, "beat", idle.beat.page_id, spec)
        await connection.execute(
            'UPDATE objects SET spec = \'{"type": "of another version"}\', removed_at = now() WHERE id = $1',
            broken.id,
        )
    idle.subjects = {idle.beat.id: subject(idle.beat)}
    async with running(idle.evaluator()) as evaluator:
        await eventually(lambda: _held(evaluator), 8)
        await idle.send("...")
        await idle.becomes("ok")
    assert await idle.count("dead_letters") == 0


async def test_a_partition_that_works_says_nothing_of_one_that_does_not(idle: Lab) -> None:
    health = Health()
    stuck, fine = (
        Partition(
            number,
            idle.pool,
            idle.bus,
            idle.clock,
            idle.subjects,
            health,
            refresh=lambda _: asyncio.Event().wait(),
            public_url=str,
            children=lambda _: (),
        )
        for number in (0, 1)
    )
    stuck._say("it waits")
    fine._say(None)
    assert health.trouble == "it waits"
    stuck._say(None)
    assert health.trouble is None


async def test_who_takes_over_with_an_older_view_of_a_beat_looks_again_before_it_judges(idle: Lab) -> None:
    async with running(idle.evaluator()) as first:
        await eventually(lambda: _held(first), 8)
        idle.working = first
        await idle.bring_down()
        known = dict(idle.subjects)
        await idle.change(SPEC | {"host": "other.example"})
        query = "SELECT revision FROM states"
        await eventually(lambda: idle.pool.fetchval(query), 2)
    changes = await idle.count("facts WHERE fact->>'type' = 'PolicyChanged'")
    newest, idle.subjects = idle.subjects, known
    second = idle.evaluator("two")

    async def refresh(_: object) -> None:
        known.update(newest)

    second._refresh = refresh

    async def has_looked() -> bool:
        partition = second._partitions.get(partition_of(idle.beat.id))
        return partition is not None and bool(partition._held) and not partition.dirty

    async with running(second):
        await eventually(has_looked, True)
        for _ in range(2):
            await idle.send("...")
        await idle.becomes("ok")
    assert await idle.pool.fetchval(query) == 2
    assert await idle.count("facts WHERE fact->>'type' = 'PolicyChanged'") == changes


async def test_who_returns_writes_down_since_when_nobody_looked(idle: Lab) -> None:
    partition = Partition(
        7,
        idle.pool,
        idle.bus,
        idle.clock,
        idle.subjects,
        Health(),
        refresh=lambda _: asyncio.Event().wait(),
        public_url=str,
        children=lambda _: (),
    )
    partition.returned(90.0)
    async with asyncio.TaskGroup() as group:
        working = group.create_task(partition.run())
        while not (rows := await idle.pool.fetch("SELECT * FROM absences WHERE partition = 7")):
            await asyncio.sleep(0.01)
        working.cancel()
    (row,) = rows
    assert (row["returned_at"] - row["left_at"]).total_seconds() == pytest.approx(90.0)
    assert row["returned_at"].timestamp() == pytest.approx(partition.returned_at)


async def test_silence_is_unknown_and_opens_nothing(lab: Lab) -> None:
    await lab.change(
        {**SPEC, "interval": "1s", "timeout": "500ms", "quorum": {"max_age": "1s", "confirm": None}}
    )
    await lab.send("...")
    await lab.becomes("ok")
    await lab.becomes("unknown")
    assert await lab.count("episodes") == 0
    assert await lab.told() == ["unknown"]


async def test_a_beat_that_nobody_ever_answers_for_is_told_as_silent_once(lab: Lab) -> None:
    await eventually(lambda: lab.pool.fetchval("SELECT state->>'held_until' IS NOT NULL FROM states"), True)
    await lab.change({**SPEC, "interval": "1s", "timeout": "500ms", "quorum": {"max_age": "1s"}})
    await eventually(lab.told, ["unknown"])
    assert await lab.stage() == "unknown"
    await lab.send("...")
    await lab.becomes("ok")
    await eventually(lab.told, ["unknown", "recovery"])


async def test_of_a_poisoned_batch_only_the_poison_is_buried(lab: Lab) -> None:
    poison = msgspec.structs.replace(lab.result("eu", "ok"), run_id="no uuid")
    await lab.publish([lab.result("us", "ok"), poison, lab.result("ap", "ok")])
    await lab.becomes("ok")
    await eventually(lambda: lab.count("dead_letters"), 1)
    await eventually(lambda: lab.pool.fetchval("SELECT count(*) FROM watermarks WHERE seq = 1"), 1)
    assert await lab.count("results") == 2


async def test_a_removed_beat_ends_its_episode_as_removed_and_leaves_a_resolve_draft(lab: Lab) -> None:
    await lab.bring_down()
    action = await lab.pool.fetchval("SELECT id FROM actions")
    async with transaction(lab.pool) as connection:
        await reviews.approve(connection, ACTOR, action, 1, lab.clock.epoch_s())
    async with transaction(lab.pool) as connection:
        await objects.remove(connection, ACTOR, lab.beat)
    del lab.subjects[lab.beat.id]
    lab.tell()
    await eventually(lambda: lab.pool.fetchval("SELECT cause FROM episodes"), "removed")
    assert await lab.pool.fetchval("SELECT status FROM incidents") == "investigating"
    assert await lab.pool.fetchval("SELECT status FROM actions WHERE step = 'resolve'") == "pending"


async def test_a_paused_beat_freezes_its_episode_and_withdraws_its_draft(lab: Lab) -> None:
    await lab.bring_down()
    lab.subjects[lab.beat.id] = subject(lab.beat, paused_until_s=math.inf)
    lab.tell()
    await eventually(lambda: lab.pool.fetchval("SELECT frozen FROM episodes"), True)
    assert await lab.pool.fetchval("SELECT status FROM actions") == "withdrawn"
    assert await lab.pool.fetchval("SELECT closed_at FROM episodes") is None


async def test_the_resolve_draft_of_a_paused_beat_waits_while_its_episode_is_open(lab: Lab) -> None:
    await lab.bring_down()
    action = await lab.pool.fetchval("SELECT id FROM actions")
    async with transaction(lab.pool) as connection:
        await reviews.approve(connection, ACTOR, action, 1, lab.clock.epoch_s())
    lab.subjects[lab.beat.id] = subject(lab.beat, paused_until_s=math.inf)
    lab.tell()
    draft = "SELECT status FROM actions WHERE step = 'resolve'"
    await eventually(lambda: lab.pool.fetchval(draft), "pending")
    await lab.pool.execute("UPDATE actions SET expires_at = now() - interval '1 s' WHERE step = 'resolve'")
    async with transaction(lab.pool) as connection:
        assert await reviews.expire(connection, lab.clock.epoch_s()) == 0
    await lab.pool.execute("UPDATE episodes SET closed_at = now()")
    async with transaction(lab.pool) as connection:
        assert await reviews.expire(connection, lab.clock.epoch_s()) == 1


async def test_a_pause_with_an_end_is_over_by_itself(lab: Lab) -> None:
    await lab.bring_down()
    until_s = lab.clock.epoch_s() + 2.0
    lab.subjects[lab.beat.id] = subject(lab.beat, paused_until_s=until_s)
    lab.tell()
    await eventually(lambda: lab.pool.fetchval("SELECT frozen FROM episodes"), True)
    suspended = "SELECT coalesce((state->>'suspended')::bool, false) FROM states"
    await eventually(lambda: lab.pool.fetchval(suspended), False)
    await lab.bring_up()
    assert await lab.pool.fetchval("SELECT cause FROM episodes") == "recovered"


async def test_a_batch_committed_by_a_killed_evaluator_is_not_folded_again_by_the_next(idle: Lab) -> None:
    async with running(idle.evaluator("one")):
        await idle.bring_down()
    async with running(idle.evaluator("two")):
        await idle.bring_up()
    assert await idle.count("episodes") == 1
    assert await idle.pool.fetchval("SELECT count(*) FROM watermarks WHERE seq = 5") == 1


def test_a_batch_is_the_same_after_the_wire() -> None:
    beat = derived_id("beat")
    result = Result(
        str(new_id()), str(beat), "eu", Kind.MANUAL, Verdict.ERROR, 1.0, 2.0, 3, 0, Timings(), stored=False
    )
    batch = Batch(str(uuid4()), 1, 2, 3.0, (result,))
    assert decode(encode(batch)) == batch
