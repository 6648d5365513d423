"""From the form to the last mail: asked, confirmed by what was mailed, told of an incident once, ended by one click. Real HTTP, SMTP, PostgreSQL."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from engine import mailing
from engine.mailing import Mailing
from engine.secrets import Secrets
from rules.address import EgressPolicy
from rules.mail import Mail
from tests.rig.browser import chromium
from tests.rig.mailroom import Mailroom, open_mailroom
from upbeat.letters import Letters

if TYPE_CHECKING:
    from tests.api.conftest import Server


@pytest.fixture
async def relay(server: "Server", monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mailroom]:
    """A relay, and the loop that mails what the server has to say."""
    monkeypatch.setattr(mailing, "IDLE_S", 0.05)
    server.services.settings = replace(server.services.settings, can_mail=True)
    server.app.state.subscribing.clear()
    async with open_mailroom(Mailroom()) as room:
        mail = Mail(host="127.0.0.1", port=room.port, tls="none", sender="status@shop.example")
        letters = Letters(lambda: mail, lambda: EgressPolicy(["127.0.0.0/8"]), Secrets({}))
        working = Mailing(
            server.services.pool,
            letters.send,
            holder="story",
            base_url=lambda: server.url,
            mail=lambda: mail,
        )
        task = asyncio.create_task(working.run())
        yield room
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await letters.close()


async def _mail(relay: Mailroom, number: int) -> EmailMessage:
    async with asyncio.timeout(60):
        while len(relay.kept) < number:
            await asyncio.sleep(0.02)
    return relay.read(number - 1)


def _text(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def _path(server: "Server", text: str, what: str) -> str:
    found = re.search(rf"{re.escape(server.url)}(/p/shop/{what}/[\w-]+)", text)
    assert found is not None, text
    return found[1]


async def _say(server: "Server", text: str) -> Any:
    body = {"page": "shop", "title": "Checkout is down", "text": text, "notify": True}
    answer = await server.call(
        "POST", "/api/v1/incidents", body | {"components": {"shop/site": "major_outage"}}
    )
    assert answer.status == 201, answer.body
    return answer.body


async def _form(server: "Server", path: str, body: str = "") -> int:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return (await server.call("POST", path, data=body.encode(), who=None, headers=headers)).status


async def test_a_subscription_from_the_form_to_one_click(server: "Server", relay: Mailroom) -> None:
    assert await _form(server, "/p/shop/subscribe", "kind=email&address=Ann%40Shop.example") == 200
    asked = await _mail(relay, 1)
    assert (asked["To"], "List-Unsubscribe" in asked) == ("Ann@shop.example", False)
    await _say(server, "Before they confirmed.")
    assert await _form(server, _path(server, _text(asked), "confirm")) == 200
    said = await _say(server, "We look into it.")
    assert said["notified"]["subscribers"] == 1
    told = await _mail(relay, 2)
    assert "We look into it." in _text(told)
    assert "Before they confirmed" not in str(relay.kept[1].content)
    assert told["List-Unsubscribe-Post"] is None  # which is for https
    one_click = _path(server, told["List-Unsubscribe"], "unsubscribe")
    assert await _form(server, one_click, "List-Unsubscribe=One-Click") == 200
    assert (await _say(server, "Nobody hears this."))["notified"]["subscribers"] == 0
    again = await server.call("POST", "/api/v1/subscribers?page=shop", {"address": "bob@shop.example"})
    assert again.status == 201
    assert (await _mail(relay, 3))["To"] == "bob@shop.example"
    assert relay.told == ["Ann@shop.example", "Ann@shop.example", "bob@shop.example"]


async def test_a_webhook_is_told_only_once_its_owner_followed_a_link(
    server: "Server", relay: Mailroom
) -> None:
    got: list[Any] = []
    raw: list[tuple[dict[str, str], bytes]] = []

    async def taken(request: web.Request) -> web.Response:
        raw.append((dict(request.headers), await request.read()))
        got.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", taken)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        body = f"kind=webhook&address=http%3A%2F%2F127.0.0.1%3A{port}%2Fhook"
        assert await _form(server, "/p/shop/subscribe", body) == 200
        async with asyncio.timeout(60):
            while not got:
                await asyncio.sleep(0.02)
        await _say(server, "Not yet for them.")
        assert await _form(server, _path(server, str(got[0]), "confirm")) == 200
        await _say(server, "For them too.")
        async with asyncio.timeout(60):
            while len(got) < 2:
                await asyncio.sleep(0.02)
        assert "For them too." in str(got[1])
        assert "Not yet" not in str(got)
        manage = await server.call("GET", _path(server, str(got[1]), "manage"), who=None)
        secret = re.search(r"whsec_[\w+/=]+", manage.body)
        assert secret is not None
        Webhook(secret[0]).verify(raw[1][1], raw[1][0])
    finally:
        await runner.cleanup()


@pytest.mark.browser
async def test_who_asks_at_the_gate_is_let_in_by_what_is_mailed(server: "Server", relay: Mailroom) -> None:
    server.services.settings = replace(server.services.settings, public_url=server.url)
    access = {"password": "x", "emails": ["corp.example"]}
    page = {"slug": "gated", "name": "Inner", "access": access, "languages": ["en", "de"]}
    await server.call("POST", "/api/v1/pages", page)
    async with chromium() as browser:
        tab = await browser.new_page()
        await tab.goto(f"{server.url}/p/gated/de/history")
        await tab.fill("#email", "ann@corp.example")
        await tab.keyboard.press("Enter")
        await tab.wait_for_selector("[role=status]")
        mail = await _mail(relay, 1)
        assert mail["To"] == "ann@corp.example"
        found = re.search(rf"{re.escape(server.url)}/p/gated/de/unlock\?\S+", _text(mail))
        assert found is not None
        await tab.goto(found[0])
        await tab.click("main button")
        await tab.wait_for_url(f"{server.url}/p/gated/de/history")
        await tab.goto(f"{server.url}/p/gated")
        assert await tab.inner_text("h1") == "Inner"
