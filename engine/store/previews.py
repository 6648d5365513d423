"""Previews as they are stored (`engine.store.jobs`): which rules are to be tried on what. What is found is `evaluators.preview`'s."""

from collections.abc import Collection
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from engine.store.database import Connection

SAMPLE: Final = "sample"
"""What pasted samples are called, with their number behind it."""


class Side(Struct):
    """A rule that is tried, with the target of its signals as it is declared; None where that is yet to be made."""

    rule: dict[str, Any]
    kind: Literal["beat", "group"] = "beat"
    target: dict[str, Any] | None = None
    components: list[str] = []  # names of those that the target feeds
    members: int = 0


class Sample(Struct):
    """A delivery that somebody pasted."""

    at: float
    headers: list[tuple[str, str]]
    query: str
    body: bytes


class Plan(Struct):
    """What is to be tried: one rule, or two beside each other. `hidden`: paths of the inbox that people are not shown."""

    sides: list[Side]
    inbox: UUID | None  # whose stored events it is over; None: samples alone
    hidden: list[str]
    since: float
    until: float
    samples: list[Sample]


decode_plan: Final = msgspec.json.Decoder(Plan).decode
"""A `plan` column read as text."""


async def component_names(connection: Connection, page_id: UUID | None, paths: Collection[str]) -> list[str]:
    """What the components are called that an object of this page feeds by these paths."""
    rows = await connection.fetch(
        "SELECT c.spec->>'name' AS name FROM objects c JOIN objects p ON p.id = c.page_id WHERE c.kind = 'component' "
        "AND c.removed_at IS NULL AND (c.page_id = $1 AND c.slug = ANY ($2) OR p.slug || '/' || c.slug = ANY ($2)) "
        "ORDER BY c.slug",
        page_id,
        list(paths),
    )
    return [row["name"] for row in rows]
