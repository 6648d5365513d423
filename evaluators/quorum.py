"""From results to a beat's stage: votes, quorum, confirmation rounds and episodes, as one pure fold.

`decide(policy, state, fact)` is total: every fact has an answer, nothing raises, nothing waits. Time is a field of the
fact. Before a fact at t is folded, the caller folds `Tick(d)` for every `next_deadline` d <= t, live and in replay.

How a stage comes about (docs/explanation/deciding.md tells it with pictures):

1. A result changes its region's vote only after `consecutive` results in a row (`evaluators.vote`).
2. A region's first bad scheduled result asks every region to look again, now and after `spacing`: a *round*. While it
   is out nothing may open; it is judged when all answers are in, or after `wait`.
3. Fresh votes are counted. A level (critical, warning) opens at `open` votes at least that bad and ends at `close`
   better ones; between the two it holds. Fewer than `min_voters` fresh votes are `unknown`, which is neither good
   news nor bad: it opens no episode and ends none.
4. The stage is the worst of what the votes say and of the signals that others have opened.
5. An episode lasts from the first warning or critical to the next ok.
"""

import math
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from evaluators import heartbeat as heartbeats
from evaluators import vote as votes
from evaluators.model import Kind, Result, Severity, Stage, Verdict
from evaluators.policy import Policy
from rules.incident import Step

# ---- facts: `at` is server time, seconds since the epoch


class ResultSeen(Struct, frozen=True):
    """A result that was not seen before. `measured_at` is the run's end in server time."""

    at: float
    result: Result
    boot: str
    measured_at: float


class Tick(Struct, frozen=True):
    """Time has passed: a round ran out, a vote went stale."""

    at: float


class PolicyChanged(Struct, frozen=True):
    """The beat was edited, or regions came or went. `measures_anew`: what is measured changed, so that old votes say nothing any more."""

    at: float
    measures_anew: bool


class Returned(Struct, frozen=True):
    """Nobody was looking until now (Upbeat was down, or cut off from its bus).

    Votes of before are not fresh, but no silence either: the stage is held until fresh ones come, or for `max_age`.
    What was measured meanwhile and comes late is folded into the votes, and judged only together with fresh ones.
    The one fact that is folded without the ticks before it: to the beat, that time did not pass.
    """

    at: float


class SignalChanged(Struct, frozen=True):
    """Somebody else says that the beat is bad, or (`severity` None) no longer. Only `signal` itself ends a signal.

    `signal` is who says so and the fingerprint of what they say it of: see `signal_key`.
    """

    at: float
    signal: str
    severity: Severity | None


class Suspended(Struct, frozen=True):
    """A person paused the beat (`removed`: took it away). The episode is frozen (ended) as such, never recovered."""

    at: float
    removed: bool = False


class Continued(Struct, frozen=True):
    """A paused beat runs again."""

    at: float


Fact = ResultSeen | Tick | PolicyChanged | Returned | SignalChanged | Suspended | Continued

# ---- effects


class Transitioned(Struct, frozen=True):
    """The stage changed. `first`: out of the `unknown` a beat is born with."""

    at: float
    was: Stage
    stage: Stage
    first: bool


class NeverAnswered(Struct, frozen=True):
    """A new beat is still `unknown`, and has been for so long that somebody should know."""

    at: float


class EpisodeOpened(Struct, frozen=True):
    """The beat's `number`-th episode began."""

    at: float
    number: int
    severity: Severity


class EpisodeClosed(Struct, frozen=True):
    """It ended; only `recovered` is good news."""

    at: float
    number: int
    cause: Literal["recovered", "removed"]


class EpisodeFrozen(Struct, frozen=True):
    """Its beat was paused: it stays open, and nothing pending may go out."""

    at: float
    number: int


class StepProposed(Struct, frozen=True):
    """Something may now be said in public; `evaluators.review` decides with the episode's actions in hand.

    `careful`: a change of policy caused it, so that it is a draft at most.
    """

    at: float
    step: Step
    severity: Severity
    careful: bool


class ConfirmWanted(Struct, frozen=True):
    """Ask `regions` to run now, `runs` times, `spacing_s` apart. `request` names the round."""

    request: str
    regions: tuple[str, ...]
    runs: int
    spacing_s: float


Effect = (
    Transitioned
    | NeverAnswered
    | EpisodeOpened
    | EpisodeClosed
    | EpisodeFrozen
    | StepProposed
    | ConfirmWanted
)

# ---- state


class Round(Struct, frozen=True, array_like=True):
    """A confirmation round that is out. A dropped run is an answer."""

    request: str
    until: float
    wanted: int
    answers: tuple[tuple[str, int], ...] = ()  # (region, n)


class State(Struct, frozen=True, omit_defaults=True):
    """All that is remembered of a beat between facts."""

    stage: Stage = Stage.UNKNOWN  # the worst of `voted` and `signals`
    voted: Stage = Stage.UNKNOWN
    signals: dict[str, Severity] = {}
    since: float = 0.0
    at: float = 0.0  # of the last fact
    regions: dict[str, votes.Region] = {}
    critical: bool = False  # the level is open
    warning: bool = False
    severity: Severity | None = None  # of the open episode; None when there is none
    episodes: int = 0  # opened so far
    round: Round | None = None
    next_round_at: float = 0.0
    returned_at: float = 0.0
    held_until: float = 0.0  # the stage is held until enough regions answer, at most until then
    suspended: bool = False
    frozen: bool = False  # the open episode was frozen by a pause
    born: bool = False  # has ever had a stage of its own
    assigned: tuple[str, ...] = ()  # the regions of the policy it was last brought to
    heartbeat: heartbeats.State = heartbeats.State()


_WORST: Final = (Stage.CRITICAL, Stage.WARNING, Stage.UNKNOWN, Stage.OK)
MOST_SIGNALS: Final = 500
"""Open signals of one beat; more change nothing, as the beat is bad already."""


def signal_key(source: str, fingerprint: str) -> str:
    """Names a signal among those of its beat; `source` is `report` or the id of a trigger."""
    return f"{source}\x1f{fingerprint}"


def decide(policy: Policy, state: State, fact: Fact) -> tuple[State, tuple[Effect, ...]]:
    """Fold one fact into `state`. Total: every input has an answer, nothing raises."""
    if isinstance(fact, ResultSeen):
        return _seen(policy, state, fact)
    if isinstance(fact, Tick):
        return _judge(policy, replace(state, at=max(state.at, fact.at)), careful=False)
    if isinstance(fact, PolicyChanged):
        return _changed(policy, state, fact)
    if isinstance(fact, Returned):
        return _returned(policy, state, fact.at), ()
    if isinstance(fact, SignalChanged):
        return _signalled(policy, state, fact)
    if isinstance(fact, Suspended):
        return _suspended(state, fact)
    return _judge(policy, _anew(policy, replace(state, suspended=False), fact.at), careful=False)


def next_deadline(policy: Policy, state: State) -> float | None:
    """When time alone may change the stage next (seconds since the epoch), or None."""
    if state.suspended:
        return None
    at, max_age_s, soonest = state.at, policy.max_age_s, math.inf
    for region in state.regions.values():  # written out: this runs for every result
        if region.vote.verdict is not None and at < (until := region.vote.at + max_age_s) < soonest:
            soonest = until
    if state.round is not None and state.round.until < soonest:
        soonest = state.round.until
    if at < state.held_until < soonest:
        soonest = state.held_until
    return None if soonest == math.inf else soonest


def fresh_votes(policy: Policy, state: State, at: float) -> dict[str, Verdict]:
    """The vote of every assigned region that has a fresh one at `at`."""
    fresh: dict[str, Verdict] = {}
    for slug in policy.regions:
        region = state.regions.get(slug)
        if region is None or region.vote.verdict is None:
            continue
        if at < region.vote.at + policy.max_age_s:
            fresh[slug] = region.vote.verdict
    return fresh


def _seen(policy: Policy, state: State, fact: ResultSeen) -> tuple[State, tuple[Effect, ...]]:
    result = fact.result
    at = max(state.at, fact.at)
    if state.suspended or result.region not in policy.regions:
        return replace(state, at=at), ()
    before = state.regions.get(result.region, votes.Region())
    after = votes.see(policy, before, result, fact.boot, fact.measured_at, state.returned_at)
    regions = state.regions if after is before else {**state.regions, result.region: after}
    says_the_same = after.vote.verdict is before.vote.verdict and (
        before.vote.verdict is None or at < before.vote.at + policy.max_age_s
    )
    state = replace(state, at=at, regions=regions, round=_answered(state.round, result))
    state, asked = _ask(policy, state, after, fact)
    if says_the_same and state.round is None and result.kind is Kind.SCHEDULED:
        # Time is folded before every fact, so that the votes are those that were judged last: nearly every result.
        return state, asked
    state, effects = _judge(policy, state, careful=False)
    return state, (*asked, *effects)


def _answered(out: Round | None, result: Result) -> Round | None:
    if out is None or result.kind is not Kind.CONFIRM or result.request != out.request:
        return out
    answer = (result.region, result.n)
    return out if answer in out.answers else replace(out, answers=(*out.answers, answer))


def _ask(
    policy: Policy, state: State, region: votes.Region, fact: ResultSeen
) -> tuple[State, tuple[Effect, ...]]:
    """A region's first bad scheduled result asks all regions, unless a round is out or was just judged."""
    result = fact.result
    if policy.confirm is None or state.critical or state.round or state.at < state.next_round_at:
        return state, ()
    if result.kind is not Kind.SCHEDULED or not _begins_bad(region, fact):
        return state, ()
    until = state.at + policy.confirm.wait_s
    wanted = len(policy.regions) * policy.confirm.runs
    # The run that caused the round names it, so that folding the same facts again asks under the same name.
    out = Round(result.run_id, until, wanted)
    order = ConfirmWanted(result.run_id, policy.regions, policy.confirm.runs, policy.confirm.spacing_s)
    return replace(state, round=out, next_round_at=until), (order,)


def _begins_bad(region: votes.Region, fact: ResultSeen) -> bool:
    """Whether the scheduled result just seen is its region's newest, and no scheduled one of its bad streak came before.

    Bad confirm runs before it do not count: a round that ended just before an outage would else hide its beginning.
    """
    streak = region.recent[-region.vote.bad :] if region.vote.bad else ()
    if not streak or (streak[-1].boot, streak[-1].seq) != (fact.boot, fact.result.seq):
        return False
    return len(streak) == region.vote.bad and all(seen.kind is Kind.CONFIRM for seen in streak[:-1])


def _judge(policy: Policy, state: State, *, careful: bool) -> tuple[State, tuple[Effect, ...]]:
    """Count the fresh votes and follow what they say."""
    if state.suspended:
        return state, ()
    if state.round and (state.at >= state.round.until or len(state.round.answers) >= state.round.wanted):
        state = replace(state, round=None)
    fresh = fresh_votes(policy, state, state.at)
    if len(fresh) < policy.min_voters:
        held = policy.holds or state.at < state.held_until
        if not held and not state.born and state.held_until:
            # Nobody ever answered for it: silence is said once, also when there was nothing before it.
            return replace(state, born=True), (NeverAnswered(state.at),)
        state = state if held else replace(state, voted=Stage.UNKNOWN)
        is_said = state.severity in state.signals.values()  # what is held of votes thaws nothing
        return _thaw(state, careful) if is_said else _become(state, careful)
    critical = sum(verdict is Verdict.CRITICAL for verdict in fresh.values())
    warning = sum(verdict is Verdict.WARNING for verdict in fresh.values())
    good = len(fresh) - critical - warning
    may_open = state.round is None
    opens = critical >= policy.critical.open or critical + warning >= policy.warning.open
    if opens and not may_open and state.voted is Stage.UNKNOWN:
        return _become(state, careful)  # not bad yet, and certainly not ok
    if state.critical:
        is_critical = warning + good < policy.critical.close
    else:
        is_critical = may_open and critical >= policy.critical.open
    if state.warning:
        is_warning = good < policy.warning.close
    else:
        is_warning = may_open and critical + warning >= policy.warning.open
    is_warning = is_warning or is_critical
    voted = Stage.CRITICAL if is_critical else Stage.WARNING if is_warning else Stage.OK
    state = replace(state, critical=is_critical, warning=is_warning, voted=voted, held_until=0.0)
    return _thaw(state, careful)


def _thaw(state: State, careful: bool) -> tuple[State, tuple[Effect, ...]]:
    """`_become`, after a pause too: where it is still bad, the draft that the pause withdrew is owed again."""
    if not state.frozen:
        return _become(state, careful)
    again: tuple[Effect, ...] = ()
    if state.severity is not None and (state.voted is not Stage.OK or state.signals):
        again = (StepProposed(state.at, "open", state.severity, careful),)
    state, effects = _become(replace(state, frozen=False), careful)
    return state, (*again, *effects)


def _become(state: State, careful: bool) -> tuple[State, tuple[Effect, ...]]:
    """Take the worst of votes and signals as the stage, and open, change or close the episode as that asks."""
    at, effects, stage = state.at, list[Effect](), state.voted
    if state.signals:
        said = {stage, *(Stage(severity) for severity in state.signals.values())}
        stage = next(worst for worst in _WORST if worst in said)
    if stage is not state.stage:
        effects.append(Transitioned(at, state.stage, stage, not state.born))
        state = replace(state, stage=stage, since=at, born=True)
    severity: Severity | None = (
        "critical" if stage is Stage.CRITICAL else "warning" if stage is Stage.WARNING else None
    )
    if severity is not None and state.severity is None:
        state = replace(state, severity=severity, episodes=state.episodes + 1)
        effects += (EpisodeOpened(at, state.episodes, severity), StepProposed(at, "open", severity, careful))
    elif severity is not None and severity != state.severity:
        state = replace(state, severity=severity)
        effects.append(StepProposed(at, "update", severity, careful))
    elif stage is Stage.OK and state.severity is not None:
        effects += (
            EpisodeClosed(at, state.episodes, "recovered"),
            StepProposed(at, "resolve", state.severity, careful),
        )
        state = replace(state, severity=None, frozen=False)
    return state, tuple(effects)


def _signalled(policy: Policy, state: State, fact: SignalChanged) -> tuple[State, tuple[Effect, ...]]:
    signals = {name: severity for name, severity in state.signals.items() if name != fact.signal}
    if fact.severity is not None and len(signals) < MOST_SIGNALS:
        signals[fact.signal] = fact.severity
    return _judge(policy, replace(state, at=max(state.at, fact.at), signals=signals), careful=False)


def _changed(policy: Policy, state: State, fact: PolicyChanged) -> tuple[State, tuple[Effect, ...]]:
    state = replace(state, assigned=policy.regions)
    if fact.measures_anew:
        return _judge(policy, _anew(policy, state, fact.at), careful=True)  # held, unless nobody is asked
    kept = {
        slug: votes.refold(policy, region, state.returned_at)
        for slug, region in state.regions.items()
        if slug in policy.regions
    }
    # A round that is out is given up: what the new policy opens is opened here and now, as a draft.
    state = replace(state, at=max(state.at, fact.at), regions=kept, round=None)
    return _judge(policy, state, careful=True)


def _returned(policy: Policy, state: State, at: float) -> State:
    """Hold the stage until fresh votes come, or for `max_age`; votes that had gone stale before are forgotten.

    The clock may have gone back while nobody looked: what lies in the future is brought to now.
    """
    kept = {
        slug: replace(region, vote=replace(region.vote, at=min(region.vote.at, at)))
        for slug, region in state.regions.items()
        if region.vote.verdict is None or state.at < max(region.vote.at, state.returned_at) + policy.max_age_s
    }
    wait_s = policy.confirm.wait_s if policy.confirm else 0.0
    return replace(
        state,
        at=at,
        returned_at=at,
        regions=kept,
        round=state.round if state.round and state.round.until <= at + wait_s else None,
        next_round_at=min(state.next_round_at, at + wait_s),
        # Votes from before an absence, and what was measured during it, say nothing of now; nor is it silence yet.
        held_until=at + policy.hold_s,
    )


def _anew(policy: Policy, state: State, at: float) -> State:
    """Forget all votes and hold the stage until enough regions have answered again."""
    at = max(state.at, at)
    return replace(state, at=at, regions={}, round=None, held_until=at + policy.hold_s)


def _suspended(state: State, fact: Suspended) -> tuple[State, tuple[Effect, ...]]:
    at, number, severity = max(state.at, fact.at), state.episodes, state.severity
    if fact.removed:
        # Should it come back, nothing of before may open an episode: only the count of episodes goes on.
        gone = State(since=at, at=at, episodes=number, suspended=True)
        return gone, () if severity is None else (EpisodeClosed(at, number, "removed"),)
    state = replace(state, at=at, suspended=True, round=None)
    if severity is None or state.frozen:
        return state, ()
    return replace(state, frozen=True), (EpisodeFrozen(at, number),)
