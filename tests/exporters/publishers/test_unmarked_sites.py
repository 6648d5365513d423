"""What is special to Cachet and the small API: what is not marked, what cannot be said there, mistakes in what is mapped."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from engine.egress import open_session
from exporters.outcome import Delivered, Memory, Rejected, Retry
from exporters.publishing import SitePublisher
from rules.address import EgressPolicy
from tests.exporters.publishers import statusapi_server
from tests.exporters.publishers.cachet_server import Cachet2Server
from tests.exporters.publishers.site_server import now_s
from tests.exporters.publishers.statusapi_server import StatusApiServer
from tests.exporters.publishers.test_sites import KINDS, OPEN, UPDATE, Place, publisher


@pytest.fixture
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    kind = KINDS[request.param]
    async with (
        kind.server.running() as server,
        open_session(EgressPolicy(["127.0.0.0/8"]), "channel", timeout_s=30) as session,
    ):
        yield Place(kind, server, publisher(kind, server, session))


@pytest.mark.parametrize("place", ["cachet 2", "cachet 3"], indirect=True)
async def test_a_cachet_that_shows_no_meta_still_has_one_incident(place: Place) -> None:
    assert isinstance(place.server, Cachet2Server)
    place.server.shows_meta = False
    path = "/api/incidents" if place.server.root == "/api" else "/api/v1/incidents"
    place.server.lose = f"POST {path}"
    assert isinstance(await place.tell(OPEN), Retry)
    assert isinstance(await place.tell(OPEN), Delivered)
    assert len(place.server.seen()) == 1
    assert place.server.kept["incidents"][1]["meta"] == {"upbeat": OPEN.incident}


@pytest.mark.parametrize("place", ["cachet 2", "cachet 3"], indirect=True)
async def test_a_cachet_that_shows_no_meta_tells_yesterdays_from_ours_by_time(place: Place) -> None:
    assert isinstance(place.server, Cachet2Server)
    place.server.shows_meta = False
    await place.tell(OPEN)
    later = replace(OPEN, incident="inc_0190b6ff", at=now_s() + 600, began_at=now_s() + 600)
    await place.publisher.export(later, Memory(is_repeat=True))
    assert len(place.server.seen()) == 2


@pytest.mark.parametrize("place", ["cachet 2", "cachet 3", "statusapi"], indirect=True)
async def test_a_component_that_is_not_there_is_a_mistake_and_no_incident_removed_by_hand(
    place: Place,
) -> None:
    await place.tell(OPEN)
    rule = place.publisher.rule.model_copy(update={"components": {"site": ["404"]}})
    place.publisher = SitePublisher(place.publisher.site, place.publisher.api, rule)
    assert await place.tell(UPDATE) == Rejected("there is no component 404")


@pytest.mark.parametrize("place", ["cachet 3"], indirect=True)
async def test_a_schedule_whose_answer_was_lost_is_there_once(place: Place) -> None:
    window = {
        "kind": "maintenance",
        "status": "scheduled",
        "starts_at": now_s() + 60,
        "ends_at": now_s() + 120,
    }
    place.server.lose = "POST /api/schedules"
    assert isinstance(await place.tell(OPEN, **window), Retry)
    assert await place.tell(OPEN, **window) == Delivered({"id": "schedules/1"})
    assert len(place.server.seen()) == 1


@pytest.mark.parametrize("place", ["cachet 3"], indirect=True)
async def test_markdown_is_shown_where_it_is_understood(place: Place) -> None:
    await place.tell(OPEN, text="We **look** into it.", is_markdown=True)
    assert place.server.seen()[0][2] == ["We **look** into it."]


@pytest.mark.parametrize("place", ["statusapi"], indirect=True)
async def test_markdown_is_sent_plain_where_it_is_not(place: Place) -> None:
    await place.tell(OPEN, text="We **look** into it.", is_markdown=True)
    assert place.server.seen()[0][2] == ["We look into it."]


@pytest.mark.parametrize("place", ["statusapi"], indirect=True)
async def test_history_is_not_entered_where_everybody_would_be_told(place: Place) -> None:
    past = place.later(OPEN, status="resolved", is_backfilled=True)
    assert await place.publisher.export(past) == Delivered()
    assert place.server.asked == []
    report = await place.publisher.rehearse(past)
    assert report.lines == ("its subscribers cannot be left out: nothing is entered",)


@pytest.mark.parametrize("place", ["statusapi"], indirect=True)
async def test_more_than_sixty_writes_a_minute_wait(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    minute = now_s() // 60 * 60 + 1  # 59 s are left of it
    monkeypatch.setattr(statusapi_server, "now_s", lambda: minute)
    assert isinstance(place.server, StatusApiServer)
    await place.tell(OPEN)
    outcomes = [await place.tell(UPDATE, id=f"post-{n}", text=f"Still {n}.") for n in range(70)]
    assert isinstance(outcomes[-1], Retry)
    delivered = sum(isinstance(outcome, Delivered) for outcome in outcomes)
    assert len(place.server.seen()[0][2]) == 1 + delivered


@pytest.mark.parametrize("place", ["cachet 2", "cachet 3", "statusapi"], indirect=True)
async def test_the_same_words_said_again_later_are_said_again(place: Place) -> None:
    await place.tell(OPEN)
    await place.tell(UPDATE)
    again = replace(UPDATE, id="post-9", at=now_s() + 600, began_at=now_s())
    repeat = Memory(place.memory.remote, is_repeat=True)  # a try of it never arrived
    assert await place.publisher.export(again, repeat) == Delivered()
    assert place.server.seen()[0][2].count("We found it.") == 2
