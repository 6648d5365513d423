"""The short cut for calm results ends in the same states as `decide`, whatever comes in between."""

import math
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from evaluators import quorum
from evaluators.facts import Fact, ResultSeen, Returned, SignalChanged
from evaluators.lane import Lane
from evaluators.model import Kind, Result, Timings, Verdict
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.replay import fold
from evaluators.state import State
from rules.beat import BEAT

REGIONS = ("ap", "eu", "us")
TIMINGS = Timings()


@dataclass
class Held:
    policy: Policy
    state: State


def policy(**quorum_: object) -> Policy:
    spec = {"slug": "b", "type": "tcp", "host": "h.example", "port": 1, "interval": "30s", "quorum": quorum_}
    return compile_policy(BEAT.validate_python(spec), Bound(regions=REGIONS, sick=("ap",)))


POLICIES = (
    policy(),
    policy(consecutive={"open": 3, "close": 5}, confirm="off", max_age="90s"),
    policy(critical="any", consecutive={"open": 1, "close": 1}),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [*["ok"] * 12, "critical", "warning", "confirm", "error", "late", "boot", "signal", "back"]
        ),
        st.sampled_from([*REGIONS, "elsewhere"]),
        st.sampled_from([0.0, 5.0, 10.0, 10.0, 10.0, 30.0, 200.0]),
        st.integers(1, 12),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.sampled_from([0.0, 0.25]))
def test_calm_results_that_are_only_counted_leave_the_same_states(
    steps: list[tuple[str, str, float, int]], seen_after_s: float
) -> None:
    plain = [Held(policy, quorum.newborn(policy, 1000.0)) for policy in POLICIES]
    short = [Held(policy, quorum.newborn(policy, 1000.0)) for policy in POLICIES]
    lane, now, seq, boot = Lane(short), 1000.0, 0, "boot-0"
    for what, region, after_s, times in steps:
        for turn in range(times if what == "ok" else 1):
            now, seq = now + after_s, seq + 1
            if what == "boot":
                boot = f"boot-{seq}"
            fact: Fact
            if what == "signal":
                fact = SignalChanged(now, "report\x1fx", None if turn % 2 else "warning")
            elif what == "back":
                fact = Returned(now)
            else:
                verdict = Verdict(what) if what in ("critical", "warning", "error") else Verdict.OK
                kind = Kind.CONFIRM if what == "confirm" else Kind.SCHEDULED
                at = now - (45.0 if what == "late" else 0.0)
                number = seq - 3 if what == "late" else seq
                result = Result(str(seq), "b", region, kind, verdict, at, at, number, 1, TIMINGS)
                fact = ResultSeen(now + seen_after_s, result, boot, at)
            for held in plain:
                held.state, _ = fold(held.policy, held.state, fact)
            is_calm = isinstance(fact, ResultSeen) and (fact.result.kind, fact.result.verdict) == (
                Kind.SCHEDULED,
                Verdict.OK,
            )
            if (
                is_calm
                and isinstance(fact, ResultSeen)
                and lane.take(region, fact.at, fact.measured_at, boot, fact.result.seq)
            ):
                continue
            lane.settle()
            for held in short:
                held.state, _ = fold(held.policy, held.state, fact)
            if is_calm and isinstance(fact, ResultSeen):
                lane.watch(region, boot, fact.result.seq)
    lane.settle()
    assert [json.encode(held.state) for held in short] == [json.encode(held.state) for held in plain]


def test_nearly_every_result_is_only_counted() -> None:
    held = [Held(policy, quorum.newborn(policy, 0.0)) for policy in POLICIES]
    lane, taken = Lane(held), 0
    for seq in range(1000):
        at = 10.0 * seq
        region = REGIONS[seq % 3]
        if lane.take(region, at, at, "boot", seq):
            taken += 1
            continue
        lane.settle()
        result = Result(str(seq), "b", region, Kind.SCHEDULED, Verdict.OK, at, at, seq, 1, TIMINGS)
        for one in held:
            one.state, _ = fold(one.policy, one.state, ResultSeen(at, result, "boot", at))
        lane.watch(region, "boot", seq)
    assert taken > 980
    assert lane.due < math.inf
