"""A public page while PostgreSQL and NATS stand still, and while they are killed: served all the time, saying how old it is, fresh again after."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.rig.installation import family, send
from tests.rig.process import Upbeat, fresh_folder, servers_of, until, upbeat

CONFIG = """
version: 1
page: {slug: shop, name: Shop}
regions: [eu]
"""
READERS = 8
BOUND_S = 20.0
"""Of one request: far above what it should take, far below what nobody answers in."""


@dataclass(slots=True)
class Readers:
    """Who looks at the page all the time."""

    url: str
    refused: list[tuple[str, int, str]] = field(default_factory=list)
    longest_s: float = 0.0
    newest: dict[str, Any] = field(default_factory=dict)

    async def read(self, session: aiohttp.ClientSession) -> None:
        """Until cancelled."""
        while True:
            for path in ("", "/status.json"):
                began_s = time.monotonic()
                async with session.get(self.url + path) as answer:
                    if answer.status != 200:
                        self.refused.append((path, answer.status, await answer.text()))
                        continue
                    await answer.read()
                    if path:
                        self.newest = await answer.json()
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            await asyncio.sleep(0.05)

    async def is_stale(self) -> bool:
        """Whether the page says that newer cannot be read."""
        return self.newest["is_stale"] is True

    async def is_fresh(self) -> bool:
        """Whether it does not."""
        return self.newest["is_stale"] is False


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Upbeat]:
    with fresh_folder() as folder:
        async with upbeat(folder, CONFIG) as made:
            yield made


@pytest.mark.parametrize("how", ["stand still", "are killed"])
async def test_the_page_is_there_while_database_and_bus(running: Upbeat, how: str) -> None:
    readers = Readers(f"http://127.0.0.1:{running.port}/p/shop")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=BOUND_S)) as session:
        async with session.get(readers.url + "/status.json") as answer:
            readers.newest = await answer.json()
        tasks = [asyncio.create_task(readers.read(session)) for _ in range(READERS)]
        servers = servers_of(running.data)
        if how == "stand still":
            stopped = [pid for server in servers for pid in family(server)]
            try:
                send(stopped, signal.SIGSTOP)
                await until(readers.is_stale, "the page says how old it is", 60)
                as_of = readers.newest["as_of"]
                async with session.get(f"http://127.0.0.1:{running.port}/p/never-read") as answer:
                    assert answer.status == 503
                await asyncio.sleep(0.5)
                assert readers.newest["as_of"] == as_of
            finally:
                send(stopped, signal.SIGCONT)
        else:
            send([*servers], signal.SIGKILL)

            async def is_back() -> bool:
                return (
                    not servers.keys() & servers_of(running.data).keys()
                    and (await running.call("GET", "/pages"))[0] == 200
                )

            await until(is_back, "the servers are there again", 60)
        await until(readers.is_fresh, "the page is fresh again", 60)
        assert not [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert readers.refused == []
    assert readers.longest_s < BOUND_S
