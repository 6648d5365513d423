"""Slack in the console: connected over OAuth, linked by somebody who is signed in, set for a page."""

from typing import TYPE_CHECKING, Any

import pytest

from engine.store import objects, slack
from engine.store.database import transaction
from rules.address import EgressPolicy
from rules.slack import SlackApp
from tests.api.console.conftest import ACTOR
from tests.rig.browser import barriers
from tests.rig.slack import CLIENT, TEAM, TOKEN, LocalSlack, local_slack
from upbeat.slack import Slack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.api.conftest import Server
    from tests.api.console.conftest import SignIn, Tab


@pytest.fixture
async def local(server: "Server") -> "AsyncIterator[LocalSlack]":
    async with local_slack() as found:
        api = f"{found.url}/api/"
        app = SlackApp(client_id=CLIENT[0], client_secret=CLIENT[1], signing_secret="s" * 32, api=api)
        services = server.services
        services.slack = Slack(lambda: app, lambda: EgressPolicy(["127.0.0.0/8"]), services.secrets)
        found.tokens.clear()
        async with transaction(services.pool) as db:
            await slack.disconnect(db, ACTOR, TEAM)
        yield found


async def test_a_workspace_is_connected_sealed_and_disconnected(
    server: "Server", local: LocalSlack, sign_in: "SignIn"
) -> None:
    admin = await sign_in("admin")
    page = await admin.get("/slack/oauth/start")
    assert "Acme &amp; Sons" in page.html
    assert page.url.endswith("/console/slack?said=connected")
    async with server.services.pool.acquire() as db:
        (row, *_) = await db.fetch("SELECT * FROM secrets WHERE name = $1", f"slack.{TEAM}")
    assert TOKEN.encode() not in row["sealed"]
    assert TOKEN not in page.html
    page = await admin.post(f"/console/slack/workspaces/{TEAM}/disconnect")
    assert "No workspace is connected" in page.html
    assert "auth.revoke" in local.calls
    assert local.tokens == {}


async def test_a_state_works_once_and_for_who_began(
    server: "Server", local: LocalSlack, sign_in: "SignIn"
) -> None:
    admin, other = await sign_in("admin"), await sign_in("admin")
    async with admin.session.get(f"{server.url}/slack/oauth/start", allow_redirects=False) as answer:
        there = answer.headers["Location"]
    async with admin.session.get(there, allow_redirects=False) as answer:
        back = answer.headers["Location"].removeprefix(server.url)
    assert "did not begin here" in (await other.get(back)).html
    assert "did not begin here" in (await admin.get(back)).html  # it was used up
    assert "did not begin here" in (await admin.get("/slack/oauth/callback?state=x&code=y")).html
    async with admin.session.get(f"{server.url}/slack/oauth/start", allow_redirects=False) as answer:
        state = answer.headers["Location"].partition("state=")[2]
    refused = await admin.get(f"/slack/oauth/callback?state={state}&code=wrong")
    assert refused.status == 502
    assert "invalid_code" in refused.html
    assert local.tokens == {}


async def test_who_is_signed_in_says_who_they_are_once(
    server: "Server", local: LocalSlack, sign_in: "SignIn"
) -> None:
    viewer, other = await sign_in("viewer@shop"), await sign_in("viewer@shop")
    keyring = server.services.secrets.keyring
    assert keyring
    async with transaction(server.services.pool) as db:
        await slack.connect(db, ACTOR, keyring, TEAM, "Acme", TOKEN)
        secret = await slack.issue(db, team=TEAM, user="U1", name="<b>Ada</b>")
    page = await viewer.get(f"/console/slack/link?secret={secret}")
    assert "&lt;b&gt;Ada&lt;/b&gt;" in page.html
    async with server.services.pool.acquire() as db:
        assert await slack.person(db, TEAM, "U1") is None  # looking links nobody
    assert (await viewer.post("/console/slack/link", {"secret": secret}, csrf="forged")).status == 403
    assert (
        "what you do there, you do as yourself"
        in (await viewer.post("/console/slack/link", {"secret": secret})).html
    )
    assert (await other.get(f"/console/slack/link?secret={secret}")).status == 409
    await other.get("/console")
    assert (await other.post(f"/console/slack/users/{TEAM}/U1/unlink")).status == 404
    assert "No longer linked" in (await viewer.post(f"/console/slack/users/{TEAM}/U1/unlink")).html


async def test_a_page_says_what_slack_hears_and_mistakes_are_shown(
    server: "Server", local: LocalSlack, sign_in: "SignIn"
) -> None:
    admin = await sign_in("admin@shop")
    await admin.get("/console/slack")
    sent = {"channel": "ops-slack", "linking": "hard", "on": "create, resolve", "reminder": "30m"}
    assert "Saved." in (await admin.post("/console/slack/pages/shop", sent)).html
    there: dict[str, Any] = {"C0123": {"reminders": False}}
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        await objects.replace(
            db, ACTOR, shop, shop.spec | {"slack": shop.spec["slack"] | {"channels": there}}
        )
    await admin.post("/console/slack/pages/shop", sent | {"reminder": ""})
    async with server.services.pool.acquire() as db:
        spec = (await objects.find(db, "page", "shop")).spec["slack"]
    assert spec == {"channel": "ops-slack", "linking": "hard", "on": ["create", "resolve"], "channels": there}
    page = await admin.post("/console/slack/pages/shop", sent | {"linking": "weak"})
    assert page.status == 422
    assert "weak" in page.html
    page = await admin.post("/console/slack/pages/shop", {})
    async with server.services.pool.acquire() as db:
        assert "slack" not in (await objects.find(db, "page", "shop")).spec
    assert (await admin.post("/console/slack/pages/blog", sent)).status == 404


@pytest.mark.browser
async def test_the_page_is_whole_in_a_browser(server: "Server", local: LocalSlack, tab: "Tab") -> None:
    page = tab.page
    await page.goto(f"{server.url}/console/slack")
    await page.get_by_role("link", name="Connect a workspace").click()
    await page.get_by_text("Connected. Channels of the kind slack_bot may use it.").wait_for()
    await page.get_by_text("Settings of Shop").click()
    assert await barriers(page) == []
    async with transaction(server.services.pool) as db:
        secret = await slack.issue(db, team=TEAM, user="U1", name="Ada")
    await page.goto(f"{server.url}/console/slack/link?secret={secret}")
    assert await barriers(page) == []
    await page.get_by_role("button", name="Yes, that is me").click()
    await page.get_by_text("Linked: what you do there").wait_for()
    assert tab.trouble == []
