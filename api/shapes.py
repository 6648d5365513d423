"""What the API answers, for its description. Nothing is made of these; a test holds real answers against them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, TypeVar

from msgspec import Struct

from evaluators.explain import Why
from evaluators.model import Kind, Stage, Verdict
from rules.component import ComponentStatus, UptimeBy

E = TypeVar("E", bound=Callable[..., Any])


def gives(shape: type[Struct], *, listed: bool = False) -> Callable[[E], E]:
    """Document what a route answers; `listed`: a page of them."""

    def declare(endpoint: E) -> E:
        endpoint.gives = (shape, listed)  # type: ignore[attr-defined]
        return endpoint

    return declare


class Shown(Struct):
    """A declared object: these, beside every field of what was declared, defaults filled in."""

    id: str
    slug: str
    managed_by: Literal["api", "file"]
    source: str | None
    revision: int
    created_at: datetime
    updated_at: datetime


class ShownVote(Struct):
    """What a region says; null until it has a vote."""

    region: str
    verdict: Verdict | None
    at: datetime | None
    fresh: bool


class ShownSignal(Struct):
    """What somebody else says of a beat, until they say otherwise. `source` is `report`, or a trigger's id."""

    source: str
    fingerprint: str
    severity: Literal["warning", "critical"]
    message: str
    since: datetime
    at: datetime
    by: str
    evidence: dict[str, Any] | None


class ShownHeartbeat(Struct):
    """What a heartbeat waits for. `url` only for who may edit it; `due` is null before the first ping."""

    url: str | None
    last: datetime | None
    due: datetime | None
    missed: bool
    running: dict[str, datetime]


class ShownPing(Struct):
    """One request of a heartbeat's URL. Not `counted`: the beat was paused."""

    at: datetime
    signal: Literal["start", "success", "fail", "log"]
    code: int | None
    run: str | None
    method: str
    address: str
    agent: str
    body: str
    counted: bool


class ShownReport(Struct):
    """What follows from a report; not `decided`: nobody evaluates now, and it will count once somebody does."""

    slug: str
    stage: Stage
    since: datetime
    signals: list[ShownSignal]
    decided: bool


class ShownReason(Struct):
    """Why a bad stage opens no episode: maintenance, something below that is down or has yet to answer (`asking`), or of a
    group a bad member that is suppressed itself. No id and slug: of a page that one may not read.
    """

    kind: Literal["maintenance", "dependency", "asking", "member"]
    id: str | None
    slug: str | None


class ShownTransition(Struct):
    """The stage changed. `votes` by region, or member of a group; `suppressed_by` says why a bad one opened nothing."""

    at: datetime
    was: Stage
    stage: Stage
    votes: dict[str, Verdict]
    suppressed_by: list[ShownReason]


class ShownAdvisory(Struct):
    """A minority, of a beat's regions or a group's members, that was bad for so long that operators were told; no outage."""

    kind: Literal["minority"]
    regions: list[str]
    members: list[str]
    since: datetime


class ShownStanding(Shown):
    """What Upbeat says of a beat or group, and what stands beside its stage."""

    page: str
    stage: Stage
    since: datetime
    signals: list[ShownSignal]
    paused: bool
    paused_until: datetime | None
    suppressed_by: list[ShownReason]
    flapping: bool
    advisories: list[ShownAdvisory]
    episode: str | None


class ShownBeat(ShownStanding):
    """A beat, with what Upbeat says of it."""

    type: str
    group: str | None
    votes: list[ShownVote]
    ping: ShownHeartbeat | None


class ShownSick(Struct):
    """Since when its votes do not count, and why."""

    since: datetime
    why: str


class ShownRegion(Shown):
    """A region; `sick` while it is suspended."""

    sick: ShownSick | None


class ShownNeed(Struct):
    """How many members it takes for a stage, and to say anything; `available`: how many say something."""

    critical: int
    warning: int
    min_voters: int
    available: int


class ShownMember(Struct):
    """A beat that names the group. Not `counts`: it is paused, or has yet to join, which it does when it is ok."""

    id: str
    slug: str
    stage: Stage
    since: datetime
    suppressed: bool
    counts: bool


class ShownSpan(Struct):
    """A stretch of time."""

    start: datetime
    end: datetime


class ShownAnnouncement(Struct):
    """What customers were told of one time of a maintenance window, and when; the newest first."""

    status: str
    text: str
    is_markdown: bool
    notify: bool
    at: datetime
    by: str


class ShownAnnounced(Struct):
    """One time of a maintenance window that customers were told of."""

    incident: str
    title: str
    status: Literal["scheduled", "in_progress", "verifying", "completed", "cancelled"]
    starts_at: datetime
    ends_at: datetime
    updates: list[ShownAnnouncement]


class ShownMaintenance(Shown):
    """A maintenance window. `next` is the time of it that runs, else the next one; null when it is over for good.

    `covers` is written as in `depends_on`: `checkout`, `group:shop`, `other-page/checkout`; beside `component:site`, which
    it names, stands what feeds that; `page:shop` is all of a page.
    """

    page: str
    active: bool
    next: ShownSpan | None
    covers: list[str]
    announced: list[ShownAnnounced]


class ShownGroup(ShownStanding):
    """A group, with what Upbeat says of it."""

    need: ShownNeed
    members: list[ShownMember]


class ShownWhy(Why, frozen=True):
    """Why a beat or group is what it is; `note` and `text`, and all of `because`, `change` and `rules`, are sentences."""

    kind: Literal["beat", "group"]
    slug: str
    title: str
    stage: Stage
    since: datetime


class ShownTimings(Struct):
    """Seconds; null for a phase that did not happen."""

    dns: float | None
    connect: float | None
    tls: float | None
    ttfb: float | None
    transfer: float | None
    total: float | None


class ShownAssertion(Struct):
    """One assertion, judged."""

    of: str
    ok: bool
    actual: Any
    message: str
    severity: Literal["warning", "critical"]
    step: str  # of a beat with steps; empty for one of the whole run


class ShownError(Struct):
    """Why a run failed; `type` equals OTLP `error.type`."""

    type: str
    message: str


class ShownTried(Struct):
    """An attempt before the last one of a run, begun `after` seconds from the run's begin."""

    after: float
    timings: ShownTimings
    error: ShownError


class ShownArtifact(Struct):
    """A file made of a run. `awaited`: it is on its way; `gone`: too old, or lost. Only one that is `kept` can be read."""

    name: str
    type: str
    size_bytes: int
    sha256: str | None
    state: Literal["kept", "awaited", "gone"]
    href: str | None


class ShownArtifacts(Struct):
    """The files that are kept of a run."""

    items: list[ShownArtifact]


class ShownResult(Struct):
    """One run."""

    run: str
    verdict: Verdict
    kind: Kind
    region: str
    at: datetime
    scheduled_at: datetime
    attempts: int
    timings: ShownTimings
    tried: list[ShownTried]
    assertions: list[ShownAssertion]
    error: ShownError | None
    evidence: dict[str, Any] | None
    artifacts: list[ShownArtifact]
    certificate_days: float | None
    trace_id: str | None
    request: str | None


class ShownQuantiles(Struct):
    """Seconds, at most 1 % off."""

    p50: float
    p75: float
    p90: float
    p95: float
    p99: float


class ShownRun(Struct):
    """The newest run: when it ended, and what it said."""

    at: datetime
    verdict: Verdict


class ShownSum(Struct):
    """Scheduled runs counted. `runs_up_ratio` is the share that was not critical, of those that say anything of the target."""

    runs: int
    ok: int
    warning: int
    critical: int
    error: int
    runs_up_ratio: float | None
    errors: dict[str, int]
    last: ShownRun | None
    quantiles: dict[str, ShownQuantiles]


class ShownRegionSum(ShownSum):
    """Of one region."""

    region: str


class ShownSummary(Struct):
    """Scheduled runs from `since` on, of all regions together and of each."""

    since: datetime
    all: ShownSum
    regions: list[ShownRegionSum]


class ShownParts(Struct):
    """Seconds, or runs: those that were up, down, of which nothing is known, and left out for maintenance."""

    up: float
    down: float
    unknown: float
    maintenance: float


class ShownShare(Struct):
    """`uptime` is up / (up + down), null where nothing is known. Runs where it is by requests, else seconds."""

    uptime: float | None
    seconds: ShownParts | None
    runs: ShownParts | None


class ShownBar(ShownShare):
    """A step, and the worst that is known of it: a stage, or by `manual` a status."""

    start: datetime
    end: datetime
    worst: str | None


class ShownUptime(ShownShare):
    """All from `since` to `until`; by requests up to `resolution_s` of either end may be counted beyond it, or not at all."""

    since: datetime
    until: datetime
    by: UptimeBy
    down: list[str]
    exclude_maintenance: bool
    resolution_s: int
    bars: list[ShownBar]


class ShownImpact(Struct):
    """A component, and what it is shown as."""

    page: str
    slug: str
    name: str
    status: ComponentStatus


class ShownReplayEpisode(Struct):
    """One episode in a replay. With `could_open` it opened between then and `opened`: nobody has runs of a round that was asked."""

    opened: datetime
    could_open: datetime | None
    closed: datetime | None
    severity: Literal["warning", "critical"]


class ShownTurn(Struct):
    """From when on a stage holds."""

    at: datetime
    stage: Stage


class ShownOutcome(Struct):
    """What one policy makes of a beat or group: seconds by stage, what operators would be told by kind, rounds without runs."""

    episodes: list[ShownReplayEpisode]
    opened: int
    down_s: float
    warning_s: float
    unknown_s: float
    told: dict[str, int]
    rounds: int
    unanswered: int
    turns: list[ShownTurn]
    is_cut: bool
    digest: str


class ShownTogether(Struct):
    """Places of episodes that are of one outage."""

    old: list[int]
    new: list[int]


class ShownMoved(Struct):
    """An episode of both policies; seconds, negative is sooner."""

    old: int
    new: int
    opens_later_s: float
    closes_later_s: float | None


class ShownCompared(Struct):
    """Episodes of the old policy beside those of the new one, by their places."""

    only_old: list[int]
    only_new: list[int]
    merged: list[ShownTogether]
    split: list[ShownTogether]
    moved: list[ShownMoved]


class ShownReplayed(Struct):
    """A beat or group under its own policy and under another one."""

    id: str
    slug: str
    kind: Literal["beat", "group"]
    old: ShownOutcome
    new: ShownOutcome
    compared: ShownCompared


class ShownRetraced(Struct):
    """Whether the log of a beat or group leads to what is stored; hashes of both states."""

    id: str
    slug: str
    kind: Literal["beat", "group"]
    is_same: bool
    stored: str
    replayed: str
    differs: list[str]
    reason: str | None
    facts: int
    results: int


class ShownJob(Struct):
    """A replay or preview: how far it is (`done`, 0 to 1)."""

    id: str
    status: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: float
    rows: int
    by: str
    at: datetime
    finished_at: datetime | None
    asked: dict[str, Any]
    error: str | None


class ShownReplay(ShownJob):
    """A replay, and in the end what it found."""

    replayed: list[ShownReplayed] | None
    retraced: list[ShownRetraced] | None
    digest: str | None
