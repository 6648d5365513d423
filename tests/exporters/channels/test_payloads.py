"""Webhooks in the JSON of OpenStatus and Better Stack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from msgspec.structs import replace

from evaluators.model import Notice, Stage
from exporters.channels.webhook import WebhookExporter
from exporters.outcome import FIRST, Delivered, Memory
from rules.channels.channel import ALL_TOLD

if TYPE_CHECKING:
    from tests.exporters.conftest import Receiver


async def sent(
    receiver: Receiver, session: ClientSession, form: Any, notice: Notice, memory: Memory = FIRST
) -> tuple[Any, Any]:
    """The outcome, and the JSON; None where nothing was sent."""
    before = len(receiver.received)
    outcome = await WebhookExporter(session, receiver.url, form=form).export(notice, memory)
    found = receiver.received[before:]
    return outcome, json.loads(found[0].body) if found else None


@pytest.mark.parametrize(
    ("told", "severity", "status"),
    [
        ("open", "critical", "error"),
        ("open", "warning", "degraded"),
        ("change", "warning", "degraded"),
        ("recovery", None, "recovered"),
        ("test", None, "recovered"),
        *((told, "critical", None) for told in ALL_TOLD if told not in ("open", "change", "recovery")),
    ],
)
async def test_openstatus(
    told: Any, severity: Any, status: str | None, receiver: Receiver, session: ClientSession, notice: Notice
) -> None:
    notice = replace(notice, told=told, severity=severity)
    outcome, document = await sent(receiver, session, "openstatus", notice)
    assert outcome == Delivered()
    assert (document or {}).get("status") == status
    if document is not None:
        assert document["cronTimestamp"] == 1_790_000_000_250
        assert document["monitor"]["name"] == "Checkout API"
        assert 0 < document["monitor"]["id"] < 2**53
        assert ("errorMessage" in document) is (status != "recovered")


@pytest.mark.parametrize(
    ("told", "event", "status"),
    [
        ("open", "started", "Started"),
        ("acknowledged", "acknowledged", "Acknowledged"),
        ("comment", "commented", "Started"),
        ("recovery", "resolved", "Resolved"),
    ],
)
async def test_betterstack_incidents(
    told: Any, event: str, status: str, receiver: Receiver, session: ClientSession, notice: Notice
) -> None:
    notice = replace(notice, told=told, by="Ann", why=("a disk is full",), since=1_789_999_000.0)
    _, document = await sent(receiver, session, "betterstack", notice)
    assert (document["event"], document["data"]["type"], document["data"]["id"]) == (
        event,
        "incident",
        "epi_0190b6e1",
    )
    attributes = document["data"]["attributes"]
    assert (attributes["status"], attributes["cause"]) == (status, "a disk is full")
    assert attributes["started_at"] == "2026-09-21T13:56:40.000Z"
    assert [attributes["acknowledged_by"], attributes["resolved_by"]].count("Ann") == (
        event in ("acknowledged", "resolved")
    )
    comment = {"content": "a disk is full", "author": "Ann"} if event == "commented" else None
    assert document.get("comment") == comment


async def test_betterstack_says_what_was_resolved_is_reopened(
    receiver: Receiver, session: ClientSession, notice: Notice
) -> None:
    outcome, _ = await sent(
        receiver, session, "betterstack", replace(notice, told="recovery", stage=Stage.OK)
    )
    _, document = await sent(receiver, session, "betterstack", notice, Memory(outcome.remote))
    assert document["event"] == "reopened"


@pytest.mark.parametrize("verb", ["created", "updated", "paused", "unpaused", "deleted"])
async def test_betterstack_monitors(
    verb: str, receiver: Receiver, session: ClientSession, notice: Notice
) -> None:
    notice = replace(notice, told="beat", why=(verb,), episode=None)
    _, document = await sent(receiver, session, "betterstack", notice)
    assert (document["event"], document["data"]["id"], document["data"]["type"]) == (
        verb,
        "shop/checkout-api",
        "monitor",
    )
    assert document["data"]["attributes"]["pronounceable_name"] == "Checkout API"


async def test_what_betterstack_has_no_word_for_is_not_sent(
    receiver: Receiver, session: ClientSession, notice: Notice
) -> None:
    for told in set(ALL_TOLD) - {"open", "acknowledged", "comment", "recovery", "beat"}:
        assert await sent(receiver, session, "betterstack", replace(notice, told=told)) == (Delivered(), None)
    assert await sent(receiver, session, "betterstack", replace(notice, episode=None)) == (Delivered(), None)
