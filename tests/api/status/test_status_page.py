"""The public page over HTTP: what was approved and nothing else, cheap to ask again, still there without a database."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from api.status import kept
from api.status.document import Document
from engine.clock import SystemClock
from engine.store import objects, reviews
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import derived_id, new_id, show
from engine.store.objects import Stored
from evaluators.facts import EpisodeClosed, EpisodeOpened, StepProposed
from rules.page import Page

if TYPE_CHECKING:
    from tests.api.conftest import Answer, Server

ACTOR = Actor("seed", "api")


class Ahead(SystemClock):
    """The machine's clock, moved on by hand."""

    __slots__ = ("ahead_s",)

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


class Away:
    """A database that cannot be reached, or (hangs) does not answer."""

    def __init__(self, hangs: bool) -> None:
        self._hangs = hangs

    def acquire(self) -> "Away":
        return self

    async def __aenter__(self) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        raise ConnectionRefusedError("nobody listens there")

    async def __aexit__(self, *_: object) -> None:
        pass


@pytest.fixture
async def clock(server: "Server") -> AsyncIterator[Ahead]:
    before, ahead = server.services.clock, Ahead()
    server.services.clock = ahead
    yield ahead
    server.services.clock = before


@pytest.fixture
async def page(server: "Server") -> Stored:
    """A page with two components, one of them not listed, and a beat that feeds both."""
    slug = f"p{new_id().hex[-8:]}"
    async with transaction(server.services.pool) as db:
        made = await objects.create(db, ACTOR, "page", None, {"slug": slug, "name": "Bank"})
        pay = {"slug": "pay", "name": "Payments", "group": "Money"}
        await objects.create(db, ACTOR, "component", made.id, pay)
        own = {"slug": "own", "name": "Inner", "listed": False}
        await objects.create(db, ACTOR, "component", made.id, own)
        beat = {
            "slug": slug,
            "type": "tcp",
            "host": "x.example",
            "port": 1,
            "components": {"pay": {}, "own": {}},
        }
        await objects.create(db, ACTOR, "beat", made.id, beat)
    return made


@pytest.fixture
async def look(server: "Server", clock: Ahead, page: Stored) -> Any:
    """The page as somebody sees it later, when what is kept may be read anew."""

    async def later(path: str = "/status.json", **headers: str) -> "Answer":
        clock.ahead_s += kept.SOON_S + 1
        return await server.call("GET", f"/p/{page.slug}{path}", who=None, headers=headers)

    return later


async def _draft(server: "Server", page: Stored, severity: Any = "critical") -> Any:
    at = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        beat = await objects.find(db, "beat", page.slug)
        await reviews.open_episodes(db, [(beat, EpisodeOpened(at, 1, severity))])
        await reviews.propose(db, [reviews.Proposal(beat.id, 1, StepProposed(at, "open", severity))])
        (action,) = await reviews.actions(db, owner=beat.id)
    return action


async def _approve(server: "Server", action: Any) -> None:
    async with transaction(server.services.pool) as db:
        await reviews.approve(db, ACTOR, action["id"], 1, server.services.clock.epoch_s())


async def test_a_draft_changes_nothing_and_its_approval_everything(
    server: "Server", page: Stored, look: Any
) -> None:
    action = await _draft(server, page)
    before = (await look()).body
    assert (before["status"], before["open"]) == ("operational", [])
    assert [component["name"] for component in before["components"]] == ["Payments"]
    await _approve(server, action)
    after = (await look()).body
    assert (after["status"], after["components"][0]["status"]) == ("major_outage", "major_outage")
    (incident,) = after["open"]
    assert incident["updates"][0]["text"] == action["text"]
    assert incident["components"] == ["Payments"]  # the other is not listed
    assert after["components"][0]["bars"][-1]["status"] == "major_outage"
    html = (await look("")).body
    assert "Major outage" in html
    assert "90 days ago" in html


async def test_recovery_is_shown_and_the_incident_moves_to_its_day(
    server: "Server", page: Stored, look: Any
) -> None:
    action = await _draft(server, page, "warning")
    await _approve(server, action)
    assert (await look()).body["status"] == "degraded_performance"
    now = server.services.clock.epoch_s() + 60
    async with transaction(server.services.pool) as db:
        await reviews.close_episode(db, action["owner_id"], EpisodeClosed(now, 1, "recovered"))
        await reviews.propose(
            db, [reviews.Proposal(action["owner_id"], 1, StepProposed(now, "resolve", "warning"))]
        )
    after = (await look()).body
    assert (after["status"], after["open"]) == ("operational", [])
    past = [incident for day in after["days"] for incident in day["incidents"]]
    assert [update["status"] for update in past[0]["updates"]] == ["resolved", "investigating"]
    assert len(after["days"]) == 14


async def test_a_status_set_by_hand_wins(server: "Server", page: Stored, look: Any) -> None:
    async with transaction(server.services.pool) as db:
        pay = await objects.find(db, "component", "pay", pages=[page.id])
        await objects.replace(db, ACTOR, pay, pay.spec | {"status": "under_maintenance"})
    assert (await look()).body["status"] == "under_maintenance"
    assert "Maintenance is under way" in (await look("")).body


@pytest.mark.parametrize(
    ("covers", "shown"),
    [
        pytest.param({}, "under_maintenance", id="of the page"),
        pytest.param({"components": ["pay"]}, "under_maintenance", id="of the component"),
        pytest.param({"components": ["own"]}, "operational", id="of another one"),
        pytest.param({"beats": ["shop"], "groups": ["money"]}, "operational", id="of what is internal"),
    ],
)
async def test_maintenance_is_shown_while_it_lasts(
    server: "Server", page: Stored, look: Any, covers: dict[str, Any], shown: str
) -> None:
    begin = datetime.fromtimestamp(server.services.clock.epoch_s() - 60, UTC)
    spec = {"slug": "m", "start": begin.isoformat(), "duration": "1h"}
    async with transaction(server.services.pool) as db:
        window = await objects.create(db, ACTOR, "maintenance", page.id, spec | covers)
    said = (await look()).body
    assert [said["status"], said["components"][0]["status"]] == [shown, shown]
    over = (begin + timedelta(seconds=30)).isoformat()
    async with transaction(server.services.pool) as db:
        await objects.replace(db, ACTOR, window, window.spec | {"ended": [over]})
    assert (await look()).body["status"] == "operational"


async def test_an_incident_stands_above_maintenance_and_its_end_brings_that_back(
    server: "Server", page: Stored, look: Any
) -> None:
    begin = datetime.fromtimestamp(server.services.clock.epoch_s() - 60, UTC)
    spec = {"slug": "m", "start": begin.isoformat(), "duration": "1h"}
    async with transaction(server.services.pool) as db:
        await objects.create(db, ACTOR, "maintenance", page.id, spec)
    action = await _draft(server, page, "warning")
    await _approve(server, action)
    assert (await look()).body["status"] == "degraded_performance"
    now = server.services.clock.epoch_s() + 60
    async with transaction(server.services.pool) as db:
        await reviews.close_episode(db, action["owner_id"], EpisodeClosed(now, 1, "recovered"))
        await reviews.propose(
            db, [reviews.Proposal(action["owner_id"], 1, StepProposed(now, "resolve", "warning"))]
        )
    assert (await look()).body["status"] == "under_maintenance"


async def test_who_has_the_page_is_told_so(server: "Server", page: Stored, look: Any) -> None:
    tag = ""
    for path in ("", "/status.json"):
        tag = (await look(path)).headers["ETag"]
        again = await look(path, **{"If-None-Match": tag})
        assert (again.status, again.body) == (304, "")
    await _approve(server, await _draft(server, page))
    changed = await look(**{"If-None-Match": tag})
    assert changed.status == 200


async def test_the_database_is_asked_once_for_many_readers(server: "Server", page: Stored, look: Any) -> None:
    await look()
    asked, pool = 0, server.services.pool

    class Counted:
        def acquire(self) -> Any:
            nonlocal asked
            asked += 1
            return pool.acquire()

    server.services.pool = Counted()  # type: ignore[assignment]
    try:
        path = f"/p/{page.slug}"
        answers = await asyncio.gather(*(server.call("GET", path, who=None) for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert asked <= 1
    finally:
        server.services.pool = pool


@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
async def test_without_the_database_the_page_is_still_there_and_says_how_old(
    server: "Server", page: Stored, look: Any, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await look()
    monkeypatch.setattr(kept, "READ_S", 0.05)
    pool = server.services.pool
    server.services.pool = Away(hangs)  # type: ignore[assignment]
    try:
        html = await look("")
        assert html.status == 200
        assert "Newer information cannot be read right now" in html.body
        assert (await look()).body["is_stale"] is True
        # Who has a session is served too: nobody is looked up for this page.
        signed_in = await look("", Cookie="upbeat=some-session")
        assert signed_in.status == 200
        unknown = await server.call("GET", "/p/never-read", who=None)
        assert (unknown.status, unknown.body["detail"]) == (503, "this page cannot be read right now")
    finally:
        server.services.pool = pool
        monkeypatch.undo()
    fresh = await look("")
    assert "Newer information" not in fresh.body


async def test_a_page_that_is_gone_is_gone(server: "Server", look: Any) -> None:
    missing = await server.call("GET", "/p/nowhere", who=None)
    assert (missing.status, missing.body["detail"]) == (404, "there is no such status page")
    browser = await server.call("GET", "/p/nowhere", who=None, headers={"Accept": "text/html"})
    assert (browser.status, "There is no such status page." in browser.body) == (404, True)
    assert "onsole" not in re.sub('"[^"]*"', "", browser.body)  # a stranger is told of none
    head = await server.session.head(f"{server.url}/p/shop")
    assert head.status == 200
    assert await head.read() == b""


async def test_an_incident_of_one_page_shows_on_another_whose_component_it_feeds(
    server: "Server", page: Stored, look: Any
) -> None:
    async with transaction(server.services.pool) as db:
        other = await objects.create(db, ACTOR, "page", None, {"slug": f"o{page.slug}", "name": "Other"})
        spec = {
            "slug": "cross",
            "type": "tcp",
            "host": "x",
            "port": 1,
            "components": {f"{page.slug}/pay": {}},
        }
        beat = await objects.create(db, ACTOR, "beat", other.id, spec)
        at = server.services.clock.epoch_s()
        await reviews.open_episodes(db, [(beat, EpisodeOpened(at, 1, "critical"))])
        await reviews.propose(db, [reviews.Proposal(beat.id, 1, StepProposed(at, "open", "critical"))])
        (action,) = await reviews.actions(db, owner=beat.id)
        await reviews.approve(db, ACTOR, action["id"], 1, at)
    seen = (await look()).body
    assert seen["components"][0]["status"] == "major_outage"
    incident = derived_id("incident", action["episode_id"])
    assert [found["id"] for found in seen["open"]] == [show("incident", incident)]


async def test_a_page_that_was_never_read_is_read_once_whoever_comes() -> None:
    reads, go = [], asyncio.Event()

    async def read(slug: str) -> Document:
        reads.append(slug)
        await go.wait()
        return Document(
            slug,
            Page(slug=slug, name="Shop"),
            "operational",
            [],
            [],
            [],
            datetime(2026, 11, 20, tzinfo=UTC),
            {},
        )

    pages = kept.Kept(read)
    visitors = [asyncio.create_task(pages.page("shop", 1.0)) for _ in range(50)]
    await asyncio.sleep(0)
    visitors[0].cancel()  # who came first and left takes nothing from the others
    go.set()
    found = await asyncio.gather(*visitors[1:])
    assert reads == ["shop"]
    assert len({id(copy) for copy in found}) == 1
    assert pages.reading == {}
