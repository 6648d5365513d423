"""The shapes of subscribers and broadcasts in JSON."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from rules.page import SubscriberKind


class ShownSubscriber(Struct):
    """Who is told by a page, or was. A URL is masked for who may not edit; `components` null: all of the page."""

    id: str
    page: str
    kind: SubscriberKind
    address: str
    name: str
    components: list[str] | None
    language: str | None
    status: Literal["pending", "active", "unsubscribed", "bounced"]
    source: Literal["page", "admin", "import"]
    error: str | None
    created_at: datetime
    confirmed_at: datetime | None
    unsubscribed_at: datetime | None


class ShownBadLine(Struct):
    """A line of a file, and why it cannot be taken."""

    line: int
    reason: str


class ShownImport(Struct):
    """What became of a file, or would have: `added` are told from now on, `asked` were mailed a link, `kept` are there or
    ended it themselves, `ended` did so elsewhere, `repeated` are in the file before.
    """

    dry_run: bool
    added: int
    asked: int
    kept: int
    ended: int
    repeated: int
    bad: list[ShownBadLine]


class ShownProgress(Struct):
    """Letters of a broadcast."""

    waiting: int
    sent: int
    failed: int
    dropped: int


class ShownBroadcast(Struct):
    """A message by hand, or an update of an `incident`, whose text is there; and how far it is. `components` null: all."""

    id: str
    page: str
    kind: Literal["message", "update"]
    incident: str | None
    subject: str
    text: str
    is_markdown: bool
    components: list[str] | None
    by: str
    created_at: datetime
    finished_at: datetime | None
    progress: ShownProgress


class ShownLetter(Struct):
    """A message as mail."""

    subject: str
    text: str
    html: str


class ShownBroadcastPreview(Struct):
    """How many would be told, and what they would be mailed."""

    page: str
    subscribers: int
    mail: ShownLetter
