"""The fold behind replays: facts of the past into states, as the live engine does it, and under other policies beside it.

Pure; where the facts come from is `engine.replay`'s. `Retrace` makes a state of the past again, to the byte. `Replay` is
a what-if: several policies at once over a *component* (beats and groups that hear of each other), results in the order
of their own times. Confirm runs count only for a policy that asked for that round; where it asked for one that nobody
has runs of, the episode it would have confirmed has a range, from `could_open` (the runs could have answered) to
`opened` (scheduled runs alone opened it).
"""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from evaluators import facts, heartbeat
from evaluators.facts import Effect, Fact, Returned, Tick
from evaluators.lane import Lane
from evaluators.model import Kind, Result, Severity, Stage, Verdict
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.quorum import decide, newborn, next_deadline
from evaluators.relay import heard
from evaluators.review import mode_of
from evaluators.state import State
from rules.beat import AnyBeat
from rules.channels.channel import Told
from rules.group import Group

MOST: Final = 2000
"""Episodes, and changes of the stage, that are listed of each owner at the most; all are counted."""
SLACK_S: Final = 60.0
"""Episodes so far apart may be of one outage."""
_BAD: Final = (Stage.WARNING, Stage.CRITICAL)
_TOLD: Final[dict[type, Told]] = {
    facts.EpisodeOpened: "open",
    facts.SeverityChanged: "change",
    facts.EpisodeFrozen: "change",
    facts.FlappingStarted: "flapping",
    facts.FlappingEnded: "flapping",
    facts.AdvisoryRaised: "advisory",
    facts.AdvisoryCleared: "advisory",
    facts.NeverAnswered: "unknown",
}

Steps = Sequence[tuple[State, tuple[Effect, ...]]]


def fold(policy: Policy, state: State, fact: Fact) -> tuple[State, Steps]:
    """`state` after every deadline up to `fact` and `fact` itself; and each step that had effects, with the state it reached.

    A `Tick` is no more than the deadlines before it. `Returned` is folded without them: that time did not pass.
    """
    steps: list[tuple[State, tuple[Effect, ...]]] = []
    if not isinstance(fact, Returned):
        while (deadline := next_deadline(policy, state)) is not None and deadline <= fact.at:
            state, effects = decide(policy, state, Tick(deadline))
            if effects:
                steps.append((state, effects))
    if not isinstance(fact, Tick):
        state, effects = decide(policy, state, fact)
        if effects:
            steps.append((state, effects))
    return state, steps


def digest(state: State) -> str:
    """SHA-256 of a state as JSON, but for what a heartbeat waits for: pings are no part of the log."""
    return hashlib.sha256(msgspec.json.encode(replace(state, heartbeat=heartbeat.State()))).hexdigest()


def told(effect: Effect, state: State, same: Sequence[Effect]) -> Told | None:
    """What operators are told of `effect`, if anything; `same` are all effects of the decision that led to `state`."""
    calms = any(isinstance(one, facts.FlappingEnded) for one in same)
    closes = any(isinstance(one, facts.EpisodeClosed) for one in same)
    if isinstance(effect, facts.EpisodeClosed):
        return "recovery" if effect.cause == "recovered" else "change"
    if isinstance(effect, facts.SeverityChanged) and calms:
        return None  # it was just said where it ended
    if isinstance(effect, facts.FlappingEnded) and closes:
        return None
    if not isinstance(effect, facts.Transitioned):
        return _TOLD.get(type(effect))
    is_told = closes or any(isinstance(one, facts.EpisodeOpened) for one in same)
    is_quiet = state.suppressed_by or state.flapping or (state.group and effect.stage in _BAD)
    if effect.first or is_told or is_quiet or Stage.UNKNOWN not in (effect.was, effect.stage):
        return None
    return "unknown" if effect.stage is Stage.UNKNOWN else "change" if effect.stage in _BAD else "recovery"


# ---- the past as it was


class Retrace:
    """One beat or group from its birth on, facts and results in the order in which they were committed."""

    def __init__(self, policy: Policy, at: float) -> None:
        self.policy, self.state = policy, newborn(policy, at)
        self._measured_from = -1  # runs of older revisions do not vote; not known yet
        self._is_removed = False
        self._lane = Lane([self])

    def fact(self, fact: Fact, policy: Policy | None, revision: int) -> None:
        """A fact of the log; where it changed the policy, what that is since."""
        self._lane.settle()
        self.policy = policy or self.policy
        if isinstance(fact, facts.PolicyChanged) and (fact.measures_anew or self._measured_from < 0):
            self._measured_from = revision
        if isinstance(fact, facts.Suspended | facts.PolicyChanged | facts.Continued):
            self._is_removed = isinstance(fact, facts.Suspended) and fact.removed
        self.state, _ = fold(self.policy, self.state, fact)

    def result(self, result: Result, boot: str, at: float) -> None:
        """A stored result, seen at `at`; `result.at` is when it was measured."""
        if self._is_removed or result.check_version < self._measured_from:
            return
        is_ok = result.kind is Kind.SCHEDULED and result.verdict is Verdict.OK
        if is_ok and self._lane.take(result.region, at, result.at, boot, result.seq):
            return
        self._lane.settle()
        self.state, _ = fold(self.policy, self.state, facts.ResultSeen(at, result, boot, result.at))
        if is_ok:
            self._lane.watch(result.region, boot, result.seq)

    def until(self, at: float) -> State:
        """The state at `at`."""
        self._lane.settle()
        self.state, _ = fold(self.policy, self.state, Tick(at))
        return self.state


# ---- what another policy makes of it


class Role(Struct, frozen=True):
    """A beat or group in a replay, under each of its policies, from `start` on; `bound`: what others made of it then."""

    id: str
    slug: str
    rules: tuple[AnyBeat | Group, ...]
    bound: Bound
    start: float


class Episode(Struct, omit_defaults=True):
    """One episode. With `could_open` it opened between then and `opened`; open at the end: `closed` is None."""

    opened: float
    closed: float | None
    severity: Severity  # the worst it had
    could_open: float | None = None


class Outcome(Struct):
    """What one policy makes of an owner. Seconds; messages by kind. `turns`: the stage at the begin, then each change."""

    episodes: list[Episode] = []
    opened: int = 0
    down_s: float = 0.0  # critical
    warning_s: float = 0.0
    unknown_s: float = 0.0
    told: dict[str, int] = {}
    rounds: int = 0  # confirmation rounds that were asked for
    unanswered: int = 0  # of them, those that nobody has runs of
    turns: list[tuple[float, Stage]] = []
    is_cut: bool = False  # more episodes or turns than are listed
    digest: str = ""  # of the state at the end


class Course:
    """One beat or group under one policy."""

    def __init__(
        self, role: Role, rule: AnyBeat | Group, since: float, until: float, most: int = MOST
    ) -> None:
        self.policy = compile_policy(rule, role.bound)
        self.state = newborn(self.policy, role.start)
        self._rule, self._since, self._until, self._most = rule, max(since, role.start), until, most
        self._asked: dict[str, str] = {}  # requests, and runs that joined a round, to the round's request
        self._round_at = self._lacks_since = -math.inf  # the last round, the first of those without runs
        self._answered = 0
        self._spent: dict[Stage, float] = dict.fromkeys(Stage, 0.0)
        self._told: Counter[str] = Counter()
        self._turned_at = role.start
        self._found = Outcome([], turns=[])

    def bind(self, bound: Bound) -> None:
        """Others make something else of it from now on."""
        self.policy = compile_policy(self._rule, bound)

    def admit(self, result: Result) -> Result | None:
        """`result` as this policy sees it; None for a run that would not have been made under it."""
        if result.kind is Kind.SCHEDULED:
            return result
        confirm = self.policy.confirm
        if result.kind is Kind.MANUAL or confirm is None or result.n >= confirm.runs:
            return None
        request = self._asked.get(result.request or "")
        if (
            request is None and self.state.round is not None
        ):  # asked by a child, at another time than in the past
            child = (result.request or "").rpartition(":")[0]
            if child and child == self.state.round.request.rpartition(":")[0]:
                request = self.state.round.request
        if request is None:
            return None
        self._answered = max(self._answered, result.n + 1)
        return replace(result, request=request)

    def joined(self, run_id: str) -> None:
        """A bad run was folded: in the past the round may have had its name."""
        if self.state.round is not None:
            self._asked[run_id] = self.state.round.request
            if len(self._asked) > 2 * 64:
                self._asked = dict(list(self._asked.items())[-64:])

    def could_open(self, at: float) -> float | None:
        """When the round that is behind what opened at `at` could have been over, had it had runs."""
        confirm = self.policy.confirm
        if confirm is None or self._answered >= confirm.runs:
            return None
        earliest = self._lacks_since + (confirm.runs - 1) * confirm.spacing_s
        return earliest if self._is_behind(at) and earliest < at else None

    def _is_behind(self, at: float) -> bool:
        """Whether what the last round was about is still fresh."""
        return at - self._round_at <= self.policy.open_runs * self.policy.max_age_s

    def note(self, state: State, effect: Effect, same: Sequence[Effect]) -> None:
        """Count what comes of one effect."""
        found = self._found
        if isinstance(effect, facts.Transitioned):
            self._spend(effect.was, effect.at)
            if effect.at >= self._since:
                if not found.turns:
                    found.turns.append((self._since, effect.was))
                self._list(found.turns, (effect.at, effect.stage))
        elif isinstance(effect, facts.ConfirmWanted):
            self._asked[effect.request] = effect.request
            self._end_round()
            if self._answered or not self._is_behind(state.at):
                self._lacks_since = state.at
            self._round_at, self._answered = state.at, 0
        elif isinstance(effect, facts.EpisodeOpened):
            if effect.reopened and found.episodes:
                found.episodes[-1].closed = None
            else:
                found.opened += effect.at >= self._since
                self._list(found.episodes, Episode(effect.at, None, effect.severity))
        elif isinstance(effect, facts.SeverityChanged) and found.episodes and effect.severity == "critical":
            found.episodes[-1].severity = "critical"
        elif isinstance(effect, facts.EpisodeClosed) and found.episodes:
            found.episodes[-1].closed = effect.at
            if effect.at < self._since:
                found.episodes.pop()
        if state.at < self._since:
            return
        if isinstance(effect, facts.StepProposed):
            is_draft = mode_of(self.policy.incidents, effect.step, effect.most) == "draft"
            self._told["draft"] += effect.step == "open" and is_draft
        elif (kind := told(effect, state, same)) is not None:
            self._told[kind] += 1

    def doubt(self, could_open: float) -> None:
        """The episode that was just opened might have opened sooner."""
        self._found.episodes[-1].could_open = could_open

    def outcome(self) -> Outcome:
        """All of it, at the end."""
        self._spend(self.state.stage, self._until)
        self._end_round()
        found, spent = self._found, self._spent
        found.down_s, found.warning_s = spent[Stage.CRITICAL], spent[Stage.WARNING]
        found.unknown_s, found.told = spent[Stage.UNKNOWN], dict(sorted((+self._told).items()))
        found.turns = found.turns or [(self._since, self.state.stage)]
        found.digest = digest(self.state)
        return found

    def _spend(self, stage: Stage, at: float) -> None:
        self._spent[stage] += max(0.0, min(at, self._until) - max(self._turned_at, self._since))
        self._turned_at = at

    def _end_round(self) -> None:
        if self._round_at >= self._since:
            self._found.rounds += 1
            self._found.unanswered += self._answered == 0

    def _list(self, listed: list[Any], item: Any) -> None:
        if len(listed) >= self._most:
            del listed[0]
            self._found.is_cut = True
        listed.append(item)


class _Part:
    """One beat or group of a component, and who depends on it."""

    def __init__(self, role: Role, courses: list[Course], children: list[str]) -> None:
        self.role, self.courses, self.children, self.lane = role, courses, children, Lane(courses)


class Replay:
    """A component under several policies at once; counted is what is between `since` and `until`.

    Whatever happened is given in the order of time. `due`: until then no beat of it needs `pass_time`.
    """

    def __init__(self, roles: Sequence[Role], since: float, until: float, most: int = MOST) -> None:
        self.due = -math.inf
        self._until = until
        self._parts = {
            role.id: _Part(
                role,
                [Course(role, rule, since, until, most) for rule in role.rules],
                [other.id for other in roles if role.id in other.bound.parents],
            )
            for role in roles
        }
        self._lanes = [(subject_id, part.lane) for subject_id, part in self._parts.items()]
        self._unborn = {role.id: role.start for role in roles}
        self._bear(min(self._unborn.values()))

    @property
    def is_shared(self) -> bool:
        """Whether there is more than one to hear of what time does."""
        return len(self._lanes) > 1

    def lane(self, subject_id: str) -> Lane:
        """The short cut for a beat's scheduled ok results, before `due` where the component `is_shared`; what it does not take is for `result`."""
        return self._parts[subject_id].lane

    def result(self, subject_id: str, result: Result, boot: str) -> None:
        """A run, at the time of its end."""
        if result.at >= self.due:
            self.pass_time(result.at)
        part, region = self._parts[subject_id], result.region
        is_scheduled = result.kind is Kind.SCHEDULED
        is_ok = is_scheduled and result.verdict is Verdict.OK
        if is_ok and part.lane.take(region, result.at, result.at, boot, result.seq):
            return  # it was only time that had to pass
        part.lane.settle()
        for world, course in enumerate(part.courses):
            if (seen := course.admit(result)) is not None:
                self._fold(world, subject_id, facts.ResultSeen(result.at, seen, boot, result.at))
            if is_scheduled and not is_ok:
                course.joined(result.run_id)
        if is_ok:
            part.lane.watch(region, boot, result.seq)

    def fact(self, subject_id: str, fact: Fact, bound: Bound | None) -> None:
        """A fact of the log, and what others made of the subject since; what this component says to itself is said anew."""
        if not isinstance(fact, Returned) and fact.at >= self.due:
            self.pass_time(fact.at)
        part = self._parts[subject_id]
        if isinstance(fact, facts.ResultSeen):  # an answer that was no run
            part.lane.settle()
            for world, course in enumerate(part.courses):
                if (seen := course.admit(fact.result)) is not None:
                    self._fold(world, subject_id, replace(fact, result=seen))
            return
        if isinstance(fact, facts.PolicyChanged | facts.RelationsChanged):
            anew = isinstance(fact, facts.PolicyChanged) and fact.measures_anew
            if bound is None or (bound == part.role.bound and not anew):
                return  # it was edited: here its policy stays what it is
            was, part.role = part.role.bound, replace(part.role, bound=bound)
            part.lane.settle()
            for course in part.courses:
                course.bind(bound)
            votes_same = (was.regions, was.sick, was.zones) == (bound.regions, bound.sick, bound.zones)
            is_policy = anew or not votes_same
            fact = facts.PolicyChanged(fact.at, anew) if is_policy else facts.RelationsChanged(fact.at)
        speaker = (
            getattr(fact, "member", None) or getattr(fact, "parent", None) or getattr(fact, "child", None)
        )
        if speaker not in self._parts:
            self._each(subject_id, fact)

    def pass_time(self, at: float) -> None:
        """Let time alone do what it does up to `at`, in its order."""
        while True:
            soonest, due = "", math.inf
            for subject_id, lane in self._lanes:
                if lane.due <= at:
                    lane.refresh()
                if lane.due < due:
                    soonest, due = subject_id, lane.due
            born = min(self._unborn.values(), default=math.inf)
            self.due = min(due, born)
            if self.due > at:
                return
            if born <= due:
                self._bear(born)
            else:
                self._each(soonest, Tick(due))

    def _bear(self, at: float) -> None:
        """What came to be at that time begins: before, the others could not hear of it, nor it of them."""
        for subject_id in [one for one, born in self._unborn.items() if born <= at]:
            del self._unborn[subject_id]
            self._each(subject_id, facts.PolicyChanged(at))

    def finish(self) -> dict[str, list[Outcome]]:
        """What each policy made of each beat and group, by id."""
        self.pass_time(self._until)
        for part in self._parts.values():
            part.lane.settle()
        return {name: [course.outcome() for course in part.courses] for name, part in self._parts.items()}

    def _each(self, subject_id: str, fact: Fact) -> None:
        self._parts[subject_id].lane.settle()
        for world in range(len(self._parts[subject_id].courses)):
            self._fold(world, subject_id, fact)

    def _fold(self, world: int, subject_id: str, fact: Fact) -> None:
        """Fold `fact`, and at once whatever others of the component hear of it."""
        self.due = -math.inf
        waiting: deque[tuple[str, Fact]] = deque([(subject_id, fact)])
        while waiting:
            name, fact = waiting.popleft()
            if (part := self._parts.get(name)) is None or name in self._unborn:
                continue
            part.lane.settle()
            course = part.courses[world]
            course.state, steps = fold(course.policy, course.state, fact)
            for state, effects in steps:
                for effect in effects:
                    course.note(state, effect, effects)
                    waiting += heard(effect, name, part.children)
                    if isinstance(effect, facts.EpisodeOpened):
                        self._doubt(world, course, state, effect.at)

    def _doubt(self, world: int, course: Course, state: State, at: float) -> None:
        members = (self._parts[name].courses[world] for name in state.members if name in self._parts)
        if found := [could for one in (course, *members) if (could := one.could_open(at)) is not None]:
            course.doubt(min(found))


# ---- one policy beside another


class Moved(Struct, frozen=True):
    """An episode that both policies open: how much later the new one opens and closes it (seconds, negative is sooner)."""

    old: int
    new: int
    opens_later_s: float
    closes_later_s: float | None


class Compared(Struct, frozen=True):
    """Episodes of two outcomes, by their places: those of one policy only, those that became one or several, the rest."""

    only_old: list[int]
    only_new: list[int]
    merged: list[tuple[list[int], list[int]]]
    split: list[tuple[list[int], list[int]]]
    moved: list[Moved]


def compare(old: Outcome, new: Outcome) -> Compared:
    """Which episodes are of one outage: those that overlap, or nearly do. Of a time that only one still lists nothing is said."""
    cut = (outcome.episodes[0].opened for outcome in (old, new) if len(outcome.episodes) < outcome.opened)
    listed_from = max(cut, default=-math.inf)
    both = [(episode, place, 0) for place, episode in enumerate(old.episodes)]
    both += [(episode, place, 1) for place, episode in enumerate(new.episodes)]
    found, begin, end = Compared([], [], [], [], []), -math.inf, -math.inf
    cluster: tuple[list[int], list[int]] = ([], [])
    for episode, place, side in sorted(both, key=lambda one: (one[0].opened, one[2])):
        if episode.opened > end + SLACK_S:
            if begin >= listed_from:
                _sort_in(found, cluster, old, new)
            begin, cluster = episode.opened, ([], [])
        cluster[side].append(place)
        end = max(end, math.inf if episode.closed is None else episode.closed)
    if begin >= listed_from:
        _sort_in(found, cluster, old, new)
    return found


def _sort_in(found: Compared, cluster: tuple[list[int], list[int]], old: Outcome, new: Outcome) -> None:
    olds, news = cluster
    if not olds or not news:
        found.only_old.extend(olds)
        found.only_new.extend(news)
    elif len(olds) != len(news):
        (found.merged if len(olds) > len(news) else found.split).append(cluster)
    else:
        for a, b in zip(olds, news, strict=True):
            before, after = old.episodes[a], new.episodes[b]
            both_end = before.closed is not None and after.closed is not None
            closes = (after.closed or 0.0) - (before.closed or 0.0) if both_end else None
            found.moved.append(Moved(a, b, after.opened - before.opened, closes))
