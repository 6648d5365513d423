"""What the API answers about inboxes, received events and triggers, for its description. Nothing is made of these."""

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from api.shapes import Shown
from evaluators.event import Form
from evaluators.matching import Ignored, Says, Traced
from evaluators.trigger import Kind
from rules.incident import Mode

Verdict = Literal["error", "matched", "ignored", "unmatched", "waiting"]


class ShownInboxToken(Struct):
    """What opens an inbox; `hint` is how it ends."""

    id: str
    hint: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None


class ShownInbox(Shown):
    """An inbox. `events_24h` counts to 10,000. `token` only when it is created, and never again."""

    page: str
    tokens: list[ShownInboxToken]
    ingest_url: str
    events_24h: int
    last_event_at: datetime | None
    token: str | UnsetType = UNSET


class ShownIssued(Struct):
    """A new token, told this once; `ingest_url` has it in it, for senders that set no header. `expires_at`: of the one before."""

    id: str
    token: str
    ingest_url: str
    expires_at: datetime | None


class ShownJudged(Struct):
    """What became of an item of an event, by one trigger at one revision."""

    trigger: str
    slug: str
    revision: int
    kind: Kind
    index: int
    reason: str
    fingerprint: str
    severity: Literal["warning", "critical"] | None


class ShownEvent(Struct):
    """A received event. `repeats`: how often the same body came again. `excerpt`: its begin, or what was searched for."""

    id: str
    received_at: datetime
    form: Form
    size_bytes: int
    address: str
    delivery: str | None
    is_signed: bool
    tested_by: str | None
    repeats: int
    verdict: Verdict
    outcomes: list[ShownJudged]
    excerpt: str


class ShownReceived(ShownEvent):
    """An event with all that people are shown of it: what looks like a secret is `***`, and `hidden` says where.

    `document` is the body taken apart; where it could not be, `text` is the body and `trouble` says why.
    """

    inbox: str
    headers: list[list[str]]
    query: str
    document: Any
    text: str | None
    trouble: str | None
    hidden: list[str]
    unwrappable: list[str]
    sender: str | None


class ShownItem(Struct):
    """One item of an event, as a trigger saw it."""

    index: int
    says: Says | None
    ignored: Ignored | None
    error: str
    fingerprint: str
    at: datetime | None
    message: str
    trace: list[Traced]


class ShownSeen(Struct):
    """What a rule sees in an event, and why; `error` is of the event as a whole."""

    error: str
    is_truncated: bool
    items: list[ShownItem]


class ShownTrace(ShownSeen):
    """Why a trigger made of an event what it did, at the revision that judged it."""

    trigger: str
    slug: str
    revision: int


class ShownSender(Struct):
    """A known sender: where its maker tells of it, where the token goes there, and a trigger but for slug, inbox and target."""

    sender: str
    title: str
    docs: str
    help: str
    body: str
    signature: str | None
    trigger: dict[str, Any]


class ShownDetected(Struct):
    """A sender that an event may be from, and how sure that is, up to 1; its trigger lacks slug, inbox and target."""

    sender: str
    title: str
    score: float
    trigger: dict[str, Any]


class ShownFired(Struct):
    """The event that was fired."""

    id: str


class ShownModes(Struct):
    """What may be said in public on its word, step by step."""

    open: Mode
    update: Mode
    resolve: Mode


class ShownPromoted(Struct):
    """Who let it speak by itself, and of which rule; not `holds`: the rule was changed since, and it is void."""

    by: str
    at: datetime
    steps: list[Literal["open", "update", "resolve"]]
    record: dict[str, Any]
    holds: bool


class ShownTrigger(Shown):
    """A trigger. `sentence` is the rule in English; `effective` is what counts of `incidents`: `auto` waits for a promotion."""

    page: str
    inbox: str
    sentence: str
    effective: ShownModes
    promoted: ShownPromoted | None
    open_signals: int
    last_matched_at: datetime | None
    counts: dict[str, int]


class ShownVersion(Struct):
    """A version of a trigger; `sentence` is that rule in English."""

    revision: int
    by: str
    at: datetime
    spec: dict[str, Any]
    sentence: str


class ShownOpen(Struct):
    """An open signal of a trigger; `target` is the beat or group that it is about."""

    fingerprint: str
    severity: Literal["warning", "critical"]
    since: datetime
    event: str | None
    message: str
    target: str | None


class ShownRecord(Struct):
    """What a trigger did since it has this rule. Not `may_promote`: `why_not` says what is missing. `record` names what was read."""

    since: datetime | None
    matches: int
    opened: int
    resolved: int
    errors: int
    real_firings: int
    real_recoveries: int
    approved_unedited: int
    approved_edited: int
    rejected: int
    expired: int
    may_promote: bool
    why_not: str | None
    record: str
