"""Previews on a real PostgreSQL and NATS: what is found, that nothing else comes of it, and that they end when they must."""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine import preview
from engine.jobs import Jobs
from engine.store import events, inboxes, jobs
from engine.store.database import Row, transaction
from engine.store.ids import show
from engine.store.previews import Plan, Sample
from engine.worker import Order
from evaluators.trigger import Outcome
from tests.engine.test_triggering import delivery, judging, post, trigger
from tests.engine.world import World, evaluated, made
from tests.rig.process import REPO

BEGAN = 1_760_000_000.0
RULE: dict[str, Any] = {
    "slug": "checkout",
    "inbox": "in",
    "critical": {"value": "$.status", "eq": "firing"},
    "warning": {"value": "$.status", "eq": "slow"},
    "recovery": {"value": "$.status", "eq": "resolved"},
    "fingerprint": "{$.host}",
    "message": "{$.host} {$.password}",
    "target": {"external": "outside"},
}
SEARCH = {"any": [{"value": "$..c", "gt": 1_000_000 + n} for n in range(50)]}
"""As much as a rule may ask for."""
MANY = 80
LARGE = {"a": [{"b": [{"c": n, "t": "a" * 200} for n in range(30)]} for _ in range(35)]}


@pytest.fixture
async def world(database_url: str, nats_url: str) -> AsyncIterator[World]:
    async with made(database_url, nats_url) as world:
        await world.declare("inbox", "in")
        yield world


@pytest.fixture
async def running(world: World, database_url: str) -> AsyncIterator[Jobs]:
    running = Jobs(world.pool, lambda: database_url)
    yield running
    await running.close()


async def stored(world: World, *bodies: Any, apart_s: float = 60.0) -> list[str]:
    """Events that nobody has judged yet."""
    put = [delivery(world, body, BEGAN + apart_s * n) for n, body in enumerate(bodies)]
    async with transaction(world.pool) as connection:
        await inboxes.put(connection, put)
    return [show("event", one.id) for one in put]


def says(status: str, host: str = "a", **more: Any) -> dict[str, Any]:
    return {"status": status, "host": host, **more}


def plan(world: World, *rules: dict[str, Any], **more: Any) -> Plan:
    given = {
        "inbox": world.declared["in"].id,
        "hidden": [],
        "since": BEGAN - 1.0,
        "until": BEGAN + 86400.0,
        "samples": [],
        **more,
    }
    return msgspec.convert({"sides": [{"rule": rule} for rule in rules or (RULE,)], **given}, Plan)


async def found(world: World, asked: Plan) -> dict[str, Any]:
    """As a worker does it."""
    async with world.pool.acquire() as connection:
        _, said = await preview.work(connection, asked, lambda *_: None)
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(said))
    return decoded


async def asked(world: World, running: Jobs, wanted: Plan, budget_s: float = 60.0, by: str = "test") -> UUID:
    async with world.pool.acquire() as connection:
        job = await jobs.create(connection, "preview", by, [], {}, wanted)
    assert job is not None
    running.start("preview", job, 1, budget_s)
    return job


async def ended(world: World, job: UUID) -> Row:
    while True:
        async with world.pool.acquire() as connection:
            row = await jobs.get(connection, "preview", job)
        assert row is not None
        if row["status"] not in ("waiting", "running"):
            return row
        await asyncio.sleep(0.02)


def kinds(line: dict[str, Any]) -> list[str]:
    return [outcome["kind"] for outcome in line["outcomes"]]


# ---- what is found


async def test_a_preview_says_what_would_have_become_of_stored_events(world: World) -> None:
    ids = await stored(world, says("firing"), says("info"), says("firing"), says("resolved"), b"not JSON")
    findings = (await found(world, plan(world)))["findings"]
    assert [line["id"] for line in findings["lines"]] == ids
    assert [kinds(line) for line in findings["lines"]][:4] == [
        ["opened"],
        ["ignored"],
        ["refreshed"],
        ["resolved"],
    ]
    (episode,) = findings["episodes"]
    assert (episode["opened"], episode["closed"], episode["event"]) == (BEGAN, BEGAN + 180.0, ids[0])
    assert [draft["step"] for draft in findings["drafts"]] == ["open"]
    assert findings["drafts"][0]["title"] == "Outage: outside"


async def test_of_two_rules_the_difference_is_found(world: World) -> None:
    await stored(world, says("firing"), says("slow", "b"), says("resolved"), says("resolved", "b"))
    less = {key: value for key, value in RULE.items() if key != "warning"}
    difference = (await found(world, plan(world, RULE, less)))["difference"]
    assert difference["counts"] == {"only_old": 2}
    assert [line["at"] for line in difference["only_old"]] == [BEGAN + 60.0, BEGAN + 180.0]
    assert (difference["old"]["opened"], difference["new"]["opened"]) == (1, 1)


async def test_samples_come_after_what_is_stored_or_alone(world: World) -> None:
    (event,) = await stored(world, says("firing"))
    body = json.dumps(says("resolved")).encode()
    pasted = [Sample(BEGAN + 3600.0, [("Content-Type", "application/json")], "", body)]
    findings = (await found(world, plan(world, samples=pasted)))["findings"]
    assert [(line["id"], *kinds(line)) for line in findings["lines"]] == [
        (event, "opened"),
        ("sample 1", "resolved"),
    ]
    alone = (await found(world, plan(world, samples=pasted, inbox=None)))["findings"]
    assert [(line["id"], *kinds(line)) for line in alone["lines"]] == [("sample 1", "ignored")]


async def test_what_people_are_not_shown_is_in_nothing_that_is_found(world: World) -> None:
    await stored(world, *(says("firing", f"host-{n}", password=f"cnry{n}", user="cnry-x") for n in range(30)))
    await stored(world, says("info", "host", password="cnry", user="cnry-x"))
    by_secret = RULE | {
        "fingerprint": "{$.host}/{$.password}",
        "target": {"external": "e", "per_fingerprint": 3},
    }
    by_path = RULE | {"fingerprint": "{value:who}", "values": {"who": "$.user"}}
    for said_of in ("value:who", "$['user']", "$", "text"):
        unmapped = RULE | {"critical": {"value": said_of, "eq": "x"}, "values": {"who": "$.user"}}
        said = await found(world, plan(world, unmapped, hidden=["$.user"]))
        assert (said_of, "***") in {(one["reference"], one["value"]) for one in said["findings"]["unmapped"]}
        assert "cnry" not in json.dumps(said)
    for rule in (by_secret, by_path, RULE | {"fingerprint": "{$['user']}"}):
        said = await found(world, plan(world, rule, hidden=["$.user"]))
        assert "cnry" not in json.dumps(said)
        outcomes = [line["outcomes"][0] for line in said["findings"]["lines"]]
        assert {one["fingerprint"] for one in outcomes} == {"***"}
        assert {one["reason"] for one in outcomes if one["kind"] == "ignored"} == {"unmapped"}


async def test_nobody_could_hear_is_as_live(world: World) -> None:
    await stored(world, says("firing"), says("info", "b"), apart_s=7200.0)
    silent = {**RULE, "silence": "30m"}
    async with transaction(world.pool) as connection:
        await connection.execute(
            "INSERT INTO deafness (began_at, ended_at) VALUES (to_timestamp($1), to_timestamp($2))",
            BEGAN + 60.0,
            BEGAN + 7000.0,
        )
    (episode,) = (await found(world, plan(world, silent)))["findings"]["episodes"]
    assert episode["closed"] == BEGAN + 7000.0 + 1800.0


async def test_a_preview_makes_of_a_stream_what_was_made_of_it_live(world: World) -> None:
    drawn = random.Random(5)
    rule: dict[str, Any] = {
        "critical": {"value": "$.status", "eq": "firing"},
        "warning": {"value": "$.status", "changed": True},
        "recovery": {"value": "$.status", "in": ["resolved", "gone"]},
        "repeats": {"count": 2, "within": "1h"},
        "time": {"values": ["$.at"]},
        "fingerprint": "{$.host}",
    }
    declared = await trigger(world, **rule)
    now = world.clock.epoch_s()
    async with judging(world):
        for _ in range(8):
            bodies = [
                says(
                    drawn.choice(["firing", "firing", "slow", "resolved", "gone"]),
                    drawn.choice("ab"),
                    at=now - drawn.randrange(90),
                )
                for _ in range(10)
            ]
            await post(world, *bodies)
            while await world.pool.fetchval("SELECT count(*) FROM arrivals"):
                await asyncio.sleep(0.02)
    rows = await world.pool.fetch("SELECT event_id, outcomes::text FROM judged ORDER BY position")
    live = {}
    for row in rows:
        by = msgspec.json.decode(row["outcomes"], type=dict[str, events.ByTrigger])
        live[show("event", row["event_id"])] = [one for each in by.values() for one in each.outcomes]
    asked = plan(world, declared.spec, since=now - 5.0, until=now + 3600.0)
    lines = (await found(world, asked))["findings"]["lines"]
    again = {line["id"]: msgspec.convert(line["outcomes"], list[Outcome]) for line in lines}
    assert len(live) == 80
    assert again == live
    assert {one.kind for made in live.values() for one in made} >= {
        "opened",
        "refreshed",
        "resolved",
        "counted",
    }


async def test_episodes_and_drafts_of_a_stream_are_those_of_live(world: World) -> None:
    drawn = random.Random(7)
    declared = await trigger(world)
    calm = {"episodes": {"reopen_window": 0, "better_after": 0, "worse_after": 0, "flapping": "off"}}
    target = {"slug": "ext", "type": "external", **calm}
    await world.pool.execute(
        "UPDATE objects SET spec = $1::text::jsonb WHERE slug = 'ext'", json.dumps(target)
    )
    now = world.clock.epoch_s()
    async with evaluated(world), judging(world):
        for _ in range(30):
            state = drawn.choice(["down", "slow", "up", "up", "else"])
            await post(world, {"host": drawn.choice("ab"), "state": state})
            while await world.pool.fetchval(
                "SELECT (SELECT count(*) FROM arrivals) + (SELECT count(*) FROM pushed)"
            ):
                await asyncio.sleep(0.02)
    episodes = await world.pool.fetch("SELECT peak, cause FROM episodes ORDER BY opened_at")
    actions = await world.pool.fetch(
        "SELECT step, status, severity, title, text, revision - 1 FROM actions ORDER BY created_at"
    )
    asked = plan(world, declared.spec, since=now - 5.0, until=world.clock.epoch_s())
    asked.sides[0].target = target
    findings = (await found(world, asked))["findings"]
    assert [(one["severity"], one["cause"]) for one in findings["episodes"]] == list(map(tuple, episodes))
    named = ("step", "status", "severity", "title", "text", "revisions")
    assert [tuple(one[name] for name in named) for one in findings["drafts"]] == list(map(tuple, actions))
    assert len(episodes) > 2


# ---- what else comes of it


async def test_nothing_but_the_preview_itself_comes_of_a_preview(world: World, running: Jobs) -> None:
    declared = await trigger(
        world, slug="checkout", **{key: value for key, value in RULE.items() if key != "slug"}
    )
    await stored(world, *(says("firing", str(n)) for n in range(50)))
    heard = list[bytes]()

    async def hear(payload: bytes) -> None:
        heard.append(payload)

    async def contents() -> dict[str, str]:
        names = await world.pool.fetch(
            "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> 'jobs'"
        )
        rows = "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t"
        return {row["name"]: await world.pool.fetchval(rows.format(row["name"])) for row in names}

    listening = await world.bus.listen("upbeat.>", hear)
    before = await contents()
    row = await ended(world, await asked(world, running, plan(world, declared.spec)))
    assert msgspec.json.decode(row["found"])["findings"]["opened"] == 1
    await world.bus.announce("upbeat.test", b"last")
    while not heard:
        await asyncio.sleep(0.02)
    await listening.stop()
    assert heard == [b"last"]
    assert await contents() == before
    assert len(before) > 40


# ---- how it ends


async def test_a_rule_that_takes_too_long_is_killed_with_what_was_found_and_nobody_waits_for_it(
    world: World, running: Jobs
) -> None:
    await stored(world, *([LARGE] * MANY))
    await trigger(world)
    hostile = RULE | {"when": {"any": [{"value": "$.status", "exists": False}]}, "critical": SEARCH}
    quick = plan(world, until=BEGAN + 30.0)
    await ended(world, await asked(world, running, quick))  # its worker is warm now
    budget_s = 2.0
    while True:
        job = await asked(world, running, plan(world, hostile), budget_s)
        assert (await ended(world, await asked(world, running, quick)))["status"] == "done"
        row = await ended(world, job)
        assert (row["status"], row["error"]) == ("done", None)
        if row["is_cut"] and row["done"]:
            break
        budget_s *= (
            1.5 if row["is_cut"] else 0.6
        )  # a busy machine gave it no time, or a quick one all it needs
    assert 0 < row["done"] < 1
    findings = msgspec.json.decode(row["found"])["findings"]
    assert 0 < findings["events"] < MANY
    assert findings["verdicts"] == {"error": findings["events"]}
    assert (await ended(world, await asked(world, running, quick)))["is_cut"] is False


async def test_live_events_are_judged_and_others_previews_done_while_hostile_rules_run(
    world: World, running: Jobs
) -> None:
    await trigger(world)
    await stored(world, *([[{"c": n} for n in range(1000)]] * 1000), apart_s=1.0)
    hostile = plan(world, RULE | {"critical": SEARCH})  # takes a minute, wherever it runs
    quick = plan(world, until=BEGAN + 3.0)
    async with judging(world):
        while await world.pool.fetchval("SELECT count(*) FROM arrivals"):
            await asyncio.sleep(0.02)
        slow = [await asked(world, running, hostile, 600.0) for _ in range(jobs.MOST_OF_ONE)]
        while await world.pool.fetchval("SELECT count(*) FROM jobs WHERE rows > 0") < len(slow):
            await asyncio.sleep(0.02)
        await post(world, {"status": "firing", "host": "live"})
        while await world.pool.fetchval("SELECT count(*) FROM judged") <= 1000:
            await asyncio.sleep(0.02)
        other = await asked(world, running, quick, by="other")
        assert (await ended(world, other))["status"] == "done"
        for job in slow:
            async with world.pool.acquire() as connection:
                row = await jobs.get(connection, "preview", job)
            assert row is not None
            assert row["status"] == "running"


async def test_a_cancelled_preview_ends_and_its_worker_with_it(world: World, running: Jobs) -> None:
    await stored(world, *([LARGE] * MANY))
    job = await asked(world, running, plan(world, RULE | {"critical": SEARCH}))
    (worker,) = await workers(os.getpid())
    async with world.pool.acquire() as connection:
        await jobs.cancel(connection, job)
    while _is_alive(worker):
        await asyncio.sleep(0.02)


async def test_who_is_killed_leaves_no_worker_behind(world: World, database_url: str) -> None:
    await stored(world, *([LARGE] * MANY))
    async with world.pool.acquire() as connection:
        job = await jobs.create(
            connection, "preview", "test", [], {}, plan(world, RULE | {"critical": SEARCH})
        )
    program = (
        "import asyncio, sys, uuid\n"
        "from engine.jobs import Jobs\n"
        "from engine.store.database import open_pool\n"
        "async def main():\n"
        "    pool = await open_pool(sys.argv[1])\n"
        "    Jobs(pool, lambda: sys.argv[1]).start('preview', uuid.UUID(sys.argv[2]), 1, 600.0)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, database_url, str(job), cwd=REPO
    )
    (worker,) = await workers(process.pid)
    async with asyncio.timeout(60):
        while (await world.pool.fetchval("SELECT rows FROM jobs WHERE id = $1", job)) == 0:
            await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        while _is_alive(worker):
            await asyncio.sleep(0.05)


async def test_a_worker_whose_server_was_killed_before_it_listened_ends_as_well(
    world: World, database_url: str
) -> None:
    await stored(world, *([LARGE] * MANY))
    async with world.pool.acquire() as connection:
        wanted = plan(world, RULE | {"critical": SEARCH})
        job = await jobs.create(connection, "preview", "test", [], {}, wanted)
    assert job is not None
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "engine.preview", str(gone.pid)),
        env={**os.environ, "UPBEAT_DATABASE_URL": database_url, "PYTHONPATH": str(REPO)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(Order(job, 0, 1)) + b"\n")  # and it is left open
    assert await asyncio.wait_for(process.wait(), 60) == 1


async def workers(parent: int) -> list[int]:
    """The processes that do previews for this one, once there are any."""
    async with asyncio.timeout(60):
        while True:
            own = [
                int(path.name)
                for path in Path("/proc").iterdir()
                if path.name.isdecimal() and _parent(path) == parent
            ]
            if found := [pid for pid in own if b"engine.preview" in _read(f"/proc/{pid}/cmdline")]:
                return found
            await asyncio.sleep(0.02)


def _parent(path: Path) -> int:
    stat = _read(f"{path}/stat").rpartition(b") ")[2].split()
    return int(stat[1]) if stat else 0


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _is_alive(pid: int) -> bool:
    """A zombie is not."""
    return b"engine.preview" in _read(f"/proc/{pid}/cmdline")
