"""The watchdog: fetches somebody else's URL while results commit, so that our own silence is noticed there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from engine.egress import open_session
from rules.address import EgressPolicy
from rules.settings import Watchdog

_log = logging.getLogger(__name__)


async def watch(
    watchdog: Watchdog, url: str, policy: EgressPolicy, is_well: Callable[[], Awaitable[bool]]
) -> None:
    """GET `url` every `watchdog.every` seconds in which `is_well()`; until cancelled."""
    async with open_session(policy, "relay", timeout_s=10.0) as session:
        while True:
            await asyncio.sleep(watchdog.every)
            if not await is_well():
                _log.warning("the watchdog is not told that all is well")
                continue
            try:
                async with session.get(url, allow_redirects=False) as answer:
                    if answer.status >= 400:
                        _log.warning("the watchdog's URL answered %d", answer.status)
            except (aiohttp.ClientError, OSError, TimeoutError) as failure:
                # Its text may quote the URL, which is a secret as a rule.
                _log.warning("the watchdog's URL was not reached: %s", type(failure).__name__)
