"""Replays as a fold: what-if is plain `decide`, components hear of each other, episodes are compared."""

from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators import facts, quorum
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Bound, compile_policy
from evaluators.replay import Episode, Outcome, Replay, Role, compare, digest, fold
from rules.beat import BEAT
from rules.group import Group

REGIONS = ("ap", "eu", "us")
TIMINGS = Timings()
MARKS = {".": Verdict.OK, "x": Verdict.CRITICAL, "w": Verdict.WARNING}


def beat(slug: str = "b", **spec: object) -> object:
    return BEAT.validate_python(
        {"slug": slug, "type": "tcp", "host": "h", "port": 1, "interval": "30s", **spec}
    )


def run(region: str, mark: str, at: float, seq: int) -> Result:
    return Result(f"run-{seq}", "b", region, Kind.SCHEDULED, MARKS[mark], at, at, seq, 1, TIMINGS)


RULES = (beat(), beat(quorum={"critical": "any", "confirm": "off"}, episodes={"resolve_delay": "1m"}))


@settings(max_examples=150, deadline=None)
@given(st.text("......xw_", max_size=200), st.sampled_from([3.0, 10.0, 31.0]))
def test_a_what_if_ends_where_plain_decide_does(picture: str, every_s: float) -> None:
    bound = Bound(regions=REGIONS)
    role = Role("b", "b", RULES, bound, 0.0)  # type: ignore[arg-type]
    replay = Replay([role], 0.0, 10_000.0)
    policies = [compile_policy(rule, bound) for rule in RULES]  # type: ignore[arg-type]
    states = [fold(p, quorum.newborn(p, 0.0), facts.PolicyChanged(0.0))[0] for p in policies]
    for seq, mark in enumerate(picture, 1):
        if mark == "_":
            continue
        at, region = every_s * seq, REGIONS[seq % 3]
        result = run(region, mark, at, seq)
        if mark != "." or at >= replay.due or not replay.lane("b").take(region, at, at, "boot", seq):
            replay.result("b", result, "boot")
        seen = facts.ResultSeen(at, result, "boot", at)
        states = [fold(p, state, seen)[0] for p, state in zip(policies, states, strict=True)]
    states = [fold(p, state, facts.Tick(10_000.0))[0] for p, state in zip(policies, states, strict=True)]
    outcomes = replay.finish()["b"]
    assert [outcome.digest for outcome in outcomes] == [digest(state) for state in states]
    for outcome in outcomes:
        assert outcome.down_s + outcome.warning_s + outcome.unknown_s <= 10_000.0
        assert outcome.opened == len(outcome.episodes)


def test_a_group_is_replayed_with_its_members_and_says_what_it_says_now() -> None:
    member = beat("m", quorum={"confirm": "off"})
    groups = (
        Group(slug="g"),
        Group.model_validate({"slug": "g", "quorum": {"critical": "all", "warning": "all"}}),
    )
    bound = Bound(regions=REGIONS, group="g")
    roles = [
        Role("g", "g", groups, Bound(), 0.0),
        Role("m1", "m1", (member, member), bound, 0.0),  # type: ignore[arg-type]
        Role("m2", "m2", (member, member), bound, 0.0),  # type: ignore[arg-type]
    ]
    replay = Replay(roles, 0.0, 3301.0)
    for seq in range(1, 330):
        for name in ("m1", "m2"):
            mark = "x" if name == "m1" and 100 < seq < 200 else "."
            replay.result(name, run(REGIONS[seq % 3], mark, 10.0 * seq, seq), name)
    stale = facts.MemberChanged(3300.0, "m1", Stage.CRITICAL)
    replay.fact("g", stale, None)  # in the past it said so: here it says something else
    old, new = replay.finish()["g"]
    assert (old.opened, new.opened) == (1, 0)
    assert old.told == {"draft": 1, "open": 1, "recovery": 1}
    assert compare(old, new).only_old == [0]


def test_what_came_to_be_later_begins_then_and_moves_no_time_of_others() -> None:
    member = beat("m", quorum={"confirm": "off"})
    alone, child = Bound(regions=REGIONS), Bound(regions=REGIONS, parents=("db",))
    roles = [
        Role("db", "db", (member,), alone, 0.0),  # type: ignore[arg-type]
        Role("young", "young", (member,), child, 2500.0),  # type: ignore[arg-type]
    ]
    replay = Replay(roles, 0.0, 3301.0)
    for seq in range(1, 330):
        mark = "x" if 100 < seq < 200 or seq > 300 else "."
        replay.result("db", run(REGIONS[seq % 3], mark, 10.0 * seq, seq), "db")
        if seq > 250:
            replay.result("young", run(REGIONS[seq % 3], mark, 10.0 * seq + 1, seq), "young")
    found = replay.finish()
    (db,), (young,) = found["db"], found["young"]
    assert [episode.opened < 1100.0 for episode in db.episodes] == [True, False]
    assert db.unknown_s < 30.0
    assert young.turns[0][0] >= 2500.0
    assert not young.episodes, "what it depends on is down"


def outcome(*spans: tuple[float, float | None]) -> Outcome:
    return Outcome([Episode(opened, closed, "critical") for opened, closed in spans])


def test_episodes_are_compared_by_the_outages_they_are_of() -> None:
    old = outcome((100, 200), (1000, 1100), (1120, 1200), (3000, 3600), (9000, None))
    new = outcome((130, 260), (1010, 1210), (2000, 2010), (3000, 3100), (3200, 3300), (9000, 9100))
    found = compare(old, new)
    assert (found.only_old, found.only_new) == ([], [2])
    assert found.merged == [([1, 2], [1])]
    assert found.split == [([3], [3, 4])]
    assert [(one.opens_later_s, one.closes_later_s) for one in found.moved] == [(30, 60), (0, None)]


def test_of_a_time_that_only_one_still_lists_nothing_is_compared() -> None:
    old = outcome((3000, 3600), (5000, 5100))
    old.opened = 9  # those before are not listed any more
    new = outcome((100, 200), (2900, 3050), (5000, 5100), (7000, 7100))
    found = compare(old, new)
    assert (found.only_old, found.only_new, found.merged) == ([], [3], [])
    assert [(one.old, one.new) for one in found.moved] == [(1, 2)]


def test_no_more_is_listed_than_was_asked_for() -> None:
    replay = Replay([Role("b", "b", RULES[:1], Bound(regions=REGIONS), 0.0)], 0.0, 9000.0, most=2)  # type: ignore[arg-type]
    for turn in range(300):
        for region in REGIONS:
            seq = 3 * turn + REGIONS.index(region) + 1
            replay.result("b", run(region, "x" if turn // 10 % 2 else ".", 10.0 * seq, seq), "boot")
    (found,) = replay.finish()["b"]
    assert (len(found.episodes), len(found.turns), found.is_cut) == (2, 2, True)
    assert found.opened > 2


def test_pauses_and_signals_of_the_past_are_folded() -> None:
    bound = Bound(regions=REGIONS)
    role = Role("b", "b", (RULES[0], RULES[0]), bound, 0.0)  # type: ignore[arg-type]
    replay = Replay([role], 0.0, 1000.0)
    for seq in range(1, 10):
        replay.result("b", run(REGIONS[seq % 3], ".", 10.0 * seq, seq), "boot")
    replay.fact("b", facts.SignalChanged(120.0, "report\x1fx", "critical"), None)
    replay.fact("b", facts.Suspended(130.0), None)
    old, _ = replay.finish()["b"]
    assert [(e.opened, e.closed) for e in old.episodes] == [(120.0, None)]
    assert old.told == {"change": 1, "draft": 1, "open": 1}
