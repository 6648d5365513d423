"""Checks of what is not saved: how long they may take, how many there are at once, and that those that are left end."""

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

from engine.tasks import end
from rules.beat import AnyBeat
from rules.kinds.browser import BrowserBeat

if TYPE_CHECKING:
    from tests.api.conftest import Server


async def test_a_journey_may_be_checked_for_a_minute_beside_other_checks_and_ends_when_it_is_left(
    server: "Server",
) -> None:
    begun, ended = asyncio.Queue[float](), asyncio.Queue[bool]()

    async def check_now(rule: AnyBeat, _: UUID | None) -> dict[str, Any]:
        if not isinstance(rule, BrowserBeat):
            return {"verdict": "ok"}
        await begun.put(rule.interval)
        try:
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            await ended.put(True)

    journey = {"type": "browser", "url": "https://x.example/", "steps": [{"goto": "/"}]}
    long = await server.call("POST", "/api/v1/check", journey | {"timeout": "61s"})
    assert "a check may take 60 s in all" in str(long.body)
    before, server.services.check_now = server.services.check_now, check_now
    try:
        left = [asyncio.create_task(server.call("POST", "/api/v1/check", journey)) for _ in range(2)]
        assert [await begun.get(), await begun.get()] == [
            60.0,
            60.0,
        ]  # a turn is waited for no longer than that
        assert (await server.call("POST", "/api/v1/check", journey)).body[
            "detail"
        ] == "2 journeys are running"
        plain = await server.call("POST", "/api/v1/check", {"url": "https://x.example/"})
        assert plain.body["verdict"] == "ok"
        await end(left)
        assert [await ended.get(), await ended.get()] == [True, True]
    finally:
        server.services.check_now = before
