"""All that is remembered of a beat or group between facts. No behaviour; `evaluators.quorum` and `evaluators.episode` change it."""

from msgspec import Struct

from evaluators import heartbeat as heartbeats
from evaluators import vote as votes
from evaluators.model import Severity, Stage
from evaluators.modes import ALL, Modes
from rules.incident import Mode


class Round(Struct, frozen=True, array_like=True):
    """A confirmation round that is out. A dropped run is an answer."""

    request: str
    until: float
    wanted: int
    answers: tuple[tuple[str, int], ...] = ()  # (region, n)


class Member(Struct, frozen=True, array_like=True):
    """What a member of a group last said. `was_told`: since it became bad it has been so without being suppressed."""

    stage: Stage
    since: float
    is_suppressed: bool = False
    counts: bool = True
    was_told: bool = False
    modes: Modes | None = None  # what its badness rests on allows


class Parent(Struct, frozen=True, array_like=True):
    """What something it depends on last said; `answered_at`: when it last did so after having looked."""

    stage: Stage
    answered_at: float = 0.0


class Source(Struct, frozen=True, array_like=True):
    """Who has signals open: how many, and what they allow of what rests on them."""

    critical: int = 0
    warning: int = 0
    modes: Modes = ALL


class State(Struct, frozen=True, omit_defaults=True):
    """Of a beat or a group."""

    stage: Stage = Stage.UNKNOWN  # the worst of `voted` and `signals`
    voted: Stage = Stage.UNKNOWN
    signals: dict[str, Severity] = {}
    sources: dict[str, Source] = {}  # of the signals: who says so how often
    since: float = 0.0  # of the stage
    at: float = 0.0  # of the last fact
    wake_at: float = 0.0  # when time alone changes something of the episode next; 0: never
    regions: dict[str, votes.Region] = {}
    critical: bool = False  # the level is open
    warning: bool = False
    round: Round | None = None
    late: Round | None = None  # the last one, judged while answers to it were missing
    next_round_at: float = 0.0
    returned_at: float = 0.0  # nobody looked until then: an absence, or a pause
    held_until: float = 0.0  # the stage is held until enough regions answer, at most until then
    ok_at: float = 0.0  # when the newest of what made the votes ok was measured
    still_bad: tuple[str, ...] = ()  # a minority that was outvoted then, and is bad ever since
    suspended: bool = False
    silenced: bool = False  # by a pause: others were told that nobody knows, until it is known again
    born: bool = False  # has ever had a stage of its own
    assigned: tuple[str, ...] = ()  # the regions that vote, of the policy it was last brought to
    bound: str = ""  # digest of what others make of it, as it was last brought to
    heartbeat: heartbeats.State = heartbeats.State()
    # the episode, of an owner
    severity: Severity | None = None  # None when there is none
    episodes: int = 0  # opened so far
    frozen: bool = False  # the open one was frozen by a pause
    careful: bool = False  # a change of policy or of members made the stage what it is: drafts only
    left: bool = False  # it is not bad any more because members left, or signals were taken away
    open_rests: Mode = "auto"  # how bold what the open episode rests on lets its opening be,
    resolve_rests: Mode = "auto"  # and its end
    reopened: bool = False  # it went on after its end
    recovered_at: float = 0.0  # when the last one ended
    suppressed_by: tuple[str, ...] = ()  # why a bad stage opens none: see `evaluators.episode`
    known: Stage | None = None  # the last stage that was not unknown
    changes: tuple[float, ...] = ()  # when `known` changed, lately
    flapping: bool = False
    # a minority
    dissent: tuple[str, ...] = ()  # voters that are worse than the stage
    dissent_since: float = 0.0
    advised: bool = False
    # groups
    group: str = ""  # that it is a member of
    between: bool = False  # left a group while it was bad: without an owner until it is ok
    told: tuple[Stage, bool, Modes] | None = None  # the last that its group was told
    members: dict[str, Member] = {}
    heard: bool = False  # a signal ever came: a group counts one more member
    # dependencies
    parents: dict[str, Parent] = {}
    asked_at: float = 0.0
    asks_until: float = 0.0
    clear_after: float = 0.0  # a parent came back then: only what was seen since is bad
    askers: tuple[str, ...] = ()  # children that wait for an answer
    awaits: tuple[str, ...] = ()  # members of a group that were asked on their behalf
    answer_by: float = 0.0
