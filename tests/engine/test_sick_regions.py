"""Regions that cannot reach anything, or nobody, on the real evaluator: suspended by difference, back when well, no false episode."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from engine.catalog import Declared
from engine.sickness import RegionCounts, Sickness, host_of
from engine.store import regions
from engine.store.ids import new_id
from engine.subject import compile_subject
from evaluators.policy import Bound
from evaluators.sickness import Count, Limits
from tests.engine.world import World, evaluated, made

BEATS = ["a", "b", "c", "d"]
LIMITS = Limits(hold_s=0.5)


@pytest.fixture
async def world(database_url: str, nats_url: str) -> AsyncIterator[World]:
    async with made(database_url, nats_url) as world, evaluated(world):
        for slug in BEATS:
            await world.beat(slug, channels=["ops"])
        await world.well(*BEATS)
        yield world


def judge(world: World) -> Sickness:
    return Sickness(
        world.pool, world.clock, holder="one", public_url=lambda: "http://upbeat.test", limits=LIMITS
    )


@contextlib.asynccontextmanager
async def judged(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(judge(world).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def sick(world: World) -> list[str]:
    async with world.pool.acquire() as connection:
        return list(await regions.suspended(connection))


async def fall_sick(world: World, region: str) -> None:
    world.down |= {f"{slug}@{region}" for slug in BEATS}
    await world.look(*BEATS, times=2)

    async def is_so() -> bool:
        return await sick(world) == [region]

    await world.until(is_so)


async def recover(world: World, region: str) -> None:
    world.down -= {f"{slug}@{region}" for slug in BEATS}

    async def is_so() -> bool:
        await world.look(*BEATS)
        return await sick(world) == []

    await world.until(is_so)


async def voters(world: World, slug: str) -> tuple[str, ...]:
    return (await world.state(slug)).assigned


async def test_a_region_that_alone_sees_everything_down_is_suspended_told_once_and_returns(
    world: World,
) -> None:
    async with judged(world):
        await fall_sick(world, "eu")
        await world.until(lambda: has_voters(world, "ap", "us"))
        assert await world.episodes() == []
        assert await world.told() == [("region", None)]
        world.down |= {"a@ap"}  # of the two that are left
        await world.look("a", times=3)
        assert await world.stage("a") == "ok"
        world.down -= {"a@ap"}
        await world.look("a", times=3)
        await recover(world, "eu")
        await world.until(lambda: has_voters(world, "ap", "eu", "us"))
    titles = await world.pool.fetch("SELECT item->>'title' AS title FROM outbox ORDER BY id")
    assert [row["title"] for row in titles] == [
        "The region eu is suspended: 4 of 4 beats are bad there and nowhere else",
        "The region eu is no longer suspended: its beats are ok there",
    ]
    assert await world.episodes() == []


async def test_what_all_regions_see_is_an_outage_and_nobody_is_suspended(world: World) -> None:
    async with judged(world):
        world.down = set(BEATS)
        await world.look(*BEATS, regions=["eu"])
        for slug in BEATS:
            await world.becomes(slug, "critical")
        await asyncio.sleep(1.5)
    assert await sick(world) == []
    assert len(await world.episodes()) == 4


async def test_an_episode_that_only_the_sick_region_opened_ends_with_its_suspension_and_carefully(
    world: World,
) -> None:
    await world.change(
        "a", quorum={"critical": "any", "confirm": None}, incidents={"open": "auto", "resolve": "auto"}
    )
    await world.until(lambda: has_revision(world, "a", 2))
    await fall_sick_by(judge(world), world)
    await world.becomes("a", "ok")
    assert await world.episodes() == [("a", "recovered")]
    steps = await world.pool.fetch("SELECT step, status FROM actions ORDER BY id")
    assert [tuple(row) for row in steps] == [("open", "done"), ("resolve", "pending")]


async def test_a_process_that_starts_again_keeps_the_suspension_and_tells_nobody_again(
    database_url: str, nats_url: str
) -> None:
    async with made(database_url, nats_url) as world:
        async with evaluated(world), judged(world):
            for slug in BEATS:
                await world.beat(slug, channels=["ops"])
            await world.well(*BEATS)
            await fall_sick(world, "eu")
        async with judged(world), evaluated(world):
            await world.until(lambda: has_voters(world, "ap", "us"))
            await asyncio.sleep(1.5)
            assert await sick(world) == ["eu"]
        assert await world.told() == [("region", None)]


async def test_of_two_that_decide_at_once_one_tells(world: World) -> None:
    await fall_sick_by(judge(world), world)
    await asyncio.gather(*(judge(world).look() for _ in range(3)))
    assert await world.told() == [("region", None)]


async def test_a_region_cut_off_from_the_bus_is_no_data_and_what_it_measured_is_merged_in_order(
    world: World,
) -> None:
    """As for ten minutes, in seconds: its results come all at once when the way is free again."""
    fast = {"confirm": None, "max_age": "1s", "min_voters": 2}
    await world.change("a", interval="1s", timeout="500ms", quorum=fast)
    await world.until(lambda: has_revision(world, "a", 2))
    await world.look("a", times=2)
    kept = []
    world.down |= {"a@eu"}
    for turn in range(12):
        if turn == 8:
            world.down -= {"a@eu"}
        kept.append(world.result("a", "eu"))
        await world.look("a", regions=["ap", "us"])
        await asyncio.sleep(0.2)
    votes = (await world.state("a")).regions
    assert world.clock.epoch_s() > votes["eu"].vote.at + 1.0  # no data: it is fresh no more, and no vote
    assert await world.stage("a") == "ok"
    for results in (kept[6:], kept[:6], kept):
        await world.publish(results, boot=world.boot)
    count = "SELECT count(*) FROM results WHERE region = 'eu' AND beat_id = $1"

    async def is_merged() -> bool:
        return bool(await world.pool.fetchval(count, world.declared["a"].id) == 3 + 12)

    await world.until(is_merged)
    eu = (await world.state("a")).regions["eu"]
    assert [seen.seq for seen in eu.recent] == sorted(result.seq for result in kept)[-len(eu.recent) :]
    assert eu.vote.verdict == "ok"
    assert await world.episodes() == []
    assert await world.told() == []


async def test_a_minority_that_lasts_is_an_advisory_told_once_and_once_when_it_is_over(world: World) -> None:
    await world.change("a", quorum={"confirm": None, "advisory_after": "300ms"})
    await world.until(lambda: has_revision(world, "a", 2))

    async def is_told(times: int) -> bool:
        return [told for told, _ in await world.told()] == ["advisory"] * times

    world.down = {"a@eu"}
    await world.look("a", times=3)
    await world.until(lambda: is_told(1))
    await world.look("a", times=3)
    assert (await world.state("a")).dissent == ("eu",)
    world.down = set()
    await world.look("a", times=3)
    await world.until(lambda: is_told(2))
    titles = await world.pool.fetch("SELECT item->>'title' AS title FROM outbox ORDER BY id")
    assert [row["title"] for row in titles] == [
        "a is bad in eu, and not elsewhere",
        "a is ok everywhere again",
    ]
    assert await world.episodes() == []


async def test_counts_are_kept_up_without_looking_at_every_beat(world: World) -> None:
    world.down |= {"a@eu", "b@eu"}
    await world.look(*BEATS, times=2)
    expected = {
        "ap": Count(4, 4, 0),
        "us": Count(4, 4, 0),
        "eu": Count(4, 2, 2, frozenset({"a.example", "b.example"})),
    }
    await world.until(lambda: has_counts(world, expected))
    await world.pause("a")
    await world.remove("c")
    less = {
        "ap": Count(2, 2, 0),
        "us": Count(2, 2, 0),
        "eu": Count(2, 1, 1, frozenset({"b.example"})),
    }
    await world.until(lambda: has_counts(world, less))


@pytest.mark.parametrize(
    ("spec", "host"),
    [
        ({"type": "http", "url": "https://shop.example:8443/a?b=c"}, "shop.example"),
        ({"type": "http", "url": "https://${env:HOST}/a"}, "${env:HOST}"),
        ({"type": "tcp", "host": "shop.example", "port": 1}, "shop.example"),
        ({"type": "tcp", "host": "::1", "port": 1}, "[::1]"),
        ({"type": "icmp", "host": "fe80::1"}, "fe80::1"),
    ],
)
def test_the_host_of_a_beat(spec: dict[str, object], host: str) -> None:
    declared = Declared(new_id(), "beat", new_id(), "a", {"slug": "a", **spec}, 1, None)
    assert host_of(compile_subject(declared, Bound(regions=("eu",)))) == host


async def fall_sick_by(one: Sickness, world: World) -> None:
    """The same, with this one to decide, once."""
    world.down |= {f"{slug}@eu" for slug in BEATS}
    await world.look(*BEATS, times=2)

    async def is_so() -> bool:
        return bool(await one.look())

    await world.until(is_so)


async def has_voters(world: World, *regions: str) -> bool:
    return {await voters(world, slug) for slug in BEATS} == {regions}


async def has_revision(world: World, slug: str, revision: int) -> bool:
    query = "SELECT revision FROM states WHERE subject_id = $1"
    return bool(await world.pool.fetchval(query, world.declared[slug].id) == revision)


async def has_counts(world: World, expected: dict[str, Count]) -> bool:
    async with world.pool.acquire() as connection:
        return await regions.counts(connection) == expected


def test_nobody_heard_of_counts_nothing() -> None:
    assert RegionCounts().counts() == {}
