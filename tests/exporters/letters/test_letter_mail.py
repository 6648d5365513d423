"""Letters by mail, through a real relay and read by `email`: nothing in them can be anything but text."""

import email
import email.policy
import html.parser
import re
from collections.abc import AsyncIterator
from email.message import EmailMessage
from functools import partial

import pytest
from msgspec.structs import replace

from engine.egress import connect
from evaluators.model import Envelope, Letter
from exporters.letters.mail import MailExporter, composed, judged
from exporters.mail import Relay
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.address import EgressPolicy
from rules.language import LANGUAGES, language
from tests.rig.mailroom import Mailroom, open_mailroom

BASE = "https://status.shop.example"
TOKEN = "abcdefghijklmnopqrstuvwxyz012345"
SENDER = "status@shop.example"
LETTER = Letter(
    kind="update",
    id="upd_01",
    at=1_790_000_000.0,
    title="Checkout is slow",
    text="We **look** into it.\n\n<script>alert(1)</script>",
    is_markdown=True,
    incident="inc_0a",
    status="investigating",
    components={"API": "partial_outage"},
)
ENVELOPE = Envelope(
    letter=LETTER,
    to="ada@a.example",
    kind="email",
    key="upd_01.sub_01",
    page="Shop",
    page_url=BASE,
    language="en",
    timezone="Europe/Berlin",
    link=f"{BASE}/incidents/inc_0a",
    manage_url=f"{BASE}/manage/{TOKEN}",
    unsubscribe_url=f"{BASE}/unsubscribe/{TOKEN}",
    accent="#ff6600",
)


@pytest.fixture
async def relay() -> AsyncIterator[Mailroom]:
    async with open_mailroom(Mailroom()) as room:
        yield room


def mailer(room: Mailroom, **changed: object) -> MailExporter:
    relay = Relay(host="127.0.0.1", port=room.port, tls="none", sender=SENDER)
    return MailExporter(partial(connect, EgressPolicy(), "relay"), relay, **changed)  # type: ignore[arg-type]


def read(envelope: Envelope) -> EmailMessage:
    raw = composed(envelope, SENDER)
    assert raw.isascii()  # whatever relay it passes
    assert max(map(len, raw.split(b"\r\n"))) < 998
    return email.message_from_bytes(raw, _class=EmailMessage, policy=email.policy.default)


def parts(message: EmailMessage) -> tuple[str, str]:
    assert message.get_content_type() == "multipart/alternative"
    assert not message.defects
    text, page = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert page is not None
    return text.get_content(), page.get_content()


async def test_many_letters_go_over_one_connection_and_a_broken_one_is_made_anew(relay: Mailroom) -> None:
    exporter = mailer(relay)
    for n in range(5):
        assert await exporter.export(replace(ENVELOPE, to=f"{n}@a.example")) == Delivered()
    assert len(relay.sessions) == 1
    for client, _ in exporter._idle:
        client.close()
    assert await exporter.export(ENVELOPE) == Delivered()
    assert len(relay.sessions) == 2
    exporter.close()


async def test_a_letter_says_who_gets_it_why_and_how_to_end_it(relay: Mailroom) -> None:
    exporter = mailer(relay)
    assert await exporter.export(replace(ENVELOPE, reply_to="help@shop.example")) == Delivered()
    exporter.close()
    message = relay.read()
    assert relay.told == ["ada@a.example"]
    assert message["Subject"] == "[Shop] Checkout is slow: Investigating"
    assert message["From"] == "Shop <status@shop.example>"
    assert message["To"] == "ada@a.example"
    assert message["Reply-To"] == "help@shop.example"
    assert message["Message-ID"] == "<upd_01.sub_01@shop.example>"
    assert message["References"] == message["In-Reply-To"] == "<incident.inc_0a@shop.example>"
    assert message["List-Unsubscribe"] == f"<{BASE}/unsubscribe/{TOKEN}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["List-Id"] == "<status.shop.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    text, page = parts(message)
    for said in (
        "We look into it.",
        "API: Partial outage",
        "ada@a.example",
        f"{BASE}/manage/{TOKEN}",
        ENVELOPE.link,
    ):
        assert said in text
    assert "Sep 21, 2026, 16:13 CEST" in text
    assert "<strong>look</strong>" in page
    assert "<script" not in page
    assert f'<a href="{BASE}/unsubscribe/{TOKEN}"' in page
    assert "#ff6600" in page


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("kind", ["update", "message", "confirm", "entrance"])
def test_every_kind_is_said_in_every_language(kind: str, code: str) -> None:
    window = {"starts_at": 1_790_000_000.0, "ends_at": 1_790_003_600.0}
    letter = replace(LETTER, kind=kind, of="maintenance", **window)
    envelope = replace(ENVELOPE, letter=letter, language=code)
    if kind in ("confirm", "entrance"):
        alone = replace(letter, of="incident", status="", components={}, incident=None)
        envelope = replace(envelope, manage_url="", unsubscribe_url="", letter=alone)
    message = read(envelope)
    text, page = parts(message)
    say = language(code).say
    if kind in ("confirm", "entrance"):
        assert message["Subject"] == say(f"letter_{kind}", page="Shop")
        assert message["List-Unsubscribe"] is None
        assert say(f"letter_{kind}_open") in text
        assert say(f"letter_{kind}_text", page="Shop").splitlines()[0] in text
    else:
        assert say("status_partial_outage") in text
        assert say("letter_end") in page
    assert f'lang="{code}"' in page
    assert envelope.link in text


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


HOSTILE = (
    "x\r\nBcc: evil@e.example",
    "=?utf-8?q?x=0D=0ABcc=3A_evil=40e=2Eexample?=",
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "[x](javascript:alert(1))",
    "\u202egnp.exe\u2028\x00\x1b[31m",
    "</title></style></textarea>--><svg onload=alert(1)>",
    'Shop" <evil@e.example>, "x',
    "ü" * 300,
)


@pytest.mark.parametrize("is_markdown", [True, False])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_data_adds_a_header_a_mailbox_a_tag_or_a_link(hostile: str, *, is_markdown: bool) -> None:
    letter = replace(
        LETTER, title=hostile, text=hostile, components={hostile: "major_outage"}, is_markdown=is_markdown
    )
    message = read(replace(ENVELOPE, letter=letter, page=hostile))
    text, page = parts(message)
    assert message["Bcc"] is None
    assert [one.addr_spec for one in message["From"].addresses] == [SENDER]
    assert [one.addr_spec for one in message["To"].addresses] == ["ada@a.example"]
    assert message["Message-ID"] == "<upd_01.sub_01@shop.example>"
    assert not re.search(r"[\x00\x1b\u202e\u2028]", text + str(message["Subject"]))
    tags = _Tags()
    tags.feed(page)
    allowed = {"html", "head", "meta", "body", "p", "strong", "em", "h2", "ul", "li", "a", "hr", "br"}
    assert {tag for tag, _ in tags.found} <= allowed
    for _, attributes in tags.found:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or BASE).startswith((BASE, "mailto:"))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("550 5.1.1 no such user", Rejected("SMTP 550 5.1.1", for_good=True)),
        ("550 No such user here", Rejected("SMTP 550")),
        ("552 5.2.2 full", Rejected("SMTP 552 5.2.2")),
        ("554 5.7.1 relay access denied", Retry("SMTP 554 5.7.1")),
        ("550 relay not permitted", Retry("SMTP 550")),
        ("530 Authentication required", Retry("SMTP 530")),
        ("554 Transaction failed", Retry("SMTP 554")),
        ("451 4.7.1 greylisted", Retry("SMTP 451")),
        ("421 4.3.2 shutting down", Retry("SMTP 421", 15.0)),
    ],
)
async def test_what_a_refused_recipient_means(relay: Mailroom, answer: str, outcome: Outcome) -> None:
    relay.answers = {"ada@a.example": answer}
    exporter = mailer(relay)
    assert await exporter.export(ENVELOPE) == outcome
    relay.answers.clear()
    assert await exporter.export(ENVELOPE) == Delivered()  # the transaction before leaves nothing behind
    assert relay.told == ["ada@a.example"]
    exporter.close()
    code, _, said = answer.partition(" ")
    assert judged(int(code), said) == outcome


async def test_a_relay_that_is_not_there_is_no_fault_of_the_letter(relay: Mailroom) -> None:
    async with open_mailroom(Mailroom()) as gone:
        pass
    outcome = await mailer(gone).export(ENVELOPE)
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 15.0
    assert outcome.reason.startswith("the relay: ")


async def test_what_is_refused_for_what_it_says_blames_no_mailbox(relay: Mailroom) -> None:
    relay.answers = {"DATA": "550 this looks odd"}
    exporter = mailer(relay)
    assert await exporter.export(ENVELOPE) == Retry("SMTP 550")
    relay.answers = {"DATA": "550 5.1.1 there is nobody"}
    assert await exporter.export(ENVELOPE) == Rejected("SMTP 550 5.1.1", for_good=True)
    exporter.close()


async def test_what_a_relay_does_not_take_now_is_tried_over_another_connection(relay: Mailroom) -> None:
    exporter = mailer(relay)
    assert await exporter.export(ENVELOPE) == Delivered()
    relay.answers = {"ada@a.example": "452 4.5.3 too many over this connection"}
    assert await exporter.export(ENVELOPE) == Retry("SMTP 452")
    relay.answers = {}
    assert await exporter.export(ENVELOPE) == Delivered()
    exporter.close()
    assert len(relay.sessions) == 2


def test_one_click_is_offered_where_it_is_safe() -> None:
    url = f"http://up.example/p/shop/unsubscribe/{TOKEN}"
    message = read(replace(ENVELOPE, unsubscribe_url=url))
    assert message["List-Unsubscribe"] == f"<{url}>"
    assert message["List-Unsubscribe-Post"] is None
