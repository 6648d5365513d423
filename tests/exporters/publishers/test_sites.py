"""Every site the same way: its exporter over the guarded session against a local server that enforces the real one's rules."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from engine.egress import open_session
from evaluators.model import Post
from evaluators.public import PRECEDENCE
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Removed, Retry
from exporters.publishers.betterstack import BetterStack
from exporters.publishers.cachet import Cachet2, Cachet3
from exporters.publishers.incident_io import IncidentIo
from exporters.publishers.instatus import Instatus
from exporters.publishers.openstatus import OpenStatus
from exporters.publishers.statusapi import StatusApi
from exporters.publishers.statuspage import Statuspage
from exporters.publishing import Api, SitePublisher
from rules.address import EgressPolicy
from rules.publisher import PUBLISHER
from tests.exporters.publishers import (
    betterstack_server,
    incident_io_server,
    instatus_server,
    openstatus_server,
)
from tests.exporters.publishers.cachet_server import Cachet2Server, Cachet3Server
from tests.exporters.publishers.site_server import KEY, Refusal, SiteServer, now_s
from tests.exporters.publishers.statusapi_server import StatusApiServer
from tests.exporters.publishers.statuspage_server import PAGE, StatuspageServer


@dataclass(frozen=True)
class Kind:
    """One kind of site, and what is special about it."""

    server: type[SiteServer]
    site: Callable[[Api, Any], Any]
    spec: Mapping[str, Any]
    headers: Callable[[str], dict[str, str]]
    base: str = ""
    creates: str = "POST"  # what the request that makes an incident begins with
    says: str = "POST"  # ... that says something of it
    ends: str = "DELETE"  # ... that takes it away, or ends it
    edits: bool = True
    edits_components: bool = True  # without a word
    deletes: bool = True
    schedules: bool = True
    shows_maintenance: bool = True
    notified: int = 1  # by one open with notify, one update without
    words: Mapping[str, str] = field(default_factory=dict)  # where it has fewer than Upbeat

    def word(self, ours: str) -> str:
        return self.words.get(ours, ours)


KINDS = {
    "statuspage": Kind(
        StatuspageServer,
        Statuspage,
        {"type": "statuspage", "page_id": PAGE},
        lambda key: {"Authorization": f"OAuth {key}"},
        base="/v1",
        says="PATCH",
    ),
    "cachet 2": Kind(
        Cachet2Server,
        Cachet2,
        {"type": "cachet", "version": 2},
        lambda key: {"X-Cachet-Token": key},
        shows_maintenance=False,
        notified=2,
    ),
    "cachet 3": Kind(
        Cachet3Server, Cachet3, {"type": "cachet"}, lambda key: {"Authorization": f"Bearer {key}"}
    ),
    "statusapi": Kind(
        StatusApiServer,
        StatusApi,
        {"type": "statusapi"},
        lambda key: {"Authorization": f"Bearer {key}"},
        creates="POST /api/v1/incidents",
        ends="POST /api/v1/incidents/resolve",
        edits=False,
        deletes=False,
        schedules=False,
        notified=2,
    ),
    "instatus": Kind(
        instatus_server.InstatusServer,
        Instatus,
        {"type": "instatus", "page_id": instatus_server.PAGE},
        lambda key: {"Authorization": f"Bearer {key}"},
    ),
    "betterstack": Kind(
        betterstack_server.BetterStackServer,
        BetterStack,
        {"type": "betterstack", "page_id": betterstack_server.PAGE},
        lambda key: {"Authorization": f"Bearer {key}"},
        base="/api/v2",
        edits_components=False,
        words={
            "investigating": "open",
            "identified": "open",
            "monitoring": "open",
            "partial_outage": "degraded_performance",
        },
    ),
    "openstatus": Kind(
        openstatus_server.OpenStatusServer,
        OpenStatus,
        {"type": "openstatus", "page_id": openstatus_server.PAGE},
        lambda key: {"x-openstatus-key": key},
        base="/rpc",
        says="POST /rpc/openstatus.status_report.v1.StatusReportService/Add",
        ends="POST /rpc/openstatus.status_report.v1.StatusReportService/Del",
        edits_components=False,
    ),
    "incident_io": Kind(
        incident_io_server.IncidentIoServer,
        IncidentIo,
        {"type": "incident_io", "page_id": incident_io_server.PAGE},
        lambda key: {"Authorization": f"Bearer {key}"},
        ends="POST",
        edits_components=False,
        deletes=False,
    ),
}
OPEN = Post(
    id="post-1",
    step="open",
    incident="inc_0190b6e0",
    kind="incident",
    page="shop",
    title="Outage: Site",
    status="investigating",
    impact="major",
    at=0.0,
    began_at=0.0,
    components={"shop/site": "major_outage"},
    text="We look into it.",
)
UPDATE = replace(
    OPEN,
    id="post-2",
    step="update",
    status="identified",
    text="We found it.",
    notify=False,
    components={"shop/site": "partial_outage"},
)
RESOLVE = replace(
    OPEN,
    id="post-3",
    step="resolve",
    status="resolved",
    text="It is over.",
    components={"shop/site": "operational"},
)
WINDOW = replace(
    OPEN,
    kind="maintenance",
    title="Maintenance: Site",
    status="scheduled",
    impact="none",
    text="We move house.",
)


@dataclass
class Place:
    """A publisher of one kind at its local server. It remembers as the outbox does."""

    kind: Kind
    server: SiteServer
    publisher: SitePublisher[Any]
    memory: Memory = Memory()  # noqa: RUF009  # frozen
    began_at: float = field(default_factory=lambda: now_s() - 60)
    _taken: dict[str, float] = field(default_factory=dict)

    def later(self, post: Post, **changed: Any) -> Post:
        """As it was taken: at the same moment in every try."""
        at = self._taken.setdefault(changed.get("id", post.id), now_s())
        return replace(post, at=at, began_at=self.began_at, **changed)

    async def tell(self, post: Post, **changed: Any) -> Outcome:
        """One try of a step."""
        outcome = await self.publisher.export(self.later(post, **changed), self.memory)
        remote = outcome.remote if isinstance(outcome, Delivered) and outcome.remote else self.memory.remote
        self.memory = Memory(remote, is_repeat=not isinstance(outcome, Delivered))
        return outcome


@contextlib.asynccontextmanager
async def running(kind: Kind) -> AsyncIterator[Place]:
    """A place of that kind, until left."""
    async with (
        kind.server.running() as server,
        open_session(EgressPolicy(["127.0.0.0/8"]), "channel", timeout_s=30) as session,
    ):
        yield Place(kind, server, publisher(kind, server, session))


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with running(KINDS[request.param]) as place:
        yield place


def publisher(
    kind: Kind, server: SiteServer, session: aiohttp.ClientSession, key: str = KEY
) -> SitePublisher[Any]:
    base = server.url + kind.base
    spec = {"slug": "there", "url": base, "key": key, "components": {"site": server.component}}
    rule = PUBLISHER.validate_python({**spec, **kind.spec})
    return SitePublisher(kind.site, Api(session, base, kind.headers(key)), rule)


async def test_an_incident_lives_there_as_it_lives_here(place: Place) -> None:
    assert isinstance(await place.tell(OPEN), Delivered)
    word = place.kind.word
    assert place.server.seen() == [("Outage: Site", word("investigating"), ["We look into it."])]
    assert place.server.shown() == "major_outage"
    assert await place.tell(UPDATE) == Delivered()
    said = ["We look into it.", "We found it."]
    assert place.server.seen() == [("Outage: Site", word("identified"), said)]
    assert place.server.shown() == word("partial_outage")
    assert await place.tell(RESOLVE) == Delivered()
    assert place.server.seen() == [("Outage: Site", "resolved", [*said, "It is over."])]
    assert place.server.shown() == "operational"


async def test_whoever_is_not_to_be_notified_is_not(place: Place) -> None:
    await place.tell(OPEN)
    await place.tell(UPDATE)
    assert place.server.notified == place.kind.notified


async def test_an_edit_changes_what_it_is_called_and_says_nothing(place: Place) -> None:
    await place.tell(OPEN)
    edited = {"title": "Outage: all of it", "components": {"shop/site": "degraded_performance"}, "text": ""}
    assert await place.tell(OPEN, step="edit", id="post-e", **edited) == Delivered()
    title = "Outage: all of it" if place.kind.edits else "Outage: Site"
    assert place.server.seen() == [(title, place.kind.word("investigating"), ["We look into it."])]
    shown = "degraded_performance" if place.kind.edits_components else "major_outage"
    assert place.server.shown() == shown


async def test_what_is_deleted_here_is_taken_away_there(place: Place) -> None:
    await place.tell(OPEN)
    assert await place.tell(OPEN, step="delete", id="post-d") == Delivered()
    if place.kind.deletes:
        assert place.server.seen() == []
        assert (
            await place.tell(OPEN, step="delete", id="post-d") == Delivered()
        )  # nor is a second time trouble
    else:
        assert place.server.seen()[0][1] == "resolved"


async def test_what_is_deleted_here_leaves_nothing_red_there_and_tells_nobody_twice(place: Place) -> None:
    await place.tell(OPEN)
    gone = {"step": "delete", "id": "post-d", "components": {"shop/site": "operational"}, "notify": False}
    place.server.lose = place.kind.ends
    await place.tell(OPEN, **gone)  # a lost answer to DELETE may have been asked for again at once
    assert (place.server.lose, place.server.shown()) == ("", "operational")
    notified, seen = place.server.notified, place.server.seen()
    assert await place.tell(OPEN, **gone) == Delivered()
    assert (place.server.notified, place.server.seen()) == (notified, seen)


async def test_maintenance_that_is_called_off_is_over(place: Place) -> None:
    window: dict[str, Any] = {"starts_at": now_s() + 3600, "ends_at": now_s() + 7200}
    window["components"] = {"shop/site": "operational"}
    await place.tell(WINDOW, **window)
    off = {"step": "resolve", "id": "post-off", "status": "cancelled", "text": "Not today.", **window}
    assert await place.tell(WINDOW, **off) == Delivered()
    seen = [(status, said[-1]) for _, status, said in place.server.seen()]
    assert seen == [("completed", "Not today.")] * place.kind.schedules
    assert place.server.shown() == "operational"


async def test_one_that_is_over_is_not_taken_for_another_of_the_same_name(place: Place) -> None:
    if isinstance(place.server, Cachet2Server):
        place.server.shows_meta = False
    await place.tell(OPEN)
    await place.tell(RESOLVE)
    again = replace(OPEN, incident="inc_0190b6ff", id="post-9", at=now_s(), began_at=now_s())
    await place.publisher.export(again, Memory(is_repeat=True))
    assert [seen[1] for seen in place.server.seen()] == ["resolved", place.kind.word("investigating")]


async def test_maintenance_is_announced_begins_and_ends(place: Place) -> None:
    window = {"starts_at": now_s() + 3600, "ends_at": now_s() + 7200}
    quiet = {"components": {"shop/site": "operational"}}
    assert isinstance(await place.tell(WINDOW, **window, **quiet), Delivered)
    titles = [("Maintenance: Site", "scheduled", ["We move house."])] if place.kind.schedules else []
    assert place.server.seen() == titles
    begun = {"starts_at": now_s() - 60, "ends_at": now_s() + 60}
    busy = {"status": "in_progress", "components": {"shop/site": "under_maintenance"}}
    await place.tell(WINDOW, step="update", id="post-m2", text="It begins.", **begun, **busy)
    assert [seen[1] for seen in place.server.seen()] == ["in_progress"] * len(titles)
    assert (place.server.shown() == "under_maintenance") == place.kind.shows_maintenance
    await place.tell(WINDOW, step="resolve", id="post-m3", status="completed", text="Done.", **begun, **quiet)
    assert [seen[1] for seen in place.server.seen()] == ["completed"] * len(titles)
    assert place.server.shown() == "operational"


async def test_a_create_whose_answer_was_lost_leaves_exactly_one_incident(place: Place) -> None:
    place.server.lose = place.kind.creates
    assert isinstance(await place.tell(OPEN), Retry)
    outcome = await place.tell(OPEN)
    assert isinstance(outcome, Delivered)
    assert len(place.server.seen()) == 1
    await place.tell(RESOLVE)
    assert [seen[1] for seen in place.server.seen()] == ["resolved"]


async def test_one_of_yesterday_that_is_called_the_same_is_not_taken_for_it(place: Place) -> None:
    await place.tell(OPEN)
    place.memory = Memory(is_repeat=True)  # of another incident, whose create never arrived
    later = replace(OPEN, incident="inc_0190b6ff", at=now_s() + 600, began_at=now_s() + 600)
    await place.publisher.export(later, place.memory)
    assert len(place.server.seen()) == 2


async def test_an_update_whose_answer_was_lost_is_said_once(place: Place) -> None:
    await place.tell(OPEN)
    place.server.lose = place.kind.says
    assert isinstance(await place.tell(UPDATE), Retry)
    assert await place.tell(UPDATE) == Delivered()
    assert place.server.seen()[0][2] == ["We look into it.", "We found it."]


QUIET = {"text": "", "notify": False}
STEPS: Mapping[str, tuple[Post, Mapping[str, Any]]] = {
    "open": (OPEN, {}),
    "update": (UPDATE, {}),
    "resolve": (RESOLVE, {}),
    "edit": (OPEN, {"step": "edit", "id": "e", "components": {"shop/site": "partial_outage"}, **QUIET}),
    "delete": (OPEN, {"step": "delete", "id": "d", "components": {"shop/site": "operational"}, **QUIET}),
    "maintenance": (WINDOW, {}),
    "begins": (WINDOW, {"step": "update", "id": "b", "status": "in_progress", "text": "It begins."}),
}


async def _told(kind: Kind, step: str, breaks: str = "", at: int = 0) -> tuple[bool, object]:
    """Whether a request of this step broke, and what there is once it was tried again."""
    post, changed = STEPS[step]
    window = {"starts_at": now_s() + 600, "ends_at": now_s() + 900}
    async with running(kind) as place:
        if post.step != "open" or changed:
            await place.tell(WINDOW if post is WINDOW else OPEN, **window)
        place.server.breaks, place.server.breaks_at = breaks, at
        outcome = await place.tell(post, **changed, **window)
        is_broken = at > 0 and place.server.breaks_at <= 0
        place.server.breaks = ""
        if not isinstance(outcome, Delivered):
            outcome = await place.tell(post, **changed, **window)
        server = place.server
        return is_broken, (type(outcome), server.seen(), server.shown(), server.notified)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("breaks", ["lost", "refused"])
async def test_a_step_that_breaks_at_any_of_its_requests_comes_out_the_same(kind: str, breaks: str) -> None:
    for step in STEPS:
        _, wanted = await _told(KINDS[kind], step)
        for at in range(1, 9):
            is_broken, found = await _told(KINDS[kind], step, breaks, at)
            assert found == wanted, (step, at)
            if not is_broken:
                break


async def test_every_word_of_upbeat_has_one_there(place: Place) -> None:
    await place.tell(OPEN)
    for n, status in enumerate(PRECEDENCE):
        told = await place.tell(UPDATE, id=f"c{n}", text=f"{n}", components={"shop/site": status})
        assert told == Delivered()
    for n, status in enumerate(("investigating", "identified", "monitoring", "resolved")):
        assert await place.tell(UPDATE, id=f"s{n}", text=f"{n} {n}", status=status) == Delivered()
    for impact in ("none", "minor", "major", "critical"):
        place.memory = Memory()
        assert isinstance(await place.tell(OPEN, id=f"i-{impact}", incident=impact, impact=impact), Delivered)
    place.memory = Memory()
    window = {"starts_at": now_s() + 3600, "ends_at": now_s() + 7200}
    await place.tell(WINDOW, incident="inc_m", **window)
    for status in ("in_progress", "verifying", "completed"):
        assert (
            await place.tell(WINDOW, step="update", id=f"m-{status}", status=status, **window) == Delivered()
        )


async def test_an_update_that_never_arrived_is_said_at_the_next_try(place: Place) -> None:
    await place.tell(OPEN)
    place.server.waits = ["0"]
    assert isinstance(await place.tell(UPDATE), Retry)
    assert await place.tell(UPDATE) == Delivered()
    assert place.server.seen()[0][2] == ["We look into it.", "We found it."]


async def test_what_was_removed_there_by_hand_is_respected(place: Place) -> None:
    await place.tell(OPEN)
    place.server.remove()
    assert await place.tell(UPDATE) == Removed()
    assert place.server.seen() == []


async def test_too_many_requests_wait_as_long_as_is_asked_and_so_do_all_with_the_key(place: Place) -> None:
    place.server.waits = ["30"]
    outcome = await place.tell(OPEN)
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 30.0
    asked = len(place.server.asked)
    again = await place.tell(OPEN)
    assert isinstance(again, Retry)
    assert again.reason == "it takes no more requests for now"
    assert len(place.server.asked) == asked


async def test_a_key_that_is_refused_is_said_and_never_shown(place: Place) -> None:
    place.publisher = publisher(place.kind, place.server, place.publisher.api.session, key="wrong-key")
    outcome = await place.tell(OPEN)
    assert outcome == Rejected("HTTP 401")
    assert (await place.publisher.check()).outcome == Rejected("HTTP 401")
    assert place.server.seen() == []


async def test_words_are_cut_to_what_it_takes(place: Place) -> None:
    assert isinstance(await place.tell(OPEN, title="t" * 400, text="x" * 30_000), Delivered)
    ((title, _, said),) = place.server.seen()
    rule = place.publisher.rule
    assert (len(title), title[-1]) == (rule.title_limit, "…")
    assert (len(said[0]), said[0][-1]) == (rule.text_limit, "…")


async def test_a_dry_run_says_what_would_be_sent_and_changes_nothing(place: Place) -> None:
    post = place.later(
        OPEN, title="t" * 400, components={"shop/site": "major_outage", "shop/cart": "major_outage"}
    )
    report = await place.publisher.rehearse(post)
    assert isinstance(report.outcome, Delivered)
    assert report.calls[-1].method == "POST"
    assert report.lines == (
        f"the title is cut to {place.publisher.rule.title_limit} characters",
        "shop/cart has no counterpart there",
    )
    assert (place.server.seen(), place.server.shown(), place.server.asked) == ([], "operational", [])


async def test_a_check_names_the_page_and_a_component_that_is_not_there(place: Place) -> None:
    report = await place.publisher.check()
    assert isinstance(report.outcome, Delivered)
    assert len(report.lines) == 1
    rule = place.publisher.rule.model_copy(update={"components": {"cart": ["404"]}})
    wrong = await SitePublisher(place.publisher.site, place.publisher.api, rule).check()
    assert wrong.outcome == Rejected("cart: there is no component 404")


async def test_what_was_changed_there_is_shown_as_drift(place: Place) -> None:
    await place.tell(OPEN)
    newest = place.later(OPEN)
    assert (await place.publisher.differences(newest, place.memory)).lines == ()
    drifted = replace(newest, status="monitoring", components={"shop/site": "operational"})
    lines = (await place.publisher.differences(drifted, place.memory)).lines
    told = ["status"] if place.kind.word("monitoring") == "monitoring" else []
    assert len(lines) == len(told) + 1
    assert [line.partition(":")[0] for line in lines[: len(told)]] == told
    place.server.remove()
    gone = await place.publisher.differences(newest, place.memory)
    assert gone.lines == ("it was removed there by hand",)


async def test_what_never_was_there_is_not_ended_there(place: Place) -> None:
    assert await place.tell(RESOLVE) == Delivered()
    assert place.server.seen() == []


async def test_an_address_where_nothing_is_is_a_mistake_and_no_incident_removed_by_hand(place: Place) -> None:
    place.publisher.api.base += "/nowhere"
    outcome = await place.tell(OPEN)
    assert isinstance(outcome, Rejected)
    assert isinstance((await place.publisher.check()).outcome, Rejected)


@pytest.mark.parametrize(
    "answer", ["{}", "[]", "7", '{"data": [{}]}', "<html>", "[{}]", '{"incidents": 3}', "[" * 100_000]
)
async def test_an_answer_that_is_something_else_is_trouble_of_theirs(place: Place, answer: str) -> None:
    await place.tell(OPEN)
    place.server.says = answer
    assert isinstance(await place.tell(UPDATE), Retry | Delivered)
    for memory in (Memory(is_repeat=True), Memory(place.memory.remote, is_repeat=True)):
        assert isinstance(await place.publisher.export(place.later(OPEN), memory), Retry | Delivered)
    report = await place.publisher.check()
    assert isinstance(report.outcome, Retry | Delivered | Rejected)
    await place.publisher.differences(place.later(OPEN), place.memory)


@pytest.mark.parametrize("status", [400, 422])
async def test_what_it_says_is_wrong_is_told_without_the_key(place: Place, status: int) -> None:
    place.server.refuses = Refusal(
        status, {"error": {"message": f"Bad\0name for\n{KEY}", "n": [1, "x" * 400]}}
    )
    outcome = await place.tell(OPEN)
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith(f"HTTP {status}: Bad name for [redacted]; xxx")
    assert len(outcome.reason) < 230


async def test_a_create_that_is_answered_without_an_id_is_looked_up(place: Place) -> None:
    place.server.says = "{}"
    assert isinstance(await place.tell(OPEN), Retry)
    place.server.says = None
    assert isinstance(await place.tell(OPEN), Delivered)
    assert len(place.server.seen()) == 1


async def test_the_key_is_in_no_log_and_no_reason(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reasons = [await place.tell(OPEN)]
    for refusal in (Refusal(401, {"error": KEY}), Refusal(422, {"error": KEY}), Refusal(500, {"error": KEY})):
        place.server.refuses = refusal
        reasons.append(await place.tell(UPDATE))
    place.server.refuses, place.server.says = None, f'["{KEY}"]'
    reasons += [await place.tell(UPDATE), (await place.publisher.check()).outcome]
    assert KEY not in caplog.text
    assert KEY not in repr(reasons)
