"""A trigger in plain English."""

from typing import Any

import pytest

from rules.condition import Condition
from rules.sentence import compared, sentence
from rules.trigger import Trigger

BASE: dict[str, Any] = {
    "slug": "down",
    "inbox": "ops",
    "fingerprint": "{$.host}",
    "target": {"external": "shop"},
}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            {
                "critical": {"value": "$.status", "in": ["firing", "open now"]},
                "warning": {"value": "$.status", "eq": "warn"},
                "recovery": {"value": "$.status", "as": "lower", "eq": "resolved"},
            },
            (
                "For each event of ops, beat shop is critical if $.status is one of firing, “open now”, else a warning if "
                "$.status is warn. It is over when $.status in lower case is resolved. There is one signal per {$.host}."
            ),
        ),
        (
            {
                "each": "$.alerts[*]",
                "when": [
                    {"value": "header:X-Kind", "eq": "alert"},
                    {"any": [{"value": "$.a", "ge": 3}, {"value": "$.b", "exists": False}]},
                ],
                "critical": True,
                "recovery": False,
                "repeats": {"count": 3, "within": "10m"},
                "for": "5m",
                "cooldown": "1h",
                "target": {"external": "shop", "per_fingerprint": 5},
            },
            (
                "For each item of $.alerts[*] in an event of ops where header:X-Kind is alert and ($.a is at least 3 or $.b is "
                "missing), beat shop is critical. It opens once 3 of them came within 10m and it has lasted 5m. After it was "
                "over, nothing opens for 1h. Only a person can say that it is over. There is one signal per {$.host}, each on "
                "a beat of its own."
            ),
        ),
        (
            {
                "critical": True,
                "silence": "5m",
                "fingerprint": "single",
                "suppress": {"none": [{"value": "$.env", "eq": "prod"}]},
            },
            (
                "For each event of ops, beat shop is critical. Nothing opens where it is not so that $.env is prod. It is over "
                "without another event for 5m. All events are about one thing."
            ),
        ),
        (
            {"absence": {"after": "26h", "severity": "warning"}, "target": {"group": "all"}},
            "Without any event of ops for 26h, group all is a warning until the next one.",
        ),
    ],
)
def test_a_rule_reads_as_sentences(rule: dict[str, Any], said: str) -> None:
    assert sentence(Trigger.model_validate(BASE | rule)) == said


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"eq": None}, "is null"),
        ({"not": {"in": ["a", "b"]}}, "is none of a, b"),
        ({"between": [1, 2]}, "is between 1 and 2"),
        ({"not": {"contains": "{x}"}}, "does not contain {x}"),
        ({"count": {"gt": 1}}, "has more than 1 item"),
        ({"not": {"exists": True}}, "is missing"),
        ({"empty": False}, "is not empty"),
        ({"changed": True}, "has changed"),
        ({"not": {"changed": True}}, "has not changed"),
        ({"matches": "a" * 200}, "matches " + "a" * 79 + "…"),
    ],
)
def test_each_operator_has_words(condition: dict[str, Any], said: str) -> None:
    assert compared(Condition.model_validate({"value": "$.a", **condition})) == said
