"""Episodes and the health of targets as JSON shows them."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Severity = Literal["warning", "critical"]


class ShownNote(Struct):
    """What somebody did with an episode, or said of it."""

    at: datetime
    by: str
    kind: Literal["comment", "acknowledged", "unacknowledged", "assigned", "escalated", "snoozed"]
    text: str


class ShownEpisode(Struct):
    """From an owner's first warning or critical to its next ok, and who looks at it."""

    id: str
    owner: str
    owner_kind: Literal["beat", "group"]
    owner_name: str | None
    page: str
    number: int
    severity: Severity
    peak: Severity
    opened_at: datetime
    closed_at: datetime | None
    cause: str | None
    frozen: bool
    flapping: bool
    reopened: int
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    assignee: str | None
    snoozed_until: datetime | None
    escalated_at: datetime | None


class ShownEpisodeWhole(ShownEpisode, kw_only=True):
    """An episode with everything people did with it."""

    notes: list[ShownNote]


class ShownHealth(Struct):
    """How a channel or publisher is doing: `new` took nothing yet, `stopped` said that it is gone for good."""

    id: str
    kind: Literal["channel", "publisher"]
    slug: str
    page: str
    state: Literal["new", "ok", "failing", "stopped"]
    ok_at: datetime | None
    failed_at: datetime | None
    error: str | None
    failures: int
    stopped_at: datetime | None
    pending: int
    dead: int
    oldest_at: datetime | None
