"""Laws of episodes over every short sequence: of one owner, of a group and its members, of a child and what it depends on."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators import facts
from evaluators.model import Severity, Stage
from evaluators.quorum import decide, next_deadline
from tests.evaluators.timeline import Timeline

SEVERITIES: tuple[Severity | None, ...] = (None, "warning", "critical")
SEVERITY = {".": None, "w": "warning", "x": "critical"}
CALM = {"flapping": {"changes": 3, "within": "10m", "quiet": "2m"}, "better_after": "1m"}
EPISODES: list[dict[str, Any]] = [
    {},
    CALM,
    CALM | {"resolve_delay": "2m", "reopen_window": "4m", "worse_after": "1m"},
    {"flapping": "off", "reopen_window": "3m", "inactivity": "2m"},
]
G: dict[str, Any] = {"type": "group"}


def expect_laws(timeline: Timeline) -> None:
    """What holds of everything that was ever said."""
    is_open = dict.fromkeys(timeline.states, False)
    flaps, number = dict(is_open), dict.fromkeys(timeline.states, 0)
    for told in timeline.log:
        who, effect, state = told.who, told.effect, told.state
        if isinstance(effect, facts.EpisodeOpened):
            assert not is_open[who]
            assert effect.number == number[who] + (not effect.reopened)
            assert not state.suppressed_by
            assert state.round is None
            assert not state.group
            assert state.stage in (Stage.WARNING, Stage.CRITICAL)
            is_open[who], number[who] = True, effect.number
        elif isinstance(effect, facts.EpisodeClosed):
            assert is_open[who]
            assert effect.number == number[who]
            if effect.cause == "recovered":
                assert state.stage is Stage.OK
            is_open[who] = flaps[who] = False
        elif isinstance(effect, facts.FlappingStarted):
            assert is_open[who]
            assert not flaps[who]
            flaps[who] = True
        elif isinstance(effect, facts.FlappingEnded):
            assert flaps[who]
            assert effect.stage is state.stage
            flaps[who] = False
        elif isinstance(effect, facts.SeverityChanged):
            assert is_open[who]
            assert not flaps[who]
            assert effect.was != effect.severity == state.severity
        elif isinstance(effect, facts.StepProposed) and effect.step == "resolve":
            assert not is_open[who]
    for name, state in timeline.states.items():
        assert (state.severity is not None) is is_open[name]
        assert state.flapping is flaps[name]
        due = next_deadline(timeline.policies[name], state)
        assert due is None or due > state.at


def severities(timeline: Timeline, names: Iterable[str]) -> list[str | None]:
    return [timeline.states[name].severity for name in names]


@pytest.mark.parametrize("episodes", EPISODES, ids=str)
@pytest.mark.parametrize("last", ".wx")
def test_whatever_happened_what_lasts_is_what_is_said(episodes: dict[str, Any], last: str) -> None:
    for letters in itertools.product(".wx ", repeat=4):
        timeline = Timeline({"a": {"episodes": episodes}})
        timeline.play({"a": "".join(letters) + last * 6})
        expect_laws(timeline)
        assert severities(timeline, "a") == [SEVERITY[last]]


@pytest.mark.parametrize("episodes", EPISODES[1:3], ids=str)
def test_windows_and_pauses_lose_nothing(episodes: dict[str, Any]) -> None:
    for letters in itertools.product(".x", repeat=5):
        for place, beside in itertools.product(range(4), ("paused", "maintenance")):
            timeline = Timeline({"a": {"episodes": episodes}})
            timeline.play({f"{beside} a": " " * place + "##", "a": "".join(letters) + "xxxxx......"})
            expect_laws(timeline)
            assert severities(timeline, "a") == [None]
            assert any(isinstance(told.effect, facts.EpisodeOpened) for told in timeline.log)


@pytest.mark.parametrize("episodes", [EPISODES[1], EPISODES[2]], ids=str)
def test_members_come_and_go_and_their_group_says_what_is_so(episodes: dict[str, Any]) -> None:
    group = {**G, "late_members": "update", "episodes": episodes}
    for columns in itertools.product(("..g", "x.g", ".xg", "xxg", "x.-", "x.#"), repeat=3):
        a, b, beside = ("".join(row) for row in zip(*columns, strict=True))
        timeline = Timeline({"g": group, "a": {"group": "g"}, "b": {"group": "g"}})
        timeline.play(
            {
                "in a": beside.replace("#", "g") + "g" * 16,
                "paused a": beside.replace("g", " ").replace("-", " "),
                "a": a + "......" + "xxxx" + "......",
                "b": b + "......" + "...." + "......",
            }
        )
        expect_laws(timeline)
        assert severities(timeline, "gab") == [None] * 3
        assert timeline.states["g"].members.keys() == {"a", "b"}
        last = [told.effect for told in timeline.log if told.who == "g"]
        assert any(isinstance(e, facts.EpisodeOpened) and e.at >= 60.0 * 10 for e in last)


@pytest.mark.parametrize("confirm", ["off", {}], ids=str)
def test_a_parent_holds_back_only_what_opens_and_nothing_for_ever(confirm: Any) -> None:
    quorum = {"quorum": {"confirm": confirm}}
    for columns in itertools.product(("..", "x.", ".x", "xx", "x ", " x"), repeat=3):
        db, a = ("".join(row) for row in zip(*columns, strict=True))
        timeline = Timeline({"db": quorum, "a": {"depends_on": ["db"], **quorum}})
        timeline.play({"db": db + "......", "a": a + "xxx..."})
        expect_laws(timeline)
        assert severities(timeline, ("db", "a")) == [None, None]
        opened = [told for told in timeline.log if isinstance(told.effect, facts.EpisodeOpened)]
        assert any(told.who == "a" for told in opened)
        for told in opened:
            if told.who == "a":
                assert told.state.parents["db"].stage is not Stage.CRITICAL


ROWS = st.text(".wx e", min_size=8, max_size=14)
BESIDE = st.text("# ", max_size=10)


@settings(max_examples=40, deadline=None)
@given(ROWS, ROWS, ROWS, BESIDE, BESIDE, st.text("gh-", max_size=10), st.text("wx ", max_size=8))
def test_all_of_it_at_once_ends_where_it_is(
    db: str, a: str, b: str, paused: str, window: str, owner: str, reported: str
) -> None:
    specs = {
        "db": {"quorum": {"confirm": {}}},
        "g": {**G, "depends_on": ["db"], "late_members": "update", "episodes": EPISODES[2]},
        "h": G,
        "a": {"group": "g", "episodes": CALM},
        "b": {"group": "g"},
    }
    timeline = Timeline(specs)
    timeline.play(
        {
            "paused a": paused,
            "maintenance b": window,
            "in a": owner + "g" * (34 - len(owner)),
            "reported g": reported,
            "db": db.ljust(14, ".") + "." * 20,
            "a": a.ljust(14, ".") + "." * 10 + "xxxx......",
            "b": b.ljust(14, ".") + "." * 20,
        }
    )
    expect_laws(timeline)
    assert severities(timeline, timeline.states) == [None] * 5
    assert any(
        told.who == "g" and isinstance(told.effect, facts.EpisodeOpened) and told.effect.at > 60.0 * 24
        for told in timeline.log
    )


@st.composite
def any_fact(draw: st.DrawFn) -> facts.Fact:
    at = draw(st.floats(0, 2000, allow_nan=False))
    stage = draw(st.sampled_from(Stage))
    name = draw(st.sampled_from(["db", "b", "nobody"]))
    flag, other = draw(st.booleans()), draw(st.booleans())
    severity = draw(st.sampled_from(SEVERITIES))
    found: list[facts.Fact] = [
        facts.Tick(at),
        facts.Returned(at),
        facts.PolicyChanged(at, flag),
        facts.RelationsChanged(at),
        facts.SignalChanged(at, name, severity),
        facts.Suspended(at, flag),
        facts.Continued(at),
        facts.MemberChanged(at, name, stage, flag, other, draw(st.booleans())),
        facts.ParentChanged(at, name, stage, flag),
        facts.Asked(at, name, flag),
    ]
    return draw(st.sampled_from(found))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["g", "a", "b", "db"]), st.lists(any_fact(), max_size=25))
def test_whoever_hears_whatever_whenever_has_an_answer(who: str, heard: list[facts.Fact]) -> None:
    timeline = Timeline(
        {
            "db": {"quorum": {"confirm": {}}},
            "g": {**G, "depends_on": ["db"], "episodes": CALM},
            "a": {"depends_on": ["db"], "episodes": EPISODES[3]},
            "b": {"group": "g"},
        }
    )
    policy, state = timeline.policies[who], timeline.states[who]
    for fact in heard:
        state, _ = decide(policy, state, fact)
        if (due := next_deadline(policy, state)) is not None:
            after = next_deadline(policy, decide(policy, state, facts.Tick(due))[0])
            assert after is None or after > due
