"""Headers that go to the journey's own origins and to no other. Asks Chromium to stop those requests only: no other is slowed.

Not Playwright's routes: those stop every request, turn the cache off, and send the headers of one on to where it is
redirected. Each request that comes here is judged by its own address, redirected ones too.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.async_api import Browser, CDPSession, Error

TRACEPARENT: Final = "traceparent"
_PORTS: Final = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """As Chromium writes it: `https://shop.example`; empty for what has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in _PORTS or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


class Headers:
    """What is sent to which origin, while it is on: in every page, frame and worker of the browser."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._by_origin: dict[str, dict[str, str]] = {}
        self._session: CDPSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def on(self, by_origin: dict[str, dict[str, str]]) -> None:
        """From now on. Raises `playwright.async_api.Error`."""
        self._by_origin = {one: given for one, given in by_origin.items() if given}
        if not self._by_origin:
            return
        if self._session is None:
            self._session = await self._browser.new_browser_cdp_session()
            self._session.on("Fetch.requestPaused", self._paused)
        patterns: list[dict[str, str]] = []
        for one, given in self._by_origin.items():
            # A trace is of what servers compute; to stop every picture for it would cost a fifth of the journey.
            kinds = ("Document", "XHR", "Fetch") if given.keys() == {TRACEPARENT} else (None,)
            patterns += [
                {"urlPattern": f"{one}/*"} | ({"resourceType": kind} if kind else {}) for kind in kinds
            ]
        await self._session.send("Fetch.enable", {"patterns": patterns})

    async def off(self) -> None:
        """No more."""
        if self._session is not None and self._by_origin:
            with suppress(Error):
                await self._session.send("Fetch.disable")

    def _paused(self, said: dict[str, Any]) -> None:
        task = asyncio.create_task(self._go_on(said))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go_on(self, said: dict[str, Any]) -> None:
        assert self._session is not None
        given: dict[str, str] = said["request"]["headers"]
        more = self._by_origin.get(origin(said["request"]["url"]), {})
        asked: dict[str, Any] = {"requestId": said["requestId"]}
        if more:
            # A page that sends credentials of its own means those.
            kept = {name: value for name, value in given.items() if _is_own(name, more)}
            own = {name.lower() for name in kept}
            kept |= {name: value for name, value in more.items() if name.lower() not in own}
            asked["headers"] = [{"name": name, "value": value} for name, value in kept.items()]
        with suppress(Error):
            await self._session.send("Fetch.continueRequest", asked)


def _is_own(name: str, more: dict[str, str]) -> bool:
    return name.lower() == "authorization" or all(name.lower() != other.lower() for other in more)
