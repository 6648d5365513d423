"""Folding facts into states in memory, ready to be saved together or thrown away together. It decides nothing itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from engine.store.facts import Logged
from engine.store.ids import derived_id
from engine.store.pings import text_of
from engine.store.pushed import Ping, Pushed, Relayed, Report
from engine.store.states import Held
from engine.subject import Subject
from evaluators import heartbeat, quorum, replay
from evaluators.facts import (
    Continued,
    Effect,
    Fact,
    PolicyChanged,
    RelationsChanged,
    ResultSeen,
    Returned,
    SignalChanged,
    Suspended,
    Tick,
)
from evaluators.heartbeat import Plan, Said
from evaluators.model import Kind, Outcome, Result, Timings, Verdict
from evaluators.policy import SERVER
from evaluators.state import State
from rules.duration import format_duration

AHEAD_S = 5.0
"""A state whose last fact lies further in the future than this was written by a clock that was wrong."""
SAID_MOST = 200
BODY_MOST = 1000
_WRONG = (Verdict.WARNING, Verdict.CRITICAL)
"""Of a ping's body, what is shown: characters in a message, bytes as evidence."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """An effect with the state it left behind."""

    subject: Subject
    effect: Effect
    state: State


@dataclass(frozen=True, slots=True)
class Server:
    """What the server needs to cast the votes of heartbeats. `boot_id` and `next_seq` order them."""

    boot_id: str
    next_seq: Callable[[], int]
    deaf: tuple[float, float] = (0.0, 0.0)  # when nobody could take pings, the last time


@dataclass(slots=True)
class Piece:
    """A part of what was folded: of each subject the facts come before the verdicts that were made."""

    facts: list[Logged] = field(default_factory=list)
    made: list[Result] = field(default_factory=list)


class Fold:
    """The states one transaction changes. `returned_at`: since when somebody looks again (seconds since the epoch).

    Without `server` no heartbeat is judged: pings that came may still wait.
    """

    def __init__(
        self,
        held: Mapping[UUID, Held],
        subject_of: Callable[[UUID], Subject | None],
        returned_at: float,
        server: Server | None = None,
    ) -> None:
        self.changed: dict[UUID, Held] = {}
        self.consequences: list[Consequence] = []
        self.made: list[Result] = []  # by the server: verdicts on heartbeats
        self.pinged: list[tuple[Pushed, bool]] = []  # pings, and whether they counted
        self.signalled: list[tuple[Pushed, Report]] = []
        self.stirred: set[UUID] = set()  # with an open episode, of which something else is wrong now
        self.marked: set[UUID] = (
            set()
        )  # what else stands beside a stage is new: flapping, or what suppresses it
        self._log: list[Logged | Result] = []
        # What is declared may change while this waits for the database: here it stays what it was when it was looked at.
        self._held, self._subject_of, self._returned_at = held, cache(subject_of), returned_at
        self._server = server

    def result(self, subject_id: UUID, result: Result, boot_id: str, measured_at: float, now: float) -> None:
        """A new result; one of a beat nobody knows, or measured before what is measured changed, is history only."""
        held, subject = self._get(subject_id), self._subject_of(subject_id)
        if held is None or subject is None or subject.is_removed:
            return
        if result.check_version < held.measured_from and result.stored:
            return
        self._fold(subject, held, ResultSeen(now, result, boot_id, measured_at))

    def tick(self, subject_id: UUID, now: float) -> None:
        """Let time pass for a beat up to `now`."""
        held, subject = self._get(subject_id), self._subject_of(subject_id)
        if held is None or subject is None:
            return
        deadline = quorum.next_deadline(subject.policy, held.state)
        if deadline is not None and deadline <= now:
            self._fold(subject, held, Tick(now))
        if self._server is not None and subject.policy.heartbeat is not None and not held.state.suspended:
            self._beat(subject, subject.policy.heartbeat, heartbeat.Tick(now), now)

    def take_log(self) -> list[Piece]:
        """What was folded since the last time, but for results that came: to be kept, piece after piece."""
        pieces: list[Piece] = []
        reached: dict[UUID, tuple[int, bool]] = {}
        for one in self._log:
            is_made = isinstance(one, Result)
            subject_id = UUID(one.beat_id) if isinstance(one, Result) else one.subject_id
            number, was_made = reached.get(subject_id, (0, False))
            number += was_made and not is_made
            reached[subject_id] = number, is_made
            if number == len(pieces):
                pieces.append(Piece())
            if isinstance(one, Result):
                pieces[number].made.append(one)
            else:
                pieces[number].facts.append(one)
        self._log = []
        return pieces

    def catch_up(self, subject_id: UUID, now: float) -> None:
        """What was edited a moment ago, and that nobody looked, comes before what is folded next."""
        held, subject = self._get(subject_id), self._subject_of(subject_id)
        if held is None or subject is None or subject.is_removed:
            return
        if _is_behind(held, subject):
            self.reconcile(subject_id, now)
            held = self._get(subject_id) or held
        if (state := self._return(subject, held.state, now)) is not held.state:
            self.changed[subject_id] = replace(held, state=state)

    def pushed(self, one: Pushed, now: float) -> None:
        """What others say. Of a beat that is gone it is nothing; pings of a paused one do not count."""
        self.catch_up(one.subject_id, now)
        held, subject = self._get(one.subject_id), self._subject_of(one.subject_id)
        if held is None or subject is None:
            return
        if isinstance(one.fact, Relayed):
            self._fold(subject, held, replace(one.fact.fact, at=now))  # when it is heard
            self._stir(subject)
            return
        if isinstance(one.fact, Report):
            key = quorum.signal_key(one.fact.source, one.fact.fingerprint)
            self._fold(
                subject, held, SignalChanged(now, key, one.fact.severity, one.fact.modes, one.fact.careful)
            )
            if one.fact.severity is None or key in self.changed[one.subject_id].state.signals:
                self.signalled.append((one, one.fact))
            self._stir(subject)
            return
        plan = subject.policy.heartbeat
        counts = plan is not None and not held.state.suspended
        self.pinged.append((one, counts))
        if counts and plan is not None:
            text = text_of((one.body or b"")[:BODY_MOST])
            said = next((line.strip() for line in text.splitlines() if line.strip()), "")
            ping, at = one.fact, min(one.at, now)
            fact = heartbeat.Ping(at, f"ping {one.id}", ping.signal, ping.run, ping.code, said[:SAID_MOST])
            self._beat(subject, plan, fact, now, _evidence(ping, text))

    def _stir(self, subject: Subject) -> None:
        if self.changed[subject.subject_id].state.severity:
            self.stirred.add(subject.subject_id)

    def reconcile(self, subject_id: UUID, now: float) -> None:
        """Bring a beat's state to what is declared now: edited, paused, resumed or removed."""
        held, subject = self._get(subject_id), self._subject_of(subject_id)
        if held is None or subject is None:
            return
        was = held.bound
        if held.revision != subject.revision:
            anew = bool(held.measures) and held.measures != subject.measures
            first = not held.measures
            held = replace(
                held,
                revision=subject.revision,
                bound=subject.bound,
                measures=subject.measures,
                measured_from=subject.revision if anew or first else held.measured_from,
            )
            if first:
                held = replace(held, state=quorum.newborn(subject.policy, now))
            self.changed[subject_id] = held
            if not subject.is_removed:
                self._fold(subject, held, PolicyChanged(now, measures_anew=anew))
                self._replan(subject, now, anew=anew)
        elif held.bound != subject.bound:
            self.changed[subject_id] = held = replace(held, bound=subject.bound)
            is_same = held.state.assigned == subject.policy.regions and was.zones == subject.bound.zones
            self._fold(subject, held, RelationsChanged(now) if is_same else PolicyChanged(now))
        held = self._get(subject_id)
        assert held is not None
        if held.state.at > now + AHEAD_S:
            self._fold(subject, held, Tick(now))
            self._replan(
                subject, now, anew=True
            )  # else its silence would be none until the clock has caught up
            held = self.changed[subject_id]
        if subject.is_removed:
            if not held.state.suspended or held.state.severity is not None or held.state.group:
                self._fold(subject, held, Suspended(now, removed=True))
        elif subject.is_paused(now) != held.state.suspended:
            fact: Fact = Suspended(now) if subject.is_paused(now) else Continued(now)
            self._fold(subject, held, fact)
            self._replan(subject, now, anew=True)

    def subject(self, subject_id: UUID) -> Subject:
        """One whose state was changed."""
        subject = self._subject_of(subject_id)
        assert subject is not None
        return subject

    def _get(self, subject_id: UUID) -> Held | None:
        return self.changed.get(subject_id) or self._held.get(subject_id)

    def _fold(self, subject: Subject, held: Held, fact: Fact) -> None:
        state = self._decide(subject, self._return(subject, held.state, fact.at), fact)
        self.changed[subject.subject_id] = replace(held, state=state)

    def _return(self, subject: Subject, state: State, now: float) -> State:
        if state.at < self._returned_at:
            return self._decide(subject, state, Returned(self._returned_at))
        if state.at > now + AHEAD_S:  # else nothing would go stale until the clock has caught up
            return self._decide(subject, state, Returned(now))
        return state

    # ---- heartbeats

    def _replan(self, subject: Subject, now: float, *, anew: bool = False) -> None:
        if subject.policy.heartbeat is not None:
            self._say(subject, subject.policy.heartbeat, heartbeat.Changed(now, anew), now, None)

    def _beat(
        self,
        subject: Subject,
        plan: Plan,
        fact: heartbeat.Ping | heartbeat.Tick,
        now: float,
        evidence: dict[str, Any] | None = None,
    ) -> None:
        deaf = self._server.deaf if self._server else (0.0, 0.0)
        while True:
            held = self._get(subject.subject_id)
            assert held is not None
            deadline = heartbeat.next_deadline(plan, held.state.heartbeat)
            if deadline is None or deadline > fact.at:
                break
            self._say(subject, plan, heartbeat.Tick(deadline, *deaf), now, None)
        if isinstance(fact, heartbeat.Ping):
            self._say(subject, plan, fact, now, evidence)

    def _say(
        self, subject: Subject, plan: Plan, fact: heartbeat.Fact, now: float, evidence: dict[str, Any] | None
    ) -> None:
        held = self._get(subject.subject_id)
        assert held is not None
        after, said = heartbeat.decide(plan, held.state.heartbeat, fact)
        held = replace(held, state=replace(held.state, heartbeat=after))
        self.changed[subject.subject_id] = held
        if said is not None and self._server is not None:
            result = _result(subject, said, self._server.next_seq(), evidence)
            self.made.append(result)
            self._fold(subject, held, ResultSeen(now, result, self._server.boot_id, result.at))

    def _decide(self, subject: Subject, state: State, fact: Fact) -> State:
        if isinstance(fact, ResultSeen):
            if not fact.result.stored:
                self._log.append(Logged(subject.subject_id, fact))
            elif self._server is not None and fact.boot == self._server.boot_id:
                self._log.append(fact.result)
        else:
            # What comes just before a change is folded under what it was changed to as well.
            binds = isinstance(fact, PolicyChanged | RelationsChanged | Returned) or subject.is_removed
            bound, revision = (subject.bound, subject.revision) if binds else (None, None)
            self._log.append(Logged(subject.subject_id, fact, bound, revision))
        after, steps = replay.fold(subject.policy, state, fact)
        for reached, effects in steps:
            self.consequences += (Consequence(subject, effect, reached) for effect in effects)
        if (
            state.severity
            and after.severity
            and after.regions is not state.regions
            and _bad(after) != _bad(state)
        ):
            self.stirred.add(subject.subject_id)
        if after.flapping is not state.flapping or after.suppressed_by != state.suppressed_by:
            self.marked.add(subject.subject_id)
        return after


def _bad(state: State) -> dict[str, Verdict | None]:
    """The regions that say that something is wrong, and how bad."""
    return {name: one.vote.verdict for name, one in state.regions.items() if one.vote.verdict in _WRONG}


def _result(subject: Subject, said: Said, seq: int, evidence: dict[str, Any] | None) -> Result:
    """A verdict on a heartbeat as the result of a run, so that it is kept, charted and exported as any other."""
    late = Outcome("late", ok=True, actual=format_duration(round(said.late_s, 3)))
    return Result(
        run_id=str(derived_id(subject.subject_id, said.key)),
        beat_id=str(subject.subject_id),
        region=SERVER,
        kind=Kind.SCHEDULED,
        verdict=said.verdict,
        scheduled_at=said.due_at,
        at=round(said.at, 6),  # as it is stored
        seq=seq,
        attempts=1,
        timings=Timings(total=said.took_s),
        outcomes=(late,) if said.late_s else (),
        failure=said.failure,
        evidence=evidence if said.verdict is not Verdict.OK else None,
        check_version=subject.revision,
    )


def _evidence(ping: Ping, text: str) -> dict[str, Any]:
    seen = {
        "ping": ping.signal,
        "method": ping.method,
        "address": ping.address,
        "run": ping.run,
        "body": text,
    }
    return {name: value for name, value in seen.items() if value}


def _is_behind(held: Held, subject: Subject) -> bool:
    """Whether the state was last brought to another policy: of another revision, or bound otherwise by others."""
    if held.revision != subject.revision:
        return True
    return held.bound is not subject.bound and held.bound != subject.bound and not subject.is_removed
