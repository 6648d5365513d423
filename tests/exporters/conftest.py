"""A receiver to export to: a real HTTP server that records requests and answers as the test says."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from engine.egress import open_session
from evaluators.model import Notice, Stage
from rules.address import EgressPolicy


@dataclass
class Received:
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str = "ok"
    received: list[Received] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.received.append(Received(dict(request.headers), await request.read()))
        return web.Response(status=self.status, headers=self.headers, text=self.text)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application(client_max_size=32 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(EgressPolicy(["127.0.0.0/8"]), "channel", timeout_s=2) as opened:
        yield opened


@pytest.fixture
def notice() -> Notice:
    return Notice(
        id="ntc_0190b6e0",
        told="open",
        title="Checkout API is down",
        at=1_790_000_000.25,
        beat="checkout-api",
        beat_title="Checkout API",
        page="shop",
        stage=Stage.CRITICAL,
        was=Stage.OK,
        why=("eu-west: critical, HTTP 503", "us-east: critical, no answer in 10 s"),
        episode="epi_0190b6e1",
        link="https://upbeat.example/beats/checkout-api",
    )
