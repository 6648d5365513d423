"""Regions that are sick: what each partition sees of them, and the one process that suspends them and lets them return.

What decides is `evaluators.sickness`. A suspension is a row: catalogs read it, and bring every beat to the regions left.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from engine.clock import Clock
from engine.leases import Leases
from engine.store import objects, regions
from engine.store.database import DATABASE_AWAY, Connection, Pool, transaction
from engine.store.ids import derived_id
from engine.store.telling import Telling, tell_all
from engine.subject import Subject
from evaluators.model import Notice
from evaluators.sickness import (
    Count,
    Counted,
    Effect,
    Limits,
    RegionSuspended,
    Standing,
    State,
    decide,
    standings,
)
from evaluators.state import State as BeatState
from evaluators.words import region_is_sick

LOOK_S: Final = 1.0
APART_S: Final = 1.0
"""A partition says what it sees at most so often."""
KEEP_S: Final = 30.0
"""And at least so often, or it is stale: see `engine.store.regions`."""

_NETLOC: Final = re.compile(r"^(?:\w+://)?(?:[^/?#]*@)?([^/?#]*).*$", re.DOTALL)
_PORT: Final = re.compile(r"^([^:]*|\[.*\]|.*\}):\d+$")

_log = logging.getLogger(__name__)


class RegionCounts:
    """What one partition sees of regions: kept up with every state that changes, none is looked at twice."""

    def __init__(self) -> None:
        self._standings: dict[UUID, tuple[dict[str, Standing], str]] = {}
        self._totals: dict[str, Counter[Standing]] = {}
        self._hosts: dict[str, Counter[str]] = {}
        self._is_changed, self._said_s = True, float("-inf")

    def put(self, subject: Subject | None, subject_id: UUID, state: BeatState) -> None:
        """A beat that stands like that now; one that is gone is nothing."""
        found = standings(subject.policy, state) if subject is not None else {}
        before, host = self._standings.get(subject_id, ({}, ""))
        if found == before:
            return
        self._is_changed = True
        self._add(before, host, -1)
        host = host_of(subject) if subject is not None else ""
        self._add(found, host, 1)
        if found:
            self._standings[subject_id] = found, host
        else:
            del self._standings[subject_id]

    def _add(self, found: Mapping[str, Standing], host: str, by: int) -> None:
        for region, standing in found.items():
            self._totals.setdefault(region, Counter())[standing] += by
            if standing == "lonely":
                hosts = self._hosts.setdefault(region, Counter())
                hosts[host] += by
                if not hosts[host]:
                    del hosts[host]

    def counts(self) -> dict[str, Count]:
        """Of each region it has heard of."""
        return {
            region: Count(
                totals.total(), totals["ok"], totals["lonely"], frozenset(self._hosts.get(region, ()))
            )
            for region, totals in self._totals.items()
        }

    async def tell(self, pool: Pool, partition: int, now_s: float) -> None:
        """Write them down, if they changed and it is time."""
        if now_s < self._said_s + (APART_S if self._is_changed else KEEP_S):
            return
        async with pool.acquire() as connection:
            await regions.keep(connection, partition, self.counts())
        self._is_changed, self._said_s = False, now_s


def host_of(subject: Subject) -> str:
    """The host that a beat asks; without one it stands for itself."""
    netloc = _NETLOC.sub(r"\1", subject.address)
    return _PORT.sub(r"\1", netloc) or str(subject.subject_id)


class Sickness:
    """Suspends regions and lets them return; of all processes one does it at a time."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        *,
        holder: str,
        public_url: Callable[[], str],
        limits: Limits | None = None,
    ) -> None:
        self._pool, self._clock, self._public_url = pool, clock, public_url
        self._lease, self._limits = Leases(pool, "sickness", ["0"], holder), limits or Limits()
        self._well: Mapping[str, float] = {}

    async def run(self) -> None:
        """Look every second until cancelled."""
        await self._lease.run_with(self._work())

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._lease.held:
                self._well = {}
                continue
            try:
                await self.look()
            except DATABASE_AWAY as failure:
                _log.warning("regions are not judged now: %s", failure)

    async def look(self) -> tuple[Effect, ...]:
        """One decision, and what follows from it in one transaction."""
        async with transaction(self._pool) as connection:
            sick = {
                region: row["began_at"].timestamp()
                for region, row in (await regions.suspended(connection)).items()
            }
            declared = tuple(stored.slug for stored in await objects.listing(connection, "region"))
            fact = Counted(self._clock.epoch_s(), declared, await regions.counts(connection))
            state, effects = decide(self._limits, State(sick, self._well), fact)
            for effect in effects:
                await self._follow(connection, effect)
        self._well = state.well
        return effects

    async def _follow(self, connection: Connection, effect: Effect) -> None:
        """Keep it, and tell it once to those who have beats there."""
        kept = await regions.keep_effect(connection, effect)
        if kept is None:
            return
        _log.warning("%s", said(effect))
        begins = isinstance(effect, RegionSuspended)
        notice = Notice(
            id=str(derived_id("notice", "region", kept, begins)),
            told="region",
            title=said(effect),
            at=effect.at,
            why=(_BEGINS if begins else _ENDS,),
            link=f"{self._public_url()}/console/regions",
        )
        line = f"region:{effect.region}"
        pages = await regions.pages(connection, effect.region)
        await tell_all(connection, [Telling(page, None, line, notice) for page in pages])


_BEGINS: Final = "Its votes do not count until it is well again. The targets are fine elsewhere: look at its probe and network."
_ENDS: Final = "Its votes count again, as the others' do."


def said(effect: Effect) -> str:
    """What operators are told."""
    if isinstance(effect, RegionSuspended):
        why = region_is_sick(effect.count.beats, effect.count.lonely)
        return f"The region {effect.region} is suspended: {why}"
    cause = {
        "well": "its beats are ok there",
        "removed": "it is no longer declared",
        "outnumbered": "too few other regions are left to judge it by",
    }[effect.cause]
    return f"The region {effect.region} is no longer suspended: {cause}"
