"""What the API answers about incidents. Nothing is made of these; see `api.shapes`."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from api.shapes import ShownImpact
from api.shown_actions import ShownStillOpen
from evaluators.model import Impact


class ShownUpdate(Struct):
    """What customers were told, and when; `components`: what they were shown as from then on."""

    id: str
    status: str
    text: str
    is_markdown: bool
    components: list[ShownImpact]
    notify: bool
    at: datetime
    by: str
    edited_at: datetime | None
    edited_by: str | None


class ShownIncidentReport(Struct):
    """What was learnt; `at`: since when it is public. It is shown while the incident is over."""

    text: str
    status: Literal["draft", "published"]
    at: datetime | None
    by: str


class ShownIncident(Struct):
    """What customers see, and who speaks. `publishers`: where it goes besides its page; null: to all."""

    id: str
    title: str
    status: Literal["investigating", "identified", "monitoring", "resolved"]
    impact: Impact
    impact_by: Literal["person", "default"]
    page: str
    episode: str | None
    owner: str | None
    owner_kind: Literal["beat", "group"] | None
    by: str
    taken_over_by: str | None
    components: list[ShownImpact]
    updates: list[ShownUpdate]
    publishers: list[str] | None
    still_open: list[ShownStillOpen]
    created_at: datetime
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    is_backfilled: bool
    merged_into: str | None
    report: ShownIncidentReport | None
    revision: int


class ShownNotified(Struct):
    """Who is told: how many subscribers of the page, and which publishers tell theirs."""

    subscribers: int
    targets: list[str]


class ShownSaid(ShownIncident):
    """An incident, and who is told what was just said of it."""

    notified: ShownNotified
