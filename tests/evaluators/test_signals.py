"""Signals beside votes: the stage is the worst of both, in one episode. Votes alone are in test_quorum.py."""

from itertools import product
from typing import Any

import pytest

from evaluators.facts import (
    Continued,
    Effect,
    EpisodeClosed,
    EpisodeFrozen,
    EpisodeOpened,
    Fact,
    PolicyChanged,
    ResultSeen,
    SignalChanged,
    StepProposed,
    Suspended,
    Tick,
)
from evaluators.heartbeat import State as HeartbeatState
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.quorum import MOST_SIGNALS, decide, next_deadline
from evaluators.state import State
from rules.beat import BEAT

RANK = {Stage.OK: 0, Stage.UNKNOWN: 1, Stage.WARNING: 2, Stage.CRITICAL: 3}
EXTERNAL = compile_policy(BEAT.validate_python({"slug": "b", "type": "external"}), Bound(regions=("eu",)))
PROBED = compile_policy(
    BEAT.validate_python(
        {
            "slug": "b",
            "type": "tcp",
            "host": "h",
            "port": 1,
            "quorum": {"confirm": "off", "consecutive": {"open": 1, "close": 1}},
        }
    ),
    Bound(regions=("eu",)),
)
WORDS = {
    ".": Verdict.OK,
    "w": Verdict.WARNING,
    "x": Verdict.CRITICAL,
}


def fact_of(word: str, at: float) -> Fact:
    """`x` is a critical vote, `ax` a critical signal of fingerprint a, `a.` its end; then pause and resume."""
    if word == "pause":
        return Suspended(at)
    if word == "resume":
        return Continued(at)
    if len(word) == 2:
        severity: Any = {"x": "critical", "w": "warning", ".": None}[word[1]]
        return SignalChanged(at, f"report\x1f{word[0]}", severity)
    run = Result(f"run{at}", "b", "eu", Kind.SCHEDULED, WORDS[word], at, at, int(at), 1, Timings())
    return ResultSeen(at, run, "boot", at)


def walk(policy: Policy, words: str, step_s: float = 10.0) -> tuple[State, list[Effect]]:
    state, made = decide(policy, State(), PolicyChanged(1.0, measures_anew=False))
    effects = list(made)
    for n, word in enumerate(words.split(), start=1):
        fact = fact_of(word, 1.0 + n * step_s)
        while (due := next_deadline(policy, state)) is not None and due <= fact.at:
            state, made = decide(policy, state, Tick(due))
            effects += made
        state, made = decide(policy, state, fact)
        effects += made
    return state, effects


@pytest.mark.parametrize(
    ("policy", "words", "stage", "episodes"),
    [
        pytest.param(EXTERNAL, "", "ok", "", id="an external beat is ok at first"),
        pytest.param(EXTERNAL, "ax", "critical", "O", id="a signal opens"),
        pytest.param(EXTERNAL, "ax a.", "ok", "OC", id="and ends"),
        pytest.param(EXTERNAL, "ax b.", "critical", "O", id="only its own fingerprint ends it"),
        pytest.param(EXTERNAL, "ax bw a.", "warning", "O", id="the worst of those that are open"),
        pytest.param(EXTERNAL, "aw ax aw a.", "ok", "OC", id="a signal changes within one episode"),
        pytest.param(PROBED, "ax", "critical", "O", id="a signal needs no votes"),
        pytest.param(PROBED, "ax a.", "unknown", "O", id="without votes its end is not ok"),
        pytest.param(PROBED, ". ax x a. .", "ok", "OC", id="votes and signals share an episode"),
        pytest.param(PROBED, ". x ax .", "critical", "O", id="the last of them ends it"),
        pytest.param(PROBED, ". ax pause resume", "critical", "OF", id="a pause freezes it"),
        pytest.param(
            EXTERNAL, "ax pause a. resume", "ok", "OFC", id="what ends during a pause ends after it"
        ),
        pytest.param(EXTERNAL, "pause ax", "ok", "", id="nothing opens during a pause"),
        pytest.param(EXTERNAL, "pause ax resume", "critical", "O", id="but after it"),
    ],
)
def test_the_stage_is_the_worst_of_votes_and_signals(
    policy: Policy, words: str, stage: str, episodes: str
) -> None:
    state, effects = walk(policy, words)
    marks = {EpisodeOpened: "O", EpisodeClosed: "C", EpisodeFrozen: "F"}
    assert (state.stage, "".join(marks.get(type(effect), "") for effect in effects)) == (stage, episodes)


def test_a_stale_vote_is_unknown_beneath_a_signal() -> None:
    state, _ = walk(PROBED, ". ax . a.", step_s=1.0)
    assert state.stage is Stage.OK
    state, _ = walk(PROBED, ". aw aw a.", step_s=100.0)
    assert (state.voted, state.stage) == (Stage.UNKNOWN, Stage.UNKNOWN)


def test_the_draft_that_a_pause_withdrew_is_owed_again() -> None:
    _, effects = walk(EXTERNAL, "ax pause resume")
    assert [effect.step for effect in effects if isinstance(effect, StepProposed)] == ["open", "open"]


def test_open_signals_are_bounded() -> None:
    state = State()
    for n in range(MOST_SIGNALS + 10):
        state, _ = decide(EXTERNAL, state, SignalChanged(float(n), f"report\x1f{n}", "critical"))
    assert len(state.signals) == MOST_SIGNALS


def test_laws_over_every_short_sequence() -> None:
    """Episodes open and close in turn, one is open while the stage is bad, and the stage is never better than a signal."""
    words = (".", "x", "ax", "aw", "a.", "bx", "b.", "pause", "resume")
    for policy, length in ((EXTERNAL, 4), (PROBED, 4)):
        for chosen in product(words, repeat=length):
            state, effects = walk(policy, " ".join(chosen))
            turns = [type(e) for e in effects if isinstance(e, EpisodeOpened | EpisodeClosed)]
            assert turns == [EpisodeOpened, EpisodeClosed] * (len(turns) // 2) + [EpisodeOpened] * (
                len(turns) % 2
            )
            assert (state.severity is not None) == (len(turns) % 2 == 1)
            if not state.suspended:
                worst = max(
                    (Stage(s) for s in state.signals.values()), key=RANK.__getitem__, default=Stage.OK
                )
                assert RANK[state.stage] == max(RANK[worst], RANK[state.voted])
            assert state.heartbeat == HeartbeatState()
