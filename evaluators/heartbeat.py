"""From pings and the passing of time to verdicts, as one pure fold. What a verdict means for the stage is `evaluators.quorum`'s.

`decide(policy, state, fact)` is total. Before a fact at t is folded the caller folds `Tick(d)` for every
`next_deadline` d <= t. A sign of life is any ping but `/log`: it says when the next is due. Nothing is due before the
first one. Of each run that said `/start` its end is awaited as well; runs are told apart by their run ids.
"""

from datetime import datetime
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from evaluators.model import Failure, Verdict
from rules.duration import format_duration
from rules.kinds.heartbeat import HeartbeatBeat, Schedule, Weight

SETTLE_S: Final = 2.0
"""A deadline is judged so much later: a ping that came before it may still be on its way to the database."""
MOST_RUNS: Final = 50
"""Runs of one beat whose end is awaited; the oldest are given up."""

_BADNESS: Final = {Verdict.OK: 0, Verdict.WARNING: 1, Verdict.CRITICAL: 2}

Signal = Literal["start", "success", "fail", "log"]


class Plan(Struct, frozen=True):
    """What is expected of a heartbeat, and what its absence is worth; seconds."""

    schedule: Schedule
    named: str  # the schedule, to notice that it changed
    grace_s: float
    max_duration_s: float | None
    missed: Verdict
    late: Verdict  # ok: nothing is said
    overlong: Verdict  # ok: nothing is said
    failed: Verdict


def compile_plan(beat: HeartbeatBeat) -> Plan:
    """The plan of `beat`."""
    severity = beat.severity
    return Plan(
        beat.schedule,
        str(beat.schedule),
        beat.grace,
        beat.max_duration,
        _verdict(severity.missed),
        _verdict(severity.late),
        _verdict(severity.overlong),
        _verdict(severity.failed),
    )


def _verdict(weight: Weight) -> Verdict:
    return Verdict.OK if weight == "ignore" else Verdict(weight)


# ---- facts: `at` is server time, seconds since the epoch


class Ping(Struct, frozen=True):
    """A ping came in. `key` names it, `said` is the first line of its body."""

    at: float
    key: str
    signal: Signal
    run: str = ""
    code: int | None = None
    said: str = ""


class Tick(Struct, frozen=True):
    """Time has passed. Between `deaf_from` and `deaf_until` nobody could take pings."""

    at: float
    deaf_from: float = 0.0
    deaf_until: float = 0.0


class Changed(Struct, frozen=True):
    """The beat was edited or, `anew`, runs again after a pause: what was due meanwhile is not."""

    at: float
    anew: bool = False


Fact = Ping | Tick | Changed

# ---- what comes of them


class Said(Struct, frozen=True):
    """A verdict, which becomes a result. `key` names it among all of its beat: the same facts say it under the same name."""

    at: float
    verdict: Verdict
    failure: Failure | None
    key: str
    due_at: float  # what it is about: the time it was due, or of the ping
    took_s: float | None = None
    late_s: float = 0.0


class Run(Struct, frozen=True, array_like=True):
    """A run that began and has not ended."""

    at: float
    until: float  # longer is too long
    told: bool = False  # that it is


class State(Struct, frozen=True, omit_defaults=True):
    """All that is remembered of a heartbeat between facts."""

    schedule: str = ""  # what `due_at` was computed with
    due_at: float = 0.0  # of the next sign of life; 0 before the first
    told_late: bool = False  # that it is
    missed: bool = False  # the one that was due then, and nothing came since
    verdict: Verdict = Verdict.OK  # the last that was said
    runs: dict[str, Run] = {}
    pinged_at: float = 0.0  # the last sign of life


def decide(plan: Plan, state: State, fact: Fact) -> tuple[State, Said | None]:
    """Fold one fact into `state`. Total: every input has an answer, nothing raises."""
    if isinstance(fact, Changed):
        if not state.due_at or not (fact.anew or state.schedule != plan.named):
            return state, None
        verdict = Verdict.OK if fact.anew else state.verdict  # votes are forgotten in a pause, too
        return _expect(plan, replace(state, due_at=0.0, runs={}, verdict=verdict), fact.at), None
    if isinstance(fact, Ping) and fact.signal == "log":
        return state, None
    if isinstance(fact, Tick):
        after, said = _tick(plan, state, fact)
    elif fact.signal == "start":
        after, said = _start(plan, _expect(plan, state, fact.at), fact)
    else:
        late_s = max(fact.at - state.due_at, 0.0) if state.due_at else 0.0
        ended, end = _end(plan, _expect(plan, state, fact.at), fact, late_s)
        return replace(ended, verdict=end.verdict), end
    if said is None or said.verdict is Verdict.ERROR:
        return after, said
    if _BADNESS[said.verdict] < _BADNESS[state.verdict]:
        return after, None  # only the end of a run is news that things are better
    return replace(after, verdict=said.verdict), said


def next_deadline(plan: Plan, state: State) -> float | None:
    """When time alone may say something next (seconds since the epoch), or None."""
    due = [at for at, _ in _deadlines(plan, state)]
    return min(due) + SETTLE_S if due else None


def _deadlines(plan: Plan, state: State) -> list[tuple[float, str | None]]:
    """What is due, each with the run it is about; None for the next sign of life."""
    found: list[tuple[float, str | None]] = []
    if state.due_at and not state.missed:
        found.append((_silent_at(plan, state), None))
    if plan.overlong is not Verdict.OK:
        found += ((run.until, name) for name, run in state.runs.items() if not run.told)
    return found


def _silent_at(plan: Plan, state: State) -> float:
    """When the absence of a sign of life says something."""
    is_late_next = plan.late is not Verdict.OK and not state.told_late and plan.grace_s > 0
    return state.due_at if is_late_next else state.due_at + plan.grace_s


def _expect(plan: Plan, state: State, at: float) -> State:
    """A sign of life at `at`: the next one is due after it."""
    due_at = plan.schedule.due_after(at)
    if state.schedule == plan.named and due_at < state.due_at and not state.missed:
        return state  # it was overtaken by another one
    return replace(state, schedule=plan.named, due_at=due_at, told_late=False, missed=False, pinged_at=at)


def _tick(plan: Plan, state: State, fact: Tick) -> tuple[State, Said | None]:
    """What was to come first, if it has not come in time."""
    due = [(at, name is not None, name or "") for at, name in _deadlines(plan, state)]
    if not due or min(due)[0] + SETTLE_S > fact.at:
        return state, None
    at, is_run, name = min(due)
    if not is_run:
        return _silence(plan, state, fact, at)
    run = state.runs[name]
    if _is_deaf(fact, run.at, at):
        return replace(state, runs={other: run for other, run in state.runs.items() if other != name}), None
    state = replace(state, runs={**state.runs, name: replace(run, told=True)})
    failure = Failure("heartbeat.overlong", f"the run that began {_when(plan, run.at)} has not ended yet")
    return state, Said(at, plan.overlong, failure, f"overlong {name} {run.at}", at, at - run.at)


def _silence(plan: Plan, state: State, fact: Tick, at: float) -> tuple[State, Said | None]:
    due_at = state.due_at
    since = f"no ping since {_when(plan, state.pinged_at)}, one was due {_when(plan, due_at)}"
    if at < due_at + plan.grace_s:
        if _is_deaf(fact, due_at, at):
            return replace(state, told_late=True), None  # it may have been in time; the grace will tell
        failure = Failure("heartbeat.late", f"{since}; the grace of {format_duration(plan.grace_s)} lasts")
        return replace(state, told_late=True), Said(at, plan.late, failure, f"late {due_at}", due_at)
    if _is_deaf(fact, due_at, at):
        # Its ping may have come and found nobody: that is no news of the job, and the next one will be.
        after = replace(state, due_at=plan.schedule.due_after(max(fact.deaf_until, due_at)), told_late=False)
        heard = (
            f"Upbeat could take no pings from {_when(plan, fact.deaf_from)} to {_when(plan, fact.deaf_until)}"
        )
        failure = Failure("heartbeat.unheard", f"{heard}; one was due {_when(plan, due_at)}")
        return after, Said(at, Verdict.ERROR, failure, f"unheard {due_at}", due_at)
    failure = Failure("heartbeat.missed", since)
    return replace(state, missed=True), Said(at, plan.missed, failure, f"missed {due_at}", due_at)


def _is_deaf(fact: Tick, begin: float, end: float) -> bool:
    """Whether a ping of that time may have come and found nobody."""
    return fact.deaf_from < end + SETTLE_S and fact.deaf_until > begin


def _start(plan: Plan, state: State, fact: Ping) -> tuple[State, Said | None]:
    before = state.runs.get(fact.run)
    if before is not None and fact.at - before.at <= plan.grace_s:
        return state, None  # sent twice
    if plan.max_duration_s is None:
        until = plan.schedule.due_after(fact.at) + plan.grace_s
    else:
        until = fact.at + plan.max_duration_s
    runs = {name: run for name, run in state.runs.items() if name != fact.run}
    for oldest in list(runs)[: max(len(runs) + 1 - MOST_RUNS, 0)]:
        del runs[oldest]
    state = replace(state, runs={**runs, fact.run: Run(fact.at, until)})
    if before is None or before.told or plan.overlong is Verdict.OK:
        return state, None
    said = f"the run that began {_when(plan, before.at)} had not ended when the next one began"
    failure = Failure("heartbeat.overlong", said)
    return state, Said(fact.at, plan.overlong, failure, fact.key, fact.at, fact.at - before.at)


def _end(plan: Plan, state: State, fact: Ping, late_s: float) -> tuple[State, Said]:
    begun = state.runs.get(fact.run)
    since = begun.at if begun else fact.at
    # What began before it, and has been told to take too long, was most likely killed: it is given up.
    runs = {
        name: run
        for name, run in state.runs.items()
        if name != fact.run and not (run.told and run.at <= since)
    }
    took_s = max(fact.at - begun.at, 0.0) if begun else None
    verdict, failure = Verdict.OK, None
    if fact.signal == "fail":
        what = "the job says that it failed" if fact.code is None else f"exit code {fact.code}"
        verdict, failure = plan.failed, Failure("heartbeat.failed", f"{what}: {fact.said}".removesuffix(": "))
    elif begun and plan.overlong is not Verdict.OK and fact.at > begun.until:
        took, most = (format_duration(round(at - begun.at, 1)) for at in (fact.at, begun.until))
        verdict = plan.overlong
        failure = Failure("heartbeat.overlong", f"the run took {took}, more than {most}")
    return replace(state, runs=runs), Said(fact.at, verdict, failure, fact.key, fact.at, took_s, late_s)


def _when(plan: Plan, at: float) -> str:
    """A time as the one who wrote the schedule reads it."""
    return f"{datetime.fromtimestamp(at, plan.schedule.zone):%Y-%m-%d %H:%M:%S %Z}"
