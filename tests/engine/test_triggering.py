"""Events judged live, on a real PostgreSQL and NATS: each once in effect, whoever else is at it and whatever is edited meanwhile."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from engine import triggering
from engine.listening import keep_listening
from engine.store import events, inboxes, objects, pings, pushed, triggers
from engine.store.database import transaction
from engine.store.ids import PARTITIONS, new_id, partition_of, show
from engine.store.inboxes import Delivery
from engine.store.objects import Stored
from engine.triggering import Triggering
from evaluators.event import Document, Event, read
from evaluators.trigger import Course, Head, Outcome
from rules.trigger import Trigger
from tests.engine.world import ACTOR, World, evaluated, made

DOWN = {"value": "$.state", "eq": "down"}
WARN = {"value": "$.state", "eq": "slow"}
UP = {"value": "$.state", "eq": "up"}
RULE: dict[str, Any] = {
    "inbox": "in",
    "enabled": True,
    "critical": DOWN,
    "warning": WARN,
    "recovery": UP,
    "fingerprint": "{$.host}",
    "target": {"external": "ext"},
}


@pytest.fixture
async def world(database_url: str, nats_url: str) -> AsyncIterator[World]:
    async with made(database_url, nats_url) as world:
        await world.declare("inbox", "in")
        listener = asyncio.create_task(keep_listening(world.pool))
        yield world
        listener.cancel()


@contextlib.asynccontextmanager
async def judging(world: World, holder: str = "one") -> AsyncIterator[Triggering]:
    """All partitions of inboxes are worked."""
    worker = Triggering(world.pool, world.bus, holder=holder)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def trigger(world: World, slug: str = "t", **spec: Any) -> Stored:
    rule = {key: value for key, value in (RULE | spec).items() if value is not None}
    async with transaction(world.pool) as connection:
        target = Trigger.model_validate({"slug": slug, **rule}).target
        await triggers.expect_target(connection, ACTOR, world.page.id, target)
    return await world.declare("trigger", slug, **rule)


def delivery(world: World, body: object, at: float | None = None, inbox: str = "in", **more: Any) -> Delivery:
    sent = body if isinstance(body, bytes) else msgspec.json.encode(body)
    at = world.clock.epoch_s() if at is None else at
    return Delivery(new_id(), world.declared[inbox].id, at, "192.0.2.1", [], "", sent, **more)


async def post(world: World, *bodies: object, **more: Any) -> list[UUID]:
    """Deliveries, in this order."""
    sent = [delivery(world, body, **more) for body in bodies]
    async with transaction(world.pool) as connection:
        kept = await inboxes.put(connection, sent)
    for number in inboxes.partitions(one.inbox_id for one in sent):
        await world.bus.announce(f"{inboxes.SUBJECT}.{number}", str(number).encode())
    return [one.event_id for one in kept]


def says(host: str, state: str) -> dict[str, str]:
    return {"host": host, "state": state}


async def beat(world: World, slug: str) -> Stored:
    async with world.pool.acquire() as connection:
        return await objects.find(connection, "beat", slug)


async def open_signals(world: World) -> list[tuple[str, str, str]]:
    """Beat or group, fingerprint and severity of each."""
    rows = await world.pool.fetch(
        "SELECT o.slug, s.fingerprint, s.severity FROM signals s JOIN objects o ON o.id = s.subject_id ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def judged(world: World) -> list[tuple[str, list[Outcome]]]:
    rows = await world.pool.fetch("SELECT verdict, outcomes::text FROM judged ORDER BY position")
    return [
        (
            row["verdict"],
            [
                outcome
                for one in msgspec.json.decode(row["outcomes"], type=dict[str, events.ByTrigger]).values()
                for outcome in one.outcomes
            ],
        )
        for row in rows
    ]


async def settled(world: World) -> None:
    """Nothing waits to be judged or folded."""

    async def is_so() -> bool:
        waits = "SELECT (SELECT count(*) FROM arrivals) + (SELECT count(*) FROM pushed)"
        return not await world.pool.fetchval(waits)

    await world.until(is_so)


async def becomes(world: World, *expected: tuple[str, str, str]) -> None:
    async def is_so() -> bool:
        return await open_signals(world) == list(expected)

    try:
        await world.until(is_so)
    except TimeoutError:
        assert await open_signals(world) == list(expected)


async def told(world: World, stored: Stored) -> list[tuple[str | None, bool]]:
    """Severity and carefulness of what a beat was told by triggers, in order."""
    rows = await world.pool.fetch(
        "SELECT fact->>'severity' AS severity, fact->>'careful' = 'true' AS careful FROM facts "
        "WHERE subject_id = $1 AND fact->>'type' = 'SignalChanged' ORDER BY position",
        stored.id,
    )
    return [(row["severity"], bool(row["careful"])) for row in rows]


async def test_a_signal_opens_an_episode_on_a_beat_a_group_or_an_external_beat_and_only_its_own_recovery_ends_it(
    world: World,
) -> None:
    await world.beat("web")
    await world.declare("group", "shop")
    await trigger(world, "a", target={"beat": "web"})
    await trigger(world, "b", target={"group": "shop"}, message="{$.host} is {$.state}")
    await trigger(world, "c")
    async with evaluated(world), judging(world):
        (event_id, _) = await post(world, says("x", "down"), says("y", "slow"))
        both = [
            (slug, host, severity)
            for slug in ("ext", "shop", "web")
            for host, severity in (("x", "critical"), ("y", "warning"))
        ]
        await becomes(world, *both)
        row = await world.pool.fetchrow(
            "SELECT s.* FROM signals s JOIN objects o ON o.id = s.subject_id WHERE o.slug = 'shop' AND fingerprint = 'x'"
        )
        assert row is not None
        assert row["source"] == str(world.declared["b"].id)
        assert (row["message"], row["by"]) == ("x is down", "b")
        assert row["evidence"]["event"] == show("event", event_id)
        assert sorted(await world.episodes()) == [("ext", None), ("shop", None), ("web", None)]
        await post(world, says("z", "up"), says("x", "up"), says("y", "up"))
        await becomes(world)
        assert sorted(owner for owner, cause in await world.episodes() if cause == "recovered") == [
            "ext",
            "shop",
        ]
        assert [verdict for verdict, _ in await judged(world)] == [
            "matched",
            "matched",
            "ignored",
            "matched",
            "matched",
        ]
        (held,) = [one for one in await load(world) if one.slug == "c"]
    tally = held.tally
    assert (tally.matches, tally.opened, tally.resolved) == (4, 2, 2)
    assert (tally.real_firings, tally.real_recoveries) == (2, 2)


async def load(world: World) -> list[triggers.Held]:
    async with world.pool.acquire() as connection:
        ids = [row["trigger_id"] for row in await connection.fetch("SELECT trigger_id FROM trigger_states")]
        return await triggers.load(connection, ids)


async def test_events_without_triggers_and_of_removed_inboxes_are_judged_and_those_that_are_not_enabled_open_nothing(
    world: World,
) -> None:
    await world.declare("inbox", "idle")
    await post(world, says("x", "down"), inbox="idle")
    await world.remove("idle")
    await trigger(world, enabled=False)
    async with evaluated(world), judging(world) as worker:
        await post(world, {"state": "down"}, says("x", "down"))
        await settled(world)
        assert sorted(verdict for verdict, _ in await judged(world)) == ["error", "ignored", "unmatched"]
        assert await open_signals(world) == []
        assert worker.health.verdicts["p", "in", "ignored"] == 1


async def test_what_is_fired_by_hand_is_no_proof(world: World) -> None:
    await trigger(world)
    async with evaluated(world), judging(world):
        await post(world, says("x", "down"), says("x", "up"), tested_by="me")
        await settled(world)
        (held,) = await load(world)
        assert (held.tally.opened, held.tally.resolved) == (1, 1)
        assert (held.tally.real_firings, held.tally.real_recoveries) == (0, 0)


async def test_workers_that_all_believe_in_a_partition_and_are_cut_off_have_one_effect(world: World) -> None:
    await trigger(world, repeats={"count": 2, "within": "1h"})
    chance = random.Random(5)
    stream = [says(f"h{chance.randrange(4)}", chance.choice(["down", "up"])) for _ in range(120)]
    async with evaluated(world), judging(world, "one") as one:

        async def holds_all() -> bool:
            return len(one.leases.held) == PARTITIONS

        await world.until(holds_all)
        others = [Triggering(world.pool, world.bus, holder="two") for _ in range(2)]
        partition = partition_of(world.declared["in"].id)
        for at in range(0, len(stream), 6):
            await post(world, *stream[at : at + 6])
            cut_off = [
                asyncio.create_task(
                    triggering.Partition(partition, world.pool, world.bus, other.health).run()
                )
                for other in others
            ]
            await asyncio.sleep(chance.uniform(0.0, 0.05))
            for task in cut_off:
                task.cancel()
        await settled(world)
        assert len(await judged(world)) == len(stream)
        assert await world.pool.fetchval("SELECT count(DISTINCT event_id) FROM judged") == len(stream)
        await agree(world)


async def agree(world: World) -> None:
    """What is remembered, and what was made of each event, is what a course makes that is driven over what was judged."""
    for held in await load(world):
        rule = Trigger.model_validate(held.spec)
        began_at = await world.pool.fetchval("SELECT min(at) FROM judged")
        course = Course(rule, Head(), {})
        course.switch(began_at, enabled=rule.enabled)
        rows = await world.pool.fetch(
            "SELECT j.at, j.event_id, j.is_repeat, j.outcomes::text, e.body, extract(epoch FROM e.received_at)::float8 AS received "
            "FROM judged j JOIN events e ON e.id = j.event_id WHERE j.inbox_id = $1 ORDER BY j.position",
            held.inbox_id,
        )
        for row in rows:
            event = Event(show("event", row["event_id"]), row["received"], (), "", row["body"])
            _, outcomes, _ = course.see(row["at"], event.id, read(event), is_repeat=row["is_repeat"])
            kept = msgspec.json.decode(row["outcomes"], type=dict[str, events.ByTrigger])
            mine = kept.get(str(held.trigger_id))
            assert (mine.outcomes if mine else []) == [o for o in outcomes if o.reason != "unmatched"]
        course.pass_time(held.head.at)
        assert course.keys == held.keys
        assert msgspec.structs.replace(course.head, enabled_at=0.0) == msgspec.structs.replace(
            held.head, enabled_at=0.0, at=course.head.at
        )


async def test_a_backlog_is_judged_in_order_and_as_its_course_would_be(world: World) -> None:
    chance = random.Random(7)
    hosts = [f"h{n}" for n in range(20)]
    now = world.clock.epoch_s()
    sent = [
        delivery(
            world, says(chance.choice(hosts), chance.choice(["down", "slow", "up", "odd"])), at=now - 4000 + n
        )
        for n in range(1200)
    ]
    async with transaction(world.pool) as connection:
        await inboxes.put(connection, sent)
    await trigger(world, "a", **{"for": "30s"}, cooldown="1m")
    await trigger(world, "b", silence="2m", expires="10m", target={"external": "other"})
    async with evaluated(world), judging(world):
        await settled(world)
    rows = await world.pool.fetch("SELECT event_id, at FROM judged ORDER BY position")
    assert [row["event_id"] for row in rows] == [one.id for one in sent]
    assert [row["at"] for row in rows] == [pytest.approx(one.at) for one in sent]
    await agree(world)


async def test_silence_and_expiry_end_signals_and_absence_is_one_until_the_next_event(world: World) -> None:
    now = world.clock.epoch_s()
    await post(world, says("x", "down"), at=now - 3600)
    await trigger(world, "quiet", silence="5m")
    await trigger(
        world,
        "missing",
        critical=None,
        warning=None,
        recovery=None,
        absence={"after": "10m"},
        target={"external": "job"},
    )
    async with evaluated(world), judging(world):
        await becomes(world, ("job", "", "critical"))
        await settled(world)
        quiet = await beat(world, "ext")
        assert await told(world, quiet) == [("critical", False), (None, False)]
        assert [cause for owner, cause in await world.episodes() if owner == "ext"] == ["recovered"]
        await post(world, says("x", "odd"))
        await becomes(world)


async def test_what_nobody_could_hear_is_no_silence(world: World) -> None:
    now = world.clock.epoch_s()
    await post(world, says("x", "down"), at=now - 3600)
    await world.pool.execute(
        "INSERT INTO deafness VALUES (to_timestamp($1), to_timestamp($2))", now - 3580, now - 20
    )
    await trigger(world, silence="1m")
    async with evaluated(world), judging(world):
        await becomes(world, ("ext", "x", "critical"))
        await asyncio.sleep(0.5)
        assert await open_signals(world) == [("ext", "x", "critical")]
    (held,) = await load(world)
    assert held.head.heard_from == pytest.approx(now - 20)


async def test_while_nobody_listens_what_is_held_opens_and_what_is_open_expires_but_nothing_is_silent(
    database_url: str, nats_url: str
) -> None:
    async with made(database_url, nats_url) as world:
        await world.declare("inbox", "in")
        now = world.clock.epoch_s()
        await world.pool.execute("UPDATE listening SET at = to_timestamp($1)", now - 90)
        await post(world, says("x", "down"), at=now - 100)
        await trigger(world, "held", **{"for": "30s"}, target={"external": "held"})
        await trigger(world, "brief", expires="1m", target={"external": "brief"})
        await trigger(world, "quiet", silence="40s", target={"external": "quiet"})
        async with evaluated(world), judging(world):
            await becomes(world, ("held", "x", "critical"), ("quiet", "x", "critical"))
            await settled(world)
            assert await told(world, await beat(world, "brief")) == [("critical", False), (None, False)]


async def test_an_event_from_a_clock_that_is_ahead_makes_none_of_the_others_silent(world: World) -> None:
    await trigger(world, silence="1m")
    async with evaluated(world), judging(world):
        await post(world, says("x", "down"))
        await post(world, says("y", "down"), at=world.clock.epoch_s() + 3600)
        await becomes(world, ("ext", "x", "critical"), ("ext", "y", "critical"))
        assert (None, False) not in await told(world, await beat(world, "ext"))


async def test_who_ends_a_signal_makes_none_silent_whose_events_wait_to_be_judged(world: World) -> None:
    stored = await trigger(world, silence="1m")
    now = world.clock.epoch_s()
    async with evaluated(world):
        async with judging(world):
            await post(world, says("x", "down"), says("y", "down"))
            await becomes(world, ("ext", "x", "critical"), ("ext", "y", "critical"))
        await post(world, says("y", "down"))
        async with transaction(world.pool) as connection:
            assert await triggers.end(connection, ACTOR, stored, "x", now + 3600)
        async with judging(world):
            await becomes(world, ("ext", "y", "critical"))
            await settled(world)
            assert await told(world, await beat(world, "ext")) == [("critical", False)] * 2 + [(None, False)]


async def test_a_time_without_listeners_is_kept(world: World) -> None:
    async with transaction(world.pool) as connection:
        await connection.execute("UPDATE listening SET at = at - interval '1 hour'")
        await pings.listen(connection)
        (deaf,) = await events.deafness(connection, world.clock.epoch_s() - 60)
        assert 3590 < deaf.ended_at - deaf.began_at < 3700


async def test_each_fingerprint_has_a_beat_up_to_the_cap_and_the_rest_share_the_base(world: World) -> None:
    await trigger(world, target={"external": "ext", "per_fingerprint": 2})
    async with evaluated(world), judging(world):
        await post(world, says("Büro 1 / db", "down"), says("b", "down"), says("c", "down"))
        await settled(world)
        found = await open_signals(world)
        assert [(slug.rpartition("-")[0], name) for slug, name, _ in found] == [
            ("", "c"),
            ("ext-b", "b"),
            ("ext-b-ro-1-db", "Büro 1 / db"),
        ]
        (verdict, outcomes) = (await judged(world))[2]
        assert verdict == "matched"
        assert outcomes[0].reason.startswith("on ext:")
        own = await beat(world, next(slug for slug, name, _ in found if name == "b"))
        assert (own.spec["type"], own.spec["name"], own.managed_by) == ("external", "b", "api")
        await post(world, says("b", "up"), says("c", "up"), says("b", "down"))
        await becomes(world, (own.slug, "b", "critical"), *(one for one in found if one[1].startswith("B")))


async def test_edits_end_what_was_open_under_another_rule_carefully_and_keep_the_rest(world: World) -> None:
    await trigger(world)
    async with evaluated(world), judging(world):
        await post(world, says("x", "down"))
        await becomes(world, ("ext", "x", "critical"))
        ext = await beat(world, "ext")
        await world.change("t", name="Another name", cooldown="1m")
        await post(world, says("y", "down"))
        await becomes(world, ("ext", "x", "critical"), ("ext", "y", "critical"))
        await world.change("t", enabled=False)
        await post(world, says("z", "down"), says("y", "up"))
        await becomes(world, ("ext", "x", "critical"))
        assert not any(careful for _, careful in await told(world, ext))
        await world.change("t", enabled=True, fingerprint="{$.host}!")
        await becomes(world)
        assert (await told(world, ext))[-1] == (None, True)
        await post(world, says("x", "down"))
        await becomes(world, ("ext", "x!", "critical"))
        await world.beat("web")
        await world.change("t", target={"beat": "web"})
        await becomes(world)
        await post(world, says("x", "down"))
        await becomes(world, ("web", "x!", "critical"))
        await world.remove("t")
        await becomes(world)
        assert (await told(world, world.declared["web"]))[-1] == (None, True)
        assert await world.pool.fetchval("SELECT count(*) FROM trigger_keys") == 0
        await post(world, says("x", "down"))
        await settled(world)
        assert (await judged(world))[-1][0] == "unmatched"


async def test_a_trigger_that_moves_to_an_inbox_of_another_partition_takes_nothing_along(
    world: World,
) -> None:
    while True:
        other = await world.declare("inbox", f"in-{uuid4().hex[:8]}")
        if partition_of(other.id) != partition_of(world.declared["in"].id):
            break
    await trigger(world)
    async with evaluated(world), judging(world):
        await post(world, says("x", "down"))
        await becomes(world, ("ext", "x", "critical"))
        await world.change("t", inbox=other.slug)
        await becomes(world)
        await post(world, says("x", "down"))
        await post(world, says("y", "down"), inbox=other.slug)
        await becomes(world, ("ext", "y", "critical"))


async def test_a_draft_names_all_triggers_that_it_rests_on_however_many_signals_they_have(
    world: World,
) -> None:
    await world.declare("group", "shop", quorum={"critical": 1, "warning": 1})
    await world.declare("beat", "web", type="external", group="shop")
    await world.declare("beat", "db", type="external", group="shop")
    for slug, on in (("a", "web"), ("b", "web"), ("c", "db")):
        await trigger(world, slug, when={"value": "$.on", "eq": on}, target={"beat": on})

    async def named() -> set[UUID]:
        rows = await world.pool.fetch("SELECT triggers FROM actions WHERE status = 'pending'")
        return {one for row in rows for one in row["triggers"]}

    async def shows(*slugs: str) -> None:
        async def is_so() -> bool:
            return await named() == {world.declared[slug].id for slug in slugs}

        await world.until(is_so)

    async with evaluated(world), judging(world):
        await post(world, *({"on": "web", **says(f"host {n}", "slow")} for n in range(30)))
        await shows("a", "b")
        await post(world, {"on": "db", **says("x", "down")})
        await shows("a", "b", "c")


async def test_an_inbox_and_its_trigger_removed_and_made_again_of_the_same_names_share_nothing_with_the_old_ones(
    world: World,
) -> None:
    await trigger(world)
    async with evaluated(world), judging(world):
        await post(world, says("x", "down"))
        await becomes(world, ("ext", "x", "critical"))
        await world.remove("t")
        await world.remove("in")
        await world.declare("inbox", "in")
        await trigger(world)
        await becomes(world)
        assert (await told(world, await beat(world, "ext")))[-1] == (None, True)
        await post(world, says("x", "up"), says("y", "down"))
        await becomes(world, ("ext", "y", "critical"))
        assert [verdict for verdict, _ in await judged(world)] == ["matched", "ignored", "matched"]


async def test_beats_of_fingerprints_may_be_shared_removed_and_grouped_while_signals_are_open(
    world: World,
) -> None:
    for slug in ("a", "b"):
        await trigger(world, slug, target={"external": "ext", "per_fingerprint": 3})
    async with evaluated(world), judging(world):
        await post(world, says("x/1", "down"), says("x-1", "down"))
        await settled(world)
        found = await open_signals(world)
        assert [name for _, name, _ in found] in (["x-1"] * 2 + ["x/1"] * 2, ["x/1"] * 2 + ["x-1"] * 2)
        assert len({slug for slug, _, _ in found}) == 2
        for slug in {slug for slug, _, _ in found}:
            world.declared[slug] = await beat(world, slug)
        (kept, gone) = ({slug for slug, name, _ in found if name == host}.pop() for host in ("x/1", "x-1"))
        await world.declare("group", "shop")
        await world.change(kept, group="shop")
        await world.remove(gone)
        await post(world, says("x/1", "up"), says("x-1", "up"))
        await becomes(world)
        await post(world, says("x-1", "down"))
        await becomes(world, (gone, "x-1", "critical"), (gone, "x-1", "critical"))
        assert (await beat(world, gone)).id != world.declared[gone].id
        assert await world.stage(kept) == "ok"


async def test_auto_counts_once_promoted_and_only_for_the_rule_that_was(world: World) -> None:
    stored = await trigger(world, incidents={"open": "auto", "update": "off", "resolve": "auto"})

    async def allowed() -> list[Any]:
        text = await world.pool.fetchval(
            "SELECT fact->'modes' FROM facts WHERE fact->>'type' = 'SignalChanged' ORDER BY position DESC LIMIT 1"
        )
        return list(text)

    async with evaluated(world), judging(world):
        await post(world, says("x", "down"))
        await becomes(world, ("ext", "x", "critical"))
        assert await allowed() == ["draft", "off", "draft"]
        digest = Trigger.model_validate(stored.spec).digest
        async with transaction(world.pool) as connection:
            await triggers.promote(connection, ACTOR, stored, {"rule": digest, "steps": ["open"]})
        await post(world, says("y", "down"))
        await becomes(world, ("ext", "x", "critical"), ("ext", "y", "critical"))
        assert await allowed() == ["auto", "off", "draft"]
        await post(world, says("z", "down"), tested_by="me")
        await becomes(world, *(("ext", host, "critical") for host in "xyz"))
        assert await allowed() == ["draft", "off", "draft"]  # what is fired by hand is nobody's outage
        await world.change("t", cooldown="1m")

        async def is_draft() -> bool:
            return await allowed() == ["draft", "off", "draft"]

        await world.until(is_draft)


async def test_a_person_ends_a_signal_whatever_is_in_memory(world: World) -> None:
    stored = await trigger(world)
    async with evaluated(world), judging(world) as worker:
        await post(world, says("x", "down"))
        await becomes(world, ("ext", "x", "critical"))
        async with transaction(world.pool) as connection:
            assert await triggers.end(connection, ACTOR, stored, "nothing", world.clock.epoch_s()) == set()
            told = await triggers.end(connection, ACTOR, stored, "x", world.clock.epoch_s())
        for number in told:
            await world.bus.announce(f"{pushed.SUBJECT}.{number}", str(number).encode())
        await becomes(world)
        await post(world, says("x", "slow"))
        await becomes(world, ("ext", "x", "warning"))
        assert worker.health.conflicts == 1


async def test_an_event_that_nobody_can_judge_is_a_dead_letter_and_the_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(event: Event) -> Document:
        if b"poison" in event.body:
            raise ZeroDivisionError
        return read(event)

    monkeypatch.setattr(triggering, "read", stumbles)
    await trigger(world)
    async with evaluated(world), judging(world) as worker:
        await post(world, says("x", "down"), says("poison", "down"), says("y", "down"))
        await becomes(world, ("ext", "x", "critical"), ("ext", "y", "critical"))
        assert [verdict for verdict, _ in await judged(world)] == ["matched", "error", "matched"]
        row = await world.pool.fetchrow("SELECT * FROM dead_letters")
        assert row is not None
        assert row["payload"] == msgspec.json.encode(says("poison", "down"))
        assert "ZeroDivisionError" in row["error"]
        assert worker.health.dead_letters == 1


async def test_a_repeat_of_a_body_is_judged_as_one(world: World) -> None:
    await world.change("in", same_body="1h")
    await trigger(world)
    async with evaluated(world), judging(world):
        await post(world, says("x", "down"), same_body_s=3600.0)
        await post(world, says("x", "down"), same_body_s=3600.0)
        await settled(world)
        rows = await world.pool.fetch("SELECT is_repeat, event_id FROM judged ORDER BY position")
        assert [row["is_repeat"] for row in rows] == [False, True]
        assert rows[0]["event_id"] == rows[1]["event_id"]


async def test_an_external_target_that_is_another_kind_of_beat_is_refused(world: World) -> None:
    await world.beat("web")
    with pytest.raises(ValueError, match="'web' is there already and of type tcp"):
        await trigger(world, target={"external": "web"})
