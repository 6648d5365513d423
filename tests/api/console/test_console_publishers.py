"""Publishers in the console: every kind has a form of its own; checked, rehearsed and compared with a local Statuspage, without JavaScript."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from api.console.inputs import inputs_of
from engine import delivery
from engine.delivery import Delivery
from engine.store import objects, outbox
from engine.store.database import transaction
from engine.store.ids import new_id
from rules.models import TYPED
from rules.settings import Lending
from tests.exporters.publishers.site_server import KEY
from tests.exporters.publishers.statuspage_server import PAGE, StatuspageServer
from tests.rig.browser import barriers
from upbeat import publishers
from upbeat.targets import Targets

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn, Tab

FILES = ("folder", "s3")
KINDS: dict[str, dict[str, str]] = {
    "betterstack": {"key": "k", "page_id": "123"},
    "folder": {"folder": "/srv/status/shop", "origin": "https://status.example", "every": "10m"},
    "s3": {
        "bucket": "b-1",
        "origin": "https://status.example",
        "key_id": "k",
        "secret": "s",
        "style": "path",
    },
    "cachet": {"url": "https://cachet.example", "key": "k", "version": "2", "timezone": "Europe/Berlin"},
    "incident_io": {"key": "k", "page_id": "01F"},
    "instatus": {"key": "k", "page_id": "ckf"},
    "openstatus": {"key": "k", "page_id": "1", "notify": "false"},
    "statusapi": {"url": "https://status.example", "key": "k"},
    "statuspage": {"key": "k", "page_id": "abc"},
    "webhook": {"url": "https://a.example/x"},
}


@pytest.fixture
async def site() -> AsyncIterator[StatuspageServer]:
    async with StatuspageServer.running() as running:
        yield running


@pytest.fixture
async def slug(
    server: "Server", site: StatuspageServer, admin: "Person", monkeypatch: pytest.MonkeyPatch
) -> str:
    """A publisher to it, added by its form, and a component, both called so."""
    monkeypatch.setattr(publishers, "STATUSPAGE_S", 0.0)
    slug = f"p-{new_id().hex[-8:]}"
    made = await server.call("POST", "/api/v1/components?page=shop", {"slug": slug, "name": slug})
    assert made.status == 201
    sent = {"slug": slug, "page": "shop", "type": "statuspage", "key": KEY, "page_id": PAGE}
    sent |= {"url": f"{site.url}/v1", "components": f"shop/site:\nshop/{slug}: {site.component}"}
    added = await admin.post("/console/publishers", sent)
    assert (added.status, "Saved." in added.html) == (200, True), added.html
    return slug


@contextlib.asynccontextmanager
async def _delivering(server: "Server", monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(delivery, "IDLE_S", 0.02)
    monkeypatch.setattr(outbox, "SCHEDULE_S", ())
    targets = server.services.publishers
    assert isinstance(targets, Targets)
    task = asyncio.create_task(Delivery(server.services.pool, targets.send, holder="console").run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _begun(server: "Server", slug: str, status: str) -> str:
    """An incident, once the publisher has it or was given up for it."""
    new = {
        "page": "shop",
        "title": f"Outage of {slug}",
        "text": "We look.",
        "notify": True,
        "publishers": [slug],
    }
    made = await server.call("POST", "/api/v1/incidents", new | {"components": {slug: "major_outage"}})
    assert made.status == 201, made.body
    async with asyncio.timeout(30):
        while True:
            answer = await server.call("GET", f"/api/v1/incidents/{made.body['id']}/targets")
            if [one["status"] for item in answer.body["items"] for one in item["deliveries"]] == [status]:
                return str(made.body["id"])
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", TYPED["publisher"])
async def test_the_form_of_each_kind_asks_for_all_that_it_requires(kind: str, admin: "Person") -> None:
    page = (await admin.get(f"/console/publishers?add={kind}")).html
    asked = {part.split('"')[0] for part in page.split(' name="')[1:]}
    fields = TYPED["publisher"][kind].model_fields
    assert {name for name, field in fields.items() if field.is_required()} <= asked
    assert {one.name for one in inputs_of(TYPED["publisher"][kind])} - {"page"} <= asked
    assert ("shop/site: " in page) == (kind not in FILES)


@pytest.mark.parametrize("kind", TYPED["publisher"])
async def test_a_publisher_of_each_kind_is_saved_by_its_form(
    kind: str, server: "Server", admin: "Person", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.services.secrets, "lending", Lending(folders=["/srv/status"]))
    slug = f"{kind.replace('_', '-')}-{new_id().hex[-6:]}"
    sent = {"slug": slug, "page": "shop", "type": kind}
    if kind not in FILES:
        sent["components"] = "shop/site: 1, 2\nshop/cart:"
    made = await admin.post("/console/publishers", sent | KINDS[kind])
    assert (made.status, slug in made.html) == (200, True), made.html
    async with server.services.pool.acquire() as db:
        spec = (await objects.find(db, "publisher", slug)).spec
    assert spec.get("components") == (None if kind in FILES else {"shop/site": ["1", "2"]})
    for name, value in KINDS[kind].items():
        assert str(spec[name]).lower() == value.lower()


async def test_a_mistake_is_said_and_what_was_typed_is_kept(admin: "Person") -> None:
    sent = {"slug": "x", "page": "shop", "type": "instatus", "key": "k", "components": "shop/site: a"}
    wrong = await admin.post("/console/publishers", sent)
    assert (wrong.status, "<code>page_id</code>" in wrong.html) == (422, True)
    assert "shop/site: a" in wrong.html


async def test_a_check_says_whether_it_can_be_used(
    server: "Server", site: StatuspageServer, slug: str, admin: "Person"
) -> None:
    checked = await admin.post(f"/console/publishers/{slug}/check?page=shop")
    assert "It can be used." in checked.html
    assert "Shop status" in checked.html
    await server.call("PATCH", f"/api/v1/publishers/{slug}", {"components": {slug: "nope"}})
    wrong = await admin.post(f"/console/publishers/{slug}/check?page=shop")
    assert f"It cannot be used: {slug}: there is no component nope" in wrong.html


async def test_a_dry_run_shows_the_calls_and_sends_none(
    site: StatuspageServer, slug: str, admin: "Person"
) -> None:
    ran = await admin.post(f"/console/publishers/{slug}/dry-run?page=shop")
    assert f"POST /pages/{PAGE}/incidents" in ran.html
    assert "major_outage" in ran.html
    assert KEY not in ran.html
    assert site.incidents == []


async def test_what_is_there_is_listed_compared_and_rehearsed(
    server: "Server",
    site: StatuspageServer,
    slug: str,
    admin: "Person",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _delivering(server, monkeypatch):
        incident = await _begun(server, slug, "done")
    page = await admin.get(f"/console/publishers/{slug}?page=shop")
    assert site.incidents[0]["id"] in page.html
    assert "as it was told" in (await admin.post(f"/console/publishers/{slug}/drift?page=shop")).html
    site.incidents[0]["name"] = "Something else"
    drifted = await admin.post(f"/console/publishers/{slug}/drift?page=shop")
    assert f"title: Something else there, not Outage of {slug}" in drifted.html
    ran = await admin.post(f"/console/publishers/{slug}/dry-run?page=shop", {"incident": incident})
    assert f"PATCH /pages/{PAGE}/incidents/{site.incidents[0]['id']}" in ran.html


async def test_dead_letters_are_tried_again_one_by_one_and_together(
    server: "Server",
    site: StatuspageServer,
    slug: str,
    admin: "Person",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site.waits = ["0", "0"]
    async with _delivering(server, monkeypatch):
        await _begun(server, slug, "dead")
        await _begun(server, slug, "dead")
    page = await admin.get(f"/console/publishers/{slug}?page=shop")
    assert "Try all 2 again" in page.html
    path = page.html.partition('action="/console/deliveries/')[2].partition('"')[0]
    one = await admin.post(f"/console/deliveries/{path}")
    assert f"<h1>{slug}</h1>" in one.html
    assert "It is tried again now." in one.html
    again = await admin.post(f"/console/publishers/{slug}/replay-dead?page=shop")
    assert "It is tried again now." in again.html
    async with transaction(server.services.pool) as db:
        target = (await objects.find(db, "publisher", slug)).id
        assert await outbox.listing(db, status="dead", target=target) == []


async def test_who_may_only_read_asks_nothing_of_it(slug: str, sign_in: "SignIn") -> None:
    viewer = await sign_in("viewer@shop")
    page = await viewer.get(f"/console/publishers/{slug}?page=shop")
    assert page.status == 200
    for action in ("check", "dry-run", "drift", "replay-dead"):
        assert f"/{action}?" not in page.html
        assert (await viewer.post(f"/console/publishers/{slug}/{action}?page=shop")).status == 403
    assert "Add a publisher" not in (await viewer.get("/console/publishers?add=webhook")).html
    assert (await (await sign_in("viewer@blog")).get(f"/console/publishers/{slug}?page=shop")).status == 404


async def test_everybody_can_use_the_pages_of_publishers(
    server: "Server",
    site: StatuspageServer,
    slug: str,
    tab: "Tab",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _delivering(server, monkeypatch):
        await _begun(server, slug, "done")
        site.waits = ["0"]
        await _begun(server, slug, "dead")
    page = tab.page
    await page.goto(f"{server.url}/console/publishers?add=instatus")
    assert await barriers(page) == []
    await page.get_by_role("link", name=slug).click()
    said = {"Check": "It can be used.", "Dry run": "would be sent so", "Compare": "as it was told"}
    for button, words in said.items():
        await page.get_by_role("button", name=button, exact=True).click()
        await page.get_by_text(words).wait_for()
        assert await barriers(page) == []
    await page.set_viewport_size({"width": 360, "height": 640})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.trouble == []
