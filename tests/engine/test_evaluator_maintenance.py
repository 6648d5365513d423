"""Maintenance on a real evaluator: what it covers opens nothing while it lasts, and whatever becomes of the window."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine.relations import AHEAD_S, ANEW_S, MOST, Relations
from rules.known import Kind
from rules.maintenance import Maintenance, keys
from tests.engine.world import World, evaluated, made


@pytest.fixture
async def world(database_url: str, nats_url: str) -> AsyncIterator[World]:
    async with made(database_url, nats_url) as world:
        await world.declare("component", "site", name="Site")
        async with evaluated(world):
            yield world


async def window(world: World, slug: str = "m", **covers: Any) -> None:
    """One that began a second ago."""
    await world.declare("maintenance", slug, start=ago(world, 1), duration="1h", **covers)


def ago(world: World, seconds: float) -> str:
    return datetime.fromtimestamp(world.clock.epoch_s() - seconds, UTC).isoformat()


async def is_covered(world: World, *slugs: str, by: int = 1) -> None:
    async def is_so() -> bool:
        now = world.clock.epoch_s()
        bounds = [world.relations.bound(world.declared[slug].id) for slug in slugs]
        return all(sum(one.start <= now < one.end for one in bound.windows) == by for bound in bounds)

    await world.until(is_so)


async def fails(world: World, *slugs: str) -> None:
    world.down.update(slugs)
    await world.look(*slugs, times=2)
    for slug in slugs:
        await world.becomes(slug, "critical")
    await world.calm()


async def suppressed(world: World, slug: str) -> bool:
    return any(by.startswith("maintenance:") for by in (await world.state(slug)).suppressed_by)


async def has_episodes(world: World, *expected: tuple[str, str | None]) -> None:
    async def is_so() -> bool:
        return await world.episodes() == [*expected]

    await world.until(is_so)


@pytest.mark.parametrize(
    ("covers", "spec"),
    [
        pytest.param({}, {}, id="a page covers what is on it"),
        pytest.param({"beats": ["a"]}, {}, id="a beat"),
        pytest.param({"components": ["site"]}, {"components": {"site": {}}}, id="a component what feeds it"),
    ],
)
async def test_what_is_covered_is_measured_and_opens_nothing(
    world: World, covers: dict[str, Any], spec: dict[str, Any]
) -> None:
    await world.beat("a", **spec)
    await world.well("a")
    await window(world, **covers)
    await is_covered(world, "a")
    await fails(world, "a")
    assert await suppressed(world, "a")
    assert await world.episodes() == []
    assert await world.history("a") == ["ok", "critical"]
    world.down.clear()
    await world.look("a", times=2)
    await world.becomes("a", "ok")
    assert await world.told() == []


async def test_a_group_is_covered_with_its_members_and_others_are_not(world: World) -> None:
    await world.declare("group", "g")
    await world.beat("a", group="g")
    await world.beat("b")
    await world.well("a", "b")
    await window(world, groups=["g"])
    await is_covered(world, "a", "g")
    await fails(world, "a", "b")
    assert await suppressed(world, "a")
    await has_episodes(world, ("b", None))
    assert await suppressed(world, "g")


async def test_an_outage_that_outlives_its_window_opens_then(world: World) -> None:
    await world.beat("a")
    await world.well("a")
    await window(world)
    await is_covered(world, "a")
    await fails(world, "a")
    end = ago(world, -1)
    await world.change("m", ended=[end])
    await has_episodes(world, ("a", None))
    assert await world.pool.fetchval("SELECT opened_at FROM episodes") >= datetime.fromisoformat(end)


async def test_an_outage_that_began_before_stays_open_and_ends_in_it(world: World) -> None:
    await world.beat("a")
    await world.well("a")
    await fails(world, "a")
    await has_episodes(world, ("a", None))
    await window(world)
    await is_covered(world, "a")
    await world.look("a")
    await world.calm()
    assert await world.episodes() == [("a", None)]
    world.down.clear()
    await world.look("a", times=2)
    await has_episodes(world, ("a", "recovered"))


@pytest.mark.parametrize("what", ["deleted", "ended early", "moved", "pointed elsewhere"])
async def test_a_window_that_is_gone_suppresses_no_longer(world: World, what: str) -> None:
    await world.beat("a")
    await world.beat("b")
    await world.well("a", "b")
    await window(world, beats=["a"])
    await is_covered(world, "a")
    await fails(world, "a")
    assert await suppressed(world, "a")
    if what == "deleted":
        await world.remove("m")
    elif what == "ended early":
        await world.change("m", ended=[ago(world, 0)])
    elif what == "moved":
        await world.change("m", start=ago(world, -3600))
    else:
        await world.change("m", beats=["b"])
    await has_episodes(world, ("a", None))


async def test_the_last_of_two_windows_decides(world: World) -> None:
    await world.beat("a")
    await world.well("a")
    await window(world, "one")
    await window(world, "two", beats=["a"])
    await is_covered(world, "a", by=2)
    await fails(world, "a")
    await world.remove("one")
    await is_covered(world, "a")
    await world.look("a")
    await world.calm()
    assert await world.episodes() == []
    await world.remove("two")
    await has_episodes(world, ("a", None))


async def test_times_to_come_are_laid_out_anew_every_day(world: World) -> None:
    await world.beat("a")
    await world.declare("maintenance", "m", start=ago(world, 3600), duration="30m", rrule="FREQ=WEEKLY")
    await world.well("a")

    async def laid_out() -> int:
        return len(world.relations.bound(world.declared["a"].id).windows)

    await world.until(laid_out)
    now, relations = world.clock.epoch_s(), world.relations
    assert await laid_out() == 5
    assert relations.settle(now + ANEW_S / 2) == set()
    for day in range(1, 60):
        then = now + day * ANEW_S + 60
        relations.settle(then)
        (*_, last) = relations.bound(world.declared["a"].id).windows
        assert last.end > then + AHEAD_S - 7 * 86400


def test_whom_a_window_covers_is_found_as_the_rule_says() -> None:
    draw, relations, now = random.Random(5), Relations(), 1.8e9
    pages, subjects = {"p": uuid4(), "q": uuid4()}, dict[UUID, tuple[str, str, str, str | None, list[str]]]()
    for page, page_id in pages.items():
        relations.put(page_id, "page", None, page, {})
        for n in range(20):
            kind: Kind = "group" if n < 4 else "beat"
            group = draw.choice([None, "s0", "s1"]) if kind == "beat" else None
            fed = draw.choices(["site", "p/site", "q/site", "pay"], k=draw.randint(0, 2))
            subjects[made := uuid4()] = (kind, page, f"s{n}", group, fed)
            spec: dict[str, Any] = {"group": group, "components": {path: {} for path in fed}}
            relations.put(made, kind, page_id, f"s{n}", spec)
    windows = dict[UUID, tuple[str, Maintenance]]()
    for n in range(60):
        home = draw.choice([*pages])
        spec = {"slug": f"m{n}", "start": f"2027-01-15T08:{n:02}", "duration": "1h"}
        for key, names in (
            ("beats", ["s5", "s6"]),
            ("groups", ["s0", "s2"]),
            ("components", ["site", "q/site"]),
        ):
            spec |= {key: draw.sample(names, draw.choice([0, 0, 1, 2]))}
        windows[made := uuid4()] = home, Maintenance.model_validate(spec)
        relations.put(made, "maintenance", pages[home], f"m{n}", spec)
    relations.settle(now)
    for subject_id, subject in subjects.items():
        expected = {str(one) for one, (home, rule) in windows.items() if rule.about(home) & keys(*subject)}
        assert {span.id for span in relations.bound(subject_id).windows} == expected


def test_what_lies_in_another_window_is_not_laid_out_and_no_more_than_can_be_kept() -> None:
    relations, now = Relations(), 1.8e9
    page, beat, outer = uuid4(), uuid4(), uuid4()
    relations.put(page, "page", None, "p", {})
    relations.put(beat, "beat", page, "b", {})
    daily: dict[str, Any] = {"start": "2026-01-01T01:00", "duration": "2h", "rrule": "FREQ=DAILY"}
    relations.put(outer, "maintenance", page, "outer", {"slug": "outer"} | daily)
    for n in range(50):
        inner = {"slug": f"m{n}"} | daily | {"start": f"2026-01-01T02:{n:02}", "duration": "10m"}
        relations.put(uuid4(), "maintenance", page, f"m{n}", inner)
    assert relations.settle(now) == {beat}
    assert {one.id for one in relations.bound(beat).windows} == {str(outer)}
    relations.drop(outer)
    assert relations.settle(now) == {beat}
    apart = relations.bound(beat).windows
    assert len(apart) == MOST
    assert [*apart] == sorted(apart)
