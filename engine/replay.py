"""Replays of what is stored: their rows, in the order in which they are to be folded, in bounded memory. What is folded is `evaluators.replay`'s.

Run as a program it is a worker (`engine.worker`): of an order it replays every `of`-th component of the stored plan.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec.structs import asdict, replace

from engine.store import facts, jobs, replays, results, states
from engine.store.database import Connection, Row
from engine.store.ids import show
from engine.store.replays import Found, Plan, Played, Replayed, Retraced
from engine.worker import Order, Tell, run
from evaluators.facts import Fact, PolicyChanged
from evaluators.lane import count
from evaluators.model import Kind, Result, Timings, Verdict
from evaluators.policy import Bound, compile_policy
from evaluators.replay import MOST, Outcome, Replay, Retrace, Role, compare, digest
from rules.subject import rule_of

AT_ONCE: Final = 5000
"""Rows in memory."""
CHUNK_S: Final = 6 * 3600.0
"""Results are sorted in pieces of so long, by the database."""
WARM_UP_S: Final = 6 * 3600.0
"""So long before what is asked for a replay begins: votes, and what is open already, have to come from somewhere."""
SUBJECTS_AT_ONCE: Final = 200
"""Beats and groups replayed in one pass over the table."""
LISTED: Final = 20_000
"""Episodes listed of all beats and groups together, under each policy."""

_TIMINGS: Final = Timings()
# Of a scheduled ok run, which nearly every one is, only what orders it is read. `date_part` is a float8, `extract` a numeric.
_COLUMNS: Final = (
    "r.region, r.boot_id::text AS boot, r.seq, CASE WHEN r.kind = 'scheduled' AND r.verdict = 'ok' THEN NULL "
    "ELSE concat_ws(E'\\x1f', r.run_id, r.kind, r.verdict, r.n, r.request) END AS more"
)
# What hears of each other together, in the order of time: what is folded next is then near in memory.
_RESULTS: Final = (
    f"SELECT b.n, date_part('epoch', r.at) AS at, {_COLUMNS} FROM results r "
    "JOIN unnest($1::uuid[], $2::int4[], $3::int4[]) AS b (id, n, component) ON b.id = r.beat_id "
    "WHERE r.beat_id = ANY ($1) AND r.scheduled_at >= to_timestamp($4) AND r.scheduled_at < to_timestamp($5) "
    "ORDER BY b.component, r.at, r.position"
)
_FACTS: Final = (
    "SELECT array_position($1, subject_id) - 1 AS n, at, fact::text AS fact, bound::text AS bound FROM facts "
    "WHERE subject_id = ANY ($1) AND at >= $2 AND at < $3 ORDER BY at, position"
)
# What was so when the replay begins: the last pause or return to work, the last word of each signal, member and parent.
_BEFORE: Final = (
    "SELECT DISTINCT ON (subject_id, about) array_position($1, subject_id) - 1 AS n, fact::text AS fact FROM ("
    " SELECT *, CASE WHEN fact->>'type' IN ('Suspended', 'Continued') THEN 'pause' "
    " ELSE coalesce(fact->>'signal', fact->>'member', fact->>'parent') END AS about FROM facts "
    " WHERE subject_id = ANY ($1) AND at < $2) f WHERE about IS NOT NULL ORDER BY subject_id, about, position DESC"
)
_BOUNDS: Final = (
    "SELECT DISTINCT ON (subject_id) subject_id, bound::text AS bound FROM facts "
    "WHERE subject_id = ANY ($1) AND at < $2 AND bound IS NOT NULL ORDER BY subject_id, position DESC"
)
_STORED: Final = (
    f"SELECT r.position, date_part('epoch', r.seen_at) AS seen_at, date_part('epoch', r.at) AS at, r.check_version, {_COLUMNS} "
    "FROM results r WHERE r.beat_id = $1 ORDER BY r.position"
)
_LOGGED: Final = (
    "SELECT position, fact::text AS fact, bound::text AS bound, revision, spec::text AS spec FROM facts "
    "WHERE subject_id = $1 ORDER BY position"
)

Told = Callable[[float, int], None]
"""Hears of the share that is done, 0 to 1, and of how many rows were read."""


async def work(connection: Connection, plan: Plan, share: int, of: int, tell: Told) -> Found:
    """Every `of`-th component of `plan`, from number `share` on."""
    found, rows = Found(), 0
    mine = plan.components[share::of]
    if plan.exact:
        for place, one in enumerate(one for component in mine for one in component):
            found.retraced.append(await retrace(connection, one))
            rows += found.retraced[-1].results
            tell((place + 1) / sum(map(len, mine)), rows)
    else:
        passes = list(_passes(mine))
        for place, components in enumerate(passes):

            def told(share: float, read: int, place: int = place, before: int = rows) -> None:
                tell((place + share) / len(passes), before + read)

            replayed, read = await what_if(connection, plan, components, told)
            found.replayed += replayed
            rows += read
    return replace(found, rows=rows)


def _passes(components: Sequence[list[Played]]) -> Iterable[list[list[Played]]]:
    """As many components together as may be in memory: the table is read once for all of them."""
    group: list[list[Played]] = []
    for component in components:
        if group and sum(map(len, group)) + len(component) > SUBJECTS_AT_ONCE:
            yield group
            group = []
        group.append(component)
    if group:
        yield group


# ---- other policies


async def what_if(
    connection: Connection, plan: Plan, components: Sequence[list[Played]], tell: Told
) -> tuple[list[Replayed], int]:
    """Replay these components, all in one pass; how many rows were read."""
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        await connection.execute("SET LOCAL work_mem = '32MB'")
        await connection.execute("SET LOCAL statement_timeout = 0")
        return await What(connection, plan, components).run(tell)


class What:
    """One pass over the rows of some components."""

    def __init__(self, connection: Connection, plan: Plan, components: Sequence[list[Played]]) -> None:
        self._connection, self._plan, self._components = connection, plan, components
        self._start = plan.since - WARM_UP_S
        self._played = [one for component in components for one in component]
        self._ids = [one.id for one in self._played]
        self._names = [str(one) for one in self._ids]
        self._places = [place for place, component in enumerate(components) for _ in component]
        self._replays: list[Replay] = []
        self._of: list[Replay] = []  # of each subject, the replay it is in
        # Of each component, what is to be folded between its rows: facts, and runs that ended after the piece they were due in.
        self._pending: list[list[Row]] = [[] for _ in components]

    async def run(self, tell: Told) -> tuple[list[Replayed], int]:
        await self._begin()
        rows, begin, until = 0, self._start, self._plan.until
        while begin < until:
            end = min(begin + CHUNK_S, until)
            for row in await self._connection.fetch(_FACTS, self._ids, begin, end):
                self._pending[self._places[row["n"]]].append(row)
            for pending in self._pending:
                pending.sort(key=_time)
            async for batch in self.batches(begin, end):
                self._feed(batch, end)
                rows += len(batch)
                tell((begin - self._start) / (until - self._start), rows)
            for place in range(len(self._pending)):
                self._catch_up(place, end)
            begin = end
        return self._end(), rows

    async def _begin(self) -> None:
        bounds = {
            row["subject_id"]: states.decode_bound(row["bound"])
            for row in await self._connection.fetch(_BOUNDS, self._ids, self._start)
        }
        oldest = await results.oldest(self._connection)  # before it was kept, nobody knows
        start = max(self._start, oldest or 0.0)
        most = min(MOST, max(1, LISTED // sum(map(len, self._plan.components))))
        for component in self._components:
            roles = [
                Role(
                    str(one.id),
                    one.slug,
                    tuple(rule_of(one.kind, spec) for spec in one.specs),
                    bounds.get(one.id, one.bound),
                    max(start, one.born),
                )
                for one in component
            ]
            played = Replay(roles, self._plan.since, self._plan.until, most)
            self._replays.append(played)
            self._of += [played] * len(component)
        for row in await self._connection.fetch(_BEFORE, self._ids, self._start):
            fact = replace(facts.decode(row["fact"]), at=self._start)
            self._of[row["n"]].fact(self._names[row["n"]], fact, None)

    async def batches(self, begin: float, end: float) -> AsyncIterator[list[Row]]:
        """The runs that were due in this time."""
        numbers = list(range(len(self._ids)))
        cursor = await self._connection.cursor(_RESULTS, self._ids, numbers, self._places, begin, end)
        while batch := await cursor.fetch(AT_ONCE):
            yield batch

    def _feed(self, batch: list[Row], end: float) -> None:
        """Nearly every row is a scheduled ok run, which is only counted."""
        of, names, places = self._of, self._names, self._places
        lanes = [played.lane(name) for played, name in zip(of, names, strict=True)]
        guards = [played if played.is_shared else lane for played, lane in zip(of, lanes, strict=True)]
        next_at = [pending[0]["at"] if pending else end for pending in self._pending]
        untils = [min(next_at[place], end) for place in places]
        rows = iter(batch)
        while (row := count(lanes, guards, rows, untils)) is not None:
            n, at = row["n"], row["at"]
            if at >= end:
                self._pending[places[n]].append(row)
                continue
            if at >= untils[n]:
                self._catch_up(places[n], at)
                pending = self._pending[places[n]]
                soonest = min(pending[0]["at"], end) if pending else end
                untils = [
                    soonest if place == places[n] else was for place, was in zip(places, untils, strict=True)
                ]
            self._run(row)

    def _catch_up(self, place: int, at: float) -> None:
        """Fold what is pending of a component up to `at`."""
        pending = self._pending[place]
        while pending and pending[0]["at"] <= at:
            row = pending.pop(0)
            if "region" in row.keys():  # noqa: SIM118 - a row holds its values
                self._run(row)
                continue
            bound = states.decode_bound(row["bound"]) if row["bound"] else None
            self._of[row["n"]].fact(self._names[row["n"]], facts.decode(row["fact"]), bound)

    def _run(self, row: Row) -> None:
        n, at, region, boot, seq, more = row
        self._of[n].result(self._names[n], _result(self._names[n], region, at, seq, more), boot)

    def _end(self) -> list[Replayed]:
        outcomes: dict[str, list[Outcome]] = {}
        for played in self._replays:
            outcomes |= played.finish()
        found = []
        for one, name in zip(self._played, self._names, strict=True):
            old, new = outcomes[name]
            if not one.bound.group:  # members own no episodes
                shown = show(one.kind, one.id)
                found.append(Replayed(shown, one.slug, one.kind, old, new, compare(old, new)))
        return found


def _time(row: Row) -> float:
    at: float = row["at"]
    return at


def _result(beat: str, region: str, at: float, seq: int, more: str | None, version: int = 0) -> Result:
    """A row as the run it was, as far as anything is decided by it."""
    if more is None:
        return Result(
            "", beat, region, Kind.SCHEDULED, Verdict.OK, at, at, seq, 1, _TIMINGS, check_version=version
        )
    run, kind, verdict, n, *request = more.split("\x1f", 4)
    return Result(
        run,
        beat,
        region,
        Kind(kind),
        Verdict(verdict),
        at,
        at,
        seq,
        1,
        _TIMINGS,
        request=request[0] if request else None,
        n=int(n),
        check_version=version,
    )


# ---- the past as it was


async def retrace(connection: Connection, one: Played) -> Retraced:
    """Whether the log of a beat or group leads, from its birth, to the very state that is stored."""
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        await connection.execute("SET LOCAL work_mem = '32MB'")
        await connection.execute("SET LOCAL statement_timeout = 0")
        stored = states.decode_state(
            await connection.fetchval("SELECT state::text FROM states WHERE subject_id = $1", one.id)
        )
        found = Retraced(show(one.kind, one.id), one.slug, one.kind, stored=digest(stored))
        oldest = await results.oldest(connection)
        if oldest is not None and one.born < oldest:
            found.reason = (
                f"it is older than the results that are kept, which begin on {states.moment(oldest):%Y-%m-%d}"
            )
            return found
        try:
            past = await _retrace(connection, one, found)
        except LookupError as lost:
            found.reason = str(lost)
            return found
        if past is None:
            found.reason = "nothing was folded yet"
            return found
        again = past.until(stored.at)
        found.replayed, found.is_same = digest(again), digest(again) == found.stored
        was, now = (msgspec.to_builtins(asdict(state)) for state in (stored, again))
        found.differs = [
            f"{name}: stored {_cut(was[name])}, replayed {_cut(now[name])}"
            for name in was
            if name != "heartbeat" and was[name] != now[name]
        ]
        return found


async def _retrace(connection: Connection, one: Played, found: Retraced) -> Retrace | None:
    past: Retrace | None = None
    logged = _rows(connection, _LOGGED, one.id)
    fact_row = await anext(logged, None)
    async for row in _rows(connection, _STORED, one.id):
        while fact_row is not None and fact_row["position"] < row["position"]:
            past = _relive(past, one, fact_row)
            fact_row, found.facts = await anext(logged, None), found.facts + 1
        if past is not None:
            result = _result(
                str(one.id), row["region"], row["at"], row["seq"], row["more"], row["check_version"]
            )
            past.result(result, row["boot"], row["seen_at"])
            found.results += 1
    while fact_row is not None:
        past = _relive(past, one, fact_row)
        fact_row, found.facts = await anext(logged, None), found.facts + 1
    return past


def _relive(past: Retrace | None, one: Played, row: Row) -> Retrace:
    fact: Fact = facts.decode(row["fact"])
    is_birth = past is None and isinstance(fact, PolicyChanged)
    if (is_birth or isinstance(fact, PolicyChanged)) and row["spec"] is None:
        raise LookupError(f"what was declared in revision {row['revision']} was not kept")
    policy = None
    if row["spec"] is not None:
        bound: Bound = states.decode_bound(row["bound"])
        policy = compile_policy(rule_of(one.kind, msgspec.json.decode(row["spec"])), bound)
    if past is None:
        if policy is None:
            raise LookupError("the log does not reach back to its birth")
        past = Retrace(policy, fact.at)
    past.fact(fact, policy, row["revision"] or 0)
    return past


async def _rows(connection: Connection, query: str, subject_id: UUID) -> AsyncIterator[Row]:
    cursor = await connection.cursor(query, subject_id)
    while batch := await cursor.fetch(AT_ONCE):
        for row in batch:
            yield row


def _cut(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 200 else f"{text[:200]}..."


# ---- as a program


def digest_of(found: Found) -> str:
    """One hash of all states at the end."""
    ends = [(one.id, one.old.digest, one.new.digest) for one in found.replayed]
    ends += [(one.id, one.stored, one.replayed) for one in found.retraced]
    return hashlib.sha256(msgspec.json.encode(sorted(ends))).hexdigest()


def join(parts: Sequence[bytes]) -> bytes:
    """What the workers of one replay found, as one."""
    whole = Found()
    for found in map(replays.decode, parts):
        whole.replayed += found.replayed
        whole.retraced += found.retraced
        whole.rows += found.rows
    whole.replayed.sort(key=lambda one: (one.kind, one.slug, one.id))
    whole.retraced.sort(key=lambda one: (one.kind, one.slug, one.id))
    return msgspec.json.encode(replace(whole, digest=digest_of(whole)))


async def _work(connection: Connection, order: Order, tell: Tell) -> tuple[int, Found]:
    plan = replays.decode_plan(await jobs.plan_of(connection, order.job))
    found = await work(connection, plan, order.share, order.of, tell)
    return found.rows, found


if __name__ == "__main__":
    run(_work)
