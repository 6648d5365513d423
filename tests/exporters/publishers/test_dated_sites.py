"""What is special to Instatus, Better Stack, OpenStatus and incident.io: what is found by its moment, keys, and what they refuse."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from engine.egress import open_session
from exporters.outcome import Delivered, Memory, Rejected, Retry
from exporters.publishing import SitePublisher
from rules.address import EgressPolicy
from tests.exporters.publishers.betterstack_server import BetterStackServer
from tests.exporters.publishers.incident_io_server import MOST_UPDATES, IncidentIoServer
from tests.exporters.publishers.instatus_server import InstatusServer
from tests.exporters.publishers.site_server import now_s
from tests.exporters.publishers.test_sites import KINDS, OPEN, RESOLVE, UPDATE, WINDOW, Place, publisher


@pytest.fixture
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    kind = KINDS[request.param]
    async with (
        kind.server.running() as server,
        open_session(EgressPolicy(["127.0.0.0/8"]), "channel", timeout_s=30) as session,
    ):
        yield Place(kind, server, publisher(kind, server, session))


def _of(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", [kind], indirect=True)


@pytest.mark.parametrize("place", ["instatus", "betterstack", "openstatus", "incident_io"], indirect=True)
async def test_maintenance_whose_answer_was_lost_is_there_once(place: Place) -> None:
    window = {"starts_at": now_s() + 3600, "ends_at": now_s() + 7200}
    place.server.lose = "POST"
    assert isinstance(await place.tell(WINDOW, **window), Retry)
    assert isinstance(await place.tell(WINDOW, **window), Delivered)
    assert place.server.seen() == [("Maintenance: Site", "scheduled", ["We move house."])]


@pytest.mark.parametrize("place", ["instatus", "betterstack", "openstatus", "incident_io"], indirect=True)
async def test_maintenance_that_lasts_longer_is_shown_so(place: Place) -> None:
    begins = now_s() - 7200
    await place.tell(WINDOW, starts_at=begins, ends_at=now_s() - 60, status="in_progress")
    longer = {"step": "update", "id": "post-l", "status": "in_progress", "text": "It takes longer."}
    assert await place.tell(WINDOW, starts_at=begins, ends_at=now_s() + 3600, **longer) == Delivered()
    assert place.server.seen()[0][1] == "in_progress"


@pytest.mark.parametrize("place", ["instatus", "betterstack", "openstatus", "incident_io"], indirect=True)
async def test_history_is_entered_without_a_word_to_anybody(place: Place) -> None:
    assert isinstance(await place.tell(OPEN, is_backfilled=True), Delivered)
    assert await place.tell(RESOLVE, is_backfilled=True) == Delivered()
    assert place.server.seen()[0][1] == "resolved"
    assert place.server.notified == 0


@_of("instatus")
async def test_the_moment_it_began_is_the_one_that_upbeat_says(place: Place) -> None:
    await place.tell(OPEN)
    assert isinstance(place.server, InstatusServer)
    (there,) = place.server.kept["incidents"].values()
    earlier = replace(place.later(OPEN), began_at=place.began_at - 3600)  # another one of the same name
    await place.publisher.export(earlier, Memory(is_repeat=True))
    first = next(iter(place.server.kept["incidents"].values()))
    assert first["started"] == there["started"]
    assert len(place.server.seen()) == 2


@_of("instatus")
async def test_an_incident_that_lasts_is_found_however_the_list_is_sorted(place: Place) -> None:
    assert isinstance(place.server, InstatusServer)
    place.server.is_newest_first = False
    for n in range(60):
        await place.publisher.export(
            replace(place.later(OPEN), title=f"Older {n}", status="resolved"), Memory()
        )
    place.server.lose = "POST"
    assert isinstance(await place.tell(OPEN), Retry)
    assert isinstance(await place.tell(OPEN), Delivered)
    assert len(place.server.seen()) == 61


@_of("betterstack")
async def test_a_report_is_found_on_the_last_page_of_many(place: Place) -> None:
    assert isinstance(place.server, BetterStackServer)
    place.server.most = 2
    for n in range(4):
        await place.publisher.export(replace(place.later(OPEN), title=f"Older {n}"), Memory())
    place.server.lose = "POST"
    assert isinstance(await place.tell(OPEN), Retry)
    assert await place.tell(OPEN) == Delivered({"id": list(place.server.reports)[-1]})
    assert len(place.server.seen()) == 5


@_of("betterstack")
async def test_a_step_that_names_no_resource_is_refused_there_and_says_so(place: Place) -> None:
    assert await place.tell(OPEN, components={}) == Rejected("HTTP 422: is invalid")


@_of("openstatus")
async def test_a_component_that_is_not_there_is_no_report_removed_by_hand(place: Place) -> None:
    await place.tell(OPEN)
    rule = place.publisher.rule.model_copy(update={"components": {"site": ["404"]}})
    place.publisher = SitePublisher(place.publisher.site, place.publisher.api, rule)
    assert await place.tell(UPDATE) == Rejected("there is no such component")


@_of("openstatus")
async def test_a_page_that_is_not_there_is_a_mistake(place: Place) -> None:
    rule = place.publisher.rule.model_copy(update={"page_id": "18"})
    place.publisher = SitePublisher(place.publisher.site, place.publisher.api, rule)
    assert isinstance(await place.tell(OPEN), Rejected)


@_of("incident_io")
async def test_more_subscribers_than_it_notifies_are_not_notified_and_that_is_noted(place: Place) -> None:
    assert isinstance(place.server, IncidentIoServer)
    place.server.subscribers = 1001
    outcome = await place.tell(OPEN)
    assert isinstance(outcome, Delivered)
    assert outcome.reason == "said without notifying: it notifies at most 1,000 subscribers"
    assert (len(place.server.seen()), place.server.notified) == (1, 0)
    told = await place.tell(UPDATE, notify=True)
    assert isinstance(told, Delivered)
    assert told.reason == outcome.reason
    assert await place.tell(RESOLVE, notify=False) == Delivered()


@_of("incident_io")
async def test_what_it_refuses_for_another_reason_stays_refused(place: Place) -> None:
    await place.tell(OPEN)
    full = Rejected("HTTP 422: validation_error; invalid; too many updates")
    outcomes = [await place.tell(UPDATE, id=f"post-{n}", text=f"Still {n}.") for n in range(MOST_UPDATES)]
    assert outcomes[-2:] == [Delivered(), full]
    assert await place.tell(UPDATE, id="post-last", notify=True) == full


@_of("incident_io")
async def test_a_component_of_a_group_and_one_of_a_part_of_the_page_are_known(place: Place) -> None:
    rule = place.publisher.rule.model_copy(
        update={"components": {"uk": ["uk-1"], "site": [place.server.component]}}
    )
    checked = await SitePublisher(place.publisher.site, place.publisher.api, rule).check()
    assert isinstance(checked.outcome, Delivered)
