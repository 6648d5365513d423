"""Each subject of an assertion, read out of what was seen; and each operator on each kind of value."""

from typing import Any

import pytest

from evaluators.assess import assess
from evaluators.model import Failure, Outcome, Timings, Verdict
from evaluators.observation import Certificate, Hop, Observation, Record, StepSeen, TlsSeen
from rules.assertion import SUBJECTS, Assertion
from rules.check import Check
from rules.expectation import compile_assertions
from rules.kinds.http import HttpCheck
from tests.evaluators.test_assess import http

DAY_S = 86_400.0
LEAF = Certificate(
    "CN=a.example", "CN=R3", ("a.example", "b.example"), 0.0, 40 * DAY_S, "1f", "ab" * 32, "EC P-256", "ecdsa"
)
ABOVE = Certificate("CN=R3", "CN=Root", (), 0.0, 30 * DAY_S, "2f", "cd" * 32, "RSA 2048", "sha256WithRSA")
FEED = b'<?xml version="1.0"?><rss xmlns:m="urn:m"><item id="7"><title> One </title><m:n>12</m:n></item><item/></rss>'
PAGE = b"""<!doctype html><title>Shop</title><main id=top class="wide shop"><p>In <b>stock</b>:
  <span class=n data-n=3>12</span><ul><li>a<li class=last>b</ul><p lang=de-AT>Zwei</main><script>1 < 2</script>"""
BODY = b'{"n": 3, "list": [1, "1", true], "none": null, "empty": [], "object": {"a": 1}, "items": [{"p": 1}, {"p": 2}]}'
SEEN: dict[str, Any] = {
    "status": 200,
    "headers": [("content-type", "text/plain"), ("x-left", " 42 "), ("x-empty", "")],
    "body": BODY,
    "size_bytes": len(BODY),
    "protocol": "h2",
    "hops": [Hop("http://a.example/", 301, None, Timings())],
    "cookies": {"sid": "s3cr3t-cookie"},
    "steps": [StepSeen("login", 200, Timings(total=0.3))],
    "records": [Record("A", "192.0.2.1", 300), Record("A", "192.0.2.2", 60), Record("MX", "10 a")],
    "rcode": "NOERROR",
    "flags": ("ra", "ad"),
    "tls": TlsSeen("TLSv1.3", "TLS_AES_128_GCM_SHA256", (LEAF, ABOVE), "good", 10 * DAY_S),
    "packets": (0.010, None, 0.020, 0.016),
    "timings": Timings(dns=0.01, ttfb=0.2, total=0.4),
}


def judged(assertion: dict[str, Any], **seen: Any) -> Outcome:
    check = http()
    assert isinstance(check, HttpCheck)
    compiled = compile_assertions([Assertion.model_validate(assertion)])
    given: Check = HttpCheck(**{f: getattr(check, f) for f in check.__slots__} | {"expectations": compiled})
    return assess(given, Observation(**(SEEN | seen)))[1][0]


def json_(path: str, **operator: Any) -> dict[str, Any]:
    return {"of": "json", "path": path, **operator}


@pytest.mark.parametrize(
    "assertion",
    [
        {"of": "redirects", "eq": 1},
        {"of": "protocol", "eq": "h2"},
        {"of": "cookie", "name": "sid", "starts": "s3"},
        {"of": "cookie", "name": "other", "empty": True},
        {"of": "header", "name": "X-Left", "as": "number", "between": [40, 42]},
        {"of": "header", "name": "X-Empty", "empty": True},
        {"of": "header", "name": "X-Gone", "empty": True},
        {"of": "timing.total", "between": ["300ms", "1s"]},
        {"of": "timing.tls", "exists": False},
        {"of": "step", "name": "login", "le": "300ms"},
        {"of": "certificate.days_left", "eq": 20},
        {"of": "certificate.leaf_days_left", "eq": 30},
        {"of": "certificate.names", "contains": "b.example"},
        {"of": "certificate.names", "count": {"ge": 2}},
        {"of": "certificate.subject", "ends": "a.example"},
        {"of": "certificate.issuer", "eq": "CN=R3"},
        {"of": "certificate.sha256", "eq": "ab" * 32},
        {"of": "certificate.key", "starts": "EC"},
        {"of": "certificate.signature", "eq": "ecdsa"},
        {"of": "certificate.cipher", "contains": "AES"},
        {"of": "certificate.version", "in": ["TLSv1.2", "TLSv1.3"]},
        {"of": "certificate.ocsp", "eq": "good"},
        {"of": "record", "type": "A", "count": 2},
        {"of": "record", "type": "AAAA", "count": {"le": 3}},
        {"of": "record", "type": "A", "not": True, "starts": "10."},
        {"of": "ttl", "type": "A", "ge": "1m"},
        {"of": "flags", "contains": "ad"},
        {"of": "flags", "not": {"contains": "tc"}},
        {"of": "rtt", "lt": "16ms"},
        {"of": "rtt.min", "le": "10ms"},
        {"of": "rtt.max", "between": [0.02, 0.021]},
        {"of": "rtt.jitter", "lt": "8ms"},
        {"of": "loss", "eq": 25},
        json_("$.list", contains=1),
        json_("$.list", count=3),
        json_("$.object", count={"lt": 2}),
        json_("$.items[*]", count=2),
        json_("$.items[?@.p > 9]", count=0),
        json_("$.gone", count=0),
        json_("$.gone", empty=True),
        json_("$.none", empty=True),
        json_("$.empty", empty=True),
        json_("$.n", empty=False),
        json_("$.n", **{"not": True, "empty": True}),
        json_("$.n", between=[3, 3.5]),
        json_("$.items[*].p", **{"not": {"eq": 3}}),
        json_("$.gone", **{"not": {"exists": True}}),
        json_("$.items", schema={"type": "array", "items": {"required": ["p"]}}),
        json_("$", **{"not": {"schema": {"required": ["q"]}}}),
    ],
    ids=str,
)
def test_it_holds(assertion: dict[str, Any]) -> None:
    outcome = judged(assertion)
    assert (outcome.ok, outcome.message) == (True, "")


@pytest.mark.parametrize(
    ("assertion", "holds"),
    [
        ({"path": "//title", "eq": " One "}, True),
        ({"path": "/rss/item/@id", "as": "number", "lt": 8}, True),
        ({"path": "//item", "count": 2}, True),
        ({"path": "count(//item)", "eq": 2}, True),
        ({"path": "//item[@id='7']/title", "contains": "One"}, True),
        ({"path": "//m:n", "as": "number", "eq": 12}, True),
        ({"path": "//other:n", "exists": False}, True),
        ({"path": "//*[local-name()='n']/text()", "eq": "12"}, True),
        ({"path": "boolean(//item)", "eq": True}, True),
        ({"path": "sum(//title)", "exists": False}, False),
        ({"path": "//title", "not": {"empty": True}}, True),
        ({"path": "//gone", "ne": "x"}, False),
    ],
)
def test_xml_is_read_by_xpath(assertion: dict[str, Any], holds: bool) -> None:
    assert judged({"of": "xml", **assertion}, body=FEED).ok is holds


@pytest.mark.parametrize(
    ("assertion", "holds"),
    [
        ({"path": "title", "eq": "Shop"}, True),
        ({"path": "main.wide.shop > p:first-child", "eq": "In stock: 12"}, True),
        ({"path": "#top p b", "eq": "stock"}, True),
        ({"path": ".n", "attribute": "data-n", "as": "number", "ge": 3}, True),
        ({"path": ".n", "as": "number", "eq": 12}, True),
        ({"path": "li", "count": 2}, True),
        ({"path": "li:nth-child(2n)", "eq": "b"}, True),
        ({"path": "li + li", "eq": "b"}, True),
        ({"path": "p ~ ul > li.last", "exists": True}, True),
        ({"path": "li:not(.last)", "eq": "a"}, True),
        ({"path": "b, li", "in": ["stock", "a", "b"]}, True),
        ({"path": "p[lang|=de]", "eq": "Zwei"}, True),
        ({"path": "p[lang^='en']", "exists": False}, True),
        ({"path": ":is(b, i)", "count": 1}, True),
        ({"path": "main span p", "exists": True}, False),
        ({"path": "b > p", "exists": True}, False),
        ({"path": ".gone", "not": {"contains": "error"}}, False),
    ],
)
def test_html_is_read_by_selectors(assertion: dict[str, Any], holds: bool) -> None:
    assert judged({"of": "html", **assertion}, body=PAGE, headers=[]).ok is holds


@pytest.mark.parametrize(
    ("assertion", "said"),
    [
        pytest.param(
            json_("$.list", count={"ge": 4}), "json $.list has 3; expected count ge 4", id="too few"
        ),
        pytest.param(json_("$.n", count=1), "a number and nothing to count", id="nothing to count"),
        pytest.param(json_("$.n", empty=True), "json $.n is 3; expected empty True", id="not empty"),
        pytest.param(json_("$.gone", empty=False), "selects nothing", id="missing is not filled"),
        pytest.param(json_("$.gone", **{"not": {"eq": 1}}), "selects nothing", id="missing, negated"),
        pytest.param(
            json_("$.none", **{"not": {"contains": "x"}}), "neither text nor a list", id="a wrong type, negated"
        ),
        pytest.param(json_("$.list[1]", **{"not": {"lt": 5}}), "not a number", id="text, negated"),
        pytest.param(json_("$.n", **{"not": {"eq": 3}}), "expected not eq 3", id="negated"),
        pytest.param(
            json_("$.items", schema={"items": {"properties": {"p": {"maximum": 1}}}}),
            "which does not fit at /1/p: 2 is greater than the maximum of 1; expected schema",
            id="a schema names the place",
        ),
        pytest.param({"of": "header", "name": "Content-Type", "as": "number", "ne": 1}, "text and not a number", id="text declared a number"),
        pytest.param({"of": "cookie", "name": "sid", "eq": "x"}, "is '[redacted]'; expected eq [redacted]", id="a cookie"),
        pytest.param({"of": "record", "type": "A", "not": {"ends": ".2"}}, "'192.0.2.2'", id="none of the records"),
        pytest.param({"of": "rtt", "gt": "1s"}, "rtt is 15.3 ms; expected gt 1 s", id="a round trip"),
        pytest.param({"of": "xml", "path": "//a", "exists": False}, "is not there: the body is not XML", id="absence in what is no XML"),
        pytest.param(json_("$.a", exists=False), "", id="absence in JSON"),
    ],
)  # fmt: skip
def test_it_fails_saying_why(assertion: dict[str, Any], said: str) -> None:
    outcome = judged(assertion)
    assert said in outcome.message
    assert outcome.ok is (said == "")
    assert "s3cr3t" not in outcome.message


def test_absence_of_what_cannot_be_read_is_not_seen() -> None:
    assert not judged(json_("$.a", exists=False), body=b"<html>").ok
    assert not judged(json_("$.a[*]", count=0), body=b"<html>").ok


@pytest.mark.parametrize("of", sorted(SUBJECTS))
def test_every_subject_is_missing_where_nothing_was_seen_and_absence_may_be_asked(of: str) -> None:
    needed = {"json": "$.a", "xml": "/a", "html": "a"}.get(of)
    keys = {"path": needed, "name": "n", "type": "A"}
    subject = {"of": of} | {key: keys[key] for key in ("path", "name", "type") if SUBJECTS[of].needs == key}
    check = http(subject | {"exists": False}) if of in ("status", "cookie", "header") else None
    outcome = judged(subject | {"exists": False}, **dict.fromkeys(("tls", "status", "rcode", "protocol")),
                     cookies={}, headers=[], records=[], steps=[], packets=(), timings=Timings(), body=b"")  # fmt: skip
    always = ("body", "size", "redirects", "json", "xml")  # the last two cannot be read
    assert outcome.ok is (of not in always)
    assert check is None or check.expectations[0].of == of


def test_slower_in_a_phase_than_degraded_after_is_a_warning() -> None:
    check = http(degraded_after={"total": "1s", "tls": "200ms", "ttfb": "100ms"})
    verdict, _, failure = assess(check, Observation(**SEEN))
    assert (verdict, failure) == (
        Verdict.WARNING,
        Failure("degraded", "ttfb took 0.2 s; degraded after 0.1 s"),
    )


@pytest.mark.parametrize(
    ("operator", "actual"),
    [
        ({"exists": True}, "[redacted]"),
        ({"eq": "other"}, "[redacted]"),
        ({"schema": {"maxLength": 1}}, "[redacted]"),
    ],
)
@pytest.mark.parametrize("path", ["$.access_token", "$['user'].password", "$..api_key"])
def test_what_is_called_like_a_secret_is_not_kept(path: str, operator: dict[str, Any], actual: str) -> None:
    body = b'{"access_token": "s3cr3t", "api_key": "s3cr3t", "user": {"password": "s3cr3t"}}'
    outcome = judged(json_(path, **operator), body=body)
    assert (outcome.actual, "s3cr3t" in outcome.message, "other" in outcome.message) == (actual, False, False)


def test_true_and_a_number_are_no_secrets_whatever_they_are_called() -> None:
    assert judged(json_("$.authenticated", eq=True), body=b'{"authenticated": false}').actual is False
