"""The shapes of actions in JSON."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from api.shapes import ShownImpact
from evaluators.facts import Of
from evaluators.review import Status
from rules.component import ComponentStatus
from rules.incident import Step


class ShownChange(Struct):
    """A component, what it is shown as now, and what it is once the action is published."""

    page: str
    slug: str
    name: str
    before: ComponentStatus
    after: ComponentStatus


class ShownSaying(Struct):
    """Where it goes, and what is said there. `target`: a publisher, or `page`, the page itself; `notes`: what is lost."""

    target: str
    is_chosen: bool
    title: str
    text: str
    is_cut: bool
    notes: list[str]


class ShownDelivered(Struct):
    """What came of it at one target."""

    target: str
    status: Literal["pending", "done", "dead", "dropped"]
    attempts: int
    last_error: str | None
    finished_at: datetime | None
    is_gone: bool  # somebody removed the incident there by hand


class ShownApproval(Struct):
    """Who approved this revision."""

    by: str
    at: datetime


class ShownOriginal(Struct):
    """What was proposed before people changed it."""

    title: str
    text: str
    components: list[ShownImpact]
    is_markdown: bool


class ShownStillOpen(Struct):
    """Where an incident is still shown as open though what it is about is over. `target`: a publisher, or `page`."""

    target: str
    why: str


class ShownAction(Struct):
    """A public-facing step and its review. `told`: channels that hear what becomes of it."""

    id: str
    revision: int
    step: Step
    of: Of  # of an update: what is new
    status: Status
    owner: str | None
    owner_kind: Literal["beat", "group"] | None
    owner_name: str | None
    page: str
    episode: str | None
    severity: Literal["warning", "critical"]
    title: str
    text: str
    is_markdown: bool
    notify: bool
    components: list[ShownImpact]
    impact: list[ShownChange]
    evidence: list[dict[str, Any]]
    warnings: list[str]
    original: ShownOriginal | None
    incident: str | None
    targets: list[ShownSaying]
    told: list[str]
    deliveries: list[ShownDelivered]
    still_open: list[ShownStillOpen]
    approvals: list[ShownApproval]
    approvals_needed: int
    asked_by: str | None
    created_at: datetime
    expires_at: datetime | None
    escalated_at: datetime | None
    escalations: int
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None


class ShownTally(Struct):
    """What people made of what a beat, group or trigger proposed."""

    proposed: int
    approved_unedited: int
    approved_edited: int
    rejected: int
    expired: int
