"""Exporters and sessions of channels, against a real receiver: none is kept for ever, none is closed in use."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from engine.delivery import Target
from engine.secrets import Secrets
from evaluators.model import Notice
from exporters.outcome import Delivered
from rules.address import EgressPolicy
from upbeat import targets
from upbeat.targets import Targets

POLICY = EgressPolicy(("127.0.0.0/8",))
NOTICE = Notice("1", "test", "a test", 1.0)


class Receiver:
    """Answers 204 when it may."""

    def __init__(self) -> None:
        self.may, self.asked = asyncio.Event(), asyncio.Event()
        self.url = ""

    async def take(self, _: web.Request) -> web.Response:
        self.asked.set()
        await self.may.wait()
        return web.Response(status=204)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made, app = Receiver(), web.Application()
    app.router.add_post("/{any:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def webhook(url: str) -> Target:
    return Target("channel", {"type": "webhook", "slug": "hook", "url": url}, None)


async def test_a_delivery_under_way_is_ended_under_its_policy_and_its_session_closed(
    receiver: Receiver,
) -> None:
    sender = Targets(POLICY, Secrets({}))
    sending = asyncio.create_task(sender.send(webhook(receiver.url), NOTICE))
    await receiver.asked.wait()
    session = sender._era.session
    assert session is not None
    await sender.judge_by(EgressPolicy(()))
    closed_early = session.closed
    receiver.may.set()
    assert isinstance(await sending, Delivered)
    assert (closed_early, session.closed) == (False, True)
    assert not isinstance(await sender.send(webhook(receiver.url), NOTICE), Delivered)
    unused = sender._era.session
    await sender.judge_by(POLICY)
    assert unused is not None
    assert unused.closed
    await sender.close()


async def test_a_channel_edited_often_leaves_few_exporters(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "KEPT", 3)
    receiver.may.set()
    sender = Targets(POLICY, Secrets({}))
    for n in range(10):
        assert isinstance(await sender.send(webhook(f"{receiver.url}/{n}"), NOTICE), Delivered)
    assert len(sender._era.exporters) == 3
    await sender.close()
