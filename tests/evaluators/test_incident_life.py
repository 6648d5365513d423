"""The life of an incident, as pure rules: what may follow what, merging, entering what is over, and how much it is felt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.lifecycle import (
    ENDED,
    OPEN,
    Dated,
    Life,
    backfill_mistakes,
    impact_of,
    merge_refusal,
    merged,
    refusal,
    step_of,
)
from evaluators.model import Impact, Severity
from evaluators.public import PRECEDENCE

DAY_S = 86400.0
OVER = Life("resolved", ended_at=1000.0)


@pytest.mark.parametrize(
    ("severity", "statuses", "given_", "impact"),
    [
        pytest.param("critical", [], None, "major", id="critical is major"),
        pytest.param("warning", [], None, "minor", id="warning is minor"),
        pytest.param("critical", [], "none", "none", id="a person has the last word"),
        pytest.param(None, ["operational"], None, "none", id="nothing is affected"),
        pytest.param(None, ["degraded_performance", "major_outage"], None, "critical", id="the worst counts"),
    ],
)
def test_how_much_it_is_felt(
    severity: Severity | None, statuses: list[str], given_: Impact | None, impact: Impact
) -> None:
    assert impact_of(severity, statuses, given_) == impact


@pytest.mark.parametrize("status", [*OPEN, "resolved", None])
@pytest.mark.parametrize("was", OPEN)
def test_while_it_lasts_any_status_may_follow(was: str, status: str | None) -> None:
    assert refusal(Life(was), status, 5.0, 0.0) is None
    assert step_of(Life(was), status) == ("resolve" if status == "resolved" else "update")


@pytest.mark.parametrize(
    ("life", "status", "at", "why"),
    [
        pytest.param(OVER, "monitoring", 1000.0 + DAY_S, None, id="within its time it is opened again"),
        pytest.param(OVER, "monitoring", 1000.1 + 7 * DAY_S, "ended more than 7d ago", id="and not later"),
        pytest.param(OVER, None, 1000.0 + 99 * DAY_S, None, id="a last word is always allowed"),
        pytest.param(
            OVER, "resolved", 1001.0, "is resolved already", id="what is resolved is not resolved again"
        ),
        pytest.param(
            Life("resolved", 1000.0, is_merged=True), None, 1001.0, "was merged", id="merged: say it there"
        ),
        pytest.param(
            Life("resolved", 1000.0, was_over=True),
            "identified",
            1001.0,
            "after it was over",
            id="what was entered is over",
        ),
    ],
)
def test_what_is_over_is_opened_again_only_for_so_long(
    life: Life, status: str | None, at: float, why: str | None
) -> None:
    said = refusal(life, status, at, 7 * DAY_S)
    assert (said is None) if why is None else (said is not None and why in said)
    assert step_of(life, status) == "update"


@pytest.mark.parametrize(
    ("life", "into", "is_same", "is_same_page", "why"),
    [
        pytest.param(Life("monitoring"), Life("identified"), False, True, None, id="two that last"),
        pytest.param(OVER, Life("identified"), False, True, "it is over", id="one is over"),
        pytest.param(Life("identified"), OVER, False, True, "the other one is over", id="the other is"),
        pytest.param(
            Life("identified"), Life("identified"), True, True, "into itself", id="one and the same"
        ),
        pytest.param(
            Life("identified"), Life("identified"), False, False, "different pages", id="on two pages"
        ),
    ],
)
def test_two_that_last_on_one_page_are_merged(
    life: Life, into: Life, is_same: bool, is_same_page: bool, why: str | None
) -> None:
    said = merge_refusal(life, into, is_same=is_same, is_same_page=is_same_page)
    assert (said is None) if why is None else (said is not None and why in said)


_SAID = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(sorted(PRECEDENCE)))


@given(_SAID, _SAID)
def test_merged_is_the_worse_of_each_whichever_way_round(one: dict[str, str], other: dict[str, str]) -> None:
    both = merged(one, other)
    assert both == merged(other, one)
    assert both.keys() == one.keys() | other.keys()
    for key, status in both.items():
        said = [of[key] for of in (one, other) if key in of]
        assert status in said
        assert all(PRECEDENCE[status] >= PRECEDENCE[each] for each in said)


@pytest.mark.parametrize(
    ("began", "acknowledged", "resolved", "said", "where"),
    [
        pytest.param(1.0, 2.0, 9.0, [(1.0, "identified"), (9.0, "resolved")], [], id="in order"),
        pytest.param(1.0, None, None, [(1.0, "identified")], [], id="it still lasts"),
        pytest.param(
            200.0, None, None, [(200.0, "identified")], ["/started_at", "/updates/0/at"], id="to be"
        ),
        pytest.param(5.0, 4.0, 9.0, [(9.0, "resolved")], ["/acknowledged_at"], id="acknowledged before"),
        pytest.param(5.0, None, 4.0, [(5.0, "resolved")], ["/resolved_at"] * 2, id="resolved before"),
        pytest.param(5.0, None, 9.0, [(4.0, "resolved")], ["/updates/0/at"], id="said before it began"),
        pytest.param(
            1.0, None, 9.0, [(8.0, "identified"), (7.0, "resolved")], ["/updates/1/at"], id="said backwards"
        ),
        pytest.param(1.0, None, 9.0, [(8.0, "identified")], ["/resolved_at"], id="nobody said that it ended"),
        pytest.param(1.0, None, None, [(8.0, "resolved")], ["/resolved_at"], id="nobody says when it ended"),
        pytest.param(
            1.0, None, 9.0, [(2.0, "resolved"), (8.0, "resolved")], ["/updates/0/status"], id="ended twice"
        ),
    ],
)
def test_what_is_entered_after_the_fact_was_and_is_in_order(
    began: float,
    acknowledged: float | None,
    resolved: float | None,
    said: list[tuple[float, str]],
    where: list[str],
) -> None:
    updates = [Dated(at, status, "x") for at, status in said]
    assert [place for place, _ in backfill_mistakes(began, acknowledged, resolved, updates, 100.0)] == where


@given(st.sampled_from([*OPEN, *ENDED]), st.sampled_from([None, *OPEN, "resolved"]))
def test_every_status_has_an_answer(was: str, status: str | None) -> None:
    life = Life(was, 0.0 if was in ENDED else None)
    is_repeated = was in ENDED and status == "resolved"
    assert (refusal(life, status, 1.0, 5.0) is not None) == is_repeated
    assert (step_of(life, status) == "resolve") == (status == "resolved" and was not in ENDED)
