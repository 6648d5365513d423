"""The Teams channel against a server with the rules of a workflow's webhook."""

from __future__ import annotations

import json

import pytest
from aiohttp import ClientSession, web
from msgspec.structs import replace

from evaluators.model import Notice
from exporters.channels.sending import SendingExporter
from exporters.channels.teams import payload
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from tests.rig.services import Teams, served

HOSTILE = "<at>everyone</at> **bold** [x](https://evil.example) \x00\u202e"


def told_by(session: ClientSession, service: Teams) -> SendingExporter:
    url = f"{service.url}/workflows/1?sig=signed"
    return SendingExporter(session, lambda notice: [(url, payload(notice))])


async def test_a_notice_becomes_a_card(session: ClientSession, notice: Notice) -> None:
    async with served(Teams()) as service:
        assert await told_by(session, service).export(notice) == Delivered()
    (card,) = service.cards
    lines = ["".join(run["text"] for run in block["inlines"]) for block in card["body"]]
    assert lines == [
        "🔴 Checkout API is down",
        "eu-west: critical, HTTP 503",
        "us-east: critical, no answer in 10 s",
        "Beat: Checkout API",
        "Page: shop",
        "Stage: ok → critical",
    ]
    assert card["actions"][0]["url"] == "https://upbeat.example/beats/checkout-api"


@pytest.mark.parametrize(
    "why",
    [(HOSTILE * 5000,), (HOSTILE,) * 5000, ('🔥é"\\' * 50,) * 200, ("x",) * 20_000, ()],
    ids=["one long line", "many lines", "what counts more in JSON", "many short lines", "nothing"],
)
async def test_no_card_is_too_large(session: ClientSession, notice: Notice, why: tuple[str, ...]) -> None:
    long = replace(notice, why=why, title=HOSTILE * 500, beat_title="🔥" * 5000, by=HOSTILE * 500)
    async with served(Teams()) as service:
        assert await told_by(session, service).export(long) == Delivered()


def test_data_stands_in_text_runs_that_know_no_markup(notice: Notice) -> None:
    document = payload(replace(notice, why=(HOSTILE,), title=HOSTILE, by=HOSTILE))
    assert "entities" not in json.dumps(document)
    assert {block["type"] for block in document["attachments"][0]["content"]["body"]} == {"RichTextBlock"}


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {}, Rejected("HTTP 401")),
        (404, {}, Rejected("HTTP 404")),
        (429, {"Retry-After": "20"}, Retry("HTTP 429", 20.0)),
        (502, {}, Retry("HTTP 502")),
        (410, {}, Rejected("HTTP 410: gone for good", for_good=True)),
        (307, {"Location": "/"}, Rejected("HTTP 307: redirects are not followed")),
    ],
)
async def test_each_answer_of_a_workflow_has_an_outcome(
    session: ClientSession, notice: Notice, status: int, headers: dict[str, str], expected: Outcome
) -> None:
    async with served(Teams()) as service:
        service.instead = [web.Response(status=status, headers=headers, text="theirs")]
        assert await told_by(session, service).export(notice) == expected
