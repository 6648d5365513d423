"""What is special to Statuspage: its marker, its turns, and a client of somebody else's against the same local server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import statuspageio  # type: ignore[import-untyped]
from msgspec.structs import replace

from engine.egress import open_session
from exporters.outcome import Delivered, Memory, Rejected, Retry
from exporters.publishing import Api, Pace, TroubleError
from rules.address import EgressPolicy
from tests.exporters.publishers.site_server import KEY, now_s
from tests.exporters.publishers.statuspage_server import PAGE, StatuspageServer
from tests.exporters.publishers.test_sites import KINDS, OPEN, RESOLVE, UPDATE, Place, publisher


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    kind = KINDS["statuspage"]
    async with (
        StatuspageServer.running() as server,
        open_session(EgressPolicy(["127.0.0.0/8"]), "channel", timeout_s=30) as session,
    ):
        yield Place(kind, server, publisher(kind, server, session))


def there(place: Place) -> dict[str, Any]:
    assert isinstance(place.server, StatuspageServer)
    (incident,) = place.server.incidents
    return incident


@pytest.fixture
def client(place: Place) -> Any:
    made = statuspageio.Client(api_key=KEY, page_id=PAGE, organization_id="org")
    made.config.base_url = place.server.url
    return made


async def test_a_client_that_knows_nothing_of_upbeat_reads_what_it_wrote(place: Place, client: Any) -> None:
    await place.tell(OPEN)
    await place.tell(UPDATE)
    (unresolved,) = await asyncio.to_thread(client.incidents.list_unresolved)
    assert (unresolved.name, unresolved.status, unresolved.impact_override) == (
        "Outage: Site",
        "identified",
        "major",
    )
    assert [said.body for said in unresolved.incident_updates] == ["We found it.", "We look into it."]
    assert unresolved.components[0].status == "partial_outage"
    page = await asyncio.to_thread(client.pages.get)
    assert (await place.publisher.check()).lines == (page.name,)
    await place.tell(RESOLVE)
    assert await asyncio.to_thread(client.incidents.list_unresolved) == []


async def test_what_such_a_client_makes_is_not_taken_for_ours(place: Place, client: Any) -> None:
    await asyncio.to_thread(
        client.incidents.create, name=OPEN.title, status="investigating", message="By hand."
    )
    place.memory = Memory(is_repeat=True)
    assert isinstance(await place.tell(OPEN), Delivered)
    listed = await asyncio.to_thread(client.incidents.list)
    assert [one.metadata.get("upbeat", {}).get("incident") for one in listed] == [OPEN.incident, None]


async def test_what_such_a_client_changes_is_drift_and_what_it_deletes_is_gone(
    place: Place, client: Any
) -> None:
    await place.tell(OPEN)
    incident = there(place)["id"]
    await asyncio.to_thread(client.incidents.update, incident, status="monitoring", message="By hand.")
    report = await place.publisher.differences(place.later(OPEN), place.memory)
    assert report.lines == ("status: monitoring there, not investigating",)
    assert await asyncio.to_thread(client.incidents.delete, incident) == 200
    assert place.server.seen() == []


async def test_a_resolved_one_is_found_too_when_nobody_knows_whether_it_arrived(place: Place) -> None:
    past = {"status": "resolved", "is_backfilled": True}
    place.server.lose = "POST"
    assert isinstance(await place.tell(OPEN, **past), Retry)
    assert isinstance(await place.tell(OPEN, **past), Delivered)
    assert (there(place)["backfilled"], there(place)["components"]) == (True, [])
    assert place.server.notified == 0


async def test_an_edit_that_is_repeated_is_the_same_again(place: Place) -> None:
    await place.tell(OPEN)
    place.server.lose = "PATCH"
    edit = {"step": "edit", "id": "post-e", "title": "All of it", "text": ""}
    assert isinstance(await place.tell(OPEN, **edit), Retry)
    assert await place.tell(OPEN, **edit) == Delivered()
    assert place.server.seen() == [("All of it", "investigating", ["We look into it."])]


async def test_maintenance_is_moved_and_cancelled(place: Place) -> None:
    window = {"kind": "maintenance", "starts_at": now_s() + 3600, "ends_at": now_s() + 7200}
    await place.tell(OPEN, status="scheduled", **window)
    await place.tell(OPEN, step="edit", id="2", status="scheduled", **window | {"ends_at": now_s() + 9000})
    until = there(place)["scheduled_until"]
    assert there(place)["scheduled_auto_in_progress"] is False
    await place.tell(OPEN, step="resolve", id="3", status="cancelled", **window)
    assert (there(place)["status"], there(place)["impact"]) == ("completed", "maintenance")
    assert until > there(place)["scheduled_for"]


async def test_what_it_does_not_take_is_said_with_its_status(place: Place) -> None:
    outcome = await place.tell(replace(OPEN, status="on fire"))
    assert outcome == Rejected("HTTP 422: Status is not included in the list")


async def test_an_update_is_found_by_its_words_where_the_marker_was_lost(place: Place) -> None:
    assert isinstance(place.server, StatuspageServer)
    place.server.takes_metadata = False
    await place.tell(OPEN)
    place.server.lose = "PATCH"
    assert isinstance(await place.tell(UPDATE), Retry)
    assert await place.tell(UPDATE) == Delivered()
    assert place.server.seen()[0][2] == ["We look into it.", "We found it."]
    again = replace(UPDATE, id="post-9", at=now_s() + 600, began_at=now_s())
    await place.publisher.export(again, Memory(place.memory.remote, is_repeat=True))
    assert place.server.seen()[0][2].count("We found it.") == 2


async def test_those_who_share_a_key_take_turns_and_wait_together_when_asked_to() -> None:
    slept: list[float] = []

    async def sleep(s: float) -> None:
        slept.append(s)

    pace = Pace(1.0, now_s=lambda: 100.0, sleep=sleep)
    for _ in range(4):
        await pace.turn()
    pace.hold(9.0)
    await pace.turn()
    assert slept == [1.0, 2.0, 3.0, 9.0]
    pace.hold(11.0)
    with pytest.raises(TroubleError) as late:
        await pace.turn()
    assert late.value.outcome == Retry("it takes no more requests for now", 11.0)


async def test_an_answer_without_end_is_not_read_to_its_end(place: Place) -> None:
    for _ in range(200):
        assert isinstance(place.server, StatuspageServer)
        place.server.incidents.append(
            {"id": "x", "name": "y" * 40_000, "status": "investigating", "metadata": {}}
        )
    api: Api = place.publisher.api
    with pytest.raises(TroubleError) as large:
        await api.get(f"/pages/{PAGE}/incidents/unresolved")
    assert large.value.outcome == Retry("the answer is larger than 4 MiB")
