"""A beat's or group's policy compiled for `evaluators.quorum`: numbers and seconds, nothing left to resolve."""

import math
from typing import Final

from msgspec import Struct

from evaluators.heartbeat import Plan, compile_plan
from evaluators.levels import Need, Threshold, compile_need
from rules.beat import AnyBeat
from rules.episode import Episodes
from rules.group import Group
from rules.incident import IncidentPolicy
from rules.kinds.heartbeat import HeartbeatBeat
from rules.kinds.kind import ProbedRule
from rules.pace import run_deadline_s
from rules.quorum import Confirm, GroupQuorum

SERVER: Final = "server"
"""The region of a heartbeat's one vote, which the server casts."""


class Confirmation(Struct, frozen=True):
    """The shape of a confirmation round; seconds."""

    runs: int
    spacing_s: float
    wait_s: float
    last_s: float = 0.0  # from its begin to when the last answer may come


class Window(Struct, frozen=True, array_like=True, order=True):
    """One time that a maintenance window takes place; seconds since the epoch. `id` is the window's."""

    start: float
    end: float
    id: str


class Bound(Struct, frozen=True, omit_defaults=True):
    """What other objects make of a beat or group. `zones` has the zone of each region that is in one."""

    regions: tuple[str, ...] = ()  # all there are
    sick: tuple[str, ...] = ()  # of them, those whose votes do not count
    zones: dict[str, str] = {}
    group: str = ""  # id of the group it is a member of
    parents: tuple[str, ...] = ()  # ids of what it depends on
    windows: tuple[Window, ...] = ()  # of maintenance that covers it, by start


class Policy(Struct, frozen=True):
    """How votes become a stage and a stage an episode, and what that may say in public."""

    regions: tuple[str, ...]  # whose votes count
    need: Need
    incidents: IncidentPolicy
    episodes: Episodes
    group: str
    parents: tuple[str, ...]
    windows: tuple[Window, ...]
    open_runs: int = 1
    close_runs: int = 1
    max_age_s: float = math.inf  # infinite for a vote that only another one ends
    confirm: Confirmation | None = None
    heartbeat: Plan | None = None
    advisory_s: float = math.inf
    sick: tuple[str, ...] = ()  # regions it runs in whose votes do not count now
    members: GroupQuorum | None = None  # of a group, whose members vote, not regions
    tells_late: bool = False  # a member that fails later is an update

    @property
    def window(self) -> int:
        """Results kept per region, so that a late one can be put in its place."""
        return max(self.open_runs, self.close_runs) + 3

    @property
    def is_pushed(self) -> bool:
        """Whether no probe runs it: others say what it is."""
        return self.max_age_s == math.inf

    @property
    def hold_s(self) -> float:
        """How long the stage is held for votes that have to come anew."""
        return 0.0 if self.is_pushed else self.max_age_s


def compile_policy(rule: AnyBeat | Group, bound: Bound) -> Policy:
    """The policy of `rule` among what else there is. A beat runs in all regions unless it names some.

    A beat that no probe runs has the server's vote, which never gets stale, or none at all.
    """
    shared = (rule.incidents, rule.episodes, bound.group, bound.parents, bound.windows)
    if isinstance(rule, Group):
        need = compile_need(rule.quorum, ())  # of no members yet: each time it is judged, of those that count
        late, advisory_s = rule.late_members == "update", rule.quorum.advisory_after or math.inf
        return Policy((), need, *shared, advisory_s=advisory_s, members=rule.quorum, tells_late=late)
    if not isinstance(rule, ProbedRule):
        plan = compile_plan(rule) if isinstance(rule, HeartbeatBeat) else None
        voters = (SERVER,) if plan else ()
        one = Threshold(1, len(voters))
        return Policy(voters, Need(one, one, len(voters), holds=True), *shared, heartbeat=plan)
    assigned = tuple(rule.regions if rule.regions is not None else bound.regions)
    regions = tuple(region for region in assigned if region not in bound.sick) or assigned
    quorum = rule.quorum
    deadline_s = run_deadline_s(rule.interval, rule.timeout, rule.retries)
    return Policy(
        regions,
        compile_need(quorum, regions, bound.zones),
        *shared,
        open_runs=quorum.consecutive.open,
        close_runs=quorum.consecutive.close,
        max_age_s=2 * rule.interval + deadline_s if quorum.max_age == "auto" else quorum.max_age,
        confirm=_confirmation(quorum.confirm, deadline_s) if quorum.confirm else None,
        advisory_s=quorum.advisory_after or math.inf,
        sick=tuple(region for region in assigned if region not in regions),
    )


def _confirmation(confirm: Confirm, deadline_s: float) -> Confirmation:
    last_s = (confirm.runs - 1) * confirm.spacing + deadline_s
    return Confirmation(confirm.runs, confirm.spacing, confirm.wait, last_s)
