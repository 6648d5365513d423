"""A step is never bolder than the signals it rests on, and as bold as what would be enough without them."""

from collections.abc import Sequence

import pytest

from evaluators.facts import (
    Effect,
    EpisodeClosed,
    Fact,
    MemberChanged,
    MemberSaid,
    ResultSeen,
    SignalChanged,
    StepProposed,
)
from evaluators.model import Kind, Result, Severity, Stage, Timings, Verdict
from evaluators.modes import Modes, carried_by, least
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.quorum import decide, newborn
from evaluators.review import Action, Approve, Status, propose
from rules.beat import BEAT
from rules.group import Group
from rules.incident import IncidentPolicy

DRAFT = Modes("draft", "draft", "draft")
MUTE = Modes("off", "off", "off")
EXTERNAL = compile_policy(BEAT.validate_python({"type": "external", "slug": "provider"}), Bound())
GROUP = compile_policy(Group(slug="all"), Bound())
PROBED = compile_policy(
    BEAT.validate_python(
        {"type": "tcp", "slug": "db", "host": "db", "port": 5432, "quorum": {"confirm": "off"}}
    ),
    Bound(regions=("eu",)),
)


def signal(at: float, name: str, severity: Severity | None, modes: Modes | None = None) -> SignalChanged:
    return SignalChanged(at, name, severity, modes)


def ran(at: float, verdict: Verdict, seq: int) -> ResultSeen:
    result = Result(f"run {seq}", "db", "eu", Kind.SCHEDULED, verdict, at, at, seq, 1, Timings())
    return ResultSeen(at, result, "boot", at)


def folded(policy: Policy, facts: Sequence[Fact]) -> list[Effect]:
    state, effects = newborn(policy, 0.0), list[Effect]()
    for fact in facts:
        state, more = decide(policy, state, fact)
        effects += more
    return effects


def steps(policy: Policy, facts: Sequence[Fact]) -> list[tuple[str, str]]:
    return [(e.step, e.most) for e in folded(policy, facts) if isinstance(e, StepProposed)]


def test_what_rests_on_a_careful_signal_is_a_draft_to_its_end() -> None:
    told = steps(
        EXTERNAL,
        [signal(1, "a", "warning", DRAFT), signal(2, "a", "critical", DRAFT), signal(3, "a", None)],
    )
    assert told == [("open", "draft"), ("update", "draft"), ("resolve", "draft")]


def test_a_signal_that_may_say_nothing_proposes_nothing_to_customers() -> None:
    assert steps(EXTERNAL, [signal(1, "a", "critical", MUTE), signal(2, "a", None)]) == [
        ("open", "off"),
        ("resolve", "off"),
    ]


def test_of_two_signals_the_bolder_one_is_enough() -> None:
    told = steps(EXTERNAL, [signal(1, "a", "critical", DRAFT), signal(2, "b", "critical")])
    assert told == [("open", "draft"), ("open", "auto")]


def test_a_bold_warning_does_not_carry_a_critical_of_a_careful_signal() -> None:
    told = steps(EXTERNAL, [signal(1, "b", "warning"), signal(2, "a", "critical", DRAFT)])
    assert told == [("open", "auto"), ("update", "draft")]


def test_votes_that_confirm_a_careful_signal_make_the_opening_bold() -> None:
    bad = [ran(10 + n, Verdict.CRITICAL, n) for n in (1, 2)]
    told = steps(PROBED, [ran(5, Verdict.OK, 0), signal(6, "a", "critical", DRAFT), *bad])
    assert told == [("open", "draft"), ("open", "auto")]


def test_votes_need_no_signal_and_the_end_rests_on_what_held_it_up_alone() -> None:
    bad = [ran(10 + n, Verdict.CRITICAL, n) for n in (1, 2)]
    good = [ran(20 + n, Verdict.OK, n) for n in (3, 4)]
    first: list[Fact] = [ran(5, Verdict.OK, 0), *bad, signal(15, "a", "critical", DRAFT)]
    assert steps(PROBED, [*first, signal(16, "a", None), *good]) == [("open", "auto"), ("resolve", "auto")]
    assert steps(PROBED, [*first, *good, signal(30, "a", None)]) == [("open", "auto"), ("resolve", "draft")]


def test_a_group_is_no_bolder_than_the_members_it_rests_on() -> None:
    ok = [MemberChanged(1, name, Stage.OK) for name in ("a", "b")]
    careful = MemberChanged(2, "a", Stage.CRITICAL, modes=DRAFT)
    assert steps(GROUP, [*ok, careful]) == [("open", "draft")]
    assert steps(GROUP, [*ok, careful, MemberChanged(3, "b", Stage.CRITICAL)]) == [
        ("open", "draft"),
        ("open", "auto"),
    ]


def test_a_signal_on_a_group_is_one_careful_member() -> None:
    told = steps(GROUP, [MemberChanged(1, "a", Stage.OK), signal(2, "s", "critical", DRAFT)])
    assert told == [("open", "draft")]


def test_a_member_tells_its_group_what_its_badness_rests_on() -> None:
    policy = compile_policy(BEAT.validate_python({"type": "external", "slug": "one"}), Bound(group="g"))
    effects = folded(
        policy, [signal(1, "b", None), signal(2, "a", "critical", DRAFT), signal(3, "b", "critical")]
    )
    said = [(e.stage, e.modes) for e in effects if isinstance(e, MemberSaid)]
    assert said == [(Stage.OK, None), (Stage.CRITICAL, DRAFT), (Stage.CRITICAL, None)]


def test_a_signal_that_is_taken_away_is_no_recovery() -> None:
    effects = folded(EXTERNAL, [signal(1, "a", "critical"), SignalChanged(2, "a", None, careful=True)])
    assert [e.cause for e in effects if isinstance(e, EpisodeClosed)] == ["left"]
    assert [e.step for e in effects if isinstance(e, StepProposed)] == ["open"]


def test_a_pending_draft_is_approved_once_what_it_rests_on_is_firm() -> None:
    pending = Action("1", "open", Status.PENDING, "critical")
    auto = IncidentPolicy(open="auto")
    assert propose([pending], auto, "open", "critical", most="auto") == (Approve("1"),)
    assert propose([pending], auto, "open", "critical", most="draft") == ()
    assert propose([pending], IncidentPolicy(), "open", "critical", most="auto") == ()


def test_what_confirms_a_reopening_may_let_it_be_said() -> None:
    policy = compile_policy(
        BEAT.validate_python({"type": "external", "slug": "p", "episodes": {"reopen_window": "1h"}}), Bound()
    )
    said = steps(
        policy,
        [
            signal(1, "a", "critical"),
            signal(2, "a", None),
            signal(3, "a", "critical", DRAFT),
            signal(4, "b", "critical"),
        ],
    )
    assert said[-3:] == [("update", "draft"), ("open", "auto"), ("update", "auto")]


@pytest.mark.parametrize(
    ("voters", "needed", "said"),
    [
        pytest.param("aad", 2, "auto", id="two bold ones are enough"),
        pytest.param("add", 2, "draft", id="one bold one is not"),
        pytest.param("aao", 3, "off", id="what needs all is as bold as the most careful"),
        pytest.param("ad", 3, "draft", id="held up by too few it is as bold as the most careful of them"),
        pytest.param("", 1, "auto", id="nobody forbids"),
    ],
)
def test_as_bold_as_the_boldest_that_suffice(voters: str, needed: int, said: str) -> None:
    modes = {"a": Modes(), "d": DRAFT, "o": MUTE}
    given = [(str(place), modes[voter]) for place, voter in enumerate(voters)]
    assert carried_by(given, lambda some: len(some) >= needed).open == said


def test_the_least_of_modes() -> None:
    assert least("auto", "draft") == "draft"
    assert least("draft", "off", "auto") == "off"
