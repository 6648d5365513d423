"""Leases on a real PostgreSQL: fair shares, failures, handing over. The plan alone by its laws."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.embedded.supervisor import Embedded
from engine.leases import Lease, Leases, plan, share
from engine.store.database import Pool

UNITS = [str(n) for n in range(8)]
TTL_S, RENEW_S = 0.6, 0.1
Until = Callable[..., Awaitable[None]]
Running = Callable[[Awaitable[None]], "asyncio.Task[None]"]


class Told:
    """What a holder was told."""

    def __init__(self) -> None:
        self.gained: dict[str, float | None] = {}
        self.lost: set[str] = set()

    def __call__(self, gained: Mapping[str, float | None], lost: frozenset[str]) -> None:
        self.gained.update(gained)
        self.lost |= lost


def member(pool: Pool, holder: str, told: Told | None = None, **options: Any) -> Leases:
    given = {"ttl_s": TTL_S, "renew_s": RENEW_S, **options}
    return Leases(pool, "evaluator", UNITS, holder, on_change=told, **given)


@given(units=st.integers(1, 20), members=st.sets(st.text("abcdef", min_size=1, max_size=2), min_size=1))
def test_shares_add_up_and_differ_by_at_most_one(units: int, members: set[str]) -> None:
    names = [str(n) for n in range(units)]
    shares = [share(names, me, members, {}) for me in members]
    assert sum(shares) == units
    assert max(shares) - min(shares) <= 1


def test_who_holds_the_odd_unit_keeps_it_when_somebody_joins() -> None:
    leases = {"0": Lease("b", -5.0)}
    assert share(["0"], "b", ["a", "b"], leases) == 1
    assert share(["0"], "a", ["a", "b"], leases) == 0


@given(
    mine=st.sets(st.sampled_from(UNITS)),
    others=st.sets(st.sampled_from(UNITS)),
    members=st.sets(st.sampled_from("abc")),
)
def test_nothing_is_claimed_that_somebody_holds(mine: set[str], others: set[str], members: set[str]) -> None:
    leases = {unit: Lease("b", -5.0) for unit in others - mine} | {unit: Lease("a", -5.0) for unit in mine}
    todo = plan(UNITS, "a", frozenset(mine), members, leases)
    assert set(todo.claim).isdisjoint(mine | others)
    assert set(todo.release) <= mine
    assert not (todo.claim and todo.release)


async def test_one_member_takes_everything_with_its_first_round(pool: Pool) -> None:
    told = Told()
    alone = member(pool, "a", told)
    await alone.renew()
    assert alone.held == frozenset(UNITS)
    assert told.gained == dict.fromkeys(UNITS)  # nobody ever held them


async def test_two_members_end_with_half_each(pool: Pool, until: Until, running: Running) -> None:
    one, other = member(pool, "a"), member(pool, "b")
    running(one.run())
    await until(lambda: len(one.held) == 8)
    running(other.run())
    await until(lambda: len(one.held) == len(other.held) == 4)
    assert one.held | other.held == frozenset(UNITS)
    assert one.members == other.members == {"a", "b"}


async def test_a_killed_members_units_move_and_the_gap_is_told(
    pool: Pool, until: Until, running: Running
) -> None:
    told = Told()
    killed, heir = member(pool, "a"), member(pool, "b", told)
    await killed.renew()
    running(heir.run())
    await until(lambda: heir.held == frozenset(UNITS))
    assert all(gap_s is not None and TTL_S * 0.9 <= gap_s < 5.0 for gap_s in told.gained.values())


async def test_units_given_back_move_at_once_with_hardly_a_gap(pool: Pool) -> None:
    told = Told()
    leaving, heir = member(pool, "a", ttl_s=30.0), member(pool, "b", told, ttl_s=30.0)
    await leaving.renew()
    await heir.renew()
    assert not heir.held
    await leaving.release()
    assert not leaving.held
    await heir.renew()
    assert heir.held == frozenset(UNITS)
    assert all(gap_s is not None and gap_s < 5.0 for gap_s in told.gained.values())


async def test_a_dead_members_units_move_though_the_clock_was_set_back(pool: Pool) -> None:
    told = Told()
    dead, heir, other = member(pool, "a"), member(pool, "b", told), member(pool, "c")
    await dead.renew()
    await pool.execute("UPDATE leases SET holder = '' WHERE unit = '7'")
    for table in ("leases", "members"):
        await pool.execute(f"UPDATE {table} SET until = until + interval '1 h'")
    await heir.renew()
    assert heir.held == frozenset(UNITS)
    assert heir.members == {"b"}
    assert told.gained["0"] == TTL_S
    await other.renew()
    assert not other.held  # what lives is nobody else's


async def test_the_same_holder_started_again_has_its_units_at_once(pool: Pool) -> None:
    told = Told()
    await member(pool, "a", ttl_s=30.0).renew()
    again = member(pool, "a", told, ttl_s=30.0)
    await again.renew()
    assert again.held == frozenset(UNITS)
    assert all(gap_s is not None and gap_s < 5.0 for gap_s in told.gained.values())


async def test_a_unit_that_another_took_is_dropped_at_the_next_renewal(pool: Pool) -> None:
    told = Told()
    mine = member(pool, "a", told, ttl_s=30.0)
    await mine.renew()
    await pool.execute("UPDATE leases SET holder = 'b' WHERE unit = '3'")
    await mine.renew()
    assert "3" not in mine.held
    assert told.lost == {"3"}


async def test_without_the_database_everything_is_kept_and_it_is_said(
    pool: Pool, database_url: str, servers: Embedded, until: Until, running: Running
) -> None:
    mine = member(pool, "a")
    running(mine.run())
    await until(lambda: len(mine.held) == 8)
    admin = await asyncpg.connect(servers.database_url)
    name = database_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await until(lambda: mine.trouble)
        await asyncio.sleep(TTL_S)
        assert mine.held == frozenset(UNITS)
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await until(lambda: not mine.trouble)
        assert mine.held == frozenset(UNITS)
    finally:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await admin.close()


async def test_five_members_start_together_and_no_unit_is_held_twice(
    pool: Pool, until: Until, running: Running
) -> None:
    members = [member(pool, f"m{n}") for n in range(5)]
    for one in members:
        running(one.run())
    await until(lambda: sorted(len(one.held) for one in members) == [1, 1, 2, 2, 2])
    assert frozenset().union(*(one.held for one in members)) == frozenset(UNITS)


@pytest.mark.parametrize("over_s", [-3.0, 0.5])
def test_a_gap_runs_from_when_the_holder_was_last_heard_of(over_s: float) -> None:
    assert Lease("a", over_s).gap_s(10.0) == 10.0 + over_s
    assert Lease("", 0.5).gap_s(10.0) == 0.5
