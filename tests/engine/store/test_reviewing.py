"""Reviews on real PostgreSQL: two people, some targets only, told again while nobody looks, told what became of it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from engine.store import drafts, objects, outbox, posts, reach, reviews
from engine.store.audit import Actor
from engine.store.database import Connection, Pool, Row, transaction
from engine.store.incidents import Said
from engine.store.telling import tell_all
from evaluators.facts import EpisodeClosed, EpisodeOpened, StepProposed

ADA, BOB = Actor("ada", "api"), Actor("bob", "console")
BEAT: dict[str, Any] = {
    "slug": "home",
    "type": "http",
    "url": "https://shop.example/",
    "components": {"site": {}},
}
MINUTE = 60.0


@dataclass
class Desk:
    """A page with two publishers and a channel, and a draft of an outage that waits since the time 0."""

    pool: Pool
    page: objects.Stored
    beat: objects.Stored
    publishers: dict[str, UUID]
    action: UUID

    async def review(self, **spec: Any) -> None:
        async with transaction(self.pool) as db:
            self.page = await objects.replace(db, ADA, self.page, self.page.spec | {"review": spec})

    async def approve(self, actor: Actor, at: float = 1.0, revision: int = 1, **more: Any) -> Row:
        async with transaction(self.pool) as db:
            return await reviews.approve(db, actor, self.action, revision, at, **more)

    async def propose(self, db: Connection, step: Any, at: float) -> None:
        await reviews.propose(db, [reviews.Proposal(self.beat.id, 1, StepProposed(at, step, "critical"))])

    async def told(self) -> list[tuple[str, str | None]]:
        rows = await self.pool.fetch(
            "SELECT item->>'title' AS title, item->>'by' AS by FROM outbox WHERE item->>'told' = 'draft' ORDER BY id"
        )
        return [(row["title"], row["by"]) for row in rows]

    async def posted(self) -> list[str]:
        rows = await self.pool.fetch(
            "SELECT t.slug || ' ' || (o.item->>'step') AS said FROM outbox o JOIN objects t ON t.id = o.target_id "
            "WHERE t.kind = 'publisher' ORDER BY t.slug, o.id"
        )
        return [row["said"] for row in rows]

    async def looked(self, at: float) -> None:
        async with transaction(self.pool) as db:
            await reviews.expire(db, at)
            await reviews.escalate(db, at, "https://upbeat.example")


@pytest.fixture
async def desk(pool: Pool) -> Desk:
    async with transaction(pool) as db:
        page = await objects.create(db, ADA, "page", None, {"slug": "shop", "name": "Shop"})
        await objects.create(db, ADA, "component", page.id, {"slug": "site", "name": "Site"})
        publishers = {}
        for slug in ("one", "two"):
            spec = {"slug": slug, "type": "webhook", "url": "http://hook.example/"}
            publishers[slug] = (await objects.create(db, ADA, "publisher", page.id, spec)).id
        ops = {"slug": "ops", "type": "webhook", "url": "http://hook.example/"}
        await objects.create(db, ADA, "channel", page.id, ops)
        beat = await objects.create(db, ADA, "beat", page.id, BEAT | {"channels": ["ops"]})
        await reviews.open_episodes(db, [(beat, EpisodeOpened(0.0, 1, "critical"))])
        (action,) = await reviews.propose(
            db, [reviews.Proposal(beat.id, 1, StepProposed(0.0, "open", "critical"))]
        )
        await tell_all(db, [drafts.waiting(await reviews.one(db, action), 0.0, "")])
    return Desk(pool, page, beat, publishers, action)


async def test_however_many_fail_at_once_they_are_opened_drafted_and_withdrawn_in_as_many_queries(
    desk: Desk,
) -> None:
    asked: list[int] = []
    for count in (2, 20):
        async with transaction(desk.pool) as db:
            beats = [
                await objects.create(db, ADA, "beat", desk.page.id, BEAT | {"slug": f"b{count}-{n}"})
                for n in range(count)
            ]
            queries: list[object] = []
            db.add_query_logger(queries.append)
            effect = EpisodeOpened(5.0, 1, "critical")
            await reviews.open_episodes(db, [(beat, effect) for beat in beats])
            for step in ("open", "resolve"):
                seen = [{"region": "eu", "verdict": "critical", "error": None}]
                proposals = [
                    reviews.Proposal(beat.id, 1, StepProposed(6.0, step, "critical"), seen) for beat in beats
                ]
                found = await reviews.several(db, await reviews.propose(db, proposals))
                assert [(one["owner_id"], one["title"]) for one in found] == [
                    (beat.id, "Outage: Site") for beat in beats if step == "open"
                ]
            db.remove_query_logger(queries.append)
            asked.append(len(queries))
            ids = [beat.id for beat in beats]
            withdrawn = "SELECT count(*) FROM actions WHERE owner_id = ANY ($1) AND status = 'withdrawn' AND components <> '{}'"
            assert await db.fetchval(withdrawn, ids) == count
    assert asked[0] == asked[1]


async def test_four_eyes_are_of_two_people_and_an_edit_begins_anew(desk: Desk) -> None:
    await desk.review(approvals=2)
    assert (await desk.approve(ADA))["status"] == "pending"
    assert (await desk.approve(ADA))["status"] == "pending"
    async with transaction(desk.pool) as db:
        await reviews.edit(db, BOB, desk.action, 1, 2.0, text="In our words.")
    assert (await desk.approve(BOB, revision=2))["status"] == "pending"  # who edited it may be one of two
    done = await desk.approve(ADA, 4.0, revision=2)
    assert (done["status"], done["decided_by"]) == ("approved", "bob and ada")
    assert [said.partition(":")[0] for said, _ in await desk.told()] == [
        "A draft waits",
        "Approved by ada, 1 more has to",
        "Edited by bob",
        "Approved by bob, 1 more has to",
        "Approved by bob and ada",
    ]
    assert [by for _, by in await desk.told()] == [None, None, None, None, "bob and ada"]


async def test_who_chooses_other_targets_approves_something_else(desk: Desk) -> None:
    await desk.review(approvals=2)
    await desk.approve(ADA)
    assert (await desk.approve(BOB, publishers=[desk.publishers["one"]]))["status"] == "pending"
    assert (await desk.approve(ADA))["status"] == "approved"
    assert await desk.posted() == ["one open"]


async def test_its_own_page_only_is_something_else_than_everywhere(desk: Desk) -> None:
    await desk.review(approvals=2)
    await desk.approve(ADA)
    assert (await desk.approve(BOB, publishers=[]))["status"] == "pending"
    assert (await desk.approve(ADA))["status"] == "done"
    assert await desk.posted() == []


@pytest.mark.parametrize(("chosen", "announced"), [(None, 2), (["one"], 2), ([], 0)])
async def test_who_chooses_some_publishers_announces_it_all_the_same(
    desk: Desk, chosen: list[str] | None, announced: int
) -> None:
    async with transaction(desk.pool) as db:
        bot = {"slug": "slack", "type": "slack_bot", "workspace": "T1", "channel": "C1"}
        await objects.create(db, ADA, "channel", desk.page.id, bot)
        spec = desk.page.spec | {"slack": {"channel": "slack"}}
        desk.page = await objects.replace(db, ADA, desk.page, spec)
    publishers = None if chosen is None else [desk.publishers[slug] for slug in chosen]
    await desk.approve(ADA, publishers=publishers)
    async with transaction(desk.pool) as db:
        await desk.propose(db, "resolve", 5.0)
        posts_there = "SELECT count(*) FROM outbox o JOIN objects t ON t.id = o.target_id WHERE t.slug = 'slack' AND o.item->>'type' = 'post'"
        assert await db.fetchval(posts_there) == announced


async def test_who_was_left_out_of_the_end_hears_nothing_of_it_later(desk: Desk) -> None:
    await desk.approve(ADA)
    async with transaction(desk.pool) as db:
        await reviews.close_episode(db, desk.beat.id, EpisodeClosed(5.0, 1, "inactive"))
        (end,) = await reviews.actions(db, status="pending")
        await reviews.approve(db, ADA, end["id"], 1, 6.0, publishers=[desk.publishers["one"]])
        late = await db.fetchval("SELECT id FROM outbox WHERE target_id = $1", desk.publishers["two"])
        await outbox.delivered(db, late)  # it says that a component is bad, which is over
        assert await posts.settle(db, 7.0, "") == 1
    assert await desk.posted() == ["one open", "one resolve", "one edit", "two open"]


async def test_what_was_approved_for_some_targets_goes_on_there(desk: Desk) -> None:
    await desk.approve(ADA, publishers=[desk.publishers["two"]])
    async with transaction(desk.pool) as db:
        await desk.propose(db, "resolve", 5.0)
    assert await desk.posted() == ["two open", "two resolve"]


async def test_to_its_own_page_only(desk: Desk) -> None:
    done = await desk.approve(ADA, publishers=[])
    assert (done["status"], await desk.posted()) == ("done", [])


async def test_a_draft_that_nobody_decides_is_told_again_after_twice_as_long_each_time(desk: Desk) -> None:
    await desk.review(escalate_after="15m")
    for minute in range(0, 121, 5):
        await desk.looked(minute * MINUTE)
    again = [
        title for title, _ in await desk.told() if title.startswith("A draft still waits since 00:00 UTC: ")
    ]
    assert len(again) == 3  # after 15, 45 and 105 minutes
    row = await desk.pool.fetchrow(
        "SELECT escalations, extract(epoch FROM escalated_at)::float8 AS at FROM actions"
    )
    assert row is not None
    assert (row["escalations"], row["at"]) == (3, 105 * MINUTE)
    await desk.review(escalate_after="off")
    await desk.looked(1e6)
    assert len(await desk.told()) == 4


async def test_a_draft_of_an_open_episode_waits_and_one_of_what_is_over_expires(desk: Desk) -> None:
    await desk.review(escalate_after="off", expire_after="1h")
    await desk.looked(1e7)
    assert (await desk.pool.fetchval("SELECT status FROM actions")) == "pending"
    await desk.approve(ADA)
    async with transaction(desk.pool) as db:
        await reviews.close_episode(db, desk.beat.id, EpisodeClosed(10.0, 1, "removed"))
    draft = "SELECT status FROM actions WHERE step = 'resolve'"
    await desk.looked(3600.0)
    assert await desk.pool.fetchval(draft) == "pending"
    await desk.looked(3611.0)
    assert await desk.pool.fetchval(draft) == "expired"
    incident = await desk.pool.fetchval("SELECT id FROM incidents")
    async with transaction(desk.pool) as db:
        for row in await outbox.listing(db, status="pending"):
            await outbox.delivered(db, row["id"])
        there = (await reach.still_open(db, [incident]))[incident]
    why = "nobody decided in time on the draft of its end"
    assert there == [{"target": target, "why": why} for target in ("page", "one", "two")]


async def test_what_is_dead_is_still_open_there(desk: Desk) -> None:
    await desk.approve(ADA)
    async with transaction(desk.pool) as db:
        await desk.propose(db, "resolve", 5.0)
        await reviews.close_episode(db, desk.beat.id, EpisodeClosed(5.0, 1, "recovered"))
        rows = await db.fetch(
            "SELECT o.id, o.item->>'step' AS step, t.slug FROM outbox o JOIN objects t ON t.id = o.target_id WHERE t.kind = 'publisher'"
        )
        for row in rows:
            if row["slug"] == "one" and row["step"] == "resolve":
                await outbox.failed(db, row["id"], "HTTP 401", None)
            else:
                await outbox.delivered(db, row["id"])
        incident = await db.fetchval("SELECT id FROM incidents")
        there = await reach.still_open(db, [incident])
        statuses = await db.fetch("SELECT status FROM actions ORDER BY created_at")
    assert there == {incident: [{"target": "one", "why": "not delivered: HTTP 401"}]}
    assert [row["status"] for row in statuses] == ["done", "failed"]


async def test_what_was_proposed_is_kept_when_people_change_it_and_counted(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        first = await reviews.one(db, desk.action)
        await reviews.edit(
            db, ADA, desk.action, 1, 1.0, title="We are looking", components={}, is_markdown=True
        )
        again = await reviews.edit(db, ADA, desk.action, 2, 1.0, text="More.")
        assert (await reviews.edit(db, ADA, desk.action, 3, 1.0, text="More."))["revision"] == 3
        assert again["original"] == {
            key: first[key] for key in ("title", "text", "components", "is_markdown")
        }
        assert (again["components"], again["is_markdown"]) == ({}, True)
    await desk.approve(BOB, revision=3, comment="go")
    async with transaction(desk.pool) as db:
        counted = await reviews.tally(db, owner=desk.beat.id)
    assert counted == {
        "proposed": 1,
        "approved_unedited": 0,
        "approved_edited": 1,
        "rejected": 0,
        "expired": 0,
    }


async def test_what_became_worse_meanwhile_is_not_rejected_unread(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        await reviews.edit(db, ADA, desk.action, 1, 1.0, text="All of it is down.")
        with pytest.raises(reviews.StaleRevisionError):
            await reviews.reject(db, BOB, desk.action, "a drill", 2.0, 1)
        assert (await reviews.reject(db, BOB, desk.action, "a drill", 2.0, 2))["status"] == "rejected"


async def test_new_words_of_the_machine_replace_those_of_people(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        await reviews.edit(db, ADA, desk.action, 1, 1.0, title="We are looking")
        await reviews.propose(db, [reviews.Proposal(desk.beat.id, 1, StepProposed(2.0, "open", "warning"))])
        row = await reviews.one(db, desk.action)
    assert (row["revision"], row["edited"], row["original"]) == (3, False, None)


async def test_an_incident_by_hand_waits_for_a_review_and_operators_hear_of_it(desk: Desk) -> None:
    said = Said(
        "open", "investigating", "Slow", "We look.", {}, 7.0, "ada", public_url="https://upbeat.example"
    )
    async with transaction(desk.pool) as db:
        action = await reviews.draft(db, desk.page.id, said)
        found = await reviews.actions(db, by="ada")
    assert [row["id"] for row in found] == [action]
    assert (await desk.told())[-1] == ("A draft waits: Slow", None)
    async with transaction(desk.pool) as db:
        await reviews.reject(db, BOB, action, "not now", 8.0)
    assert (await desk.told())[-1] == ("Rejected by bob: Slow", "bob")
    async with transaction(desk.pool) as db:
        other = await reviews.draft(db, desk.page.id, said)
        done = await reviews.approve(db, BOB, other, 1, 9.0)
    assert (done["status"], done["owner"], done["episode_id"]) == ("approved", None, None)
