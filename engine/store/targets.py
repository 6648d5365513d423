"""How channels and publishers are doing: when one last took something, since when it does not, whether it is gone for good."""

from collections.abc import Sequence
from uuid import UUID

from engine.store.database import Connection, Row
from engine.store.outbox import HELD


async def well(connection: Connection, target_id: UUID, now: float) -> None:
    """It took something."""
    await connection.execute(
        "INSERT INTO targets (target_id, ok_at) VALUES ($1, to_timestamp($2)) ON CONFLICT (target_id) DO UPDATE "
        "SET ok_at = excluded.ok_at, failures = 0, error = NULL, stopped_at = NULL",
        target_id,
        now,
    )


async def ill(connection: Connection, target_id: UUID, now: float, reason: str, *, is_gone: bool) -> None:
    """It did not. `is_gone`: it never will, and is not asked again until it is edited or tested."""
    await connection.execute(
        "INSERT INTO targets AS t (target_id, failed_at, error, failures, stopped_at) "
        "VALUES ($1, to_timestamp($2), $3, 1, CASE WHEN $4 THEN to_timestamp($2) END) ON CONFLICT (target_id) DO UPDATE "
        "SET failed_at = excluded.failed_at, error = excluded.error, failures = t.failures + 1, "
        "stopped_at = coalesce(excluded.stopped_at, t.stopped_at)",
        target_id,
        now,
        reason[:500],
        is_gone,
    )


async def resume(connection: Connection, target_id: UUID) -> None:
    """It is asked again: it was edited, or took a test. Where nothing is to wait any more, nothing does."""
    await connection.execute("UPDATE targets SET stopped_at = NULL WHERE target_id = $1", target_id)
    await connection.execute(
        "UPDATE outbox o SET waits = NULL, due_at = least(o.due_at, now()) FROM objects t WHERE t.id = $1 AND o.target_id = t.id "
        "AND o.status = 'pending' AND o.waits IS NOT NULL AND o.begun_at IS NULL AND coalesce(t.spec->>'hours', t.spec->>'after') IS NULL",
        target_id,
    )


async def health(connection: Connection, pages: Sequence[UUID] | None, only: UUID | None = None) -> list[Row]:
    """Of the channels and publishers of these pages: how they are, and what waits for them or was given up."""
    return await connection.fetch(
        "SELECT o.id, o.kind, o.slug, p.slug AS page, t.ok_at, t.failed_at, t.error, coalesce(t.failures, 0) AS failures, "
        "t.stopped_at, n.pending, n.dead, n.oldest_at FROM objects o JOIN objects p ON p.id = o.page_id "
        "LEFT JOIN targets t ON t.target_id = o.id CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE status = 'pending') AS pending, "
        " count(*) FILTER (WHERE status = 'dead') AS dead, min(created_at) FILTER (WHERE status = 'pending' "
        f" AND NOT ({HELD})) AS oldest_at "
        " FROM outbox WHERE target_id = o.id AND status IN ('pending', 'dead')) n "
        "WHERE o.kind IN ('channel', 'publisher') AND o.removed_at IS NULL AND ($1::uuid[] IS NULL OR o.page_id = ANY ($1)) "
        "AND ($2::uuid IS NULL OR o.id = $2) ORDER BY o.kind, p.slug, o.slug",
        pages,
        only,
    )
