"""The audit log: who changed what, by which surface, before and after. Secrets are cut before they are written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from engine.store.database import Connection, Row
from rules.secret import is_secret_name, references

Surface = Literal["console", "api", "cli", "file", "slack", "policy"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person (or `policy`), through a surface, perhaps with a token."""

    name: str
    surface: Surface
    key_id: str | None = None


_CREDENTIALS: Final = re.compile(r"(?<=:)//[^/?#\s@]+@")  # in the URL of a proxy
POLICY = Actor("policy", "policy")


async def record(
    connection: Connection,
    actor: Actor,
    verb: str,
    object_name: str,
    page_id: UUID | None = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Write one line, in the caller's transaction: it is there exactly when the change is."""
    await connection.execute(
        "INSERT INTO audit (actor, surface, key_id, verb, object, page_id, before, after) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        actor.name,
        actor.surface,
        actor.key_id,
        verb,
        object_name,
        page_id,
        redact(before),
        redact(after),
    )


async def listing(
    connection: Connection, *, pages: list[UUID] | None = None, before_id: int | None = None, limit: int = 100
) -> list[Row]:
    """Newest first, of these pages (None: everything)."""
    return await connection.fetch(
        "SELECT * FROM audit WHERE ($1::uuid[] IS NULL OR page_id = ANY ($1)) AND ($2::bigint IS NULL OR id < $2) "
        "ORDER BY id DESC LIMIT $3",
        pages,
        before_id,
        limit,
    )


def redact(value: Any, key: str = "") -> Any:
    """`value` with whatever looks like a secret by its key replaced by `***`; references stay."""
    if isinstance(value, Mapping):
        # A Slack incoming webhook's URL is its password, and so is what a journey fills into a field that is called so.
        words = [one for name, one in value.items() if name != "value" and isinstance(one, str)]
        hidden = {
            "url": value.get("type") == "slack",
            "value": key == "fill" and any(map(is_secret_name, words)),
        }
        return {
            name: redact(inner, "secret" if hidden.get(name) else str(name)) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [redact(inner, key) for inner in value]
    if not isinstance(value, str) or any(references(value)):
        return value
    return "***" if is_secret_name(key) else _CREDENTIALS.sub("//***@", value)
