"""All domain values: what probes see, what evaluators decide, what operators and customers are shown. No behaviour."""

from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct

from rules.channels.channel import Told

PHASES = ("dns", "connect", "tls", "ttfb", "transfer", "total")


class Verdict(StrEnum):
    """What one run says. `error` is the probe's own trouble and says nothing about the target."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    ERROR = "error"


class Stage(StrEnum):
    """What Upbeat says of a beat."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """Why a run was made. `manual` runs are shown and never vote."""

    SCHEDULED = "scheduled"
    CONFIRM = "confirm"
    MANUAL = "manual"


Severity = Literal["warning", "critical"]


class Timings(Struct, frozen=True, array_like=True, gc=False):
    """Seconds per phase, not overlapping; None where the phase did not happen. `total` is the last attempt's wall time."""

    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    ttfb: float | None = None
    transfer: float | None = None
    total: float | None = None


class Failure(Struct, frozen=True, gc=False):
    """Why a run failed. `type` is from docs/reference/errors.md and equals OTLP `error.type`."""

    type: str
    message: str


class Outcome(Struct, frozen=True, omit_defaults=True, gc=False):
    """One assertion, judged. `actual` is JSON-like and cut; `message` is empty when it holds."""

    of: str
    ok: bool
    actual: Any = None
    message: str = ""
    severity: Severity = "critical"
    step: str = ""  # the step it was asserted of, where there are several
    key: str = ""  # which of its kind: the path, the name of a header, the type of a record


class Tried(Struct, frozen=True, gc=False):
    """An attempt of a run before its last one."""

    after_s: float  # from the begin of the run to the begin of this attempt
    timings: Timings
    failure: Failure


class Result(Struct, frozen=True, omit_defaults=True, gc=False):
    """One finished run, as a probe publishes it and the store keeps it. Times are seconds since the epoch, UTC.

    `at` is when the run ended by the probe's clock; the evaluator moves it into server time by the batch's `sent_at`.
    """

    run_id: str
    beat_id: str
    region: str
    kind: Kind
    verdict: Verdict
    scheduled_at: float
    at: float
    seq: int  # order within the probe's boot
    attempts: int
    timings: Timings
    outcomes: tuple[Outcome, ...] = ()
    failure: Failure | None = None
    evidence: dict[str, Any] | None = None  # status, address, headers and body excerpt of a bad run
    request: str | None = None  # the confirm round or manual request it answers
    n: int = 0  # which of the request's runs in this region, from 0
    check_version: int = 0  # version of the beat that was measured
    trace_id: str | None = None  # of the W3C traceparent that was sent, 32 hex digits
    certificate_days: float | None = None  # until the first certificate of the chain expires; negative after
    tried: tuple[Tried, ...] = ()  # the attempts before the last one
    stored: bool = True  # False for a dropped confirm run: an answer, but not a run


Impact = Literal["none", "minor", "major", "critical"]
"""How much customers feel it."""


class Batch(Struct, frozen=True, gc=False):
    """Results of one partition from one probe boot; one bus message."""

    boot_id: str
    seq: int  # of batches, per (boot, partition), from 1
    partition: int
    sent_at: float  # probe clock, seconds since the epoch
    results: tuple[Result, ...]


class ConfirmOrder(Struct, frozen=True):
    """Ask a region's probe to run a beat now and again, outside its schedule (bus message)."""

    beat_id: str
    request: str
    runs: int
    spacing_s: float
    kind: Kind = Kind.CONFIRM
    at: float = 0.0  # when it was sent: whoever answers it says the same time


class Notice(Struct, frozen=True, omit_defaults=True, tag="notice"):
    """What operators are told. Exporters turn it into each channel's own form.

    Notices of one `episode` belong together: it is the key under which outside systems pair an alert with its end.
    """

    id: str
    told: Told | Literal["test", "digest"]
    title: str
    at: float
    beat: str | None = None  # slug
    beat_title: str | None = None
    group: str | None = None  # slug of the group that says it, of itself or of `beat`, a member
    group_title: str | None = None
    page: str | None = None  # slug
    stage: Stage | None = None
    was: Stage | None = None
    severity: Severity | None = None  # of the episode, the draft or the incident it is about
    why: tuple[str, ...] = ()  # one line per region, the draft's text, or the comment
    episode: str | None = None
    since: float | None = None  # when the episode began
    action: str | None = None
    revision: int | None = None  # of the action
    incident: str | None = None
    by: str | None = None  # the person who did it
    tags: tuple[str, ...] = ()  # of the beat or group
    link: str | None = None


class Post(Struct, frozen=True, omit_defaults=True, tag="post"):
    """A step of an incident or of announced maintenance, as a publisher is to show it: the whole picture, no difference."""

    id: str  # of this step: the same in every try
    step: Literal["open", "update", "resolve", "edit", "delete"]
    incident: str  # inc_...
    kind: Literal["incident", "maintenance"]
    page: str  # slug
    title: str
    status: str  # investigating, identified, monitoring, resolved; scheduled, in_progress, verifying, completed, cancelled
    impact: Impact
    at: float
    began_at: float
    components: dict[
        str, str
    ] = {}  # page/slug -> status in public once this step is taken; all that it ever named
    others: dict[str, str] = {}  # whatever else of the page is not operational: for who shows several as one
    text: str = ""  # of the update; an edit has none
    is_markdown: bool = False
    notify: bool = True
    is_backfilled: bool = False
    starts_at: float | None = None  # of maintenance
    ends_at: float | None = None


class Letter(Struct, frozen=True, omit_defaults=True, tag="letter"):
    """What subscribers of a page are told, whoever they are. Whom it is for, and their links, are its envelope's: `Envelope`."""

    kind: Literal["update", "message", "confirm", "entrance"]
    """An update of an incident or maintenance; a message by hand; a link to confirm a subscription, or one that lets in."""
    id: str  # of the update or the message: the same in every try
    at: float
    title: str = ""
    text: str = ""
    is_markdown: bool = False
    incident: str | None = None  # inc_...
    of: Literal["incident", "maintenance"] = "incident"
    status: str = ""
    impact: Impact = "none"
    components: dict[str, str] = {}  # name in public -> status in public
    began_at: float | None = None
    starts_at: float | None = None  # of maintenance
    ends_at: float | None = None


class Envelope(Struct, frozen=True, omit_defaults=True):
    """One letter on its way to one subscriber, in their language."""

    letter: Letter
    to: str  # a mailbox, or a URL
    kind: Literal["email", "webhook", "slack"]
    key: str  # of this letter to them: the same in every try
    page: str  # its name
    page_url: str  # where it is read
    language: str
    timezone: str
    link: str = ""  # what it asks to open: the incident, to confirm, to enter
    manage_url: str = ""
    unsubscribe_url: str = ""
    sender: str | None = None
    reply_to: str | None = None
    accent: str | None = None
    secret: bytes = b""  # what a webhook is signed with


class Refresh(Struct, frozen=True, tag="refresh"):
    """A page is to be written anew by who keeps it as files, whatever changed."""

    at: float
    id: str = "page"
    title: str = "The page as it is"
    step: str = "refresh"


Item = Notice | Post | Refresh
"""What leaves for a target: notices for channels, steps of incidents and whole pages for publishers."""
