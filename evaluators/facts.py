"""What happens to a beat or group, and what comes of it: the input and output of `evaluators.quorum.decide`. No behaviour."""

from typing import Literal

from msgspec import Struct

from evaluators.model import Result, Severity, Stage
from evaluators.modes import Modes
from rules.incident import Mode, Step

# ---- facts: `at` is server time, seconds since the epoch


class ResultSeen(Struct, frozen=True, tag=True):
    """A result that was not seen before. `measured_at` is the run's end in server time."""

    at: float
    result: Result
    boot: str
    measured_at: float


class Tick(Struct, frozen=True, tag=True):
    """Time has passed: a round ran out, a vote went stale, a hold time or a window is over."""

    at: float


class PolicyChanged(Struct, frozen=True, tag=True):
    """It was edited, or regions came, went, or got sick. `measures_anew`: what is measured changed, old votes say nothing."""

    at: float
    measures_anew: bool = False


class RelationsChanged(Struct, frozen=True, tag=True):
    """What others make of it changed: its group, what it depends on, its maintenance windows. No policy of its own did."""

    at: float


class Returned(Struct, frozen=True, tag=True):
    """Nobody was looking until now (Upbeat was down, or cut off from its bus).

    Votes of before are not fresh, but no silence either: the stage is held until fresh ones come, or for `max_age`.
    What was measured meanwhile and comes late is folded into the votes, and judged only together with fresh ones.
    The one fact that is folded without the ticks before it: to the beat, that time did not pass.
    """

    at: float


class SignalChanged(Struct, frozen=True, tag=True):
    """Somebody else says that it is bad, or (`severity` None) no longer. Only `signal` itself ends a signal.

    `signal` is who says so and the fingerprint of what they say it of: see `quorum.signal_key`. `modes`: what they allow
    of the steps that rest on it. `careful`: it was taken away, and nobody says that anything recovered.
    """

    at: float
    signal: str
    severity: Severity | None
    modes: Modes | None = None
    careful: bool = False


class Suspended(Struct, frozen=True, tag=True):
    """A person paused it (`removed`: took it away). The episode is frozen (ended) as such, never recovered."""

    at: float
    removed: bool = False


class Continued(Struct, frozen=True, tag=True):
    """What was paused runs again."""

    at: float


class MemberChanged(Struct, frozen=True, tag=True):
    """A member of the group says what it is now. One that is paused does not count; one that is `gone` is none any more."""

    at: float
    member: str  # id
    stage: Stage
    is_suppressed: bool = False  # its badness opens nothing
    counts: bool = True
    is_gone: bool = False
    modes: Modes | None = None  # what its badness rests on allows; None: all


class ParentChanged(Struct, frozen=True, tag=True):
    """Something it depends on says what it is now; `is_answer`: after having looked, because it was asked."""

    at: float
    parent: str  # id
    stage: Stage
    is_answer: bool = False


class Asked(Struct, frozen=True, tag=True):
    """`child` has just seen something bad and depends on this one: look now, and answer."""

    at: float
    child: str  # id
    looks: bool = True  # False: what is known will do


Fact = (
    Tick
    | ResultSeen
    | PolicyChanged
    | RelationsChanged
    | Returned
    | SignalChanged
    | Suspended
    | Continued
    | MemberChanged
    | ParentChanged
    | Asked
)
"""All are stored as such, but for results that are rows of their own."""

# ---- effects


class Transitioned(Struct, frozen=True):
    """The stage changed. `first`: out of the `unknown` it is born with."""

    at: float
    was: Stage
    stage: Stage
    first: bool


class NeverAnswered(Struct, frozen=True):
    """A new beat is still `unknown`, and has been for so long that somebody should know."""

    at: float


class EpisodeOpened(Struct, frozen=True):
    """The `number`-th episode began; `reopened`: it goes on, having ended a moment ago."""

    at: float
    number: int
    severity: Severity
    reopened: bool = False


Cause = Literal["recovered", "removed", "left", "inactive"]


class EpisodeClosed(Struct, frozen=True):
    """It ended; only `recovered` is good news. `left`: the members that were bad are members no more."""

    at: float
    number: int
    cause: Cause


class EpisodeFrozen(Struct, frozen=True):
    """Its owner was paused: it stays open, and nothing pending may go out."""

    at: float
    number: int


class SeverityChanged(Struct, frozen=True):
    """An open episode is worse, or better, and has been for its hold time."""

    at: float
    number: int
    was: Severity
    severity: Severity


class FlappingStarted(Struct, frozen=True):
    """So many changes that nothing more is said of them until it is quiet."""

    at: float
    number: int
    changes: int


class FlappingEnded(Struct, frozen=True):
    """It is quiet again, and this is where it stands."""

    at: float
    number: int
    stage: Stage


class AdvisoryRaised(Struct, frozen=True):
    """A minority of regions (or members) has been bad for so long that somebody should know."""

    at: float
    voters: tuple[str, ...]


class AdvisoryCleared(Struct, frozen=True):
    """That is over, and it was no outage. `silent`: those of the minority that are not ok, but do not count any more."""

    at: float
    silent: tuple[str, ...] = ()


Of = Literal["severity", "member", "reopened"]
"""What is new in an update: another severity, another member of a group, or that it is bad again."""


class StepProposed(Struct, frozen=True):
    """Something may now be said in public; `evaluators.review` decides with the episode's actions in hand.

    `most`: how bold it may be; a draft where a change of policy or of members caused it, and what the signals allow that
    it rests on.
    `of`: why it is an update.
    """

    at: float
    step: Step
    severity: Severity
    most: Mode = "auto"
    of: Of = "severity"


class ConfirmWanted(Struct, frozen=True):
    """Ask `regions` to run now, `runs` times, `spacing_s` apart. `request` names the round."""

    request: str
    regions: tuple[str, ...]
    runs: int
    spacing_s: float


class MemberSaid(Struct, frozen=True):
    """For its group: what a member is now. See `MemberChanged`."""

    at: float
    group: str
    stage: Stage
    is_suppressed: bool = False
    counts: bool = True
    is_gone: bool = False
    modes: Modes | None = None


class ParentsAsked(Struct, frozen=True):
    """For each of these: to look now, and to answer. See `Asked`."""

    at: float
    parents: tuple[str, ...]
    looks: bool = True


class ParentSaid(Struct, frozen=True):
    """For all that depend on it: what it is now, without a transition: it was paused, or runs again."""

    at: float
    stage: Stage


class Answered(Struct, frozen=True):
    """For each of these children: what the one they asked is, now that it has looked. Not `looked`: what was known."""

    at: float
    children: tuple[str, ...]
    stage: Stage
    looked: bool = True


Effect = (
    Transitioned
    | NeverAnswered
    | EpisodeOpened
    | EpisodeClosed
    | EpisodeFrozen
    | SeverityChanged
    | FlappingStarted
    | FlappingEnded
    | AdvisoryRaised
    | AdvisoryCleared
    | StepProposed
    | ConfirmWanted
    | MemberSaid
    | ParentsAsked
    | ParentSaid
    | Answered
)
