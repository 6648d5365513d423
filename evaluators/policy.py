"""A beat's policy compiled for `evaluators.quorum`: numbers of regions and seconds, nothing left to resolve."""

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from evaluators.heartbeat import Plan, compile_plan
from rules.beat import AnyBeat
from rules.incident import IncidentPolicy
from rules.kinds.heartbeat import HeartbeatBeat
from rules.kinds.kind import ProbedRule
from rules.pace import run_deadline_s
from rules.quorum import resolve_count

SERVER: Final = "server"
"""The region of a heartbeat's one vote, which the server casts."""


class Threshold(Struct, frozen=True):
    """Fresh votes that open a level, and better ones that end it."""

    open: int
    close: int


class Confirmation(Struct, frozen=True):
    """The shape of a confirmation round; seconds."""

    runs: int
    spacing_s: float
    wait_s: float


class Policy(Struct, frozen=True):
    """How results become a stage, and what the stage may say in public."""

    regions: tuple[str, ...]
    critical: Threshold
    warning: Threshold
    open_runs: int
    close_runs: int
    max_age_s: float  # infinite for a vote that only another one ends
    min_voters: int
    holds: bool  # on_insufficient: hold
    confirm: Confirmation | None
    incidents: IncidentPolicy
    heartbeat: Plan | None = None

    @property
    def window(self) -> int:
        """Results kept per region, so that a late one can be put in its place."""
        return max(self.open_runs, self.close_runs) + 3

    @property
    def is_pushed(self) -> bool:
        """Whether no probe runs the beat: others say what it is."""
        return self.max_age_s == math.inf

    @property
    def hold_s(self) -> float:
        """How long the stage is held for votes that have to come anew."""
        return 0.0 if self.is_pushed else self.max_age_s


def compile_policy(beat: AnyBeat, all_regions: Sequence[str]) -> Policy:
    """The policy of `beat` where the installation has `all_regions` and the beat runs in all unless it names some.

    A beat that no probe runs has the server's vote, which never gets stale, or none at all.
    """
    if not isinstance(beat, ProbedRule):
        plan = compile_plan(beat) if isinstance(beat, HeartbeatBeat) else None
        voters = (SERVER,) if plan else ()
        one = Threshold(1, len(voters))
        return Policy(voters, one, one, 1, 1, math.inf, len(voters), True, None, beat.incidents, plan)
    regions = tuple(beat.regions if beat.regions is not None else all_regions)
    count, quorum = len(regions), beat.quorum
    critical = Threshold(*quorum.critical.resolve(count))
    deadline_s = run_deadline_s(beat.interval, beat.timeout, beat.retries)
    return Policy(
        regions=regions,
        critical=critical,
        warning=Threshold(*quorum.warning.resolve(count)),
        open_runs=quorum.consecutive.open,
        close_runs=quorum.consecutive.close,
        max_age_s=2 * beat.interval + deadline_s if quorum.max_age == "auto" else quorum.max_age,
        min_voters=critical.open if quorum.min_voters == "auto" else resolve_count(quorum.min_voters, count),
        holds=quorum.on_insufficient == "hold",
        confirm=Confirmation(quorum.confirm.runs, quorum.confirm.spacing, quorum.confirm.wait)
        if quorum.confirm
        else None,
        incidents=beat.incidents,
    )
