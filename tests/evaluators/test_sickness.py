"""A region is sick by difference: what a bad vote there means, and who is suspended when, and returns."""

from msgspec.structs import replace

from evaluators import quorum
from evaluators.facts import ResultSeen
from evaluators.model import Kind, Result, Timings, Verdict
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.sickness import (
    Count,
    Counted,
    Limits,
    RegionReturned,
    RegionSuspended,
    State,
    decide,
    standings,
)
from evaluators.state import State as BeatState
from rules.beat import BEAT

REGIONS = ("ap", "eu", "us")
LIMITS = Limits(hold_s=100.0)
VERDICTS = {".": Verdict.OK, "w": Verdict.WARNING, "x": Verdict.CRITICAL}


def policy(*sick: str) -> Policy:
    spec = {"slug": "shop", "type": "tcp", "host": "shop.example", "port": 1, "quorum": {"confirm": "off"}}
    return compile_policy(BEAT.validate_python(spec), Bound(regions=REGIONS, sick=sick))


def state(*looks: str, sick: tuple[str, ...] = (), apart_s: float = 60.0) -> BeatState:
    """After these looks: a letter a region, each a second after the one before it."""
    rules = policy(*sick)
    now, seq = BeatState(), 0
    for turn, look in enumerate(looks):
        for place, (region, mark) in enumerate(zip(REGIONS, look, strict=True)):
            seq, at = seq + 1, 1000.0 + turn * apart_s + place
            if mark in VERDICTS:
                verdict = VERDICTS[mark]
                result = Result("r", "b", region, Kind.SCHEDULED, verdict, at, at, seq, 1, Timings())
                now, _ = quorum.decide(rules, now, ResultSeen(at, result, "boot", at))
    return now


def test_bad_in_one_region_and_seen_ok_since_in_all_others_is_lonely() -> None:
    assert standings(policy(), state("...", ".x.", ".x.", "...")) == {
        "ap": "ok",
        "eu": "lonely",
        "us": "ok",
    } | {
        "eu": "shared"  # its newest is ok again: nobody can say
    }
    assert standings(policy(), state("...", ".x.", ".x.")) == {"ap": "ok", "eu": "lonely", "us": "ok"}
    assert standings(policy(), state("...", ".w.", ".w."))["eu"] == "lonely"


def test_who_has_not_looked_since_says_nothing_so_that_an_outage_is_not_taken_for_a_sick_region() -> None:
    assert standings(policy(), state("...", "-x-", "-x-")) == {"ap": "ok", "eu": "shared", "us": "ok"}
    first_bad_elsewhere = state("...", ".x.", "xx.")  # its vote is still ok, but what it saw last is not
    assert standings(policy(), first_bad_elsewhere)["eu"] == "shared"
    assert standings(policy(), state("...", "xxx", "xxx")) == dict.fromkeys(REGIONS, "shared")


def test_nothing_to_compare_with_means_nothing() -> None:
    assert standings(policy(), state("-.-", "-x-", "-x-")) == {}
    gone_stale = state("...", "-x-", "-x-", "-x-", "-x-")
    assert standings(policy(), gone_stale) == {}
    assert standings(policy(), replace(state("...", ".x.", ".x."), suspended=True)) == {}


def test_a_suspended_region_is_still_compared_and_no_longer_compared_with() -> None:
    sick = ("eu",)
    rules = policy("eu")
    assert standings(rules, state("...", ".x.", ".x.", sick=sick)) == {"ap": "ok", "eu": "lonely", "us": "ok"}
    second = state("...", ".xx", ".xx", sick=sick)
    assert standings(rules, second) == {"ap": "ok", "eu": "shared", "us": "lonely"}


def counted(at: float = 0.0, regions: tuple[str, ...] = REGIONS, **counts: tuple[int, int, int]) -> Counted:
    """Of each region (beats, ok, lonely), each lonely beat on a host of its own; the others are well."""
    made = {
        region: Count(beats, ok, lonely, frozenset(map(str, range(lonely))))
        for region, (beats, ok, lonely) in counts.items()
    }
    return Counted(at, regions, dict.fromkeys(regions, Count(8, 8)) | made)


def suspended(fact: Counted, before: State = State()) -> list[str]:  # noqa: B008  # frozen
    return [one.region for one in decide(LIMITS, before, fact)[1] if isinstance(one, RegionSuspended)]


def test_three_beats_on_three_hosts_and_half_of_a_regions_beats_make_it_sick() -> None:
    assert suspended(counted(eu=(6, 3, 3))) == ["eu"]
    assert suspended(counted(eu=(7, 4, 3))) == []
    assert suspended(counted(eu=(2, 0, 2))) == []
    fact = counted(eu=(4, 0, 4))
    one_host = {**fact.counts, "eu": Count(4, 0, 4, frozenset({"a", "b"}))}
    assert suspended(replace(fact, counts=one_host)) == []


def test_at_most_a_minority_is_suspended_of_those_that_vote() -> None:
    bad = (4, 0, 4)
    two = ("ap", "eu")
    assert suspended(counted(regions=two, eu=bad)) == []
    assert suspended(counted(eu=bad, ap=(5, 1, 4))) == ["eu"]
    assert suspended(counted(eu=bad, us=(0, 0, 0))) == []  # two that vote: nobody can say which is sick
    five = ("a", "b", "c", "d", "e")
    assert suspended(counted(regions=five, a=bad, b=bad, c=bad)) == ["a", "b"]
    assert suspended(counted(regions=five, c=bad), State({"a": 1.0, "b": 2.0})) == []
    four = ("a", "b", "c", "d")
    assert suspended(counted(regions=four, a=bad, b=bad)) == ["a"]


def test_it_returns_when_it_was_well_for_a_while_and_not_before() -> None:
    before, at = State({"eu": 0.0}), 10.0
    steps = [((8, 6, 1), []), ((8, 5, 2), []), ((8, 7, 1), []), ((8, 7, 1), ["eu"])]
    for (eu, returned), after_s in zip(steps, (0.0, 90.0, 10.0, 100.0), strict=True):
        at += after_s
        before, effects = decide(LIMITS, before, counted(at, eu=eu))
        assert [one.region for one in effects if isinstance(one, RegionReturned)] == returned
    assert before == State()


def test_silence_is_no_return_and_neither_is_an_outage_everywhere() -> None:
    for eu in ((0, 0, 0), (8, 0, 0), (8, 3, 0)):
        before = State({"eu": 0.0})
        for at in (0.0, 1000.0):
            before, effects = decide(LIMITS, before, counted(at, eu=eu))
            assert not effects
    before, effects = decide(LIMITS, State({"eu": 0.0}, {"eu": 0.0}), Counted(1000.0, REGIONS, {}))
    assert (before, effects) == (State({"eu": 0.0}), ())


def test_a_region_that_is_gone_or_outnumbers_the_rest_returns_at_once() -> None:
    _, effects = decide(LIMITS, State({"eu": 1.0}), counted(regions=("ap", "us", "sa")))
    assert effects == (RegionReturned(0.0, "eu", "removed"),)
    after, effects = decide(LIMITS, State({"ap": 1.0, "eu": 2.0}), counted())
    assert effects == (RegionReturned(0.0, "eu", "outnumbered"),)
    assert after == State({"ap": 1.0}, {"ap": 0.0})
