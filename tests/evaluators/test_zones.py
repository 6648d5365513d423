"""Counting by zones and after regions were suspended, as pictures of six regions. Plain counts are in test_quorum.py."""

from typing import Any

import pytest

from evaluators.facts import PolicyChanged
from evaluators.policy import Bound, Policy, compile_policy
from rules.beat import BEAT
from tests.evaluators.test_quorum import Scene, played

ZONES = {"a": "eu", "b": "eu", "c": "eu", "d": "us", "e": "us", "f": "ap"}
EU_US = {"eu": 2, "us": 1}


def zoned(quorum: dict[str, Any], regions: str = "abcdef", sick: str = "") -> Policy:
    spec = {"slug": "b", "type": "tcp", "host": "h", "port": 1, "quorum": {"confirm": "off", **quorum}}
    bound = Bound(
        regions=tuple(regions), sick=tuple(sick), zones={r: ZONES[r] for r in regions if r in ZONES}
    )
    return compile_policy(BEAT.validate_python(spec), bound)


def both(level: Any) -> dict[str, Any]:
    return {"critical": level, "warning": level}


PICTURES: list[tuple[str, dict[str, Any], str, str]] = [
    ("three regions of one zone are one zone", both({"zone": 2}), "..xx/..xx/..xx/..../..../....", "oooo"),
    ("one vote in each of two zones are two", both({"zone": 2}), "..xx/..../..../..../..../..xx", "oooO"),
    ("any two zones", both({"zone": 2}), "..../..../..../..xx/..../..xx", "oooO"),
    ("all three zones", both({"zone": 3}), "..xx/..../..../..xx/..../....", "oooo"),
    ("all three zones indeed", both({"zone": 3}), "..xx/..../..../..xx/..../..xx", "oooO"),
    ("it ends when one zone is well altogether", both({"zone": 2}), "..xxxx/..xx../....../....../....../..xx..", "oooOxC"),
    ("not when only some of the zone are", both({"zone": 2}), "..xxxx/..xx../....../....../....../..xxxx", "oooOxx"),
    ("named zones: two of eu and one of us", both(EU_US), "..xx/..xx/..../..xx/..../....", "oooO"),
    ("three of eu and none of us are not enough", both(EU_US), "..xx/..xx/..xx/..../..../....", "oooo"),
    ("one of eu and both of us neither", both(EU_US), "..xx/..../..../..xx/..xx/..xx", "oooo"),
    ("they end when eu could not reach its two", both(EU_US), "..xxxx/..xx../....../..xxxx/....../......", "oooOxC"),
    ("or us its one", both(EU_US), "..xxxx/..xxxx/....../..xx../....../......", "oooOxC"),
    ("not while both could", both(EU_US), "..xxxx/..xxxx/..xx../..xxxx/....../..xx..", "oooOxx"),
    (
        "warning by count, critical by zones",
        {"critical": {"zone": 3}, "warning": 2},
        "..xxxx/..xxxx/....../....xx/....../....xx",
        "oooOwx",
    ),
    (
        "an end by zones waits for each of them",
        both({"open": 2, "close": {"eu": 1, "us": 1, "ap": 1}}),
        "..xx..../..xx..../......../......../......../..xxxx..",
        "oooOxxxC",
    ),
    ("of a silent zone nobody knows whether all are bad", both({"zone": 3}), "....../....../....../....../....../..    ", "oooo??"),
    ("a zone is heard by one of its regions", both({"zone": 3}), "....../..    /..    /..    /....../......", "oooooo"),
    ("a zone that is too silent for its votes is unknown, whatever the others say", both(EU_US), "..xxxx/..    /..    /..xxxx/..xxxx/..xxxx", "ooo???"),
    ("percent of those assigned", both("50%"), "..xx/..xx/..xx/..../..../....", "oooO"),
    ("and not less", both("51%"), "..xx/..xx/..xx/..../..../....", "oooo"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("quorum", "picture", "said"), [pytest.param(*rest, id=title) for title, *rest in PICTURES]
)
def test_zones_are_counted(quorum: dict[str, Any], picture: str, said: str) -> None:
    assert played(quorum, picture, zoned(quorum)) == said


def test_a_suspended_region_votes_no_more_and_counts_are_of_the_others() -> None:
    scene = Scene({}, 5)
    scene.policy = zoned({}, "abcde")
    for at in (0.0, 60.0, 120.0):
        scene.all("xx..." if at else ".....", at)
    assert scene.state.stage == "ok"  # two of five
    scene.policy = zoned({}, "abcde", sick="de")
    scene.fold(PolicyChanged(130.0))
    assert (scene.state.stage, scene.votes) == ("critical", "xxo")  # two of three
    scene.see("d", ".", 140.0)
    assert scene.votes == "xxo"


def test_a_region_that_returns_from_suspension_has_kept_its_vote() -> None:
    scene = Scene({}, 3)
    scene.policy = zoned({}, "abc", sick="c")
    for at in (0.0, 60.0):
        scene.all("..", at)
        scene.see("c", "x", at + 1)
    assert scene.votes == "oo"
    scene.policy = zoned({}, "abc")
    scene.fold(PolicyChanged(70.0))
    assert scene.votes == "oox"


def test_a_zone_that_is_suspended_altogether_is_not_waited_for() -> None:
    policy = zoned(both(EU_US), sick="de")
    assert policy.need.critical.is_opened_by(2, ["a", "b"])
    assert not policy.need.critical.is_opened_by(2, ["a", "f"])


def test_where_no_zone_is_left_all_have_to_say_so() -> None:
    policy = zoned(both({"us": 1}), "abcf")
    assert not policy.need.critical.is_opened_by(3, ["a", "b", "c"])
    assert policy.need.critical.is_opened_by(4, ["a", "b", "c", "f"])


@pytest.mark.parametrize("regions", range(1, 7))
@pytest.mark.parametrize(
    "level",
    ["any", "all", "majority", 1, 3, 9, "1%", "50%", "100%", {"zone": 1}, {"zone": 2}, {"eu": 2}, {"eu": 1, "us": 1},
     {"open": 2, "close": 1}, {"open": "any", "close": {"zone": 1}}],
)  # fmt: skip
def test_whatever_is_written_a_level_can_open_and_end_and_never_both_on_the_same_votes(
    level: Any, regions: int
) -> None:
    voters = "abcdef"[:regions]
    need = zoned(both(level), voters).need.critical
    assert need.is_opened_by(regions, voters)
    assert need.is_ended_by(regions, voters)
    for mask in range(2**regions):
        bad = [voter for n, voter in enumerate(voters) if mask >> n & 1]
        better = [voter for voter in voters if voter not in bad]
        assert not (need.is_opened_by(len(bad), bad) and need.is_ended_by(len(better), better))
