"""Slack's requests over a real socket, signed as Slack signs them, against a local Slack; and who may do what there."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from slack_sdk.signature import Clock, SignatureVerifier

from api.slack import requests
from api.slack.asked import is_slacks
from engine.secrets import Secrets
from engine.store import incidents, objects, people, reviews, slack
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id, read, show
from evaluators.facts import EpisodeOpened
from rules.address import EgressPolicy
from rules.slack import SlackApp
from tests.rig.slack import CLIENT, TEAM, TOKEN, LocalSlack, form, local_slack
from upbeat.slack import Slack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.api.conftest import Server

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SEED = Actor("seed", "api")
C = "C0123ABCD"


@dataclass(slots=True)
class Workspace:
    """Somebody's Slack: what Slack would send us of it."""

    server: Server
    local: LocalSlack
    team: str = TEAM
    users: dict[str, UUID] = field(default_factory=dict)

    async def send(self, path: str, body: bytes, kind: str, **headers: str) -> aiohttp.ClientResponse:
        stamp = str(int(time.time()))
        signature = SignatureVerifier(SECRET).generate_signature(timestamp=stamp, body=body)
        assert signature
        given = {"Content-Type": kind, "X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signature}
        answer = await self.server.session.post(
            f"{self.server.url}/slack/{path}", data=body, headers=given | headers
        )
        await answer.read()
        return answer

    async def do(self, path: str, body: bytes, **headers: str) -> Any:
        answer = await self.send(path, body, "application/x-www-form-urlencoded", **headers)
        assert answer.status == 200, await answer.text()
        if tasks := self.server.app.state.slack:
            await asyncio.wait(set(tasks))
        return await answer.json() if await answer.read() else None

    def trigger(self) -> str:
        made = new_id().hex
        self.local.triggers.add(made)
        return made

    async def command(self, text: str, user: str = "UREV", channel: str = C) -> str:
        """`/upbeat ...`; what they alone were told."""
        fields = {"team_id": self.team, "user_id": user, "channel_id": channel, "text": text}
        await self.do(
            "commands", form(**fields, trigger_id=self.trigger(), response_url=f"{self.local.url}/respond")
        )
        return self.told()

    async def click(self, name: str, value: str, user: str = "UREV") -> str:
        payload = {
            "type": "block_actions",
            "team": {"id": self.team},
            "user": {"id": user},
            "channel": {"id": C},
        }
        payload |= {"trigger_id": self.trigger(), "response_url": f"{self.local.url}/respond"}
        await self.do(
            "interactions", form(payload=payload | {"actions": [{"action_id": name, "value": value}]})
        )
        return self.told()

    async def submit(self, user: str = "UREV", **given: Any) -> Any:
        """Send the form that was opened last, filled in over what it suggests."""
        view = self.local.views[-1]
        values = {
            b["block_id"]: {"value": _value(b["element"])} for b in view["blocks"] if b["type"] == "input"
        }
        for name, value in given.items():
            values[name] = {"value": value}
        sent = {name: view[name] for name in ("callback_id", "private_metadata")} | {
            "state": {"values": values}
        }
        payload = {"type": "view_submission", "team": {"id": self.team}, "user": {"id": user}, "view": sent}
        return await self.do("interactions", form(payload=payload | {"trigger_id": self.trigger()}))

    async def mention(self, said: str, user: str = "UREV") -> None:
        event = {"type": "app_mention", "user": user, "text": f"<@U0BOT> {said}", "channel": C}
        body = {"type": "event_callback", "team_id": self.team, "event_id": new_id().hex, "event": event}
        for _ in range(2):
            await self.do("events", json.dumps(body).encode())

    def told(self) -> str:
        said = self.local.said[-1] if self.local.said else {}
        return str(said.get("text", ""))


def _value(element: dict[str, Any]) -> dict[str, Any]:
    if "initial_value" in element:
        return {"type": "plain_text_input", "value": element["initial_value"]}
    if "initial_option" in element:
        return {"type": "static_select", "selected_option": element["initial_option"]}
    return {"type": element["type"], "selected_options": element.get("initial_options", [])}


def text(value: str) -> dict[str, Any]:
    return {"type": "plain_text_input", "value": value}


@pytest.fixture
async def workspace(server: Server) -> AsyncIterator[Workspace]:
    services = server.services
    async with local_slack() as local:
        app = SlackApp(
            client_id=CLIENT[0], client_secret=CLIENT[1], signing_secret=SECRET, api=f"{local.url}/api/"
        )
        services.slack = Slack(lambda: app, lambda: EgressPolicy(["127.0.0.0/8"]), services.secrets)
        local.add(C)
        found = Workspace(server, local)
        keyring = services.secrets.keyring
        assert keyring is not None
        async with transaction(services.pool) as db:
            await db.execute("DELETE FROM slack_workspaces")
            await slack.connect(db, SEED, keyring, TEAM, "Acme & Sons", TOKEN)
            await services.secrets.refresh(db)
            shop = await objects.find(db, "page", "shop")
            roles: dict[str, people.Role] = {"UREV": "reviewer", "UVIEW": "viewer", "UADMIN": "admin"}
            for slack_user, role in roles.items():
                email = f"{role}-{new_id().hex}@shop.example"
                user = await people.create_user(db, SEED, email, role, {shop.id: role})
                await slack.link(db, SEED, TEAM, slack_user, user)
                found.users[email] = user
            await db.execute("UPDATE incidents SET status = 'resolved'")
            await _settings(db, linking="soft")
        yield found


async def _settings(db: Any, **slack_: Any) -> None:
    shop = await objects.find(db, "page", "shop")
    ops = {"slug": "ops-slack", "type": "slack_bot", "workspace": TEAM, "channel": "C0ANNOUNCE"}
    known = {one.slug for one in await objects.listing(db, "channel", pages=[shop.id])}
    if "ops-slack" not in known:
        await objects.create(db, SEED, "channel", shop.id, ops)
    await objects.replace(db, SEED, shop, shop.spec | {"slack": {"channel": "ops-slack", **slack_}})


# ---- signatures


async def test_what_slack_sdk_signed_is_taken_and_everything_else_gets_the_same_401(
    workspace: Workspace,
) -> None:
    body, now = form(team_id=TEAM, user_id="UREV", channel_id=C, text="help", trigger_id="x1"), time.time()
    assert await workspace.do("commands", body) is None

    def signed(at: float, secret: str = SECRET, raw: bytes = body) -> dict[str, str]:
        stamp = str(int(at))
        made = SignatureVerifier(secret, Clock()).generate_signature(timestamp=stamp, body=raw)
        return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": str(made)}

    hostile = {
        "another secret": signed(now, "another"),
        "old": signed(now - 301),
        "of the future": signed(now + 310),
        "of another body": signed(now, raw=body + b"&a=b"),
        "none": {"X-Slack-Signature": "", "X-Slack-Request-Timestamp": ""},
        "no number": {"X-Slack-Signature": "v0=00", "X-Slack-Request-Timestamp": "١٢"},
        "not ASCII": {"X-Slack-Signature": "v0=é", "X-Slack-Request-Timestamp": str(int(now))},
    }
    seen = set()
    for headers in hostile.values():
        for path in ("commands", "interactions", "events"):
            answer = await workspace.send(path, body, "application/x-www-form-urlencoded", **headers)
            problem = await answer.json()
            seen.add((answer.status, problem["detail"]))
    assert seen == {(401, "this is not signed by Slack")}


async def test_a_body_beyond_a_megabyte_and_what_is_no_form_are_refused(workspace: Workspace) -> None:
    answer = await workspace.send("commands", b"a" * 1_010_000, "application/x-www-form-urlencoded")
    assert answer.status == 413
    for path, body in (
        ("interactions", form(payload="[1]")),
        ("interactions", form(payload="{")),
        ("interactions", b"payload=" + b"[" * 100_000),
        ("events", b"{"),
        ("commands", b"&".join(b"a=b" for _ in range(200))),
    ):
        assert (await workspace.send(path, body, "application/x-www-form-urlencoded")).status == 400, body[
            :50
        ]


async def test_what_slack_sends_again_is_done_once(workspace: Workspace) -> None:
    body = form(
        team_id=TEAM,
        user_id="UREV",
        channel_id=C,
        text="help",
        trigger_id="again",
        response_url=f"{workspace.local.url}/respond",
    )
    for n in range(3):
        await workspace.do("commands", body, **({"X-Slack-Retry-Num": str(n)} if n else {}))
    assert len(workspace.local.said) == 1


async def test_a_response_url_that_is_not_slacks_is_never_asked(workspace: Workspace) -> None:
    async with local_slack() as other:
        for url in (
            f"{other.url}/respond",
            "http://hooks.slack.com.evil.example/x",
            "file:///etc/passwd",
            "//x",
        ):
            body = form(
                team_id=TEAM, user_id="UREV", channel_id=C, text="help", trigger_id=url, response_url=url
            )
            await workspace.do("commands", body)
        assert not other.said
    assert workspace.local.calls.count("chat.postEphemeral") == 4


@pytest.mark.parametrize(
    ("url", "api", "is_allowed"),
    [
        ("https://hooks.slack.com/commands/T1/2/x", "https://slack.com/api/", True),
        ("https://hooks.slack-gov.com/actions/x", "https://slack-gov.com/api/", True),
        ("http://hooks.slack.com/commands/x", "https://slack.com/api/", False),
        ("https://slack.com/x", "https://slack.com/api/", False),
        ("https://hooks.slack.com@evil.example/x", "https://slack.com/api/", False),
        ("https://hooks.slack.com:8443/x", "https://slack.com/api/", False),
        ("https://hooks.slack.com.evil.example/x", "https://slack.com/api/", False),
        ("//hooks.slack.com/x", "https://slack.com/api/", False),
        ("https://[::1", "https://slack.com/api/", False),
        ("", "https://slack.com/api/", False),
    ],
)
def test_answers_go_to_slacks_hooks_only(url: str, api: str, is_allowed: bool) -> None:
    assert is_slacks(url, api) is is_allowed


async def test_a_workspace_that_is_not_connected_can_do_nothing(workspace: Workspace) -> None:
    workspace.team = "T9FOREIGN"
    assert "not connected" in await workspace.command("list")
    assert "not connected" in await workspace.command("link")


async def test_an_app_whose_secret_is_empty_is_none_and_its_secrets_are_told_to_nobody() -> None:
    app = SlackApp(client_id="a", client_secret="${env:LONG}", signing_secret="${env:EMPTY}")
    secrets = Secrets({"LONG": "x" * 600, "EMPTY": ""})
    assert Slack(lambda: app, lambda: EgressPolicy([]), secrets).app() is None


# ---- who one is


async def test_nobody_is_somebody_without_a_code_that_works_once_and_in_the_command_only(
    workspace: Workspace,
) -> None:
    server, (reviewer, user) = workspace.server, next(iter(workspace.users.items()))
    assert "/upbeat link" in await workspace.command("list", "UNEW")

    async def code() -> str:
        async with server.services.pool.acquire() as db:
            return await slack.issue(db, user=str(user), name=reviewer)

    for wrong in ("", "x", "a-state-of-oauth"):
        assert "link CODE" in await workspace.command(f"link {wrong}", "UNEW")
    async with server.services.pool.acquire() as db:
        state = await slack.issue(db, session="x")
    assert "link CODE" in await workspace.command(f"link {state}", "UNEW")
    read_by_others = await code()
    await workspace.mention(f"link {read_by_others}", "UNEW")
    assert "link CODE" in await workspace.command(f"link {read_by_others}", "UEVIL")

    good = await code()
    assert f"done as {reviewer}" in await workspace.command(f"link {good}", "UNEW")
    assert "link CODE" in await workspace.command(f"link {good}", "UEVIL")
    async with server.services.pool.acquire() as db:
        found, evil = await slack.person(db, TEAM, "UNEW"), await slack.person(db, TEAM, "UEVIL")
    assert found
    assert (found.email, evil) == (reviewer, None)


async def test_rights_are_those_of_the_user_on_that_page(workspace: Workspace) -> None:
    action = await _draft(workspace)
    assert "needs the role reviewer" in await workspace.click("approve", f"{action}:1", "UVIEW")
    async with transaction(workspace.server.services.pool) as db:
        user = next(one for email, one in workspace.users.items() if email.startswith("reviewer"))
        await people.change_user(db, SEED, user, disabled=True)
    assert "/upbeat link" in await workspace.click("approve", f"{action}:1")


# ---- drafts


async def _draft(workspace: Workspace) -> str:
    body = {"page": "shop", "title": "Down", "text": "We look.", "notify": False, "draft": True}
    answer = await workspace.server.call("POST", "/api/v1/incidents", body, who="reviewer")
    assert answer.status == 202, answer.body
    return str(answer.body["id"])


async def test_approving_asks_once_more_is_done_once_and_a_second_click_says_who(
    workspace: Workspace,
) -> None:
    action = await _draft(workspace)
    await workspace.click("approve", f"{action}:1")
    assert workspace.local.views[-1]["callback_id"] == "deed"
    await workspace.submit()
    assert re.fullmatch(r"“Down” \(shop\): approved by reviewer-\S+", workspace.told())
    await workspace.click("approve", f"{action}:1", "UADMIN")
    await workspace.submit("UADMIN")
    assert "approved by reviewer-" in workspace.told()
    async with workspace.server.services.pool.acquire() as db:
        rows = await db.fetch(
            "SELECT surface, actor FROM audit WHERE object LIKE $1 OR verb LIKE 'action.approve%'",
            f"%{action}%",
        )
    assert [row["surface"] for row in rows if row["actor"].startswith("reviewer-")][-1] == "slack"


async def test_of_two_approvals_the_same_person_gives_one_however_they_come(workspace: Workspace) -> None:
    action = await _draft(workspace)
    async with transaction(workspace.server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        said = {"slack": {"channel": "ops-slack", "confirm": "never"}, "review": {"approvals": 2}}
        await objects.replace(db, SEED, shop, shop.spec | said)
    try:
        for _ in range(2):
            assert "(shop): pending" in await workspace.click("approve", f"{action}:1")
        assert "(shop): approved" in await workspace.click("approve", f"{action}:1", "UADMIN")
    finally:
        async with transaction(workspace.server.services.pool) as db:
            shop = await objects.find(db, "page", "shop")
            await objects.replace(db, SEED, shop, shop.spec | {"review": {}})


async def test_a_stale_revision_is_refused_and_a_rejection_has_its_reason(workspace: Workspace) -> None:
    action = await _draft(workspace)
    async with transaction(workspace.server.services.pool) as db:
        await _settings(db, confirm="never")
    assert "it is at revision 1" in await workspace.click("approve", f"{action}:7")
    await workspace.click("reject", f"{action}:1")
    await workspace.submit(text=text("no <!channel> outage"))
    assert "(shop): rejected by reviewer-" in workspace.told()
    answer = await workspace.server.call("GET", f"/api/v1/actions/{action}")
    assert answer.body["reason"] == "no <!channel> outage"
    assert "rejected" in await workspace.click("approve", f"{action}:1")
    assert "is about nothing" in await workspace.click("approve", "../../users:1")


# ---- episodes


async def test_an_episode_is_handled_from_its_thread(workspace: Workspace) -> None:
    server = workspace.server
    async with transaction(server.services.pool) as db:
        await db.execute("UPDATE episodes SET closed_at = now()")
        shop = await objects.find(db, "page", "shop")
        beat = {"slug": f"b-{new_id().hex[-8:]}", "type": "tcp", "host": "x.example", "port": 1}
        owner = await objects.create(db, SEED, "beat", shop.id, beat)
        await reviews.open_episodes(
            db, [(owner, EpisodeOpened(server.services.clock.epoch_s(), 1, "critical"))]
        )
    episode = show("episode", reviews.episode_id(owner.id, 1))
    assert "needs the role reviewer" in await workspace.click("acknowledge", episode, "UVIEW")
    assert "Done: acknowledge" in await workspace.click("acknowledge", episode)
    assert "by reviewer-" in await workspace.command("list")
    for deed in ("assign", "snooze", "escalate"):
        assert f"Done: {deed}" in await workspace.click(deed, episode)
    await workspace.click("comment", episode)
    await workspace.submit(text=text("It is the disk."))
    found = (await server.call("GET", f"/api/v1/episodes/{episode}")).body
    assert [note["kind"] for note in found["notes"]] == [
        "acknowledged",
        "assigned",
        "snoozed",
        "escalated",
        "comment",
    ]
    assert {note["by"] for note in found["notes"]} == {found["assignee"]}
    assert found["assignee"].startswith("reviewer-")


# ---- incidents


async def _create(workspace: Workspace, title: str = "Checkout <!here> fails", user: str = "UREV") -> Any:
    await workspace.command(f"create {title}", user)
    options = {"selected_options": [{"value": "shop/site"}]}
    return await workspace.submit(user, text=text("We look into it."), components=options)


async def test_an_incident_begins_in_a_channel_is_updated_and_ends_there(workspace: Workspace) -> None:
    server = workspace.server
    await _create(workspace)
    assert "&lt;!here&gt;" in workspace.told()
    (item,) = (await server.call("GET", "/api/v1/incidents?status=open&page=shop")).body["items"]
    assert item["title"] == "Checkout <!here> fails"
    assert item["components"][0]["status"] == "degraded_performance"
    assert "Checkout" in await workspace.command("list")

    await workspace.command("resolve")
    await workspace.submit(text=text("It works again."))
    assert "(shop): resolved" in workspace.told()
    incident = read("incident", item["id"])
    async with server.services.pool.acquire() as db:
        lines = await db.fetch(
            "SELECT line, item->>'step' AS step FROM outbox WHERE item->>'type' = 'post' AND item->>'incident' = $1 ORDER BY id",
            item["id"],
        )
        assert incident
        update = (await incidents.updates(db, [incident]))[incident][0]
    assert update["by"].startswith("reviewer-")
    assert {tuple(row) for row in lines} == {
        (line, step) for line in (item["id"], f"{item['id']}:{C}") for step in ("open", "resolve")
    }


async def test_a_channel_with_an_open_incident_is_warned_or_refused(workspace: Workspace) -> None:
    await _create(workspace, "First")
    await _create(workspace, "Second")
    assert "this channel speaks of First, too" in workspace.told()
    async with transaction(workspace.server.services.pool) as db:
        await _settings(db, linking="hard")
    errors = await _create(workspace, "Third")
    assert "resolve that" in errors["errors"]["page"]


async def test_mistakes_in_a_form_are_shown_in_it(workspace: Workspace) -> None:
    await workspace.command("create x")
    errors = await workspace.submit(title=text(""), text=text("We look."))
    assert list(errors["errors"]) == ["title"]


async def test_mistakes_that_are_found_after_the_form_was_closed_are_said(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "ANSWER_WITHIN_S", 0.0)
    await workspace.command("create x")
    assert await workspace.submit(title=text(""), text=text("We look.")) is None
    assert "/title" in workspace.told()


async def test_maintenance_is_scheduled_by_who_may(workspace: Workspace) -> None:
    assert "on no page" in await workspace.command("schedule Upgrade")
    await workspace.command("schedule Upgrade", "UADMIN")
    when = {"type": "datetimepicker", "selected_date_time": int(time.time()) + 3600}
    await workspace.submit("UADMIN", start=when, description=text("We upgrade."))
    assert "“Upgrade” (shop): scheduled" in workspace.told()


async def test_a_mention_gets_a_button_for_the_form(workspace: Workspace) -> None:
    await workspace.mention("create Down")
    (said,) = workspace.local.said
    (button,) = said["blocks"][1]["elements"]
    assert (button["action_id"], button["value"]) == ("form", "create Down")
    await workspace.click("form", button["value"])
    assert workspace.local.views[-1]["callback_id"] == "incident"


# ---- connecting


async def test_a_revoked_token_disconnects_the_workspace(workspace: Workspace) -> None:
    event = {"type": "tokens_revoked", "tokens": {"oauth": [], "bot": ["U0BOT"]}}
    body = {"type": "event_callback", "team_id": TEAM, "event_id": new_id().hex, "event": event}
    await workspace.do("events", json.dumps(body).encode())
    async with workspace.server.services.pool.acquire() as db:
        assert not await slack.workspaces(db)
        assert not await slack.links(db)
        assert not await db.fetch("SELECT name FROM secrets WHERE name LIKE 'slack.%'")
    challenge = json.dumps({"type": "url_verification", "challenge": "abc"}).encode()
    assert await workspace.do("events", challenge) == {"challenge": "abc"}


async def test_only_an_admin_of_everything_sees_and_ends_connections(workspace: Workspace) -> None:
    server = workspace.server
    assert (await server.call("GET", "/api/v1/slack/workspaces", who="admin")).status == 403
    (item,) = (await server.call("GET", "/api/v1/slack/workspaces", who="installation")).body["items"]
    assert (item["team_id"], item["name"], item["users"]) == (TEAM, "Acme & Sons", 3)
    assert TOKEN not in str(item)
    assert (await server.call("GET", "/api/v1/slack/users", who="admin")).body["items"] == []
    assert len((await server.call("GET", "/api/v1/slack/users", who="installation")).body["items"]) == 3
    gone = await server.call("DELETE", f"/api/v1/slack/users/{TEAM}/UVIEW", who="installation")
    again = await server.call("DELETE", f"/api/v1/slack/users/{TEAM}/UVIEW", who="installation")
    assert (gone.status, again.status) == (204, 404)
    ended = await server.call("DELETE", f"/api/v1/slack/workspaces/{TEAM}", who="installation")
    assert (ended.status, workspace.local.tokens) == (204, {})
