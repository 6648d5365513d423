"""The webhook publisher as it is built of its rule, against a real receiver that checks signatures as Standard Webhooks says."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web

from engine.delivery import Target
from engine.secrets import Secrets
from exporters.outcome import Delivered, Memory, Rejected, Retry
from rules.address import EgressPolicy
from tests.exporters.publishers.test_sites import OPEN
from upbeat.targets import Targets

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    def __init__(self) -> None:
        self.url, self.answers = "", [204]
        self.got: list[tuple[Mapping[str, str], bytes]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((request.headers, await request.read()))
        return web.Response(status=self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def sender() -> AsyncIterator[Targets]:
    sender = Targets(EgressPolicy(("127.0.0.0/8",)), Secrets({"HOOK": SECRET}))
    yield sender
    await sender.close()


def target(receiver: Receiver, **more: Any) -> Target:
    return Target("publisher", {"slug": "own", "type": "webhook", "url": receiver.url, **more}, None)


async def test_a_step_is_signed_and_the_same_in_every_try(sender: Targets, receiver: Receiver) -> None:
    receiver.answers = [503, 200]
    there = target(receiver, secret="${env:HOOK}")
    assert isinstance(await sender.send(there, OPEN, Memory()), Retry)
    assert isinstance(await sender.send(there, OPEN, Memory(is_repeat=True)), Delivered)
    for headers, body in receiver.got:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"
        assert (headers["webhook-id"], headers["Content-Type"]) == (OPEN.id, "application/json")
    assert receiver.got[0][1] == receiver.got[1][1]
    said = json.loads(receiver.got[0][1])
    assert (said["type"], said["data"]["notify"]) == ("incident.open", True)
    assert "others" not in said["data"]


async def test_one_that_is_to_notify_nobody_says_so(sender: Targets, receiver: Receiver) -> None:
    assert isinstance(await sender.send(target(receiver, notify=False), OPEN, Memory()), Delivered)
    assert json.loads(receiver.got[0][1])["data"]["notify"] is False


async def test_what_it_refuses_is_refused(sender: Targets, receiver: Receiver) -> None:
    receiver.answers = [400]
    outcome = await sender.send(target(receiver), OPEN, Memory())
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith("HTTP 400")
