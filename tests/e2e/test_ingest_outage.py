"""Deliveries to a whole `upbeat serve` while its PostgreSQL is killed and stands still: what was acknowledged is there."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import pytest

from engine.store import inboxes, objects
from engine.store.audit import Actor
from engine.store.database import codecs
from engine.store.ids import show
from tests.rig.installation import family, send
from tests.rig.process import Upbeat, fresh_folder, until, upbeat

CONFIG = "version: 1\npage: {slug: shop, name: Shop}\ninboxes:\n  - {slug: alerts, rate_limit: 1000000}\n"
SENDERS = 8


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Upbeat]:
    with fresh_folder() as folder:
        async with upbeat(folder, CONFIG) as started:
            yield started


def dsn(running: Upbeat) -> str:
    return f"postgresql://upbeat@/upbeat?host={running.data / 'run'}&port=5432"


async def token(running: Upbeat) -> str:
    connection = await asyncpg.connect(dsn(running))
    await codecs(connection)
    try:
        async with connection.transaction():
            inbox = await objects.find(connection, "inbox", "alerts")
            return (await inboxes.issue_token(connection, Actor("test", "cli"), inbox)).text
    finally:
        await connection.close()


class Senders:
    """Post one delivery after the other; `acknowledged` has the ids of those that were taken."""

    def __init__(self, url: str) -> None:
        self.acknowledged, self.statuses = set[str](), Counter[int]()
        self._url, self._numbers = url, itertools.count()

    async def post(self, session: aiohttp.ClientSession) -> int:
        name = {"webhook-id": f"{id(self)}-{next(self._numbers)}"}
        async with session.post(self._url, data=b"{}", headers=name) as answer:
            self.statuses[answer.status] += 1
            if answer.status == 202:
                self.acknowledged.add((await answer.json())["id"])
            else:
                assert answer.headers["Retry-After"]
            return answer.status

    @contextlib.asynccontextmanager
    async def posting(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Until the block ends, and each has sent its last."""
        is_over = False

        async def one_by_one() -> None:
            while not is_over:
                if await self.post(session) != 202:
                    await asyncio.sleep(0.05)

        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            tasks = [asyncio.create_task(one_by_one()) for _ in range(SENDERS)]
            yield session
            is_over = True
            await asyncio.gather(*tasks)


def postmaster(running: Upbeat) -> int:
    """The process that all others of PostgreSQL are children of."""
    return int((running.data / "pg" / "postmaster.pid").read_text().splitlines()[0])


async def test_whatever_was_acknowledged_is_stored_though_the_database_is_killed(running: Upbeat) -> None:
    text = await token(running)
    senders = Senders(f"http://127.0.0.1:{running.port}/api/v1/external-events/ingest/{text}")

    async def taken(more_than: int) -> bool:
        return len(senders.acknowledged) > more_than

    async with senders.posting():
        await until(lambda: taken(100), "deliveries are taken")
        os.kill(postmaster(running), signal.SIGKILL)
        before = len(senders.acknowledged)
        await until(lambda: taken(before + 200), "deliveries are taken again", 60)
    assert senders.statuses.keys() <= {202, 503}, senders.statuses
    connection = await asyncpg.connect(dsn(running))
    ids = {show("event", row["id"]) for row in await connection.fetch("SELECT id FROM events")}
    await connection.close()
    assert senders.acknowledged <= ids
    assert text not in running.log.read_text("utf-8", "replace")


async def test_while_the_database_stands_still_senders_are_told_to_come_back(running: Upbeat) -> None:
    text = await token(running)
    senders = Senders(f"http://127.0.0.1:{running.port}/api/v1/external-events/ingest/{text}")
    async with aiohttp.ClientSession() as session:
        assert await senders.post(session) == 202
        stopped = list(family(postmaster(running)))
        try:
            send(stopped, signal.SIGSTOP)
            assert set(await asyncio.gather(*(senders.post(session) for _ in range(20)))) == {503}
        finally:
            send(stopped, signal.SIGCONT)

        async def taken() -> bool:
            return await senders.post(session) == 202

        await until(taken, "deliveries are taken again", 60)
