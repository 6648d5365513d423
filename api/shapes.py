"""What the API answers, for its description. Nothing is made of these; a test holds real answers against them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, TypeVar

from msgspec import Struct

from evaluators.model import Kind, Stage, Verdict
from evaluators.review import Status
from rules.component import ComponentStatus
from rules.incident import Step

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


class ShownBeat(Shown):
    """A beat, with what Upbeat says of it."""

    type: str
    page: str
    stage: Stage
    since: datetime
    votes: list[ShownVote]
    paused: bool
    paused_until: datetime | None
    episode: str | None


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


class ShownError(Struct):
    """Why a run failed; `type` equals OTLP `error.type`."""

    type: str
    message: str


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
    assertions: list[ShownAssertion]
    error: ShownError | None
    evidence: dict[str, Any] | None
    request: str | None


class ShownEpisode(Struct):
    """From a beat's first warning or critical to its next ok."""

    id: str
    owner: str
    owner_name: str | None
    page: str
    number: int
    severity: Literal["warning", "critical"]
    peak: Literal["warning", "critical"]
    opened_at: datetime
    closed_at: datetime | None
    cause: str | None
    frozen: bool


class ShownImpact(Struct):
    """A component, and what it is shown as."""

    page: str
    slug: str
    name: str
    status: ComponentStatus


class ShownDelivery(Struct):
    """One target of an action."""

    target: str
    status: str


class ShownAction(Struct):
    """A public-facing step and its review."""

    id: str
    revision: int
    step: Step
    status: Status
    owner: str
    owner_name: str | None
    page: str
    episode: str
    severity: Literal["warning", "critical"]
    title: str
    text: str
    components: list[ShownImpact]
    evidence: list[dict[str, Any]]
    incident: str | None
    deliveries: list[ShownDelivery]
    created_at: datetime
    expires_at: datetime | None
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None


class ShownUpdate(Struct):
    """What customers were told, and when."""

    id: str
    status: str
    text: str
    at: datetime
    by: str


class ShownIncident(Struct):
    """What customers see."""

    id: str
    title: str
    status: Literal["investigating", "identified", "monitoring", "resolved"]
    page: str
    episode: str | None
    components: list[ShownImpact]
    updates: list[ShownUpdate]
    created_at: datetime
    resolved_at: datetime | None
    revision: int
