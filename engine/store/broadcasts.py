"""What subscribers are told: queued in the transaction that says it. Its letters are written and sent by `engine.mailing`."""

from collections.abc import Iterable
from uuid import UUID

from msgspec import to_builtins

from engine.store.database import Connection
from engine.store.ids import new_id, show
from evaluators.lifecycle import impact_of
from evaluators.model import Letter

_HEARS: str = "s.status = 'active' AND (s.components IS NULL OR s.components && $2::uuid[])"


async def queue(connection: Connection, incident: UUID, update: UUID, by: str) -> None:
    """Tell this update to subscribers of its page, and of pages whose components the incident ever named; once."""
    row = await connection.fetchrow(
        "SELECT i.*, u.text, u.is_markdown, u.at, u.status AS said FROM incidents i JOIN updates u ON u.incident_id = i.id "
        "WHERE i.id = $1 AND u.id = $2",
        incident,
        update,
    )
    assert row is not None
    components = await connection.fetch(
        "SELECT id::text, page_id, spec->>'name' AS name FROM objects WHERE id = ANY ($1) AND removed_at IS NULL "
        "AND coalesce((spec->>'listed')::bool, true)",
        row["named"],
    )
    names = {found["id"]: found["name"] for found in components}
    letter = Letter(
        kind="update",
        id=show("update", update),
        at=row["at"].timestamp(),
        title=row["title"],
        text=row["text"],
        is_markdown=row["is_markdown"],
        incident=show("incident", incident),
        of=row["kind"],
        status=row["said"],
        impact=impact_of(row["severity"], row["components"].values(), row["impact"]),
        components={names[key]: status for key, status in row["components"].items() if key in names},
        began_at=row["created_at"].timestamp(),
        starts_at=row["starts_at"].timestamp() if row["starts_at"] else None,
        ends_at=row["ends_at"].timestamp() if row["ends_at"] else None,
    )
    await connection.execute(
        "INSERT INTO broadcasts (id, page_id, pages, kind, incident_id, update_id, components, item, by) "
        "VALUES ($1, $2, $3, 'update', $4, $5, $6, $7, $8) ON CONFLICT (update_id) DO NOTHING",
        new_id(),
        row["page_id"],
        list({row["page_id"], *(found["page_id"] for found in components)}),
        incident,
        update,
        row["named"],
        to_builtins(letter),
        by,
    )


async def audience(connection: Connection, pages: Iterable[UUID], components: Iterable[UUID]) -> int:
    """How many subscribers of these pages hear of what is about these components."""
    count: int = await connection.fetchval(
        f"SELECT count(*) FROM subscribers s WHERE s.page_id = ANY ($1) AND {_HEARS}",
        list(pages),
        list(components),
    )
    return count
