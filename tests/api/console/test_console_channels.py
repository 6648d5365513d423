"""Channels in the console: every kind has a form of its own, tested first or saved; dead letters by channel, tried again together."""

from typing import TYPE_CHECKING, Any

import pytest

from api.console.inputs import inputs_of
from engine.store import objects, outbox, targets
from engine.store.database import transaction
from engine.store.ids import new_id, show
from evaluators.model import Notice
from rules.models import TYPED
from tests.rig.browser import barriers

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn, Tab

KINDS: dict[str, dict[str, str]] = {
    "webhook": {"url": "https://a.example/x", "payload": "openstatus"},
    "slack": {"url": "https://a.example/x"},
    "smtp": {
        "host": "relay.example",
        "port": "2525",
        "sender": "a@x.example",
        "to": "b@x.example, c@x.example",
    },
    "discord": {"url": "https://a.example/x", "forum": "true"},
    "teams": {"url": "https://a.example/x", "on": "open, recovery", "severities": "critical"},
    "pagerduty": {"key": "k" * 32, "region": "eu", "remind": "1h"},
    "opsgenie": {"key": "k" * 32, "digest_over": "5"},
    "grafana_oncall": {"url": "https://a.example/x", "everything": "true"},
    "apprise": {"urls": "ntfys://ntfy.example/topic, tgram://123456789:abcdefgh/1"},
}


def _names(kind: str) -> set[str]:
    return {one.name for one in inputs_of(TYPED["channel"][kind])}


@pytest.mark.parametrize("kind", TYPED["channel"])
async def test_the_form_of_each_kind_asks_for_all_that_it_requires(kind: str, admin: "Person") -> None:
    page = (await admin.get(f"/console/channels?add={kind}")).html
    asked = {part.split('"')[0] for part in page.split(' name="')[1:]}
    fields = TYPED["channel"][kind].model_fields
    assert {name for name, field in fields.items() if field.is_required()} <= asked
    assert _names(kind) - {"name", "page"} <= asked | {"page"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_channel_of_each_kind_is_saved_by_its_form(
    kind: str, server: "Server", admin: "Person"
) -> None:
    slug = f"{kind.replace('_', '-')}-{new_id().hex[-6:]}"
    sent = {"slug": slug, "page": "shop", "type": kind, "host2": "ignored"} | KINDS[kind]
    made = await admin.post("/console/channels", sent)
    assert (made.status, slug in made.html) == (200, True)
    async with server.services.pool.acquire() as db:
        spec = (await objects.find(db, "channel", slug)).spec
    for name, value in KINDS[kind].items():
        held: Any = spec[name]
        expected = value.split(", ") if isinstance(held, list) else value
        assert held == expected or str(held).lower() == expected


async def test_a_form_is_tested_first_and_keeps_what_was_typed(admin: "Person", server: "Server") -> None:
    sent = {"slug": "not-yet", "page": "shop", "type": "teams", "url": "https://teams.example/typed"}
    tested = await admin.post("/console/channels/test", sent)
    assert (tested.status, "not-yet said HTTP 410" in tested.html) == (200, True)
    assert 'value="https://teams.example/typed"' in tested.html
    wrong = await admin.post("/console/channels/test", sent | {"url": "nowhere"})
    assert (wrong.status, "<code>url</code>" in wrong.html) == (422, True)
    async with server.services.pool.acquire() as db:
        assert "not-yet" not in [one.slug for one in await objects.listing(db, "channel")]


async def _with_dead(server: "Server") -> Any:
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        channel = await objects.find(db, "channel", "ops", pages=[shop.id])
        for number in ("1", "2"):
            key = f"dead-{new_id().hex}"
            await outbox.put(db, [channel.id], key, key, Notice(key, "open", f"dead letter {number}", 1.0))
            found = await db.fetchval("SELECT id FROM outbox WHERE key = $1", key)
            await outbox.failed(db, found, "HTTP 410: gone for good", None)
        await targets.ill(db, channel.id, 1_790_000_000.0, "HTTP 410: gone for good", is_gone=True)
    return channel


async def test_dead_letters_are_listed_by_channel_and_tried_again_together(
    server: "Server", admin: "Person"
) -> None:
    channel = await _with_dead(server)
    page = await admin.get(f"/console/channels?status=dead&channel={show('channel', channel.id)}")
    assert "Deliveries of ops" in page.html
    assert "dead letter 1" in page.html
    assert "gone for good" in page.html
    other = await admin.get("/console/channels?status=dropped")
    assert "dead letter 1" not in other.html
    again = await admin.post("/console/channels/ops/replay-dead?page=shop")
    assert "It is tried again now." in again.html
    async with server.services.pool.acquire() as db:
        assert await outbox.listing(db, status="dead", target=channel.id) == []


async def test_who_may_not_write_is_shown_no_form(sign_in: "SignIn") -> None:
    page = await (await sign_in("viewer@shop")).get("/console/channels?add=teams")
    assert "Add a channel" not in page.html


@pytest.mark.parametrize(
    "path", ["/console/channels", "/console/channels?add=smtp", "/console/channels?add=pagerduty"]
)
async def test_everybody_can_use_the_page_of_channels(server: "Server", tab: "Tab", path: str) -> None:
    await _with_dead(server)
    await tab.page.goto(server.url + path)
    if "add" in path:
        await tab.page.get_by_text("Who, what and when").click()
    assert await barriers(tab.page) == []
    assert tab.trouble == []
