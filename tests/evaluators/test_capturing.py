"""Taking values from an answer: what there is as text, and why not."""

import pytest

from evaluators.capture import capture
from evaluators.observation import Observation
from rules.capture import Capture, compile_captures

SEEN = Observation(
    headers=[("x-id", "17")],
    body=b'{"t": "abc", "n": 7, "none": null, "o": {"a": [true]}, "long": "' + b"x" * 9000 + b'"}',
    cookies={"sid": "s1"},
)


def taken(written: dict[str, str]) -> tuple[str | None, str | None]:
    found, failure = capture(compile_captures({"it": Capture.model_validate(written)}), SEEN)
    return found.get("it"), failure.type if failure else None


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ({"json": "$.t"}, "abc"),
        ({"json": "$.n"}, "7"),
        ({"json": "$.o"}, '{"a":[true]}'),
        ({"json": "$.o.a[*]"}, "true"),
        ({"header": "X-Id"}, "17"),
        ({"cookie": "sid"}, "s1"),
        ({"matches": '"t": "([a-z]+)"'}, "abc"),
    ],
)
def test_a_value_is_taken_as_text(written: dict[str, str], value: str) -> None:
    assert taken(written) == (value, None)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ({"json": "$.gone"}, "capture.missing"),
        ({"json": "$.none"}, "capture.missing"),
        ({"header": "x-gone"}, "capture.missing"),
        ({"cookie": "gone"}, "capture.missing"),
        ({"matches": "(gone)"}, "capture.missing"),
        ({"json": "$.long"}, "capture.refused"),
    ],
)
def test_what_is_not_there_or_too_long_is_a_failure(written: dict[str, str], kind: str) -> None:
    assert taken(written) == (None, kind)


def test_a_body_that_is_no_json_has_no_values() -> None:
    takings = compile_captures({"it": Capture.model_validate({"json": "$"})})
    assert capture(takings, Observation(body=b"\xff{"))[1] is not None


MANY = b'{"n": 7, "of": [' + b'{"a": 1},' * 30_000 + b"0]}"


@pytest.mark.parametrize(("path", "value"), [("$.n", "7"), ("$..n", None)])
def test_a_value_is_not_sought_among_too_many(path: str, value: str | None) -> None:
    found, failure = capture(compile_captures({"it": Capture(json=path)}), Observation(body=MANY))
    assert found.get("it") == value
    assert (failure.type if failure else None) == (None if value else "capture.refused")


def test_a_large_pattern_is_not_sought_in_a_large_body() -> None:
    takings = compile_captures({"it": Capture(matches="((?:(?:a|b| ){0,30}){0,30}z)")})
    found, failure = capture(takings, Observation(body=b"ab " * 300_000))
    assert not found
    assert failure is not None
    assert failure.type == "capture.refused"
