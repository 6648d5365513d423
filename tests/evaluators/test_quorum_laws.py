"""Laws of `decide` over every short sequence and over random ones. Single situations are in test_quorum.py."""

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.facts import (
    ConfirmWanted,
    Continued,
    Effect,
    EpisodeClosed,
    EpisodeOpened,
    Fact,
    PolicyChanged,
    ResultSeen,
    Returned,
    StepProposed,
    Suspended,
    Tick,
    Transitioned,
)
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.quorum import decide, fresh_votes, next_deadline
from evaluators.state import State
from rules.beat import BEAT

VERDICTS = {".": Verdict.OK, "w": Verdict.WARNING, "x": Verdict.CRITICAL, "e": Verdict.ERROR}
BAD = (Verdict.WARNING, Verdict.CRITICAL)
Folded = tuple[State, State, tuple[Effect, ...]]


def policy(quorum: dict[str, Any], regions: int = 3, interval: str = "60s") -> Policy:
    beat = BEAT.validate_python(
        {"slug": "b", "type": "tcp", "host": "h", "port": 1, "interval": interval, "quorum": quorum}
    )
    return compile_policy(beat, Bound(regions=tuple("abcdefg"[:regions])))


def result(region: str, letter: str, at: float, seq: int, request: str | None = None, n: int = 0) -> Result:
    kind = Kind.CONFIRM if request else Kind.SCHEDULED
    return Result(
        f"run{seq}", "b", region, kind, VERDICTS[letter], at, at, seq, 1, Timings(), request=request, n=n
    )


def seen(region: str, letter: str, at: float, seq: int, boot: str = "boot") -> ResultSeen:
    return ResultSeen(at, result(region, letter, at, seq), boot, at)


def walked(rule: Policy, facts: Sequence[Fact], state: State | None = None) -> Iterator[Folded]:
    """Every fold, with the ticks the caller owes before each fact."""
    now = state or State()
    for fact in facts:
        ticks = 0
        while (
            not isinstance(fact, Returned)
            and (due := next_deadline(rule, now)) is not None
            and due <= fact.at
        ):
            before = now
            now, effects = decide(rule, now, Tick(due))
            later = next_deadline(rule, now)
            assert later is None or later > due, "time advances"
            ticks += 1
            assert ticks < 100
            yield before, now, effects
        before = now
        now, effects = decide(rule, now, fact)
        yield before, now, effects


def expect_laws(rule: Policy, folds: Iterator[Folded]) -> None:
    """What holds of every fold, whatever was folded."""
    is_open, number = False, 0
    for before, state, effects in folds:
        for effect in effects:
            if isinstance(effect, EpisodeOpened):
                assert not is_open
                assert effect.number == number + 1
                is_open, number = True, effect.number
                least = rule.need.critical.open if effect.severity == "critical" else rule.need.warning.open
                votes = fresh_votes(rule, state, state.at).values()
                wanted = (Verdict.CRITICAL,) if effect.severity == "critical" else BAD
                assert sum(vote in wanted for vote in votes) >= least
                assert state.round is None, "nothing opens while a round is out"
            if isinstance(effect, EpisodeClosed):
                assert is_open
                assert effect.number == number
                is_open = False
            if isinstance(effect, Transitioned):
                assert effect.was is before.stage is not effect.stage is state.stage
            if isinstance(effect, StepProposed) and effect.step == "resolve":
                assert state.stage is Stage.OK
        assert (state.severity is not None) == is_open
        if not state.suspended and is_open and state.stage is Stage.OK:
            raise AssertionError("an open episode of a beat that is ok")


POLICIES: list[dict[str, Any]] = [
    {},
    {"confirm": "off"},
    {"confirm": "off", "critical": "any", "warning": "all"},
    {"confirm": "off", "critical": {"open": 2, "close": 3}, "consecutive": {"open": 1, "close": 1}},
    {"consecutive": {"open": 1, "close": 2}, "on_insufficient": "hold"},
]


@pytest.mark.parametrize("quorum", POLICIES, ids=lambda quorum: str(quorum)[:60] or "default")
def test_the_laws_hold_for_every_short_sequence_of_results(quorum: dict[str, Any]) -> None:
    rule = policy(quorum, regions=2)
    columns = [*itertools.product(".wx", repeat=2), (" ", " ")]
    for script in itertools.product(columns, repeat=4):
        facts = [
            seen("ab"[row], letter, 60.0 * column + 20 * row, 2 * column + row)
            for column, letters in enumerate(script)
            for row, letter in enumerate(letters)
            if letter != " "
        ]
        expect_laws(rule, walked(rule, [*facts, Tick(400.0)]))


def facts_of(letters: str) -> list[Fact]:
    """One fact per letter, 50 s apart: two of them and a result may overrun a vote's freshness."""
    made: list[Fact] = []
    for n, letter in enumerate(letters):
        at = 50.0 * n
        other: dict[str, Fact] = {
            "t": Tick(at + 200),
            "p": PolicyChanged(at, measures_anew=False),
            "m": PolicyChanged(at, measures_anew=True),
            "r": Returned(at),
            "s": Suspended(at),
            "g": Suspended(at, removed=True),
            "c": Continued(at),
        }
        if letter in other:
            made.append(other[letter])
        else:
            # Upper case: both regions see it.
            made += [
                seen(region, letter.lower().replace("o", "."), at, 10 * n + k)
                for k, region in enumerate("ab" if letter.isupper() else "a")
            ]
    return made


@pytest.mark.parametrize(
    "quorum", POLICIES[:2] + POLICIES[3:], ids=lambda quorum: str(quorum)[:60] or "default"
)
def test_the_laws_hold_for_every_short_sequence_of_facts(quorum: dict[str, Any]) -> None:
    rule = policy(quorum, regions=2)
    for letters in itertools.product("OXxtpmrsgc", repeat=4):
        expect_laws(rule, walked(rule, facts_of("X" + "".join(letters))))


@st.composite
def any_fact(draw: st.DrawFn) -> Fact:
    at = draw(st.floats(0, 1000, allow_nan=False))
    kind = draw(st.integers(0, 7))
    if kind <= 3:
        region, letter = draw(st.sampled_from("abz")), draw(st.sampled_from(".wxe"))
        request = draw(st.sampled_from([None, None, "run1", "run2"]))
        made = result(region, letter, at, draw(st.integers(0, 20)), request, draw(st.integers(0, 2)))
        return ResultSeen(at, made, draw(st.sampled_from(["b1", "b2"])), draw(st.floats(0, 1000)))
    others: list[Fact] = [
        Tick(at),
        PolicyChanged(at, draw(st.booleans())),
        Suspended(at, draw(st.booleans())),
        Continued(at),
    ]
    return others[kind - 4]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(POLICIES), st.lists(any_fact(), max_size=25))
def test_any_fact_in_any_state_and_any_order_has_an_answer(quorum: dict[str, Any], facts: list[Fact]) -> None:
    rule = policy(quorum, regions=2)
    state = State()
    for fact in facts:
        state, _ = decide(rule, state, fact)
        later = next_deadline(rule, state)
        if later is not None:
            after = next_deadline(rule, decide(rule, state, Tick(later))[0])
            assert after is None or after > later


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(POLICIES), st.lists(any_fact(), max_size=15))
def test_a_state_survives_its_wire_form(quorum: dict[str, Any], facts: list[Fact]) -> None:
    rule = policy(quorum, regions=2)
    state = State()
    for fact in facts:
        state, _ = decide(rule, state, fact)
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


@st.composite
def scattered(draw: st.DrawFn) -> tuple[list[ResultSeen], list[ResultSeen]]:
    """At most 12 results of three regions and two boots, in order and in another order, all folded at one time."""
    count = draw(st.integers(1, 12))
    ordered: list[ResultSeen] = []
    for n in range(count):
        region, letter = "abc"[n % 3], draw(st.sampled_from(".wxe"))
        boot = "old" if n < count // 2 else "new"
        made = result(region, letter, 10.0 * n, n)
        ordered.append(ResultSeen(130.0, made, f"{boot}-{region}", 10.0 * n))
    return ordered, draw(st.permutations(ordered))


@settings(max_examples=300, deadline=None)
@given(scattered(), st.sampled_from([policy({"confirm": "off"}), policy({})]))
def test_late_results_end_in_the_same_votes_as_in_order(
    both: tuple[list[ResultSeen], list[ResultSeen]], rule: Policy
) -> None:
    ends = [list(walked(rule, facts))[-1][1] for facts in both]
    assert ends[0].regions == ends[1].regions
    assert fresh_votes(rule, ends[0], 131.0) == fresh_votes(rule, ends[1], 131.0)


@st.composite
def disturbed(draw: st.DrawFn) -> tuple[list[ResultSeen], float]:
    """Three regions see one outage; results come late, in any order, some of them twice; a clock is off, and a region cut off for a while."""
    began, lasts = draw(st.integers(3, 5)), draw(st.integers(0, 6))
    skew_s = draw(st.sampled_from([0.0, 2.0, -2.0]))
    cut_off, until_s = draw(st.sampled_from("-abc")), 60.0 * (began + lasts) + draw(st.integers(0, 130))
    arrivals: list[tuple[float, ResultSeen]] = []
    for n in range(3 * (began + lasts + 8)):
        region, at = "abc"[n % 3], 20.0 * n
        letter = "x" if began <= n // 3 < began + lasts else "."
        made = result(region, letter, at, n)
        is_calm = n // 3 < began - 1 or n // 3 > began + lasts + 3
        for _ in range(1 if is_calm else draw(st.integers(1, 2))):
            seen_at = at + (
                0.0 if is_calm else draw(st.sampled_from([0.0, 0.0, 1.0, 30.0, 60.0, 100.0, 130.0]))
            )
            if region == cut_off and not is_calm:
                seen_at = max(seen_at, until_s)
            arrivals.append(
                (seen_at, ResultSeen(seen_at, made, "boot", at + (skew_s if region == "b" else 0.0)))
            )
    return [fact for _, fact in sorted(arrivals, key=lambda one: one[0])], 60.0 * lasts


@settings(max_examples=60, deadline=None)
@given(disturbed(), st.sampled_from(["majority", "any", "any", "all"]))
def test_one_outage_is_one_episode_however_its_results_come(
    told: tuple[list[ResultSeen], float], count: Any
) -> None:
    facts, lasts_s = told
    rule = policy({"confirm": "off", "critical": count, "warning": count})
    folds = list(walked(rule, facts))
    state = folds[-1][1]
    opened = [effect for _, _, effects in folds for effect in effects if isinstance(effect, EpisodeOpened)]
    assert len(opened) <= 1
    assert opened or lasts_s < 360.0 or count == "all"
    assert (state.stage, state.severity) == (Stage.OK, None)
    in_order = sorted(facts, key=lambda fact: fact.result.seq)
    plain = list(walked(rule, [ResultSeen(f.result.at, f.result, f.boot, f.measured_at) for f in in_order]))
    assert state.regions == plain[-1][1].regions


# ---- simulation: three regions, each looking every interval, staggered


class World:
    """Probes that fail at random, and answer confirm orders in 0.2 s."""

    def __init__(self, rule: Policy, interval_s: float, failing: float, seed: int) -> None:
        self.rule, self.interval_s, self._failing = rule, interval_s, failing
        self._dice, self._seq = random.Random(seed), itertools.count()
        self.down_from = float("inf")
        count = len(rule.regions)
        self._due: list[tuple[float, int, str, str | None, int]] = [
            (n * interval_s / count, next(self._seq), region, None, 0)
            for n, region in enumerate(rule.regions)
        ]
        heapq.heapify(self._due)
        self.opened: list[float] = []

    def run(self, until: float) -> None:
        state = State()
        while self._due[0][0] < until:
            at, _, region, request, n = heapq.heappop(self._due)
            seq = next(self._seq)  # counted when it ends, as probes do
            if request is None:
                heapq.heappush(self._due, (at + self.interval_s, next(self._seq), region, None, 0))
            bad = at >= self.down_from or self._dice.random() < self._failing
            fact = ResultSeen(at, result(region, "x" if bad else ".", at, seq, request, n), "boot", at)
            for _, now, effects in walked(self.rule, [fact], state):
                state = now
                self._obey(effects, at)

    def _obey(self, effects: Sequence[Effect], at: float) -> None:
        for effect in effects:
            if isinstance(effect, EpisodeOpened):
                self.opened.append(effect.at)
            if isinstance(effect, ConfirmWanted):
                for region, n in itertools.product(effect.regions, range(effect.runs)):
                    due = at + 0.2 + n * effect.spacing_s
                    heapq.heappush(self._due, (due, next(self._seq), region, effect.request, n))


def test_independent_failures_open_next_to_nothing_in_2500_beat_hours() -> None:
    world = World(policy({}), 60.0, 0.005, seed=20)
    world.run(2500 * 3600.0)
    assert len(world.opened) <= 1  # seen: none in 10,000 beat-hours; 363 with consecutive.open 1


def test_a_real_outage_is_open_within_an_interval_of_one_region_and_one_round() -> None:
    delays = []
    for seed in range(200):
        world = World(policy({}), 60.0, 0.005, seed)
        world.down_from = 3600.0 + seed * 0.3
        world.run(4000.0)
        (opened,) = [at for at in world.opened if at >= world.down_from]
        delays.append(opened - world.down_from)
    assert max(delays) < 60 / 3 + 5.1  # somebody looks every 20 s; a round takes at most 5 s
    assert sorted(delays)[100] < 60 / 6 + 2  # the round itself: runs at once and after 1 s, answered in 0.2 s
