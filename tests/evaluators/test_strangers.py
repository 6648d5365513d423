"""Senders without a preset: what can be said of them with what the documentation says, and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from evaluators.event import Event, read
from evaluators.matching import Item, Matcher
from rules.node import read as read_yaml
from rules.trigger import Trigger

FILE = Path(__file__).parent / "strangers.yaml"
RECEIVED_AT = 1_900_000_000.0


def posted() -> Iterator[Any]:
    for name, sender in read_yaml(FILE.read_text("utf-8"), FILE.name)[0].plain().items():
        for number, event in enumerate(sender["events"]):
            yield pytest.param(sender["trigger"], event, id=f"{name}-{number}")


def said(item: Item) -> str:
    return "error" if item.error else item.ignored or f"{item.says} {item.fingerprint}"


@pytest.mark.parametrize(("rule", "event"), list(posted()))
def test_a_rule_written_from_the_documentation_says_what_is_meant(
    rule: dict[str, Any], event: dict[str, Any]
) -> None:
    headers, body = {"Content-Type": "application/json"}, event.get("text", "").encode()
    if "form" in event:
        headers["Content-Type"], body = "application/x-www-form-urlencoded", urlencode(event["form"]).encode()
    elif "json" in event:
        body = json.dumps(event["json"]).encode()
    given = tuple((headers | event.get("headers", {})).items())
    document = read(Event("evt_1", RECEIVED_AT, given, event.get("query", ""), body))
    about = {"slug": "t", "inbox": "i", "target": {"external": "x"}}
    matched = Matcher(Trigger.model_validate({**about, **rule})).match(document, RECEIVED_AT, lambda _: {})
    assert matched.error == ""
    assert [said(item) for item in matched.items] == event["says"]
    assert all(event.get("why", "") in item.error for item in matched.items)
    if "time" in rule:
        assert all(item.at < RECEIVED_AT for item in matched.items if item.says)
