"""Folding by hand: regions that go, and a clock that was wrong."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from engine.catalog import Declared
from engine.fold import Fold
from engine.store.ids import new_id
from engine.store.states import Held
from engine.subject import Subject, compile_subject
from evaluators.facts import StepProposed
from evaluators.model import Kind, Result, Timings, Verdict
from evaluators.policy import Bound
from evaluators.state import State

BEAT, PAGE = new_id(), new_id()
SPEC: dict[str, Any] = {
    "slug": "shop",
    "type": "tcp",
    "host": "shop.example",
    "port": 443,
    "interval": "10s",
    "quorum": {"confirm": None},
    "incidents": {"open": "auto"},
}


class Story:
    """One beat, facts one after the other, each in a fold of its own as a transaction would have."""

    def __init__(self, *regions: str) -> None:
        self.subject = self.compile(*regions)
        self.held = Held(BEAT, 0, 0, "", 0, State())
        self.proposed: list[StepProposed] = []
        self.seq = 0
        self.reconcile(0.0)

    def compile(self, *regions: str) -> Subject:
        return compile_subject(Declared(BEAT, "beat", PAGE, "shop", SPEC, 1, None), Bound(regions=regions))

    def fold(self) -> Fold:
        held: dict[UUID, Held] = {BEAT: self.held}
        return Fold(held, lambda _: self.subject, 0.0)

    def keep(self, fold: Fold) -> None:
        self.held = fold.changed.get(BEAT, self.held)
        self.proposed += [c.effect for c in fold.consequences if isinstance(c.effect, StepProposed)]

    def stage(self) -> str:
        return str(self.held.state.stage)

    def reconcile(self, now: float) -> None:
        fold = self.fold()
        fold.reconcile(BEAT, now)
        self.keep(fold)

    def result(self, region: str, verdict: Verdict, now: float) -> None:
        self.seq += 1
        run = Result(
            str(new_id()),
            str(BEAT),
            region,
            Kind.SCHEDULED,
            verdict,
            now,
            now,
            self.seq,
            1,
            Timings(),
            check_version=1,
        )
        fold = self.fold()
        fold.catch_up(BEAT, now)
        fold.result(BEAT, run, "boot", now, now)
        self.keep(fold)


def test_what_opens_since_a_region_went_is_a_draft_at_most() -> None:
    story = Story("a", "b", "c", "d")
    for at in (1.0, 2.0):
        for region, verdict in zip("abcd", ("critical", "critical", "ok", "ok"), strict=True):
            story.result(region, Verdict(verdict), at)
    assert story.stage() == "ok"
    story.subject = story.compile("a", "b", "c")
    story.result("a", Verdict.CRITICAL, 3.0)  # before anybody has looked at the change
    assert story.stage() == "critical"
    assert [(step.step, step.most) for step in story.proposed] == [("open", "draft")]


def test_after_a_clock_that_ran_ahead_silence_is_noticed_as_ever() -> None:
    story = Story("a")
    for at in (3600.0, 3610.0):
        story.result("a", Verdict.OK, at)
    story.reconcile(100.0)
    assert (story.stage(), story.held.state.at) == ("ok", 100.0)
    fold = story.fold()
    fold.tick(BEAT, 100.0 + story.subject.policy.max_age_s)
    story.keep(fold)
    assert story.stage() == "unknown"


def test_that_nobody_looked_is_folded_and_kept_under_the_policy_that_comes_with_it() -> None:
    story = Story("ap", "eu")
    story.result("ap", Verdict.OK, 5.0)
    story.subject = replace(story.compile("ap", "eu", "us"), revision=2)
    fold = Fold({BEAT: story.held}, lambda _: story.subject, 60.0)
    fold.reconcile(BEAT, 61.0)
    (piece,) = fold.take_log()
    assert [(type(one.fact).__name__, one.fact.at, one.revision) for one in piece.facts] == [
        ("Returned", 60.0, 2),
        ("PolicyChanged", 61.0, 2),
    ]
    assert all(one.bound == story.subject.bound for one in piece.facts)


def test_what_is_declared_stays_what_it_was_for_as_long_as_a_transaction_takes() -> None:
    story = Story("ap", "eu")
    fold = story.fold()
    fold.catch_up(BEAT, 5.0)
    was, story.subject = story.subject, replace(story.compile("ap", "eu", "us"), revision=2)
    assert fold.subject(BEAT) is was
