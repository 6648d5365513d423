"""The watchdog's URL is a secret: not even a URL that cannot be used is told to the log."""

import asyncio

import pytest

from rules.address import EgressPolicy
from rules.settings import Watchdog
from upbeat.watchdog import watch


@pytest.mark.parametrize(
    "url", ["hc.example/canary7731", "http://[canary7731", "http://127.0.0.1:1/canary7731"]
)
async def test_a_url_that_is_not_reached_is_not_quoted(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def is_well() -> bool:
        return True

    often = Watchdog.model_construct(url=url, every=0.01)
    task = asyncio.create_task(watch(often, url, EgressPolicy(), is_well))
    async with asyncio.timeout(5):
        while "not reached" not in caplog.text and not task.done():
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "not reached" in caplog.text
    assert "canary" not in caplog.text
