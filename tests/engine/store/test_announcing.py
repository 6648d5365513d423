"""Announced maintenance on real PostgreSQL, in time that the test moves: said once, whoever looks and however often."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.store import announcing, objects
from engine.store.audit import Actor
from engine.store.database import Pool, transaction

ACTOR = Actor("ada", "api")
H = 3600.0
BEGIN = datetime(2026, 1, 4, 2, tzinfo=UTC).timestamp()
SPEC: dict[str, Any] = {
    "slug": "disks",
    "name": "New disks",
    "start": "2026-01-04T02:00:00Z",
    "duration": "2h",
    "components": ["site"],
    "announce": {},
}


class CutShortError(Exception):
    """The process was killed before it could commit."""


@dataclass
class Desk:
    """A page with a publisher, and a window."""

    pool: Pool
    window: objects.Stored
    site: objects.Stored
    now: float = field(default=BEGIN - 24 * H)

    async def at(self, hour: float) -> None:
        self.now = BEGIN + hour * H
        async with transaction(self.pool) as db:
            await announcing.look(db, self.now, "")

    async def change(self, **spec: Any) -> None:
        async with transaction(self.pool) as db:
            self.window = await objects.replace(db, ACTOR, self.window, self.window.spec | spec)

    async def said(self) -> list[str]:
        rows = await self.pool.fetch("SELECT status FROM updates ORDER BY at, id")
        return [row["status"] for row in rows]

    async def posted(self) -> list[str]:
        rows = await self.pool.fetch(
            "SELECT item->>'step' || ' ' || (item->>'status') AS s FROM outbox ORDER BY id"
        )
        return [row["s"] for row in rows]


@pytest.fixture
async def desk(pool: Pool) -> Desk:
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "shop", "name": "Shop"})
        site = await objects.create(db, ACTOR, "component", page.id, {"slug": "site", "name": "Site"})
        await objects.create(db, ACTOR, "component", page.id, {"slug": "blog", "name": "Blog"})
        hook = {"slug": "elsewhere", "type": "webhook", "url": "http://hook.example/"}
        await objects.create(db, ACTOR, "publisher", page.id, hook)
        window = await objects.create(db, ACTOR, "maintenance", page.id, SPEC)
    return Desk(pool, window, site)


async def test_a_time_of_it_is_announced_reminded_of_begun_and_over(desk: Desk) -> None:
    for hour in (-25, -24, -24, -1, -1, 0, 0, 2, 2, 30):
        await desk.at(hour)
    assert await desk.said() == ["scheduled", "scheduled", "in_progress", "completed"]
    assert await desk.posted() == [
        "open scheduled",
        "update scheduled",
        "update in_progress",
        "resolve completed",
    ]
    row = await desk.pool.fetchrow("SELECT * FROM incidents")
    assert row is not None
    assert (row["kind"], row["title"], row["window_id"]) == ("maintenance", "New disks", desk.window.id)
    assert row["components"] == {str(desk.site.id): "under_maintenance"}
    assert (row["starts_at"].timestamp(), row["ends_at"].timestamp()) == (BEGIN, BEGIN + 2 * H)
    post = await desk.pool.fetchval("SELECT item FROM outbox ORDER BY id LIMIT 1")
    assert (post["kind"], post["starts_at"], post["ends_at"]) == ("maintenance", BEGIN, BEGIN + 2 * H)


async def test_publishers_are_shown_the_component_under_maintenance_only_while_it_runs(desk: Desk) -> None:
    for hour in (-24, 0, 2):
        await desk.at(hour)
    rows = await desk.pool.fetch("SELECT item->'components'->>'shop/site' AS s FROM outbox ORDER BY id")
    assert [row["s"] for row in rows] == ["operational", "under_maintenance", "operational"]


async def test_two_who_look_at_once_say_it_once(desk: Desk) -> None:
    for hour in (-24, -1, 0, 2):
        await asyncio.gather(*(desk.at(hour) for _ in range(6)))
    assert await desk.said() == ["scheduled", "scheduled", "in_progress", "completed"]


async def test_what_was_cut_short_is_said_by_the_next_one(desk: Desk) -> None:
    for hour in (-24, 0, 2):
        with pytest.raises(CutShortError):
            async with transaction(desk.pool) as db:
                await announcing.look(db, BEGIN + hour * H, "")
                raise CutShortError
        await desk.at(hour)
    assert await desk.said() == ["scheduled", "in_progress", "completed"]


async def test_a_window_that_is_edited_is_followed(desk: Desk) -> None:
    await desk.at(-24)
    await desk.change(start="2026-01-09T02:00:00Z")
    await desk.at(-23)
    await desk.at(0)
    assert await desk.said() == ["scheduled", "scheduled"]
    text = await desk.pool.fetchval("SELECT text FROM updates ORDER BY at DESC LIMIT 1")
    assert "now planned from Jan 9, 2026, 02:00 UTC" in text
    await desk.change(name="Other disks", components=[])
    await desk.at(1)
    await desk.at(1)
    row = await desk.pool.fetchrow("SELECT title, components FROM incidents")
    assert row is not None
    assert (row["title"], len(row["components"])) == ("Other disks", 2)
    assert (await desk.posted())[-1] == "edit scheduled"
    assert len(await desk.posted()) == 3


async def test_a_window_that_is_deleted_is_cancelled_or_over(desk: Desk) -> None:
    await desk.at(-24)
    async with transaction(desk.pool) as db:
        await objects.remove(db, ACTOR, desk.window)
    await desk.at(-20)
    await desk.at(0)
    assert await desk.said() == ["scheduled", "cancelled"]


async def test_each_time_of_a_recurrence_has_its_own(desk: Desk) -> None:
    await desk.change(rrule="FREQ=DAILY", announce={"before": "12h", "remind": "off"})
    for hour in range(-12, 28, 2):
        await desk.at(hour)
    rows = await desk.pool.fetch("SELECT status, starts_at FROM incidents ORDER BY starts_at")
    assert [(row["status"], (row["starts_at"].timestamp() - BEGIN) / H) for row in rows] == [
        ("completed", 0),
        ("completed", 24),
    ]


async def test_of_many_windows_each_has_its_own_say(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        own = {"slug": "blog", "name": "Blog work", "components": ["blog"], "start": "2026-01-04T03:00:00Z"}
        other = await objects.create(db, ACTOR, "maintenance", desk.window.page_id, SPEC | own)
    await desk.at(-23)
    assert await desk.said() == ["scheduled", "scheduled"]
    async with transaction(desk.pool) as db:
        await objects.replace(db, ACTOR, other, other.spec | {"name": "Blog works"})
    await desk.at(-22)
    await desk.at(0.5)
    rows = await desk.pool.fetch("SELECT title, status, components FROM incidents ORDER BY starts_at")
    assert [(row["title"], row["status"]) for row in rows] == [
        ("New disks", "in_progress"),
        ("Blog works", "scheduled"),
    ]
    assert len({tuple(row["components"]) for row in rows}) == 2
