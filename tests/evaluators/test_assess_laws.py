"""What holds of every assertion that can be written, whatever was seen: hypothesis writes both."""

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from evaluators.assess import assess
from evaluators.model import Failure, Timings, Verdict
from evaluators.observation import Certificate, Hop, Observation, Record, StepSeen, TlsSeen
from evaluators.operators import TESTS, is_number
from evaluators.subjects import read
from rules.assertion import _ALLOWED, SUBJECTS, Assertion
from rules.comparison import OPERATORS
from rules.expectation import Expectation, compile_assertions
from rules.kinds.http import HttpCheck
from rules.selection import BudgetError, UnreadableError
from rules.shape import written
from tests.evaluators.test_assess import http

LAWS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

words = st.one_of(
    st.sampled_from(["a", "b", "", "1", "2.5", "1e400", "x" * 300, "ü", "\x00", "\ud800"]),
    st.text(max_size=5),
)
numbers = st.one_of(st.integers(-3, 300), st.floats(), st.sampled_from([10**30, 2**63, -(2**63), 0.1]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)
durations = st.sampled_from(["0s", "1ms", "200ms", "5m", 1, 0.2, "soon"])
counts = st.one_of(
    st.integers(-1, 4),
    st.dictionaries(st.sampled_from(["ge", "lt", "eq", "up"]), st.integers(0, 4), max_size=1),
)
schemas = st.sampled_from(
    [{}, {"type": "object"}, {"items": {"type": "integer"}}, {"minLength": 2}, {"uniqueItems": True}, {"$ref": "#"},
     {"pattern": "^a"}, {"multipleOf": 0.1}, {"enum": [1, "a", None]}, {"maximum": 5}]
)  # fmt: skip
PATHS: dict[str, st.SearchStrategy[str]] = {
    "json": st.sampled_from(["$", "$.a", "$.a[0]", "$.*", "$..a", "$[?@.a]", "$["]),
    "xml": st.sampled_from(
        ["/a", "//a", "//@b", "count(//a)", "//a[1]/b", "sum(//a)", "//p:a", "boolean(/a)", "//a//b"]
    ),
    "html": st.sampled_from(["a", "a b", "a > b, #x", "a ~ b", "*", ".c:not(a)", "a:nth-child(-n+2)", "a["]),
}
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "attribute": st.sampled_from(["b", "href"]),
    "name": st.sampled_from(["a", "Set-Cookie", "x", ""]),
    "type": st.sampled_from(["A", "MX", "TXT"]),
    "as": st.just("number"),
}  # fmt: skip
EXPECTED: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(OPERATORS, st.one_of(values, words, st.integers(-3, 300), durations)),
    "in": st.one_of(st.lists(words, min_size=1, max_size=3), st.lists(values, max_size=3)),
    **dict.fromkeys(("starts", "ends"), words),
    "matches": st.sampled_from(["a", "^.*$", "(a+)+$", "(", "\\x00"]),
    **dict.fromkeys(("exists", "empty"), st.booleans()),
    "count": counts,
    "between": st.lists(st.one_of(numbers, durations), min_size=2, max_size=2).map(lambda pair: sorted(pair, key=str)),
    "schema": schemas,
}  # fmt: skip


@st.composite
def assertions(draw: st.DrawFn) -> dict[str, Any]:
    """What an operator may have written, most of it allowed."""
    of = draw(st.sampled_from([*SUBJECTS, *["json"] * 12, *["xml", "html"] * 6]))
    subject = SUBJECTS[of]
    allowed = [one for one in OPERATORS if one in _ALLOWED[subject.holds]]
    operator = draw(st.sampled_from([*allowed * 5, *OPERATORS]))
    keys = [key for key in KEYS if key == subject.needs or (key in subject.takes and draw(st.booleans()))]
    given_ = {"of": of, "severity": draw(st.sampled_from(["warning", "critical"]))}
    if of in PATHS:
        given_["path"] = draw(PATHS[of])
    judged: dict[str, Any] = {operator: draw(EXPECTED[operator])}
    form = draw(st.sampled_from(["plain", "beside", "inside"]))
    judged = {"not": judged} if form == "inside" else judged | ({"not": True} if form == "beside" else {})
    return given_ | {key: draw(KEYS[key]) for key in keys} | judged


json_texts = values.map(lambda value: json.dumps(value).encode())
bodies = st.one_of(
    json_texts,
    st.binary(max_size=30),
    st.builds(lambda key, value: b'{"a": %s, "%s": 1}' % (value, key), st.sampled_from([b"a", b"b", b"\\ud800"]), json_texts),
    st.sampled_from(
        [b"", b"[" * 5000, b"9" * 5000, b"-0", b'{"a": NaN}', b'{"a": 1e400}', b'"\\ud800"', b'"\\u0000"', b'{"a": ["\\u0000"]}',
         b"[100000000000000000000000000000000]", b"\xff\xfe[\x001\x00]\x00", b"\xef\xbb\xbf[1]", b'{"a": [[[[[[[[{"a": 1}]]]]]]]]}',
         b"<a b='1'><b>2</b>x<a/></a>", b"<p:a xmlns:p='u'>1</p:a>", b"<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", b"<a>\xff</a>",
         b"<a id=x class='c d'>1<b>2<a>3", b"<?xml version='1.0' encoding='utf-16'?><a/>", b"<a>" * 300]
    ),
)  # fmt: skip
seconds = st.one_of(st.none(), st.floats(0, 5))
certificates = st.builds(
    Certificate, words, words, st.lists(words, max_size=2).map(tuple), st.floats(0, 9e9), st.floats(0, 9e9), words, words, words, words
)  # fmt: skip
observations = st.builds(
    Observation,
    status=st.one_of(st.none(), st.integers(0, 999)),
    headers=st.lists(
        st.tuples(st.sampled_from(["a", "x", "set-cookie", "content-type"]), st.one_of(words, st.just("text/a; charset=utf-16"))), max_size=4
    ),
    body=bodies,
    size_bytes=st.integers(0, 9),
    is_truncated=st.booleans(),
    protocol=st.one_of(st.none(), words),
    hops=st.lists(st.just(Hop("http://a/", 301, None, Timings())), max_size=2),
    cookies=st.dictionaries(st.sampled_from(["a", "x"]), words),
    steps=st.lists(st.builds(StepSeen, st.sampled_from(["a", "x"]), st.none(), st.builds(Timings, total=seconds)), max_size=2),
    records=st.lists(st.builds(Record, st.sampled_from(["A", "MX"]), words, st.one_of(st.none(), st.integers(0, 400))), max_size=3),
    rcode=st.one_of(st.none(), st.just("NOERROR")),
    flags=st.lists(words, max_size=2).map(tuple),
    tls=st.one_of(
        st.none(), st.builds(TlsSeen, words, words, st.lists(certificates, max_size=2).map(tuple), st.one_of(st.none(), words), st.floats(0, 9e9))
    ),
    packets=st.lists(seconds, max_size=3).map(tuple),
    timings=st.builds(Timings, seconds, seconds, seconds, seconds, seconds, seconds),
    failure=st.one_of(st.none(), st.none(), st.just(Failure("connect.refused", "no"))),
)  # fmt: skip


def modelled(written_: dict[str, Any]) -> Assertion | None:
    try:
        return Assertion.model_validate(written_)
    except ValidationError:
        return None


def check_of(*models: Assertion) -> HttpCheck:
    check = http(degraded_after="1s")
    assert isinstance(check, HttpCheck)
    fields = {name: getattr(check, name) for name in check.__slots__}
    return HttpCheck(**fields | {"expectations": compile_assertions(models)})


@LAWS
@given(st.lists(assertions(), max_size=4), observations)
def test_every_observation_has_a_verdict_that_can_be_kept(
    written_: list[dict[str, Any]], seen: Observation
) -> None:
    models = [model for model in map(modelled, written_) if model is not None]
    verdict, outcomes, failure = assess(check_of(*models), seen)
    assert (verdict is Verdict.OK) is (failure is None)
    if seen.failure is None:
        assert [outcome.of for outcome in outcomes][-len(models) or len(outcomes) :] == [m.of for m in models]
    assert all(outcome.ok is (outcome.message == "") for outcome in outcomes)
    bad = [outcome for outcome in outcomes if not outcome.ok]
    if failure is not None and failure.type.startswith("assertion."):
        worst = next(
            o for o in bad if o.severity == ("critical" if verdict is Verdict.CRITICAL else "warning")
        )
        assert failure.type in (f"assertion.{worst.of}", "assertion.budget")
        assert failure.message == worst.message
    elif failure is None or failure.type == "degraded":
        assert bad == []
    kept = msgspec.json.encode((outcomes, failure))
    assert b"\\u0000" not in kept.replace(b"\\\\", b"")  # a NUL, and no text about one
    assert b"\x00" not in kept
    assert json.loads(kept) is not None


@LAWS
@given(assertions(), observations)
def test_not_is_the_other_answer_to_what_is_there_and_no_answer_to_what_is_missing(
    written_: dict[str, Any], seen: Observation
) -> None:
    model = modelled(written_)
    if model is None or seen.failure is not None:
        return
    other = Assertion.model_validate(written(model) | {"not": not model.not_})
    (one,), (two,) = compile_assertions([model]), compile_assertions([other])
    first, second = (outcome.ok for outcome in assess(check_of(model, other), seen)[1][-2:])
    assert not (first and second)
    assert first or second or has_no_answer(one, seen) or has_no_answer(two, seen)


def has_no_answer(e: Expectation, seen: Observation) -> bool:
    """Whether it is missing, cannot be read, or is of several values that differ, or of a type without an answer."""
    try:
        found = read(e, seen, {})
        test = TESTS.get(e.operator)
        if test is None or len(found) != 1:
            return len(found) != 1 or e.operator in ("count", "empty")
        return test(found[0], e) is None or (e.is_number and not is_number(found[0])) or seen.is_truncated
    except (BudgetError, UnreadableError):
        return True


@LAWS
@given(assertions())
def test_what_is_written_reads_back_the_same(written_: dict[str, Any]) -> None:
    model = modelled(written_)
    if model is None:
        return
    stored = json.loads(json.dumps(written(model)))
    again = Assertion.model_validate(stored)
    assert (again, written(again)) == (model, written(model))
    assert "not" not in stored or stored["not"] is True
