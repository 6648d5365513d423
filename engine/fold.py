"""Folding facts into states in memory, ready to be saved together or thrown away together. It decides nothing itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from msgspec.structs import replace

from engine.store.states import Held
from engine.subject import Subject
from evaluators import quorum
from evaluators.model import Result
from evaluators.quorum import Effect, Fact, State

AHEAD_S = 5.0
"""A state whose last fact lies further in the future than this was written by a clock that was wrong."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """An effect with the state it left behind."""

    subject: Subject
    effect: Effect
    state: State


class Fold:
    """The states one transaction changes. `returned_at`: since when somebody looks again (seconds since the epoch)."""

    def __init__(
        self, held: Mapping[UUID, Held], subject_of: Callable[[UUID], Subject | None], returned_at: float
    ) -> None:
        self.changed: dict[UUID, Held] = {}
        self.consequences: list[Consequence] = []
        self._held, self._subject_of, self._returned_at = held, subject_of, returned_at

    def result(self, beat_id: UUID, result: Result, boot_id: str, measured_at: float, now: float) -> None:
        """A new result; one of a beat nobody knows, or measured before what is measured changed, is history only."""
        held, subject = self._get(beat_id), self._subject_of(beat_id)
        if held is None or subject is None:
            return
        if _is_behind(held, subject):  # edited a moment ago: that comes first
            self.reconcile(beat_id, now)
            held = self._get(beat_id) or held
        if result.check_version < held.measured_from and result.stored:
            return
        self._fold(subject, held, quorum.ResultSeen(now, result, boot_id, measured_at))

    def tick(self, beat_id: UUID, now: float) -> None:
        """Let time pass for a beat up to `now`."""
        held, subject = self._get(beat_id), self._subject_of(beat_id)
        if held is None or subject is None:
            return
        deadline = quorum.next_deadline(subject.policy, held.state)
        if deadline is not None and deadline <= now:
            self._fold(subject, held, quorum.Tick(now))

    def reconcile(self, beat_id: UUID, now: float) -> None:
        """Bring a beat's state to what is declared now: edited, paused, resumed or removed."""
        held, subject = self._get(beat_id), self._subject_of(beat_id)
        if held is None or subject is None:
            return
        if held.revision != subject.revision:
            anew = bool(held.measures) and held.measures != subject.measures
            first = not held.measures
            held = replace(
                held,
                revision=subject.revision,
                measures=subject.measures,
                measured_from=subject.revision if anew or first else held.measured_from,
            )
            if first:
                until = now + subject.policy.max_age_s  # by then somebody has to have looked
                held = replace(
                    held, state=State(since=now, at=now, assigned=subject.policy.regions, held_until=until)
                )
            self.changed[beat_id] = held
            if not first and not subject.is_removed:
                self._fold(subject, held, quorum.PolicyChanged(now, measures_anew=anew))
        elif _is_behind(held, subject):
            self._fold(subject, held, quorum.PolicyChanged(now, measures_anew=False))
        held = self._get(beat_id)
        assert held is not None
        if held.state.at > now + AHEAD_S:
            self._fold(subject, held, quorum.Tick(now))
            held = self.changed[beat_id]
        if subject.is_removed:
            if not held.state.suspended or held.state.severity is not None:
                self._fold(subject, held, quorum.Suspended(now, removed=True))
        elif subject.is_paused(now) != held.state.suspended:
            fact: Fact = quorum.Suspended(now) if subject.is_paused(now) else quorum.Continued(now)
            self._fold(subject, held, fact)

    def _get(self, beat_id: UUID) -> Held | None:
        return self.changed.get(beat_id) or self._held.get(beat_id)

    def _fold(self, subject: Subject, held: Held, fact: Fact) -> None:
        state = held.state
        if state.at < self._returned_at:
            state, _ = quorum.decide(subject.policy, state, quorum.Returned(self._returned_at))
        elif state.at > fact.at + AHEAD_S:  # else nothing would go stale until the clock has caught up
            state, _ = quorum.decide(subject.policy, state, quorum.Returned(fact.at))
        while (deadline := quorum.next_deadline(subject.policy, state)) is not None and deadline <= fact.at:
            state = self._decide(subject, state, quorum.Tick(deadline))
        if not isinstance(fact, quorum.Tick):
            state = self._decide(subject, state, fact)
        self.changed[subject.beat_id] = replace(held, state=state)

    def _decide(self, subject: Subject, state: State, fact: Fact) -> State:
        state, effects = quorum.decide(subject.policy, state, fact)
        if effects:
            self.consequences += (Consequence(subject, effect, state) for effect in effects)
        return state


def _is_behind(held: Held, subject: Subject) -> bool:
    """Whether the state was last brought to another policy: of another revision, or of other regions."""
    if held.revision != subject.revision:
        return True
    assigned = held.state.assigned
    return bool(assigned) and assigned != subject.policy.regions and not subject.is_removed
