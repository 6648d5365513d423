"""Presets of senders: what each posts is told from all others, and means what its maker says. Bodies are typed from public documentation, with values of our own."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from evaluators.event import Document, Event, read
from evaluators.guess import guesses
from evaluators.matching import Item, Matched, Matcher
from rules.node import read as read_yaml
from rules.sender import senders, trigger_of
from rules.trigger import Target

SENT = Path(__file__).parent / "sent"
RECEIVED_AT = 1_800_000_000.0
PRESETS = {sender.slug: sender for sender in senders()}


def sent(slug: str) -> list[dict[str, Any]]:
    file = SENT / f"{slug}.yaml"
    listed: list[dict[str, Any]] = read_yaml(file.read_text("utf-8"), file.name)[0].plain()
    return listed


def deliveries() -> Iterator[Any]:
    for slug in PRESETS:
        for number, delivery in enumerate(sent(slug)):
            yield pytest.param(slug, delivery, id=f"{slug}-{number}")


def document_of(delivery: dict[str, Any]) -> Document:
    headers = {"Content-Type": "application/json", **delivery.get("headers", {})}
    body = json.dumps(delivery.get("body")).encode()
    if "form" in delivery:
        headers["Content-Type"], body = (
            "application/x-www-form-urlencoded",
            urlencode(delivery["form"]).encode(),
        )
    return read(Event("evt_1", RECEIVED_AT, tuple(headers.items()), "", body))


def matched(slug: str, delivery: dict[str, Any]) -> Matched:
    rule = trigger_of(PRESETS[slug], slug="t", inbox="i", target=Target(external="x"))
    return Matcher(rule).match(document_of(delivery), RECEIVED_AT, lambda _: {}, is_traced=True)


def said(item: Item) -> str:
    return "error" if item.error else item.says or item.ignored or "nothing"


@pytest.mark.parametrize(("slug", "delivery"), list(deliveries()))
def test_what_a_sender_posts_means_what_its_maker_says(slug: str, delivery: dict[str, Any]) -> None:
    seen = matched(slug, delivery)
    assert seen.error == ""
    assert [said(item) for item in seen.items] == delivery["says"]
    for item, about in zip(seen.items, delivery.get("about", []), strict=False):
        assert about is None or item.fingerprint == about
    for item, at in zip(seen.items, delivery.get("at", []), strict=False):
        assert at is None or item.at == pytest.approx(datetime.fromisoformat(at).timestamp(), abs=1e-5)
    assert all(delivery.get("why", "") in item.error for item in seen.items)
    assert seen.is_truncated == delivery.get("truncated", False)


@pytest.mark.parametrize(("slug", "delivery"), list(deliveries()))
def test_a_sender_is_told_from_all_others(slug: str, delivery: dict[str, Any]) -> None:
    found = [guess.sender for guess in guesses(document_of(delivery))]
    assert found[:1] == ([] if delivery.get("is_other") else [slug])


@pytest.mark.parametrize("slug", PRESETS)
def test_what_fires_and_what_recovers_are_about_the_same(slug: str) -> None:
    items = [item for delivery in sent(slug) for item in matched(slug, delivery).items]
    fired = {item.fingerprint for item in items if item.says in ("critical", "warning")}
    recovered = {item.fingerprint for item in items if item.says == "recovery"}
    trigger = trigger_of(PRESETS[slug], slug="t", inbox="i", target=Target(external="x"))
    if trigger.recovery is None:
        assert recovered == set()
        assert trigger.silence or trigger.absence
    else:
        assert recovered
        assert recovered <= fired


@pytest.mark.parametrize("slug", PRESETS)
def test_whatever_a_preset_makes_nobody_is_told_of_it_yet(slug: str) -> None:
    trigger = trigger_of(PRESETS[slug], slug="t", inbox="i", target=Target(external="x"))
    assert trigger.enabled is False
    assert (trigger.incidents.open, trigger.incidents.update, trigger.incidents.resolve) == ("draft",) * 3


@pytest.mark.parametrize(
    "body", [b"", b"down", b"[]", b'{"status": "down"}', b'{"event": "started"}', b"[1, 2]"]
)
def test_what_nobody_is_known_to_post_has_no_sender(body: bytes) -> None:
    assert guesses(read(Event("evt_1", RECEIVED_AT, (), "", body))) == []


def test_every_file_of_events_is_of_a_preset() -> None:
    assert {file.stem for file in SENT.iterdir()} == set(PRESETS)
