"""The smtp channel against aiosmtpd, with real TLS minted here."""

import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from msgspec.structs import replace

from engine.egress import connect
from evaluators.model import Notice
from exporters.channels.smtp import Relay, SmtpExporter, compose
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.address import EgressPolicy
from tests.rig.mailroom import Mailroom, open_mailroom

_CONNECT = partial(connect, EgressPolicy(), "relay")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def _login(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
) -> AuthResult:
    return AuthResult(success=given == LoginPassword(b"upbeat", b"right"), handled=False)


@pytest.fixture
async def plain() -> AsyncIterator[Mailroom]:
    """A relay without TLS."""
    async with open_mailroom(Mailroom()) as mailroom:
        yield mailroom


@pytest.fixture
async def starttls(server_tls: ssl.SSLContext) -> AsyncIterator[Mailroom]:
    """A relay that takes nothing before STARTTLS and AUTH."""
    room = Mailroom()
    secure = partial(
        SMTP, room, tls_context=server_tls, require_starttls=True, authenticator=_login, auth_required=True
    )
    async with open_mailroom(room, None, secure) as mailroom:
        yield mailroom


@pytest.fixture
async def implicit(server_tls: ssl.SSLContext) -> AsyncIterator[Mailroom]:
    """A relay that speaks TLS from the first byte."""
    async with open_mailroom(Mailroom(), server_tls) as mailroom:
        yield mailroom


def _relay(port: int, context: ssl.SSLContext | None = None, **changed: object) -> Relay:
    settings: dict[str, object] = {
        "host": "localhost",
        "port": port,
        "tls": "none",
        "sender": "upbeat@shop.example",
        "to": ("sre@shop.example",),
        "tls_context": context,
    }
    return Relay(**(settings | changed))  # type: ignore[arg-type]


async def test_a_notice_arrives_as_text_and_html(plain: Mailroom, notice: Notice) -> None:
    assert await SmtpExporter(_CONNECT, _relay(plain.port)).export(notice) == Delivered()

    message = plain.read()
    assert (plain.kept[0].mail_from, plain.kept[0].rcpt_tos) == ("upbeat@shop.example", ["sre@shop.example"])
    assert message["Subject"] == "Checkout API is down"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "multipart/alternative"
    text, page = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert page is not None
    assert "eu-west: critical, HTTP 503\r\nus-east: critical" in text.get_content()
    assert '<a href="https://upbeat.example/beats/checkout-api">' in page.get_content()


async def test_starttls_and_login_protect_the_message(
    starttls: Mailroom, client_tls: ssl.SSLContext, notice: Notice
) -> None:
    relay = _relay(starttls.port, client_tls, tls="starttls", username="upbeat", password="right")
    assert await SmtpExporter(_CONNECT, relay).export(notice) == Delivered()
    assert starttls.secured == [True]


async def test_tls_from_the_first_byte(
    implicit: Mailroom, client_tls: ssl.SSLContext, notice: Notice
) -> None:
    relay = _relay(implicit.port, client_tls, tls="tls")
    assert await SmtpExporter(_CONNECT, relay).export(notice) == Delivered()
    assert len(implicit.kept) == 1


async def test_a_relay_without_starttls_gets_nothing_when_it_is_asked_for(
    plain: Mailroom, notice: Notice
) -> None:
    outcome = await SmtpExporter(_CONNECT, _relay(plain.port, tls="starttls")).export(notice)
    assert isinstance(outcome, Rejected)
    assert "STARTTLS" in outcome.reason
    assert plain.kept == []


async def test_a_certificate_nobody_vouches_for_is_a_retry(starttls: Mailroom, notice: Notice) -> None:
    outcome = await SmtpExporter(_CONNECT, _relay(starttls.port, tls="starttls")).export(notice)
    assert isinstance(outcome, Retry)
    assert starttls.kept == []


async def test_a_wrong_password_is_final(
    starttls: Mailroom, client_tls: ssl.SSLContext, notice: Notice
) -> None:
    relay = _relay(starttls.port, client_tls, tls="starttls", username="upbeat", password="wrong")
    assert await SmtpExporter(_CONNECT, relay).export(notice) == Rejected("SMTP 535")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param({"DATA": "451 later"}, Retry("SMTP 451"), id="4xx to the message is tried again"),
        pytest.param({"DATA": "554 spam <secret>"}, Rejected("SMTP 554"), id="5xx to the message is final"),
        pytest.param({"sre@shop.example": "450 greylisted"}, Retry("SMTP 450"), id="a greylisted mailbox"),
        pytest.param({"sre@shop.example": "550 nobody"}, Rejected("SMTP 550"), id="an unknown mailbox"),
    ],
)
async def test_each_answer_has_its_outcome(
    plain: Mailroom, notice: Notice, answers: dict[str, str], expected: Outcome
) -> None:
    plain.answers = answers
    assert await SmtpExporter(_CONNECT, _relay(plain.port)).export(notice) == expected


async def test_a_mailbox_that_was_reached_is_not_told_again_while_another_is_awaited(
    plain: Mailroom, notice: Notice
) -> None:
    to = ("sre@shop.example", "late@shop.example", "gone@shop.example")
    plain.answers = {"late@shop.example": "450 later", "gone@shop.example": "550 nobody"}
    exporter = SmtpExporter(_CONNECT, _relay(plain.port, to=to))

    assert await exporter.export(notice) == Retry("SMTP 450 for 1 of the recipients")
    plain.answers = {"gone@shop.example": "550 nobody"}
    assert await exporter.export(notice) == Delivered()
    said = Delivered(reason="SMTP 550 for 1 of the recipients")  # and operators see who is not told
    assert await SmtpExporter(_CONNECT, _relay(plain.port, to=to)).export(notice) == said

    reached = [envelope.rcpt_tos for envelope in plain.kept]
    assert reached[:2] == [["sre@shop.example"], ["late@shop.example"]]
    assert plain.read(0)["Message-ID"] == plain.read(1)["Message-ID"]


async def test_a_relay_that_is_away_is_a_retry(notice: Notice) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert isinstance(await SmtpExporter(_CONNECT, _relay(port)).export(notice), Retry)


async def test_a_relay_that_says_nothing_is_a_retry(notice: Notice) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        relay = _relay(silent.getsockname()[1])
        outcome = await SmtpExporter(_CONNECT, relay, timeout_s=0.05).export(notice)
    assert outcome == Retry("no answer in time")


async def test_a_relay_that_may_not_be_reached_is_final(notice: Notice) -> None:
    outcome = await SmtpExporter(_CONNECT, _relay(25, host="169.254.169.254")).export(notice)
    assert isinstance(outcome, Rejected)
    assert "egress.allow" in outcome.reason


def test_all_news_of_an_episode_is_one_thread(notice: Notice) -> None:
    opened = compose(notice, "upbeat@shop.example", ("sre@shop.example",))
    closed = compose(
        replace(notice, id="ntc_2", told="recovery"), "upbeat@shop.example", ("sre@shop.example",)
    )
    assert opened["Message-ID"] == "<ntc_0190b6e0@shop.example>"
    assert closed["Message-ID"] == "<ntc_2@shop.example>"
    root = "<episode.epi_0190b6e1@shop.example>"
    assert opened["References"] == closed["References"] == closed["In-Reply-To"] == root


@pytest.mark.parametrize(
    "data",
    [
        "down\r\nBcc: victim@else.example",
        "down\nBcc: victim@else.example",
        "down\rBcc: victim@else.example",
        "down\r\n\r\n<script>alert(1)</script>",
        "down\x0b\x0c\x1c\x1d\x85\u2028Bcc: victim@else.example",
        "down\x00Bcc: victim@else.example",
        "=?utf-8?q?down=0D=0ABcc:_victim=40else.example?=",
        "x" * 5000 + "\r\nBcc: victim@else.example",
    ],
)
async def test_no_data_adds_a_header_a_recipient_or_a_tag(plain: Mailroom, notice: Notice, data: str) -> None:
    hostile = Notice(
        id=data,
        told="open",
        title=data,
        at=notice.at,
        beat_title=data,
        page=data,
        why=(data, ".", ".\r\n.\r\nMAIL FROM:<x@y>"),
        episode=data,
        link=data,
    )
    assert await SmtpExporter(_CONNECT, _relay(plain.port)).export(hostile) == Delivered()

    assert len(plain.kept) == 1
    assert plain.kept[0].rcpt_tos == ["sre@shop.example"]
    message = plain.read()
    assert {name.lower() for name in message.keys()} == {  # noqa: SIM118  (a message is no mapping)
        *("from", "to", "subject", "date", "message-id", "in-reply-to", "references"),
        *("auto-submitted", "x-upbeat-told", "mime-version", "content-type"),
    }
    page = message.get_body(("html",))
    assert page is not None
    assert "<script" not in page.get_content()
