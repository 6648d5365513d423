"""What the API answers about publishers. Nothing is made of these; see `api.shapes`."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

Came = Literal["delivered", "removed", "retry", "rejected"]


class ShownCheck(Struct):
    """Whether it can be used: `delivered` is yes. `lines` are for people."""

    outcome: Came
    reason: str | None
    lines: list[str]


class ShownCall(Struct):
    """A request that would be sent; the key is not shown."""

    method: str
    path: str
    body: Any


class ShownDryRun(ShownCheck):
    """What a step would become there; `lines`: what is lost on the way."""

    title: str
    text: str
    calls: list[ShownCall]


class ShownDrift(ShownCheck):
    """What is otherwise there than it was told; no `lines`: nothing."""

    incident: str
    title: str
    remote: str | None


class ShownDelivery(Struct):
    """A step on its way there."""

    id: int
    step: Literal["open", "update", "resolve", "edit", "delete"]
    status: Literal["pending", "done", "dead"]
    attempts: int
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


class ShownTarget(Struct):
    """An incident at one publisher. `remote`: what it is called there; `gone_at`: since when it is known to be removed by hand."""

    publisher: str
    remote: str | None
    gone_at: datetime | None
    is_open_there: bool
    last_error: str | None
    dead: int
    deliveries: list[ShownDelivery]


class ShownTargets(Struct):
    """An incident at every publisher it was sent to."""

    items: list[ShownTarget]


class ShownDrifts(Struct):
    """Incidents that are open at a publisher, or were within a day."""

    items: list[ShownDrift]
