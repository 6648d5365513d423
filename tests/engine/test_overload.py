"""Many steps for a page that takes few: the real publisher and a real Statuspage that refuses what is over its limit, in virtual time."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from engine import delivery
from engine.delivery import Delivery, Target
from engine.store import objects, outbox
from engine.store.audit import Actor
from engine.store.database import Pool, transaction
from evaluators.model import Item, Post
from exporters.outcome import Memory, Outcome
from exporters.publishers.statuspage import Statuspage
from exporters.publishing import Api, Pace, SitePublisher
from rules.publishers.statuspage import StatuspagePublisher
from tests.exporters.publishers.site_server import KEY
from tests.exporters.publishers.statuspage_server import PAGE, StatuspageServer
from tests.rig.virtual import Time

ACTOR = Actor("ada", "api")
BURST = 60


class BusyPage(StatuspageServer):
    """Takes ten requests in a minute of the test's time."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.taken: Counter[int] = Counter()
        self.refused = 0

    def authenticate(self, request: web.Request) -> None:
        minute = int(self.time.now // 60)
        self.taken[minute] += 1
        if self.taken[minute] > 10:
            self.refused += 1
            raise self.limited("15")
        super().authenticate(request)


@dataclass
class Desk:
    """A page that is posted to `server`."""

    pool: Pool
    server: BusyPage
    publisher: SitePublisher[StatuspagePublisher]

    async def send(self, _: Target, item: Item, memory: Memory) -> Outcome:
        assert isinstance(item, Post)
        return await self.publisher.export(item, memory)


async def test_a_burst_for_a_page_that_refuses_most_of_it_is_there_once_and_nothing_is_a_dead_letter(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "IDLE_S", 0.02)
    rule = StatuspagePublisher.model_validate(
        {"slug": "there", "type": "statuspage", "page_id": PAGE, "key": KEY}
    )
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "shop", "name": "Shop"})
        publisher = await objects.create(db, ACTOR, "publisher", page.id, rule.model_dump(exclude_none=True))
        for n in range(BURST):
            post = Post(
                id=f"post-{n}",
                step="open",
                incident=f"inc-{n}",
                kind="incident",
                page="shop",
                title=f"Outage {n}",
                status="investigating",
                impact="major",
                at=1.0,
                began_at=1.0,
                text="We look into it.",
            )
            await outbox.put(db, [publisher.id], post.incident, post.id, post)
    async with BusyPage.running() as server, aiohttp.ClientSession() as session:
        server.time.now += 600.0  # ahead of the database, whose clock says when a step was queued
        pace = Pace(1.0, server.time.epoch_s, lambda _: asyncio.sleep(0))
        api = Api(session, server.url + "/v1", {"Authorization": f"OAuth {KEY}"}, pace)
        desk = Desk(pool, server, SitePublisher(Statuspage, api, rule))
        task = asyncio.create_task(Delivery(pool, desk.send, holder="one", clock=server.time).run())
        try:
            async with asyncio.timeout(60):
                while await pool.fetchval("SELECT count(*) FROM outbox WHERE status = 'pending'"):
                    await asyncio.sleep(0.03)
                    server.time.now += 5.0
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        row = await pool.fetchrow(
            "SELECT count(*) FILTER (WHERE status = 'dead') AS dead, max(attempts) AS tries FROM outbox"
        )
    assert row is not None
    assert (row["dead"], row["tries"]) == (0, 1)
    assert sorted(title for title, _, _ in server.seen()) == sorted(f"Outage {n}" for n in range(BURST))
    assert server.refused > 0
