"""The delivery loop on a real outbox: order per line, retries, dead letters, and nobody delayed by another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from engine import delivery
from engine.delivery import Delivery, Target
from engine.store import objects, outbox
from engine.store.audit import Actor
from engine.store.database import Connection, Pool, Row, migrate, open_pool, transaction
from evaluators.model import Item, Notice
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Retry

ACTOR = Actor("test", "api")


@dataclass
class Desk:
    """Channels `good` and `bad`, and what they were handed."""

    pool: Pool
    channels: dict[str, UUID]
    sent: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[str, list[Outcome]] = field(default_factory=dict)

    async def send(self, target: Target, notice: Item, _: Memory) -> Outcome:
        slug = target.spec["slug"]
        self.sent.append((slug, notice.id))
        answers = self.answers.get(slug, [])
        return answers.pop(0) if answers else Delivered()

    async def put(self, channel: str, *ids: str, line: str = "line") -> None:
        async with transaction(self.pool) as connection:
            for one in ids:
                notice = Notice(id=one, told="open", title=one, at=1.0)
                await outbox.put(connection, [self.channels[channel]], line, one, notice)

    async def settled(self, count: int) -> dict[str, int]:
        async with asyncio.timeout(10):
            while True:
                rows = await self.pool.fetch("SELECT status, count(*) AS n FROM outbox GROUP BY 1")
                found = {row["status"]: row["n"] for row in rows}
                if sum(n for status, n in found.items() if status != "pending") >= count:
                    return found
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def delivering(self, holder: str = "one") -> AsyncIterator[Delivery]:
        working = Delivery(self.pool, self.send, holder=holder)
        task = asyncio.create_task(working.run())
        try:
            yield working
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def desk(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(outbox, "SCHEDULE_S", (0.01, 0.01))
    pool = await open_pool(database_url)
    await migrate(pool)
    channels = {}
    async with transaction(pool) as connection:
        page = await objects.create(connection, ACTOR, "page", None, {"slug": "p", "name": "P"})
        for slug in ("good", "bad"):
            spec: dict[str, Any] = {"slug": slug, "type": "webhook", "url": "http://127.0.0.1:9/"}
            spec |= {"on": ["open"]}
            channels[slug] = (await objects.create(connection, ACTOR, "channel", page.id, spec)).id
    yield Desk(pool, channels)
    await pool.close()


async def test_a_line_is_delivered_in_the_order_it_was_queued(desk: Desk) -> None:
    await desk.put("good", *map(str, range(5)))
    async with desk.delivering():
        await desk.settled(5)
    assert [one for _, one in desk.sent] == ["0", "1", "2", "3", "4"]


async def test_the_same_key_is_queued_once_for_a_target(desk: Desk) -> None:
    await desk.put("good", "a", "a", "a")
    async with desk.delivering():
        assert await desk.settled(1) == {"done": 1}


async def test_what_waits_behind_a_failing_head_keeps_its_order(desk: Desk) -> None:
    desk.answers["bad"] = [Retry("busy"), Retry("busy")]
    await desk.put("bad", "first", "second")
    async with desk.delivering():
        assert await desk.settled(2) == {"done": 2}
    assert [one for _, one in desk.sent] == ["first", "first", "first", "second"]


async def test_a_dead_target_delays_no_other_and_ends_as_a_dead_letter(desk: Desk) -> None:
    desk.answers["bad"] = [Retry("busy")] * 9
    await desk.put("bad", "lost", line="one")
    await desk.put("good", "found", line="one")
    async with desk.delivering():
        assert await desk.settled(2) == {"done": 1, "dead": 1}
    assert desk.sent.count(("bad", "lost")) == 3


async def test_what_is_rejected_is_dead_at_once_and_can_be_sent_again_by_a_person(desk: Desk) -> None:
    desk.answers["bad"] = [Rejected("HTTP 410")]
    await desk.put("bad", "gone")
    async with desk.delivering():
        assert await desk.settled(1) == {"dead": 1}
        row = await desk.pool.fetchrow("SELECT id, last_error FROM outbox")
        assert row is not None
        assert row["last_error"] == "HTTP 410"
        async with desk.pool.acquire() as connection:
            assert await outbox.retry(connection, ACTOR, None, outbox_id=row["id"])
        async with asyncio.timeout(10):
            while await desk.settled(0) != {"done": 1}:
                await asyncio.sleep(0.05)


async def test_a_notice_for_a_removed_channel_is_given_up(desk: Desk) -> None:
    await desk.put("good", "late")
    async with transaction(desk.pool) as connection:
        stored = await objects.find(connection, "channel", "good")
        await objects.remove(connection, ACTOR, stored)
    async with desk.delivering():
        assert await desk.settled(1) == {"dead": 1}
    assert desk.sent == []


async def test_what_was_sent_is_not_sent_again_while_the_database_takes_no_word_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "NOTE_AGAIN_S", 0.05)
    await desk.pool.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE disk_full; END $$; "
        "CREATE TRIGGER full_disk BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    await desk.put("good", "once")
    async with desk.delivering():
        await asyncio.sleep(1.5)
        assert await desk.settled(0) == {"pending": 1}
        await desk.pool.execute("DROP TRIGGER full_disk ON outbox")
        assert await desk.settled(1) == {"done": 1}
    assert desk.sent == [("good", "once")]


async def test_of_two_processes_one_delivers(desk: Desk) -> None:
    async with desk.delivering("one"), desk.delivering("two"):
        await desk.put("good", *map(str, range(20)))
        await desk.settled(20)
    assert len(desk.sent) == 20


async def test_a_delivery_that_ends_while_the_outbox_is_read_is_not_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending, read = asyncio.Event(), outbox.due

    async def slowly(target: Target, notice: Item, _: Memory) -> Outcome:
        desk.sent.append((target.spec["slug"], notice.id))
        await sending.wait()
        return Delivered()

    async def due(connection: Connection, limit: int, now: float) -> list[Row]:
        rows = await read(connection, limit, now)
        if desk.sent:  # the delivery under way ends between this look and what is made of it
            sending.set()
            await desk.settled(1)
        return rows

    monkeypatch.setattr(outbox, "due", due)
    monkeypatch.setattr(desk, "send", slowly)
    await desk.put("good", "once")
    async with desk.delivering():
        await desk.settled(1)
        await asyncio.sleep(0.2)
    assert desk.sent == [("good", "once")]


@pytest.mark.parametrize(
    "outcome",
    [Rejected("no \0 here"), Rejected("half a \ud83d"), Delivered({"id": "\0"}), Delivered({"id": "\ud83d"})],
)
async def test_what_the_database_cannot_hold_stops_nobody(desk: Desk, outcome: Outcome) -> None:
    desk.answers["bad"] = [outcome]
    await desk.put("bad", "odd")
    async with desk.delivering():
        assert await desk.settled(1) == {"dead": 1}
        await desk.put("bad", "next")
        assert await desk.settled(2) == {"dead": 1, "done": 1}
    assert desk.sent == [("bad", "odd"), ("bad", "next")]


async def test_a_try_that_another_process_began_is_left_to_it(desk: Desk) -> None:
    await desk.put("good", "once")
    async with desk.pool.acquire() as one, desk.pool.acquire() as two:
        now = await one.fetchval("SELECT extract(epoch FROM now())::float8 + 1")
        (row,) = await outbox.due(one, 8, now)
        await one.execute('UPDATE outbox SET item = item || \'{"title": "reworded"}\'')
        begun = await outbox.begin(one, [row["id"]], now)
        assert [item["title"] for item in begun.values()] == ["reworded"]
        assert await outbox.begin(two, [row["id"]], now + 1.0) == {}
        assert await outbox.due(two, 8, now + 1.0) == []
        (late,) = await outbox.due(two, 8, now + outbox.HOLD_S)  # it ended without a word
        assert late["begun_at"] is not None
        await outbox.delivered(two, row["id"])
        await outbox.failed(one, row["id"], "no answer in time", 5.0)
        assert await desk.settled(1) == {"done": 1}


async def test_what_waits_behind_a_failing_head_is_not_looked_at_before_it(desk: Desk) -> None:
    await desk.put("bad", "first", *map(str, range(50)))
    async with transaction(desk.pool) as db:
        await outbox.failed(db, await db.fetchval("SELECT min(id) FROM outbox"), "busy", 60.0)
        assert await db.fetchval("SELECT count(*) FROM outbox WHERE due_at < now() + interval '50 s'") == 0
        assert await db.fetchval("SELECT count(DISTINCT due_at) FROM outbox") == 1


async def test_what_still_waits_for_a_channel_that_is_not_enabled_any_more_is_not_sent(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        stored = await objects.find(db, "channel", "good")
        await objects.replace(db, ACTOR, stored, stored.spec | {"enabled": False})
    await desk.put("good", "late")
    async with desk.delivering():
        assert await desk.settled(1) == {"dead": 1}
    assert desk.sent == []
    assert await desk.pool.fetchval("SELECT last_error FROM outbox") == "the channel is not enabled"
