"""Slack in the console: connected over OAuth, linked by somebody who is signed in, set for a page."""

import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from engine.store import objects, slack
from engine.store.database import transaction
from rules.address import EgressPolicy
from rules.slack import PageSlack, SlackApp
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


async def test_who_is_signed_in_takes_a_code_and_ends_their_own_link(
    server: "Server", local: LocalSlack, sign_in: "SignIn"
) -> None:
    viewer, other = await sign_in("viewer@shop"), await sign_in("viewer@shop")
    keyring = server.services.secrets.keyring
    assert keyring
    await viewer.get("/console/slack")
    assert (await viewer.post("/console/slack/code", csrf="forged")).status == 403
    page = await viewer.post("/console/slack/code")
    found = re.search(r"/upbeat link ([\w-]{43})<", page.html)
    assert found
    async with transaction(server.services.pool) as db:
        about = await slack.use(db, found[1])
        assert await slack.use(db, found[1]) == {}
        await slack.connect(db, ACTOR, keyring, TEAM, "Acme", TOKEN)
        await slack.link(db, ACTOR, TEAM, "U1", UUID(about["user"]))
    assert "U1" in (await viewer.get("/console/slack")).html
    await other.get("/console")
    assert (await other.post(f"/console/slack/users/{TEAM}/U1/unlink")).status == 404
    assert "No longer linked" in (await viewer.post(f"/console/slack/users/{TEAM}/U1/unlink")).html


async def test_a_code_of_somebody_else_is_shown_to_nobody(
    server: "Server", local: LocalSlack, sign_in: "SignIn"
) -> None:
    viewer = await sign_in("viewer@shop")
    assert "of-somebody-else" not in (await viewer.get("/console/slack?code=of-somebody-else")).html


async def test_a_page_whose_slack_names_no_channel_is_not_saved(
    server: "Server", local: LocalSlack, sign_in: "SignIn"
) -> None:
    async with server.services.pool.acquire() as db:
        shop = await objects.find(db, "page", "shop")
    sent = {"slack": {"channel": "no-such"}}
    answer = await server.call("PATCH", f"/api/v1/pages/{shop.slug}", sent)
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/slack/channel")
    assert "there is no channel 'no-such' on the page shop" in answer.body["detail"]


async def test_reminders_that_are_off_stay_off(server: "Server") -> None:
    ops = {"slug": "ops-slack", "page": "shop", "type": "slack_bot", "workspace": TEAM, "channel": "C0123"}
    assert (await server.call("POST", "/api/v1/channels", ops)).status == 201
    there = {"C0123": {"reminder": "2h"}, "C0456": {"on": ["create"]}}
    said: dict[str, Any] = {"channel": "ops-slack", "reminder": "off", "channels": there}
    for slack_ in (said, {"announce": False}):
        assert (await server.call("PATCH", "/api/v1/pages/shop", {"slack": slack_})).status == 200
    async with server.services.pool.acquire() as db:
        kept = PageSlack.model_validate((await objects.find(db, "page", "shop")).spec["slack"])
    assert [kept.reminds_after(channel) for channel in ("C0123", "C0456", "C0789")] == [7200.0, None, None]
    assert not kept.announce


@pytest.mark.browser
async def test_the_page_is_whole_in_a_browser(server: "Server", local: LocalSlack, tab: "Tab") -> None:
    page = tab.page
    await page.goto(f"{server.url}/console/slack")
    await page.get_by_role("link", name="Connect a workspace").click()
    await page.get_by_text("Connected. Channels of the kind slack_bot may use it.").wait_for()
    assert await barriers(page) == []
    await page.get_by_role("button", name="Take a code").click()
    await page.get_by_text("Write this in Slack within ten minutes").wait_for()
    assert await barriers(page) == []
    assert tab.trouble == []
