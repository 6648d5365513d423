"""What people do with incidents, on real PostgreSQL: whatever they do, in whatever order, it stays one consistent picture."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest

from engine.store import by_hand, incidents, objects, outbox, posts, reviews
from engine.store.audit import Actor
from engine.store.database import Connection, Pool, transaction
from engine.store.ids import new_id, show
from engine.store.incidents import Moment, NotNowError, Said
from engine.store.objects import Stored
from evaluators.lifecycle import ENDED, OPEN, Dated
from evaluators.public import component_status

ACTOR = Actor("ada", "api")
STATUSES = ("operational", "degraded_performance", "partial_outage", "major_outage")
DAY_S = 86400.0


@dataclass
class Board:
    """A page with three components, a channel and a publisher."""

    pool: Pool
    page: Stored
    components: dict[str, str]  # id -> path

    async def begun(self, at: float = 100.0, **components: str) -> UUID:
        async with transaction(self.pool) as db:
            said = Said("open", "investigating", "It", "x", self.ids(components), at, "ada", is_by_hand=True)
            return (await by_hand.begin(db, ACTOR, self.page.id, said))[0]

    def ids(self, components: dict[str, str]) -> dict[str, str]:
        return {
            key: components[slug]
            for key, path in self.components.items()
            if (slug := path.partition("/")[2]) in components
        }

    async def said(
        self, db: Connection, incident: UUID, status: str | None, at: float, **components: str
    ) -> None:
        row, said = await by_hand.update_of(
            db,
            ACTOR,
            incident,
            Moment(at, "", "ada"),
            status=status,
            text="y",
            components=self.ids(components) if components else None,
            impact=None,
            notify=False,
            is_markdown=False,
        )
        await by_hand.say(db, ACTOR, row, said)

    async def told(self, incident: UUID) -> list[tuple[str, dict[str, str]]]:
        rows = await self.pool.fetch("SELECT item FROM outbox WHERE incident_id = $1 ORDER BY id", incident)
        return [(row["item"]["step"], row["item"].get("components", {})) for row in rows]

    async def settled(self) -> int:
        async with transaction(self.pool) as db:
            return await posts.settle(db, 1000.0, "")


@pytest.fixture
async def board(pool: Pool) -> Board:
    return await _board(pool)


async def _board(pool: Pool) -> Board:
    slug = f"p-{new_id().hex[-8:]}"
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": slug, "name": "Shop"})
        hook = {"slug": "elsewhere", "type": "webhook", "url": "http://hook.example/"}
        await objects.create(db, ACTOR, "publisher", page.id, hook)
        await objects.create(db, ACTOR, "channel", page.id, hook | {"slug": "ops"})
        made = [
            await objects.create(db, ACTOR, "component", page.id, {"slug": name, "name": name})
            for name in ("a", "b", "c")
        ]
    return Board(pool, page, {str(one.id): f"{slug}/{one.slug}" for one in made})


# ---- components of incidents that overlap


async def test_the_worst_of_what_is_open_is_told_and_its_end_leaves_the_rest(board: Board) -> None:
    one, other = (
        await board.begun(a="partial_outage"),
        await board.begun(a="major_outage", b="partial_outage"),
    )
    path = {slug: next(p for p in board.components.values() if p.endswith(slug)) for slug in "abc"}
    async with transaction(board.pool) as db:
        await board.said(db, other, "resolved", 200.0)
    assert (await board.told(other))[-1] == (
        "resolve",
        {path["a"]: "partial_outage", path["b"]: "operational"},
    )
    async with transaction(board.pool) as db:
        await by_hand.remove(db, ACTOR, one, Moment(300.0, ""))
    assert (await board.told(one))[-1] == ("delete", {path["a"]: "operational"})


async def test_what_an_edit_took_away_is_restored_though_nobody_was_told_of_it(board: Board) -> None:
    incident = await board.begun()
    path = next(p for p in board.components.values() if p.endswith("/a"))
    for components, status in (({"a": "major_outage"}, "major_outage"), ({}, "operational")):
        async with transaction(board.pool) as db:
            await by_hand.edit(db, ACTOR, incident, Moment(200.0, ""), {"components": board.ids(components)})
        assert (await board.told(incident))[-1] == ("edit", {path: status})


async def test_two_that_end_at_once_leave_nothing_behind(board: Board) -> None:
    one, other = await board.begun(a="major_outage"), await board.begun(a="major_outage")
    await board.settled()
    path = next(p for p in board.components.values() if p.endswith("/a"))
    async with board.pool.acquire() as first, board.pool.acquire() as second, first.transaction():
        await board.said(first, one, "resolved", 200.0)
        async with second.transaction():
            await board.said(second, other, "resolved", 200.0)
        # Neither saw the other's end.
    assert {(await board.told(each))[-1][1][path] for each in (one, other)} == {"major_outage"}
    assert await board.settled() == 1  # one sets it right
    assert [("edit", {path: "operational"}) in await board.told(each) for each in (one, other)].count(
        True
    ) == 1
    assert await board.settled() == 0
    assert await board.pool.fetchval("SELECT count(*) FROM incidents WHERE posted IS NOT NULL") == 0


async def test_what_arrives_late_is_set_right(board: Board) -> None:
    late, other = await board.begun(a="partial_outage"), await board.begun(a="major_outage")
    path = next(p for p in board.components.values() if p.endswith("/a"))
    async with transaction(board.pool) as db:
        await board.said(db, late, None, 200.0)  # and that is stuck
    await board.settled()
    async with transaction(board.pool) as db:
        await board.said(db, other, "resolved", 300.0)
    await board.settled()
    assert (await board.told(late))[-1] == ("update", {path: "major_outage"})
    stuck = await board.pool.fetchval(
        "SELECT id FROM outbox WHERE incident_id = $1 AND item->>'step' = 'update'", late
    )
    async with transaction(board.pool) as db:
        await outbox.delivered(db, stuck)
    assert await board.settled() == 1
    assert (await board.told(late))[-1] == ("edit", {path: "partial_outage"})


@pytest.mark.parametrize("seed", range(4))
async def test_in_whatever_order_steps_arrive_what_is_shown_there_comes_to_rest_and_is_right(
    board: Board, seed: int
) -> None:
    chance, there = random.Random(seed), dict[str, str]()

    async def arrive() -> int:
        """One of the steps that are first in their lines gets there."""
        heads = await board.pool.fetch(
            "SELECT DISTINCT ON (line) id, item FROM outbox WHERE incident_id IS NOT NULL AND status = 'pending' ORDER BY line, id"
        )
        if heads:
            row = chance.choice(heads)
            there.update(row["item"]["components"])
            async with transaction(board.pool) as db:
                await outbox.delivered(db, row["id"])
        return len(heads)

    lasting = [await board.begun(a="partial_outage", b="major_outage") for _ in range(4)]
    for step in range(20):
        about = chance.choice(lasting)
        said = {slug: chance.choice(STATUSES) for slug in chance.sample("abc", 2)}
        async with transaction(board.pool) as db:
            await board.said(db, about, None, 200.0 + step, **said)
        for _ in range(chance.randrange(3)):
            await arrive()
        if chance.random() < 0.3:
            await board.settled()
    for incident in lasting:
        async with transaction(board.pool) as db:
            await board.said(db, incident, "resolved", 900.0)
    rounds = 0
    while await arrive() or await board.settled():
        rounds += 1
        assert rounds < 100
    assert set(there.values()) == {"operational"}
    assert await board.pool.fetchval("SELECT count(*) FROM incidents WHERE posted IS NOT NULL") == 0


async def test_a_manual_status_of_a_component_reaches_what_is_open(board: Board) -> None:
    incident = await board.begun(a="major_outage")
    await board.settled()
    path = next(p for p in board.components.values() if p.endswith("/a"))
    async with transaction(board.pool) as db:
        component = await objects.find(db, "component", "a", pages=[board.page.id])
        await objects.replace(db, ACTOR, component, component.spec | {"status": "under_maintenance"})
    assert await board.settled() == 1
    assert (await board.told(incident))[-1] == ("edit", {path: "under_maintenance"})


# ---- silence


async def test_operators_are_told_once_that_customers_hear_nothing(board: Board) -> None:
    async def told() -> list[str]:
        rows = await board.pool.fetch(
            "SELECT item->>'title' AS title FROM outbox WHERE item->>'told' = 'silence' ORDER BY id"
        )
        return [row["title"] for row in rows]

    async def look(at: float) -> int:
        async with transaction(board.pool) as db:
            return await incidents.break_silence(db, at, "http://upbeat.example")

    incident = await board.begun(100.0)
    assert [await look(at) for at in (3699.0, 3700.0, 9999.0)] == [0, 1, 0]
    assert await told() == ["Customers heard nothing for 1h: It"]
    async with transaction(board.pool) as db:
        await board.said(db, incident, None, 10_000.0)
    assert [await look(at) for at in (13_599.0, 13_600.0)] == [0, 1]
    async with transaction(board.pool) as db:
        page = await objects.get(db, board.page.id)
        assert page is not None
        await objects.replace(db, ACTOR, page, page.spec | {"speak_every": None})
        await board.said(db, incident, None, 14_000.0)
    assert await look(99_000.0) == 0
    link = await board.pool.fetchval(
        "SELECT item->>'link' FROM outbox WHERE item->>'told' = 'silence' LIMIT 1"
    )
    assert link == f"http://upbeat.example/console/incidents/{show('incident', incident)}"


# ---- drafts of people, decided late


async def _drafted(board: Board, incident: UUID, status: str | None, at: float) -> UUID:
    async with transaction(board.pool) as db:
        _, said = await by_hand.update_of(
            db,
            ACTOR,
            incident,
            Moment(at, "", "ada"),
            status=status,
            text="drafted",
            components=None,
            impact=None,
            notify=False,
            is_markdown=False,
        )
        return await reviews.draft(db, board.page.id, said, incident)


async def test_what_was_drafted_of_it_is_withdrawn_when_it_ends(board: Board) -> None:
    incident = await board.begun()
    action = await _drafted(board, incident, "identified", 200.0)
    async with transaction(board.pool) as db:
        await board.said(db, incident, "resolved", 300.0)
    with pytest.raises(reviews.ActionGoneError, match="withdrawn"):
        async with transaction(board.pool) as db:
            await reviews.approve(db, ACTOR, action, 1, 400.0)


async def test_a_draft_that_came_too_late_is_refused_and_stays(board: Board) -> None:
    incident = await board.begun()
    async with transaction(board.pool) as db:
        await board.said(db, incident, "resolved", 100.5)
    action = await _drafted(board, incident, "identified", 200.0)
    with pytest.raises(NotNowError, match="it ended more than 7d ago"):
        async with transaction(board.pool) as db:
            await reviews.approve(db, ACTOR, action, 1, 100.5 + 8 * DAY_S)
    assert await board.pool.fetchval("SELECT status FROM incidents WHERE id = $1", incident) == "resolved"
    assert await board.pool.fetchval("SELECT status FROM actions WHERE id = $1", action) == "pending"


@pytest.mark.parametrize("is_merged", [False, True])
async def test_an_approval_waits_for_whoever_takes_the_incident_away(board: Board, is_merged: bool) -> None:
    incident, other = await board.begun(), await board.begun()
    action = await _drafted(board, incident, "resolved", 200.0)

    async def approve() -> None:
        async with transaction(board.pool) as db:
            await reviews.approve(db, ACTOR, action, 1, 300.0)

    async with board.pool.acquire() as db, db.transaction():
        await incidents.held(db, incident)
        late = asyncio.create_task(approve())
        while not await board.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        if is_merged:
            await by_hand.merge(db, ACTOR, incident, Moment(250.0, ""), other)
        else:
            await by_hand.remove(db, ACTOR, incident, Moment(250.0, ""))
    with pytest.raises(reviews.ActionGoneError):
        await late
    assert "drafted" not in {
        row["text"]
        for row in await board.pool.fetch("SELECT text FROM updates WHERE incident_id = $1", incident)
    }


async def test_what_was_entered_while_it_lasted_is_opened_again_like_any_other(board: Board) -> None:
    now = (await board.pool.fetchval("SELECT now()")).timestamp()
    said = Said("open", None, "It", "", {}, now - 100.0, "ada")
    async with transaction(board.pool) as db:
        told = [Dated(now - 100.0, "investigating", "It began.")]
        incident = await by_hand.backfill(db, ACTOR, board.page.id, said, told, None, None)
        await board.said(db, incident, "resolved", now + 10.0)
        await board.said(db, incident, "monitoring", now + 20.0)
        (row,) = await incidents.held(db, incident)
    assert (row["status"], row["resolved_at"]) == ("monitoring", None)


async def test_where_two_approve_nobody_changes_alone_what_customers_read(board: Board) -> None:
    incident, moment = await board.begun(), Moment(200.0, "")
    async with transaction(board.pool) as db:
        page = await objects.get(db, board.page.id)
        assert page is not None
        await objects.replace(db, ACTOR, page, page.spec | {"review": {"approvals": 2}})
        update = (await incidents.updates(db, [incident]))[incident][0]["id"]
        for work in (
            by_hand.edit(db, ACTOR, incident, moment, {"title": "Other"}),
            by_hand.reword(db, ACTOR, incident, moment, update, "Other"),
        ):
            with pytest.raises(NotNowError, match="two approvals"):
                await work
        await board.said(db, incident, "resolved", 200.0)
        await by_hand.report(db, ACTOR, incident, moment, text="A disk was full.")
        with pytest.raises(NotNowError, match="somebody else publishes it"):
            await by_hand.report(db, ACTOR, incident, moment, is_public=True)
        other = Actor("bob", "api")
        await by_hand.report(db, other, incident, moment, is_public=True)
        status = "SELECT report_status FROM incidents WHERE id = $1"
        assert await db.fetchval(status, incident) == "published"
        await by_hand.report(db, other, incident, moment, text="Two disks.")
        assert await db.fetchval(status, incident) == "draft"


async def test_a_typing_mistake_in_what_was_entered_keeps_the_rest_of_its_post(board: Board) -> None:
    said = Said("open", None, "It", "", {}, 100.0, "ada")
    told = [Dated(100.0, "investigating", "It began."), Dated(200.0, "resolved", "It endde.")]
    async with transaction(board.pool) as db:
        incident = await by_hand.backfill(db, ACTOR, board.page.id, said, told, None, 200.0)
        newest = (await incidents.updates(db, [incident]))[incident][0]["id"]
        await by_hand.reword(db, ACTOR, incident, Moment(300.0, ""), newest, "It ended.")
        text = await db.fetchval("SELECT item->>'text' FROM outbox WHERE incident_id = $1", incident)
    assert text == "It began.\n\nIt ended."


# ---- any sequence


async def _anything(board: Board, db: Connection, dice: random.Random, known: list[UUID], at: float) -> None:
    """Something that a person might do, refused or not."""
    if not known or dice.random() < 0.2:
        said = Said("open", dice.choice(OPEN), "It", "x", _affected(board, dice), at, "ada", is_by_hand=True)
        known.append((await by_hand.begin(db, ACTOR, board.page.id, said))[0])
        return
    incident, moment = dice.choice(known), Moment(at, "", "ada")
    deeds: list[Callable[[], object]] = [
        lambda: board.said(db, incident, dice.choice([*OPEN, None]), at),
        lambda: board.said(db, incident, "resolved", at),
        lambda: board.said(db, incident, None, at, **{s: dice.choice(STATUSES) for s in dice.choice("abc")}),
        lambda: by_hand.edit(db, ACTOR, incident, moment, {"components": _affected(board, dice)}),
        lambda: by_hand.edit(db, ACTOR, incident, moment, {"title": f"It {at}"}),
        lambda: by_hand.merge(db, ACTOR, incident, moment, dice.choice(known)),
        lambda: by_hand.remove(db, ACTOR, incident, moment),
        lambda: by_hand.take_over(db, ACTOR, incident, moment),
        lambda: by_hand.report(db, ACTOR, incident, moment, text="z"),
        lambda: by_hand.report(db, ACTOR, incident, moment, is_public=True),
    ]
    done = dice.choice(deeds)()
    assert asyncio.iscoroutine(done)
    await done


def _affected(board: Board, dice: random.Random) -> dict[str, str]:
    return {key: dice.choice(STATUSES) for key in board.components if dice.random() < 0.5}


async def _is_whole(board: Board, db: Connection, at: float) -> None:
    """One incident says one thing, everywhere."""
    rows = await db.fetch("SELECT * FROM incidents WHERE page_id = $1", board.page.id)
    said = await incidents.updates(db, [row["id"] for row in rows])
    lasting = [row for row in rows if row["status"] not in ENDED and row["removed_at"] is None]
    shown = {
        path: component_status(None, [row["components"][key] for row in lasting if key in row["components"]])
        for key, path in board.components.items()
    }
    for row in rows:
        newest = said[row["id"]][0]
        assert (row["status"] in ENDED) == (row["resolved_at"] is not None)
        assert newest["status"] == row["status"]
        assert newest["components"] == row["components"]
        assert {*map(str, row["named"])} >= row["components"].keys()
        assert row["merged_into"] is None or row["status"] == "resolved"
        assert (row["report_status"] == "published") == (row["report_at"] is not None)
        steps = await db.fetch("SELECT item FROM outbox WHERE incident_id = $1 ORDER BY id", row["id"])
        assert [step["item"]["step"] for step in steps].count("open") == 1
        assert steps[0]["item"]["step"] == "open"
        last = steps[-1]["item"]
        assert (last["step"] == "delete") == (row["removed_at"] is not None or row["merged_into"] is not None)
        if last["at"] == at:  # it was this one that something was done with
            assert {path: shown[path] for path in last.get("components", {})} == last.get("components", {})
            assert last["title"] == row["title"]
            assert last["status"] == row["status"]


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_people_do_it_stays_one_picture(pool: Pool, seed: int) -> None:
    board, dice, known = await _board(pool), random.Random(seed), list[UUID]()
    for n in range(40):
        at = 100.0 + n * DAY_S / 2
        async with transaction(pool) as db:
            try:
                async with db.transaction():
                    await _anything(board, db, dice, known, at)
            except (NotNowError, objects.MissingError):
                continue
            await _is_whole(board, db, at)
    assert await board.settled() >= 0
