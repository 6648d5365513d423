"""What subscribers are told: queued in the transaction that says it, written as letters afterwards. Sent by `engine.mailing`."""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from msgspec import to_builtins

from engine.store.database import Connection, Row
from engine.store.ids import new_id, show
from evaluators.lifecycle import impact_of
from evaluators.model import Letter

CHUNK: Final = 1000
"""Letters that are written at once."""
_HEARS: Final = (
    "s.status = 'active' AND ($2::uuid[] IS NULL OR s.components IS NULL OR s.components && $2::uuid[])"
)
_ON_PAGES: Final = "JOIN objects p ON p.id = s.page_id AND p.removed_at IS NULL"


async def queue(connection: Connection, incident: UUID, update: UUID, by: str) -> None:
    """Tell this update to subscribers of its page, and of pages whose components the incident ever named; once."""
    row = await connection.fetchrow(
        "SELECT i.*, u.at, u.status AS said FROM incidents i JOIN updates u ON u.incident_id = i.id "
        "WHERE i.id = $1 AND u.id = $2",
        incident,
        update,
    )
    assert row is not None
    if not (pages := await _pages(connection, row["page_id"], row["named"])):
        return
    letter = Letter(
        kind="update",
        id=show("update", update),
        at=row["at"].timestamp(),
        incident=show("incident", incident),
        of=row["kind"],
        status=row["said"],
        impact=impact_of(row["severity"], row["components"].values(), row["impact"]),
        components=row["components"],  # by id: each page names its own, as they are called when it leaves
        began_at=row["created_at"].timestamp(),
        starts_at=row["starts_at"].timestamp() if row["starts_at"] else None,
        ends_at=row["ends_at"].timestamp() if row["ends_at"] else None,
    )
    await connection.execute(
        "INSERT INTO broadcasts (id, page_id, pages, kind, incident_id, update_id, components, item, by) "
        "VALUES ($1, $2, $3, 'update', $4, $5, $6, $7, $8) ON CONFLICT (update_id) DO NOTHING",
        new_id(),
        row["page_id"],
        pages,
        incident,
        update,
        row["named"],
        to_builtins(letter),
        by,
    )


async def message(
    connection: Connection,
    page_id: UUID,
    subject: str,
    text: str,
    at: float,
    by: str,
    *,
    is_markdown: bool = False,
    components: Sequence[UUID] | None = None,
) -> Row:
    """Tell subscribers of this page something by hand; with `components`, those who hear of one of them."""
    broadcast = new_id()
    letter = Letter(
        kind="message",
        id=show("broadcast", broadcast),
        at=at,
        title=subject,
        text=text,
        is_markdown=is_markdown,
    )
    row: Row | None = await connection.fetchrow(
        "INSERT INTO broadcasts (id, page_id, pages, kind, components, item, by) "
        "VALUES ($1, $2, $3, 'message', $4, $5, $6) RETURNING *",
        broadcast,
        page_id,
        [page_id],
        list(components) if components is not None else None,
        to_builtins(letter),
        by,
    )
    assert row is not None
    return row


async def audience(connection: Connection, pages: Iterable[UUID], components: Iterable[UUID] | None) -> int:
    """How many subscribers of these pages hear of what is about these components (None: about the page)."""
    count: int = await connection.fetchval(
        f"SELECT count(*) FROM subscribers s {_ON_PAGES} WHERE s.page_id = ANY ($1) AND {_HEARS}",
        list(pages),
        list(components) if components is not None else None,
    )
    return count


async def listing(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    broadcast: UUID | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Row]:
    """Those at home on these pages (None: all), newest first (by `number`), with the page's slug and the incident's title."""
    return await connection.fetch(
        "SELECT b.*, p.slug AS page, i.title FROM broadcasts b JOIN objects p ON p.id = b.page_id AND p.removed_at IS NULL "
        "LEFT JOIN incidents i ON i.id = b.incident_id WHERE ($1::uuid[] IS NULL OR b.page_id = ANY ($1)) "
        "AND ($2::uuid IS NULL OR b.id = $2) AND ($3::bigint IS NULL OR b.number < $3) ORDER BY b.number DESC LIMIT $4",
        pages,
        broadcast,
        before,
        limit,
    )


async def progress(connection: Connection, row: Row) -> dict[str, int]:
    """How many of the letters of a broadcast are `waiting`, `sent`, `failed` and `dropped`."""
    found = row["outcome"]
    if found is None:
        rows = await connection.fetch(
            "SELECT status, count(*) AS n FROM letters WHERE broadcast_id = $1 GROUP BY 1", row["id"]
        )
        found = {each["status"]: each["n"] for each in rows}
        if row["spread_at"] is None:
            told = await audience(connection, row["pages"], row["components"])
            found["pending"] = max(told - sum(found.values()), 0) + found.get("pending", 0)
    return {
        said: found.get(status, 0)
        for said, status in (
            ("waiting", "pending"),
            ("sent", "done"),
            ("failed", "dead"),
            ("dropped", "dropped"),
        )
    }


async def spread(connection: Connection) -> int:
    """Write the next letters, `CHUNK` of the oldest broadcast of each page, in a transaction; returns how many.

    They are for who was a subscriber when it was said, and still is.
    """
    rows = await connection.fetch(
        "SELECT b.id, b.components FROM broadcasts b WHERE b.spread_at IS NULL AND NOT EXISTS (SELECT FROM broadcasts e "
        "WHERE e.page_id = b.page_id AND e.spread_at IS NULL AND e.number < b.number) ORDER BY b.number LIMIT 50 "
        "FOR UPDATE SKIP LOCKED"
    )
    written = 0
    for row in rows:
        told = await connection.fetch(
            "INSERT INTO letters (page_id, kind, broadcast_id, subscriber_id, line) "
            "SELECT s.page_id, s.kind, b.id, s.id, coalesce(b.incident_id, b.id)::text FROM broadcasts b "
            "JOIN objects p ON p.id = ANY (b.pages) AND p.removed_at IS NULL "
            f"CROSS JOIN LATERAL (SELECT * FROM subscribers s WHERE s.page_id = p.id AND {_HEARS} "
            " AND s.confirmed_at <= b.created_at AND (b.spread_to IS NULL OR s.id > b.spread_to) "
            " ORDER BY s.page_id, s.id LIMIT $3) s "
            "WHERE b.id = $1 AND NOT EXISTS (SELECT FROM incidents i WHERE i.id = b.incident_id AND i.removed_at IS NOT NULL) "
            "ORDER BY s.id LIMIT $3 RETURNING subscriber_id",
            row["id"],
            row["components"],
            CHUNK,
        )
        await connection.execute(
            "UPDATE broadcasts SET spread_to = coalesce($2, spread_to), spread_at = CASE WHEN $3 THEN now() END WHERE id = $1",
            row["id"],
            max((one["subscriber_id"] for one in told), default=None),
            len(told) < CHUNK,
        )
        written += len(told)
    return written


async def finish(connection: Connection) -> None:
    """Note of those of which nothing is left to send what came of it."""
    await connection.execute(
        "UPDATE broadcasts b SET finished_at = now(), outcome = coalesce((SELECT jsonb_object_agg(status, n) FROM "
        "(SELECT status, count(*) AS n FROM letters WHERE broadcast_id = b.id GROUP BY 1) c), '{}') "
        "WHERE finished_at IS NULL AND spread_at IS NOT NULL "
        "AND NOT EXISTS (SELECT FROM letters WHERE broadcast_id = b.id AND status = 'pending')"
    )


async def reach(connection: Connection, page_id: UUID, named: Sequence[UUID]) -> int:
    """How many would hear of an update at home on this page that names these components, as `queue` tells it."""
    return await audience(connection, await _pages(connection, page_id, named), named)


async def _pages(connection: Connection, home: UUID, named: Sequence[UUID]) -> list[UUID]:
    """On which pages that is which is said at home on this one of these components, as `views.stamps` finds it."""
    rows = await connection.fetch(
        "SELECT page_id FROM objects WHERE id = ANY ($2::uuid[]) AND removed_at IS NULL "
        "AND coalesce((spec->>'listed')::bool, true) UNION SELECT $1 WHERE $2 = '{}' OR NOT $2 <@ ARRAY(SELECT id FROM objects "
        "WHERE page_id = $1 AND kind = 'component' AND spec->>'listed' = 'false')",
        home,
        list(named),
    )
    return [row["page_id"] for row in rows]
