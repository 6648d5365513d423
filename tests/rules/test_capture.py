"""Captures: one source each, and places that something before them fills."""

import pytest
from pydantic import ValidationError

from rules.capture import Capture, compile_captures, expect_captured, fill, places


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({}, "exactly one of json, header, cookie, matches; this one has none"),
        ({"json": "$.a", "header": "x"}, "this one has json, header"),
        ({"json": "a.b"}, "is not a JSONPath"),
        ({"matches": "id=.*"}, "needs exactly one group"),
        ({"matches": "(a)(b)"}, "needs exactly one group"),
        ({"matches": "(?=a)"}, "is not an RE2 regular expression"),
    ],
)
def test_a_wrong_capture_is_refused(written: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("(", r"\(")):
        Capture.model_validate(written)


def test_a_capture_is_secret_by_its_name_unless_it_says_otherwise() -> None:
    written = {"token": {"json": "$.t"}, "id": {"header": "X-Id"}, "pin": {"cookie": "p", "secret": True}}
    takings = compile_captures({name: Capture.model_validate(one) for name, one in written.items()})
    assert [(taking.name, taking.is_secret) for taking in takings] == [
        ("token", True),
        ("id", False),
        ("pin", True),
    ]


def test_places_are_found_at_any_depth_and_filled_once() -> None:
    assert list(places({"a": ["${capture:x}", {"b": "${capture:y} ${env:Z}"}]})) == ["x", "y"]
    assert fill("<${capture:x}>", {"x": "${capture:x}"}) == "<${capture:x}>"


def test_a_place_that_nothing_fills_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\$\{capture:b\} is captured by nothing before it; there are: a"):
        expect_captured(["a", "b"], ["a"])
