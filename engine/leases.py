"""Who does which work now: units of work shared out evenly over the living members of a kind.

A lease avoids double work and is never what correctness rests on (that is the compare-and-swap on state rows): two
holders may believe in the same unit for a moment. All times are the database's; what ends more than FAR TTLs ahead was
written before its clock was set back, and is over.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.store.database import DATABASE_AWAY, Pool

TTL_S: Final = 10.0
RENEW_S: Final = 3.0
FAR: Final = 10
QUERY_TIMEOUT_S: Final = 5.0

_log = logging.getLogger(__name__)

# The old `until` is what is shown: the select reads the rows as they were before `mine` renewed them.
_RENEW: Final = f"""
WITH joined AS (
    INSERT INTO members (kind, holder, until) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
    ON CONFLICT (kind, holder) DO UPDATE SET until = excluded.until
), forgotten AS (
    DELETE FROM members WHERE kind = $1 AND holder <> $2 AND until < clock_timestamp() - interval '1 hour'
), mine AS (
    UPDATE leases SET until = clock_timestamp() + make_interval(secs => $3)
    WHERE kind = $1 AND holder = $2 AND unit = ANY ($4) RETURNING unit
)
SELECT
    (SELECT coalesce(array_agg(unit), '{{}}') FROM mine) AS mine,
    (SELECT coalesce(array_agg(holder), '{{}}') FROM members WHERE kind = $1
     AND until > clock_timestamp() AND until <= clock_timestamp() + make_interval(secs => $3 * {FAR})) AS members,
    (SELECT coalesce(json_agg(json_build_array(unit, holder, CASE
        WHEN until > clock_timestamp() + make_interval(secs => $3 * {FAR}) THEN 0
        ELSE extract(epoch FROM clock_timestamp() - until) END)), '[]')
     FROM leases WHERE kind = $1) AS leases
"""
_CLAIM: Final = f"""
INSERT INTO leases (kind, unit, holder, until)
SELECT $1, unit, $2, clock_timestamp() + make_interval(secs => $3) FROM unnest($4::text[]) AS unit
ON CONFLICT (kind, unit) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE leases.holder = '' OR leases.until <= clock_timestamp()
    OR leases.until > clock_timestamp() + make_interval(secs => $3 * {FAR}) RETURNING unit
"""
# A unit given back has no holder: its row stays and says since when nobody has it.
_RELEASE: Final = """
UPDATE leases SET holder = '', until = clock_timestamp() WHERE kind = $1 AND holder = $2 AND unit = ANY ($3)
"""
_LEAVE: Final = "DELETE FROM members WHERE kind = $1 AND holder = $2"


@dataclass(frozen=True, slots=True)
class Lease:
    """One unit's row: who holds it ('': nobody), and for how many seconds it has been over (negative: it is not)."""

    holder: str
    over_s: float

    @property
    def is_free(self) -> bool:
        """Whether anybody may take it."""
        return not self.holder or self.over_s >= 0

    def gap_s(self, ttl_s: float) -> float:
        """For how long nobody may have looked: since it was given back, or since its holder was last heard of."""
        return max(self.over_s if not self.holder else self.over_s + ttl_s, 0.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a member does next: units to claim, units to give back."""

    claim: tuple[str, ...]
    release: tuple[str, ...]


def share(units: Sequence[str], me: str, members: Iterable[str], leases: Mapping[str, Lease]) -> int:
    """How many units are mine: equal parts, the remainder to those who hold most already, so that little moves."""
    living = {*members, me}
    held = dict.fromkeys(living, 0)
    for unit in units:
        if (lease := leases.get(unit)) and not lease.is_free and lease.holder in held:
            held[lease.holder] += 1
    order = sorted(living, key=lambda holder: (-held[holder], holder))
    return len(units) // len(living) + (order.index(me) < len(units) % len(living))


def plan(
    units: Sequence[str],
    me: str,
    mine: frozenset[str],
    members: Iterable[str],
    leases: Mapping[str, Lease],
) -> Plan:
    """Take free units up to my share, give back what is above it."""
    wanted = share(units, me, members, leases) - len(mine)
    if wanted < 0:
        return Plan((), tuple(sorted(mine)[wanted:]))
    free = (unit for unit in units if unit not in mine and (unit not in leases or leases[unit].is_free))
    return Plan(tuple(free)[:wanted], ())


class Leases:
    """One member's part of the `units` of a `kind`; `holder` names the member.

    `on_change(gained, lost)` is called in the loop when `held` has changed; `gained` says for each unit how many
    seconds nobody may have held it, None if nobody ever did. The same `holder` started again has its units back at
    once. While the database cannot be reached everything held is kept, and `trouble` says so.
    """

    def __init__(
        self,
        pool: Pool,
        kind: str,
        units: Sequence[str],
        holder: str,
        *,
        on_change: Callable[[Mapping[str, float | None], frozenset[str]], None] | None = None,
        ttl_s: float = TTL_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self.held: frozenset[str] = frozenset()
        self.changes = 0  # units gained or lost
        self.members: frozenset[str] = frozenset()
        self.trouble: str | None = None
        self._pool, self._kind, self._units, self._holder = pool, kind, tuple(units), holder
        self._on_change, self._ttl_s, self._renew_s = on_change, ttl_s, renew_s

    async def run(self) -> None:
        """Renew, claim and give back until cancelled; then `release` is the caller's last word."""
        while True:
            wanting = await self.renew()
            # Somebody who has less than its share looks more often: another is about to give it some.
            await asyncio.sleep(self._renew_s / 3 if wanting else self._renew_s)

    async def renew(self) -> bool:
        """One round. Returns whether there is more to take than could be had now."""
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                wanting = await self._round()
        except DATABASE_AWAY as failure:
            if self.trouble is None:
                _log.warning("leases of %s cannot be renewed, all are kept: %s", self._kind, failure)
            self.trouble = str(failure) or type(failure).__name__
            return False
        self.trouble = None
        return wanting

    async def run_with(self, work: Coroutine[Any, Any, None]) -> None:
        """Keep leases, and do `work` beside it, until cancelled; then give everything back."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.run())
                group.create_task(work)
        finally:
            await self.release()

    async def release(self) -> None:
        """Give everything back at once, so that others need not wait for the lease to run out."""
        self.members = frozenset()
        self._become(frozenset(), {})
        with contextlib.suppress(*DATABASE_AWAY):
            async with asyncio.timeout(QUERY_TIMEOUT_S), self._pool.acquire() as connection:
                await connection.execute(_RELEASE, self._kind, self._holder, list(self._units))
                await connection.execute(_LEAVE, self._kind, self._holder)

    async def _round(self) -> bool:
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(_RENEW, self._kind, self._holder, self._ttl_s, list(self._units))
            assert row is not None
            leases = {unit: Lease(holder, float(over_s)) for unit, holder, over_s in row["leases"]}
            mine = frozenset(row["mine"])
            self.members = frozenset(row["members"]) | {self._holder}
            # What is lost is let go before anything else: another is at it already.
            self._become(mine, leases)
            todo = plan(self._units, self._holder, mine, self.members, leases)
            if todo.release:
                self._become(mine - frozenset(todo.release), leases)
                await connection.execute(_RELEASE, self._kind, self._holder, list(todo.release))
            if not todo.claim:
                return len(self.held) < share(self._units, self._holder, self.members, leases)
            claimed = await connection.fetch(_CLAIM, self._kind, self._holder, self._ttl_s, list(todo.claim))
            self._become(mine | {claim["unit"] for claim in claimed}, leases)
            return len(claimed) < len(todo.claim)

    def _become(self, held: frozenset[str], leases: Mapping[str, Lease]) -> None:
        gained = {
            unit: leases[unit].gap_s(self._ttl_s) if unit in leases else None
            for unit in sorted(held - self.held)
        }
        lost, self.held = self.held - held, held
        self.changes += len(gained) + len(lost)
        if self._on_change is not None and (gained or lost):
            self._on_change(gained, lost)
