"""Replays on a real PostgreSQL, of what a real evaluator decided: as it was, and under other policies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine.clock import SystemClock
from engine.jobs import Jobs
from engine.replay import digest_of, retrace, work
from engine.store import jobs, pushed, replays, results
from engine.store.database import transaction
from engine.store.ids import derived_id, new_id, partition_of
from engine.store.pushed import Report
from engine.store.replays import Found, Plan, Played
from evaluators.model import Kind, Result, Severity, Timings, Verdict
from evaluators.policy import Bound
from tests.engine.world import REGIONS, World, evaluated, made


@pytest.fixture
async def world(database_url: str, nats_url: str) -> AsyncIterator[World]:
    async with made(database_url, nats_url) as world:
        yield world


async def report(world: World, slug: str, severity: Severity | None) -> None:
    subject_id, now = world.declared[slug].id, world.clock.epoch_s()
    async with transaction(world.pool) as connection:
        await pushed.put(connection, subject_id, now, Report("report", "x", severity, "said", now, "ops"))
    number = str(partition_of(subject_id))
    await world.bus.announce(f"{pushed.SUBJECT}.{number}", number.encode())


async def retraced(world: World) -> list[str]:
    """The beats and groups whose log leads to the stored state."""
    same = []
    async with world.pool.acquire() as connection:
        for component in await replays.components(connection, [one.id for one in world.declared.values()]):
            for one in component:
                found = await retrace(connection, one)
                assert (found.reason, found.differs) == (None, [])
                assert found.is_same
                assert found.facts
                same.append(one.slug)
    return sorted(same)


async def test_what_an_evaluator_went_through_is_told_by_its_log(world: World) -> None:
    await world.declare("group", "shop")
    await world.beat("a", group="shop")
    await world.beat("b", group="shop", quorum={"confirm": "off"})
    confirm = {"runs": 2, "spacing": "20ms", "wait": "500ms"}
    await world.beat("c", "group:shop", interval="20s", quorum={"confirm": confirm})
    async with evaluated(world):
        await world.well("a", "b", "c")
        await world.becomes("shop", "ok")
        world.down = {"a", "c@eu"}
        await world.look("a", "c")
        await world.becomes("shop", "critical")
        await report(world, "b", "warning")
        await world.becomes("b", "warning")
        world.clock.jumps += 1  # nobody looked, as it seems
        world.down = set()
        await world.look("a", "b", "c", times=2)
        await world.becomes("a", "ok")
        await report(world, "b", None)
        await world.change("a", quorum={"critical": "any"})
        await world.pause("c")
        await world.becomes("shop", "ok")
    async with evaluated(world, "another"):
        await world.pause("c", again=True)

        async def may_ask() -> bool:
            state = await world.state("c")
            return not state.suspended and state.next_round_at < world.clock.epoch_s()

        await world.until(may_ask)
        world.mute = {"c"}
        world.down = {"c"}
        request = world.result("c", "ap")
        await world.publish([request])

        async def is_asked() -> bool:
            return (await world.state("c")).round is not None

        await world.until(is_asked)
        dropped = [
            world.result("c", region, Kind.CONFIRM, request=request.run_id, n=n, stored=False)
            for region in REGIONS
            for n in (0, 1)
        ]
        late = world.result("c", "us", at=world.clock.epoch_s() - 30.0)
        await world.publish([dropped[0], late, *dropped[1:], world.result("c", "eu")])
        await world.calm()
        await world.look("c", times=2)
        await world.becomes("c", "critical")
        await world.change("c", host="elsewhere.example", group="shop")
        await world.look("a", "b", "c", regions=["us"], times=2)
        await world.change("b", group=None)
        await world.look("b")
        await world.calm()
        await asyncio.sleep(0.3)
    assert await retraced(world) == ["a", "b", "c", "shop"]


class Shifted(SystemClock):
    """A clock that somebody sets."""

    by_s = 0.0

    def epoch_s(self) -> float:
        return super().epoch_s() + self.by_s


@pytest.mark.parametrize(
    "by_s", [None, -1.5, -10.0], ids=["nobody looked", "a clock behind", "a wrong clock"]
)
async def test_what_time_did_before_a_clock_is_set_is_told_by_the_log(
    world: World, by_s: float | None
) -> None:
    world.clock = clock = Shifted()
    confirm = {"runs": 2, "spacing": "20ms", "wait": "500ms"}
    quorum = {"critical": 2, "consecutive": {"open": 1, "close": 1}, "confirm": confirm}
    await world.beat("c", quorum=quorum)
    async with evaluated(world):
        await world.well("c")
        world.mute, world.down = {"c"}, {"c"}
        await world.look("c", regions=["ap", "eu"])
        await world.becomes("c", "critical")  # as the round is over, and by nothing else
        if by_s is None:
            clock.jumps += 1
        else:
            clock.by_s = by_s
        world.down = set()
        await world.look("c", times=2)
        await world.becomes("c", "ok")
    assert await retraced(world) == ["c"]


SPEC: dict[str, Any] = {"type": "tcp", "host": "h.example", "port": 443, "interval": "60s"}
BOUND = Bound(regions=REGIONS)
BEGAN = 1_700_000_000.0


async def history(world: World, slug: str, pictures: dict[str, str], *, rounds: bool = False) -> Played:
    """A beat and its stored runs: a mark a minute and region (`x` critical, `.` ok), each bad run's round beside it."""
    beat = await world.declare("beat", slug, **SPEC)
    boot, made, seq = str(uuid4()), list[tuple[str, float, Result]](), 0
    for minute in range(max(map(len, pictures.values()))):
        for place, region in enumerate(REGIONS):
            seq, at = seq + 10, BEGAN + 60.0 * minute + 20.0 * place
            mark = pictures[region][minute] if minute < len(pictures[region]) else "."
            run = str(new_id())
            verdict = Verdict.CRITICAL if mark == "x" else Verdict.OK
            made.append((boot, at, _run(run, beat.id, region, Kind.SCHEDULED, verdict, at, seq)))
            for other in REGIONS if rounds and mark == "x" else ():
                saw = Verdict.CRITICAL if pictures[other][minute : minute + 1] == "x" else Verdict.OK
                for n in (0, 1):
                    name = str(derived_id(run, other, n))
                    again = _run(name, beat.id, other, Kind.CONFIRM, saw, at + 0.1 + n, seq + 1 + n, run, n)
                    made.append((boot, at + 0.1 + n, again))
    async with transaction(world.pool) as connection:
        await results.insert(connection, made, BEGAN)
    return Played(beat.id, slug, "beat", [beat.spec], BOUND, BEGAN)


def _run(
    run: str,
    beat: UUID,
    region: str,
    kind: Kind,
    verdict: Verdict,
    at: float,
    seq: int,
    request: str | None = None,
    n: int = 0,
) -> Result:
    timings = Timings(total=0.01)
    return Result(run, str(beat), region, kind, verdict, at, at, seq, 1, timings, request=request, n=n)


async def tried(world: World, played: list[Played], minutes: int, **policy: Any) -> Found:
    """The declared policy beside one with other keys."""
    for one in played:
        one.specs = [one.specs[0], one.specs[0] | policy]
    plan = Plan(BEGAN, BEGAN + 60.0 * minutes, False, [[one] for one in played])
    async with world.pool.acquire() as connection:
        return await work(connection, plan, 0, 1, lambda *_: None)


async def test_a_looser_policy_misses_what_the_old_one_opened_and_a_tighter_one_opens_more(
    world: World,
) -> None:
    outage, blip = "..........xxxxxxxxxx..........", "..........xxxxxxxxxx.....xxxx."
    beat = await history(world, "b", {"ap": outage, "eu": outage, "us": blip}, rounds=True)
    found = await tried(world, [beat], 30, quorum={"critical": "any"})
    (one,) = found.replayed
    assert (len(one.old.episodes), len(one.new.episodes)) == (1, 2)
    assert one.compared.only_new == [1]
    assert one.old.told == {"draft": 1, "open": 1, "recovery": 1}
    assert one.old.episodes[0].could_open is None
    assert (one.old.rounds, one.new.rounds) == (2, 2)
    assert (one.old.unanswered, one.new.unanswered) == (0, 0)
    assert 9 * 60 < one.old.down_s < 13 * 60 < one.new.down_s
    strict = await tried(world, [beat], 30, quorum={"consecutive": {"open": 20}, "confirm": "off"})
    assert strict.replayed[0].compared.only_old == [0]


async def test_a_round_that_nobody_has_runs_of_gives_a_range(world: World) -> None:
    outage = "..........xxxxxxxxxx.........."
    beat = await history(world, "b", dict.fromkeys(REGIONS, outage))
    found = await tried(world, [beat], 30, quorum={"confirm": "off"})
    (one,) = found.replayed
    asked, alone = one.old, one.new
    assert asked.rounds == asked.unanswered > 0
    assert alone.rounds == 0
    assert alone.episodes[0].could_open is None
    assert asked.episodes[0].could_open == BEGAN + 600.0 + 1.0
    assert asked.episodes[0].opened == alone.episodes[0].opened == BEGAN + 600.0 + 60.0 + 20.0


async def test_one_worker_and_many_find_the_same_hashes_and_a_cancelled_replay_ends(
    world: World, database_url: str
) -> None:
    pictures = {"ap": "....xx....xxxxx....", "eu": "......xxxxxxx.....", "us": ".x.x.xxxxx"}
    played = [await history(world, f"b{number}", pictures, rounds=number % 2 == 0) for number in range(9)]
    for one in played:
        one.specs = [one.specs[0], one.specs[0] | {"quorum": {"critical": "any", "confirm": "off"}}]
    plan = Plan(BEGAN, BEGAN + 1800.0, False, [[one] for one in played])
    whole = {}
    async with world.pool.acquire() as connection:
        for workers in (1, 8):
            parts = [
                await work(connection, plan, share, workers, lambda *_: None) for share in range(workers)
            ]
            whole[workers] = digest_of(Found([one for part in parts for one in part.replayed]))
        asked = await jobs.create(connection, "replay", "test", [], {}, plan, 2)
        unwanted = await jobs.create(connection, "replay", "test", [], {}, plan, 1)
        assert asked is not None
        assert unwanted is not None
        await jobs.cancel(connection, unwanted)
    running = Jobs(world.pool, lambda: database_url)
    running.start("replay", asked, 2, 60.0)
    running.start("replay", unwanted, 1, 60.0)
    found = await _ended(world, asked, "done")
    assert [whole[1], whole[8]] == [found.digest] * 2
    assert (
        found.rows
        == 9 * 3 * 19 + sum(len(REGIONS) * 2 * picture.count("x") for picture in pictures.values()) * 5
    )
    await running.close()
    async with world.pool.acquire() as connection:
        row = await jobs.get(connection, "replay", unwanted)
    assert row is not None
    assert (row["status"], row["found"]) == ("cancelled", None)


async def _ended(world: World, replay: UUID, status: str) -> Found:
    while True:
        async with world.pool.acquire() as connection:
            row = await jobs.get(connection, "replay", replay)
        assert row is not None
        if row["status"] not in ("waiting", "running"):
            assert (row["status"], row["error"]) == (status, None)
            return replays.decode(row["found"])
        await asyncio.sleep(0.05)
