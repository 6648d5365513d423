"""What an observation is judged to be, as a table of sentences."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from evaluators.assess import assess
from evaluators.model import Failure, Outcome, Timings, Verdict
from evaluators.observation import Observation, Record
from rules.beat import BEAT
from rules.check import Check, compile_check

SAYS = b'{"one": 1, "broken": 1.0, "yes": true, "text": "1", "none": null, "list": [1, 2], "many": [{"n": 1}, {"n": 2}]}'
HEADERS = [("content-type", "application/json"), ("x-many", "a"), ("x-many", "b"), ("set-cookie", "sid=1")]


def http(*assertions: dict[str, Any], **beat: Any) -> Check:
    given = {"type": "http", "slug": "h", "url": "http://a.example/", "assertions": list(assertions), **beat}
    return compile_check(BEAT.validate_python(given), {})


def dns(*assertions: dict[str, Any], record: str = "TXT") -> Check:
    given = {
        "type": "dns",
        "slug": "d",
        "host": "a.example",
        "record": record,
        "assertions": list(assertions),
    }
    return compile_check(BEAT.validate_python(given), {})


def answer(**seen: Any) -> Observation:
    given: dict[str, Any] = {
        "status": 200,
        "reason": "OK",
        "headers": HEADERS,
        "body": SAYS,
        "size_bytes": len(SAYS),
        "timings": Timings(total=0.2),
    }
    return Observation(**(given | seen))


def record(*texts: str, rcode: str = "NOERROR") -> Observation:
    return Observation(
        rcode=rcode, records=[Record("TXT", text) for text in texts], timings=Timings(dns=0.1, total=0.1)
    )


def kind(judged: tuple[Verdict, tuple[Outcome, ...], Failure | None]) -> str | None:
    return judged[2].type if judged[2] else None


def json_(path: str, **operator: Any) -> dict[str, Any]:
    return {"of": "json", "path": path, **operator}


@pytest.mark.parametrize(
    "assertion",
    [
        pytest.param(json_("$.one", eq=1.0), id="whole and broken numbers compare as numbers"),
        pytest.param(json_("$.broken", eq=1), id="and the other way round"),
        pytest.param(json_("$.yes", eq=True), id="true is true"),
        pytest.param(json_("$.yes", ne=1), id="true is not 1"),
        pytest.param(json_("$.text", ne=1), id="text is no number"),
        pytest.param(json_("$.none", eq=None), id="null is null"),
        pytest.param(json_("$.none", exists=True), id="null is a value"),
        pytest.param(json_("$.list", eq=[1.0, 2]), id="lists compare item by item"),
        pytest.param(json_("$.many[0]", eq={"n": 1}), id="objects compare key by key"),
        pytest.param(json_("$.many[*].n", ge=1), id="every one of several values"),
        pytest.param(json_("$.gone", exists=False), id="what is missing does not exist"),
        pytest.param(json_("$.text", **{"in": ["0", "1"]}), id="one of a list"),
        pytest.param(
            {"of": "header", "name": "Content-Type", "starts": "application/"}, id="a header, any case"
        ),
        pytest.param({"of": "header", "name": "X-Many", "eq": "a, b"}, id="repeated headers are joined"),
        pytest.param({"of": "body", "matches": '"one": \\d'}, id="a pattern is searched"),
        pytest.param({"of": "size", "eq": len(SAYS)}, id="size in bytes"),
        pytest.param({"of": "status", "in": [200, 201]}, id="status as a number"),
        pytest.param({"of": "timing.total", "lt": "250ms"}, id="timings in seconds"),
    ],
)
def test_it_holds(assertion: dict[str, Any]) -> None:
    verdict, outcomes, failure = assess(http(assertion), answer())
    assert (verdict, failure) == (Verdict.OK, None)
    assert [(outcome.ok, outcome.message) for outcome in outcomes] == [(True, "")]


@pytest.mark.parametrize(
    ("assertion", "actual", "said"),
    [
        pytest.param(
            json_("$.yes", eq=1), True, "json $.yes is True, true and not a number; expected eq 1", id="true"
        ),
        pytest.param(json_("$.one", eq=True), 1, "a number and not true", id="1 is not true"),
        pytest.param(json_("$.text", eq=1), "1", "text and not a number", id="text"),
        pytest.param(json_("$.text", gt=0), "1", "text and not a number", id="no order on text"),
        pytest.param(json_("$.yes", ge=0), True, "true and not a number", id="no order on true"),
        pytest.param(json_("$.none", lt=1), None, "null and not a number", id="null is not 0"),
        pytest.param(json_("$.one", starts="1"), 1, "a number and not text", id="a number has no beginning"),
        pytest.param(json_("$.gone", lt=5), None, "selects nothing", id="a missing value is not 0"),
        pytest.param(json_("$.gone", ne=5), None, "selects nothing", id="a missing value is not unequal"),
        pytest.param(json_("$.gone", exists=True), None, "selects nothing", id="a missing value"),
        pytest.param(json_("$.one", exists=False), 1, "exists", id="a value that should be missing"),
        pytest.param(
            json_("$.many[*].n", eq=1),
            [1, 2],
            "json $.many[*].n is 2; expected eq 1",
            id="one of several is wrong",
        ),
        pytest.param(
            {"of": "header", "name": "X-No", "eq": "0"}, None, "header x-no is missing", id="no header"
        ),
        pytest.param({"of": "timing.tls", "lt": "9s"}, None, "did not happen", id="a phase that was not"),
        pytest.param({"of": "status", "ne": 200}, 200, "status is 200; expected ne 200", id="status"),
    ],
)
def test_it_fails_saying_why(assertion: dict[str, Any], actual: Any, said: str) -> None:
    verdict, outcomes, failure = assess(http(assertion), answer())
    assert (verdict, outcomes[0].ok, outcomes[0].actual) == (Verdict.CRITICAL, False, actual)
    assert said in outcomes[0].message
    assert failure == Failure(f"assertion.{assertion['of']}", outcomes[0].message)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="no JSON"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"[" * 40_000, id="too deep"),
        pytest.param(b'{"one": NaN}', id="NaN"),
        pytest.param(b'{"one": 1e999}', id="a number out of range"),
        pytest.param(b'{"one": "\xff"}', id="no UTF-8"),
    ],
)
@pytest.mark.parametrize("operator", [{"eq": 1}, {"exists": True}, {"lt": 5}])
def test_a_body_that_is_not_json_is_said_to_be(body: bytes, operator: dict[str, Any]) -> None:
    outcome = assess(http(json_("$.one", **operator)), answer(body=body))[1][0]
    assert not outcome.ok
    assert "not JSON" in outcome.message


def test_a_byte_order_mark_is_no_part_of_json() -> None:
    assert assess(http(json_("$.one", eq=1)), answer(body=b"\xef\xbb\xbf" + SAYS))[0] is Verdict.OK


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, "ok"), (299, "ok"), (199, "critical"), (300, "critical")]
)
def test_without_a_status_assertion_200_to_299_is_earned(status: int, verdict: str) -> None:
    assert assess(http(), answer(status=status))[0] == verdict


def test_a_status_assertion_replaces_the_implicit_one() -> None:
    assert assess(http({"of": "status", "eq": 503}), answer(status=503))[0] is Verdict.OK


def test_an_observation_of_nothing_is_not_ok() -> None:
    assert assess(http(), Observation())[0] is Verdict.CRITICAL


def test_slower_than_degraded_after_is_a_warning() -> None:
    verdict, _, failure = assess(http(degraded_after="100ms"), answer())
    assert (verdict, failure) == (Verdict.WARNING, Failure("degraded", "took 0.2 s; degraded after 0.1 s"))


BAD = {
    "critical": {"of": "status", "eq": 1},
    "warning": {"of": "size", "eq": 1, "severity": "warning"},
    "good": {"of": "status", "eq": 200},
}
NAMES = {"critical": "assertion.status", "warning": "assertion.size"}


@pytest.mark.parametrize("parts", list(product(BAD, repeat=3)), ids="-".join)
@pytest.mark.parametrize("is_slow", [False, True])
def test_the_first_of_the_worst_names_the_failure(parts: tuple[str, ...], is_slow: bool) -> None:
    check = http(*(BAD[part] for part in parts), degraded_after="1ms" if is_slow else None)
    worst = next((level for level in ("critical", "warning") if level in parts), None)
    verdict, outcomes, failure = assess(check, answer())
    assert verdict == (worst or ("warning" if is_slow else "ok"))
    assert (failure.type if failure else None) == (NAMES[worst] if worst else "degraded" if is_slow else None)
    assert [outcome.ok for outcome in outcomes] == [part == "good" for part in parts]


@pytest.mark.parametrize(("type_", "verdict"), [("connect.refused", "critical"), ("probe.no_route", "error")])
def test_without_an_answer_every_assertion_is_not_reached(type_: str, verdict: str) -> None:
    failure = Failure(type_, "why")
    check = http(
        {"of": "status", "eq": 200}, {"of": "header", "name": "a", "exists": False, "severity": "warning"}
    )
    judged, outcomes, told = assess(check, answer(failure=failure))
    assert (judged, told) == (verdict, failure)
    assert [(o.ok, o.message, o.severity) for o in outcomes] == [
        (False, "not reached", "critical"),
        (False, "not reached", "warning"),
    ]


@pytest.mark.parametrize(
    ("assertion", "holds"),
    [
        ({"ge": 1000}, True),
        ({"gt": 999}, True),
        ({"gt": 1000}, True),
        ({"ge": 1001}, True),
        ({"gt": 1001}, False),
        ({"in": [1]}, False),
        ({"lt": 5000}, False),
        ({"ne": 5}, False),
    ],
)
def test_the_size_of_a_cut_body_is_only_a_lower_bound(assertion: dict[str, Any], holds: bool) -> None:
    seen = answer(size_bytes=1000, is_truncated=True)
    assert assess(http({"of": "size", **assertion}), seen)[1][0].ok is holds


def test_secrets_in_headers_are_not_kept() -> None:
    outcome = assess(http({"of": "header", "name": "Set-Cookie", "eq": "sid=2"}), answer())[1][0]
    assert outcome.actual == "[redacted]"
    assert "sid" not in outcome.message


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'"' + b"x" * 5000 + b'"', "$"),
        (b"[" + b"1," * 500 + b"1]", "$"),
        (b"1" * 400, "$"),
        (b"9" * 30, "$"),
    ],
)
def test_actual_values_are_cut(body: bytes, path: str) -> None:
    actual = assess(http(json_(path, eq=0)), answer(body=body))[1][0].actual
    assert isinstance(actual, str) or actual is None
    assert len(actual or "") <= 200


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("", "ü".encode(), "ü"),
        ("; charset=ISO-8859-1", b"\xfc", "ü"),
        ('; charset="utf-16"', "ü".encode("utf-16"), "ü"),
        ("; charset=nonsense", "ü".encode(), "ü"),
        ("; charset=unicode_escape", b"\\ud800", "\\ud800"),
        ("; charset=utf-8", b"\xff", "�"),
    ],
)
def test_text_is_decoded_by_its_charset(charset: str, body: bytes, text: str) -> None:
    seen = answer(headers=[("content-type", "text/plain" + charset)], body=body)
    assert assess(http({"of": "body", "eq": text}), seen)[0] is Verdict.OK


@pytest.mark.parametrize(
    ("assertion", "texts", "holds"),
    [
        pytest.param({"starts": "v=spf1"}, ["x", "v=spf1 -all"], True, id="one record of several"),
        pytest.param({"starts": "v=spf1"}, ["x", "y"], False, id="none of several"),
        pytest.param({"ne": "x"}, ["x", "y"], False, id="ne: every one"),
        pytest.param({"ne": "x"}, ["y", "z"], True, id="ne: none of them"),
    ],
)
def test_records_are_a_set(assertion: dict[str, Any], texts: list[str], holds: bool) -> None:
    check = dns({"of": "record", "type": "TXT", **assertion})
    assert assess(check, record(*texts))[1][0].ok is holds


@pytest.mark.parametrize(
    ("assertions", "seen", "expected"),
    [
        pytest.param([], record("x"), None, id="a record of the asked type earns ok"),
        pytest.param([], record(), "dns.no_record", id="no record"),
        pytest.param([], record(rcode="NXDOMAIN"), "dns.nxdomain", id="NXDOMAIN"),
        pytest.param([], record(rcode="REFUSED"), "dns.refused", id="REFUSED"),
        pytest.param([], record(rcode="NOTIMP"), "dns.servfail", id="any other code"),
        pytest.param(
            [{"of": "rcode", "eq": "NXDOMAIN"}], record(rcode="NXDOMAIN"), None, id="expected NXDOMAIN"
        ),
        pytest.param(
            [{"of": "rcode", "eq": "NOERROR"}], record(rcode="NXDOMAIN"), "assertion.rcode", id="rcode"
        ),
        pytest.param(
            [{"of": "record", "type": "TXT", "exists": False}],
            record(),
            None,
            id="expected to have no record",
        ),
        pytest.param(
            [{"of": "record", "type": "MX", "eq": "10 a"}], record("x"), "assertion.record", id="another type"
        ),
    ],
)
def test_dns_earns_ok(assertions: list[dict[str, Any]], seen: Observation, expected: str | None) -> None:
    assert kind(assess(dns(*assertions), seen)) == expected


def test_a_tcp_connection_earns_ok() -> None:
    check = compile_check(
        BEAT.validate_python({"type": "tcp", "slug": "t", "host": "a.example", "port": 1}), {}
    )
    assert assess(check, Observation())[0] is Verdict.OK


def test_judging_is_repeatable() -> None:
    check, seen = http(json_("$.one", eq=1), {"of": "body", "contains": "one"}), answer()
    assert assess(check, seen) == assess(check, replace(seen))


@pytest.mark.parametrize(
    ("pattern", "judged"), [("((a|b| ){0,30}){0,30}z", "assertion.budget"), ("a{0,30}z", "assertion.body")]
)
def test_a_large_pattern_is_not_searched_in_a_large_body(pattern: str, judged: str) -> None:
    check = http({"of": "body", "matches": pattern})
    assert kind(assess(check, answer(body=b"ab " * 300_000))) == judged
    assert kind(assess(check, answer(body=b"ab z"))) is None
