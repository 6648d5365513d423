"""Simulated months: skipping what is uneventful changes nothing, and what is counted is what the drawn world holds."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.__main__ import ALL
from engine.drawn import SETTLED_S, START, Noise, Runs, TooManyError, drawn_from
from engine.simulation import ORDER_S, RESULT_S, Simulation, forwarded
from engine.sizing import COSTS, size
from evaluators import vote
from evaluators.model import Kind, Result, Timings, Verdict
from evaluators.policy import Bound, compile_policy
from rules.beat import BEAT
from rules.config import parse
from rules.declared import Document
from rules.kinds.tcp import TcpBeat
from rules.world import Outage, World

DAY_S = 86_400.0


def declared(beats: int, *, grouped: int = 0, child: bool = False, **defaults: Any) -> Document:
    """Beats alike, the first few in a group; the last one depends on the first."""
    listed: list[dict[str, Any]] = [
        {"slug": f"b{n}", "type": "tcp", "host": "h", "port": 1} for n in range(beats)
    ]
    for beat in listed[:grouped]:
        beat["group"] = "g"
    if child:
        listed[-1]["depends_on"] = ["group:g" if grouped else "b0"]
    said = {
        "regions": ["ap", "eu", "us"],
        "defaults": {"interval": "60s", **defaults},
        "groups": [{"slug": "g"}] if grouped else [],
        "beats": listed,
    }
    return parse(json.dumps(said), "simulated.yaml", {})


def made_up(outages: Sequence[dict[str, Any]] = (), **more: Any) -> World:
    return World.model_validate({"time": 2 * DAY_S, "outages": list(outages), **more})


TROUBLE = (
    {"per_month": 30, "of": "group"},
    {"per_month": 15, "where": "one", "kind": "refused"},
    {"per_month": 400, "lasts": "1m"},
    {"per_month": 15, "kind": "hanging"},
    {"per_month": 15, "of": "region", "kind": "silent", "lasts": "20m"},
    {"per_month": 15, "of": "region", "share": 0.5},
)


@pytest.mark.parametrize(
    ("document", "more"),
    [
        pytest.param(declared(3), {}, id="the default policy"),
        pytest.param(declared(4, grouped=2, child=True), {}, id="a group, and what depends on it"),
        pytest.param(
            declared(3, child=True, quorum={"critical": "any", "confirm": "off", "consecutive": {"open": 1, "close": 3}}),
            {},
            id="anybody's first failure",
        ),
        pytest.param(declared(2, degraded_after="900ms", retries=0), {"failures": 0.05}, id="slow answers, many failures"),
        pytest.param(declared(2, quorum={"max_age": "65s"}), {}, id="votes that go stale between runs"),
        pytest.param(
            declared(2, interval="30s", quorum={"max_age": "10m", "min_voters": 2}),
            {"outages": [{"per_month": 1500, "of": "all", "kind": "silent", "lasts": "10m"}]},
            id="a vote that is stale still while the others are back",
        ),
    ],
)  # fmt: skip
def test_skipping_is_the_same_to_the_last_bit(document: Document, more: dict[str, Any]) -> None:
    world = made_up(**{"outages": TROUBLE, "seed": 3, **more})
    skipping, plodding = (Simulation(document, world, skips=skips) for skips in (True, False))
    fast, slow = skipping.run(), plodding.run()
    folded = [report.figures.pop("results_folded") for report in (fast, slow)]
    assert fast.figures == slow.figures
    assert (fast.episodes, fast.delays_s) == (slow.episodes, slow.delays_s)
    assert skipping.states() == plodding.states()
    assert len(skipping._drawn.happened) > 3
    assert folded[0] <= folded[1]


def test_most_runs_are_skipped() -> None:
    report = Simulation(declared(5), made_up(time=10 * DAY_S)).run()
    assert report.figures["results_folded"] < 0.2 * 5 * 3 * 10 * 1440


def _rule(**more: Any) -> TcpBeat:
    rule = BEAT.validate_python({"slug": "b", "type": "tcp", "host": "h", "port": 1, **more})
    assert isinstance(rule, TcpBeat)
    return rule


@pytest.mark.parametrize("count", range(1, 14))
@pytest.mark.parametrize("kept", [0, 3, 9])
def test_votes_are_written_down_as_they_would_have_been_cast(count: int, kept: int) -> None:
    policy = compile_policy(_rule(), Bound(regions=("eu",)))
    lane = Runs(Noise(_rule(), World(failures=0)), 60.0, 0.25, drawn_from(1), [])
    turns = range(lane.first, lane.first + kept + count)
    region = vote.Region()
    steps = [region]
    for turn in turns:
        at = lane.ok_end(turn)
        seq = round((at - START) * 1e6)
        result = Result("", "b", "eu", Kind.SCHEDULED, Verdict.OK, at, at, seq, 1, Timings())
        steps.append(vote.see(policy, steps[-1], result, "eu", at))
    if kept:
        assert forwarded(policy, steps[kept], lane, turns[kept:], "eu", 0.0) == steps[-1]


def test_the_next_bad_turn_is_the_first_that_is_not_ok() -> None:
    world = made_up([{"per_month": 60, "kind": "hanging"}], failures=0.02, seed=5)
    simulation = Simulation(declared(1), world)
    other = Simulation(declared(1), world)
    lane, same = (next(iter(one._actors.values())).lanes[0] for one in (simulation, other))
    turns = range(lane.first, lane.first + 2000)
    bad = [turn for turn in turns if (said := lane.scheduled(turn)) is None or said[0] is not Verdict.OK]
    found, turn = [], same.first
    while (turn := same.next_bad(turn)) < turns.stop:
        found.append(turn)
        turn += 1
    assert found == bad
    assert len(bad) > 20


def test_the_share_of_failures_is_the_one_that_was_asked_for() -> None:
    lane = Runs(Noise(_rule(), World(failures=0.01)), 60.0, 0.0, drawn_from(7), [])
    turn, count = lane.first, 0
    while (turn := lane.next_bad(turn)) < lane.first + 400_000:
        turn, count = turn + 1, count + 1
    assert 3_800 < count < 4_200


def test_the_same_seed_is_the_same_world_and_another_is_another() -> None:
    worlds = [made_up(TROUBLE, seed=seed) for seed in (1, 1, 2)]
    reports = [Simulation(declared(2), world).run() for world in worlds]
    assert reports[0] == reports[1]
    assert reports[0] != reports[2]


def test_staggered_regions_look_in_turn_and_confirm_at_once() -> None:
    world = made_up([{"per_month": 60, "kind": "refused"}], time=10 * DAY_S, failures=0, latency=0.1)
    report = Simulation(declared(10, interval="30s"), world).run()
    # Up to a third of the interval, the run with its retry, the order, a second run a second later with its retry.
    most_s = 10 + 0.56 + RESULT_S + ORDER_S + 1 + 0.56 + RESULT_S
    assert report.figures["outages"] > 100
    assert report.figures["missed"] == report.figures["false_episodes"] == 0
    assert most_s - 10 <= report.delays_s[0]
    assert report.delays_s[-1] <= most_s + 0.01


def test_an_outage_too_short_to_be_seen_is_missed() -> None:
    world = made_up([{"per_month": 60, "lasts": "2s"}], time=10 * DAY_S, failures=0)
    figures = Simulation(declared(5), world).run().figures
    assert figures["missed"] == figures["outages"] > 0
    assert figures["longest_missed_s"] == 2


def test_a_group_and_what_depends_on_it_are_one_episode() -> None:
    world = made_up([{"per_month": 10, "of": "group", "lasts": "30m"}], time=20 * DAY_S, failures=0)
    simulation = Simulation(declared(5, grouped=4, child=True), world)
    report = simulation.run()
    own = [event for event in simulation._drawn.happened if event.hits == {4}]
    owners = Counter(one.owner for one in report.episodes)
    assert owners == {
        "g": len(simulation._drawn.happened) - len(own),
        "b4": len(own),
    }  # the child's are suppressed
    assert len(own) > 3
    assert report.figures["missed"] == report.figures["false_episodes"] == 0


def test_a_faulty_region_is_no_outage() -> None:
    world = made_up([{"per_month": 30, "of": "region", "lasts": "10m"}], failures=0)
    assert Simulation(declared(3), world).run().figures["episodes"] == 0
    hasty = declared(3, quorum={"critical": "any", "confirm": "off"})
    figures = Simulation(hasty, world).run().figures
    assert figures["regional_per_10000_beat_hours"] > 0
    assert figures["false_episodes"] == 0


def test_silence_is_told_and_opens_nothing() -> None:
    world = made_up(
        [{"per_month": 30, "of": "all", "kind": "silent", "lasts": "1h"}], failures=0, time=10 * DAY_S
    )
    figures = Simulation(declared(2), world).run().figures
    assert figures["episodes"] == figures["outages"] == 0
    assert figures["messages_by_kind"].keys() == {"unknown", "recovery"}


def test_a_policy_without_smoothing_is_as_noisy_as_it_must_be() -> None:
    hasty = declared(
        10, interval="30s", episodes={"flapping": "off"},
        quorum={"critical": "any", "confirm": "off", "consecutive": {"open": 1, "close": 1}},
    )  # fmt: skip
    figures = Simulation(hasty, made_up(time=10 * DAY_S)).run().figures
    assert 15_000 < figures["false_per_10000_beat_hours"] < 18_500  # 360 runs an hour, of which 0.5 % fail


def test_more_than_a_hundred_beats_are_refused() -> None:
    with pytest.raises(TooManyError, match="101 beats that probes run; 1 to 100"):
        Simulation(declared(101), World())


def test_a_world_with_nothing_but_outages_is_refused() -> None:
    often = {"per_month": 100_000, "lasts": "1s"}
    for world in (made_up([often], time=30 * DAY_S), made_up([often | {"of": "all"}], time=20 * DAY_S)):
        with pytest.raises(TooManyError, match="more than 1000000 outages, beat by beat"):
            Simulation(declared(20), world)


def test_nothing_happens_before_all_have_run_once() -> None:
    simulation = Simulation(declared(1), made_up([{"per_month": 60_000, "lasts": "1s"}], time=3600))
    assert min(event.start for event in simulation._drawn.happened) >= START + SETTLED_S


def test_a_fleet_is_sized_from_costs_that_benchmarks_measured() -> None:
    assert all(cost.measured_by.split()[0] in ALL for name, cost in COSTS.items() if name != "message")
    given: dict[str, Any] = {
        "interval_s": 30.0,
        "timeout_s": 10.0,
        "retries": 1,
        "groups": 0,
        "scheme": "https",
    }
    one, ten = (size(beats, regions=3, **given) for beats in (10_000, 100_000))
    assert one["estimate"] is True
    assert (one["runs"], ten["runs"]) == (1000.0, 10_000.0)
    assert ten["database"]["gigabytes_per_day"] == pytest.approx(
        10 * one["database"]["gigabytes_per_day"], rel=0.01
    )
    assert one["probes"]["slots"] >= one["probes"]["runs_at_once_if_every_target_hangs"]
    assert ten["probes"]["per_region"] > one["probes"]["per_region"]
    assert ten["evaluators"]["processes"] >= one["evaluators"]["processes"]
    assert not ten["evaluators"]["is_too_much"]
    assert size(100_000, regions=20, **given | {"interval_s": 1.0})["evaluators"]["is_too_much"]


def test_models_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="p95 is less than the median"):
        World.model_validate({"latency": {"median": "2s", "p95": "1s"}})
    assert Outage.model_validate({"per_month": 1, "lasts": "5m"}).lasts.p95 == 300
