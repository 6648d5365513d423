"""Values with a name that stand in several places, or in none."""

import json
from typing import Any

import pytest

from evaluators.event import Event, read
from evaluators.matching import Item, Matcher
from rules.trigger import Trigger


def item_of(value: dict[str, Any], body: object) -> Item:
    rule = {"slug": "t", "inbox": "i", "critical": True, "expires": 60, "target": {"external": "x"}}
    trigger = Trigger.model_validate({**rule, "values": {"id": value}, "fingerprint": "{value:id}"})
    document = read(Event("evt_1", 0.0, (), "", json.dumps(body).encode()))
    return Matcher(trigger).match(document, 0.0, lambda _: {}).items[0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"a": "1", "b": "2"}, "1", id="the first that is there"),
        pytest.param({"b": "2"}, "2", id="the next, where it is missing"),
        pytest.param({"a": None, "b": "2"}, "2", id="the next, where it is null"),
        pytest.param({"a": "", "b": "2"}, "2", id="the next, where it is empty"),
        pytest.param({"a": 0, "b": "2"}, "0", id="zero is something"),
        pytest.param({"a": None, "b": ""}, "none", id="the default, where all are nothing"),
        pytest.param({}, "none", id="the default, where all are missing"),
    ],
)
def test_it_is_the_first_that_holds_something(body: object, expected: str) -> None:
    assert item_of({"value": "$.a", "or": ["$.b"], "default": "none"}, body).fingerprint == expected


def test_case_may_be_left_out() -> None:
    value = {"value": "$.a", "as": "lower"}
    assert [item_of(value, {"a": name}).fingerprint for name in ("WEB-1", "web-1", 5)] == [
        "web-1",
        "web-1",
        "5",
    ]


def test_without_a_default_nothing_is_still_an_error() -> None:
    assert item_of({"value": "$.a", "or": ["$.b"]}, {"a": None}).error == "fingerprint: value:id is null"


def test_the_next_is_taken_where_nothing_is_cut_out_of_the_first() -> None:
    value = {"value": "$.a", "or": ["$.b"], "matches": r"host=(\S+)"}
    assert item_of(value, {"a": "nothing here", "b": "host=db-1 down"}).fingerprint == "db-1"
