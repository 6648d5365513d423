"""From results to stages and episodes, as pictures. Votes alone are in test_vote.py, laws over everything in test_quorum_laws.py.

A picture has one row per region (a/b/c), one column per interval of 60 s, and what came of each column:

    in   . ok   w warning   x critical   e error   m a manual critical run   blank: no result
    out  o w x ? the stage   O an episode opened   C it closed (its stage is ok then)
"""

from collections.abc import Iterable
from typing import Any

import pytest

from evaluators.facts import (
    AdvisoryCleared,
    AdvisoryRaised,
    Answered,
    Asked,
    ConfirmWanted,
    Continued,
    Effect,
    EpisodeClosed,
    EpisodeFrozen,
    EpisodeOpened,
    Fact,
    NeverAnswered,
    ParentChanged,
    ParentSaid,
    ParentsAsked,
    PolicyChanged,
    ResultSeen,
    Returned,
    SignalChanged,
    StepProposed,
    Suspended,
    Tick,
    Transitioned,
)
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Bound, Policy, Window, compile_policy
from evaluators.quorum import decide, fresh_votes, newborn, next_deadline
from evaluators.state import State
from rules.beat import BEAT

VERDICTS = {
    ".": Verdict.OK,
    "w": Verdict.WARNING,
    "x": Verdict.CRITICAL,
    "e": Verdict.ERROR,
    "m": Verdict.CRITICAL,
}
SAID = {Stage.OK: "o", Stage.WARNING: "w", Stage.CRITICAL: "x", Stage.UNKNOWN: "?"}
INTERVAL_S = 60.0
AGE_S = 2 * INTERVAL_S + 20.5  # auto: twice the interval and the run deadline
OFF: dict[str, Any] = {"confirm": "off"}


def policy(quorum: dict[str, Any], regions: int = 3) -> Policy:
    beat = BEAT.validate_python({"slug": "b", "type": "tcp", "host": "h", "port": 1, "quorum": quorum})
    return compile_policy(beat, Bound(regions=tuple("abcdefg"[:regions])))


class Scene:
    """A beat's state, fed as the engine feeds it: the ticks before each fact first."""

    def __init__(self, quorum: dict[str, Any], regions: int = 3) -> None:
        self.policy, self.state = policy(quorum, regions), State()
        self.effects: list[Effect] = []
        self._seq = 0

    def fold(self, fact: Fact) -> list[Effect]:
        """The effects of one fact, and of the ticks before it."""
        made: list[Effect] = []
        while (
            not isinstance(fact, Returned)
            and (due := next_deadline(self.policy, self.state)) is not None
            and due <= fact.at
        ):
            made += self._decide(Tick(due))
        made += self._decide(fact)
        self.effects += made
        return made

    def _decide(self, fact: Fact) -> Iterable[Effect]:
        self.state, effects = decide(self.policy, self.state, fact)
        return effects

    def see(
        self,
        region: str,
        letter: str,
        at: float,
        *,
        request: str | None = None,
        n: int = 0,
        dropped: bool = False,
        measured_at: float | None = None,
    ) -> list[Effect]:
        """One result; a confirm run where it answers a `request`."""
        self._seq += 1
        kind = Kind.MANUAL if letter == "m" else Kind.CONFIRM if request else Kind.SCHEDULED
        seen = Result(
            f"run{self._seq}",
            "b",
            region,
            kind,
            VERDICTS[letter],
            at,
            at,
            self._seq,
            1,
            Timings(),
            request=request,
            n=n,
            stored=not dropped,
        )
        return self.fold(ResultSeen(at, seen, "boot", at if measured_at is None else measured_at))

    def all(self, letters: str, at: float) -> list[Effect]:
        """One result per region, at once."""
        return [
            effect
            for region, letter in zip(self.policy.regions, letters, strict=True)
            for effect in self.see(region, letter, at)
        ]

    @property
    def votes(self) -> str:
        """What every region says, `-` where it says nothing fresh."""
        fresh = fresh_votes(self.policy, self.state, self.state.at)
        return "".join(
            SAID[Stage(fresh[region])] if region in fresh else "-" for region in self.policy.regions
        )


def of(kind: type[Any], effects: Iterable[Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def shown(scene: Scene, effects: list[Effect]) -> str:
    if of(EpisodeOpened, effects):
        return "O"
    return "C" if of(EpisodeClosed, effects) else SAID[scene.state.stage]


def played(quorum: dict[str, Any], picture: str, rule: Policy | None = None) -> str:
    rows = picture.split("/")
    scene, out = Scene(quorum, len(rows)), ""
    scene.policy = rule or scene.policy
    for column in range(len(rows[0])):
        effects: list[Effect] = []
        for row, region in zip(rows, scene.policy.regions, strict=True):
            if row[column] != " ":
                at = INTERVAL_S * (column + scene.policy.regions.index(region) / len(rows))
                effects += scene.see(region, row[column], at)
        effects += scene.fold(Tick(INTERVAL_S * (column + 1) - 0.001))
        out += shown(scene, effects)
    return out


PICTURES: list[tuple[dict[str, Any], str, str, str]] = [
    ({}, "...../...../.....", "ooooo", "all well"),
    ({}, "..xxxx/....../......", "oooooo", "one region of three is no majority"),
    ({}, "..xxxx/..xxxx/......", "oooOxx", "two of three open when both have seen it twice"),
    ({}, "..xx../..xx../......", "oooOxC", "the episode closes when the majority is ok again"),
    ({}, "..xx.x../..xx..../........", "oooOxCoo", "a relapse of one region reopens nothing"),
    ({}, "..ww../..ww../......", "oooOwC", "warnings open an episode as warning"),
    ({}, "..wwxx/..wwxx/......", "oooOwx", "it becomes critical without a second episode"),
    ({}, "..xxww/..xxww/......", "oooOxw", "and a warning without closing"),
    (
        {"warning": {"open": "all", "close": "all"}},
        "..xxww..../..xxww..../..........",
        "oooOxwwCoo",
        "what was critical was a warning too, and ends as one",
    ),
    ({}, "..ww/..xx/....", "oooO", "a critical vote also counts for warning"),
    ({}, "xx/xx/xx", "?O", "a beat that was never ok opens with the second result"),
    ({}, "x./x./x.", "?o", "and is ok at once when the second is"),
    ({}, "./ / ", "?", "one voter of three is not enough to say anything"),
    ({}, "./ /.", "o", "two are"),
    ({}, "..eeeeee/..eeeeee/..eeeeee", "ooo?????", "errors do not refresh votes: no data is unknown"),
    ({}, "..mmmm/..mmmm/..mmmm", "ooo???", "manual runs neither vote nor refresh"),
    ({}, "..xx      /..xx      /....      ", "oooOx?????", "unknown does not end an episode"),
    ({}, "..xx    ../..xx    ../....    ..", "oooOx???Co", "a recovery after a gap is told as one"),
    (
        {"on_insufficient": "hold"},
        "..      /..      /..      ",
        "oooooooo",
        "held: too few voters change nothing",
    ),
    (
        {"on_insufficient": "hold"},
        "..xx    /..xx    /....    ",
        "oooOxxxx",
        "held: not an open episode either",
    ),
    ({"critical": "any"}, "..xx/..../....", "oooO", "any: one region opens"),
    ({"critical": "any", "warning": "any"}, "..xx../..xxxx/......", "oooOxx", "any: all must be ok to close"),
    ({"critical": "all"}, "..xxx/..xxx/.....", "oooOw", "all: two of three are a majority's warning"),
    ({"critical": "all", "warning": "all"}, "..xxxx/..xxxx/...xxx", "ooooOx", "all: every region is needed"),
    ({"critical": "all", "warning": "all"}, "..xx../..xxxx/..xxxx", "oooOxC", "all: one ok region ends it"),
    ({"critical": 3, "warning": 3}, "..xx/..xx/..xx/..../....", "oooO", "a count of three of five"),
    ({"critical": "60%", "warning": "60%"}, "..xx/..xx/..xx/..../....", "oooO", "60 % of five are three"),
    ({"critical": "60%", "warning": "60%"}, "..xx/..xx/..../..../....", "oooo", "60 % of five are not two"),
    ({"consecutive": {"open": 1, "close": 1}}, ".x./.x./...", "oOC", "one and one follow every result"),
    ({"consecutive": {"open": 3, "close": 3}}, ".xxx.../.xxx.../.......", "oooOxxC", "three and three"),
    (
        {"critical": {"open": 2, "close": 3}, "warning": {"open": 2, "close": 3}},
        "..xx..../..xxxxxx/........",
        "oooOxxxx",
        "a larger close holds between the two",
    ),
    (
        {"critical": {"open": 2, "close": 3}, "warning": {"open": 2, "close": 3}},
        "..xx..../..xxxx../........",
        "oooOxxxC",
        "until as many say so",
    ),
    (
        {"critical": {"open": 2, "close": 3}, "warning": {"open": 2, "close": 3}},
        "..xx..../......../........",
        "oooooooo",
        "and what holds never opened by itself",
    ),
]


@pytest.mark.parametrize(
    ("quorum", "picture", "said"),
    [pytest.param(OFF | quorum, picture, said, id=title) for quorum, picture, said, title in PICTURES],
)
def test_stages_follow_the_votes(quorum: dict[str, Any], picture: str, said: str) -> None:
    assert played(quorum, picture) == said


# ---- confirmation rounds


def well(quorum: dict[str, Any] | None = None, regions: int = 3) -> Scene:
    """A beat that is ok everywhere at 0 s."""
    scene = Scene(quorum or {}, regions)
    scene.all("." * regions, 0.0)
    assert scene.state.stage is Stage.OK
    return scene


def asked(effects: Iterable[Effect]) -> ConfirmWanted:
    (wanted,) = of(ConfirmWanted, effects)
    assert isinstance(wanted, ConfirmWanted)
    return wanted


def answer(scene: Scene, wanted: ConfirmWanted, letters: dict[str, str], at: float) -> list[Effect]:
    """The answers of some regions, one letter per run."""
    return [
        effect
        for region, answers in letters.items()
        for n, letter in enumerate(answers)
        for effect in scene.see(region, letter, at, request=wanted.request, n=n)
    ]


def test_a_first_bad_result_asks_every_region_the_origin_included() -> None:
    wanted = asked(well().see("b", "x", 60.0))
    assert (wanted.regions, wanted.runs, wanted.spacing_s) == (("a", "b", "c"), 2, 1.0)


def test_a_round_is_named_by_the_run_that_began_it() -> None:
    scene = well()
    assert asked(scene.see("b", "x", 60.0)).request == f"run{scene._seq}"


def test_an_outage_opens_as_soon_as_all_answers_are_in() -> None:
    scene = well()
    wanted = asked(scene.see("a", "x", 60.0))
    assert not of(EpisodeOpened, answer(scene, wanted, {"a": "xx", "b": "xx", "c": "x"}, 61.0))
    (last,) = of(EpisodeOpened, scene.see("c", "x", 61.4, request=wanted.request, n=1))
    assert (last.at, last.severity) == (61.4, "critical")


def test_missing_answers_are_waited_for_and_no_longer() -> None:
    scene = well()
    answer(scene, asked(scene.see("a", "x", 60.0)), {"a": "xx", "b": "xx"}, 61.0)
    assert scene.fold(Tick(64.9)) == []
    assert [effect.at for effect in of(EpisodeOpened, scene.fold(Tick(70.0)))] == [65.0]


def test_a_dropped_run_is_an_answer() -> None:
    scene = well()
    wanted = asked(scene.see("a", "x", 60.0))
    answer(scene, wanted, {"a": "xx", "b": "xx"}, 61.0)
    scene.see("c", "e", 61.0, request=wanted.request, n=0, dropped=True)
    assert of(EpisodeOpened, scene.see("c", "e", 61.0, request=wanted.request, n=1, dropped=True))
    assert scene.votes == "xxo"


def test_an_answer_that_comes_twice_counts_once() -> None:
    scene = well()
    wanted = asked(scene.see("a", "x", 60.0))
    answer(scene, wanted, {"a": "xx", "b": "xx"}, 61.0)
    for _ in range(3):
        assert not of(EpisodeOpened, scene.see("c", "x", 61.0, request=wanted.request, n=0))


def test_an_answer_to_an_older_round_is_no_answer() -> None:
    scene = well()
    wanted = asked(scene.see("a", "x", 60.0))
    answer(scene, wanted, {"a": "xx", "b": "xx"}, 61.0)
    scene.see("c", "x", 61.0, request="another", n=0)
    assert not of(EpisodeOpened, scene.see("c", "x", 61.0, request="another", n=1))


def test_a_blip_that_nobody_confirms_changes_nothing() -> None:
    scene = well()
    answer(scene, asked(scene.see("a", "x", 60.0)), {"a": "..", "b": "..", "c": ".."}, 61.0)
    assert (scene.votes, scene.state.round, scene.state.stage) == ("ooo", None, Stage.OK)


def test_nothing_opens_while_a_round_is_out_whoever_says_so() -> None:
    scene = well({"consecutive": {"open": 1}})
    scene.see("a", "x", 60.0)
    assert scene.all("xxx", 61.0) == []
    assert scene.votes == "xxx"
    assert of(EpisodeOpened, scene.fold(Tick(65.0)))


def test_what_is_unknown_is_not_called_ok_while_a_round_asks_whether_it_is_bad() -> None:
    scene = Scene({"consecutive": {"open": 1}})
    made = scene.see("a", "x", 60.0) + scene.all("xxx", 61.0)
    assert scene.votes == "xxx"
    assert of(Transitioned, made) == []
    assert scene.state.stage is Stage.UNKNOWN
    assert [effect.stage for effect in of(Transitioned, scene.fold(Tick(65.0)))] == [Stage.CRITICAL]


def test_an_episode_may_close_while_a_round_is_out() -> None:
    scene = well({"critical": "all"})
    scene.all("ww.", 60.0)
    scene.all("ww.", 120.0)
    assert scene.state.stage is Stage.WARNING
    scene.all("..x", 180.0)
    assert scene.state.round is not None
    assert of(EpisodeClosed, scene.see("a", ".", 182.0) + scene.see("b", ".", 182.0))


def test_a_first_bad_result_while_a_round_is_out_joins_it() -> None:
    scene = well()
    asked(scene.see("a", "x", 60.0))
    assert scene.see("b", "x", 61.0) == []


def test_no_round_begins_before_the_wait_of_the_last_has_passed() -> None:
    scene = well()
    answer(scene, asked(scene.see("a", "x", 60.0)), {"a": "..", "b": "..", "c": ".."}, 61.0)
    assert scene.state.round is None
    assert scene.see("b", "x", 64.9) == []
    assert asked(scene.see("c", "x", 65.0)).regions == ("a", "b", "c")


def test_no_round_begins_while_a_hanging_target_keeps_the_last_one_from_its_answers() -> None:
    """A target that hangs answers after the run deadline: rounds after rounds would only delay what they are to confirm."""
    scene = well()
    wanted = asked(scene.see("a", "x", 80.0))
    assert of(ConfirmWanted, scene.see("b", "x", 90.0)) == []
    opened = [e for r in "abc" for e in scene.see(r, "x", 101.0, request=wanted.request)]
    assert of(EpisodeOpened, opened)


def test_a_round_begins_again_once_the_late_answers_are_in_or_can_come_no_more() -> None:
    scene = well()
    wanted = asked(scene.see("a", "x", 80.0))
    answer(scene, wanted, dict.fromkeys("abc", ".."), 90.0)
    assert of(ConfirmWanted, scene.see("b", "x", 91.0))
    lost = well()
    lost.see("a", "x", 80.0)
    assert of(ConfirmWanted, lost.see("b", "x", 101.4)) == []
    assert of(ConfirmWanted, lost.see("c", "x", 101.5))


def test_a_second_bad_result_in_a_row_asks_nobody() -> None:
    scene = well()
    answer(scene, asked(scene.see("a", "x", 60.0)), {"a": "xx", "b": "..", "c": ".."}, 61.0)
    assert of(ConfirmWanted, scene.see("a", "x", 120.0)) == []


def test_a_round_that_ended_just_before_an_outage_does_not_hide_its_beginning() -> None:
    scene = well()
    answer(scene, asked(scene.see("a", "x", 60.0)), {"a": ".x", "b": ".x", "c": ".x"}, 61.0)
    assert asked(scene.see("b", "x", 80.0)).regions == ("a", "b", "c")


def test_a_bad_confirm_run_begins_no_round() -> None:
    assert of(ConfirmWanted, well().see("b", "x", 60.0, request="old")) == []


def test_a_manual_run_and_an_error_ask_nobody() -> None:
    scene = well()
    assert scene.see("a", "m", 60.0) + scene.see("a", "e", 61.0) == []


def test_a_late_bad_result_that_was_followed_by_ok_asks_nobody() -> None:
    scene = Scene({})
    old = Result("late", "b", "a", Kind.SCHEDULED, Verdict.CRITICAL, 0.0, 0.0, 0, 1, Timings())
    scene.see("a", ".", 60.0)
    assert scene.fold(ResultSeen(61.0, old, "boot", 0.0)) == []


def test_nobody_is_asked_while_it_is_critical() -> None:
    scene = outage()
    scene.see("c", ".", 100.0)
    assert of(ConfirmWanted, scene.see("c", "x", 160.0)) == []


def test_confirm_off_asks_nobody() -> None:
    assert well(OFF).see("a", "x", 60.0) == []


# ---- silence


def outage(quorum: dict[str, Any] | None = None) -> Scene:
    """A beat with an open critical episode: all regions critical at 62 s."""
    scene = well(quorum)
    scene.all("xxx", 60.0)
    scene.all("xxx", 62.0)
    scene.fold(Tick(66.0))
    assert scene.state.severity == "critical"
    return scene


def test_silence_is_unknown_at_the_very_second() -> None:
    scene = well()
    (gone,) = of(Transitioned, scene.fold(Tick(1000.0)))
    assert (gone.at, gone.was, gone.stage) == (AGE_S, Stage.OK, Stage.UNKNOWN)


def test_unknown_neither_opens_nor_ends_an_episode() -> None:
    scene = outage()
    told = scene.fold(Tick(1000.0))
    assert [effect.stage for effect in of(Transitioned, told)] == [Stage.UNKNOWN]
    assert len(told) == 1
    assert scene.state.severity == "critical"


def test_the_same_episode_goes_on_after_unknown() -> None:
    scene = outage()
    scene.fold(Tick(1000.0))
    scene.all("xxx", 1000.0)
    scene.all("xxx", 1060.0)
    assert (scene.state.stage, scene.state.episodes) == (Stage.CRITICAL, 1)


def test_the_first_stage_is_told_as_first() -> None:
    first, second = of(Transitioned, [*outage(OFF).effects])
    assert (first.first, first.was, second.first) == (True, Stage.UNKNOWN, False)


def test_votes_do_not_age_while_nobody_looks() -> None:
    scene = well()
    assert scene.fold(Returned(5000.0)) == []
    assert scene.fold(Tick(5000.0 + AGE_S - 0.1)) == []
    assert [effect.at for effect in of(Transitioned, scene.fold(Tick(6000.0)))] == [5000.0 + AGE_S]


def test_one_ok_result_after_a_return_does_not_end_an_outage() -> None:
    scene = outage()
    scene.fold(Returned(5000.0))
    assert scene.all("...", 5001.0) == []
    assert of(EpisodeClosed, scene.all("...", 5061.0))


def test_an_outage_that_came_and_went_while_nobody_looked_opens_nothing_when_its_results_come() -> None:
    scene = well()
    made = scene.fold(Returned(5000.0))
    for measured_at in range(4000, 4961, 60):
        for region in scene.policy.regions:
            letter = "x" if measured_at < 4300 else "."
            made += scene.see(region, letter, 5000.5, measured_at=float(measured_at))
    assert [type(effect) for effect in made] == [ConfirmWanted]  # to look again now can do no harm
    assert (scene.votes, scene.state.stage) == ("ooo", Stage.OK)


def test_an_outage_that_began_while_nobody_looked_and_lasts_opens_with_its_first_fresh_results() -> None:
    scene = well()
    made = scene.fold(Returned(5000.0))
    for measured_at in range(4600, 4801, 60):
        for region in scene.policy.regions:
            made += scene.see(region, "x", 5000.5, measured_at=float(measured_at))
    assert [type(effect) for effect in made] == [ConfirmWanted]  # to look again now can do no harm
    (opened,) = of(EpisodeOpened, scene.all("xxx", 5010.0) + scene.fold(Tick(5020.0)))
    assert opened.severity == "critical"


def test_what_had_gone_stale_before_stays_so_after_a_return() -> None:
    scene = well()
    scene.fold(Tick(1000.0))
    scene.fold(Returned(5000.0))
    scene.fold(Tick(5001.0))
    assert (scene.votes, scene.state.stage) == ("---", Stage.UNKNOWN)


def test_a_clock_that_went_back_blocks_nothing() -> None:
    scene = well()
    scene.see("a", "x", 9000.0 - AGE_S)
    scene.state = State(
        at=9000.0, stage=Stage.OK, regions=scene.state.regions, round=scene.state.round, next_round_at=9005.0
    )
    scene.fold(Returned(100.0))
    assert scene.state.at == 100.0
    assert asked(scene.see("b", "x", 160.0)).regions == ("a", "b", "c")


def test_a_stage_that_is_held_is_held_anew_after_a_return() -> None:
    scene = well()
    scene.fold(PolicyChanged(100.0, measures_anew=True))
    scene.fold(Returned(5000.0))
    (gone,) = of(Transitioned, scene.fold(Tick(9000.0)))
    assert gone.at == 5000.0 + AGE_S


# ---- paused, removed, edited


def test_pausing_freezes_the_episode_and_asks_for_no_deadline() -> None:
    scene = outage()
    assert of(EpisodeFrozen, scene.fold(Suspended(100.0)))
    assert next_deadline(scene.policy, scene.state) is None


def test_pausing_twice_freezes_once() -> None:
    scene = outage()
    scene.fold(Suspended(100.0))
    assert scene.fold(Suspended(101.0)) == []


def test_pausing_a_beat_that_is_well_says_nothing() -> None:
    assert well().fold(Suspended(100.0)) == [ParentSaid(100.0, Stage.UNKNOWN)]


def test_results_of_a_paused_beat_change_nothing() -> None:
    scene = well()
    scene.fold(Suspended(100.0))
    assert scene.all("xxx", 101.0) + scene.all("xxx", 161.0) + scene.fold(Tick(9000.0)) == []


def test_a_frozen_episode_that_is_still_bad_is_owed_its_draft_again() -> None:
    scene = outage(OFF)
    scene.fold(Suspended(100.0))
    scene.fold(Continued(200.0))
    scene.all("xxx", 201.0)
    told = scene.all("xxx", 261.0)
    assert [effect.step for effect in of(StepProposed, told)] == ["open"]
    assert of(EpisodeOpened, told) == []


def test_a_frozen_episode_that_is_well_recovers() -> None:
    scene = outage()
    scene.fold(Suspended(100.0))
    scene.fold(Continued(200.0))
    (closed,) = of(EpisodeClosed, scene.all("...", 201.0))
    assert closed.cause == "recovered"


def test_one_region_is_not_enough_to_judge_after_a_pause() -> None:
    scene = outage()
    scene.fold(Suspended(100.0))
    scene.fold(Continued(200.0))
    assert scene.see("a", ".", 201.0) == []
    assert scene.state.stage is Stage.CRITICAL


def test_removing_ends_the_episode_as_removed_never_recovered() -> None:
    (closed,) = of(EpisodeClosed, outage().fold(Suspended(100.0, removed=True)))
    assert (closed.cause, closed.number) == ("removed", 1)


def test_removing_a_paused_beat_ends_its_frozen_episode() -> None:
    scene = outage()
    scene.fold(Suspended(100.0))
    (closed,) = of(EpisodeClosed, scene.fold(Suspended(101.0, removed=True)))
    assert closed.cause == "removed"


def test_what_was_removed_opens_nothing_when_it_comes_back() -> None:
    scene = outage()
    scene.fold(Suspended(100.0, removed=True))
    scene.fold(Continued(200.0))
    scene.fold(Tick(201.0))
    scene.all("x..", 202.0)
    scene.all("x..", 262.0)
    assert scene.state.stage is Stage.OK
    assert scene.state.episodes == 1


def test_measuring_something_else_holds_the_stage_until_enough_answered() -> None:
    scene = outage()
    assert scene.fold(PolicyChanged(100.0, measures_anew=True)) == []
    assert (scene.votes, scene.see("a", ".", 101.0), scene.state.stage) == ("---", [], Stage.CRITICAL)
    assert of(EpisodeClosed, scene.see("b", ".", 102.0))


def test_measuring_something_else_holds_no_longer_than_a_vote_is_fresh() -> None:
    scene = well()
    scene.fold(PolicyChanged(100.0, measures_anew=True))
    (gone,) = of(Transitioned, scene.fold(Tick(1000.0)))
    assert (gone.at, gone.stage) == (100.0 + AGE_S, Stage.UNKNOWN)


def test_who_is_asked_more_often_now_has_said_nothing_sooner() -> None:
    scene = Scene({})
    scene.state = newborn(scene.policy, 0.0)
    scene.policy = policy({"max_age": "60s"})
    scene.fold(PolicyChanged(10.0))
    (never,) = of(NeverAnswered, scene.fold(Tick(1000.0)))
    assert never.at == 10.0 + 60.0


def test_another_policy_is_applied_to_the_stored_votes_and_what_it_opens_is_careful() -> None:
    scene = well(OFF)
    scene.all("x..", 60.0)
    scene.all("x..", 62.0)
    scene.policy = policy(OFF | {"critical": "any"})
    told = scene.fold(PolicyChanged(63.0, measures_anew=False))
    assert [effect.most for effect in of(StepProposed, told)] == ["draft"]
    assert scene.state.stage is Stage.CRITICAL


def test_what_results_open_is_not_careful() -> None:
    assert [effect.most for effect in of(StepProposed, outage().effects)] == ["auto"]


def test_what_another_policy_opens_is_careful_even_while_a_round_was_out() -> None:
    scene = well()
    answer(scene, asked(scene.see("a", "x", 60.0)), {"a": "x"}, 61.0)
    scene.policy = policy({"critical": "any"})
    told = scene.fold(PolicyChanged(61.5, measures_anew=False)) + scene.fold(Tick(70.0))
    assert [effect.most for effect in of(StepProposed, told)] == ["draft"]


def test_another_policy_may_close_an_episode_too() -> None:
    scene = well(OFF | {"critical": "any"})
    scene.all("x..", 60.0)
    scene.all("x..", 62.0)
    scene.policy = policy(OFF)
    assert of(EpisodeClosed, scene.fold(PolicyChanged(63.0, measures_anew=False)))


def test_a_region_that_was_taken_away_votes_no_more() -> None:
    scene = well(OFF)
    scene.policy = policy(OFF, regions=2)
    scene.fold(PolicyChanged(10.0, measures_anew=False))
    assert set(scene.state.regions) == {"a", "b"}
    assert scene.see("c", "x", 60.0) + scene.see("c", "x", 120.0) == []
    assert set(scene.state.regions) == {"a", "b"}


def test_a_change_of_severity_is_an_update_of_the_same_episode() -> None:
    scene = well(OFF)
    scene.all("ww.", 60.0)
    scene.all("ww.", 120.0)
    scene.all("xx.", 180.0)
    told = scene.all("xx.", 240.0)
    assert [(effect.step, effect.severity) for effect in of(StepProposed, told)] == [("update", "critical")]
    assert scene.state.episodes == 1


def test_recovery_proposes_a_resolve() -> None:
    scene = outage()
    scene.all("...", 120.0)
    told = scene.all("...", 180.0)
    assert [effect.step for effect in of(StepProposed, told)] == ["resolve"]


def test_a_new_beat_that_nobody_answers_for_is_said_so_once_and_its_first_ok_is_news() -> None:
    rule = policy({})
    state = State(since=0.0, at=0.0, held_until=rule.max_age_s)
    assert next_deadline(rule, state) == rule.max_age_s
    state, effects = decide(rule, state, Tick(rule.max_age_s))
    assert effects == (NeverAnswered(rule.max_age_s),)
    state, effects = decide(rule, state, Tick(rule.max_age_s + 1))
    assert effects == ()
    assert next_deadline(rule, state) is None


# ---- what comes late


def late(scene: Scene, region: str, letters: str, since: float) -> list[Effect]:
    """Results measured 60 s apart that all come now, whatever their place among the others."""
    effects: list[Effect] = []
    for n, letter in enumerate(letters):
        scene._seq += 1
        at = since + 60 * n
        made = Result(
            f"late{scene._seq}",
            "b",
            region,
            Kind.SCHEDULED,
            VERDICTS[letter],
            at,
            at,
            scene._seq,
            1,
            Timings(),
        )
        effects += scene.fold(ResultSeen(scene.state.at, made, "late", at))
    return effects


def over() -> Scene:
    """An outage that five regions were in, of which three have said so: seen at 60 s, over since 180 s."""
    scene = well(OFF, 5)
    for at, letter in ((60.0, "x"), (90.0, "x"), (150.0, "."), (180.0, ".")):
        for region in "abc":
            scene.see(region, letter, at)
    assert (scene.state.stage, scene.state.episodes) == (Stage.OK, 1)
    return scene


def test_what_comes_late_of_an_outage_that_is_over_opens_nothing() -> None:
    scene = over()
    scene.policy = policy(OFF | {"critical": 2, "warning": 2}, 5)
    scene.fold(PolicyChanged(181.0))
    told = late(scene, "d", "xx", 60.0) + late(scene, "e", "xx", 60.0)
    assert of(EpisodeOpened, told) + of(Transitioned, told) == []
    assert scene.votes == "oooxx"
    scene.see("d", ".", 200.0)
    scene.see("e", ".", 200.0)
    scene.see("d", ".", 260.0)
    scene.see("e", ".", 260.0)
    assert (scene.votes, scene.state.episodes) == ("ooooo", 1)


def test_what_is_still_bad_after_it_opens_with_the_next_result_that_says_so() -> None:
    scene = over()
    scene.policy = policy(OFF | {"critical": 2, "warning": 2}, 5)
    scene.fold(PolicyChanged(181.0))
    late(scene, "d", "xx", 60.0)
    late(scene, "e", "xx", 60.0)
    assert of(EpisodeOpened, scene.see("d", "x", 200.0)) == []
    (opened,) = of(EpisodeOpened, scene.see("e", "x", 210.0))
    assert (opened.at, opened.number) == (210.0, 2)


def test_a_minority_that_is_bad_all_along_counts_at_once_when_others_join_it() -> None:
    scene = well(OFF | {"consecutive": {"open": 1, "close": 1}}, 5)
    scene.all("xxx..", 60.0)
    assert of(EpisodeClosed, scene.see("c", ".", 120.0))
    assert of(EpisodeOpened, scene.see("d", "x", 130.0))  # a and b have not looked since, and were never ok


def test_who_was_bad_when_the_first_stage_was_ok_counts_too() -> None:
    scene = Scene(OFF)
    for region, letter, at in [("a", "x", 0.0), ("c", "x", 40.0), ("a", "x", 60.0), ("b", ".", 80.0)]:
        scene.see(region, letter, at)
    assert scene.state.stage is Stage.OK
    assert of(EpisodeOpened, scene.see("c", "x", 100.0))


def test_late_results_put_before_an_ok_one_do_not_bring_an_outage_back() -> None:
    scene = over()
    scene.see("d", ".", 200.0)
    scene.see("e", ".", 200.0)
    scene.policy = policy(OFF | {"critical": 2, "warning": 2}, 5)
    scene.fold(PolicyChanged(201.0))
    told = late(scene, "d", "xx", 60.0) + late(scene, "e", "xx", 60.0)
    assert of(EpisodeOpened, told) == []


def test_an_outage_of_which_all_comes_when_every_region_is_ok_again_opens_nothing() -> None:
    scene = well(OFF)
    scene.all("...", 100.0)
    told = [effect for region in "abc" for effect in late(scene, region, "xx", 10.0)]
    assert scene.votes == "xxx"
    assert of(EpisodeOpened, told) == []
    assert of(EpisodeOpened, scene.see("a", ".", 130.0)) == []
    assert len(of(EpisodeOpened, scene.see("b", "x", 140.0))) == 1


def test_a_result_that_is_folded_twice_counts_once() -> None:
    scene = well(OFF)
    one = Result("r", "b", "a", Kind.SCHEDULED, Verdict.CRITICAL, 60.0, 60.0, 99, 1, Timings())
    for _ in range(3):
        scene.fold(ResultSeen(60.0, one, "boot", 60.0))
    assert (scene.votes, len(scene.state.regions["a"].recent)) == ("ooo", 2)


# ---- what is held is not known


def test_what_is_held_after_an_absence_ends_nothing() -> None:
    scene = outage()
    scene.policy = lasting({"resolve_delay": "10m"})
    scene.all("...", 120.0)
    scene.all("...", 180.0)
    assert (scene.state.stage, scene.state.severity) == (Stage.OK, "critical")
    assert scene.fold(Returned(5000.0)) == []
    assert of(EpisodeClosed, scene.fold(Tick(5000.0 + AGE_S - 1))) == []
    told = [effect for at in (5138.0, 5260.0, 5380.0, 5500.0) for effect in scene.all("...", at)]
    assert of(EpisodeClosed, told + scene.fold(Tick(5599.0))) == []
    assert [effect.cause for effect in of(EpisodeClosed, scene.fold(Tick(5605.0)))] == ["recovered"]


def lasting(episodes: dict[str, Any]) -> Policy:
    spec = {"slug": "b", "type": "tcp", "host": "h", "port": 1, "quorum": OFF, "episodes": episodes}
    return compile_policy(BEAT.validate_python(spec), Bound(regions=("a", "b", "c")))


def test_a_deadline_that_an_absence_has_passed_lies_ahead_again() -> None:
    scene = outage()
    scene.policy = lasting({"resolve_delay": "10m"})
    scene.all("...", 120.0)
    scene.all("...", 180.0)
    scene.fold(Returned(5000.0))
    due = next_deadline(scene.policy, scene.state)
    assert due is not None
    assert due > 5000.0


def test_a_clock_that_went_back_reopens_nothing_that_has_no_window() -> None:
    scene = outage(OFF)
    scene.all("...", 120.0)
    scene.all("...", 180.0)
    scene.fold(Returned(100.0))
    scene.all("xxx", 101.0)
    (opened,) = of(EpisodeOpened, scene.all("xxx", 102.0))
    assert (opened.number, opened.reopened) == (2, False)


def test_a_pause_is_not_told_as_down_to_those_that_depend_on_it_before_it_is_known_again() -> None:
    scene = outage(OFF)
    assert of(ParentSaid, scene.fold(Suspended(100.0))) == [ParentSaid(100.0, Stage.UNKNOWN)]
    assert scene.fold(Continued(200.0)) == []
    assert of(ParentSaid, scene.all("xxx", 201.0) + scene.all("xxx", 261.0)) == [
        ParentSaid(261.0, Stage.CRITICAL)
    ]


def test_a_severity_that_results_bring_after_an_edit_opened_it_is_not_the_edits() -> None:
    scene = well(OFF | {"critical": "all"})
    scene.all("ww.", 60.0)
    scene.policy = policy(OFF | {"warning": "all", "critical": "all"})
    scene.all("ww.", 120.0)
    scene.policy = policy(OFF | {"warning": 2, "critical": 2})
    opened = of(StepProposed, scene.fold(PolicyChanged(121.0)))
    scene.all("xx.", 180.0)
    rose = of(StepProposed, scene.all("xx.", 240.0))
    assert [(one.step, one.most) for one in (*opened, *rose)] == [("open", "draft"), ("update", "auto")]


# ---- a minority


def minority(**more: Any) -> Scene:
    """Region a is critical since 120 s, alone, and everything is looked at every minute."""
    scene = Scene(OFF, 3)
    bound = Bound(regions=("a", "b", "c"), **more)
    spec = {"slug": "b", "type": "tcp", "host": "h", "port": 1, "quorum": OFF | {"advisory_after": "5m"}}
    scene.policy = compile_policy(BEAT.validate_python(spec), bound)
    for at in (0.0, 60.0, 120.0):
        scene.all("x.." if at else "...", at)
    return scene


def look(scene: Scene, letters: str, since: float, until: float) -> list[Effect]:
    return [
        effect for at in range(int(since), int(until) + 1, 60) for effect in scene.all(letters, float(at))
    ]


def test_a_minority_that_stays_bad_is_told_once_and_its_end_once() -> None:
    scene = minority()
    told = look(scene, "x..", 180, 900)
    assert of(AdvisoryRaised, told) == [AdvisoryRaised(420.0, ("a",))]
    assert of(EpisodeOpened, told) == []
    assert of(AdvisoryCleared, look(scene, "...", 960, 1200)) == [AdvisoryCleared(1020.0)]


@pytest.mark.parametrize("why", ["sick", "silent"])
def test_a_minority_that_does_not_count_any_more_is_not_said_to_be_ok(why: str) -> None:
    scene = minority()
    look(scene, "x..", 180, 480)
    if why == "sick":
        bound = Bound(regions=("a", "b", "c"), sick=("a",))
        spec = {"slug": "b", "type": "tcp", "host": "h", "port": 1, "quorum": OFF | {"advisory_after": "5m"}}
        scene.policy = compile_policy(BEAT.validate_python(spec), bound)
        told = scene.fold(PolicyChanged(490.0))
    else:
        told = [one for at in range(540, 901, 60) for region in "bc" for one in scene.see(region, ".", at)]
    (cleared,) = of(AdvisoryCleared, told)
    assert cleared.silent == ("a",)


def test_a_minority_that_does_not_last_is_told_to_nobody() -> None:
    told = look(minority(), "...", 180, 900)
    assert of(AdvisoryRaised, told) + of(AdvisoryCleared, told) == []


def test_an_outage_swallows_the_advisory() -> None:
    scene = minority()
    look(scene, "x..", 180, 480)
    told = look(scene, "xx.", 540, 600)
    assert [type(one).__name__ for one in told if not isinstance(one, StepProposed)] == [
        "Transitioned",
        "EpisodeOpened",
    ]
    told = look(scene, "x..", 660, 720)
    assert of(EpisodeClosed, told)
    assert of(AdvisoryRaised, look(scene, "x..", 780, 1200)) == [AdvisoryRaised(1020.0, ("a",))]


def test_a_minority_under_maintenance_is_told_after_it_if_it_lasts() -> None:
    scene = minority(windows=(Window(100.0, 1000.0, "m"),))
    assert of(AdvisoryRaised, look(scene, "x..", 180, 960)) == []
    assert of(AdvisoryRaised, scene.fold(Tick(1010.0))) == [AdvisoryRaised(1000.0, ("a",))]


# ---- dependencies


def child(quorum: dict[str, Any]) -> Scene:
    scene = Scene(quorum, 3)
    spec = {"slug": "b", "type": "tcp", "host": "h", "port": 1, "quorum": quorum}
    bound = Bound(regions=("a", "b", "c"), parents=("p", "q"))
    scene.policy = compile_policy(BEAT.validate_python(spec), bound)
    scene.all("...", 0.0)
    return scene


def test_a_first_bad_result_asks_all_it_depends_on() -> None:
    assert of(ParentsAsked, child({}).see("a", "x", 60.0)) == [ParentsAsked(60.0, ("p", "q"))]


def test_it_opens_when_all_have_answered() -> None:
    scene = child(OFF)
    scene.all("xxx", 60.0)
    assert of(EpisodeOpened, scene.all("xxx", 61.0)) == []
    assert of(EpisodeOpened, scene.fold(ParentChanged(62.0, "p", Stage.OK, is_answer=True))) == []
    assert of(EpisodeOpened, scene.fold(ParentChanged(63.0, "q", Stage.WARNING, is_answer=True)))


def test_it_waits_for_no_answer_longer_than_ten_seconds() -> None:
    scene = child(OFF)
    scene.all("xxx", 60.0)
    scene.all("xxx", 61.0)
    assert [effect.at for effect in of(EpisodeOpened, scene.fold(Tick(90.0)))] == [70.0]


def test_a_blip_asks_and_the_next_one_asks_again() -> None:
    scene = child({})
    answer(scene, asked(scene.see("a", "x", 60.0)), {"a": "..", "b": "..", "c": ".."}, 61.0)
    scene.see("a", ".", 70.0)
    assert of(ParentsAsked, scene.see("a", "x", 80.0))


def test_when_its_parent_is_back_only_what_is_seen_since_is_bad() -> None:
    scene = child(OFF)
    scene.fold(ParentChanged(50.0, "p", Stage.CRITICAL))
    scene.all("xxx", 60.0)
    scene.all("xxx", 120.0)
    assert scene.state.suppressed_by == ("dependency:p",)
    assert of(EpisodeOpened, scene.fold(ParentChanged(130.0, "p", Stage.OK)) + scene.fold(Tick(170.0))) == []
    assert scene.state.suppressed_by == ("asking",)
    assert of(EpisodeOpened, scene.see("a", "x", 180.0)) == []
    told = scene.see("b", "x", 181.0) + scene.fold(Tick(200.0))
    assert len(of(EpisodeOpened, told)) == 1


def test_what_turns_bad_by_what_was_seen_before_its_parent_was_back_waits_too() -> None:
    scene = child(OFF)
    scene.fold(ParentChanged(50.0, "p", Stage.CRITICAL))
    scene.all("xxx", 60.0)
    scene.see("a", "x", 110.0)
    scene.fold(ParentChanged(115.0, "p", Stage.OK))
    told = scene.see("b", "x", 116.0, measured_at=114.0)
    told += scene.fold(ParentChanged(117.0, "p", Stage.OK, is_answer=True))
    told += scene.fold(ParentChanged(117.0, "q", Stage.OK, is_answer=True)) + scene.fold(Tick(140.0))
    assert scene.state.stage is Stage.CRITICAL
    assert of(EpisodeOpened, told) == []


def test_a_report_opens_at_once_when_the_parent_is_back() -> None:
    scene = child(OFF)
    scene.fold(ParentChanged(50.0, "p", Stage.CRITICAL))
    scene.fold(SignalChanged(60.0, "report", "critical"))
    scene.fold(Tick(80.0))
    told = scene.fold(ParentChanged(130.0, "p", Stage.OK)) + scene.fold(Tick(141.0))
    assert len(of(EpisodeOpened, told)) == 1


def test_who_is_asked_looks_and_answers_all_who_asked_when_it_has_looked() -> None:
    scene = well()
    wanted = asked(scene.fold(Asked(60.0, "one")))
    assert of(Answered, scene.fold(Asked(60.5, "two"))) == []
    told = answer(scene, wanted, {"a": "xx", "b": "xx", "c": "xx"}, 61.0)
    assert of(Answered, told) == [Answered(61.0, ("one", "two"), Stage.CRITICAL)]


def test_who_is_critical_answers_at_once() -> None:
    (said,) = of(Answered, outage().fold(Asked(100.0, "one")))
    assert said.stage is Stage.CRITICAL


def test_who_begins_no_rounds_answers_when_it_has_looked_next() -> None:
    scene = well(OFF)
    assert of(Answered, scene.fold(Asked(30.0, "one"))) == []
    assert of(Answered, scene.see("b", ".", 35.0)) == [Answered(35.0, ("one",), Stage.OK)]
    scene.fold(Asked(40.0, "one"))
    assert [effect.at for effect in of(Answered, scene.fold(Tick(60.0)))] == [48.0]


def test_who_is_paused_answers_that_it_does_not_know() -> None:
    scene = outage(OFF)
    scene.fold(Suspended(100.0))
    (said,) = of(Answered, scene.fold(Asked(101.0, "one")))
    assert said.stage is Stage.UNKNOWN
