"""PagerDuty, Opsgenie and Grafana OnCall against local servers with their rules: an episode is one alert there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import pytest
from aiohttp import ClientSession, web
from msgspec.structs import replace

from evaluators.model import Notice, Stage
from exporters.channels import grafana_oncall, opsgenie, pagerduty
from exporters.channels.alerting import DOES
from exporters.channels.sending import SendingExporter
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Retry
from rules.channels.channel import ALL_TOLD, Told
from tests.rig.services import OnCall, Opsgenie, PagerDuty, Service, served

if TYPE_CHECKING:
    from tests.exporters.conftest import Receiver

KEY = "0123456789abcdef0123456789abcdef"
HOSTILE = "<script>@everyone\r\n\x00\x1b[31m\u202e\ud800 & 'x' " + 'é🔥\\"' * 20_000


def told_by(service: Service, session: ClientSession) -> SendingExporter:
    makers: dict[type[Service], tuple[Callable[[Notice], Any], dict[str, str]]] = {
        PagerDuty: (partial(pagerduty.events, url=f"{service.url}/v2/enqueue", key=KEY), {}),
        Opsgenie: (partial(opsgenie.requests, base=service.url), {"Authorization": "GenieKey key-1"}),
        OnCall: (
            partial(grafana_oncall.alerts, url=f"{service.url}/integrations/v1/formatted_webhook/tok/"),
            {},
        ),
    }
    return SendingExporter(session, *makers[type(service)], now_s=lambda: 1_000.0)


def states(service: Service, key: str) -> Any:
    if isinstance(service, PagerDuty):
        return service.alerts[key][0]
    if isinstance(service, Opsgenie):
        return service.alerts[key]["state"]
    assert isinstance(service, OnCall)
    return service.groups[key][-1]


def of(notice: Notice, told: Any, **more: Any) -> Notice:
    return replace(notice, id=f"ntc_{told}", told=told, **more)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (PagerDuty, ["triggered", "acknowledged", "acknowledged", "resolved", "triggered"]),
        (Opsgenie, ["open", "acknowledged", "acknowledged", "closed", "open"]),
        (OnCall, ["alerting", "alerting", "alerting", "ok", "alerting"]),
    ],
)
async def test_an_episode_is_one_alert_from_its_opening_to_its_recovery(
    kind: type[Service], expected: list[str], session: ClientSession, notice: Notice
) -> None:
    seen = []
    async with served(kind()) as service:
        exporter = told_by(service, session)
        for told in ("open", "acknowledged", "change", "recovery", "open"):
            assert await exporter.export(of(notice, told)) == Delivered()
            seen.append(states(service, "epi_0190b6e1"))
    assert seen == expected


@pytest.mark.parametrize("kind", [PagerDuty, Opsgenie])
async def test_a_repeated_opening_changes_nothing(
    kind: type[PagerDuty | Opsgenie], session: ClientSession, notice: Notice
) -> None:
    async with served(kind()) as service:
        for memory in (Memory(), Memory(is_repeat=True)):
            assert await told_by(service, session).export(notice, memory) == Delivered()
        assert list(service.alerts) == ["epi_0190b6e1"]


@pytest.mark.parametrize("kind", [PagerDuty, Opsgenie, OnCall])
@pytest.mark.parametrize("told", [*ALL_TOLD, "test", "digest"])
async def test_no_news_is_ever_refused_whatever_it_says(
    kind: type[Service], told: Any, session: ClientSession, notice: Notice
) -> None:
    why, tags = tuple(HOSTILE for _ in range(30)), tuple(f"tag-{n}-{'x' * 50}" for n in range(50))
    hostile = of(
        notice,
        told,
        title=HOSTILE,
        why=why,
        beat_title=HOSTILE,
        page="p" * 60,
        by=HOSTILE,
        tags=tags,
        beat="b" * 60,
    )
    async with served(kind()) as service:
        exporter = told_by(service, session)
        assert await exporter.export(hostile) == Delivered()
        assert await exporter.export(replace(hostile, episode=None, beat=None, page=None)) == Delivered()
        assert "\x1b" not in str(service.asked)
        assert "\u202e" not in str(service.asked)


@pytest.mark.parametrize("kind", [PagerDuty, Opsgenie, OnCall])
async def test_a_test_alert_ends_at_once(kind: type[Service], session: ClientSession) -> None:
    async with served(kind()) as service:
        await told_by(service, session).export(Notice("n1", "test", "This is a test", 1.0))
        assert states(service, "test:n1") in ("resolved", "closed", "ok")


async def test_a_digest_opens_one_alert_that_its_own_recovery_ends(session: ClientSession) -> None:
    digest = Notice(
        "d", "digest", "40 news at once", 1.0, severity="critical", episode="digest_1", stage=Stage.CRITICAL
    )
    async with served(PagerDuty()) as service:
        exporter = told_by(service, session)
        await exporter.export(digest)
        assert states(service, "digest_1") == "triggered"
        await exporter.export(of(digest, "recovery", stage=Stage.OK))
        assert states(service, "digest_1") == "resolved"


def test_what_is_of_no_episode_or_no_alert_is_told_to_none_of_them(notice: Notice) -> None:
    assert {*DOES} <= {*get_args(Told), "digest", "test"}
    for told in ("beat", "delivery", "region", "advisory"):
        assert opsgenie.requests(of(notice, told), "http://x") == []
    assert pagerduty.events(replace(notice, episode=None), "http://x", KEY) == []
    assert pagerduty.events(of(notice, "comment"), "http://x", KEY) == []  # its Events API has no notes
    assert grafana_oncall.alerts(of(notice, "acknowledged"), "http://x") == []


@pytest.mark.parametrize(
    ("severity", "pagerduty_says", "opsgenie_says"),
    [("critical", "critical", "P1"), ("warning", "warning", "P3")],
)
def test_severities_are_theirs(
    severity: Any, pagerduty_says: str, opsgenie_says: str, notice: Notice
) -> None:
    said = replace(notice, severity=severity)
    assert pagerduty.events(said, "u", KEY)[0][1]["payload"]["severity"] == pagerduty_says
    assert opsgenie.requests(said, "u")[0][1]["priority"] == opsgenie_says


def test_what_pagerduty_is_told(notice: Notice) -> None:
    ((url, event),) = pagerduty.events(replace(notice, tags=("team:a",)), "https://e.example/v2/enqueue", KEY)
    assert url == "https://e.example/v2/enqueue"
    assert event["payload"] == {
        "summary": "Checkout API is down",
        "source": "checkout-api",
        "severity": "critical",
        "timestamp": "2026-09-21T14:13:20.250Z",
        "component": "checkout-api",
        "group": None,
        "class": "open",
        "custom_details": {
            "beat": "Checkout API",
            "page": "shop",
            "stage": "ok → critical",
            "why": ["eu-west: critical, HTTP 503", "us-east: critical, no answer in 10 s"],
            "tags": ["team:a"],
        },
    }
    assert event["links"] == [{"href": "https://upbeat.example/beats/checkout-api", "text": "Open in Upbeat"}]


async def test_comments_become_notes_of_the_alert(session: ClientSession, notice: Notice) -> None:
    async with served(Opsgenie()) as service:
        exporter = told_by(service, session)
        await exporter.export(notice)
        await exporter.export(
            of(notice, "comment", title="Ann says", why=("looking at the database",), by="Ann")
        )
        assert service.alerts["epi_0190b6e1"]["notes"] == ["Ann says\nlooking at the database"]
        assert service.asked[-1].body["user"] == "Ann"


async def test_what_gets_worse_is_worse_there(session: ClientSession, notice: Notice) -> None:
    async with served(Opsgenie()) as service:
        exporter = told_by(service, session)
        await exporter.export(replace(notice, severity="warning"))
        assert service.alerts["epi_0190b6e1"]["priority"] == "P3"
        worse = of(notice, "change", severity="critical", title="Checkout API is critical")
        assert await exporter.export(worse) == Delivered()
        alert = service.alerts["epi_0190b6e1"]
    assert (alert["priority"], alert["message"]) == ("P1", "Checkout API is critical")


@pytest.mark.parametrize("key", ["two\nlines", "a\x00b"])
async def test_a_key_that_no_header_may_have_is_refused_and_not_shown(
    key: str, session: ClientSession, notice: Notice
) -> None:
    async with served(Opsgenie()) as service:
        maker, headers = partial(opsgenie.requests, base=service.url), {"Authorization": f"GenieKey {key}"}
        outcome = await SendingExporter(session, maker, headers).export(notice)
    assert outcome == Rejected("the URL or the key has characters that no request may have")


@pytest.mark.parametrize("kind", [PagerDuty, Opsgenie, OnCall])
@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (400, {}, Rejected("HTTP 400")),
        (401, {}, Rejected("HTTP 401")),
        (410, {}, Rejected("HTTP 410: gone for good", for_good=True)),
        (429, {"Retry-After": "7"}, Retry("HTTP 429", 7.0)),
        (503, {}, Retry("HTTP 503")),
        (302, {"Location": "http://127.0.0.1:1/"}, Rejected("HTTP 302: redirects are not followed")),
    ],
)
async def test_each_answer_has_its_outcome(
    kind: type[Service],
    status: int,
    headers: dict[str, str],
    expected: Outcome,
    session: ClientSession,
    notice: Notice,
) -> None:
    async with served(kind()) as service:
        service.instead = [web.Response(status=status, headers=headers, text="secret words of theirs")]
        assert await told_by(service, session).export(notice) == expected


async def test_a_wrong_key_is_refused_for_good_and_not_shown(session: ClientSession, notice: Notice) -> None:
    async with served(PagerDuty()) as service:
        maker = partial(pagerduty.events, url=f"{service.url}/v2/enqueue", key="wrong-key")
        outcome = await SendingExporter(session, maker).export(notice)
    assert outcome == Rejected("HTTP 400")


async def test_nobody_there_is_another_try(
    receiver: Receiver, session: ClientSession, notice: Notice
) -> None:
    maker = partial(pagerduty.events, url="http://127.0.0.1:1/v2/enqueue", key=KEY)
    assert isinstance(await SendingExporter(session, maker).export(notice), Retry)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(PagerDuty, ["triggered", "triggered", "resolved"]), (Opsgenie, ["open", "open", "closed"])],
)
async def test_an_incident_by_hand_is_an_alert_of_its_own(
    session: ClientSession, notice: Notice, kind: type[Any], expected: list[str]
) -> None:
    async with served(kind()) as service:
        seen = []
        for stage in (Stage.CRITICAL, Stage.WARNING, Stage.OK):
            said = of(notice, "incident", episode=None, incident="inc_1", stage=stage)
            assert await told_by(service, session).export(said) == Delivered()
            seen.append(states(service, "inc_1"))
    assert seen == expected


def test_nothing_that_is_told_can_mention_link_or_hold_a_tag(notice: Notice) -> None:
    hostile = "<!channel> @here <b>x</b> [a](https://evil.example)"
    said = replace(notice, title=hostile, why=(hostile,))
    for _, document, *_ in (*opsgenie.requests(said, "u"), *grafana_oncall.alerts(said, "u")):
        for text in ("<!channel", "@here", "<b>", "</b>", "](http"):
            assert text not in str(document)
