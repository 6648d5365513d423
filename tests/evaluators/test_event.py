"""Deliveries taken apart: as whatever they come, JSON is found in them; what is not JSON, or too much of it, is text."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.event import MAX_DEPTH, MAX_VALUES, Document, Event, read

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=cut"


def received(body: bytes | str, content_type: str = "application/json", query: str = "") -> Document:
    sent = body.encode() if isinstance(body, str) else body
    headers = (("Content-Type", content_type),) if content_type else ()
    return read(Event("evt", 1e9, headers, query, sent))


def parts(*fields: tuple[str, str]) -> str:
    return "".join(f"--cut\r\n{head}\r\n\r\n{text}\r\n" for head, text in fields) + "--cut--\r\n"


@pytest.mark.parametrize(
    ("body", "content_type", "document"),
    [
        pytest.param('{"a": 1}', "application/json", {"a": 1}, id="JSON is JSON"),
        pytest.param('{"a": 1}', "", {"a": 1}, id="without a type it still is"),
        pytest.param('{"a": 1}', "text/plain; charset=UTF-8", {"a": 1}, id="as text it still is (SNS)"),
        pytest.param('{"a": 1}', "application/cloudevents+json", {"a": 1}, id="a structured CloudEvent"),
        pytest.param('[{"id": "1"}]', "application/cloudevents-batch+json", [{"id": "1"}], id="a batch of them"),
        pytest.param('{"a": 1}', FORM, {"a": 1}, id="JSON that says that it is a form (curl -d)"),
        pytest.param(" [1]\n", "multipart/form-data", [1], id="JSON that says that it has parts"),
        pytest.param('{"a": 1}\r\n{"a": 2}\n\n', "application/x-ndjson", [{"a": 1}, {"a": 2}], id="one object a line is a list"),
        pytest.param('"down"', "application/json", "down", id="a text alone is a document"),
        pytest.param("5", "text/plain", 5, id="so is a number"),
        pytest.param("null", "application/json", None, id="so is null"),
        pytest.param(b"\xef\xbb\xbf{}", "application/json", {}, id="a byte order mark of UTF-8"),
        pytest.param('{"a": "é"}'.encode("utf-16"), "application/json", {"a": "é"}, id="UTF-16 by its mark"),
        pytest.param('{"a": "é"}'.encode("utf-32-le"), "application/json", {"a": "é"}, id="UTF-32 by its zeros"),
        pytest.param(b'{"a": "\xe9"}', "application/json; charset=ISO-8859-1", {"a": "é"}, id="a charset that is declared"),
        pytest.param('{"a": "é"}', "application/json; charset=latin1", {"a": "é"}, id="valid UTF-8 is UTF-8, whatever is declared"),
        pytest.param(b'{"a": "\xe9"}', "application/json", {"a": "\ufffd"}, id="one bad byte loses no alert"),
        pytest.param(b'{"a": "\xe9"}', "text/plain; charset=punycode", {"a": "\ufffd"}, id="an odd charset is not tried"),
        pytest.param('{"a": 1, "a": 2}', "application/json", {"a": 2}, id="the last of keys of the same name"),
        pytest.param('{"a": "x\ny"}', "application/json", {"a": "x\ny"}, id="a raw line break, as templates leave"),
        pytest.param('["\\ud800"]', "application/json", ["\ud800"], id="half a surrogate pair"),
        pytest.param("[NaN, -Infinity, 1e400]", "application/json", ["NaN", "-Infinity", "1e400"], id="no numbers are texts"),
        pytest.param("[9007199254740993, 1e2, 1.0]", "application/json", [9007199254740993, 100.0, 1.0], id="above 2^53 it is exact"),
        pytest.param(f"[{'7' * 40}]", "application/json", [int("7" * 40)], id="and above 2^64"),
        pytest.param(f"[{'7' * 5000}]", "application/json", ["7" * 5000], id="of thousands of digits it is text"),
        pytest.param("a=1&b=&a=2&a=3", FORM, {"a": ["1", "2", "3"], "b": ""}, id="a form, repeated fields as a list"),
        pytest.param("payload=%7B%22a%22%3A+%5B1%5D%7D&x=5", FORM, {"payload": {"a": [1]}, "x": "5"}, id="JSON in a field (Slack)"),
        pytest.param("data={not+json", FORM, {"data": "{not json"}, id="a field that begins like JSON"),
        pytest.param("a=%5B1%5D&a=x", FORM, {"a": [[1], "x"]}, id="repeated, the first one a list itself"),
    ],
)  # fmt: skip
def test_a_body_is_read_as(body: bytes | str, content_type: str, document: Any) -> None:
    seen = received(body, content_type)
    assert (seen.body, seen.trouble) == (document, None)


@pytest.mark.parametrize(
    ("body", "content_type", "trouble"),
    [
        pytest.param("", "application/json", "the body is empty", id="nothing"),
        pytest.param("DOWN host=a", "text/plain", "the body is not JSON: Expecting value: line 1", id="plain text"),
        pytest.param("<a/>", "text/xml", "the body is not JSON", id="XML"),
        pytest.param("[" * 50_000, "application/json", f"the body is nested deeper than {MAX_DEPTH}", id="depth 50,000"),
        pytest.param("[" * 100_000, "application/json", "the body has about 100000 lists and objects; 50000 are read", id="depth 100,000"),
        pytest.param('{"a":' * 65 + "1" + "}" * 65, "application/json", f"the body is nested deeper than {MAX_DEPTH}", id="one too deep"),
        pytest.param("[" + "1," * MAX_VALUES + "1]", "application/json", f"the body has more than {MAX_VALUES} values", id="too many values"),
        pytest.param("a&" * 1001, FORM, "the body has more than 1000 fields", id="too many fields"),
        pytest.param("data=" + "[" * 70 + "]" * 70, FORM, f"the body is nested deeper than {MAX_DEPTH}", id="a field that is too deep"),
        pytest.param("x", "multipart/form-data", "the body is not multipart: its type names no boundary", id="no boundary"),
        pytest.param("--cut\r\n\r\nx", MULTIPART, "the body is not multipart: its last boundary is missing", id="cut off"),
        pytest.param(parts(*[("", "")] * 1001), MULTIPART, "the body has more than 1000 fields", id="too many parts"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_text_and_says_why(body: str, content_type: str, trouble: str) -> None:
    seen = received(body, content_type)
    assert (seen.form, seen.body, seen.text) == ("text", None, body)
    assert (seen.trouble or "").startswith(trouble)


def test_the_bounds_themselves_are_allowed() -> None:
    assert received("[" * MAX_DEPTH + "]" * MAX_DEPTH).form == "json"
    assert received(json.dumps([1] * (MAX_VALUES - 1))).form == "json"
    assert received(json.dumps(["[{,"] * 10_000)).form == "json"


def test_parts_are_fields_and_files() -> None:
    seen = received(
        parts(
            ('Content-Disposition: form-data; name="data"', '{"heartbeat": null}'),
            ('content-disposition: form-data; name="msg"', "down\r\nagain"),
            ('Content-Disposition: form-data; name="f"; filename="a.json"\r\nContent-Type: application/json', "[1]"),
            ('Content-Disposition: form-data; name="log"; filename="a.txt"\r\nContent-Type: text/plain', "text"),
        ),
        MULTIPART,
    )  # fmt: skip
    assert seen.form == "multipart"
    assert seen.body == {
        "data": {"heartbeat": None},
        "msg": "down\r\nagain",
        "f": {"name": "a.json", "type": "application/json", "size": 3, "content": [1]},
        "log": {"name": "a.txt", "type": "text/plain", "size": 4},
    }


def test_headers_are_joined_and_the_last_parameter_counts() -> None:
    headers = (("X-Env", "a"), ("x-env", "b"), ("ce-type", "alert"))
    seen = read(Event("evt", 1e9, headers, "env=a&env=b&empty=&sp=a+b", b"{}"))
    assert seen.headers == {"x-env": "a, b", "ce-type": "alert"}
    assert seen.query == {"env": "b", "empty": "", "sp": "a b"}


def test_a_number_of_ten_million_digits_is_text() -> None:
    assert received("1" * 10_000_000).body == "1" * 10_000_000


CONTENT_TYPES = st.sampled_from(
    ["application/json", "text/plain; charset=utf-16", "", FORM, MULTIPART, "a/b;;="]
)


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet='[]{},:"\\1eE.-+nulNaI&=%é\n', max_size=60).map(str.encode)),
       CONTENT_TYPES, st.text(max_size=20))  # fmt: skip
def test_nothing_raises(body: bytes, content_type: str, query: str) -> None:
    seen = received(body, content_type, query)
    assert (seen.trouble is None) == (seen.form != "text")


@settings(max_examples=50, deadline=None)
@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
       st.text(alphabet=st.characters(codec="utf-8"))), lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet=st.characters(codec="utf-8")), inner)),
       st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))  # fmt: skip
def test_json_is_what_was_written(value: Any, encoding: str) -> None:
    seen = received(json.dumps(value, ensure_ascii=False).encode(encoding))
    assert seen.body == value
    assert not isinstance(value, float) or math.copysign(1, seen.body) == math.copysign(1, value)
