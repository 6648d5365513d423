"""Pages kept as files are written anew when they change or grow old: on real PostgreSQL, through the outbox, to a target that answers as the test says."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from engine import delivery
from engine.delivery import Delivery, Target
from engine.store import assets, incidents, objects, outbox, refreshing
from engine.store.audit import Actor
from engine.store.database import Connection, Pool, transaction
from engine.store.ids import new_id
from engine.store.incidents import Said
from engine.store.objects import Stored
from evaluators.model import Item, Post, Refresh
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Retry
from rules.publishers.folder import FolderPublisher

ACTOR = Actor("ada", "api")
EVERY_S = 300.0


@dataclass
class Desk:
    """A page with a component, a publisher of its files, and a beat of another page that feeds the component."""

    pool: Pool
    page: Stored
    component: Stored
    publisher: Stored
    now_s: float = field(default_factory=time.time)
    told: list[Item] = field(default_factory=list)
    answers: list[Outcome] = field(default_factory=list)

    async def send(self, target: Target, item: Item, _: Memory) -> Outcome:
        assert target.page_id == self.page.id
        self.told.append(item)
        if self.answers:
            return self.answers.pop(0)
        async with self.pool.acquire() as db:
            return Delivered({"state": await self.state(db, target.spec)})

    async def state(self, db: Connection, spec: Mapping[str, Any]) -> str:
        rule = FolderPublisher.model_validate(spec)
        (state,) = await refreshing.states(db, [(self.page.id, rule)], self.now_s)
        return state

    async def look(self) -> None:
        async with transaction(self.pool) as db:
            await refreshing.look(db, self.now_s, "")

    async def waiting(self) -> int:
        rows = await self.pool.fetch("SELECT FROM outbox WHERE status = 'pending' AND due_at <= now()")
        return len(rows)

    async def written(self) -> list[Item]:
        """What was told of it once nothing is due any more."""
        self.told.clear()
        await self.look()
        task = asyncio.create_task(Delivery(self.pool, self.send, holder="one").run())
        try:
            async with asyncio.timeout(20):
                while await self.waiting():
                    await asyncio.sleep(0.02)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return self.told

    async def opened(self, page: UUID | None = None) -> UUID:
        incident, shown = new_id(), {str(self.component.id): "major_outage"}
        async with transaction(self.pool) as db:
            said = Said("open", "investigating", "Down", "We look.", shown, self.now_s, "ada")
            await incidents.begin(db, incident, page or self.page.id, said)
        return incident


@pytest.fixture
async def desk(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(delivery, "IDLE_S", 0.02)
    monkeypatch.setattr(outbox, "SCHEDULE_S", (300.0, 300.0))
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "shop", "name": "Shop"})
        spec = {"slug": "site", "name": "Site"}
        component = await objects.create(db, ACTOR, "component", page.id, spec)
        spec = {"slug": "files", "type": "folder", "origin": "https://s.example", "folder": "/srv/status"}
        publisher = await objects.create(db, ACTOR, "publisher", page.id, spec)
    return Desk(pool, page, component, publisher)


async def _changed(db: Connection, stored: Stored, **change: Any) -> None:
    await objects.replace(db, ACTOR, stored, stored.spec | change)


async def _component(desk: Desk, db: Connection) -> None:
    await _changed(db, desk.component, status="degraded_performance")


async def _settings(desk: Desk, db: Connection) -> None:
    await _changed(db, desk.page, name="Shop Ltd")


async def _new_component(desk: Desk, db: Connection) -> None:
    await objects.create(db, ACTOR, "component", desk.page.id, {"slug": "api", "name": "API"})


async def _picture(desk: Desk, db: Connection) -> None:
    await assets.put(db, ACTOR, desk.page.id, "logo", "image/png", b"picture")


async def _window(desk: Desk, db: Connection) -> None:
    start = datetime.fromtimestamp(desk.now_s - 60, UTC).replace(microsecond=0).isoformat()
    spec = {"slug": "w", "name": "Work", "start": start, "duration": "1h", "components": ["site"]}
    await objects.create(db, ACTOR, "maintenance", desk.page.id, spec)


async def _publisher(desk: Desk, db: Connection) -> None:
    await _changed(db, desk.publisher, folder="/srv/elsewhere")


@pytest.mark.parametrize("change", [_component, _settings, _new_component, _picture, _window, _publisher])
async def test_what_changes_a_page_has_it_written_once(
    desk: Desk, change: Callable[[Desk, Connection], Awaitable[None]]
) -> None:
    assert [type(item) for item in await desk.written()] == [Refresh]  # the first time
    assert await desk.written() == []
    async with transaction(desk.pool) as db:
        await change(desk, db)
    await desk.look()
    assert len(await desk.written()) == 1
    assert await desk.written() == []
    assert await desk.pool.fetchval("SELECT count(*) FROM outbox") == 1


async def test_a_step_of_an_incident_writes_the_page_and_nothing_does_again(desk: Desk) -> None:
    await desk.written()
    incident = await desk.opened()
    assert [item.step for item in await desk.written() if isinstance(item, Post)] == ["open"]
    assert await desk.written() == []
    await desk.pool.execute(
        "UPDATE incidents SET removed_at = now(), revision = revision + 1 WHERE id = $1", incident
    )
    assert len(await desk.written()) == 1


async def test_an_incident_of_another_page_that_touches_a_component_counts(desk: Desk) -> None:
    await desk.written()
    async with transaction(desk.pool) as db:
        other = await objects.create(db, ACTOR, "page", None, {"slug": "other", "name": "Other"})
    assert await desk.written() == []
    incident = await desk.opened(other.id)
    assert len(await desk.written()) == 1
    await desk.pool.execute("UPDATE incidents SET status = 'resolved' WHERE id = $1", incident)
    assert len(await desk.written()) == 1


async def test_a_page_that_nothing_changes_is_written_every_so_often(desk: Desk) -> None:
    await desk.written()
    desk.now_s += EVERY_S - 60
    assert await desk.written() == []
    desk.now_s += 120
    assert len(await desk.written()) == 1


async def test_a_failure_is_not_tried_for_a_day_but_replaced_by_the_next_time(desk: Desk) -> None:
    desk.answers = [Retry("no answer in time")] * 9
    assert len(await desk.written()) == 1
    assert await desk.written() == []  # the engine's own schedule: 5 s
    for _ in range(4):
        desk.now_s += EVERY_S + 60
        await desk.pool.execute("UPDATE targets SET failed_at = to_timestamp($1)", desk.now_s - EVERY_S - 1)
        assert len(await desk.written()) == 1
    row = await desk.pool.fetchrow("SELECT status, attempts, now() - begun_at AS since FROM outbox")
    assert row is not None
    assert (row["status"], row["attempts"]) == ("pending", 1)
    desk.answers = []
    desk.now_s += 2 * EVERY_S
    assert len(await desk.written()) == 1
    assert await desk.pool.fetchval("SELECT status FROM outbox") == "done"


async def test_a_refusal_is_tried_again_at_the_next_time_or_once_the_publisher_was_edited(desk: Desk) -> None:
    desk.answers = [Rejected("HTTP 403 AccessDenied")] * 2
    assert len(await desk.written()) == 1
    assert await desk.pool.fetchval("SELECT status FROM outbox") == "dead"
    assert await desk.written() == []
    async with transaction(desk.pool) as db:
        publisher = await objects.find(db, "publisher", "files")
        await objects.replace(db, ACTOR, publisher, publisher.spec | {"index": True})
    desk.now_s = time.time()
    assert len(await desk.written()) == 1
    desk.answers = []
    desk.now_s += EVERY_S + 60
    assert len(await desk.written()) == 1
    assert await desk.pool.fetchval("SELECT status FROM outbox") == "done"


async def test_who_writes_once_a_day_does_not_wait_a_day_after_a_refusal(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        await _changed(db, desk.publisher, every="1d")
    desk.answers = [Rejected("HTTP 403 AccessDenied")]
    assert len(await desk.written()) == 1
    desk.now_s += EVERY_S + 60
    assert len(await desk.written()) == 1
    desk.now_s += EVERY_S + 60
    assert await desk.written() == []


async def test_steps_that_could_not_be_written_are_done_once_the_page_was(desk: Desk) -> None:
    await desk.written()
    desk.answers = [Retry("No space left on device")] * 2
    await desk.opened()
    assert {type(item) for item in await desk.written()} == {Post, Refresh}
    assert await desk.pool.fetchval("SELECT status FROM outbox WHERE incident_id IS NOT NULL") == "pending"
    await desk.pool.execute("UPDATE targets SET failed_at = failed_at - interval '6 minutes'")
    assert [type(item) for item in await desk.written()] == [Refresh]  # that of the step is due in 5 min
    assert [type(item) for item in await desk.written()] == [Post]
    assert await desk.pool.fetchval("SELECT count(*) FROM outbox WHERE status = 'done'") == 2


async def test_steps_that_were_refused_are_done_once_the_page_was_written(desk: Desk) -> None:
    await desk.written()
    desk.answers = [Rejected("HTTP 403 AccessDenied")] * 2
    await desk.opened()
    await desk.written()
    assert await desk.pool.fetchval("SELECT status FROM outbox WHERE incident_id IS NOT NULL") == "dead"
    assert await desk.written() == []  # not again and again while nothing is taken
    await desk.pool.execute("UPDATE targets SET failed_at = failed_at - interval '6 minutes'")
    assert [type(item) for item in await desk.written()] == [Refresh]
    assert [type(item) for item in await desk.written()] == [Post]
    assert await desk.pool.fetchval("SELECT count(*) FROM outbox WHERE status = 'done'") == 2
    assert await desk.written() == []


async def test_what_changes_while_it_is_written_is_written_after_it(desk: Desk) -> None:
    await desk.look()
    async with transaction(desk.pool) as db:
        await outbox.begin(db, [row["id"] for row in await outbox.due(db, 1, time.time())], time.time())
        before = await desk.state(db, desk.publisher.spec)
        await _component(desk, db)
    await desk.look()
    async with transaction(desk.pool) as db:
        (row,) = await db.fetch("SELECT id, target_id, line FROM outbox")
        await outbox.remember(db, row["target_id"], row["line"], {"state": before})
        await outbox.delivered(db, row["id"])
    assert len(await desk.written()) == 1


async def test_a_publisher_that_is_not_enabled_or_removed_is_left_alone(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        await objects.replace(db, ACTOR, desk.publisher, desk.publisher.spec | {"enabled": False})
    assert await desk.written() == []
    async with transaction(desk.pool) as db:
        publisher = await objects.find(db, "publisher", "files")
        await objects.remove(db, ACTOR, publisher)
    assert await desk.written() == []
