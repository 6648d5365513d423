"""The webhook channel against a real server, its signature checked by the reference implementation."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
import pytest
from msgspec.structs import replace
from standardwebhooks import Webhook, WebhookVerificationError

from engine.egress import open_session
from evaluators.model import Notice
from exporters.answer import LONGEST_WAIT_S, TOO_MANY_S, failed, wait_s
from exporters.channels.webhook import WebhookExporter, payload
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.address import EgressPolicy

if TYPE_CHECKING:
    from tests.exporters.conftest import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def test_the_payload_holds_every_field_and_says_what_happened(
    receiver: Receiver, session: aiohttp.ClientSession, notice: Notice
) -> None:
    assert await WebhookExporter(session, receiver.url).export(notice) == Delivered()

    assert receiver.received[0].headers["Content-Type"] == "application/json"
    assert json.loads(receiver.received[0].body) == {
        "type": "beat.open",
        "timestamp": "2026-09-21T14:13:20.250Z",
        "data": {
            "id": "ntc_0190b6e0",
            "told": "open",
            "title": "Checkout API is down",
            "at": "2026-09-21T14:13:20.250Z",
            "beat": "checkout-api",
            "beat_title": "Checkout API",
            "group": None,
            "group_title": None,
            "page": "shop",
            "stage": "critical",
            "was": "ok",
            "why": ["eu-west: critical, HTTP 503", "us-east: critical, no answer in 10 s"],
            "severity": None,
            "episode": "epi_0190b6e1",
            "since": None,
            "action": None,
            "revision": None,
            "incident": None,
            "by": None,
            "tags": [],
            "link": "https://upbeat.example/beats/checkout-api",
        },
    }


def test_what_a_group_says_of_itself_and_of_a_member_is_told_apart(notice: Notice) -> None:
    of_member = replace(notice, group="shop", group_title="The shop")
    of_itself = replace(of_member, beat=None, beat_title=None)
    assert [payload(one)["type"] for one in (of_itself, of_member)] == ["group.open", "beat.open"]
    assert payload(of_itself)["data"]["group"] == "shop"


async def test_the_reference_implementation_accepts_the_signature(
    receiver: Receiver, session: aiohttp.ClientSession, notice: Notice
) -> None:
    notice = replace(notice, title="Zürich ☃ \ud83d is “down” \x00")
    await WebhookExporter(session, receiver.url, SECRET).export(notice)

    got = receiver.received[0]
    headers = {name.lower(): value for name, value in got.headers.items()}
    assert headers["webhook-id"] == notice.id
    Webhook(SECRET).verify(got.body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.body + b" ", headers)


async def test_a_second_try_has_the_same_id_and_body_and_a_new_timestamp(
    receiver: Receiver, session: aiohttp.ClientSession, notice: Notice
) -> None:
    clock = iter((1000.0, 1060.0))
    exporter = WebhookExporter(session, receiver.url, SECRET, now_s=lambda: next(clock))
    await exporter.export(notice)
    await exporter.export(notice)

    first, second = receiver.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (first.headers["webhook-timestamp"], second.headers["webhook-timestamp"]) == ("1000", "1060")
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


async def test_without_a_secret_nothing_is_signed(
    receiver: Receiver, session: aiohttp.ClientSession, notice: Notice
) -> None:
    await WebhookExporter(session, receiver.url).export(notice)
    assert "webhook-signature" not in receiver.received[0].headers


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        pytest.param(200, {}, Delivered(), id="200 is delivered"),
        pytest.param(202, {}, Delivered(), id="202 is delivered"),
        pytest.param(204, {}, Delivered(), id="204 is delivered"),
        pytest.param(
            302, {"Location": "/else"}, Rejected("HTTP 302: redirects are not followed"), id="no redirect"
        ),
        pytest.param(
            308, {"Location": "/else"}, Rejected("HTTP 308: redirects are not followed"), id="nor 308"
        ),
        pytest.param(400, {}, Rejected("HTTP 400"), id="400 is final"),
        pytest.param(401, {}, Rejected("HTTP 401"), id="401 is final"),
        pytest.param(404, {}, Rejected("HTTP 404"), id="404 is final"),
        pytest.param(408, {}, Retry("HTTP 408"), id="408 is a time-out"),
        pytest.param(410, {}, Rejected("HTTP 410: gone for good", for_good=True), id="410 is final"),
        pytest.param(429, {"Retry-After": "17"}, Retry("HTTP 429", 17.0), id="429 says when"),
        pytest.param(429, {}, Retry("HTTP 429", TOO_MANY_S), id="429 without a time waits some"),
        pytest.param(
            429, {"Retry-After": "soon"}, Retry("HTTP 429", TOO_MANY_S), id="an unreadable time is none"
        ),
        pytest.param(500, {}, Retry("HTTP 500"), id="500 is tried again"),
        pytest.param(
            503, {"Retry-After": "999999"}, Retry("HTTP 503", LONGEST_WAIT_S), id="a long wait is cut"
        ),
    ],
)
async def test_each_status_has_its_outcome(
    receiver: Receiver,
    session: aiohttp.ClientSession,
    notice: Notice,
    status: int,
    headers: dict[str, str],
    expected: Outcome,
) -> None:
    receiver.status, receiver.headers, receiver.text = status, headers, "" if status == 204 else "a secret"

    assert await WebhookExporter(session, receiver.url).export(notice) == expected
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1/x", Retry),
        ("http://nowhere.invalid/x", Retry),
        ("http://169.254.169.254/x", Rejected),
        ("http://10.0.0.1/x", Rejected),
        ("http://[::1]/x", Rejected),
        ("http:///word", Rejected),
        ("ftp://example.org/word", Rejected),
        ("http://2130706433/word", Rejected),
        ("http://user:wörd☂word@127.0.0.1:1/", Rejected),
    ],
)
async def test_what_cannot_be_reached_is_an_outcome_too(
    session: aiohttp.ClientSession, notice: Notice, url: str, expected: type
) -> None:
    outcome = await WebhookExporter(session, url).export(notice)
    assert isinstance(outcome, expected)
    assert "word" not in repr(outcome)


async def test_a_silent_server_is_a_retry(notice: Notice, receiver: Receiver) -> None:
    async with open_session(EgressPolicy(["127.0.0.1"]), "channel", timeout_s=0.000001) as hasty:
        assert await WebhookExporter(hasty, receiver.url).export(notice) == Retry("no answer in time")


def test_every_kind_of_news_has_a_type(notice: Notice) -> None:
    assert payload(replace(notice, told="recovery"))["type"] == "beat.recovery"
    assert payload(Notice(id="n", told="test", title="t", at=0.0))["data"]["stage"] is None


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("Mon, 21 Sep 2026 14:13:50 GMT", 30.0),
        ("Mon, 21 Sep 2020 14:13:50 GMT", 0.0),
        ("Mon, 99 Sep 2026 14:13:50 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, expected_s: float | None) -> None:
    now_s = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC).timestamp()
    assert wait_s(header, now_s) == expected_s


def test_a_refused_connection_is_told_in_words() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")
    assert failed(refused) == Retry("Connection refused")
