"""Host names that lead to pages: whose owner proved it. How that is looked up is the caller's."""

from uuid import UUID

from engine.store.database import Connection


async def verified(connection: Connection) -> dict[str, str]:
    """Of those that their pages still name: the slug of the page."""
    rows = await connection.fetch(
        "SELECT h.host, p.slug FROM hosts h JOIN objects p ON p.id = h.page_id "
        "WHERE p.removed_at IS NULL AND p.spec->>'domain' = h.host"
    )
    return {row["host"]: row["slug"] for row in rows}


async def verify(connection: Connection, host: str, page_id: UUID, now_s: float) -> None:
    """It leads to this page from now on: who holds the name now decides, whoever did before."""
    await connection.execute(
        "INSERT INTO hosts (host, page_id, verified_at) VALUES ($1, $2, to_timestamp($3)) "
        "ON CONFLICT (host) DO UPDATE SET page_id = $2, verified_at = to_timestamp($3)",
        host,
        page_id,
        now_s,
    )
