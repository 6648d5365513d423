"""From a stage to an episode: what suppresses it, how long things must last, flapping, who owns it. Not how a stage comes about.

`follow` is called with every new stage and at every `wake_at`. In this order:

1. The stage is the worst of what votes and signals say; `Transitioned` if it is another one.
2. Maintenance, parents that are down or have yet to answer, and members that are excused themselves suppress *opening*:
   nothing else, never an end.
3. A member of a group tells its group; everybody else owns an episode, from the first bad stage to the next ok.
4. An open episode that changes too often flaps: nothing more is said until it is quiet.
5. Another severity, and the end, are said once they have lasted as long as the policy wants.
6. Joining, leaving and changing the group take effect when it is ok and owns no episode.

A stage that is only *held* (nobody knows whether it is still so) opens, changes and ends nothing, and nobody is told it.
"""

import math
from collections.abc import Collection
from typing import Final

from msgspec.structs import replace

from evaluators.facts import (
    AdvisoryCleared,
    AdvisoryRaised,
    Cause,
    Effect,
    EpisodeClosed,
    EpisodeOpened,
    FlappingEnded,
    FlappingStarted,
    MemberSaid,
    ParentSaid,
    ParentsAsked,
    SeverityChanged,
    StepProposed,
    Transitioned,
)
from evaluators.levels import BAD
from evaluators.model import Severity, Stage, Verdict
from evaluators.modes import ALL, Modes, is_bolder, least
from evaluators.policy import Policy
from evaluators.state import Member, State
from rules.incident import Mode

ASK_S: Final = 10.0
"""Longest wait for what parents say."""
ASKED_S: Final = 60.0
"""Parents that were asked so shortly before need not be asked before opening: they tell of changes by themselves."""
MAINTENANCE: Final = "maintenance:"
DEPENDENCY: Final = "dependency:"
MEMBER: Final = "member:"
ASKING: Final = "asking"
"""What stands in `suppressed_by`: the first three with the id of the window, parent or member behind them."""

_SEVERITY: Final[dict[Stage, Severity]] = {Stage.CRITICAL: "critical", Stage.WARNING: "warning"}

Step = tuple[State, tuple[Effect, ...]]


def worst_of(state: State, *, with_signals: bool) -> Stage:
    """The stage that votes and signals make."""
    said = signalled(state) if with_signals else None
    return state.voted if said is None or state.voted is Stage.CRITICAL else said


def signalled(state: State) -> Stage | None:
    """The worst that signals say, of which there may be thousands."""
    if not state.signals:
        return None
    return Stage.CRITICAL if any(source.critical for source in state.sources.values()) else Stage.WARNING


def follow(
    policy: Policy,
    state: State,
    *,
    careful: bool = False,
    is_held: bool = False,
    own: Stage | None = None,
    rests: Modes = ALL,
) -> Step:
    """Follow the stage that votes and signals make now. `rests`: what those allow without which it would be less bad.

    `own`: of a group, what those members alone would make of it that are not excused; None where all count.
    """
    state, effects = _turn(policy, state, careful)
    if not is_held:
        state, known = _known(state, effects, careful, rests)
        effects += known
    is_bad = state.stage in _SEVERITY
    if state.left and is_bad:
        state = replace(state, left=False)
    state, asked = _suppress(policy, state, is_held, own)
    effects += asked
    if not state.group and not state.between and not is_held:
        state, lived = _live(policy, state, careful or state.careful, own, rests)
        effects += lived
    state, told = _settle(policy, state, is_held, rests)
    effects += told
    wake_at = _wake_at(policy, state)
    return state if wake_at == state.wake_at else replace(state, wake_at=wake_at), tuple(effects)


def _turn(policy: Policy, state: State, careful: bool) -> tuple[State, list[Effect]]:
    stage, was, at = worst_of(state, with_signals=policy.members is None), state.stage, state.at
    if stage is was:
        return state, []
    first = not state.born
    state = replace(state, stage=stage, since=at, born=True, careful=careful)
    if stage is not Stage.UNKNOWN:
        flap = policy.episodes.flapping
        if flap and state.known not in (None, stage):
            lately = (*state.changes, at)[-flap.changes :]
            state = replace(state, changes=tuple(change for change in lately if change > at - flap.within))
        state = replace(state, known=stage)
    return state, [Transitioned(at, was, stage, first)]


def _known(state: State, turned: list[Effect], careful: bool, rests: Modes) -> tuple[State, list[Effect]]:
    """After a pause: others hear again what it is, and where it is still bad the draft that was withdrawn is owed again."""
    effects: list[Effect] = []
    if state.silenced:
        state = replace(state, silenced=False)
        if not turned:  # a transition is told by itself
            effects.append(ParentSaid(state.at, state.stage))
    if state.frozen and state.stage is not Stage.UNKNOWN:
        state = replace(state, frozen=False)
        if state.severity is not None and state.stage in _SEVERITY:
            most = _most(rests.open, careful or state.careful)
            effects.append(StepProposed(state.at, "open", state.severity, most))
    return state, effects


# ---- what suppresses opening


def _suppress(policy: Policy, state: State, is_held: bool, own: Stage | None) -> tuple[State, list[Effect]]:
    if state.stage not in _SEVERITY or state.severity is not None:
        return (replace(state, suppressed_by=()) if state.suppressed_by else state), []
    found, asked = _excuses(policy, state), list[Effect]()
    if not found and own is not None and own not in _SEVERITY:
        found += (f"{MEMBER}{name}" for name, said in state.members.items() if is_excused(said))
    if state.clear_after and _is_bad_since(policy, state, state.clear_after):
        state = replace(state, clear_after=0.0)
    if state.clear_after:
        found.append(ASKING)
    elif not found and not is_held and (policy.members is None or state.signals):  # members have asked
        state, asked = ask_parents(policy, state, ASKED_S)
        if state.at < state.asks_until and not _have_answered(policy, state):
            found.append(ASKING)
    suppressed_by = tuple(dict.fromkeys(found))
    same = suppressed_by == state.suppressed_by
    return (state if same else replace(state, suppressed_by=suppressed_by)), asked


def _excuses(policy: Policy, state: State) -> list[str]:
    """Why nothing is said of what is bad now: maintenance, and parents that are down."""
    at = state.at
    found = [f"{MAINTENANCE}{window.id}" for window in policy.windows if window.start <= at < window.end]
    found += (f"{DEPENDENCY}{parent}" for parent in policy.parents if _is_down(state, parent))
    return found


def is_excused(said: Member) -> bool:
    """Whether a member's badness is suppressed, so that it opens nothing."""
    return said.counts and said.is_suppressed and said.stage in _SEVERITY


def ask_parents(policy: Policy, state: State, apart_s: float) -> tuple[State, list[Effect]]:
    """Something bad was seen: ask what it depends on to look as well, unless it was asked within `apart_s`.

    What is out already asks no more: neither an open episode nor a member that its group counts as bad becomes unsaid.
    """
    is_out = state.severity is not None or (state.told and state.told[0] in _SEVERITY and not state.told[1])
    if not policy.parents or is_out or state.at < state.asked_at + apart_s:
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
    """Whether votes that were renewed after that time are enough for a level to open. Signals are always fresh."""
    if state.signals:
        return True
    bad: dict[str, Verdict] = {}
    for slug in policy.regions:
        region = state.regions.get(slug)
        if region and region.vote.at > since and region.vote.bad and region.vote.verdict in BAD:
            bad[slug] = region.vote.verdict
    critical = [slug for slug, verdict in bad.items() if verdict is Verdict.CRITICAL]
    need = policy.need
    return need.critical.is_opened_by(len(critical), critical) or need.warning.is_opened_by(len(bad), bad)


# ---- the episode of an owner


def _live(
    policy: Policy, state: State, careful: bool, own: Stage | None, rests: Modes
) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    severity = _SEVERITY.get(state.stage)
    if severity == "critical" != state.severity and own not in (None, Stage.CRITICAL):
        severity = "warning"  # only members that are excused make it critical
    if severity and state.severity is None and not state.suppressed_by:
        state, opened = _open(policy, state, severity, careful, rests)
        effects += opened
    if state.severity is None:
        return state, effects
    if severity:
        state, firmer = _rest(state, careful, rests)
        effects += firmer
    flap = policy.episodes.flapping
    if flap and not state.flapping:
        lately = sum(at > state.at - flap.within for at in state.changes)
        if lately >= flap.changes:
            state = replace(state, flapping=True)
            effects.append(FlappingStarted(state.at, state.episodes, lately))
    if state.flapping:
        if flap and state.changes and state.at < state.changes[-1] + flap.quiet:
            return state, effects
        state = replace(state, flapping=False, changes=())
        effects.append(FlappingEnded(state.at, state.episodes, state.stage))
    state, changed = _change(policy, state, severity, careful, rests)
    return state, effects + changed


def _most(mode: Mode, careful: bool) -> Mode:
    return least(mode, "draft") if careful else mode


def _rest(state: State, careful: bool, rests: Modes) -> tuple[State, list[Effect]]:
    """The end of an episode rests on all that ever held it up alone; its opening on the firmest there was."""
    resolve = least(state.resolve_rests, rests.resolve)
    if resolve != state.resolve_rests:
        state = replace(state, resolve_rests=resolve)
    if not is_bolder(rests.open, state.open_rests):
        return state, []
    assert state.severity is not None
    steps: list[Effect] = [StepProposed(state.at, "open", state.severity, _most(rests.open, careful))]
    if state.reopened:
        most = _most(rests.update, careful)
        steps.append(StepProposed(state.at, "update", state.severity, most, "reopened"))
    return replace(state, open_rests=rests.open), steps


def _open(
    policy: Policy, state: State, severity: Severity, careful: bool, rests: Modes
) -> tuple[State, list[Effect]]:
    at = state.at
    is_again = 0 < state.recovered_at <= at < state.recovered_at + policy.episodes.reopen_window
    number = state.episodes if is_again else state.episodes + 1
    state = replace(
        state,
        severity=severity,
        episodes=number,
        recovered_at=0.0,
        frozen=False,
        open_rests=rests.open,
        resolve_rests=rests.resolve,
        reopened=is_again,
    )
    step = (
        StepProposed(at, "update", severity, _most(rests.update, careful), "reopened")
        if is_again
        else StepProposed(at, "open", severity, _most(rests.open, careful))
    )
    return state, [EpisodeOpened(at, number, severity, is_again), step]


def _change(
    policy: Policy, state: State, severity: Severity | None, careful: bool, rests: Modes
) -> tuple[State, list[Effect]]:
    """What an open episode says of the stage, once that has lasted."""
    at, was, number = state.at, state.severity, state.episodes
    assert was is not None
    if severity == was:
        return state, []
    if at < follows_at(policy, state):
        return state, []
    if severity is not None:
        state = replace(state, severity=severity)
        step = StepProposed(at, "update", severity, _most(rests.update, careful))
        return state, [SeverityChanged(at, number, was, severity), step]
    if state.stage is Stage.UNKNOWN:
        return end(state, "inactive")
    if state.left:
        return end(state, "left")
    most = _most(state.resolve_rests, careful)
    state, closed = end(state, "recovered")
    return replace(state, recovered_at=at), [*closed, StepProposed(at, "resolve", was, most)]


def end(state: State, cause: Cause) -> tuple[State, list[Effect]]:
    """End the episode, if one is open."""
    is_open = state.severity is not None
    state = replace(state, severity=None, frozen=False, flapping=False, left=False, recovered_at=0.0)
    return state, [EpisodeClosed(state.at, state.episodes, cause)] if is_open else []


def follows_at(policy: Policy, state: State) -> float:
    """When the open episode follows the stage, if that lasts. While nobody looked nothing is known to have lasted."""
    return max(state.since, state.returned_at) + hold_s(policy, state)


def hold_s(policy: Policy, state: State) -> float:
    """How long the stage must last before the open episode follows it."""
    holds = policy.episodes
    if state.stage is Stage.OK:
        return 0.0 if state.left else holds.resolve_delay
    if state.stage is Stage.UNKNOWN:
        return holds.inactivity or math.inf
    return holds.worse_after if state.stage is Stage.CRITICAL else holds.better_after


# ---- groups


def leave(policy: Policy, state: State) -> tuple[State, list[Effect]]:
    """Leave the group that it is no member of any more: it stops voting at once, whatever it is."""
    if not state.group or state.group == policy.group:
        return state, []
    gone = MemberSaid(state.at, state.group, state.stage, is_gone=True)
    return replace(state, group="", told=None, between=not _is_calm(state)), [gone]


def _is_calm(state: State) -> bool:
    """Whether no outage is on that belongs to whoever owned it so far."""
    is_well = state.stage is Stage.OK or (state.stage is Stage.UNKNOWN and state.known in (None, Stage.OK))
    return state.severity is None and is_well


def _settle(policy: Policy, state: State, is_held: bool, rests: Modes) -> tuple[State, list[Effect]]:
    """Join, leave or change the group when that may be, and tell it what is new."""
    state, effects = leave(policy, state)
    at = state.at
    if (state.between or state.group != policy.group) and _is_calm(state):
        state = replace(state, between=False, group=policy.group, told=None)
    if state.group and not is_held:
        told = (state.stage, bool(state.suppressed_by), rests if state.stage in _SEVERITY else ALL)
        if told != state.told:
            modes = told[2] if told[2] != ALL else None
            effects.append(MemberSaid(at, state.group, told[0], told[1], modes=modes))
            state = replace(state, told=told)
    return state, effects


# ---- a minority


def dissent(
    policy: Policy, state: State, voters: tuple[str, ...], well: Collection[str]
) -> tuple[State, list[Effect]]:
    """`voters` are worse than the stage. Past a limit that is an advisory; an outage ends it without a word."""
    if not voters or state.voted in _SEVERITY:
        is_over = state.advised and state.voted is Stage.OK
        silent = tuple(voter for voter in state.dissent if voter not in well)
        state = replace(state, dissent=(), dissent_since=0.0, advised=False) if state.dissent_since else state
        return state, [AdvisoryCleared(state.at, silent)] if is_over else []
    since = state.dissent_since or state.at
    state = replace(state, dissent=voters, dissent_since=since)
    if state.advised or state.at < since + policy.advisory_s or _excuses(policy, state):
        return state, []
    return replace(state, advised=True), [AdvisoryRaised(state.at, voters)]


# ---- time


def _wake_at(policy: Policy, state: State) -> float:
    """The next time at which `follow` may say something else, 0 if there is none."""
    at, found = state.at, list[float]()
    is_dissent = state.dissent_since > 0 and not state.advised
    is_unsaid = state.stage in _SEVERITY and state.severity is None
    if is_unsaid or is_dissent:  # a group hears at once that what a member says is suppressed
        found += (edge for window in policy.windows for edge in (window.start, window.end))
        found.append(state.asks_until)
    if state.awaits:
        found.append(state.answer_by)
    if state.severity is not None and not state.group:
        flap = policy.episodes.flapping
        if state.flapping and flap and state.changes:
            found.append(state.changes[-1] + flap.quiet)
        elif _SEVERITY.get(state.stage) != state.severity:
            found.append(follows_at(policy, state))
    if is_dissent:
        found.append(state.dissent_since + policy.advisory_s)
    return min((time for time in found if at < time < math.inf), default=0.0)
