"""What an episode may say in public: which actions to propose, revise or withdraw, and what a person's word does to them.

Pure, over the actions an episode already has. The store applies the commands in the transaction that caused them.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from evaluators.facts import Of
from evaluators.model import Severity
from evaluators.modes import least
from rules.incident import IncidentPolicy, Mode, Step

BADNESS = {"warning": 1, "critical": 2}


class Status(StrEnum):
    """Where an action stands in its review and delivery."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    DONE = "done"
    FAILED = "failed"


PUBLISHED = frozenset({Status.APPROVED, Status.DONE, Status.FAILED})
"""Statuses of an action that customers were, or are being, told."""


class Action(Struct, frozen=True):
    """One public-facing step of an episode, as far as deciding needs it."""

    id: str
    step: Step
    status: Status
    severity: Severity
    of: Of = "severity"  # of an update: what is new


class Propose(Struct, frozen=True):
    """Create an action: pending for `draft`, approved by policy for `auto`."""

    step: Step
    severity: Severity
    mode: Literal["draft", "auto"]
    of: Of = "severity"


class Revise(Struct, frozen=True):
    """A pending action now says something else: revision + 1."""

    action: str
    severity: Severity


class Withdraw(Struct, frozen=True):
    """A pending action is no longer wanted."""

    action: str
    why: str


class Approve(Struct, frozen=True):
    """A pending action is approved by policy: what it rests on now is firmer than when it was proposed."""

    action: str


Command = Propose | Revise | Withdraw | Approve


def mode_of(policy: IncidentPolicy, step: Step, most: Mode) -> Mode:
    """The mode of a step that may be no bolder than `most`."""
    mode: Mode = getattr(policy, step)
    return least(mode, most)


def propose(
    actions: Sequence[Action],
    policy: IncidentPolicy,
    step: Step,
    severity: Severity,
    *,
    most: Mode = "auto",
    of: Of = "severity",
) -> tuple[Command, ...]:
    """What to do about `step`, given the episode's `actions`, oldest first. Proposing the same twice changes nothing.

    An update says what is new (`of`): another severity, another member, or that it is bad again after its resolve.
    """
    if step == "resolve":
        return _resolve(actions, policy, severity, most)
    # A resolve that was drafted when the beat was paused, and that nobody has approved.
    over = withdraw_pending([action for action in actions if action.step == "resolve"], "it is not over")
    opens = [action for action in actions if action.step == "open"]
    if any(action.status in PUBLISHED for action in opens):
        return over + (_update(actions, policy, severity, most, of) if step == "update" else ())
    refused = _refused(opens)
    pending = next((action for action in opens if action.status is Status.PENDING), None)
    if BADNESS[severity] <= refused:  # a person said no; only something worse is asked again
        return () if pending is None else (Withdraw(pending.id, "back to what was rejected"),)
    if pending is not None:
        revised = (Revise(pending.id, severity),) if pending.severity != severity else ()
        is_firmer = step == "open" and mode_of(policy, "open", most) == "auto"
        return (*revised, Approve(pending.id)) if is_firmer else revised
    return _new(policy, "open", severity, most) if opens or step == "open" else ()


def withdraw_pending(actions: Sequence[Action], why: str) -> tuple[Withdraw, ...]:
    """Take back whatever still waits for a person."""
    return tuple(Withdraw(action.id, why) for action in actions if action.status is Status.PENDING)


def is_owed_resolve(actions: Sequence[Action]) -> bool:
    """Whether customers were told of the opening, or that it is bad again, and of no end since."""
    told = [action.step for action in actions if action.status in PUBLISHED and _turns(action)]
    return bool(told) and told[-1] != "resolve"


def _turns(action: Action) -> bool:
    return action.step != "update" or action.of == "reopened"


def _refused(actions: Sequence[Action]) -> int:
    """How bad the worst was that a person said no to."""
    return max((BADNESS[a.severity] for a in actions if a.status is Status.REJECTED), default=0)


def _update(
    actions: Sequence[Action], policy: IncidentPolicy, severity: Severity, most: Mode, of: Of
) -> tuple[Command, ...]:
    updates = [action for action in actions if action.step == "update"]
    pending = next((action for action in updates if action.status is Status.PENDING), None)
    if not is_owed_resolve(actions):  # customers were told that it is over
        again = [action for action in updates if action.of == "reopened"]
        refused = _refused(again)
        if pending is None and (of == "reopened" or 0 < refused < BADNESS[severity]):
            is_asked = BADNESS[severity] > refused
            return _new(policy, "update", severity, most, "reopened") if is_asked else ()
        if pending is None:
            return ()
        revised = (Revise(pending.id, severity),) if pending.severity != severity else ()
        is_firmer = of == "reopened" and mode_of(policy, "update", most) == "auto"
        return (*revised, Approve(pending.id)) if is_firmer else revised
    said = [action for action in actions if action.status in PUBLISHED][-1]
    if pending is not None:
        if said.severity == severity and pending.of == "severity" and of != "member":
            return (Withdraw(pending.id, "back to what customers were told"),)
        return (Revise(pending.id, severity),) if pending.severity != severity else ()
    if of == "member":
        refused = _refused([action for action in updates if action.of == "member"])
        is_known = said.severity == severity and (said.of == "member" or BADNESS[severity] <= refused)
        return () if is_known else _new(policy, "update", severity, most, "member")
    return () if said.severity == severity else _new(policy, "update", severity, most)


def _resolve(
    actions: Sequence[Action], policy: IncidentPolicy, severity: Severity, most: Mode
) -> tuple[Command, ...]:
    withdrawn = withdraw_pending(
        [a for a in actions if a.step != "resolve"], "recovered before it was reviewed"
    )
    if not is_owed_resolve(actions):
        return withdrawn
    asked = _new(policy, "resolve", severity, most)
    waiting = [a for a in actions if a.step == "resolve" and a.status is Status.PENDING]
    if not waiting:
        return (*withdrawn, *asked)
    if asked and mode_of(policy, "resolve", most) == "auto":
        # Drafted when the beat was paused; now that it did recover, policy may say so by itself.
        return (*withdrawn, Withdraw(waiting[-1].id, "approved by policy after recovery"), *asked)
    return withdrawn


def _new(
    policy: IncidentPolicy, step: Step, severity: Severity, most: Mode, of: Of = "severity"
) -> tuple[Command, ...]:
    mode = mode_of(policy, step, most)
    return () if mode == "off" else (Propose(step, severity, mode, of),)
