"""The life of an episode through the real outbox, delivery loop and exporters, to services with the real ones' rules."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from engine.delivery import Delivery
from engine.secrets import Secrets
from engine.store import objects, outbox
from engine.store.audit import Actor
from engine.store.database import Pool, migrate, open_pool, transaction
from evaluators.model import Notice, Stage
from rules.address import EgressPolicy
from tests.rig.services import Discord, PagerDuty, Service, served
from upbeat.targets import Targets

KEY = "0123456789abcdef0123456789abcdef"
OPEN = Notice("n1", "open", "Pay is down", 1.0, beat="pay", page="p", stage=Stage.CRITICAL, episode="epi_1")
LIFE = (
    OPEN,
    replace(OPEN, id="n2", told="acknowledged", title="Ann takes it", by="Ann"),
    replace(OPEN, id="n3", told="comment", title="Ann says", why=("a disk is full",)),
    replace(OPEN, id="n4", told="recovery", title="Pay is well", stage=Stage.OK, was=Stage.CRITICAL),
)


@pytest.fixture
async def pool(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    monkeypatch.setattr(outbox, "SCHEDULE_S", (0.01,) * 5)
    pool = await open_pool(database_url)
    await migrate(pool)
    yield pool
    await pool.close()


@asynccontextmanager
async def _delivering(pool: Pool) -> AsyncIterator[None]:
    targets = Targets(EgressPolicy(["127.0.0.0/8"]), Secrets({"KEY": KEY}))
    task = asyncio.create_task(Delivery(pool, targets.send, holder="one").run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await targets.close()


async def _told(pool: Pool, spec: dict[str, Any], notices: Sequence[Notice]) -> list[str]:
    """What became of each."""
    async with transaction(pool) as db:
        actor = Actor("test", "api")
        page = await objects.create(db, actor, "page", None, {"slug": "p", "name": "P"})
        channel = await objects.create(
            db, actor, "channel", page.id, spec | {"slug": "c", "digest_over": 1000}
        )
        for notice in notices:
            await outbox.put(db, [channel.id], "epi_1", notice.id, notice)
    async with _delivering(pool), asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM outbox WHERE status = 'pending'"):
            await asyncio.sleep(0.05)
    return [row["status"] for row in await pool.fetch("SELECT status FROM outbox ORDER BY id")]


def _busy(service: Service) -> None:
    service.instead = [web.Response(status=429, headers={"Retry-After": "0"}), web.Response(status=503)]


@pytest.mark.parametrize("is_forum", [True, False], ids=["in a forum", "in a channel"])
async def test_discord_keeps_the_first_message_true(pool: Pool, is_forum: bool) -> None:
    async with served(Discord(is_forum=is_forum)) as discord:
        _busy(discord)
        spec = {"type": "discord", "url": f"{discord.url}/api/webhooks/1/t", "forum": is_forum}
        assert await _told(pool, spec, LIFE) == ["done"] * 4
        titles = [embed["title"] for _, embed in discord.messages.values()]
        assert titles == ["🟢 Pay is well", "🔔 Ann takes it", "🔔 Ann says", "🟢 Pay is well"]
        assert len({thread for thread, _ in discord.messages.values()}) == 1


async def test_pagerduty_has_one_alert_that_was_taken_and_ended(pool: Pool) -> None:
    async with served(PagerDuty()) as duty:
        _busy(duty)
        spec = {"type": "pagerduty", "key": "${env:KEY}", "url": f"{duty.url}/v2/enqueue"}
        assert await _told(pool, spec, LIFE) == ["done"] * 4
        assert duty.alerts == {"epi_1": ["resolved", 1]}
        assert [asked.body["event_action"] for asked in duty.asked[2:]] == [
            "trigger",
            "acknowledge",
            "resolve",
        ]
    rows = await pool.fetch("SELECT * FROM outbox JOIN objects o ON o.id = target_id")
    assert KEY not in str([dict(row) for row in rows])
