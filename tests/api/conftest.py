"""The application over a real socket, PostgreSQL and NATS, in an installation of two pages, with everybody in it."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import pytest
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.context import ApiSettings, Health, Services
from engine.bus import Bus
from engine.clock import SystemClock
from engine.embedded.supervisor import Embedded
from engine.secrets import Secrets
from engine.store import objects, people
from engine.store.audit import Actor
from engine.store.database import migrate, open_pool, transaction
from engine.store.objects import Stored
from engine.store.secrets import Keyring
from exporters.letters.mail import preview
from exporters.outcome import Outcome, Rejected
from rules.address import EgressPolicy
from rules.beat import AnyBeat
from upbeat.imports.codegen import recorded
from upbeat.names import txt
from upbeat.slack import Slack
from upbeat.targets import Targets

ADMIN_TOKEN = "an admin token of some length"
INSTALLER = Actor("UPBEAT_ADMIN_TOKEN", "cli")
_numbers = itertools.count()


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(slots=True)
class Server:
    """The running application, and who may do what with it."""

    url: str
    services: Services
    session: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)
    app: FastAPI = field(init=False)

    async def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        who: str | None = "installer",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request as `who` (a key of `tokens`; None is nobody)."""
        sent = dict(headers or {})
        if who is not None:
            sent["Authorization"] = f"Bearer {self.tokens[who]}"
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(
            method, self.url + path, json=json, data=data, headers=sent
        ) as answer:
            body = (
                await answer.json(content_type=None) if "json" in answer.content_type else await answer.text()
            )
            return Answer(answer.status, body, answer.headers)


@pytest.fixture(scope="module")
async def server(servers: Embedded) -> AsyncIterator[Server]:
    name = f"api_{next(_numbers)}"
    admin = await asyncpg.connect(servers.database_url)
    await admin.execute(f"CREATE DATABASE {name}")
    pool = await open_pool(servers.database_url.replace("/upbeat?", f"/{name}?"))
    bus = Bus()
    try:
        await migrate(pool)
        await bus.connect(servers.nats_url, name="test")
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            running = Server("", _services(pool, bus), session)
            await _populate(running)
            async for _ in _served(running):
                yield running
            assert isinstance(running.services.publishers, Targets)
            await running.services.publishers.close()
    finally:
        await bus.close()
        await pool.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


def _services(pool: Any, bus: Bus) -> Services:
    async def test_channel(spec: Mapping[str, Any], page_id: UUID | None) -> Outcome:
        return Rejected(f"{spec['slug']} said HTTP 410")

    async def check_now(rule: AnyBeat, page_id: UUID | None) -> dict[str, Any]:
        return {"verdict": "ok", "beat": rule.slug}

    async def health(role: str | None, verbose: bool) -> Health:
        return Health(role != "probe", ("no probe here",) if role == "probe" else (), {"role": role})

    async def metrics_text() -> str:
        return "upbeat_up 1\n"

    settings = ApiSettings(admin_token=ADMIN_TOKEN, requests_per_minute=1_000_000)
    return Services(
        pool,
        bus,
        SystemClock(),
        settings,
        test_channel,
        check_now,
        health,
        metrics_text,
        Secrets({}, Keyring([bytes(32)])),
        lambda *_: None,
        Targets(EgressPolicy(["127.0.0.0/8"]), Secrets({})),
        Slack(lambda: None, EgressPolicy, Secrets({})),
        txt,
        preview,
        recorded,
    )


async def _served(running: Server) -> AsyncIterator[None]:
    # asyncio turns Nagle's delay off only where the protocol is said; without it each answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    running.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.app = create_app(running.services)
    config = uvicorn.Config(running.app, log_config=None, lifespan="off", proxy_headers=False, ws="none")
    uvicorn_server = uvicorn.Server(config)
    serving = asyncio.create_task(uvicorn_server.serve([listener]))
    while not uvicorn_server.started:
        await asyncio.sleep(0.01)
    yield
    uvicorn_server.should_exit = True
    uvicorn_server.force_exit = True
    await serving


async def _populate(running: Server) -> None:
    async with transaction(running.services.pool) as db:
        shop = await objects.create(db, INSTALLER, "page", None, {"slug": "shop", "name": "Shop"})
        blog = await objects.create(db, INSTALLER, "page", None, {"slug": "blog", "name": "Blog"})
        for slug in ("eu", "us", "ap"):
            await objects.create(db, INSTALLER, "region", None, {"slug": slug})
        for page in (shop, blog):
            await objects.create(db, INSTALLER, "component", page.id, {"slug": "site", "name": "Site"})
            hook = {"slug": "ops", "type": "webhook", "url": "http://hook.example/secret-path"}
            await objects.create(db, INSTALLER, "channel", page.id, hook)
            status = {"slug": "elsewhere", "type": "webhook", "url": "http://hook.example/posts"}
            await objects.create(db, INSTALLER, "publisher", page.id, status | {"enabled": False})
            beat = {"slug": "home", "type": "http", "url": "https://shop.example/"}
            await objects.create(db, INSTALLER, "beat", page.id, beat)
        await objects.create(db, INSTALLER, "group", shop.id, {"slug": "together"})
        for role in ("viewer", "reviewer", "editor", "admin"):
            running.tokens[role] = await _token(db, role, "admin", role, shop)
        running.tokens["other"] = await _token(db, "other", "admin", "editor", blog)
        running.tokens["reader"] = await _token(db, "reader", "read", "admin", shop)
        running.tokens["writer"] = await _token(db, "writer", "write", "admin", shop)
        running.tokens["installation"] = await _token(db, "installation", "admin", "admin", None)
        running.tokens["expired"] = await _token(db, "expired", "admin", "admin", None, timedelta(seconds=-1))
        running.tokens["revoked"] = await _token(db, "revoked", "admin", "admin", None)
        revoked = next(row for row in await people.tokens(db) if row["name"] == "revoked")
        await people.revoke_token(db, INSTALLER, revoked["id"])
    running.tokens["installer"] = ADMIN_TOKEN


async def _token(
    db: Any, name: str, scope: Any, role: Any, page: Stored | None, life: timedelta | None = None
) -> str:
    _, text = await people.issue_token(db, INSTALLER, name, scope, role, page.id if page else None, life)
    return text
