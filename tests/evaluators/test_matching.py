"""What a trigger sees: conditions, maps, fingerprints, times and messages over what senders really post (values ours)."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from evaluators.event import Document, Event, read
from evaluators.matching import NOTHING, OVER_BUDGET, Item, Matched, Matcher
from rules.trigger import MAX_ITEMS, Trigger

NOW = 1_780_000_000.0  # 2026-05-28
PLAIN = {"slug": "t", "inbox": "i", "target": {"beat": "b"}, "recovery": False}
FORM = "application/x-www-form-urlencoded"


def trigger(**keys: Any) -> Trigger:
    return Trigger.model_validate({**PLAIN, "critical": True, "fingerprint": "single", **keys})


def document(body: Any, content_type: str = "application/json", query: str = "", **headers: str) -> Document:
    sent = body if isinstance(body, str) else json.dumps(body)
    names = (
        ("Content-Type", content_type),
        *((name.replace("_", "-"), text) for name, text in headers.items()),
    )
    return read(Event("evt", NOW, names, query, sent.encode("utf-8", "surrogatepass")))


def never(fingerprint: str) -> Mapping[str, str]:
    return {}


def see(rule: Trigger, seen: Document) -> Matched:
    return Matcher(rule).match(seen, NOW, never)


def only(rule: Trigger, seen: Document) -> Item:
    (item,) = see(rule, seen).items
    return item


def said(item: Item) -> str:
    """An item in one line: `critical host-1`, `unmapped`, or what is wrong."""
    if item.error:
        return item.error
    return f"{item.says} {item.fingerprint}" if item.says else str(item.ignored)


ALERT = {
    "labels": {"alertname": "HighLatency", "severity": "page"},
    "startsAt": "2026-05-27T22:00:00.123456789Z",
}
ALERTMANAGER = trigger(
    each="$.alerts",
    when=[{"value": "body:$.receiver", "eq": "upbeat"}],
    critical=[{"value": "$.status", "eq": "firing"}, {"value": "$.labels.severity", "in": ["page", "critical"]}],
    warning={"value": "$.status", "eq": "firing"},
    recovery={"value": "$.status", "eq": "resolved"},
    truncated={"value": "$.truncatedAlerts", "gt": 0},
    suppress={"value": "$.labels.muted", "exists": True},
    fingerprint="{$.fingerprint}",
    time="$.startsAt",
    message="{$.labels.alertname}: {$.annotations.summary}",
)  # fmt: skip


@pytest.mark.parametrize("each", ["$.all[*]", "$['all'][*]", "$..all[*]", "$.*[*]"])
def test_a_star_fans_out_lists_and_objects(each: str) -> None:
    rule = trigger(each=each, fingerprint="{$}")
    for held in (["a", "b"], {"x": "a", "y": "b"}):
        assert [said(item) for item in see(rule, document({"all": held})).items] == [
            "critical a",
            "critical b",
        ]
    for nothing in ("text", None, list[str](), dict[str, str]()):
        assert see(rule, document({"all": nothing})).items == ()


def test_a_mixed_batch_is_judged_item_by_item() -> None:
    alerts = [
        {**ALERT, "status": "firing", "fingerprint": "a1"},
        {**ALERT, "status": "resolved", "fingerprint": "a2"},
        {**ALERT, "status": "firing", "fingerprint": "a3", "labels": {"severity": "info"}},
        {**ALERT, "status": "firing", "fingerprint": "a4", "labels": {"muted": "yes"}},
        {**ALERT, "status": "resolved", "fingerprint": "a5", "labels": {"muted": "yes"}},
        {**ALERT, "status": "expired", "fingerprint": "a6"},
        {**ALERT, "status": "firing", "fingerprint": ""},
    ]
    matched = see(ALERTMANAGER, document({"receiver": "upbeat", "alerts": alerts, "truncatedAlerts": 3}))
    assert [said(item) for item in matched.items] == [
        "critical a1",
        "recovery a2",
        "warning a3",
        "suppressed",
        "recovery a5",
        "unmapped",
        "fingerprint: $.fingerprint is empty",
    ]
    assert matched.is_truncated
    assert matched.items[0].message == "HighLatency:"
    assert matched.items[0].at == pytest.approx(1779919200.123456)
    other = document({"receiver": "other", "alerts": alerts})
    assert see(ALERTMANAGER, other) is NOTHING
    traced = Matcher(ALERTMANAGER).match(other, NOW, lambda _: {}, is_traced=True)
    assert [(item.index, said(item)) for item in traced.items] == [(n, "unmatched") for n in range(7)]


SENT: list[Any] = [
    pytest.param(
        {"unwrap": ["$.Message"], "critical": {"value": "$.Message.NewStateValue", "eq": "ALARM"}, "fingerprint": "{$.Message.AlarmName}/{$.Message.Region}"},
        document({"Type": "Notification", "Message": json.dumps({"AlarmName": "queue", "NewStateValue": "ALARM", "Region": "EU"})}, "text/plain; charset=UTF-8"),
        "critical queue/EU",
        id="SNS: JSON in a text in JSON as text/plain",
    ),
    pytest.param(
        {"unwrap": ["$.Message", "$.Message.detail"], "fingerprint": "{$.Message.detail.id}"},
        document({"Message": json.dumps({"detail": json.dumps(json.dumps({"id": 7}))})}),
        "critical 7",
        id="several levels of it",
    ),
    pytest.param(
        {"unwrap": ["$.records[*].body"], "each": "$.records[*]", "fingerprint": "{$.body.id}"},
        document({"records": [{"body": '{"id": "x"}'}]}),
        "critical x",
        id="in each record",
    ),
    pytest.param(
        {"critical": {"value": "$.alert_transition", "in": ["Triggered", "Re-Triggered"]}, "fingerprint": "{$.alert_cycle_key}"},
        document("alert_transition=Re-Triggered&alert_cycle_key=40291&tags=a&tags=b", FORM),
        "critical 40291",
        id="Datadog as a form",
    ),
    pytest.param(
        {"critical": {"value": "$.heartbeat.status", "eq": 0}, "fingerprint": "{$.monitor.id}"},
        document({"heartbeat": None, "monitor": None, "msg": "Testing"}),
        "unmapped",
        id="Uptime Kuma's test of nulls maps to nothing and is no error",
    ),
    pytest.param(
        {"critical": {"value": "$.data.heartbeat.status", "eq": 0}, "fingerprint": "{$.data.monitor.id}"},
        document('--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + '{"heartbeat": {"status": 0}, "monitor": {"id": 12}}' + "\r\n--b--", "multipart/form-data; boundary=b"),
        "critical 12",
        id="Uptime Kuma as a form with parts",
    ),
    pytest.param(
        {"critical": {"value": "$.alertType", "as": "number", "eq": 1}, "fingerprint": "{$.monitorID}"},
        document({"alertType": "1", "monitorID": "77", "alertDuration": "*alertDuration*"}),
        "critical 77",
        id="UptimeRobot: numbers as texts",
    ),
    pytest.param(
        {"critical": {"value": "$.alert.updatedAt", "eq": 9007199254740993}, "fingerprint": "{$.alert.updatedAt}"},
        document('{"alert": {"updatedAt": 9007199254740993}}'),
        "critical 9007199254740993",
        id="Opsgenie: above 2^53 nothing is rounded",
    ),
    pytest.param(
        {"fingerprint": "{$.alertId}"}, document({"alertId": 2783}), "critical 2783", id="ThousandEyes: an id as a number",
    ),
    pytest.param(
        {"fingerprint": "{$.alertId}"}, document({"alertId": "2783"}), "critical 2783", id="and the same as text",
    ),
    pytest.param(
        {"fingerprint": "{$.ok}-{$.ratio}-{$.whole}"}, document({"ok": True, "ratio": 0.25, "whole": 5.0}), "critical true-0.25-5", id="scalars in a fingerprint are as JSON writes them, whole ones without a fraction",
    ),
    pytest.param(
        {"critical": {"value": "$.fields[?@.key == 'status'].value", "eq": "triggered"}, "fingerprint": "{$.fields[?@.key == 'alertId'].value}"},
        document({"fields": [{"key": "alertId", "value": "c-9"}, {"key": "status", "value": "triggered"}]}),
        "critical c-9",
        id="Coralogix: a list of keys and values",
    ),
    pytest.param(
        {"critical": {"value": "$.state", "as": "lower", "in": ["alerting", "firing"]}, "fingerprint": "{$.ruleId}"},
        document({"state": "Alerting", "ruleId": 4, "values": None}),
        "critical 4",
        id="Grafana: capitals here and there",
    ),
    pytest.param(
        {"critical": [{"value": "$.event_value", "as": "text", "eq": "1"}, {"value": "$.severity", "not": {"in": ["Warning", "Average"]}}], "fingerprint": "{$.event_id}"},
        document({"event_value": 1, "severity": "Disaster", "event_id": "519"}),
        "critical 519",
        id="Zabbix: 1 is read as text",
    ),
    pytest.param(
        {"values": {"host": {"value": "text", "matches": r"host=(\S+)"}, "state": {"value": "text", "matches": r"^\[(\w+)\]"}}, "critical": {"value": "value:state", "eq": "DOWN"}, "fingerprint": "{value:host}"},
        document("[DOWN] host=web-1 load=12", "text/plain"),
        "critical web-1",
        id="plain text, with values cut out of it",
    ),
    pytest.param(
        {"values": {"host": {"value": "text", "matches": r"host=(\S+)"}}, "fingerprint": "{value:host}"},
        document("nothing of it", "text/plain"),
        "fingerprint: value:host is missing",
        id="a pattern that finds nothing leaves the value missing",
    ),
    pytest.param(
        {"critical": [{"value": "header:X-GitHub-Event", "eq": "workflow_run"}, {"value": "query:env", "starts": "prod"}], "fingerprint": "{header:x-github-hook-id}/{query:env}"},
        document({}, query="env=production", X_GitHub_Event="workflow_run", X_GitHub_Hook_Id="9"),
        "critical 9/production",
        id="GitHub: the kind of event is a header, of any case",
    ),
    pytest.param(
        {"each": "$", "critical": {"value": "$.type", "ends": ".failed"}, "fingerprint": "{$.source}"},
        document([{"type": "job.failed", "source": "ci"}], "application/cloudevents-batch+json"),
        "critical ci",
        id="a batch of CloudEvents",
    ),
    pytest.param(
        {"each": "$.group", "fingerprint": "{$.id}"}, document({"group": {"id": 3}}), "critical 3", id="a path to one object is one item",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "seen", "line"), SENT)
def test_senders(keys: dict[str, Any], seen: Document, line: str) -> None:
    assert said(only(trigger(**keys), seen)) == line


VALUES = {"text": "Down", "number": 5, "zero": 0, "one": "1", "null": None, "empty": "", "list": [1, 2], "none": [], "object": {"a": 1}, "yes": True, "mixed": ["a", 1], "down": [{"s": "down"}, {"s": "down"}], "half": [{"s": "down"}, {"s": "up"}]}  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        pytest.param({"value": "$.text", "eq": "Down"}, True, id="equal"),
        pytest.param({"value": "$.number", "eq": "5"}, False, id="a number is no text"),
        pytest.param({"value": "$.yes", "eq": 1}, False, id="true is not 1"),
        pytest.param({"value": "$.null", "eq": None}, True, id="null is null"),
        pytest.param({"value": "$.nope", "eq": None}, False, id="missing is not null"),
        pytest.param({"value": "$.nope", "ne": "x"}, False, id="missing is not unequal either"),
        pytest.param({"value": "$.nope", "not": True, "eq": "x"}, False, id="nor when negated"),
        pytest.param({"none": [{"value": "$.nope", "eq": "x"}]}, True, id="none of it holds, though"),
        pytest.param({"value": "$.number", "ne": "x"}, True, id="unequal, of another type"),
        pytest.param({"value": "$.text", "gt": 1}, False, id="text is not more than a number"),
        pytest.param({"value": "$.text", "not": True, "gt": 1}, False, id="nor not more"),
        pytest.param({"value": "$.number", "between": [5, 6]}, True, id="between, the bounds with it"),
        pytest.param({"value": "$.one", "as": "number", "eq": 1}, True, id="text read as a number"),
        pytest.param({"value": "$.text", "as": "number", "ne": 1}, False, id="what is no number is as good as missing"),
        pytest.param({"value": "$.number", "as": "text", "eq": "5"}, True, id="a number read as text"),
        pytest.param({"value": "$.yes", "as": "text", "eq": "true"}, True, id="true read as text"),
        pytest.param({"value": "$.null", "as": "text", "ne": "x"}, False, id="null has no text"),
        pytest.param({"value": "$.list", "as": "lower", "ne": "x"}, False, id="a list has none either"),
        pytest.param({"value": "$.text", "as": "lower", "matches": "^do"}, True, id="searched in lower case"),
        pytest.param({"value": "$.list", "contains": 2}, True, id="a list has an item"),
        pytest.param({"value": "$.mixed", "contains": True}, False, id="1 in a list is not true"),
        pytest.param({"value": "$.down[*].s", "eq": "down"}, True, id="several values, every one"),
        pytest.param({"value": "$.half[*].s", "eq": "down"}, False, id="several values, not every one"),
        pytest.param({"value": "$.half[*].s", "ne": "gone"}, True, id="several values, none of them it"),
        pytest.param({"value": "$.none[*].s", "ne": "gone"}, False, id="no values, nothing holds"),
        pytest.param({"value": "$.nope", "exists": False}, True, id="missing does not exist"),
        pytest.param({"value": "$.null", "exists": True}, True, id="null exists"),
        pytest.param({"value": "$.nope", "not": True, "exists": True}, True, id="not there, negated"),
        pytest.param({"value": "$.nope", "empty": True}, True, id="missing is empty"),
        pytest.param({"value": "$.null", "empty": True}, True, id="null is empty"),
        pytest.param({"value": "$.zero", "empty": True}, False, id="zero is something"),
        pytest.param({"value": "$.nope", "empty": False}, False, id="missing is not something"),
        pytest.param({"value": "$.list", "count": 2}, True, id="items of a list"),
        pytest.param({"value": "$.half[?@.s == 'down']", "count": {"ge": 1}}, True, id="values of a path"),
        pytest.param({"value": "$.nope[*]", "count": 0}, True, id="none of a path"),
        pytest.param({"value": "$.nope", "count": 0}, True, id="missing has no items"),
        pytest.param({"value": "$.nope", "count": {"le": 1}}, False, id="but is no short list"),
        pytest.param({"value": "$.text", "count": {"ge": 0}}, False, id="text is nothing to count"),
        pytest.param({"value": "$.object", "schema": {"required": ["a"]}}, True, id="fits a schema"),
        pytest.param({"value": "text", "contains": "Down"}, True, id="the body as text"),
        pytest.param({"value": "$.text", "changed": True}, False, id="nothing before, not changed"),
        pytest.param({"value": "$.text", "changed": False}, False, id="nothing before, not the same"),
        pytest.param({"any": [{"value": "$.nope", "eq": 1}, {"value": "$.number", "eq": 5}]}, True, id="any"),
        pytest.param({"none": [{"value": "$.number", "eq": 5}]}, False, id="none"),
        pytest.param(False, False, id="never"),
    ],
)  # fmt: skip
def test_a_condition_holds(condition: Any, holds: bool) -> None:
    item = only(trigger(critical=condition, expires="1h"), document(VALUES))
    assert said(item) == ("critical single" if holds else "unmapped")


@pytest.mark.parametrize(
    ("template", "body", "error"),
    [
        pytest.param("{$.host}", {}, "$.host is missing", id="missing"),
        pytest.param("{$.host}", {"host": None}, "$.host is null", id="null"),
        pytest.param("{$.host}", {"host": ""}, "$.host is empty", id="empty"),
        pytest.param("{$.host}", {"host": ["a"]}, "$.host is a list", id="a list"),
        pytest.param("{$.host}", {"host": {}}, "$.host is an object", id="an object"),
        pytest.param("{$.hosts[*]}", {"hosts": ["a", "b"]}, "$.hosts[*] has 2 values", id="several"),
        pytest.param("{$.a}/{$.host}", {"a": 1}, "$.host is missing", id="the second of two"),
        pytest.param("{$.host}", {"host": "a\0"}, "$.host has NUL or half a surrogate pair in it", id="what no database keeps"),
        pytest.param("{$.host}", {"host": "x" * 501}, "it has 501 characters; 500 are allowed", id="too long"),
    ],
)  # fmt: skip
def test_a_fingerprint_is_never_guessed(template: str, body: Any, error: str) -> None:
    assert only(trigger(fingerprint=template), document(body)).error == f"fingerprint: {error}"


def test_an_item_that_is_not_taken_needs_no_fingerprint() -> None:
    rule = trigger(when={"value": "$.kind", "eq": "alert"}, fingerprint="{$.host}")
    assert said(only(rule, document({"kind": "test"}))) == "unmatched"


CHANGED = trigger(
    critical={"value": "$.state", "as": "lower", "changed": True},
    warning={"value": "$.state", "as": "lower", "changed": False},
    fingerprint="{$.host}",
)


@pytest.mark.parametrize(
    ("before", "line"),
    [
        ({}, "unmapped"),
        ({"$.state as lower": "up"}, "critical a"),
        ({"$.state as lower": "down"}, "warning a"),
    ],
)
def test_changed_is_of_the_event_before(before: dict[str, str], line: str) -> None:
    asked = []

    def known(fingerprint: str) -> Mapping[str, str]:
        asked.append(fingerprint)
        return before

    (item,) = Matcher(CHANGED).match(document({"host": "a", "state": "DOWN"}), NOW, known).items
    assert (said(item), item.values) == (line, {"$.state as lower": "down"})
    assert set(asked) == {"a"}


def test_what_changed_remembers_is_short_whatever_it_looks_at() -> None:
    rule = trigger(critical={"value": "$.all", "changed": True})
    long, other, none = (
        only(rule, document(body)).values for body in ({"all": ["x"] * 900}, {"all": ["y"] * 900}, {})
    )
    assert long["$.all"].startswith("sha256:")
    assert len(long["$.all"]) == 71
    assert other != long
    assert none == {}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param("{$.name} on {$.nope}{$.null}: {$.n}", "disk on : 5", id="what is missing is left out"),
        pytest.param("{$.tags[*]}", "a, b", id="several are listed"),
        pytest.param("{$.tags} {$.o}", '["a","b"] {"k":true}', id="lists and objects are JSON"),
        pytest.param("{{{$.n}}}", "{5}", id="braces"),
        pytest.param("{$.long}", "é" * 499 + "…", id="cut at 500 characters"),
        pytest.param("{$.odd}", "a\ufffdb", id="kept by every database"),
        pytest.param("$.name", "disk", id="a reference alone"),
    ],
)
def test_a_message(template: str, message: str) -> None:
    body = {"name": "disk", "n": 5, "null": None, "tags": ["a", "b"], "o": {"k": True}, "long": "é" * 900, "odd": "a\0b"}  # fmt: skip
    assert only(trigger(message=template), document(body)).message == message


@pytest.mark.parametrize(
    ("body", "matched"),
    [
        pytest.param({"alerts": []}, Matched(), id="an empty list has no items"),
        pytest.param({}, Matched(), id="nor has none"),
        pytest.param({"alerts": [1] * MAX_ITEMS + [1]}, Matched(error="each: $.alerts has 1001 items; 1000 are looked at"), id="too many are an error"),
    ],
)  # fmt: skip
def test_items(body: Any, matched: Matched) -> None:
    assert see(trigger(each="$.alerts"), document(body)) == matched


def test_text_has_no_items_but_is_one() -> None:
    text = document("DOWN", "text/plain")
    assert see(trigger(each="$"), text).items == ()
    rule = trigger(
        critical=[
            {"value": "$", "exists": False},
            {"value": "body:$", "exists": False},
            {"value": "text", "eq": "DOWN"},
        ]
    )
    assert said(only(rule, text)) == "critical single"


def test_unwrapping_copies() -> None:
    seen = document({"a": '{"b": 1}', "c": "text", "d": 5, "e": '"scalar"'})
    was = json.dumps(seen.body)
    rule = trigger(unwrap=["$.a", "$.c", "$.d", "$.e", "$.nope"], message="{$}")
    assert only(rule, seen).message == '{"a":{"b":1},"c":"text","d":5,"e":"\\"scalar\\""}'
    assert json.dumps(seen.body) == was


def test_unwrapping_is_bounded() -> None:
    deep = json.dumps({"a": "[" * 65 + "]" * 65})
    assert see(trigger(unwrap=["$.a"]), document(deep)).error == f"{OVER_BUDGET}is nested deeper than 64"
    many = json.dumps({"all": [json.dumps([1] * 9000)] * 3})
    assert "more than 20000 values" in see(trigger(unwrap=["$.all[*]"]), document(many)).error


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"critical": {"value": "$..[?@..a]", "exists": True}}, id="a condition"),
        pytest.param({"fingerprint": "{$..[?@..a].a}"}, id="a fingerprint"),
        pytest.param({"message": "{$..*..*}"}, id="a message"),
        pytest.param(
            {"critical": {"value": "text", "matches": "(.{0,500}){0,2}x{0,500}z"}}, id="a regular expression"
        ),
    ],
)
def test_what_asks_too_much_is_an_error(keys: dict[str, Any]) -> None:
    body: Any = 1
    for _ in range(12):
        body = {"a": body, "b": [body]}
    item = only(trigger(**keys), document({"deep": body, "pad": "x" * 50_000}))
    assert (item.error.startswith(OVER_BUDGET), item.says, item.ignored) == (True, None, None)


def test_a_trace_says_what_was_found_and_what_was_not_looked_at() -> None:
    seen = document({"receiver": "upbeat", "alerts": [{**ALERT, "status": "firing", "fingerprint": "a1"}]})
    (item,) = Matcher(ALERTMANAGER).match(seen, NOW, never, is_traced=True).items
    assert [(one.part, one.depth, one.of, one.wanted, one.holds, one.actual) for one in item.trace] == [
        ("truncated", 0, "$.truncatedAlerts", "is above 0", False, []),
        ("when", 0, "all", "", True, None),
        ("when", 1, "body:$.receiver", "is upbeat", True, "upbeat"),
        ("recovery", 0, "$.status", "is resolved", False, "firing"),
        ("critical", 0, "all", "", True, None),
        ("critical", 1, "$.status", "is firing", True, "firing"),
        ("critical", 1, "$.labels.severity", "is one of page, critical", True, "page"),
        ("warning", 0, "$.status", "is firing", None, None),
        ("time", 0, "$.startsAt", "auto", True, "2026-05-27T22:00:00.123456789Z"),
        ("suppress", 0, "$.labels.muted", "is there", False, []),
        ("fingerprint", 0, "{$.fingerprint}", "", True, "a1"),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("x" * 300, "x" * 199 + "…"), ([1, 2], [1, 2]), (["x" * 300], '["' + "x" * 197 + "…"), (10**30, str(10**30)), ("\0", "\ufffd")],
)  # fmt: skip
def test_a_trace_shows_short_values(value: Any, shown: Any) -> None:
    rule = trigger(critical={"value": "$.v", "exists": True})
    (item,) = Matcher(rule).match(document({"v": value}), NOW, never, is_traced=True).items
    assert [one.actual for one in item.trace if one.of == "$.v"] == [shown]


@pytest.mark.parametrize(
    "ended", [None, "", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "-", "never", {}]
)
def test_the_first_that_holds_a_time_is_when_it_happened(ended: Any) -> None:
    rule = trigger(time=["$.ended", "$.began"])
    seen = document({"began": "2026-05-27T22:00:00Z", "ended": ended})
    assert only(rule, seen).at == 1779919200.0
    (item,) = Matcher(rule).match(seen, NOW, never, is_traced=True).items
    told = next(one for one in item.trace if one.part == "time")
    assert (told.of, told.holds, told.note) == ("$.began", True, "")
    assert only(rule, document({"ended": ended})).at == NOW
