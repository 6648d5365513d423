"""The Slack channel against a server that answers as Slack's incoming webhooks do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from msgspec.structs import replace

from evaluators.model import Notice, Stage
from exporters.channels.sending import SendingExporter
from exporters.channels.slack import CODES, MAX_BLOCKS, MAX_HEADER, MAX_SECTION, payload
from exporters.outcome import Delivered, Outcome, Rejected, Retry

if TYPE_CHECKING:
    from tests.exporters.conftest import Receiver


def told_by(session: aiohttp.ClientSession, receiver: Receiver) -> SendingExporter:
    return SendingExporter(session, lambda notice: [(receiver.url, payload(notice))], codes=CODES)


async def test_a_notice_becomes_blocks_with_a_text_fallback(
    receiver: Receiver, session: aiohttp.ClientSession, notice: Notice
) -> None:
    assert await told_by(session, receiver).export(notice) == Delivered()

    message = json.loads(receiver.received[0].body)
    assert message["text"] == "🔴 Checkout API is down"
    header, section, context = message["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "🔴 Checkout API is down", "emoji": False}
    assert section["text"]["text"] == "eu-west: critical, HTTP 503\nus-east: critical, no answer in 10 s"
    link = "<https://upbeat.example/beats/checkout-api|Open in Upbeat>"
    assert context["elements"][0]["text"] == f"Checkout API · shop · ok → critical · {link}"


HOSTILE = "<!channel> <@U123> <#C1|x> <https://evil.example|click> & > @here #general &lt;!here&gt;"


def test_data_can_neither_mention_nor_link(notice: Notice) -> None:
    hostile = replace(
        notice,
        title=HOSTILE,
        beat_title=HOSTILE,
        page=HOSTILE,
        why=(HOSTILE,),
        link="https://x.example/|<!channel>",
    )
    message = payload(hostile)

    marked = [message["text"], *(text["text"] for text in _mrkdwn(message))]
    controls = re.findall(r"<[^>]*>", "".join(marked))
    assert controls == ["<https://x.example/%7C&lt;!channel&gt;|Open in Upbeat>"]
    assert all(text["verbatim"] is True for text in _mrkdwn(message))
    assert "&lt;!channel&gt; &lt;@U123&gt;" in message["text"]
    assert "&amp;lt;!here" in message["text"]


def test_a_link_that_is_no_web_address_is_left_out(notice: Notice) -> None:
    assert "javascript" not in json.dumps(payload(replace(notice, link="javascript:alert(1)")))


@pytest.mark.parametrize(
    "why",
    [
        pytest.param(("&" * 10_000,), id="one long line of what escapes to five times itself"),
        pytest.param(("x" * 2_999,) * 200, id="more sections than a message holds"),
        pytest.param(("é<" * 500,) * 100, id="many long lines"),
        pytest.param(("🔥" * 5_000,), id="characters that count twice"),
        pytest.param(("🔥" * 900,) * 3, id="lines of what counts twice"),
        pytest.param(("", "  ", "\n"), id="nothing but space"),
        pytest.param((), id="nothing"),
    ],
)
def test_a_message_stays_within_slacks_limits(notice: Notice, why: tuple[str, ...]) -> None:
    message = payload(replace(notice, why=why, title="T" * 500 + "🔥" * 500))

    assert 2 <= len(message["blocks"]) <= MAX_BLOCKS
    assert all(1 <= _utf16(text["text"]) <= MAX_SECTION for text in _mrkdwn(message))
    assert _utf16(message["blocks"][0]["text"]["text"]) <= MAX_HEADER
    whole_entities = re.compile(r"(?:[^&<>]|&amp;|&lt;|&gt;)*")
    sections = [text["text"] for text in _mrkdwn(message)[:-1]]
    assert all(whole_entities.fullmatch(text) for text in sections)


def test_what_was_left_out_is_said(notice: Notice) -> None:
    blocks = payload(replace(notice, why=("x" * 2_900,) * 60))["blocks"]
    assert blocks[-2]["text"]["text"] == "… and more: see Upbeat"


def test_a_bare_notice_is_a_message() -> None:
    message = payload(Notice(id="n", told="unknown", title="API sends no data", at=0.0, stage=Stage.UNKNOWN))
    assert message["text"] == "⚪ API sends no data"


@pytest.mark.parametrize(
    ("status", "text", "headers", "expected"),
    [
        (200, "ok", {}, Delivered()),
        (400, "invalid_payload", {}, Rejected("HTTP 400 invalid_payload")),
        (403, "action_prohibited", {}, Rejected("HTTP 403 action_prohibited")),
        (404, "no_service\n", {}, Rejected("HTTP 404 no_service")),
        (410, "channel_is_archived", {}, Rejected("HTTP 410 channel_is_archived")),
        (400, "root:x:0:0:root:/root", {}, Rejected("HTTP 400")),
        (404, "no_service" * 5000, {}, Rejected("HTTP 404")),
        (429, "rate limited", {"Retry-After": "30"}, Retry("HTTP 429", 30.0)),
        (500, "rollup_error", {}, Retry("HTTP 500 rollup_error")),
        (503, "<html>down</html>", {}, Retry("HTTP 503")),
    ],
)
async def test_each_answer_has_its_outcome_and_only_slacks_words_are_shown(
    receiver: Receiver,
    session: aiohttp.ClientSession,
    notice: Notice,
    status: int,
    text: str,
    headers: dict[str, str],
    expected: Outcome,
) -> None:
    receiver.status, receiver.text, receiver.headers = status, text, headers
    assert await told_by(session, receiver).export(notice) == expected


def _mrkdwn(message: dict[str, Any]) -> list[dict[str, Any]]:
    texts = [block["text"] for block in message["blocks"] if block["type"] == "section"]
    return texts + [one for block in message["blocks"] for one in block.get("elements", ())]


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def test_what_a_group_says_names_it(notice: Notice) -> None:
    of_itself = replace(notice, beat=None, beat_title=None, group="shop", group_title="The shop", link=None)
    assert payload(of_itself)["blocks"][-1]["elements"][0]["text"] == "The shop · shop · ok → critical"
