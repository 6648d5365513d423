"""Who is asked what by whom: children wait for parents that have looked, and for no longer than ten seconds."""

from evaluators.episode import ASK_S
from evaluators.facts import (
    Answered,
    Asked,
    ConfirmWanted,
    Effect,
    EpisodeOpened,
    Fact,
    ParentChanged,
    ParentsAsked,
    RelationsChanged,
    ResultSeen,
    Tick,
)
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.quorum import decide, next_deadline
from evaluators.state import State
from rules.beat import BEAT

REGIONS = ("ap", "eu", "us")


def policy(*parents: str, confirm: object = None) -> Policy:
    spec = {"slug": "shop", "type": "tcp", "host": "a.example", "port": 1}
    return compile_policy(
        BEAT.validate_python(spec | {"quorum": {"confirm": confirm or {"spacing": "0s"}}}),
        Bound(regions=REGIONS, parents=parents),
    )


class Told:
    """One subject, told facts in order; time is folded as the engine folds it. `heard` is what came of it, with when."""

    def __init__(self, rules: Policy) -> None:
        self.rules, self.state, self.heard, self._seq = rules, State(), list[tuple[float, Effect]](), 0

    def fold(self, fact: Fact) -> None:
        while (deadline := next_deadline(self.rules, self.state)) is not None and deadline < fact.at:
            self._decide(Tick(deadline))
        self._decide(fact)

    def _decide(self, fact: Fact) -> None:
        self.state, effects = decide(self.rules, self.state, fact)
        self.heard += ((fact.at, effect) for effect in effects)

    def runs(self, at: float, verdict: str, regions: tuple[str, ...] = REGIONS, request: str = "") -> None:
        """Each of them once, scheduled; or twice, in answer to a request."""
        for region in regions:
            for n in range(2 if request else 1):
                self._seq += 1
                kind = Kind.CONFIRM if request else Kind.SCHEDULED
                result = Result(
                    "r",
                    "b",
                    region,
                    kind,
                    Verdict(verdict),
                    at,
                    at,
                    self._seq,
                    1,
                    Timings(),
                    n=n,
                    request=request,
                )
                self.fold(ResultSeen(at, result, "boot", at))

    def of(self, kind: type[Effect]) -> list[tuple[float, Effect]]:
        return [(at, effect) for at, effect in self.heard if isinstance(effect, kind)]

    def round(self) -> str:
        """The request of the round that is out."""
        assert self.state.round is not None
        return self.state.round.request


def test_a_child_whose_parent_never_answers_opens_after_ten_seconds() -> None:
    child = Told(policy("db"))
    child.fold(RelationsChanged(0.0))
    child.runs(1.0, "ok")
    child.runs(60.0, "critical", ("eu",))
    assert child.of(ParentsAsked)[-1] == (60.0, ParentsAsked(60.0, ("db",)))
    child.runs(60.5, "critical", request=child.round())
    assert (child.state.stage, child.state.suppressed_by) == (Stage.CRITICAL, ("asking",))
    child.fold(Tick(69.9))
    assert not child.of(EpisodeOpened)
    child.fold(Tick(60.0 + ASK_S))
    assert [at for at, _ in child.of(EpisodeOpened)] == [60.0 + ASK_S]


def test_what_was_said_before_it_was_asked_is_no_answer() -> None:
    child = Told(policy("db"))
    child.fold(RelationsChanged(0.0))
    child.runs(1.0, "ok")
    child.runs(60.0, "critical", ("eu",))
    child.fold(ParentChanged(60.1, "db", Stage.OK))
    child.runs(60.5, "critical", request=child.round())
    assert not child.of(EpisodeOpened)
    child.fold(ParentChanged(61.0, "db", Stage.OK, is_answer=True))
    assert [at for at, _ in child.of(EpisodeOpened)] == [61.0]


def test_a_parent_that_just_looked_looks_again_before_it_answers() -> None:
    parent = Told(policy())
    parent.runs(1.0, "ok")
    parent.fold(Asked(60.0, "one"))
    parent.runs(60.2, "ok", request=parent.round())
    assert parent.of(Answered) == [(60.2, Answered(60.2, ("one",), Stage.OK))]
    parent.fold(Asked(62.0, "two"))  # what it saw at 60.2 is older than what the second child saw
    parent.runs(63.0, "critical", ("eu",))
    assert len(parent.of(Answered)) == 1
    parent.fold(Tick(65.0))
    assert [at for at, _ in parent.of(ConfirmWanted)] == [60.0, 65.0]
    parent.runs(65.2, "critical", request=parent.round())
    assert parent.of(Answered)[-1] == (65.2, Answered(65.2, ("two",), Stage.CRITICAL))


def test_a_parent_without_rounds_answers_when_it_has_looked_next_or_with_what_it_knows() -> None:
    parent = Told(policy(confirm="off"))
    parent.runs(1.0, "ok")
    parent.fold(Asked(60.0, "one"))
    parent.runs(61.0, "ok", ("eu",))
    parent.fold(Asked(70.0, "two"))
    parent.fold(Tick(80.0))
    assert [at for at, _ in parent.of(Answered)] == [61.0, 78.0]
    assert not parent.of(ConfirmWanted)
