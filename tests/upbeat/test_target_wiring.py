"""Exporters and sessions of channels, against a real receiver: none is kept for ever, none is closed in use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from engine.delivery import Target
from engine.secrets import Secrets
from evaluators.model import Notice
from exporters.outcome import Delivered, Rejected
from rules.address import EgressPolicy
from rules.models import TYPED
from upbeat import targets
from upbeat.channels import CHANNELS
from upbeat.targets import Targets

POLICY = EgressPolicy(("127.0.0.0/8",))
NOTICE = Notice("1", "test", "a test", 1.0)


class Receiver:
    """Answers 204 when it may."""

    def __init__(self) -> None:
        self.may, self.asked = asyncio.Event(), asyncio.Event()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.may.wait()
        return web.Response(status=204)


@asynccontextmanager
async def served(made: Receiver) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_post("/{any:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield
    await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with served(made):
        yield made


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


class Recorder(Receiver):
    """Takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    async def take(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        return web.Response(status=202)


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"type": "discord", "url": "{url}/webhooks/1/t"}, ["/webhooks/1/t"]),
        ({"type": "teams", "url": "${{env:TEAMS_URL}}"}, ["/teams"]),
        ({"type": "pagerduty", "key": "k", "url": "{url}/v2/enqueue"}, ["/v2/enqueue"] * 2),
        ({"type": "opsgenie", "key": "k", "url": "{url}"}, ["/v2/alerts", "/v2/alerts/test:1/close"]),
        ({"type": "grafana_oncall", "url": "{url}/oncall"}, ["/oncall"] * 2),
        ({"type": "webhook", "url": "{url}/x", "payload": "betterstack"}, ["/x"]),
        ({"type": "apprise", "urls": ["json://{host}/a", "json://{host}/b"]}, ["/a", "/b"]),
    ],
    ids=lambda given: given.get("type") if isinstance(given, dict) else "",
)
async def test_each_kind_of_channel_is_reached_where_policy_allows_and_nowhere_else(
    spec: dict[str, Any], paths: list[str]
) -> None:
    recorder = Recorder()
    async with served(recorder):
        host = recorder.url.removeprefix("http://")

        def filled(value: Any) -> Any:
            if isinstance(value, list):
                return [filled(one) for one in value]
            return value.format(url=recorder.url, host=host) if isinstance(value, str) else value

        target = Target("channel", {"slug": "c"} | {key: filled(value) for key, value in spec.items()}, None)
        secrets = Secrets({"TEAMS_URL": f"{recorder.url}/teams"})
        refused = Targets(EgressPolicy(()), secrets)
        outcome = await refused.send(target, NOTICE)
        assert isinstance(outcome, Rejected)
        assert "egress.allow" in outcome.reason
        assert recorder.paths == []
        allowed = Targets(POLICY, secrets)
        assert isinstance(await allowed.send(target, NOTICE), Delivered)
        assert sorted(recorder.paths) == paths
        for sender in (refused, allowed):
            await sender.close()


def test_every_kind_of_channel_has_an_exporter() -> None:
    assert {*CHANNELS} == {*TYPED["channel"].values()}
