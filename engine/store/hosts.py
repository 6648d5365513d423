"""Pages and host names that lead to them: whose owner proved it. How that is looked up is the caller's."""

from datetime import datetime
from uuid import UUID

from engine.store.database import Connection


async def known(connection: Connection) -> dict[str, list[str]]:
    """The slug of each page, with the host name that it names and whose owner proved it."""
    rows = await connection.fetch(
        "SELECT p.slug, array_remove(array_agg(h.host), NULL) AS hosts FROM objects p LEFT JOIN hosts h ON h.page_id = p.id "
        "AND h.host = p.spec->>'domain' WHERE p.kind = 'page' AND p.removed_at IS NULL GROUP BY p.slug"
    )
    return {row["slug"]: row["hosts"] for row in rows}


async def verified_at(connection: Connection, host: str, page_id: UUID) -> datetime | None:
    """When it was last proved that it leads to this page."""
    at: datetime | None = await connection.fetchval(
        "SELECT verified_at FROM hosts WHERE host = $1 AND page_id = $2", host, page_id
    )
    return at


async def verify(connection: Connection, host: str, page_id: UUID, now_s: float) -> None:
    """It leads to this page from now on: who holds the name now decides, whoever did before."""
    await connection.execute(
        "INSERT INTO hosts (host, page_id, verified_at) VALUES ($1, $2, to_timestamp($3)) "
        "ON CONFLICT (host) DO UPDATE SET page_id = $2, verified_at = to_timestamp($3)",
        host,
        page_id,
        now_s,
    )
