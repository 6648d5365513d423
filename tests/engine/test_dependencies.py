"""What depends on what, on the real evaluator over all its partitions: parents are asked, suppress opening, and nothing else."""

from collections.abc import AsyncIterator

import pytest

from tests.engine.world import REGIONS, World, evaluated, made


@pytest.fixture
async def world(database_url: str, nats_url: str) -> AsyncIterator[World]:
    async with made(database_url, nats_url) as world, evaluated(world):
        yield world


async def test_a_first_bad_result_asks_the_parent_to_look_now_and_a_parent_that_is_down_opens_alone(
    world: World,
) -> None:
    await world.beat("db", channels=["ops"])
    await world.beat("shop", "db", channels=["ops"])
    await world.well("db", "shop")
    world.down = {"db", "shop"}
    await world.look("shop", regions=["eu"])  # nobody was due to look at the parent
    await world.becomes("db", "critical")
    await world.becomes("shop", "critical")
    await world.calm()
    assert {("db", region) for region in REGIONS} <= set(world.asked)
    assert await world.episodes() == [("db", None)]
    assert await world.history("shop") == ["ok", "critical"]
    assert (await world.state("shop")).suppressed_by == (f"dependency:{world.declared['db'].id}",)
    assert {beat for _, beat in await world.told()} == {"db"}


async def test_a_child_of_a_parent_that_is_fine_opens_when_it_has_answered(world: World) -> None:
    await world.beat("db")
    await world.beat("shop", "db")
    await world.well("db", "shop")
    world.down = {"shop"}
    await world.look("shop", regions=["eu"])
    await world.becomes("shop", "critical")
    await world.until(lambda: has_episodes(world, "shop"))
    assert ("db", "eu") in world.asked
    assert await world.stage("db") == "ok"


async def test_a_parent_that_suppresses_opening_keeps_no_episode_from_ending(world: World) -> None:
    await world.beat("db")
    await world.beat("shop", "db")
    await world.well("db", "shop")
    world.down = {"shop"}
    await world.look("shop", regions=["eu"])
    await world.until(lambda: has_episodes(world, "shop"))
    world.down = {"db"}
    await world.look("db", times=2)
    await world.becomes("db", "critical")
    await world.look("shop", times=2)
    await world.becomes("shop", "ok")
    assert ("shop", "recovered") in await world.episodes()


async def test_when_the_parent_recovers_first_the_child_opens_only_by_what_is_seen_since(
    world: World,
) -> None:
    await world.beat("db")
    await world.beat("shop", "db")
    await world.beat("till", "db")
    await world.well("db", "shop", "till")
    world.down = {"db", "shop", "till"}
    await world.look("shop", "till", regions=["eu"])
    for slug in world.down:
        await world.becomes(slug, "critical")
    world.mute = {"shop", "till"}
    world.down = {"till"}  # the one comes back with it, the other is broken itself
    await world.look("db", times=2)
    await world.becomes("db", "ok")
    await world.until(lambda: is_clear_after(world, "till"))
    assert await has_episodes(world, "db")
    await world.look("shop", "till", times=2)
    await world.until(lambda: has_episodes(world, "db", "till"))
    await world.becomes("shop", "ok")
    assert await world.episodes() == [("db", "recovered"), ("till", None)]


async def test_a_group_that_is_asked_lets_its_members_look(world: World) -> None:
    await world.declare("group", "core")
    await world.beat("db", group="core")
    await world.beat("queue", group="core")
    await world.beat("shop", "group:core")
    await world.well("db", "queue", "shop")
    await world.becomes("core", "ok")
    world.down = {"queue", "shop"}
    await world.look("shop", regions=["us"])
    await world.becomes("core", "critical")
    await world.becomes("shop", "critical")
    await world.calm()
    assert {slug for slug, _ in world.asked} == {"shop", "db", "queue"}
    assert await world.episodes() == [("core", None)]


async def test_in_a_chain_of_three_only_the_root_opens(world: World) -> None:
    await world.beat("router")
    await world.beat("db", "router")
    await world.beat("shop", "db")
    await world.well("router", "db", "shop")
    world.down = {"router", "db", "shop"}
    await world.look("shop", regions=["eu"])
    for slug in ("router", "db", "shop"):
        await world.becomes(slug, "critical")
    await world.calm()
    assert await world.episodes() == [("router", None)]


async def test_a_hundred_children_of_one_parent_that_goes_down_are_one_episode(world: World) -> None:
    await world.beat("db", channels=["ops"])
    children = [f"shop-{n}" for n in range(100)]
    for child in children:
        await world.beat(child, "db", channels=["ops"])
    await world.well("db", *children)
    world.down = {"db", *children}
    await world.look(*children, regions=["eu"])
    for child in ("db", *children):
        await world.becomes(child, "critical")
    await world.calm()
    assert await world.episodes() == [("db", None)]
    assert [told for told, _ in await world.told()] == ["open", "draft"]


async def test_a_parent_that_is_paused_or_removed_or_no_longer_named_suppresses_nothing(world: World) -> None:
    for parent in ("a", "b", "c"):
        await world.beat(parent)
        await world.beat(f"of-{parent}", parent)
    everybody = [slug for slug, stored in world.declared.items() if stored.kind == "beat"]
    await world.well(*everybody)
    world.down = set(everybody)
    await world.look(*everybody)
    for slug in everybody:
        await world.becomes(slug, "critical")
    await world.calm()
    assert await has_episodes(world, "a", "b", "c")
    await world.change("of-c", depends_on=None)
    await world.pause("a")
    await world.change("b", enabled=False)
    await world.until(lambda: is_clear_after(world, "of-a"))
    await world.until(lambda: is_clear_after(world, "of-b"))
    await world.look("of-a", "of-b", times=2)
    await world.until(lambda: has_episodes(world, "a", "b", "c", "of-a", "of-b", "of-c"))


async def has_episodes(world: World, *owners: str) -> bool:
    return sorted({owner for owner, _ in await world.episodes()}) == sorted(owners)


async def is_clear_after(world: World, slug: str) -> bool:
    return (await world.state(slug)).clear_after > 0
