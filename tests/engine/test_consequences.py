"""From effects to rows and notices, in virtual time on a real PostgreSQL: told once, to whom it concerns."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from engine import consequences
from engine.catalog import Declared
from engine.fold import Fold
from engine.store import objects, states
from engine.store.audit import Actor
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.objects import Stored
from engine.store.pushed import Pushed, Relayed
from engine.store.states import Held
from engine.subject import Subject, compile_subject
from evaluators import quorum
from evaluators.facts import MemberChanged
from evaluators.model import Stage
from evaluators.policy import Bound, Window

ACTOR = Actor("test", "api")
MEMBER = str(uuid4())
STAGES = {".": Stage.OK, "x": Stage.CRITICAL, "w": Stage.WARNING}


@dataclass
class Told:
    """A group of one member, whose stages are pictured: one letter a minute."""

    pool: Pool
    group: Stored
    subject: Subject
    held: Held

    def declare(self, **spec: Any) -> None:
        """The group with other rules, as if from the beginning."""
        spec = {**self.group.spec, **spec}
        declared = Declared(self.group.id, "group", self.group.page_id, self.group.slug, spec, 1, None)
        self.subject = compile_subject(declared, self.subject.bound)

    async def hear(
        self, at: float, stage: Stage | None, member: str = MEMBER, *, counts: bool = True
    ) -> None:
        """A member says what it is; None: only time passes."""
        fold = Fold({self.group.id: self.held}, lambda _: self.subject, 0.0)
        fold.tick(self.group.id, at)
        if stage is not None:
            said = MemberChanged(at, member, stage, counts=counts)
            fold.pushed(Pushed(1, self.group.id, at, Relayed(said), None), at)
        self.held = fold.changed.get(self.group.id, self.held)
        async with transaction(self.pool) as connection:
            await consequences.record(connection, fold, "http://upbeat.test")

    async def see(self, picture: str) -> list[str]:
        """What is told, to whom, of all this: `12 ops open Shop is down`."""
        for minute, mark in enumerate(picture):
            await self.hear(60.0 * (minute + 1), STAGES.get(mark))
        rows = await self.pool.fetch(
            "SELECT n.item AS notice, o.slug FROM outbox n JOIN objects o ON o.id = n.target_id ORDER BY n.id"
        )
        notices = [(row["slug"], row["notice"]) for row in rows]
        return [f"{n['at'] / 60:g} {slug} {n['told']}: {n['title']}" for slug, n in notices]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url)
    await migrate(pool)
    yield pool
    await pool.close()


async def told(
    pool: Pool, *windows: Window, on: dict[str, list[str]], late: str = "evidence", **episodes: Any
) -> Told:
    """A group that tells channels `on` these news."""
    async with transaction(pool) as connection:
        page = await objects.create(connection, ACTOR, "page", None, {"slug": "p", "name": "P"})
        for slug, news in on.items():
            channel = {"slug": slug, "type": "webhook", "url": "http://127.0.0.1:9/", "on": news}
            await objects.create(connection, ACTOR, "channel", page.id, channel)
        spec = {"slug": "shop", "name": "Shop", "channels": list(on), "episodes": episodes}
        spec |= {"late_members": late, "incidents": {"open": "auto", "update": "auto"}}
        group = await objects.create(connection, ACTOR, "group", page.id, spec)
    declared = Declared(group.id, "group", page.id, group.slug, group.spec, 1, None)
    subject = compile_subject(declared, Bound(windows=windows))
    state = quorum.newborn(subject.policy, 0.0)
    return Told(pool, group, subject, Held(group.id, 0, 1, subject.measures, 1, state, subject.bound))


FLAP: dict[str, Any] = {"flapping": {"changes": 3, "within": "1h", "quiet": "5m"}, "resolve_delay": "3m"}
NEWS = ["open", "recovery", "change", "flapping"]


async def test_flapping_is_one_notice_in_and_one_out_that_says_where_it_ended(pool: Pool) -> None:
    lab = await told(pool, on={"ops": NEWS, "pager": ["open", "recovery"]}, **FLAP)
    assert await lab.see(".x.x.x.-------") == [
        "2 ops open: Shop is down",
        "2 pager open: Shop is down",
        "4 ops flapping: Shop is flapping: 3 changes in a short time; nothing more is said until it is quiet",
        "12 ops recovery: Shop no longer flaps: it has recovered",
        "12 pager recovery: Shop no longer flaps: it has recovered",
    ]
    row = await pool.fetchrow("SELECT flapping, cause FROM episodes")
    assert tuple(row or ()) == (False, "recovered")


async def test_an_hour_of_flapping_is_a_handful_of_notices(pool: Pool) -> None:
    lab = await told(pool, on={"ops": [*NEWS, "draft"]})
    for turn in range(180):
        await lab.hear(60.0 + 20.0 * turn, Stage.CRITICAL if turn % 2 else Stage.OK)
    assert len(await lab.see("")) <= 8
    assert await pool.fetchval("SELECT count(*) FROM incidents") <= 3


async def test_flapping_that_ends_in_another_severity_is_one_notice_too(pool: Pool) -> None:
    lab = await told(pool, on={"ops": NEWS}, **FLAP, better_after="0s")
    assert (await lab.see(".x.xw-------"))[2:] == ["10 ops flapping: Shop no longer flaps: it is warning"]
    assert await pool.fetchval("SELECT severity FROM episodes") == "warning"


async def test_who_wants_only_news_of_flapping_hears_that_it_is_over(pool: Pool) -> None:
    lab = await told(pool, on={"ops": ["flapping"]}, **FLAP)
    assert (await lab.see(".x.x.x.-------"))[1:] == [
        "12 ops recovery: Shop no longer flaps: it has recovered"
    ]


async def test_an_outage_in_maintenance_is_told_when_it_outlives_it(pool: Pool) -> None:
    lab = await told(pool, Window(90.0, 330.0, "mnt"), on={"ops": NEWS})
    assert await lab.see(".x") == []
    assert await pool.fetchval("SELECT suppressed_by FROM transitions ORDER BY id DESC") == [
        "maintenance:mnt"
    ]
    assert (await lab.see("------"))[0] == "5.5 ops open: Shop is down"
    assert await pool.fetchval("SELECT suppressed_by FROM transitions ORDER BY id DESC") == [
        "maintenance:mnt"
    ]


async def test_why_an_opening_is_suppressed_is_renewed_in_its_line_of_history(pool: Pool) -> None:
    lab = await told(pool, on={})
    await lab.see(".x")
    async with transaction(pool) as connection:
        await states.note_suppression(connection, {lab.group.id: ("asking", "dependency:d")})
    rows = await pool.fetch("SELECT stage, suppressed_by FROM transitions ORDER BY id")
    assert [tuple(row) for row in rows] == [("ok", None), ("critical", ["asking", "dependency:d"])]


async def test_an_episode_nothing_is_heard_of_ends_as_inactive_and_never_as_recovered(pool: Pool) -> None:
    lab = await told(pool, on={"ops": [*NEWS, "unknown"]}, inactivity="2m")
    await lab.see(".x")
    await lab.hear(180.0, Stage.UNKNOWN)
    await lab.hear(400.0, None)
    assert [notice.partition(" ")[2] for notice in await lab.see("")] == [
        "ops open: Shop is down",
        "ops unknown: Shop sends no data",
        "ops change: Shop has sent no data for so long that its episode ends; whether it recovered is not known",
    ]
    assert await pool.fetchval("SELECT cause FROM episodes") == "inactive"


async def test_members_that_fail_together_are_one_news_to_customers_and_a_later_one_is_another(
    pool: Pool,
) -> None:
    lab = await told(pool, on={}, late="update")
    others = [str(uuid4()) for _ in range(3)]
    for at, member in zip((60.0, 70.0, 100.0, 130.0), (MEMBER, *others), strict=True):
        await lab.hear(at, Stage.CRITICAL, member)
    steps = await pool.fetch(
        "SELECT step, of, extract(epoch FROM created_at)::int AS at FROM actions ORDER BY at"
    )
    assert [tuple(row) for row in steps] == [("open", "severity", 60), ("update", "member", 100)]


async def test_members_that_are_bad_for_long_and_no_outage_are_told_by_name(pool: Pool) -> None:
    lab = await told(pool, on={"ops": ["open", "advisory"]})
    async with transaction(pool) as connection:
        assert lab.group.page_id is not None
        spec = {"slug": "cart", "type": "external"}
        cart = await objects.create(connection, ACTOR, "beat", lab.group.page_id, spec)
    lab.declare(quorum={"critical": "all", "warning": "all", "advisory_after": "10m"})
    await lab.hear(60.0, Stage.OK)
    await lab.hear(60.0, Stage.CRITICAL, str(cart.id))
    await lab.hear(3600.0, None)
    await lab.hear(3660.0, Stage.OK, str(cart.id))
    await lab.hear(3720.0, Stage.CRITICAL, str(cart.id))
    await lab.hear(4500.0, Stage.CRITICAL, str(cart.id), counts=False)  # it was paused
    assert await lab.see("") == [
        "11 ops advisory: Shop is bad in cart, and not elsewhere",
        "61 ops advisory: Shop is ok everywhere again",
        "72 ops advisory: Shop is bad in cart, and not elsewhere",
        "75 ops advisory: Shop is ok, but cart does not vote any more",
    ]
