"""Many beats see one outage each, and every beat's results come in an order of their own: late, twice, or never again in order.

Real partitions and a real PostgreSQL, in virtual time. What must be so is known from how the outage was made, not from the core:
one outage is at most one episode of its owner, one that lasts is one, and afterwards everything is ok and nothing is open.
Half of the beats stand alone. The others are in groups of two, whose results come late apart from each other: what the second
says of an outage when the first is well again goes on within the group's reopen window.
"""

import heapq
import random
from typing import Any

from engine.store.database import Pool
from evaluators.model import Result
from tests.engine.world import REGIONS
from tests.rig.virtual import Virtual, virtual

INTERVAL_S, SLICE_S = 60.0, 20.0
BEFORE, LONGEST, AFTER = 2, 6, 5  # rounds
DELAYS_S = (0.0, 0.0, 0.0, 1.0, 20.0, 40.0, 60.0, 100.0, 130.0)
CERTAIN = 5
"""An outage of so many rounds is seen however late results come."""


async def permuted(pool: Pool, seed: int, beats: int) -> tuple[list[str], dict[str, int]]:
    """One wave of so many permutations. Returns what is wrong, and figures."""
    async with virtual(pool) as at:
        return await _Wave(at, random.Random(seed), beats).run()


class _Wave:
    def __init__(self, at: Virtual, chance: random.Random, beats: int) -> None:
        self._at, self._chance = at, chance
        self._groups = [f"g{n}" for n in range(beats // 4)]
        owned = {f"{group}-{n}": group for group in self._groups for n in "ab"}
        alone = {f"b{n}": f"b{n}" for n in range(beats - len(owned))}
        self._beats = owned | alone  # and their owners
        self._lasts = {owner: chance.randint(0, LONGEST) for owner in self._beats.values()}
        self._coming: list[tuple[float, int, Result]] = []
        self._sent = 0

    async def run(self) -> tuple[list[str], dict[str, int]]:
        at, world = self._at, self._at.world
        for group in self._groups:
            await world.declare("group", group, episodes={"flapping": "off", "reopen_window": "5m"})
        for n, (slug, owner) in enumerate(self._beats.items()):
            confirm: Any = "off" if n % 4 < 2 else {"runs": 2, "wait": "5s"}
            member: dict[str, Any] = {"group": owner} if owner in self._groups else {}
            await world.beat(slug, quorum={"confirm": confirm}, episodes={"flapping": "off"}, **member)
        await at.declared()
        for number in range(3 * (BEFORE + LONGEST + AFTER)):
            self._look(number)
            await self._deliver()
            await at.wait(SLICE_S, SLICE_S)
        while self._coming:
            await self._deliver()
            await at.wait(SLICE_S, SLICE_S)
        world.down = set()
        for _ in range(4):
            await at.round(*self._beats, interval_s=INTERVAL_S)
        return await self._judged()

    def _look(self, number: int) -> None:
        """One region looks at everything; what it sees comes when it comes, some of it twice."""
        world, now = self._at.world, self._at.clock.now
        turn, region = number // 3, REGIONS[number % 3]
        world.down = {
            slug for slug, owner in self._beats.items() if BEFORE <= turn < BEFORE + self._lasts[owner]
        }
        for slug in self._beats:
            result = world.result(slug, region)
            for _ in range(self._chance.choice((1, 1, 1, 2))):
                delay_s = self._chance.choice(DELAYS_S) if turn >= BEFORE else 0.0
                self._sent += 1
                heapq.heappush(
                    self._coming, (now + delay_s, self._chance.randrange(1 << 40) + self._sent, result)
                )

    async def _deliver(self) -> None:
        come = list[Result]()
        while self._coming and self._coming[0][0] <= self._at.clock.now:
            come.append(heapq.heappop(self._coming)[2])
        await self._at.send(come)
        self._chance.shuffle(self._at.wire.orders)
        await self._at.answer()

    async def _judged(self) -> tuple[list[str], dict[str, int]]:
        pool, problems = self._at.world.pool, list[str]()
        rows = await pool.fetch(
            "SELECT o.slug, o.kind, s.stage, s.state->>'severity' AS severity, count(e.id) AS episodes, "
            "count(e.id) FILTER (WHERE e.closed_at IS NULL OR e.cause <> 'recovered') AS odd "
            "FROM states s JOIN objects o ON o.id = s.subject_id LEFT JOIN episodes e ON e.owner_id = o.id "
            "GROUP BY o.slug, o.kind, s.stage, s.state->>'severity'"
        )
        for row in rows:
            most = 1 if self._lasts.get(row["slug"]) else 0
            least = int(self._lasts.get(row["slug"], 0) >= CERTAIN)
            if row["stage"] != "ok" or row["severity"] or row["odd"]:
                problems.append(
                    f"{row['slug']} is {row['stage']}, its episode {row['severity']}, odd {row['odd']}"
                )
            if not least <= row["episodes"] <= most:
                problems.append(f"{row['slug']}: {row['episodes']} episodes of {most} outages")
        doubled = await pool.fetchval("SELECT count(*) - count(DISTINCT run_id) FROM results")
        if doubled or len(rows) != len(self._beats) + len(self._groups):
            problems.append(f"{doubled} results twice, {len(rows)} states")
        figures = {
            "permutations": len(self._beats),
            "deliveries": self._sent,
            "outages": sum(map(bool, self._lasts.values())),
            "outages_opened": sum(row["episodes"] for row in rows),
        }
        return problems, figures
