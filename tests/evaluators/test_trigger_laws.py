"""Laws of what a trigger decides, over every short sequence and over many random ones."""

import math
from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.matching import Item, Matched
from evaluators.trigger import ABSENCE, Course, Head, Key, Outcome, Signalled
from rules.trigger import Trigger
from tests.evaluators.test_trigger import T0, Telling, item_of, rule, tell

RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "counted": {"repeats": {"count": 2, "within": 100}},
    "held": {"for": 60},
    "cooled": {"cooldown": 120},
    "silent": {"silence": 90},
    "expiring": {"expires": 60, "absence": {"after": 60}},
    "all": {
        "repeats": {"count": 2, "within": 200},
        "for": 50,
        "cooldown": 100,
        "silence": 150,
        "expires": 300,
        "absence": {"after": 60},
    },
}
BY_TIME = {"held", "cooled", "silence", "expiry", "absence"}


def expect_lawful(given_: Trigger, said: Sequence[Signalled]) -> None:
    """Opens and ends alternate, changes are changes, and time goes on."""
    now: dict[str, Any] = {}
    last_at = 0.0
    for one in said:
        was = now.get(one.fingerprint)
        assert one.severity != was, "only changes are told"
        if one.cause in ("recovery", "silence", "expiry", "present", "ended", "disabled"):
            assert one.severity is None, "what ends opens nothing"
        else:
            assert one.severity is not None, "what fires ends nothing"
        assert (one.fingerprint == ABSENCE) == (one.cause in ("absence", "present")) or one.cause in (
            "ended",
            "disabled",
        )
        assert one.at >= last_at
        now[one.fingerprint], last_at = one.severity, one.at


@pytest.mark.parametrize("name", RULES)
def test_over_every_short_sequence(name: str) -> None:
    """Columns of 40 s of two fingerprints; `l` is a firing, and `m` a recovery, from two columns ago."""
    given_ = rule(**RULES[name])
    for story in product("x.wlm ", repeat=5):
        telling = Telling(given_)
        for column, says in enumerate(story):
            at = T0 + 40.0 * column
            if says != " ":
                event_at = at - 80.0 if says in "lm" else at
                item = item_of({"l": "x", "m": "."}.get(says, says), "a", event_at)
                before = dict(telling.course.open)
                outcomes, said = telling.course.fold(at, f"{column}", Matched((item,)))
                telling.said += said
                caused = [one for one in said if one.cause not in BY_TIME]
                if item.says == "recovery":
                    assert not any(one.severity for one in caused), "a recovery never opens"
                if outcomes[0].reason == "late":
                    assert not [one for one in caused if one.fingerprint], "what is late changes nothing"
                if not said:
                    assert telling.course.open == before
        telling.said += telling.course.pass_time(T0 + 2000.0)
        expect_lawful(given_, telling.said)
        ends = {one.fingerprint: one.severity for one in telling.said}
        assert telling.course.open == {name: one for name, one in ends.items() if one is not None}


@pytest.mark.parametrize("name", ["plain", "counted", "held", "cooled", "silent"])
def test_what_is_said_of_a_fingerprint_hangs_on_its_own_events_alone(name: str) -> None:
    moves = ["0x", "b0x", "0.", "b0.", "0w"]
    given_ = rule(**RULES[name])
    for story in product(range(len(moves)), repeat=4):
        words = [moves[move].replace("0", str(40 * column)) for column, move in enumerate(story)]
        both = tell(given_, " ".join(words), 1000).said
        for fingerprint in "ab":
            alone = " ".join(word for word in words if word.startswith("b") == (fingerprint == "b"))
            assert [one for one in both if one.fingerprint == fingerprint] == tell(given_, alone, 1000).said


def test_the_newest_event_says_how_it_stands_in_whatever_order_they_came() -> None:
    happened = ["10x", "20.", "30w", "40x", "50."]
    for upto in range(1, 6):
        for order in permutations(happened[:upto]):
            story = " ".join(f"{100 + place}{word[2]}@{word[:2]}" for place, word in enumerate(order))
            says = happened[upto - 1][2]
            expected = {"x": {"a": "critical"}, "w": {"a": "warning"}, ".": {}}[says]
            assert tell(rule(), story).course.open == expected, story


def test_firings_count_in_whatever_order_they_came() -> None:
    given_ = rule(repeats={"count": 4, "within": 100})
    for order in permutations([10, 40, 70, 110]):
        story = " ".join(f"{200 + place}x@{at}" for place, at in enumerate(order))
        assert tell(given_, story).signals() == "203 a critical: event"
    for order in permutations([10, 40, 70, 111]):
        story = " ".join(f"{200 + place}x@{at}" for place, at in enumerate(order))
        assert tell(given_, story).signals() == ""


# ---- random ones


RULE = st.builds(
    lambda more: rule(**more),
    st.fixed_dictionaries(
        {},
        optional={
            "repeats": st.fixed_dictionaries({"count": st.integers(2, 4), "within": st.integers(1, 300)}),
            "for": st.integers(0, 200),
            "cooldown": st.integers(0, 300),
            "silence": st.integers(30, 300),
            "expires": st.integers(60, 400),
            "absence": st.fixed_dictionaries({"after": st.integers(60, 300)}),
        },
    ),
)
ITEM = st.builds(
    lambda index, says, fingerprint, back, value: (index, says, fingerprint, back, value),
    st.just(0),
    st.sampled_from("xw.xw.usen"),
    st.sampled_from("abc"),
    st.sampled_from([0.0, 0.0, 0.0, 5.0, 60.0, math.inf]),
    st.sampled_from(["", "1", "2"]),
)
MOVE = st.tuples(
    st.sampled_from(["event"] * 8 + ["repeat", "time", "on", "off", "deaf", "end", "all"]),
    st.sampled_from([0.0, 0.0, 1.0, 10.0, 30.0, 60.0, 100.0, 250.0, 90_000.0]),
    st.lists(ITEM, max_size=4),
    st.sampled_from(["a", "b", ABSENCE]),
)


def do(
    course: Course, at: float, number: int, move: tuple[Any, ...]
) -> tuple[list[Outcome], list[Signalled]]:
    """One move, in any of the ways in which something happens to a course."""
    kind, _, items, fingerprint = move
    if kind in ("event", "repeat"):
        seen = tuple(
            item_of(
                says, name, 0.0 if back == math.inf else at - back, values={"$.v": value} if value else {}
            )
            for _, says, name, back, value in items
        )
        return course.fold(at, f"e{number}", Matched(seen), is_repeat=kind == "repeat")
    if kind == "time":
        return [], course.pass_time(at)
    if kind in ("on", "off"):
        return [], course.switch(at, enabled=kind == "on")
    if kind == "deaf":
        course.hear(at)
        return [], []
    if kind == "all":
        return [], course.end_all(at)
    return [], course.pass_time(at) + course.end(at, fingerprint)  # a person lets no time pass


def saved(course: Course, given_: Trigger, kept: dict[str, bytes]) -> Course:
    """The course as it is read back from what was saved of it: the head, and the keys that changed."""
    for name in course.changed:
        kept.pop(name, None)
        if name in course.keys:
            kept[name] = msgspec.json.encode(course.keys[name])
    head = msgspec.json.decode(msgspec.json.encode(course.head), type=Head)
    keys = {name: msgspec.json.decode(key, type=Key) for name, key in sorted(kept.items())}
    return Course(given_, head, keys)


@settings(max_examples=150, deadline=None)
@given(RULE, st.lists(MOVE, max_size=25), st.data())
def test_a_course_that_was_saved_goes_on_as_if_nothing_had_been(
    given_: Trigger, moves: list[Any], data: st.DataObject
) -> None:
    course = Course(given_, Head(), {})
    course.switch(T0, enabled=True)
    kept: dict[str, bytes] = {}
    other = saved(course, given_, kept)
    at, said = T0, list[Signalled]()
    for number, move in enumerate(moves):
        at += move[1]
        mine, theirs = do(course, at, number, move), do(other, at, number, move)
        assert mine == theirs
        said += mine[1]
        if data.draw(st.booleans()):
            other = saved(other, given_, kept)
        assert (course.head, course.keys) == (other.head, other.keys)
        assert course.next_deadline == other.next_deadline
    assert course.pass_time(at + 1e6) == other.pass_time(at + 1e6)
    expect_lawful(given_, said)


@settings(max_examples=100, deadline=None)
@given(RULE, st.lists(MOVE, max_size=15), st.lists(st.floats(0.1, 200.0), max_size=30))
def test_time_may_pass_in_any_steps(given_: Trigger, moves: list[Any], steps: list[float]) -> None:
    """Waking at every deadline, or now and then, is the same as not waking at all."""
    lazy, eager = Course(given_, Head(), {}), Course(given_, Head(), {})
    at, said, told = T0, list[Signalled](), list[Signalled]()
    for number, move in enumerate([("on", 0.0, [], ""), *moves]):
        began, at = at, at + move[1]
        if move[0] != "deaf":  # it comes before the time that it is about
            for step in steps:
                if began + step < at:
                    told += eager.pass_time(began + step)
            while (due := eager.next_deadline) is not None and due <= at:
                before = (eager.head, dict(eager.keys))
                told += eager.pass_time(due)
                assert (eager.head, eager.keys) != before, "what is due does something, or it is due for ever"
        outcomes, mine = do(lazy, at, number, move)
        theirs, more = do(eager, at, number, move)
        said, told = said + mine, told + more
        assert outcomes == theirs
    assert said + lazy.pass_time(at + 1e5) == told + eager.pass_time(at + 1e5)
    assert lazy.keys == eager.keys


@settings(max_examples=200, deadline=None)
@given(
    RULE,
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12),
            st.builds(
                Item,
                st.integers(0, 5),
                st.sampled_from(["critical", "warning", "recovery", None]),
                st.sampled_from(["unmatched", "unmapped", "suppressed", None]),
                st.sampled_from(["", "wrong"]),
                st.text(max_size=2),
                st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12),
            ),
            st.booleans(),
        ),
        max_size=15,
    ),
)
def test_whatever_comes_nothing_raises(given_: Trigger, moves: list[tuple[float, Item, bool]]) -> None:
    course = Course(given_, Head(), {})
    course.switch(1.0, enabled=True)
    for number, (at, item, is_repeat) in enumerate(moves):
        before = course.head.at
        outcomes, _ = course.fold(at, str(number), Matched((item,)), is_repeat=is_repeat)
        assert len(outcomes) == 1
        assert course.head.at == max(at, before)
