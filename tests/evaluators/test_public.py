"""What the public sees of a component, as tables and pictures."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.public import PRECEDENCE, Bar, Span, bars, component_status, overall_status
from rules.component import ComponentStatus

DAY_S = 86_400.0
RANK = {"operational": 0, "degraded_performance": 2, "major_outage": 4}
DOWN = frozenset({"major_outage"})


@pytest.mark.parametrize(
    ("manual", "impacts", "status"),
    [
        pytest.param(None, [], "operational", id="nothing feeds it"),
        pytest.param(None, ["degraded_performance", "major_outage"], "major_outage", id="the worst wins"),
        pytest.param(None, ["operational", "partial_outage"], "partial_outage", id="an open incident counts"),
        pytest.param(
            None,
            ["under_maintenance", "degraded_performance"],
            "degraded_performance",
            id="degraded above maintenance",
        ),
        pytest.param(None, ["under_maintenance"], "under_maintenance", id="maintenance above operational"),
        pytest.param(
            "operational", ["major_outage"], "operational", id="a manual status wins, even a better one"
        ),
        pytest.param("under_maintenance", [], "under_maintenance", id="a manual status stands alone"),
    ],
)
def test_a_component_shows(manual: ComponentStatus | None, impacts: Sequence[str], status: str) -> None:
    assert component_status(manual, impacts) == status


@given(st.lists(st.sampled_from(sorted(PRECEDENCE)), min_size=1))
def test_a_page_is_as_bad_as_its_worst_component(statuses: list[str]) -> None:
    assert PRECEDENCE[overall_status(statuses)] == max(PRECEDENCE[status] for status in statuses)


def test_a_page_without_components_is_operational() -> None:
    assert overall_status([]) == "operational"


def drawn(spans: Sequence[Span], count: int, now: float) -> tuple[Bar, ...]:
    return bars(spans, start=0.0, step_s=DAY_S, count=count, now=now, down=DOWN, rank=RANK)


def test_a_bar_has_its_worst_value_and_the_share_of_time_that_was_up() -> None:
    spans = [Span(0.0, DAY_S / 4, "major_outage"), Span(DAY_S / 4, None, "operational")]
    assert drawn(spans, 2, 2 * DAY_S) == (Bar(0.0, "major_outage", 0.75), Bar(DAY_S, "operational", 1.0))


def test_a_degraded_bar_is_not_down() -> None:
    assert drawn([Span(0.0, None, "degraded_performance")], 1, DAY_S) == (
        Bar(0.0, "degraded_performance", 1.0),
    )


def test_what_is_unknown_is_neither_up_nor_down() -> None:
    spans = [Span(0.0, DAY_S / 2, "unknown"), Span(DAY_S / 2, DAY_S, "major_outage")]
    assert drawn(spans, 1, DAY_S) == (Bar(0.0, "major_outage", 0.0),)


def test_a_bar_of_which_nothing_is_known_is_empty() -> None:
    assert drawn([Span(0.0, None, "unknown")], 1, DAY_S) == (Bar(0.0, None, None),)


def test_a_bar_of_the_future_is_empty() -> None:
    assert drawn([Span(0.0, None, "operational")], 2, DAY_S / 2)[1] == Bar(DAY_S, None, None)


def test_a_span_that_is_planned_counts_only_until_now() -> None:
    planned = [Span(0.0, DAY_S / 4, "major_outage"), Span(DAY_S / 4, 2 * DAY_S, "operational")]
    assert [bar.up_ratio for bar in drawn(planned, 2, DAY_S / 2)] == [0.5, None]


def test_a_span_over_several_bars_counts_in_each() -> None:
    assert [
        bar.up_ratio
        for bar in drawn(
            [Span(0.0, 2.5 * DAY_S, "major_outage"), Span(2.5 * DAY_S, None, "operational")], 4, 4 * DAY_S
        )
    ] == [0.0, 0.0, 0.5, 1.0]


def test_a_span_that_only_touches_a_bar_is_not_in_it() -> None:
    assert (
        drawn([Span(-DAY_S, 0.0, "major_outage"), Span(0.0, None, "operational")], 1, DAY_S)[0].value
        == "operational"
    )


@given(
    st.lists(
        st.tuples(st.floats(1, DAY_S), st.sampled_from(["operational", "major_outage", "unknown"])),
        max_size=20,
    ),
    st.floats(0, 5 * DAY_S),
)
def test_a_ratio_is_a_ratio(pieces: list[tuple[float, str]], now: float) -> None:
    spans, at = [], 0.0
    for length_s, value in pieces:
        spans.append(Span(at, at + length_s, value))
        at += length_s
    for bar in drawn(spans, 5, now):
        assert (bar.up_ratio is None) == (bar.value is None)
        assert bar.up_ratio is None or 0 <= bar.up_ratio <= 1
