"""What a trigger decides, told as stories; docs/explanation/triggers.md has some of them. The laws are in test_trigger_laws.py.

A story is what came, in words: `[fingerprint]seconds` and what it said, `x` critical, `w` warning, `.` recovery, `u`
unmapped, `s` suppressed, `e` an error, `n` not taken by `when`; behind `@`, when that happened, where not then; `r`
behind it all: the same body again. `on`, `off`, `deaf`, `end` and `all` are what else happens.
"""

import re
from typing import Any

import msgspec
import pytest

from evaluators.event import Event, read
from evaluators.matching import Item, Matched
from evaluators.model import Severity
from evaluators.trigger import ABSENCE, KEPT_S, Course, Head, Key, Outcome, Signalled, verdict_of
from rules.trigger import MAX_KEYS, Trigger

T0 = 1_800_000_000.0
SEVERITIES: dict[str, Severity] = {"x": "critical", "w": "warning"}
WORD = re.compile(r"([a-z]?)(\d+)([xw.usen]|on|off|deaf|end|all)(?:@(\d+))?(r?)")


def rule(**more: Any) -> Trigger:
    """Everything says what it is; the target is an external beat."""
    plain = {"slug": "t", "inbox": "i", "critical": True, "recovery": True, "fingerprint": "{$.a}"}
    return Trigger.model_validate(plain | {"target": {"external": "x"}} | more)


def item_of(says: str, fingerprint: str, at: float, **more: Any) -> Item:
    """An item as the matcher would tell it."""
    if says == "e":
        return Item(0, error="fingerprint: $.a is missing", at=at)
    if says in "usn":
        ignored: Any = {"u": "unmapped", "s": "suppressed", "n": "unmatched"}[says]
        return Item(0, ignored=ignored, fingerprint=fingerprint, at=at, **more)
    return Item(0, SEVERITIES.get(says, "recovery"), None, "", fingerprint, at, **more)


class Telling:
    """A course, and what came of it so far."""

    def __init__(self, given: Trigger, *, enabled: bool = True) -> None:
        self.course = Course(given, Head(), {})
        self.said = list[Signalled]()
        self.outcomes = list[Outcome]()
        if enabled:
            self.course.switch(T0, enabled=True)

    def tell(self, word: str) -> None:
        """Fold one word of a story."""
        found = WORD.fullmatch(word)
        assert found, word
        fingerprint, at, says = found[1] or "a", T0 + float(found[2]), found[3]
        event_at = T0 + float(found[4]) if found[4] else at
        if says in ("on", "off"):
            self.said += self.course.switch(at, enabled=says == "on")
        elif says == "deaf":
            self.course.hear(at)
        elif says == "end":
            self.said += self.course.pass_time(at)
            self.said += self.course.end(at, ABSENCE if found[1] == "z" else fingerprint)
        elif says == "all":
            self.said += self.course.end_all(at)
        else:
            matched = Matched((item_of(says, fingerprint, event_at, message=word),))
            outcomes, said = self.course.fold(at, word, matched, is_repeat=bool(found[5]))
            self.outcomes += outcomes
            self.said += said

    def signals(self) -> str:
        """When, of what, what, and why."""
        return ", ".join(
            f"{said.at - T0:g} {said.fingerprint and said.fingerprint + ' '}{said.severity or 'over'}: {said.cause}"
            for said in self.said
        )


def tell(given: Trigger, story: str, until: float = 0.0) -> Telling:
    """The story, then time passes."""
    telling = Telling(given)
    for word in story.split():
        telling.tell(word)
    telling.said += telling.course.pass_time(T0 + until)
    return telling


COUNTED: dict[str, Any] = {"repeats": {"count": 3, "within": 100}}
STORIES = [
    pytest.param({}, "0x 60.", 99, "0 a critical: event, 60 a over: recovery", id="it fires and recovers"),
    pytest.param({}, "0x 9x 60x", 99, "0 a critical: event", id="a refresh tells the target nothing"),
    pytest.param(
        {},
        "0w 9x 60w",
        99,
        "0 a warning: event, 9 a critical: event, 60 a warning: event",
        id="another severity does",
    ),
    pytest.param({}, "0. 9. 10u 11e 12s 13n", 99, "", id="nothing but what fires opens"),
    pytest.param({}, "0x b9.", 99, "0 a critical: event", id="another fingerprint's recovery ends nothing"),
    pytest.param({}, "0x b9x b20x", 9999, "0 a critical: event, 9 b critical: event", id="nor its firing"),
    pytest.param({}, "0x 50.@40 60x@30", 99, "0 a critical: event, 50 a over: recovery", id="late: it opens"),
    pytest.param({}, "0x@0 30x@20 40.@10", 99, "0 a critical: event", id="late: it ends"),
    pytest.param(
        {}, "30.@20 40x@10", 99, "", id="a recovery that comes before what it recovered is remembered"
    ),
    pytest.param(
        {},
        "30x@20 30.@20",
        99,
        "30 a critical: event, 30 a over: recovery",
        id="of one time in order of coming",
    ),
    pytest.param(COUNTED, "0x 10x", 999, "", id="two are not three"),
    pytest.param(COUNTED, "0x 10x 20x", 999, "20 a critical: event", id="three are"),
    pytest.param(COUNTED, "0x 10x 101x", 999, "", id="three in more than the time are not"),
    pytest.param(COUNTED, "0x 10x 100x", 999, "100 a critical: event", id="in just the time they are"),
    pytest.param(COUNTED, "0x 10x 15. 20x", 999, "", id="a recovery clears the count"),
    pytest.param(COUNTED, "40x@30 41x@10 42x@20", 999, "42 a critical: event", id="counted in any order"),
    pytest.param(
        COUNTED, "40.@30 41x@35 42x@20 43x@40", 99, "", id="but not what was before it was last over"
    ),
    pytest.param(COUNTED, "40.@30 41x@35 42x@32 43x@40", 99, "43 a critical: event", id="what was after is"),
    pytest.param(COUNTED, "0x b1x 2x b3x 4x", 999, "4 a critical: event", id="each fingerprint by itself"),
    pytest.param({"for": 60}, "0x", 99, "60 a critical: held", id="held, then open"),
    pytest.param({"for": 60}, "0x 59.", 99, "", id="recovered while it was held"),
    pytest.param({"for": 60}, "0w 30x", 99, "60 a critical: held", id="as bad as it was last"),
    pytest.param(
        {"for": 60}, "0x 60.", 99, "60 a critical: held, 60 a over: recovery", id="ticks come first"
    ),
    pytest.param(
        {"for": 60} | COUNTED, "0x 10x 20x", 99, "80 a critical: held", id="counted first, and then held"
    ),
    pytest.param(
        {"cooldown": 60},
        "0x 10. 20x",
        99,
        "0 a critical: event, 10 a over: recovery, 70 a critical: cooled",
        id="what still fires opens when it has cooled",
    ),
    pytest.param(
        {"cooldown": 60},
        "0x 10. 20x 30.",
        99,
        "0 a critical: event, 10 a over: recovery",
        id="what does not still fire opens not",
    ),
    pytest.param(
        {"cooldown": 60, "for": 20},
        "0x 30. 80x",
        999,
        "20 a critical: held, 30 a over: recovery, 100 a critical: held",
        id="the later of cooldown and hold counts",
    ),
    pytest.param(
        {"silence": 100},
        "0x 50x",
        999,
        "0 a critical: event, 150 a over: silence",
        id="silence is counted from the last that fired",
    ),
    pytest.param(
        {"silence": 100},
        "10x 50xr 100s 150x@0",
        999,
        "10 a critical: event, 200 a over: silence",
        id="a repeat and a suppressed one are no silence, a late one is",
    ),
    pytest.param(
        {"silence": 100, "for": 200}, "0x 50x", 999, "", id="what waits to open may be silent as well"
    ),
    pytest.param(
        {"silence": 100},
        "0x 90deaf",
        999,
        "0 a critical: event, 190 a over: silence",
        id="nobody could hear: silence begins anew",
    ),
    pytest.param(
        {"expires": 100},
        "0x 50x 120x",
        999,
        "0 a critical: event, 100 a over: expiry, 120 a critical: event, 220 a over: expiry",
        id="it expires whatever comes, and may open again",
    ),
    pytest.param(
        {"absence": {"after": 100}},
        "0n 50u 60e",
        170,
        "160 critical: absence",
        id="absence: what `when` takes counts, errors as well",
    ),
    pytest.param(
        {"absence": {"after": 100, "severity": "warning"}},
        "120u",
        130,
        "100 warning: absence, 120 over: present",
        id="the next event ends it",
    ),
    pytest.param(
        {"absence": {"after": 100}}, "90xr", 150, "", id="a repeat is no absence, and opens nothing"
    ),
    pytest.param({"absence": {"after": 100}}, "50deaf", 149, "", id="who could not hear misses nothing"),
    pytest.param(
        {"absence": {"after": 100}},
        "0x 150off 300on",
        420,
        "0 a critical: event, 100 critical: absence, 150 over: disabled, 400 critical: absence",
        id="disabled nothing is missing; what is open stays open",
    ),
    pytest.param(
        {"absence": {"after": 100}},
        "z150end",
        270,
        "100 critical: absence, 150 over: ended, 250 critical: absence",
        id="who ends an absence waits anew",
    ),
    pytest.param({}, "0off 10x 20on", 99, "", id="disabled it opens nothing"),
    pytest.param(
        {}, "0x 10off 20.", 99, "0 a critical: event, 20 a over: recovery", id="disabled, recoveries pass"
    ),
    pytest.param(
        {"for": 60}, "0x 10off 20on", 99, "", id="what waits to open is dropped when it is disabled"
    ),
    pytest.param({}, "0x 10end", 99, "0 a critical: event, 10 a over: ended", id="a person ends it"),
    pytest.param(
        {"cooldown": 60},
        "0x 10end 20x",
        99,
        "0 a critical: event, 10 a over: ended, 70 a critical: cooled",
        id="and it cools as ever",
    ),
    pytest.param(
        {"absence": {"after": 100}},
        "b99w 99x 199all",
        250,
        "99 b warning: event, 99 a critical: event, "
        "199 critical: absence, 199 over: ended, 199 a over: ended, 199 b over: ended",
        id="another rule: all of it ends",
    ),
]


@pytest.mark.parametrize(("more", "story", "until", "signals"), STORIES)
def test_what_the_target_hears(more: dict[str, Any], story: str, until: float, signals: str) -> None:
    assert tell(rule(**more), story, until).signals() == signals


@pytest.mark.parametrize(
    ("more", "story", "outcomes"),
    [
        ({}, "0x 1x 2w 3x 4.", "opened, refreshed, deescalated, escalated, resolved"),
        ({}, "0. 1u 2s 3n", "no open signal, unmapped, suppressed, unmatched"),
        ({}, "0e", "fingerprint: $.a is missing"),
        ({}, "9x 10x@8 11.@8 12xr 13.r", "opened, late, late, repeat, repeat"),
        ({}, "0off 1x 2.", "disabled, no open signal"),
        (COUNTED, "0x 1x 2x 3x", "counted 1 of 3, counted 2 of 3, opened, refreshed"),
        (COUNTED, "0x 150x 151.", "counted 1 of 3, counted 1 of 3, no open signal, it waited to open"),
        ({"for": 60}, "0x 1x 2. 3.", "held, held, no open signal, it waited to open, no open signal"),
        ({"cooldown": 60}, "0x 1. 2x 3x 99x", "opened, resolved, cooling, cooling, refreshed"),
        ({"cooldown": 60, "for": 9}, "0x 1. 60x", "held, no open signal, it waited to open, held"),
    ],
)
def test_what_becomes_of_each_item(more: dict[str, Any], story: str, outcomes: str) -> None:
    found = tell(rule(**more), story).outcomes
    told = (f"{one.kind} {one.reason}" if one.kind == "counted" else one.reason or one.kind for one in found)
    assert ", ".join(told) == outcomes


def test_a_signal_tells_which_event_did_it_and_what_that_said() -> None:
    said = tell(rule(silence=100), "0x 10x 20w 30. 40x 50x", 999).said
    assert [(one.event, one.message) for one in said] == [
        ("0x", "0x"),
        ("20w", "20w"),
        ("30.", "30."),
        ("40x", "40x"),
        ("50x", "50x"),  # silence: the last that fired
    ]


def test_an_event_counts_once_however_many_of_its_items_are_of_a_fingerprint() -> None:
    course = Course(rule(**COUNTED), Head(), {})
    course.switch(T0, enabled=True)
    items = tuple(Item(index, "critical", None, "", "a", T0) for index in range(5))
    outcomes, said = course.fold(T0, "e", Matched(items))
    assert {outcome.reason for outcome in outcomes} == {"1 of 3"}
    assert not said


def test_a_late_event_counts_once_as_well() -> None:
    course = Course(rule(repeats={"count": 3, "within": "5m"}), Head(), {})
    course.switch(T0, enabled=True)
    course.fold(T0 + 100, "e1", Matched((item_of("x", "a", T0 + 100),)))
    late = Matched((item_of("x", "a", T0 + 50), item_of("x", "a", T0 + 51)))
    outcomes, said = course.fold(T0 + 101, "e2", late)
    assert [outcome.reason for outcome in outcomes] == ["2 of 3", "2 of 3"]
    assert not said


def test_items_of_one_event_are_judged_one_by_one() -> None:
    course = Course(rule(), Head(), {})
    course.switch(T0, enabled=True)
    items = (item_of("x", "a", T0), item_of(".", "b", T0), item_of("e", "", T0), item_of("x", "b", T0))
    outcomes, said = course.fold(T0, "e", Matched(items))
    assert [outcome.kind for outcome in outcomes] == ["opened", "ignored", "error", "opened"]
    assert [one.fingerprint for one in said] == ["a", "b"]


def test_an_event_that_cannot_be_judged_is_one_error_and_no_presence() -> None:
    course = Course(rule(absence={"after": 100}), Head(), {})
    course.switch(T0, enabled=True)
    outcomes, _ = course.fold(T0 + 50, "e", Matched(error="over budget"))
    assert outcomes == [Outcome("error", 0, "over budget")]
    assert course.next_deadline == T0 + 100


def test_values_are_remembered_of_every_item_that_has_some() -> None:
    course = Course(rule(), Head(), {})
    course.switch(T0, enabled=True)
    for at, says, value in ((10, "n", "1"), (20, "x", "2"), (30, "u", "3"), (40, ".", "4"), (50, "n", "5")):
        assert course.before("a") == ({"$.v": str(int(value) - 1)} if value > "1" else {})
        event_at = 0.0 if says == "n" else T0 + at  # what `when` does not take has no time
        course.fold(T0 + at, "e", Matched((item_of(says, "a", event_at, values={"$.v": value}),)))
    course.fold(T0 + 60, "e", Matched((item_of("x", "a", T0 + 39, values={"$.v": "6"}),)))
    assert course.before("a") == {"$.v": "5"}, "of a late one nothing is"
    course.fold(T0 + 70, "e", Matched((item_of("x", "a", T0 + 70, values={"$.w": "7"}),)))
    assert course.before("a") == {"$.v": "5", "$.w": "7"}, "what is missing is as it was last"


def test_that_values_are_remembered_is_no_word_that_it_is_still_so() -> None:
    course = Course(rule(silence=100), Head(), {})
    course.switch(T0, enabled=True)
    course.fold(T0, "e", Matched((item_of("x", "a", T0),)))
    course.fold(T0 + 50, "e", Matched((item_of("u", "a", T0 + 50, values={"$.v": "1"}),)))
    assert course.next_deadline == T0 + 100


def test_what_is_over_is_forgotten_after_a_day_and_not_one_by_one() -> None:
    telling = tell(rule(), "0x 10. b20. c400x")
    course = telling.course
    due = course.next_deadline
    assert due is not None
    assert T0 + 20 + KEPT_S < due <= T0 + 620 + KEPT_S
    course.changed.clear()
    assert course.pass_time(due) == []
    assert set(course.keys) == {"c"}
    assert course.changed == {"a", "b"}
    assert course.next_deadline is None


def test_what_somebody_ended_is_remembered_from_then() -> None:
    due = tell(rule(), "0x 500000end").course.next_deadline
    assert due is not None
    assert due > T0 + 500_000 + KEPT_S


def test_keys_are_bounded_and_what_was_over_first_makes_room() -> None:
    open_ = {f"k{n}": Key("critical", T0, T0, T0) for n in range(MAX_KEYS - 2)}
    over = {"older": Key(event_at=T0, seen_at=T0 + 1), "newer": Key(event_at=T0, seen_at=T0 + 2)}
    course = Course(rule(), Head(T0, T0), open_ | over)
    kinds = []
    for name in "abc":
        outcomes, _ = course.fold(T0 + 9, name, Matched((item_of("x", name, T0 + 9),)))
        kinds += [outcome.reason or outcome.kind for outcome in outcomes]
        assert ("newer" in course.keys) is (name == "a")
    assert kinds == ["opened", "opened", "too many fingerprints"]
    outcomes, _ = course.fold(T0 + 9, "d", Matched((item_of(".", "d", T0 + 9),)))
    assert outcomes[0].reason == "no open signal"
    assert len(course.keys) == MAX_KEYS
    assert course.changed == {"older", "newer", "a", "b"}


def test_time_never_goes_back() -> None:
    telling = tell(rule(**{"for": 60}), "100x 40x@30", 50)
    assert telling.course.head.at == T0 + 100
    telling.course.pass_time(T0 + 500)
    telling.tell("300.@200")
    assert telling.said[-1].at == T0 + 500


def test_head_and_keys_are_kept_as_json() -> None:
    course = tell(rule(**COUNTED), "0x 10x b3.").course
    head = msgspec.json.decode(msgspec.json.encode(course.head), type=Head)
    keys = msgspec.json.decode(msgspec.json.encode(course.keys), type=dict[str, Key])
    assert (head, keys) == (course.head, course.keys)


def test_an_event_without_a_time_of_its_own_is_never_late() -> None:
    course = Course(rule(), Head(), {})
    course.switch(T0 + 50, enabled=True)  # the server that received it is behind
    event = Event("e", T0, (("content-type", "application/json"),), "", b'{"a": "b"}')
    _, outcomes, said = course.see(T0 + 10, event.id, read(event))
    assert [outcome.reason for outcome in outcomes] == ["no open signal"]  # `recovery` is looked at first
    assert not said
    assert course.keys["b"].event_at == T0 + 50


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "unmatched"),
        ([Outcome("ignored", 0, "unmatched")], "unmatched"),
        ([Outcome("ignored", 0, "unmatched"), Outcome("ignored", 1, "late")], "ignored"),
        ([Outcome("ignored", 0, "late"), Outcome("counted")], "matched"),
        ([Outcome("opened"), Outcome("error")], "error"),
    ],
)
def test_an_event_has_one_verdict(outcomes: list[Outcome], verdict: str) -> None:
    assert verdict_of(outcomes) == verdict


def test_a_rule_without_clocks_is_never_due() -> None:
    assert tell(rule(), "0x").course.next_deadline is None
