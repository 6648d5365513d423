"""What a preview finds: of stories as in test_trigger.py, told by real events to real rules."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators import replay
from evaluators.advice import Advice
from evaluators.event import Document, Event, read
from evaluators.facts import EpisodeClosed, EpisodeOpened, PolicyChanged, SeverityChanged, SignalChanged, Tick
from evaluators.policy import Bound, compile_policy
from evaluators.preview import MOST_LINES, Comparison, Difference, Findings, Preview
from evaluators.quorum import newborn, signal_key
from evaluators.trigger import Course, Head
from rules.beat import BEAT, AnyBeat
from rules.group import Group
from rules.trigger import Trigger
from tests.evaluators.test_trigger import T0, WORD

AUTO = {"open": "auto", "update": "auto", "resolve": "auto"}
PLAIN: dict[str, Any] = {
    "slug": "t",
    "inbox": "i",
    "when": [{"value": "$.said", "ne": "n"}],
    "critical": [{"value": "$.said", "eq": "x"}],
    "warning": [{"value": "$.said", "eq": "w"}],
    "recovery": [{"value": "$.said", "eq": "."}],
    "truncated": [{"value": "$.more", "eq": True}],
    "fingerprint": "{$.host}",
    "time": "$.at",
    "target": {"external": "shop"},
}


def rule(**more: Any) -> Trigger:
    """Takes what has `said` something; `n` is not taken, and what has no `host` is an error."""
    return Trigger.model_validate(PLAIN | more)


def document(at: float, said: str, host: str = "a", **more: Any) -> Document:
    """What is posted, taken apart."""
    body = {"said": said, "at": at, **({} if said == "e" else {"host": host}), **more}
    if said == "e":
        body["said"] = "x"
    return read(Event("", at, (("content-type", "application/json"),), "", json.dumps(body).encode()))


def told(preview: Preview | Comparison, story: str | Iterable[str]) -> None:
    """Fold the story."""
    for word in story.split() if isinstance(story, str) else story:
        found = WORD.fullmatch(word)
        assert found, word
        at = T0 + float(found[2])
        seen = document(T0 + float(found[4] or found[2]), found[3], found[1] or "a")
        preview.see(at, word, seen, is_repeat=bool(found[5]))


def found_in(story: str | Iterable[str], until: float = 1000.0, **more: Any) -> Findings:
    """What a preview of the story finds."""
    target, about = more.pop("target_rule", None), more.pop("about", {})
    preview = Preview(rule(**more), target, start=T0, **about)
    told(preview, story)
    return preview.finish(T0 + until)


def advice_of(found: Findings, kind: str) -> Advice | None:
    """What is said of one thing."""
    return next((one for one in found.advice if one.kind == kind), None)


def drafts_of(found: Findings | list[Any]) -> str:
    """When, which step, and what became of it."""
    drafts = found.drafts if isinstance(found, Findings) else found
    return ", ".join(
        f"{draft.at - T0:g} {draft.step} {draft.severity} {draft.status}"
        + (f" {draft.ended_at - T0:g}" if draft.ended_at else "")
        for draft in drafts
    )


def test_a_draft_of_an_episode_that_is_over_is_taken_as_approved_as_well() -> None:
    found = found_in("0x 600. 700x 1400.", 1500)
    assert drafts_of(found) == (
        "0 open critical approved 300, 600 resolve critical approved 900, "
        "700 open critical approved 1000, 1400 resolve critical pending"
    )


def test_each_event_has_a_line_with_what_became_of_it() -> None:
    found = found_in("0x 10u 20n 30e 40. 50.")
    lines = [
        (line.id, line.verdict, [outcome.reason or outcome.kind for outcome in line.outcomes])
        for line in found.lines
    ]
    assert lines == [
        ("0x", "matched", ["opened"]),
        ("10u", "ignored", ["unmapped"]),
        ("20n", "unmatched", ["unmatched"]),
        ("30e", "error", ["fingerprint: $.host is missing"]),
        ("40.", "matched", ["resolved"]),
        ("50.", "ignored", ["no open signal"]),
    ]
    assert found.verdicts == {"matched": 2, "ignored": 2, "unmatched": 1, "error": 1}
    assert (found.events, found.left_out, found.since, found.until) == (6, 0, T0, T0 + 1000)
    assert {(one.kind, one.reason): one.count for one in found.counts}["ignored", "unmapped"] == 1


def test_episodes_are_those_of_the_target() -> None:
    found = found_in("10w b20x 30. b40. 50x", 60)
    assert [
        (one.opened - T0, one.closed and one.closed - T0, one.severity, one.fingerprints, one.event)
        for one in found.episodes
    ] == [(10, 40, "critical", ["a", "b"], "10w"), (50, None, "critical", ["a"], "50x")]
    assert found.open_signals == 1


def test_the_target_has_its_own_hold_times() -> None:
    held = BEAT.validate_python({"slug": "shop", "type": "external", "episodes": {"resolve_delay": "100s"}})
    found = found_in("10x 30. 60x 70.", target_rule=held)
    assert [(one.opened - T0, (one.closed or 0) - T0) for one in found.episodes] == [(10, 170)]


@pytest.mark.parametrize(
    ("more", "story", "drafts"),
    [
        ({}, "0x 60.", "0 open critical withdrawn 60"),
        ({}, "0x 400.", "0 open critical approved 300, 400 resolve critical approved 700"),
        ({}, "0w 10x 400.", "0 open critical approved 300, 400 resolve critical approved 700"),
        (
            {},
            "0w 400x 800.",
            "0 open warning approved 300, 400 update critical approved 700, 800 resolve critical pending",
        ),
        ({"incidents": AUTO}, "0x 60.", "0 open critical done 0, 60 resolve critical done 60"),
        ({"incidents": {"open": "off"}}, "0x 60.", ""),
    ],
)
def test_drafts_go_as_far_as_they_may(more: dict[str, Any], story: str, drafts: str) -> None:
    bold = BEAT.validate_python({"slug": "shop", "type": "external", "name": "Shop", "incidents": AUTO})
    found = found_in(story, 1000, target_rule=bold, **more)
    assert drafts_of(found) == drafts
    assert found.drafted == len(found.drafts)
    for draft in found.drafts:
        assert "Shop" in draft.text
        assert "Shop" in draft.title


def test_the_more_careful_of_trigger_and_target_counts() -> None:
    assert drafts_of(found_in("0x", incidents=AUTO)) == "0 open critical approved 300"
    bold = BEAT.validate_python({"slug": "shop", "type": "external", "incidents": AUTO})
    found = found_in("0x", target_rule=bold, about={"components": ["Checkout"]})
    assert drafts_of(found) == "0 open critical approved 300"
    assert found.drafts[0].title == "Outage: Checkout"
    promoted = "It is taken as promoted to what it asks for."
    assert promoted not in found.assumed
    assert promoted in found_in("0x", incidents=AUTO, target_rule=bold).assumed


def test_a_fingerprint_may_have_a_beat_of_its_own_up_to_the_cap() -> None:
    per: dict[str, Any] = {"target": {"external": "shop", "per_fingerprint": 2}}
    found = found_in("0x b10x c20x d30w 40. d400.", **per)
    assert [(one.beat, one.fingerprints) for one in found.episodes] == [
        ("a", ["a"]),
        ("b", ["b"]),
        ("", ["c", "d"]),
    ]
    assert [draft.title for draft in found.drafts if draft.step == "open"] == [
        "Outage: a",
        "Outage: b",
        "Outage: shop",
    ]


def test_an_absence_is_of_the_target_itself() -> None:
    found = found_in("0x", 700, absence={"after": 600}, target={"external": "shop", "per_fingerprint": 2})
    assert [(one.beat, one.opened - T0) for one in found.episodes] == [("a", 0), ("", 600)]


def test_a_draft_that_waits_is_revised() -> None:
    (draft,) = found_in("0w 10x", 20).drafts
    assert (draft.severity, draft.revisions, draft.title) == ("critical", 1, "Outage: shop")


def test_what_a_probed_beat_measures_is_taken_as_ok_and_that_is_said() -> None:
    beat = BEAT.validate_python({"slug": "shop", "type": "tcp", "host": "h", "port": 1})
    found = found_in("0x 60.", target={"beat": "shop"}, target_rule=beat)
    assert [(one.opened - T0, (one.closed or 0) - T0) for one in found.episodes] == [(0, 60)]
    assert "What its own checks say is taken as ok." in found.assumed


def test_a_group_counts_the_trigger_as_one_member() -> None:
    majority = Group.model_validate({"slug": "shop", "quorum": {"critical": {"open": "majority"}}})
    to_group: dict[str, Any] = {"target": {"group": "shop"}, "target_rule": majority}
    alone = found_in("0x 60.", about={"members": 0}, **to_group)
    among = found_in("0x 60.", about={"members": 3}, **to_group)
    assert [one.severity for one in alone.episodes] == ["critical"]
    assert "critical" not in [one.severity for one in among.episodes]
    assert "All 3 members of the group are taken as ok." in among.assumed


# ---- advice


MANY = range(40)
ADVICE = [
    pytest.param({}, [f"{n}n" for n in MANY], "matches_nothing", "`when` takes none", id="nothing is taken"),
    pytest.param(
        {"each": "$.alerts[*]"},
        "0x 1x",
        "matches_nothing",
        "`each` finds no item at $.alerts[*]",
        id="no item",
    ),
    pytest.param({"time": "$.said"}, "0x", "times", "$.said is 'x', which is no time", id="no time"),
    pytest.param({}, "0x@900", "times", "which is no time, or not one yet", id="a time to come"),
    pytest.param({}, [f"{n}u" for n in MANY], "matches_nothing", "none", id="nothing fires"),
    pytest.param({}, [f"{n}x" for n in MANY], "matches_everything", "40 of 40 items fire", id="all fires"),
    pytest.param({}, "0x b1x 2.", "missing_recovery", "1 of 2 fingerprints opened", id="no recovery"),
    pytest.param({}, "0x b1.", "unmatched_recovery", "1 recovery of what was not open:", id="of another"),
    pytest.param(
        {"fingerprint": "host-{$.host}"},
        "0x b1.",
        "unmatched_recovery",
        "'host-b' is like 'host-a', which was open",
        id="of nearly the same",
    ),
    pytest.param(
        {"fingerprint": "{$.at}"}, [f"{n}x" for n in MANY], "key_cardinality", "40 of 40", id="a time as key"
    ),
    pytest.param({}, [f"{n}x" for n in MANY], "single_key", "All 40 items", id="one for all"),
    pytest.param({}, [f"{n}x" for n in MANY], "duplicates", "39 items said again", id="again and again"),
    pytest.param({}, "0x 9. 20x 29. 40x", "flapping", "1 fingerprint changed 4 times", id="on and off"),
    pytest.param({}, "0e", "errors", "fingerprint: $.host is missing", id="what cannot be judged"),
    pytest.param({}, "0u 1u", "unmapped", "$.said is 'u'", id="what says nothing"),
    pytest.param({}, "50x@40 60.@30", "late", "1 item came after", id="late ones"),
    pytest.param({"silence": 60}, "0x", "silence", "1 signal ended", id="silence"),
    pytest.param({"absence": {"after": 600}}, "0x", "absence", "No event for 10m", id="absence"),
]


@pytest.mark.parametrize(("more", "story", "kind", "text"), ADVICE)
def test_there_is_advice(more: dict[str, Any], story: Any, kind: str, text: str) -> None:
    one = advice_of(found_in(story, **more), kind)
    assert one
    assert text in one.text


def test_what_came_late_is_a_warning_where_it_was_the_last_word() -> None:
    """Such as a recovery by a clock that is slow: the sender will not say it again, and the signal stays open."""
    last, harmless = (
        advice_of(found_in(story), "late") for story in ("50x@40 60.@30", "50x@40 60.@30 70.@65")
    )
    assert last
    assert harmless
    assert (last.severity, harmless.severity) == ("warning", "info")
    assert "the last word of 'a'" in last.text


def test_a_rule_that_is_well_gets_no_advice() -> None:
    story = " ".join(f"{h}{at}x {h}{at + 100}. {at + 50}n" for at in range(0, 90_000, 9000) for h in "abc")
    assert found_in(sorted(story.split(), key=lambda word: int(word.strip("abcxn."))), 99_999).advice == []


def test_of_recoveries_of_nothing_the_one_that_is_like_something_open_is_told() -> None:
    found = found_in("0x b1x 2. c3.", fingerprint="host-{$.host}")
    one = advice_of(found, "unmatched_recovery")
    assert one
    assert one.text.startswith("1 recovery of what was not open. 'host-c' is like 'host-b'")
    assert one.examples == ("c3.",)


def test_what_is_left_to_a_person_lacks_no_recovery() -> None:
    assert advice_of(found_in("0x", recovery=False), "missing_recovery") is None


def test_truncated_events_are_counted() -> None:
    preview = Preview(rule(), start=T0)
    preview.see(T0, "e", document(T0, "x", more=True))
    one = advice_of(preview.found(), "truncated")
    assert one
    assert one.examples == ("e",)


def test_posting_by_itself_is_a_risk_where_little_is_known() -> None:
    bold = BEAT.validate_python({"slug": "shop", "type": "external", "incidents": AUTO})
    risky = advice_of(found_in("0x", incidents=AUTO, target_rule=bold), "auto_post_risk")
    assert risky
    assert "opened only once" in risky.text
    assert "no event ever ended" in risky.text
    assert advice_of(found_in("0x", target_rule=bold), "auto_post_risk") is None
    brief = found_in("0x 60. 900x 960. 9000x 9900.", 9999, incidents=AUTO, target_rule=bold)
    assert "2 of 3 incidents were over within two minutes" in str(advice_of(brief, "auto_post_risk"))
    known = [f"{day * 86_400 + at}" for day in range(9) for at in (0, 600)]
    story = [f"{at}{'x.'[place % 2]}" for place, at in enumerate(known)]
    found = found_in(story, 9 * 86_400, incidents=AUTO, target_rule=bold)
    assert advice_of(found, "auto_post_risk") is None


def test_a_value_that_is_hidden_is_not_told() -> None:
    story = "0u 1u"
    found = found_in(story, critical=[{"value": "$.said", "eq": "x"}], about={"hidden": ["$.said"]})
    assert {(one.reference, one.value) for one in found.unmapped} == {("$.said", "***")}


# ---- bounds


def test_findings_are_bounded_and_say_what_was_left_out() -> None:
    preview = Preview(rule(), start=T0)
    for n in range(3000):
        at = T0 + 1000 * n
        preview.see(at, f"x{n}", document(at, "x.n"[n % 3], f"h{n // 3}"))
    found = preview.finish(T0 + 3_000_000)
    assert len(found.lines) + found.left_out == found.events == 3000
    assert 800 <= len(found.lines) <= MOST_LINES
    assert [found.lines[0].id, found.lines[-1].id] == ["x0", "x2999"]
    assert [line.at for line in found.lines] == sorted(line.at for line in found.lines)
    assert (len(found.episodes), found.opened) == (500, 1000)
    assert (len(found.drafts), found.drafted) == (200, 2000)
    assert len(msgspec.json.encode(found)) < 600_000


def test_of_an_event_of_many_items_the_telling_ones_are_kept() -> None:
    preview = Preview(rule(each="$.items"), start=T0)
    items = [{"said": "n" if n else "x", "host": f"h{n}"} for n in range(100, -1, -1)]
    line, _ = preview.see(T0, "e", document(T0, "", items=items))
    assert (line.items, len(line.outcomes), line.outcomes[0].kind) == (101, 20, "opened")


def test_findings_so_far_change_nothing() -> None:
    one, other = Preview(rule(), start=T0), Preview(rule(), start=T0)
    for word in ("0x", "10u", "20.", "30x"):
        told(one, word)
        told(other, word)
        one.found()
    assert one.finish(T0 + 99) == other.finish(T0 + 99)


# ---- live and preview


STORY = st.lists(
    st.tuples(st.sampled_from("xxww..u"), st.sampled_from("abc"), st.sampled_from([0, 1, 30, 100, 700])),
    max_size=30,
)
EPISODES = st.fixed_dictionaries(
    {},
    optional={
        "resolve_delay": st.sampled_from([60, 200]),
        "reopen_window": st.sampled_from([60, 500]),
        "better_after": st.sampled_from([0, 120]),
        "flapping": st.just({"changes": 3, "within": 600, "quiet": 300}),
    },
)
CLOCKS = st.fixed_dictionaries(
    {},
    optional={
        "for": st.sampled_from([20, 90]),
        "cooldown": st.just(100),
        "silence": st.just(200),
        "expires": st.just(300),
        "absence": st.just({"after": 400}),
    },
)


@settings(max_examples=100, deadline=None)
@given(STORY, EPISODES, CLOCKS)
def test_a_preview_of_a_stream_is_what_live_made_of_it(
    story: list[tuple[str, str, int]], episodes: dict[str, Any], clocks: dict[str, Any]
) -> None:
    """Live: ticks of the course in time, each signal by itself to the target, whose ticks come before it."""
    target = BEAT.validate_python({"slug": "shop", "type": "external", "episodes": episodes})
    given_ = rule(**clocks)
    preview, course = Preview(given_, target, start=T0), Course(given_, Head(), {})
    course.switch(T0, enabled=True)
    policy = compile_policy(target, Bound())
    state, _ = replay.fold(policy, newborn(policy, T0), PolicyChanged(T0))
    made, at = list[tuple[Any, ...]](), T0

    def say(said: Iterable[Any]) -> None:
        nonlocal state
        for one in said:
            fact = SignalChanged(one.at, signal_key("id", one.fingerprint), one.severity)
            state, steps = replay.fold(policy, state, fact)
            note(steps)

    def note(steps: replay.Steps) -> None:
        for effect in (effect for _, effects in steps for effect in effects):
            if isinstance(effect, EpisodeOpened) and effect.reopened:
                made[-1] = (*made[-1][:2], None)
            elif isinstance(effect, EpisodeOpened):
                made.append((effect.at, effect.severity, None))
            elif isinstance(effect, SeverityChanged) and effect.severity == "critical":
                made[-1] = (made[-1][0], "critical", made[-1][2])
            elif isinstance(effect, EpisodeClosed):
                made[-1] = (*made[-1][:2], effect.at)

    for number, (says, host, pause) in enumerate(story):
        at += pause
        while (due := course.next_deadline) is not None and due <= at:
            say(course.pass_time(due))
        seen = document(at, says, host)
        _, outcomes, said = course.see(at, f"e{number}", seen)
        say(said)
        line, _ = preview.see(at, f"e{number}", seen)
        assert line.outcomes == tuple(outcomes)
    until = at + 5000.0
    say(course.pass_time(until))
    state, steps = replay.fold(policy, state, Tick(until))
    note(steps)
    found = preview.finish(until)
    assert [(one.opened, one.severity, one.closed) for one in found.episodes] == made
    assert found.open_signals == len(course.open)
    assert preview.course.keys == course.keys


# ---- two rules


def difference(story: str, old: dict[str, Any], new: dict[str, Any], until: float = 1000.0) -> Difference:
    """What two rules make of a story."""
    both = Comparison(Preview(rule(**old), start=T0), Preview(rule(**new), start=T0))
    told(both, story)
    return both.finish(T0 + until)


def test_a_rule_does_not_differ_from_itself() -> None:
    same = difference("0x 10u 20. 30e 40x", {}, {})
    assert (same.only_old, same.only_new, same.changed, same.counts) == ([], [], [], {})
    assert (same.drafts_only_old, same.drafts_only_new) == ([], [])
    assert [(one.old, one.new, one.opens_later_s) for one in same.episodes.moved] == [(1, 1, 0), (2, 2, 0)]


def test_events_that_only_one_rule_takes_and_those_that_come_to_something_else() -> None:
    without_warning = {"warning": None}
    both = difference("0w 10. 500x 510. 600n", {}, without_warning)
    assert [line.id for line in both.only_old] == ["0w", "10."]
    assert both.only_new == []
    assert both.counts == {"only_old": 2}
    narrow = difference("0u", {}, {"when": [{"value": "$.said", "ne": "u"}]})
    assert [(one.old[0].reason, one.new[0].reason) for one in narrow.changed] == [("unmapped", "unmatched")]
    held = difference("0x 500.", {}, {"for": 60})
    assert [(one.id, one.old[0].kind, one.new[0].kind) for one in held.changed] == [("0x", "opened", "held")]


def test_episodes_that_one_rule_alone_opens_and_how_much_later() -> None:
    both = difference("0x 20. 500x 700.", {}, {"for": 60})
    assert both.episodes.only_old == [1]
    assert [(one.old, one.new, one.opens_later_s) for one in both.episodes.moved] == [(2, 1, 60)]
    assert drafts_of(both.drafts_only_old) == "0 open critical withdrawn 20"
    assert both.drafts_only_new == []


def test_episodes_of_each_beat_are_compared_with_their_own() -> None:
    per = {"target": {"external": "shop", "per_fingerprint": 9}}
    both = difference("0x b5x 100. b110.", per, per | {"for": 9})
    assert [(one.old, one.new) for one in both.episodes.moved] == [(1, 1), (2, 2)]


def test_an_old_and_a_new_target_need_not_be_the_same() -> None:
    beat: AnyBeat = BEAT.validate_python({"slug": "other", "type": "external", "incidents": AUTO})
    both = Comparison(Preview(rule(), start=T0), Preview(rule(incidents=AUTO), beat, start=T0))
    told(both, "0x 60.")
    found = both.finish(T0 + 99)
    assert drafts_of(found.drafts_only_old) == "0 open critical withdrawn 60"
    assert drafts_of(found.drafts_only_new) == "0 open critical done 0, 60 resolve critical done 60"


def test_what_only_the_last_of_many_items_says_is_a_difference() -> None:
    items = [{"said": "x", "host": f"h{number}"} for number in range(60)]
    of_many = {"each": "$.items[*]", "time": None}
    narrow = rule(**of_many, suppress={"value": "$.host", "eq": "h59"})
    compared = Comparison(Preview(rule(**of_many), start=T0), Preview(narrow, start=T0))
    body = json.dumps({"items": items}).encode()
    compared.see(T0, "e", read(Event("", T0, (), "", body)))
    found = compared.finish(T0 + 60.0)
    assert found.counts == {"changed": 1}
    assert [one.fingerprint for one in found.changed[0].old[:1]] == ["h59"]
    assert (len(found.changed[0].old), found.changed[0].new[0].reason) == (20, "suppressed")


def test_of_a_value_that_says_nothing_is_told_what_no_condition_takes() -> None:
    critical = [{"value": "$.said", "eq": "u"}, {"none": [{"value": "$.level", "in": ["low", "info"]}]}]
    warning = [{"value": "$.said", "eq": "u"}, {"value": "$.level", "eq": "low"}]
    preview = Preview(rule(critical=critical, warning=warning), start=T0)
    preview.see(T0, "e1", document(T0, "u", level="info"))
    preview.see(T0, "e2", document(T0, "y"))
    told = {(one.reference, one.value) for one in preview.found().unmapped}
    assert told == {("$.level", "info"), ("$.said", "y")}


def test_a_trigger_that_only_waits_for_absence_has_nothing_to_map() -> None:
    absent: dict[str, Any] = {"critical": None, "warning": None, "recovery": None, "absence": {"after": "1h"}}
    found = found_in("0u", **absent)
    assert found.verdicts == {"ignored": 1}
    assert found.advice == []


def test_a_recovery_of_what_opened_before_is_not_taken_for_another() -> None:
    for story in ("0x 5. b10x c20x 30. 40.", "b10x b20. b30x c40."):
        found = found_in(story, fingerprint="host-{$.host}")
        one = advice_of(found, "unmatched_recovery")
        assert one
        assert one.severity == "info", one.text
