"""From a stage to an episode: what suppresses it, how long things must last, flapping, who owns it. Not how a stage comes about.

`follow` is called with every new stage and at every `wake_at`. In this order:

1. The stage is the worst of what votes and signals say; `Transitioned` if it is another one.
2. Maintenance, and parents that are down or have yet to answer, suppress *opening*: nothing else, never an end.
3. A member of a group tells its group; everybody else owns an episode, from the first bad stage to the next ok.
4. An open episode that changes too often flaps: nothing more is said until it is quiet.
5. Another severity, and the end, are said once they have lasted as long as the policy wants.
6. Joining, leaving and changing the group take effect when it is ok and owns no episode.
"""

import math
from typing import Final

from msgspec.structs import replace

from evaluators.facts import (
    AdvisoryCleared,
    AdvisoryRaised,
    Effect,
    EpisodeClosed,
    EpisodeOpened,
    FlappingEnded,
    FlappingStarted,
    MemberSaid,
    ParentsAsked,
    SeverityChanged,
    StepProposed,
    Transitioned,
)
from evaluators.levels import BAD
from evaluators.model import Severity, Stage, Verdict
from evaluators.policy import Policy
from evaluators.state import State

ASK_S: Final = 10.0
"""Longest wait for what parents say."""
ASKED_S: Final = 60.0
"""Parents that were asked so shortly before need not be asked again: they tell of changes by themselves."""
MAINTENANCE: Final = "maintenance:"
DEPENDENCY: Final = "dependency:"
ASKING: Final = "asking"
"""What stands in `suppressed_by`: the first two with the id of the window or parent behind them."""

_WORST: Final = (Stage.CRITICAL, Stage.WARNING, Stage.UNKNOWN, Stage.OK)
_SEVERITY: Final[dict[Stage, Severity]] = {Stage.CRITICAL: "critical", Stage.WARNING: "warning"}

Step = tuple[State, tuple[Effect, ...]]


def worst_of(state: State, *, with_signals: bool) -> Stage:
    """The stage that votes and signals make."""
    if not with_signals or not state.signals:
        return state.voted
    said = {state.voted, *(Stage(severity) for severity in state.signals.values())}
    return next(stage for stage in _WORST if stage in said)


def follow(policy: Policy, state: State, *, careful: bool = False, knows: bool = True) -> Step:
    """Follow the stage that votes and signals make now. Not `knows`: it is held, nobody knows whether it is still so."""
    state, effects = _turn(policy, state)
    if state.frozen and knows:
        state, again = _thaw(state, careful)
        effects += again
    is_bad = state.stage in _SEVERITY
    state = replace(
        state,
        careful=is_bad and (state.careful or careful),
        left=state.left and not is_bad,
        clear_after=state.clear_after if is_bad else 0.0,
    )
    state, asked = _suppress(policy, state)
    effects += asked
    if not state.group and not state.between:
        state, lived = _live(policy, state, careful or state.careful)
        effects += lived
    state, told = _settle(policy, state)
    effects += told
    return replace(state, wake_at=_wake_at(policy, state)), tuple(effects)


def _turn(policy: Policy, state: State) -> tuple[State, list[Effect]]:
    stage, was, at = worst_of(state, with_signals=policy.members is None), state.stage, state.at
    if stage is was:
        return state, []
    first = not state.born
    state = replace(state, stage=stage, since=at, born=True)
    if stage is not Stage.UNKNOWN:
        flap = policy.holds.flap
        if flap and state.known not in (None, stage):
            lately = (*state.changes, at)[-flap.changes :]
            state = replace(state, changes=tuple(change for change in lately if change > at - flap.within_s))
        state = replace(state, known=stage)
    return state, [Transitioned(at, was, stage, first)]


def _thaw(state: State, careful: bool) -> tuple[State, list[Effect]]:
    """After a pause: where it is still bad, the draft that the pause withdrew is owed again."""
    state = replace(state, frozen=False)
    if state.severity is None or state.stage not in _SEVERITY:
        return state, []
    return state, [StepProposed(state.at, "open", state.severity, careful)]


# ---- what suppresses opening


def _suppress(policy: Policy, state: State) -> tuple[State, list[Effect]]:
    if state.stage not in _SEVERITY or state.severity is not None:
        return (replace(state, suppressed_by=()) if state.suppressed_by else state), []
    state, asked = ask_parents(policy, state)
    at, found = state.at, list[str]()
    found += (f"{MAINTENANCE}{window.id}" for window in policy.windows if window.start <= at < window.end)
    found += (f"{DEPENDENCY}{parent}" for parent in policy.parents if _is_down(state, parent))
    if at < state.asks_until and not _have_answered(policy, state):
        found.append(ASKING)
    elif state.clear_after:
        if _is_bad_since(policy, state, state.clear_after):
            state = replace(state, clear_after=0.0)
        else:
            found.append(ASKING)
    suppressed_by = tuple(dict.fromkeys(found))
    return (
        state if suppressed_by == state.suppressed_by else replace(state, suppressed_by=suppressed_by)
    ), asked


def ask_parents(policy: Policy, state: State) -> tuple[State, list[Effect]]:
    """Something bad was seen: ask what it depends on to look as well, unless they were just asked."""
    if not policy.parents or state.severity is not None or state.at < state.asked_at + ASKED_S:
        return state, []
    until = state.at + ASK_S
    return replace(state, asked_at=state.at, asks_until=until), [ParentsAsked(state.at, policy.parents)]


def _is_down(state: State, parent: str) -> bool:
    known = state.parents.get(parent)
    return known is not None and known.stage is Stage.CRITICAL


def _have_answered(policy: Policy, state: State) -> bool:
    return all(
        (known := state.parents.get(parent)) is not None and known.answered_at >= state.asked_at
        for parent in policy.parents
    )


def _is_bad_since(policy: Policy, state: State, since: float) -> bool:
    """Whether votes that were renewed after that time are enough for a level to open."""
    bad: dict[str, Verdict] = {}
    for slug in policy.regions:
        region = state.regions.get(slug)
        if region and region.vote.at > since and region.vote.bad and region.vote.verdict in BAD:
            bad[slug] = region.vote.verdict
    critical = [slug for slug, verdict in bad.items() if verdict is Verdict.CRITICAL]
    need = policy.need
    return need.critical.is_opened_by(len(critical), critical) or need.warning.is_opened_by(len(bad), bad)


# ---- the episode of an owner


def _live(policy: Policy, state: State, careful: bool) -> tuple[State, list[Effect]]:
    effects = list[Effect]()
    severity = _SEVERITY.get(state.stage)
    if severity and state.severity is None and not state.suppressed_by:
        state, opened = _open(policy, state, severity, careful)
        effects += opened
    if state.severity is None:
        return state, effects
    flap = policy.holds.flap
    if flap and not state.flapping and len(_lately(policy, state)) >= flap.changes:
        state = replace(state, flapping=True)
        effects.append(FlappingStarted(state.at, state.episodes, len(state.changes)))
    if state.flapping:
        if flap and state.changes and state.at < state.changes[-1] + flap.quiet_s:
            return state, effects
        state = replace(state, flapping=False, changes=())
        effects.append(FlappingEnded(state.at, state.episodes, state.stage))
    state, changed = _change(policy, state, careful)
    return state, effects + changed


def _lately(policy: Policy, state: State) -> list[float]:
    flap = policy.holds.flap
    return [at for at in state.changes if flap and at > state.at - flap.within_s]


def _open(policy: Policy, state: State, severity: Severity, careful: bool) -> tuple[State, list[Effect]]:
    at = state.at
    is_again = 0 < state.recovered_at and at < state.recovered_at + policy.holds.reopen_s
    number = state.episodes if is_again else state.episodes + 1
    state = replace(state, severity=severity, episodes=number, recovered_at=0.0, frozen=False)
    step = (
        StepProposed(at, "update", severity, careful, "reopened")
        if is_again
        else StepProposed(at, "open", severity, careful)
    )
    return state, [EpisodeOpened(at, number, severity, is_again), step]


def _change(policy: Policy, state: State, careful: bool) -> tuple[State, list[Effect]]:
    """What an open episode says of the stage, once that has lasted."""
    at, was, holds = state.at, state.severity, policy.holds
    assert was is not None
    number, severity = state.episodes, _SEVERITY.get(state.stage)
    if severity == was:
        return state, []
    if at < state.since + hold_s(policy, state):
        return state, []
    if severity is not None:
        state = replace(state, severity=severity)
        step = StepProposed(at, "update", severity, careful)
        return state, [SeverityChanged(at, number, was, severity), step]
    if state.stage is Stage.UNKNOWN:
        if holds.inactivity_s == math.inf:
            return state, []
        return _closed(state), [EpisodeClosed(at, number, "inactive")]
    if state.left:
        return _closed(state), [EpisodeClosed(at, number, "left")]
    state = replace(_closed(state), recovered_at=at)
    return state, [EpisodeClosed(at, number, "recovered"), StepProposed(at, "resolve", was, careful)]


def _closed(state: State) -> State:
    return replace(state, severity=None, frozen=False, flapping=False, left=False, recovered_at=0.0)


def hold_s(policy: Policy, state: State) -> float:
    """How long the stage must last before the open episode follows it."""
    holds = policy.holds
    if state.stage is Stage.OK:
        return 0.0 if state.left else holds.resolve_s
    if state.stage is Stage.UNKNOWN:
        return holds.inactivity_s
    return holds.worse_s if state.stage is Stage.CRITICAL else holds.better_s


# ---- groups


def _settle(policy: Policy, state: State) -> tuple[State, list[Effect]]:
    """Join, leave or change the group when that may be, and tell it what is new."""
    effects, at = list[Effect](), state.at
    if state.group and state.group != policy.group:  # it stops voting at once
        effects.append(MemberSaid(at, state.group, state.stage, is_gone=True))
        state = replace(state, group="", told=None, between=state.stage is not Stage.OK and state.born)
    is_calm = state.severity is None and (state.stage is Stage.OK or not state.born)
    if is_calm and (state.between or state.group != policy.group):
        state = replace(state, between=False, group=policy.group, told=None)
    if state.group:
        told = (state.stage, bool(state.suppressed_by))
        if told != state.told:
            effects.append(MemberSaid(at, state.group, *told))
            state = replace(state, told=told)
    return state, effects


# ---- a minority


def dissent(policy: Policy, state: State, voters: tuple[str, ...]) -> tuple[State, list[Effect]]:
    """`voters` are worse than the stage. Past a limit that is an advisory; an outage ends it without a word."""
    if not voters or state.voted in _SEVERITY:
        is_over = state.advised and state.voted is Stage.OK
        state = replace(state, dissent=(), dissent_since=0.0, advised=False) if state.dissent_since else state
        return state, [AdvisoryCleared(state.at)] if is_over else []
    since = state.dissent_since or state.at
    state = replace(state, dissent=voters, dissent_since=since)
    if state.advised or state.at < since + policy.advisory_s:
        return state, []
    return replace(state, advised=True), [AdvisoryRaised(state.at, voters)]


# ---- time


def _wake_at(policy: Policy, state: State) -> float:
    """The next time at which `follow` may say something else, 0 if there is none."""
    at, found = state.at, list[float]()
    if state.suppressed_by:
        found += (window.end for window in policy.windows if window.start <= at < window.end)
        found.append(state.asks_until)
    if state.awaits:
        found.append(state.answer_by)
    if state.severity is not None and not state.group:
        flap = policy.holds.flap
        if state.flapping and flap and state.changes:
            found.append(state.changes[-1] + flap.quiet_s)
        elif _SEVERITY.get(state.stage) != state.severity:
            found.append(state.since + hold_s(policy, state))
    if state.dissent_since and not state.advised:
        found.append(state.dissent_since + policy.advisory_s)
    return min((time for time in found if at < time < math.inf), default=0.0)
