"""From results to a beat's stage, and from members to a group's: votes, quorum and confirmation rounds, as one pure fold.

`decide(policy, state, fact)` is total: every fact has an answer, nothing raises, nothing waits. Time is a field of the
fact. Before a fact at t is folded, the caller folds `Tick(d)` for every `next_deadline` d <= t, live and in replay.

How a stage comes about (docs/explanation/deciding.md tells it with pictures):

1. A result changes its region's vote only after `consecutive` results in a row (`evaluators.vote`).
2. A region's first bad scheduled result asks every region to look again, now and after `spacing`: a *round*. While it
   is out nothing may open; it is judged when all answers are in, or after `wait`.
3. Fresh votes are counted (`evaluators.levels`). A level (critical, warning) opens at `open` votes at least that bad and
   ends at `close` better ones; between the two it holds. What is over opens nothing: a vote of a region that has seen
   nothing bad since the stage became ok counts for no level that is not open, and one of those that count is bad now.
   Fewer than `min_voters` fresh votes are `unknown`, which is neither good news nor bad: it opens no episode and ends none.
4. A group counts the stages of its members in the same way.
5. The stage is the worst of what the votes say and of the signals that others have opened.
6. What becomes of a stage is `evaluators.episode`'s.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from evaluators import episode
from evaluators import vote as votes
from evaluators.facts import (
    Answered,
    Asked,
    ConfirmWanted,
    Effect,
    EpisodeClosed,
    EpisodeFrozen,
    Fact,
    MemberChanged,
    MemberSaid,
    NeverAnswered,
    ParentChanged,
    ParentSaid,
    ParentsAsked,
    PolicyChanged,
    RelationsChanged,
    ResultSeen,
    Returned,
    SignalChanged,
    StepProposed,
    Suspended,
    Tick,
)
from evaluators.levels import BAD, Need, compile_need
from evaluators.model import Kind, Result, Stage, Verdict
from evaluators.modes import ALL, Modes, carried_by, least
from evaluators.policy import Policy
from evaluators.state import Member, Parent, Round, Source, State

MOST_SIGNALS: Final = 10_000
"""Open signals of one beat; more change nothing, as the beat is bad already."""
SIGNALS: Final = "signals"
"""The member of a group that signals of its own make: always fresh, ok unless one is open."""
LATE_S: Final = 30.0
"""A member that is bad so soon after the others is part of the same outage, which regions see one after another: no update."""
ANSWER_S: Final = 8.0
"""A group that was asked answers after so long at the latest, whichever of its members have."""

_OF: Final = "\x1f"
_VERDICT: Final = {Stage.OK: Verdict.OK, Stage.WARNING: Verdict.WARNING, Stage.CRITICAL: Verdict.CRITICAL}
Step = tuple[State, tuple[Effect, ...]]


def signal_key(source: str, fingerprint: str) -> str:
    """Names a signal among those of its beat; `source` is `report` or the id of a trigger."""
    return f"{source}{_OF}{fingerprint}"


def newborn(policy: Policy, at: float) -> State:
    """The state of what was declared just now: by the end of `held_until` somebody has to have looked."""
    return State(since=at, at=at, assigned=policy.regions, held_until=at + policy.hold_s)


def decide(policy: Policy, state: State, fact: Fact) -> Step:
    """Fold one fact into `state`. Total: every input has an answer, nothing raises."""
    if isinstance(fact, ResultSeen):
        return _seen(policy, state, fact)
    if isinstance(fact, Returned):
        return judge(policy, _returned(policy, state, fact.at))
    state = replace(state, at=max(state.at, fact.at))
    if isinstance(fact, Tick):
        return judge(policy, state)
    if isinstance(fact, RelationsChanged):
        state, asked = _introduced(policy, state)
        state, effects = judge(policy, state)
        return state, (*asked, *effects)
    if isinstance(fact, PolicyChanged):
        return _changed(policy, state, fact)
    if isinstance(fact, SignalChanged):
        return _signalled(policy, state, fact)
    if isinstance(fact, MemberChanged):
        return _member(policy, state, fact)
    if isinstance(fact, ParentChanged):
        return _parent(policy, state, fact)
    if isinstance(fact, Asked):
        return _asked(policy, state, fact)
    if isinstance(fact, Suspended):
        return _suspended(state, fact)
    return judge(policy, _anew(policy, replace(state, suspended=False, returned_at=state.at)))


def next_deadline(policy: Policy, state: State) -> float | None:
    """When time alone may change something next (seconds since the epoch), or None."""
    if state.suspended:
        return None
    at, max_age_s, soonest = state.at, policy.max_age_s, state.wake_at or math.inf
    for region in state.regions.values():  # written out: this runs for every result
        if region.vote.verdict is not None and at < (until := region.vote.at + max_age_s) < soonest:
            soonest = until
    if state.round is not None and state.round.until < soonest:
        soonest = state.round.until
    if at < state.held_until < soonest:
        soonest = state.held_until
    return None if soonest == math.inf else soonest


def fresh_votes(policy: Policy, state: State, at: float) -> dict[str, Verdict]:
    """Who votes at `at`, and what: regions whose vote counts and is fresh, or members that know what they are."""
    if policy.members is not None:
        return _members(state)
    fresh: dict[str, Verdict] = {}
    for slug in policy.regions:
        region = state.regions.get(slug)
        if region is None or region.vote.verdict is None:
            continue
        if at < region.vote.at + policy.max_age_s:
            fresh[slug] = region.vote.verdict
    return fresh


def need_of(policy: Policy, state: State) -> Need:
    """How many votes are needed: of a group's members, as many as count now."""
    if policy.members is None:
        return policy.need
    voters = [member for member, said in state.members.items() if said.counts]
    return compile_need(policy.members, [*voters, SIGNALS] if state.heard else voters)


def _members(state: State) -> dict[str, Verdict]:
    found = {
        member: _VERDICT[said.stage]
        for member, said in state.members.items()
        if said.counts and said.stage is not Stage.UNKNOWN
    }
    if state.heard:
        found[SIGNALS] = _VERDICT[episode.signalled(state) or Stage.OK]
    return found


def _seen(policy: Policy, state: State, fact: ResultSeen) -> Step:
    result = fact.result
    at = max(state.at, fact.at)
    if state.suspended or (result.region not in policy.regions and result.region not in policy.sick):
        return replace(state, at=at), ()
    before = state.regions.get(result.region, votes.Region())
    after = votes.see(policy, before, result, fact.boot, fact.measured_at, state.returned_at)
    regions = state.regions if after is before else {**state.regions, result.region: after}
    says_the_same = after.vote.verdict is before.vote.verdict and (
        before.vote.verdict is None or at < before.vote.at + policy.max_age_s
    )
    state = replace(state, at=at, regions=regions, round=_answered(state.round, result))
    if state.late is not None:
        state = _late_answer(state, state.late, result)
    if result.region in policy.sick:
        return state, ()
    asked: tuple[Effect, ...] = ()
    if result.kind is Kind.SCHEDULED and _begins_bad(after, fact):
        state, asked = _first_bad(policy, state, result.run_id)
    if says_the_same and result.kind is Kind.SCHEDULED and _is_settled(state, result):
        # Time is folded before every fact, so that the votes are those that were judged last: nearly every result.
        return state, asked
    if policy.members is None and policy.confirm is None and state.awaits:
        state = replace(state, awaits=())
    state, effects = judge(policy, state)
    return state, (*asked, *effects)


def _is_settled(state: State, result: Result) -> bool:
    """Whether a result that changes no vote changes nothing: nobody waits for it, and it makes no vote count."""
    if state.round is not None or state.askers:
        return False
    return (state.warning or result.verdict is Verdict.OK) and not (state.clear_after and state.suppressed_by)


def _answered(out: Round | None, result: Result) -> Round | None:
    if out is None or result.kind is not Kind.CONFIRM or result.request != out.request:
        return out
    answer = (result.region, result.n)
    return out if answer in out.answers else replace(out, answers=(*out.answers, answer))


def _late_answer(state: State, late: Round, result: Result) -> State:
    """An answer to the round that was judged without it; after the last one another round may begin."""
    after = _answered(late, result)
    assert after is not None
    if len(after.answers) < after.wanted:
        return state if after is late else replace(state, late=after)
    return replace(state, late=None, next_round_at=late.until)


def _first_bad(policy: Policy, state: State, run_id: str) -> Step:
    """A region's first bad scheduled result asks all regions, and the parents."""
    asked: list[Effect] = []
    if not state.critical and state.stage not in (Stage.WARNING, Stage.CRITICAL):
        state, asked = episode.ask_parents(policy, state, episode.ASK_S)
    # The run that caused the round names it, so that folding the same facts again asks under the same name.
    state, round_ = _begin_round(policy, state, run_id)
    return state, (*asked, *round_)


def _begin_round(policy: Policy, state: State, request: str, *, anew: bool = False) -> Step:
    """Ask every region to look again, unless a round is out, was just judged, or it is as bad as can be (not `anew`)."""
    if policy.confirm is None or state.round or state.at < state.next_round_at:
        return state, ()
    if state.critical and not anew:
        return state, ()
    until = state.at + policy.confirm.wait_s
    out = Round(request, until, len(policy.regions) * policy.confirm.runs)
    order = ConfirmWanted(request, policy.regions, policy.confirm.runs, policy.confirm.spacing_s)
    return replace(state, round=out, late=None, next_round_at=until), (order,)


def _begins_bad(region: votes.Region, fact: ResultSeen) -> bool:
    """Whether the scheduled result just seen is its region's newest, and no scheduled one of its bad streak came before.

    Bad confirm runs before it do not count: a round that ended just before an outage would else hide its beginning.
    """
    streak = region.recent[-region.vote.bad :] if region.vote.bad else ()
    if not streak or (streak[-1].boot, streak[-1].seq) != (fact.boot, fact.result.seq):
        return False
    return len(streak) == region.vote.bad and all(seen.kind is Kind.CONFIRM for seen in streak[:-1])


def judge(policy: Policy, state: State, *, careful: bool = False) -> Step:
    """Count the fresh votes and follow what they say."""
    if state.suspended:
        state, left = episode.leave(policy, state)
        return state, tuple(left)
    if state.round and (state.at >= state.round.until or len(state.round.answers) >= state.round.wanted):
        state = _judged_round(policy, state, state.round)
    state, effects = _judge(policy, state, careful)
    if state.askers and state.round is None and (not state.awaits or state.at >= state.answer_by):
        request = f"{state.askers[0]}:{state.answer_by:.6f}"
        state, again = _begin_round(policy, state, request) if state.awaits else (state, ())
        if again:  # it may look now
            return replace(state, awaits=()), (*effects, *again)
        effects += (Answered(state.at, state.askers, state.stage),)
        state = replace(state, askers=(), awaits=())
    return state, effects


def _judged_round(policy: Policy, state: State, out: Round) -> State:
    """It delays nothing any more. While answers are missing, at most as long as a run may take, no other one begins."""
    state = replace(state, round=None)
    if policy.confirm is None or len(out.answers) >= out.wanted:
        return state
    last_at = out.until - policy.confirm.wait_s + policy.confirm.last_s
    return replace(state, late=out, next_round_at=max(state.next_round_at, last_at))


def _judge(policy: Policy, state: State, careful: bool) -> Step:
    need, fresh = need_of(policy, state), fresh_votes(policy, state, state.at)
    if need.is_met_by(fresh) and (fresh or policy.members is None):
        state, own, advised = _count(policy, state, need, fresh)
        rests = _rests(policy, state, need, fresh)
        state, effects = episode.follow(policy, state, careful=careful, own=own, rests=rests)
        return state, (*advised, *effects)
    if policy.members is not None and not fresh and not _has_voters(state):
        return _emptied(policy, state, careful)
    held = need.holds or state.at < state.held_until
    if not held and not state.born and state.held_until and policy.members is None:
        # Nobody ever answered for it: silence is said once, also when there was nothing before it. Members say theirs.
        state, effects = episode.follow(policy, replace(state, born=True), careful=careful)
        return state, (NeverAnswered(state.at), *effects)
    state = state if held else replace(state, voted=Stage.UNKNOWN)
    # What is held of votes is not known, what signals say is.
    is_held = held and episode.worst_of(state, with_signals=True) is not episode.signalled(state)
    rests = _rests(policy, state, need, fresh)
    return episode.follow(policy, state, careful=careful, is_held=is_held, rests=rests)


def _rests(policy: Policy, state: State, need: Need, fresh: Mapping[str, Verdict]) -> Modes:
    """What those signals and members allow without which it would be less bad than it is."""
    is_group = policy.members is not None
    careful = any(source.modes != ALL for source in state.sources.values())
    if not careful and not (is_group and any(said.modes for said in state.members.values())):
        return ALL  # nearly always
    stage = episode.worst_of(state, with_signals=not is_group)
    if not is_group:
        if state.voted is stage:
            return ALL
        return _of_signals(state, stage)
    bad = [voter for voter, verdict in fresh.items() if verdict in BAD]
    critical = {voter for voter in bad if fresh[voter] is Verdict.CRITICAL}

    def suffice(some: list[str]) -> bool:
        opens = _opened(need, some, [voter for voter in some if voter in critical])
        return opens is Stage.CRITICAL or (opens is Stage.WARNING is stage)

    def modes(voter: str) -> Modes:
        if voter == SIGNALS:
            return _of_signals(state, Stage(fresh[voter]))
        return state.members[voter].modes or ALL

    return carried_by(((voter, modes(voter)) for voter in bad), suffice)


def _of_signals(state: State, stage: Stage) -> Modes:
    """Of the signals that are as bad as that: any of them would do."""
    carrying = [
        (name, source.modes)
        for name, source in state.sources.items()
        if source.critical or stage is Stage.WARNING
    ]
    return carried_by(carrying, bool)


def _count(
    policy: Policy, state: State, need: Need, fresh: dict[str, Verdict]
) -> tuple[State, Stage | None, tuple[Effect, ...]]:
    """The state with what the votes make of it, and of a group what its members make of it that are not excused."""
    bad = [voter for voter, verdict in fresh.items() if verdict in BAD]
    critical = [voter for voter in bad if fresh[voter] is Verdict.CRITICAL]
    opens = Stage.OK
    if bad:
        mine, worst = not_over(policy, state, bad, critical)
        if state.warning or policy.is_pushed or any(_is_bad_now(state.regions[slug]) for slug in mine):
            opens = _opened(need, mine, worst)
    if opens is not Stage.OK and state.round is not None:
        if state.voted is Stage.UNKNOWN:
            return state, None, ()  # not bad yet, and certainly not ok
        opens = Stage.OK
    if state.critical:
        better = fresh.keys() - critical
        is_critical = not need.critical.is_ended_by(len(better), better)
    else:
        is_critical = opens is Stage.CRITICAL
    if state.warning:
        good = fresh.keys() - bad
        is_warning = not need.warning.is_ended_by(len(good), good)
    else:
        is_warning = opens is not Stage.OK
    is_warning = is_warning or is_critical
    voted = Stage.CRITICAL if is_critical else Stage.WARNING if is_warning else Stage.OK
    ok_at, still_bad = state.ok_at, state.still_bad
    if voted is Stage.OK is not state.voted and policy.members is None:
        good = fresh.keys() & state.regions.keys() - bad
        ok_at = max((state.regions[slug].vote.at for slug in good), default=ok_at)
        still_bad = tuple(bad)
    elif still_bad:
        still_bad = tuple(slug for slug in still_bad if slug in bad)
    state = replace(
        state,
        critical=is_critical,
        warning=is_warning,
        voted=voted,
        held_until=0.0,
        ok_at=ok_at,
        still_bad=still_bad,
    )
    own, told = None, bad
    if excused := {name for name, said in state.members.items() if episode.is_excused(said)}:
        told = [voter for voter in bad if voter not in excused]
        own = _opened(need, told, [voter for voter in critical if voter in told])
    if not told and not state.dissent_since:
        return state, own, ()
    state, advised = episode.dissent(policy, state, tuple(told), fresh.keys() - bad)
    return state, own, tuple(advised)


def _opened(need: Need, bad: Sequence[str], critical: Sequence[str]) -> Stage:
    """The stage that these votes open."""
    if need.critical.is_opened_by(len(critical), critical):
        return Stage.CRITICAL
    return Stage.WARNING if need.warning.is_opened_by(len(bad), bad) else Stage.OK


def not_over(
    policy: Policy, state: State, bad: Sequence[str], critical: Sequence[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """Of these votes those that may open a level: while none is open, of regions that are bad since, or all along."""
    if state.warning or policy.is_pushed:
        return bad, critical
    since = {
        slug
        for slug in bad
        if slug in state.still_bad
        or any(one.at > state.ok_at and one.verdict in BAD for one in state.regions[slug].recent)
    }
    return [slug for slug in bad if slug in since], [slug for slug in critical if slug in since]


def _is_bad_now(region: votes.Region) -> bool:
    """Whether its newest scheduled result is bad, or one after that. In order this holds of the one that makes a level open."""
    for seen in reversed(region.recent):
        if seen.verdict in BAD or seen.kind is not Kind.CONFIRM:
            return seen.verdict in BAD
    return False


def _signalled(policy: Policy, state: State, fact: SignalChanged) -> Step:
    signals, sources = state.signals.copy(), state.sources.copy()
    source = fact.signal.partition(_OF)[0]
    was, said = signals.pop(fact.signal, None), sources.pop(source, Source())
    severity = fact.severity if len(signals) < MOST_SIGNALS else None
    if severity is not None:
        signals[fact.signal] = severity
    said = Source(
        said.critical + (severity == "critical") - (was == "critical"),
        said.warning + (severity == "warning") - (was == "warning"),
        fact.modes or ALL if severity is not None else said.modes,
    )
    if said.critical or said.warning:
        sources[source] = said
    takes = fact.careful and fact.severity is None and fact.signal in state.signals
    state = replace(state, signals=signals, sources=sources, heard=True, left=state.left or takes)
    return judge(policy, state, careful=fact.careful)


# ---- groups


def _member(policy: Policy, state: State, fact: MemberChanged) -> Step:
    """What a member says. One that leaves or is paused takes its badness with it: that is no recovery."""
    before = state.members.get(fact.member)
    members = {name: said for name, said in state.members.items() if name != fact.member}
    if not fact.is_gone:
        since = before.since if before and before.stage is fact.stage else fact.at
        is_told = _VERDICT.get(fact.stage) in BAD and (not fact.is_suppressed or _was_told(before))
        members[fact.member] = Member(fact.stage, since, fact.is_suppressed, fact.counts, is_told, fact.modes)
    is_leaving = before is not None and before.counts and (fact.is_gone or not fact.counts)
    takes = is_leaving and before is not None and _VERDICT.get(before.stage) in BAD
    had = state.severity
    is_late = had is not None and policy.tells_late and not _was_told(before)
    state = replace(state, members=members, left=state.left or takes)
    state, effects = judge(policy, state, careful=is_leaving)
    is_quiet = state.suspended or state.flapping or state.severity != had or state.at < state.since + LATE_S
    if is_late and had is not None and not is_quiet and _is_bad(members.get(fact.member)):
        most = least((fact.modes or ALL).update, "draft" if state.careful else "auto")
        effects += (StepProposed(state.at, "update", had, most, "member"),)
    return state, effects


def _is_bad(said: Member | None) -> bool:
    """Whether a member counts as bad, and is not excused."""
    return said is not None and said.counts and not said.is_suppressed and _VERDICT.get(said.stage) in BAD


def _was_told(said: Member | None) -> bool:
    return said is not None and said.counts and said.was_told


def _has_voters(state: State) -> bool:
    return state.heard or any(said.counts for said in state.members.values())


def _emptied(policy: Policy, state: State, careful: bool) -> Step:
    """A group that nobody votes in any more: its episode ends as such."""
    state, ended = episode.end(state, "left")
    state = replace(state, voted=Stage.UNKNOWN, critical=False, warning=False)
    state, effects = episode.follow(policy, state, careful=careful)
    return state, (*ended, *effects)


# ---- dependencies


def _parent(policy: Policy, state: State, fact: ParentChanged) -> Step:
    """What something it depends on says, or a member that it asked on behalf of others.

    Where a parent came back, only what is seen from now on is bad of itself.
    """
    if fact.is_answer:
        state = replace(state, awaits=tuple(name for name in state.awaits if name != fact.parent))
    asked: tuple[Effect, ...] = ()
    if fact.parent in policy.parents:
        before = state.parents.get(fact.parent, Parent(Stage.UNKNOWN))
        answered_at = fact.at if fact.is_answer else before.answered_at
        parents = {**state.parents, fact.parent: Parent(fact.stage, answered_at)}
        came_back = before.stage is Stage.CRITICAL and fact.stage is not Stage.CRITICAL
        state = replace(state, parents=parents)
        if came_back and not policy.is_pushed:
            state = replace(state, clear_after=state.at)
            if state.suppressed_by and not state.suspended:
                state, asked = _begin_round(policy, state, f"{fact.parent}:{fact.at:.6f}", anew=True)
    state, effects = judge(policy, state)
    return state, (*asked, *effects)


def _asked(policy: Policy, state: State, fact: Asked) -> Step:
    """A child wants to know: look, where that says something new, and answer; a group lets its members look.

    A beat that begins no rounds answers when it has looked next; one that may begin none yet, so shortly after the last,
    looks as soon as it may.
    """
    if not fact.looks or state.suspended:
        stage = Stage.UNKNOWN if state.suspended else state.stage
        return state, (Answered(state.at, (fact.child,), stage, looked=fact.looks),)
    state = replace(state, askers=tuple(dict.fromkeys((*state.askers, fact.child))))
    asked: tuple[Effect, ...] = ()
    if policy.members is None:
        state, asked = _begin_round(policy, state, f"{fact.child}:{fact.at:.6f}")
        if state.round is None and not policy.is_pushed and not state.critical:
            by = state.at + ANSWER_S
            by = min(by, state.next_round_at) if policy.confirm else by
            state = replace(state, awaits=policy.regions, answer_by=by)
    elif not state.awaits and (members := tuple(name for name, m in state.members.items() if m.counts)):
        state = replace(state, awaits=members, answer_by=state.at + ANSWER_S)
        asked = (ParentsAsked(state.at, members),)
    state, effects = judge(policy, state)
    return state, (*asked, *effects)


def _introduced(policy: Policy, state: State) -> Step:
    """Parents it has not heard of are asked what they are, those it no longer depends on are forgotten."""
    parents = {name: parent for name, parent in state.parents.items() if name in policy.parents}
    unknown = tuple(name for name in policy.parents if name not in parents)
    state = replace(state, parents=parents)
    return state, (ParentsAsked(state.at, unknown, looks=False),) if unknown else ()


# ---- changes of policy, pauses, absences


def _changed(policy: Policy, state: State, fact: PolicyChanged) -> Step:
    # Who is asked more often now has said nothing sooner.
    held_until = min(state.held_until, state.at + policy.hold_s)
    state = replace(state, assigned=policy.regions, held_until=held_until)
    state, asked = _introduced(policy, state)
    if fact.measures_anew:
        state, effects = judge(policy, _anew(policy, state), careful=True)  # held, unless nobody is asked
        return state, (*asked, *effects)
    kept = {
        slug: votes.refold(policy, region, state.returned_at)
        for slug, region in state.regions.items()
        if slug in policy.regions or slug in policy.sick
    }
    # A round that is out is given up: what the new policy opens is opened here and now, as a draft.
    state, effects = judge(policy, replace(state, regions=kept, round=None), careful=True)
    return state, (*asked, *effects)


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
        since=min(state.since, at),
        returned_at=at,
        ok_at=min(state.ok_at, at),
        recovered_at=min(state.recovered_at, at),
        changes=tuple(min(change, at) for change in state.changes),
        dissent_since=min(state.dissent_since, at),
        asked_at=min(state.asked_at, at),
        asks_until=min(state.asks_until, at + episode.ASK_S),
        clear_after=min(state.clear_after, at),
        answer_by=min(state.answer_by, at + ANSWER_S),
        regions=kept,
        round=state.round if state.round and state.round.until <= at + wait_s else None,
        next_round_at=min(state.next_round_at, at + wait_s),
        # Votes from before an absence, and what was measured during it, say nothing of now; nor is it silence yet.
        held_until=at + policy.hold_s,
    )


def _anew(policy: Policy, state: State) -> State:
    """Forget all votes and hold the stage until enough regions have answered again."""
    return replace(state, regions={}, round=None, held_until=state.at + policy.hold_s)


def _suspended(state: State, fact: Suspended) -> Step:
    at, number, severity = state.at, state.episodes, state.severity
    told: list[Effect] = [] if state.suspended else [ParentSaid(at, Stage.UNKNOWN)]
    if state.group:
        told.append(MemberSaid(at, state.group, state.stage, counts=False, is_gone=fact.removed))
    if state.askers:
        told.append(Answered(at, state.askers, Stage.UNKNOWN))
    state = replace(state, askers=(), awaits=(), told=None, suppressed_by=(), silenced=True)
    if fact.removed:
        # Should it come back, nothing of before may open an episode: only the count of episodes goes on.
        gone = State(since=at, at=at, episodes=number, suspended=True)
        return gone, (*told, *(() if severity is None else (EpisodeClosed(at, number, "removed"),)))
    state = replace(state, suspended=True, round=None)
    if severity is None or state.frozen:
        return state, tuple(told)
    return replace(state, frozen=True), (*told, EpisodeFrozen(at, number))
