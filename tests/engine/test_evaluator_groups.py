"""Groups on a real PostgreSQL and NATS, with the real catalog: members in one partition, their group in another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine.bus import Bus
from engine.catalog import Catalog
from engine.clock import SystemClock
from engine.evaluator import Evaluator
from engine.relations import Relations
from engine.store import objects, pushed, reviews, states
from engine.store.audit import Actor
from engine.store.database import Pool, migrate, open_pool, transaction
from engine.store.ids import new_id, partition_of, show
from engine.store.objects import InUseError, Stored
from engine.store.pushed import Report
from engine.subject import Subject, compile_subject
from evaluators.model import Batch, Failure, Kind, Result, Severity, Timings, Verdict
from rules.known import Kind as Known
from tests.engine.test_evaluator import eventually

ACTOR = Actor("test", "api")
MARKS = {"x": "critical", "w": "warning", ".": "ok"}
BEAT: dict[str, Any] = {
    "type": "tcp",
    "host": "x.example",
    "port": 443,
    "regions": ["eu"],
    "interval": "10s",
    "channels": ["own"],
    "components": {"site": {}},
    "quorum": {"confirm": None, "consecutive": {"open": 1, "close": 1}},
    "episodes": {"better_after": "0s"},
}
GROUP: dict[str, Any] = {
    "slug": "shop",
    "name": "Shop",
    "channels": ["ops"],
    "components": {"checkout": {}},
    "episodes": {"better_after": "0s"},
}


@dataclass
class Lab:
    """One page, a channel each for the group and for its members, and an evaluator with its catalog."""

    pool: Pool
    bus: Bus
    page: Stored
    clock: SystemClock = field(default_factory=SystemClock)
    stored: dict[str, Stored] = field(default_factory=dict)
    boot: str = field(default_factory=lambda: str(uuid4()))
    runs: int = 0
    catalog: Catalog[Subject] | None = None
    evaluator: Evaluator | None = None

    async def make(self, slug: str, **spec: Any) -> Stored:
        """A beat, or a group where it is called `shop...`; beats share a partition that no group is in."""
        kind: Known = "group" if slug.startswith("shop") else "beat"
        spec = {**(GROUP if kind == "group" else BEAT), "slug": slug, **spec}
        home = partition_of(self.stored["a"].id) if self.stored else None
        while True:
            async with self.pool.acquire() as connection:
                trial = connection.transaction()
                await trial.start()
                made = await objects.create(connection, ACTOR, kind, self.page.id, spec)
                fits = home is None or (partition_of(made.id) == home) is (kind == "beat")
                await (trial.commit() if fits else trial.rollback())
            if fits:
                self.stored[slug] = made
                return made

    async def change(self, slug: str, **spec: Any) -> None:
        before = self.stored[slug]
        after = {key: value for key, value in {**before.spec, **spec}.items() if value is not None}
        async with transaction(self.pool) as connection:
            self.stored[slug] = await objects.replace(connection, ACTOR, before, after)

    async def remove(self, *slugs: str) -> None:
        leaving = frozenset(self.stored[slug].id for slug in slugs)
        async with transaction(self.pool) as connection:
            for slug in slugs:
                await objects.remove(connection, ACTOR, self.stored[slug], leaving=leaving)

    async def pause(self, slug: str) -> None:
        async with transaction(self.pool) as connection:
            await states.pause(connection, ACTOR, self.stored[slug], None)

    async def resume(self, slug: str) -> None:
        async with transaction(self.pool) as connection:
            await states.resume(connection, ACTOR, self.stored[slug])

    async def see(self, **marks: str) -> None:
        """One result each: `x` critical, `w` warning, `.` ok. Returns when the beats' stages say so."""
        for slug, mark in marks.items():
            beat, now = self.stored[slug], self.clock.epoch_s()
            self.runs += 1
            bad = Failure("connect.refused", "nobody listens") if mark != "." else None
            result = Result(
                run_id=str(new_id()),
                beat_id=str(beat.id),
                region="eu",
                kind=Kind.SCHEDULED,
                verdict=Verdict(MARKS[mark]),
                scheduled_at=now,
                at=now,
                seq=self.runs,
                attempts=1,
                timings=Timings(total=0.01),
                failure=bad,
                check_version=beat.revision,
            )
            await self.bus.publish(Batch(self.boot, self.runs, partition_of(beat.id), now, (result,)))
        for slug, mark in marks.items():
            await self.becomes(slug, MARKS[mark])

    async def report(self, slug: str, severity: Severity | None) -> None:
        """A signal of a beat or group, told on the bus."""
        now, subject_id = self.clock.epoch_s(), self.stored[slug].id
        async with transaction(self.pool) as connection:
            said = Report("report", "orders", severity, "refused", now, "ops")
            await pushed.put(connection, subject_id, now, said)
        number = str(partition_of(subject_id))
        await self.bus.announce(f"{pushed.SUBJECT}.{number}", number.encode())

    async def stage(self, slug: str) -> str:
        query = "SELECT stage FROM states WHERE subject_id = $1"
        stage: str = await self.pool.fetchval(query, self.stored[slug].id)
        return stage

    async def becomes(self, slug: str, stage: str) -> None:
        await eventually(lambda: self.stage(slug), stage)

    async def members(self, group: str = "shop") -> dict[str, str]:
        """What a group knows of its members; one that does not count is in brackets."""
        query = "SELECT state::text FROM states WHERE subject_id = $1"
        state = states.decode_state(await self.pool.fetchval(query, self.stored[group].id))
        names = {str(one.id): slug for slug, one in self.stored.items()}
        return {
            names[member]: said.stage if said.counts else f"({said.stage})"
            for member, said in state.members.items()
        }

    async def told(self) -> list[str]:
        """What was told, to whom: `ops open`."""
        rows = await self.pool.fetch(
            "SELECT o.slug, n.item->>'told' AS told FROM outbox n JOIN objects o ON o.id = n.target_id ORDER BY n.id"
        )
        return [f"{row['slug']} {row['told']}" for row in rows]

    async def evidence(self) -> dict[str, str]:
        """What the newest action shows of each member."""
        shown = await self.pool.fetchval(
            "SELECT evidence FROM actions ORDER BY created_at DESC, id DESC LIMIT 1"
        )
        return {item["beat"]: item["verdict"] for item in shown}

    async def actions(self) -> list[str]:
        rows = await self.pool.fetch("SELECT step, of, status FROM actions ORDER BY created_at, id")
        return [
            f"{r['step']} {r['status']}" if r["step"] != "update" else f"update of {r['of']} {r['status']}"
            for r in rows
        ]

    async def episodes(self) -> list[str]:
        rows = await self.pool.fetch(
            "SELECT o.slug, e.cause FROM episodes e JOIN objects o ON o.id = e.owner_id ORDER BY opened_at"
        )
        return [f"{row['slug']} {row['cause'] or 'open'}" for row in rows]

    async def approve(self) -> None:
        async with transaction(self.pool) as connection:
            for row in await reviews.actions(connection, status="pending"):
                await reviews.approve(connection, ACTOR, row["id"], row["revision"], self.clock.epoch_s())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """With an evaluator that follows what is declared."""
        relations = Relations()

        def changed(subject_id: UUID, _: Subject | None) -> None:
            working.changed(subject_id)

        catalog: Catalog[Subject] = Catalog(
            self.pool, compile_subject, relations=relations, on_change=changed
        )
        working = Evaluator(
            self.pool,
            self.bus,
            self.clock,
            catalog.entries,
            holder="one",
            refresh=catalog.refresh,
            public_url=lambda: "http://upbeat.test",
            children=lambda subject_id: relations.children.get(subject_id, ()),
        )
        following = asyncio.create_task(catalog.run())
        await catalog.loaded.wait()
        evaluating = asyncio.create_task(working.run())
        try:
            yield
        finally:
            for task in (evaluating, following):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


@pytest.fixture
async def idle(database_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """The lab with two members that nobody evaluates yet."""
    monkeypatch.setattr("engine.evaluator.LOOKS_APART_S", 0.02)
    pool = await open_pool(database_url)
    await migrate(pool)
    bus = Bus()
    await bus.connect(nats_url, name="test")
    async with transaction(pool) as connection:
        await objects.create(connection, ACTOR, "region", None, {"slug": "eu"})
        page = await objects.create(connection, ACTOR, "page", None, {"slug": "p", "name": "P"})
        for slug in ("site", "checkout"):
            component = {"slug": slug, "name": slug.capitalize()}
            await objects.create(connection, ACTOR, "component", page.id, component)
        for slug in ("ops", "own"):
            channel = {"slug": slug, "type": "webhook", "url": "http://127.0.0.1:9/hook"}
            await objects.create(connection, ACTOR, "channel", page.id, channel)
    lab = Lab(pool, bus, page)
    await lab.make("a", group="shop")
    await lab.make("b", group="shop")
    await lab.make("shop")
    yield lab
    await bus.close()
    await pool.close()


@pytest.fixture
async def lab(idle: Lab) -> AsyncIterator[Lab]:
    async with idle.running():
        await idle.see(a=".", b=".")
        await idle.becomes("shop", "ok")
        await eventually(idle.members, {"a": "ok", "b": "ok"})
        yield idle


async def test_an_outage_of_two_members_is_one_episode_one_draft_and_one_notice(lab: Lab) -> None:
    await lab.see(a="x")
    await lab.becomes("shop", "critical")
    await lab.see(b="x")
    await eventually(lab.members, {"a": "critical", "b": "critical"})
    assert await lab.told() == ["ops open", "ops draft"]
    assert await lab.episodes() == ["shop open"]
    assert await lab.actions() == ["open pending"]
    draft = await lab.pool.fetchrow("SELECT title, revision FROM actions")
    assert tuple(draft or ()) == ("Outage: Checkout", 1)
    await lab.see(a=".", b=".")
    await lab.becomes("shop", "ok")
    assert await lab.told() == ["ops open", "ops draft", "ops recovery"]
    assert await lab.episodes() == ["shop recovered"]
    assert await lab.actions() == ["open withdrawn"]
    seen = "SELECT count(*) FROM transitions WHERE subject_id = $1"
    assert [await lab.pool.fetchval(seen, lab.stored[slug].id) for slug in ("a", "b", "shop")] == [3, 3, 3]


async def test_a_draft_shows_each_member_and_the_newest_failure_of_those_that_are_bad(lab: Lab) -> None:
    await lab.see(a="x")
    await eventually(lab.actions, ["open pending"])
    (bad, good) = await lab.pool.fetchval("SELECT evidence FROM actions")
    assert (bad["beat"], bad["region"], bad["verdict"]) == ("a", "eu", "critical")
    assert bad["error"] == {"type": "connect.refused", "message": "nobody listens"}
    assert (good["beat"], good["region"], good["verdict"], good["error"]) == ("b", "", "ok", None)
    notice = await lab.pool.fetchval("SELECT item FROM outbox ORDER BY id LIMIT 1")
    assert (notice["title"], notice["group"], notice["group_title"], notice["page"]) == (
        "Shop is down",
        "shop",
        "Shop",
        "p",
    )
    assert notice["why"] == ["a: critical (eu, nobody listens)", "b: ok"]
    assert notice["link"] == f"http://upbeat.test/console/groups/{show('group', lab.stored['shop'].id)}"
    assert "beat" not in notice


async def test_a_member_that_fails_later_is_evidence_for_who_reviews(lab: Lab) -> None:
    await lab.see(a="x")
    await eventually(lab.actions, ["open pending"])
    await lab.see(b="w")
    await eventually(lab.evidence, {"a": "critical", "b": "warning"})
    assert await lab.pool.fetchval("SELECT revision FROM actions") == 1
    await lab.approve()
    await lab.see(b="x")
    await eventually(lab.members, {"a": "critical", "b": "critical"})
    assert await lab.actions() == ["open done"]


async def test_or_an_update_that_names_no_member(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluators.quorum.LATE_S", 0.0)
    await lab.change("shop", late_members="update")
    await lab.make("c", group="shop")
    await lab.see(c=".")
    await lab.see(a="x")
    await eventually(lab.actions, ["open pending"])
    await lab.approve()
    await lab.see(b="x")
    await eventually(lab.actions, ["open done", "update of member pending"])
    text = await lab.pool.fetchval("SELECT text FROM actions WHERE step = 'update'")
    assert text.startswith("More of Checkout is affected")
    assert await lab.evidence() == {"a": "critical", "b": "critical", "c": "ok"}
    await lab.approve()
    await lab.see(c="x")
    await eventually(lab.members, {"a": "critical", "b": "critical", "c": "critical"})
    assert await lab.actions() == ["open done", "update of member done"]
    # Each draft is told twice: that it waits, and who approved it.
    assert await lab.told() == ["ops open", *["ops draft"] * 4]


async def test_an_episode_that_goes_on_reopens_its_incident_and_ends_it_again(lab: Lab) -> None:
    await lab.change("shop", episodes={"reopen_window": "1h"})
    await lab.see(a="x")
    await eventually(lab.actions, ["open pending"])
    await lab.approve()
    await lab.see(a=".")
    await eventually(lab.actions, ["open done", "resolve done"])
    await lab.see(b="x")
    await eventually(lab.actions, ["open done", "resolve done", "update of reopened pending"])
    assert await lab.episodes() == ["shop open"]
    await lab.approve()
    incident = "SELECT status || ' ' || (resolved_at IS NULL)::text FROM incidents"
    assert await lab.pool.fetchval(incident) == "investigating true"
    await lab.see(b=".")
    await eventually(lambda: lab.pool.fetchval(incident), "resolved false")
    assert (await lab.actions())[-1] == "resolve done"
    assert await lab.pool.fetchval("SELECT count(*) FROM updates") == 4
    told = ["open", "draft", "draft", "recovery", "open", "draft", "draft", "recovery"]
    assert await lab.told() == [f"ops {one}" for one in told]


async def test_what_is_said_while_nobody_announces_it_is_found(
    idle: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.evaluator.LOOK_S", 0.2)
    monkeypatch.setattr(idle.bus, "announce", _nothing)
    async with idle.running():
        await idle.see(a="x")
        await idle.becomes("shop", "critical")


async def test_what_a_member_said_outlives_an_evaluator_that_is_killed_after_its_commit(
    idle: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.evaluator.LOOK_S", 600.0)
    with monkeypatch.context() as quiet:
        quiet.setattr(idle.bus, "announce", _nothing)
        async with idle.running():
            await idle.see(a=".", b=".")
            await idle.see(a="x")
    assert await idle.pool.fetchval("SELECT count(*) FROM pushed") > 0
    async with idle.running():
        await idle.becomes("shop", "critical")
        await eventually(idle.actions, ["open pending"])
    assert await idle.told() == ["ops open", "ops draft"]


async def _nothing(*_: object) -> None: ...


async def test_a_beat_that_joins_in_an_outage_of_its_own_keeps_its_episode_until_it_is_ok(lab: Lab) -> None:
    await lab.make("c")
    await lab.see(c=".")
    await lab.see(c="x")
    await eventually(lab.told, ["own open", "own draft"])
    await lab.change("c", group="shop")
    await lab.see(c="x", a=".")
    assert await lab.stage("shop") == "ok"
    await lab.see(c=".")
    await eventually(lab.members, {"a": "ok", "b": "ok", "c": "ok"})
    await lab.see(c="x")
    await lab.becomes("shop", "critical")
    assert await lab.episodes() == ["c recovered", "shop open"]
    assert await lab.told() == ["own open", "own draft", "own recovery", "ops open", "ops draft"]


async def test_a_member_that_leaves_stops_voting_at_once_and_owns_nothing_until_it_is_ok(lab: Lab) -> None:
    await lab.see(a="x")
    await eventually(lab.actions, ["open pending"])
    await lab.change("a", group=None)
    await eventually(lab.episodes, ["shop left"])
    assert await lab.actions() == ["open withdrawn"]
    assert await lab.members() == {"b": "ok"}
    await lab.see(a="x", b=".")
    await lab.see(a=".")
    await lab.see(a="x")
    await eventually(lab.episodes, ["shop left", "a open"])
    assert await lab.told() == ["ops open", "ops draft", "ops change", "own open", "own draft"]


async def test_a_member_that_changes_groups_takes_its_outage_to_neither(lab: Lab) -> None:
    await lab.make("shop-2")
    await lab.see(a="x")
    await lab.becomes("shop", "critical")
    await lab.change("a", group="shop-2")
    await eventually(lab.episodes, ["shop left"])
    assert await lab.members("shop-2") == {}
    await lab.see(a=".")
    await eventually(lambda: lab.members("shop-2"), {"a": "ok"})
    await lab.see(a="x")
    await lab.becomes("shop-2", "critical")
    assert await lab.episodes() == ["shop left", "shop-2 open"]


async def test_a_deleted_member_leaves_with_its_outage_and_the_incident_a_draft_of_its_end(lab: Lab) -> None:
    await lab.see(a="x")
    await eventually(lab.actions, ["open pending"])
    await lab.approve()
    await lab.remove("a")
    await eventually(lab.actions, ["open done", "resolve pending"])
    assert await lab.episodes() == ["shop left"]
    assert await lab.members() == {"b": "ok"}
    assert await lab.pool.fetchval("SELECT status FROM incidents") == "investigating"


async def test_a_group_that_loses_its_last_member_ends_its_episode_as_such(lab: Lab) -> None:
    await lab.see(a="x", b="x")
    await eventually(lab.episodes, ["shop open"])
    await lab.remove("a", "b")
    await eventually(lab.episodes, ["shop left"])
    await lab.becomes("shop", "unknown")


async def test_a_paused_member_does_not_count_and_returns_with_what_it_is(lab: Lab) -> None:
    await lab.see(a="x")
    await lab.becomes("shop", "critical")
    await lab.pause("a")
    await eventually(lab.members, {"b": "ok", "a": "(critical)"})
    await eventually(lab.episodes, ["shop left"])
    await lab.resume("a")
    await lab.see(a=".")
    await eventually(lab.members, {"b": "ok", "a": "ok"})
    assert (await lab.told())[:3] == ["ops open", "ops draft", "ops change"]


async def test_a_paused_member_that_is_deleted_is_a_member_no_more(lab: Lab) -> None:
    await lab.see(a="x")
    await lab.becomes("shop", "critical")
    await lab.pause("a")
    await eventually(lab.members, {"a": "(critical)", "b": "ok"})
    await lab.remove("a")
    await eventually(lab.members, {"b": "ok"})


async def test_a_paused_group_freezes_its_episode_while_its_members_go_on(lab: Lab) -> None:
    await lab.change("shop", late_members="update")
    await lab.see(a="x")
    await eventually(lab.actions, ["open pending"])
    await lab.pause("shop")
    await eventually(lab.actions, ["open withdrawn"])
    await lab.see(b="x")
    await eventually(lab.members, {"a": "critical", "b": "critical"})
    assert await lab.actions() == ["open withdrawn"]
    await lab.resume("shop")
    await eventually(lab.actions, ["open withdrawn", "open pending"])
    assert await lab.episodes() == ["shop open"]
    await lab.see(a=".", b=".")
    await eventually(lab.episodes, ["shop recovered"])


async def test_a_group_is_not_removed_while_anything_names_it(lab: Lab) -> None:
    with pytest.raises(InUseError, match="group 'shop' is used by beat 'a'"):
        await lab.remove("shop")


async def test_a_group_and_its_members_go_together(lab: Lab) -> None:
    await lab.see(a="x")
    await eventually(lab.actions, ["open pending"])
    await lab.approve()
    await lab.remove("shop", "a", "b")
    await eventually(lab.actions, ["open done", "resolve pending"])
    await eventually(lab.episodes, ["shop removed"])
    assert await lab.told() == ["ops open", "ops draft", "ops draft", "ops change", "ops draft"]


async def test_a_signal_of_a_group_is_one_more_member(lab: Lab) -> None:
    await lab.report("shop", "critical")
    await eventually(lab.actions, ["open pending"])
    assert (await lab.pool.fetchval("SELECT evidence FROM actions"))[-1]["error"]["message"] == "refused"
    await lab.report("shop", None)
    await eventually(lab.episodes, ["shop recovered"])


async def test_a_draft_of_a_group_goes_on_showing_its_signal_when_members_change(lab: Lab) -> None:
    async def shown() -> list[tuple[str, str]]:
        evidence = await lab.pool.fetchval("SELECT evidence FROM actions")
        return [(item.get("beat") or item["region"], item["verdict"]) for item in evidence]

    await lab.report("shop", "critical")
    await eventually(lab.actions, ["open pending"])
    await lab.see(a="x")
    await eventually(shown, [("a", "critical"), ("b", "ok"), ("report", "critical")])
    await lab.report("shop", None)
    await eventually(shown, [("a", "critical"), ("b", "ok")])
    assert await lab.actions() == ["open pending"]


async def test_an_outage_below_what_is_needed_is_told_to_nobody_and_says_why(lab: Lab) -> None:
    await lab.make("net")
    await lab.see(net=".")
    await lab.change("shop", depends_on=["net"])
    await lab.see(net="x")
    await eventually(lab.told, ["own open", "own draft"])
    await lab.see(a="x")
    await lab.becomes("shop", "critical")
    why = "SELECT suppressed_by FROM transitions WHERE subject_id = $1 AND stage = 'critical'"
    expected = [f"dependency:{lab.stored['net'].id}"]
    await eventually(lambda: lab.pool.fetchval(why, lab.stored["shop"].id), expected)
    assert await lab.told() == ["own open", "own draft"]
    assert await lab.episodes() == ["net open"]


async def test_a_member_that_falls_silent_is_told_by_its_group(lab: Lab) -> None:
    quick = {"interval": "1s", "timeout": "500ms", "quorum": {**BEAT["quorum"], "max_age": "1s"}}
    await lab.change("a", **quick)
    await lab.see(a=".")
    await lab.becomes("a", "unknown")
    await eventually(lab.told, ["ops unknown"])
    notice = await lab.pool.fetchval("SELECT item FROM outbox")
    assert (notice["beat"], notice["group"]) == ("a", "shop")
    assert await lab.stage("shop") == "ok"
