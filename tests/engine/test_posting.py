"""From an approval to another status page: on real PostgreSQL, through the outbox, to a target that answers as the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from engine import delivery
from engine.delivery import Delivery, Target
from engine.store import objects, outbox, retention, reviews
from engine.store.audit import Actor
from engine.store.database import Pool, transaction
from engine.store.ids import show
from evaluators.facts import EpisodeOpened, StepProposed
from evaluators.model import Item, Post
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Removed, Retry
from rules.incident import Step

ACTOR = Actor("ada", "api")
BEAT = {"slug": "home", "type": "http", "url": "https://shop.example/", "components": {"site": {}}}


@dataclass
class Desk:
    """A page with one publisher, and an owner whose actions are approved by hand."""

    pool: Pool
    publisher: UUID
    beat: objects.Stored
    sent: list[tuple[Post, Memory]] = field(default_factory=list)
    answers: list[Outcome] = field(default_factory=list)

    async def send(self, _: Target, item: Item, memory: Memory) -> Outcome:
        assert isinstance(item, Post)
        self.sent.append((item, memory))
        return self.answers.pop(0) if self.answers else Delivered({"id": "remote-1"})

    async def approved(self, step: Step, severity: str = "critical") -> None:
        async with transaction(self.pool) as db:
            effect = StepProposed(2.0, step, severity)  # type: ignore[arg-type]
            if step == "open":
                await reviews.open_episodes(db, [(self.beat, EpisodeOpened(1.0, 1, "critical"))])
            waiting = await reviews.propose(db, [reviews.Proposal(self.beat.id, 1, effect)])
            for action in waiting:
                await reviews.approve(db, ACTOR, action, 1, 3.0)

    async def statuses(self) -> list[str]:
        rows = await self.pool.fetch(
            "SELECT step || ' ' || status AS said FROM actions ORDER BY created_at, id"
        )
        return [row["said"] for row in rows]

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        task = asyncio.create_task(Delivery(self.pool, self.send, holder="one").run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def become(self, *said: str) -> None:
        async with asyncio.timeout(20):
            while await self.statuses() != list(said):
                await asyncio.sleep(0.05)


@pytest.fixture
async def desk(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(outbox, "SCHEDULE_S", (0.01, 0.01))
    monkeypatch.setattr(delivery, "IDLE_S", 0.02)
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "shop", "name": "Shop"})
        await objects.create(db, ACTOR, "component", page.id, {"slug": "site", "name": "Site"})
        spec = {"slug": "elsewhere", "type": "webhook", "url": "http://hook.example/"}
        publisher = await objects.create(db, ACTOR, "publisher", page.id, spec)
        beat = await objects.create(db, ACTOR, "beat", page.id, BEAT)
    return Desk(pool, publisher.id, beat)


async def test_an_approved_action_is_done_when_every_target_has_it(desk: Desk) -> None:
    await desk.approved("open")
    assert await desk.statuses() == ["open approved"]
    async with desk.delivering():
        await desk.become("open done")
    ((post, memory),) = desk.sent
    assert (post.step, post.title, post.status, post.impact) == (
        "open",
        "Outage: Site",
        "investigating",
        "major",
    )
    assert post.components == {"shop/site": "major_outage"}
    assert memory == Memory()


async def test_what_a_target_calls_it_is_remembered_and_a_resolve_restores_the_component(desk: Desk) -> None:
    await desk.approved("open")
    await desk.approved("resolve")
    async with desk.delivering():
        await desk.become("open done", "resolve done")
    assert [post.step for post, _ in desk.sent] == ["open", "resolve"]
    assert desk.sent[1][1] == Memory({"id": "remote-1"})
    assert (desk.sent[1][0].status, desk.sent[1][0].components) == ("resolved", {"shop/site": "operational"})


async def test_a_failed_try_is_a_repeat_the_next_time(desk: Desk) -> None:
    desk.answers = [Retry("no answer in time")]
    await desk.approved("open")
    async with desk.delivering():
        await desk.become("open done")
    assert [memory.is_repeat for _, memory in desk.sent] == [False, True]


async def test_a_dead_step_holds_up_its_incident_until_it_is_replayed(desk: Desk) -> None:
    desk.answers = [Rejected("HTTP 401")]
    await desk.approved("open")
    await desk.approved("resolve")
    async with desk.delivering():
        await desk.become("open failed", "resolve approved")
        assert [post.step for post, _ in desk.sent] == ["open"]
        async with transaction(desk.pool) as db:
            (dead,) = await outbox.listing(db, status="dead")
            assert await outbox.retry(db, ACTOR, None, outbox_id=dead["id"])
        await desk.become("open done", "resolve done")
    assert [post.step for post, _ in desk.sent] == ["open", "open", "resolve"]


async def test_what_waits_behind_a_dead_step_leaves_when_that_is_replayed_and_goes_with_it_after_a_month(
    desk: Desk,
) -> None:
    desk.answers = [Rejected("HTTP 401")]
    await desk.approved("open")
    async with desk.delivering():
        await desk.become("open failed")
        await desk.approved("resolve")
        waiting = "SELECT count(*) FROM outbox WHERE status = 'pending' AND due_at > now() + interval '1 day'"
        assert await desk.pool.fetchval(waiting) == 1
        async with transaction(desk.pool) as db:
            assert await outbox.retry(db, ACTOR, None, target_id=desk.publisher) == 1
        await desk.become("open done", "resolve done")
    await desk.pool.execute(
        "UPDATE outbox SET status = 'dead', finished_at = now() - interval '31 days' WHERE item->>'step' = 'open'"
    )
    await desk.pool.execute(
        "UPDATE outbox SET status = 'pending', finished_at = NULL WHERE item->>'step' = 'resolve'"
    )
    async with desk.pool.acquire() as db:
        await retention.sweep(db, days=30)
    assert await desk.pool.fetchval("SELECT count(*) FROM outbox") == 0


async def test_what_was_removed_there_by_hand_is_not_made_again(desk: Desk) -> None:
    desk.answers = [Delivered({"id": "remote-1"}), Removed()]
    await desk.approved("open")
    await desk.approved("update", "warning")
    await desk.approved("resolve")
    async with desk.delivering():
        await desk.become("open done", "update done", "resolve done")
    assert [post.step for post, _ in desk.sent] == ["open", "update"]
    row = await desk.pool.fetchrow("SELECT line, gone_at IS NOT NULL AS gone FROM remotes")
    incident = await desk.pool.fetchval("SELECT id FROM incidents")
    assert row is not None
    assert tuple(row) == (show("incident", incident), True)


async def test_what_was_done_otherwise_than_asked_stands_with_the_delivery(desk: Desk) -> None:
    desk.answers = [Delivered({"id": "remote-1"}, "said without notifying")]
    await desk.approved("open")
    async with desk.delivering():
        await desk.become("open done")
    (row,) = await desk.pool.fetch("SELECT status, last_error FROM outbox WHERE incident_id IS NOT NULL")
    assert tuple(row) == ("done", "said without notifying")


async def test_a_step_says_what_else_is_not_well(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        page = desk.beat.page_id
        spec = {"slug": "cart", "name": "Cart", "status": "partial_outage"}
        await objects.create(db, ACTOR, "component", page, spec)
        await objects.create(db, ACTOR, "component", page, {"slug": "well", "name": "Well"})
    await desk.approved("open")
    async with desk.delivering():
        await desk.become("open done")
    ((post, _),) = desk.sent
    assert (post.components, post.others) == ({"shop/site": "major_outage"}, {"shop/cart": "partial_outage"})
