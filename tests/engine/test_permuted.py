"""A group of beats on the real store in virtual time, whatever comes in whatever order: in the end it says what is so.

The oracle is simple and knows nothing of the core: after some calm everything is ok and nothing is open, and what is seen
three times in every region is what is said. The long form is `make faults NAME=permutations`.
"""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from engine.store.database import Pool, open_pool
from evaluators.model import Result
from tests.engine.world import REGIONS
from tests.faults.permutations import permuted
from tests.rig.virtual import Virtual, opened, virtual

BEATS = ("a", "b", "c")
CALM: dict[str, Any] = {"flapping": {"changes": 4, "within": "30m", "quiet": "3m"}}
COUNTS = {"any": 1, "majority": 2, "all": 3}
beats = st.sampled_from(BEATS)


class Model(RuleBasedStateMachine):
    """Beats a and b in the group g, c in none; h is empty."""

    runner: asyncio.Runner
    pool: Pool

    def __init__(self) -> None:
        super().__init__()
        self._scope = virtual(self.pool)
        self.at: Virtual = self.run(self._scope.__aenter__())
        self.counts, self.groups = dict.fromkeys(BEATS, "majority"), dict.fromkeys(BEATS, "")
        self.late: list[Result] = []
        self.sent: list[Result] = []
        self.paused: set[str] = set()

    def run(self, doing: Any) -> Any:
        return self.runner.run(doing)

    def teardown(self) -> None:
        try:
            self.run(self.ends_well())
        finally:
            self.run(self._scope.__aexit__(None, None, None))

    @initialize()
    def begin(self) -> None:
        async def declare() -> None:
            for slug in ("g", "h"):
                await self.at.world.declare("group", slug, episodes=CALM)
            self.groups |= {"a": "g", "b": "g"}
            for slug in BEATS:
                await self.at.world.beat(slug, **self.spec(slug))
            await self.at.declared()
            await self.at.round(*BEATS)

        self.run(declare())

    def spec(self, slug: str) -> dict[str, Any]:
        quorum = {"critical": self.counts[slug], "warning": self.counts[slug], "confirm": {"wait": "3s"}}
        if slug == "b":
            quorum["confirm"] = "off"
        return {"quorum": quorum, "group": self.groups[slug] or None, "episodes": CALM}

    @rule(slug=beats, bad=st.sets(st.sampled_from(REGIONS)), kept=st.sets(st.sampled_from(REGIONS)))
    def look(self, slug: str, bad: set[str], kept: set[str]) -> None:
        """All regions look; what some of them saw comes later."""

        async def act() -> None:
            self.at.world.down = {f"{slug}@{region}" for region in bad}
            made = {region: self.at.world.result(slug, region) for region in REGIONS}
            self.late += (made[region] for region in kept)
            self.sent += (made[region] for region in made.keys() - kept)
            await self.at.send([made[region] for region in REGIONS if region not in kept])
            await self.at.answer()
            await self.at.wait(20.0)

        self.run(act())

    @rule(order=st.randoms(use_true_random=False))
    def come_late(self, order: Any) -> None:
        """What was kept comes, in any order, with something that has come before."""
        order.shuffle(self.late)
        again = order.sample(self.sent, min(3, len(self.sent)))
        if self.late + again:
            self.run(self.at.send(self.late + again))
        self.late = []

    @rule(seconds=st.sampled_from([5.0, 60.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.at.wait(seconds, 20.0))

    @rule(slug=beats)
    def pause(self, slug: str) -> None:
        async def act() -> None:
            await self.at.world.pause(slug, again=slug in self.paused)
            self.paused ^= {slug}
            await self.at.declared()

        self.run(act())

    @rule(slug=beats, count=st.sampled_from(sorted(COUNTS)), group=st.sampled_from(["g", "h", ""]))
    def edit(self, slug: str, count: str, group: str) -> None:
        async def act() -> None:
            self.counts[slug], self.groups[slug] = count, group
            await self.at.world.change(slug, **self.spec(slug))
            await self.at.declared()

        self.run(act())

    async def ends_well(self) -> None:
        world = self.at.world
        if not world.declared.keys() >= set(BEATS):
            return
        for slug in list(self.paused):
            await world.pause(slug, again=True)
        await self.at.declared()
        await self.calm()
        for slug in BEATS:
            assert (await world.state(slug)).group == (
                str(world.declared[self.groups[slug]].id) if self.groups[slug] else ""
            )
        world.down = {"a@eu", "a@us", "c@eu"}
        bad = {slug for slug, seen in (("a", 2), ("b", 0), ("c", 1)) if seen >= COUNTS[self.counts[slug]]}
        for _ in range(3):
            await self.at.round(*BEATS)
        for slug in BEATS:
            assert await world.stage(slug) == ("critical" if slug in bad else "ok"), slug
        owners = sorted({self.groups[slug] or slug for slug in bad})
        running = await world.pool.fetch(
            "SELECT o.slug FROM episodes e JOIN objects o ON o.id = e.owner_id WHERE closed_at IS NULL ORDER BY 1"
        )
        assert [row["slug"] for row in running] == owners
        await self.calm()

    async def calm(self) -> None:
        """Everything is ok for some minutes: all stages are, and every episode has ended, none twice at a time."""
        world = self.at.world
        world.down = set()
        for _ in range(6):
            await self.at.round(*BEATS)
        for slug in BEATS:
            state = await world.state(slug)
            assert (state.stage, state.severity, state.flapping) == ("ok", None, False)
        for group in ("g", "h"):
            expected = "ok" if group in self.groups.values() else "unknown"
            assert await world.stage(group) == expected
        rows = await world.pool.fetch("SELECT owner_id, opened_at, closed_at FROM episodes ORDER BY 1, 2")
        for before, after in itertools.pairwise(rows):
            assert before["owner_id"] != after["owner_id"] or before["closed_at"] <= after["opened_at"]
        assert all(row["closed_at"] for row in rows)


def test_whatever_comes_in_whatever_order_in_the_end_it_says_what_is_so(database_url: str) -> None:
    with asyncio.Runner() as runner:
        pool = runner.run(prepared(database_url))
        try:
            made = type("Machine", (Model,), {"runner": runner, "pool": pool})
            run_state_machine_as_test(
                made,
                settings=settings(
                    max_examples=4,
                    stateful_step_count=10,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(pool.close())


async def prepared(database_url: str) -> Pool:
    async with opened(database_url):
        pass
    return await open_pool(database_url)


@pytest.mark.parametrize("seed", [1])
async def test_permutations_of_an_outage_are_one_episode_each(database_url: str, seed: int) -> None:
    async with opened(database_url) as pool:
        problems, figures = await permuted(pool, seed, beats=16)
    assert problems == []
    assert figures["outages_opened"] > 0
