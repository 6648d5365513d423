"""Durations as operators write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.duration import format_duration, parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("800ms", 0.8),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        (" 5m ", 300.0),
        (90, 90.0),
        (0.25, 0.25),
        (0, 0.0),
    ],
)
def test_a_duration_is_seconds(text: object, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 m",
        "m",
        "-5s",
        "5M",
        "1e3s",
        "5s5",
        "soon",
        True,
        None,
        [],
        -1,
        math.inf,
        math.nan,
        "9" * 400 + "s",
    ],
    ids=lambda text: repr(text)[:12],
)
def test_what_is_no_duration_is_refused_in_plain_words(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (90.0, "90s"),
        (0.8, "800ms"),
        (60.0, "1m"),
        (7200.0, "2h"),
        (86400.0, "1d"),
        (0.0, "0s"),
        (1.5, "1.5s"),
        (0.0005, "0.5ms"),
    ],
)
def test_the_text_is_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 1e15, allow_nan=False))
def test_every_text_reads_back_to_exactly_the_same_seconds(seconds: float) -> None:
    assert parse_duration_s(format_duration(seconds)) == seconds
