"""Counts of regions, and what they resolve to. What votes make of them is tests/evaluators."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evaluators.levels import compile_need
from evaluators.policy import Bound, compile_policy
from rules.beat import BEAT
from rules.quorum import Level, Levels, Quorum, resolve_count

counts = st.one_of(
    st.integers(1, 12),
    st.sampled_from(["majority", "all", "any"]),
    st.integers(1, 100).map(lambda share: f"{share}%"),
)


@pytest.mark.parametrize(
    ("count", "of", "regions"),
    [
        pytest.param("majority", 1, 1, id="the majority of one is one"),
        pytest.param("majority", 2, 2, id="of two is two"),
        pytest.param("majority", 3, 2, id="of three is two"),
        pytest.param("majority", 4, 3, id="of four is three"),
        pytest.param("majority", 5, 3, id="of five is three"),
        pytest.param("all", 5, 5, id="all"),
        pytest.param("any", 5, 1, id="any"),
        pytest.param(2, 5, 2, id="a number"),
        pytest.param(7, 5, 5, id="a number is never more than there are"),
        pytest.param("60%", 5, 3, id="a share that comes out even is not rounded up"),
        pytest.param("60%", 3, 2, id="a share is rounded up"),
        pytest.param("1%", 3, 1, id="a small share is one"),
        pytest.param("100%", 3, 3, id="the whole"),
        pytest.param("33.4%", 3, 2, id="a share with a fraction"),
        pytest.param("all", 0, 1, id="without regions it is still one"),
    ],
)
def test_a_count_is_a_number_of_regions(count: int | str, of: int, regions: int) -> None:
    assert resolve_count(count, of) == regions


@given(counts, st.integers(1, 12))
def test_a_count_is_always_possible(count: int | str, of: int) -> None:
    assert 1 <= resolve_count(count, of) <= of


@given(counts, st.one_of(st.just("auto"), counts), st.integers(1, 12))
def test_close_never_lets_a_level_end_while_it_could_still_open(opens: Any, closes: Any, of: int) -> None:
    level = compile_need(
        Levels(critical=Level(open=opens, close=closes)), [str(n) for n in range(of)]
    ).critical
    opened, closed = level.open, level.close
    assert opened + closed > of
    if closes == "auto":
        assert closed == of - opened + 1, "and ends it as soon as it could not"


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "0%", "101%", "60 %", "60%\n", "most", None, []])
def test_what_is_no_count_is_refused(count: object) -> None:
    with pytest.raises(ValidationError, match="is not a number of regions"):
        Quorum.model_validate({"min_voters": count} if count is not None else {"critical": None})


@pytest.mark.parametrize(
    ("written", "means"),
    [
        pytest.param("all", Level(open="all"), id="a count alone opens"),
        pytest.param({"open": 2, "close": 3}, Level(open=2, close=3), id="open and close"),
        pytest.param({"close": "all"}, Level(close="all"), id="close alone"),
    ],
)
def test_a_level_may_be_written_short(written: object, means: Level) -> None:
    assert Quorum.model_validate({"critical": written}).critical == means


@pytest.mark.parametrize("off", ["off", False, None])
def test_confirm_can_be_turned_off(off: object) -> None:
    assert Quorum.model_validate({"confirm": off}).confirm is None


@pytest.mark.parametrize(
    ("quorum", "regions", "said"),
    [
        pytest.param(
            {"critical": {"open": 1, "close": 2}}, 3, "open 1 \\+ close 2", id="an overlap of numbers"
        ),
        pytest.param(
            {"warning": {"open": "any", "close": "majority"}}, 3, "quorum.warning", id="an overlap of words"
        ),
        pytest.param({"critical": 4}, 3, "runs in 3 region", id="more than there are"),
        pytest.param(
            {"critical": {"close": 4}}, 3, "quorum.critical.close is 4", id="closing with more than there are"
        ),
        pytest.param({"min_voters": 4}, 3, "min_voters", id="voters that are not there"),
    ],
)
def test_what_could_open_and_close_on_the_same_votes_is_refused(
    quorum: dict[str, Any], regions: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Quorum.model_validate(quorum).refuse_overlap(regions)


@pytest.mark.parametrize(
    "quorum", [{}, {"critical": {"open": 2, "close": 2}}, {"critical": {"open": "any", "close": "all"}}]
)
def test_what_cannot_is_accepted(quorum: dict[str, Any]) -> None:
    Quorum.model_validate(quorum).refuse_overlap(3)


def test_the_defaults_are_those_of_the_design() -> None:
    beat = BEAT.validate_python({"slug": "b", "type": "http", "url": "http://h/"})
    policy = compile_policy(beat, Bound(regions=("a", "b", "c")))
    assert (policy.need.critical.open, policy.need.critical.close, policy.open_runs, policy.close_runs) == (
        2,
        2,
        2,
        2,
    )
    assert (policy.need.min_voters, policy.max_age_s, policy.need.holds) == (2, 2 * 60 + 20.5, False)
    assert policy.confirm is not None
    assert (policy.confirm.runs, policy.confirm.spacing_s, policy.confirm.wait_s) == (2, 1.0, 5.0)


def test_a_beat_that_names_its_regions_is_counted_over_those() -> None:
    beat = BEAT.validate_python({"slug": "b", "type": "http", "url": "http://h/", "regions": ["b"]})
    policy = compile_policy(beat, Bound(regions=("a", "b", "c")))
    assert (policy.regions, policy.need.critical.open, policy.need.critical.close) == (("b",), 1, 1)
