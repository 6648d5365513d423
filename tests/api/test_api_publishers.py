"""Publishers through the API: checked, rehearsed and compared with a local Statuspage, and where an incident was posted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from openapi_schema_validator import OAS31Validator

from engine import delivery
from engine.delivery import Delivery
from engine.store import outbox
from engine.store.ids import new_id
from tests.exporters.publishers.site_server import KEY
from tests.exporters.publishers.statuspage_server import PAGE, StatuspageServer
from upbeat import publishers
from upbeat.targets import Targets

if TYPE_CHECKING:
    from tests.api.conftest import Server


@pytest.fixture
async def site() -> AsyncIterator[StatuspageServer]:
    async with StatuspageServer.running() as running:
        yield running


@pytest.fixture
async def slug(server: "Server", site: StatuspageServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A publisher to it, and a component, both called so."""
    monkeypatch.setattr(publishers, "STATUSPAGE_S", 0.0)
    slug = f"s-{new_id().hex[-8:]}"
    component = {"slug": slug, "name": slug}
    assert (await server.call("POST", "/api/v1/components?page=shop", component)).status == 201
    spec = {
        "slug": slug,
        "page": "shop",
        "type": "statuspage",
        "url": f"{site.url}/v1",
        "key": KEY,
        "page_id": PAGE,
        "components": {slug: site.component},
    }
    made = await server.call("POST", "/api/v1/publishers", spec)
    assert made.status == 201, made.body
    return slug


@contextlib.asynccontextmanager
async def _delivering(server: "Server") -> AsyncIterator[None]:
    targets = server.services.publishers
    assert isinstance(targets, Targets)
    task = asyncio.create_task(Delivery(server.services.pool, targets.send, holder="one").run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "IDLE_S", 0.02)
    monkeypatch.setattr(outbox, "SCHEDULE_S", (0.01,) * 10)


@pytest.fixture
async def delivering(server: "Server", at_once: None) -> AsyncIterator[None]:
    async with _delivering(server):
        yield


async def _begun(server: "Server", slug: str) -> str:
    new = {
        "page": "shop",
        "title": f"Outage of {slug}",
        "text": "We look.",
        "notify": True,
        "publishers": [slug],
    }
    made = await server.call(
        "POST", "/api/v1/incidents", new | {"components": {slug: "major_outage"}}, who="reviewer"
    )
    assert made.status == 201, made.body
    found: str = made.body["id"]
    return found


async def _target(server: "Server", incident: str, status: str) -> dict[str, Any]:
    """Where it was posted, once its newest step is that."""
    async with asyncio.timeout(30):
        while True:
            answer = await server.call("GET", f"/api/v1/incidents/{incident}/targets", who="viewer")
            (found,) = answer.body["items"]
            if found["deliveries"][-1]["status"] == status:
                return dict(found)
            await asyncio.sleep(0.05)


async def test_a_check_says_what_the_page_is_called(server: "Server", slug: str) -> None:
    checked = await server.call("POST", f"/api/v1/publishers/{slug}/check?page=shop")
    assert checked.body == {"outcome": "delivered", "reason": None, "lines": ["Shop status"]}
    assert (await server.call("POST", f"/api/v1/publishers/{slug}/check", who="viewer")).status == 403


async def test_a_check_says_what_is_wrong(server: "Server", slug: str) -> None:
    await server.call("PATCH", f"/api/v1/publishers/{slug}", {"components": {slug: "nope"}})
    checked = await server.call("POST", f"/api/v1/publishers/{slug}/check")
    assert checked.body["reason"] == f"{slug}: there is no component nope"
    await server.call("PATCH", f"/api/v1/publishers/{slug}", {"key": "wrong"})
    checked = await server.call("POST", f"/api/v1/publishers/{slug}/check")
    assert (checked.body["outcome"], checked.body["reason"]) == ("rejected", "HTTP 401")


async def test_a_dry_run_shows_the_request_without_the_key(
    server: "Server", site: StatuspageServer, slug: str
) -> None:
    ran = await server.call("POST", f"/api/v1/publishers/{slug}/dry-run", {}, who="reviewer")
    assert ran.status == 200, ran.body
    (call,) = ran.body["calls"]
    assert (call["method"], call["path"]) == ("POST", f"/pages/{PAGE}/incidents")
    assert call["body"]["incident"]["components"] == {site.component: "major_outage"}
    assert KEY not in str(ran.body)
    assert site.incidents == []


async def test_a_dry_run_of_an_incident_is_the_next_step_of_it(
    server: "Server", site: StatuspageServer, slug: str, delivering: None
) -> None:
    incident = await _begun(server, slug)
    await _target(server, incident, "done")
    ran = await server.call(
        "POST", f"/api/v1/publishers/{slug}/dry-run", {"incident": incident}, who="reviewer"
    )
    (call,) = ran.body["calls"]
    assert (call["method"], call["path"]) == ("PATCH", f"/pages/{PAGE}/incidents/{site.incidents[0]['id']}")
    assert (ran.body["title"], ran.body["text"]) == (f"Outage of {slug}", "We look.")
    gone = await server.call("POST", f"/api/v1/publishers/{slug}/dry-run", {"incident": "inc_0"})
    assert gone.status == 404


async def test_where_an_incident_was_posted_is_told_with_what_is_open_there(
    server: "Server", site: StatuspageServer, slug: str, delivering: None
) -> None:
    incident = await _begun(server, slug)
    target = await _target(server, incident, "done")
    assert (target["publisher"], target["remote"], target["is_open_there"]) == (
        slug,
        site.incidents[0]["id"],
        True,
    )
    resolve = {"status": "resolved", "text": "Over.", "notify": False, "components": {}}
    said = await server.call("POST", f"/api/v1/incidents/{incident}/updates", resolve, who="reviewer")
    assert said.status == 201, said.body
    target = await _target(server, incident, "done")
    await _described(server, "/api/v1/incidents/{ref}/targets", {"items": [target]})
    assert [one["step"] for one in target["deliveries"]] == ["open", "resolve"]
    assert (target["is_open_there"], site.shown()) == (False, "operational")


async def test_a_dead_letter_is_told_and_what_was_removed_by_hand(
    server: "Server", site: StatuspageServer, slug: str, delivering: None
) -> None:
    await server.call("PATCH", f"/api/v1/publishers/{slug}", {"key": "wrong"})
    incident = await _begun(server, slug)
    target = await _target(server, incident, "dead")
    assert (target["dead"], target["last_error"], target["remote"]) == (1, "HTTP 401", None)
    await server.call("PATCH", f"/api/v1/publishers/{slug}", {"key": KEY})
    dead = target["deliveries"][0]["id"]
    assert (await server.call("POST", f"/api/v1/deliveries/{dead}/retry")).status == 202
    await _target(server, incident, "done")
    site.remove()
    more = {"text": "More.", "notify": False}
    assert (
        await server.call("POST", f"/api/v1/incidents/{incident}/updates", more, who="reviewer")
    ).status == 201
    target = await _target(server, incident, "done")
    assert (target["gone_at"] is not None, target["is_open_there"]) == (True, False)
    assert target["last_error"] == "it was removed there by hand"
    assert site.incidents == []


async def _described(server: "Server", path: str, body: Any) -> None:
    """What is answered is what the description says."""
    described = (await server.call("GET", "/api/v1/openapi.json")).body
    answer = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    OAS31Validator(answer | {"components": described["components"]}).validate(body)


async def test_drift_is_shown_for_what_is_open_there(
    server: "Server", site: StatuspageServer, slug: str, delivering: None
) -> None:
    incident = await _begun(server, slug)
    await _target(server, incident, "done")
    answer = await server.call("GET", f"/api/v1/publishers/{slug}/drift", who="reviewer")
    await _described(server, "/api/v1/publishers/{ref}/drift", answer.body)
    (same,) = answer.body["items"]
    assert (same["incident"], same["lines"]) == (incident, [])
    site.incidents[0]["name"] = "Something else"
    (drifted,) = (await server.call("GET", f"/api/v1/publishers/{slug}/drift", who="reviewer")).body["items"]
    assert drifted["lines"] == [f"title: Something else there, not Outage of {slug}"]


async def test_whoever_delivers_is_killed_after_the_create_and_one_incident_is_there(
    server: "Server", site: StatuspageServer, slug: str, at_once: None
) -> None:
    site.hang = "POST"
    async with _delivering(server):
        incident = await _begun(server, slug)
        async with asyncio.timeout(30):
            while not site.incidents:
                await asyncio.sleep(0.02)
    await server.services.pool.execute("UPDATE outbox SET tried_at = tried_at - interval '1 day'")
    async with _delivering(server):
        target = await _target(server, incident, "done")
    assert (target["remote"], len(site.incidents)) == (site.incidents[0]["id"], 1)
    assert len(site.incidents[0]["incident_updates"]) == 1


async def test_an_answer_that_is_lost_is_looked_up_and_what_follows_goes_on(
    server: "Server", site: StatuspageServer, slug: str, delivering: None
) -> None:
    site.lose = "POST"
    incident = await _begun(server, slug)
    target = await _target(server, incident, "done")
    assert (target["deliveries"][0]["attempts"], len(site.incidents)) == (2, 1)
