"""What must leave: notices and posts, queued in the transaction that caused them, delivered at least once, in order per line."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from evaluators.model import Item

SCHEDULE_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 28800.0)
"""Seconds to wait after each failed try (about a day in all); after the last one the notice is a dead letter."""


async def put(
    connection: Connection,
    targets: Sequence[UUID],
    line: str,
    key: str,
    item: Item,
    *,
    incident: UUID | None = None,
    update: UUID | None = None,
) -> None:
    """Queue `item` for each target once: the same (target, key) again changes nothing. `line` stays in order.

    A step of an `incident` waits while an earlier one is dead: replayed, that is first.
    """
    await connection.execute(
        "INSERT INTO outbox (target_id, line, key, item, incident_id, update_id) "
        "SELECT t, $2, $3, $4, $5, $6 FROM unnest($1::uuid[]) AS t ON CONFLICT (target_id, key) DO NOTHING",
        list(targets),
        line,
        key,
        msgspec.to_builtins(item),
        incident,
        update,
    )


async def due(connection: Connection, limit: int = 100) -> list[Row]:
    """The due heads of all lines, each with its target's spec and what is remembered of its line."""
    return await connection.fetch(
        "SELECT o.id, o.target_id, o.line, o.attempts, o.item, o.begun_at, o.incident_id, o.update_id, "
        "t.slug, t.kind, t.spec, t.page_id, t.removed_at, r.remote, r.gone_at FROM outbox o "
        "JOIN objects t ON t.id = o.target_id LEFT JOIN remotes r ON r.target_id = o.target_id AND r.line = o.line "
        "WHERE o.status = 'pending' AND o.due_at <= now() "
        "AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.target_id = o.target_id AND e.line = o.line AND e.id < o.id "
        " AND (e.status = 'pending' OR e.status = 'dead' AND e.incident_id IS NOT NULL)) "
        "ORDER BY o.due_at, o.id LIMIT $1",
        limit,
    )


async def begin(connection: Connection, outbox_id: int) -> None:
    """It is tried from now on: if nobody writes down what came of it, it may have arrived all the same."""
    await connection.execute(
        "UPDATE outbox SET begun_at = coalesce(begun_at, now()) WHERE id = $1", outbox_id
    )


async def remember(
    connection: Connection, target_id: UUID, line: str, remote: Mapping[str, Any], *, is_gone: bool = False
) -> None:
    """What the next delivery of this line must know. `is_gone`: it was removed there by hand."""
    await connection.execute(
        "INSERT INTO remotes (target_id, line, remote, gone_at) VALUES ($1, $2, $3, CASE WHEN $4 THEN now() END) "
        "ON CONFLICT (target_id, line) DO UPDATE SET remote = $3, updated_at = now(), "
        "gone_at = CASE WHEN $4 THEN now() END",
        target_id,
        line,
        dict(remote),
        is_gone,
    )


async def waiting(connection: Connection) -> tuple[int, int, float]:
    """(pending notices, dead ones, seconds since the oldest pending one was queued)."""
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE status = 'pending') AS pending, count(*) FILTER (WHERE status = 'dead') AS dead, "
        "coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE status = 'pending')), 0)::float8 AS age_s "
        "FROM outbox WHERE status IN ('pending', 'dead')"
    )
    assert row is not None
    return row["pending"], row["dead"], row["age_s"]


async def delivered(connection: Connection, outbox_id: int, said: str | None = None) -> None:
    """It is over: the target has it, or (`said`) never wants it."""
    await connection.execute(
        "UPDATE outbox SET status = 'done', attempts = attempts + 1, last_error = $2, finished_at = now() WHERE id = $1",
        outbox_id,
        said,
    )
    await _settle(connection, outbox_id)


async def failed(connection: Connection, outbox_id: int, reason: str, after_s: float | None) -> None:
    """One try failed: again in `after_s` seconds, or never (None)."""
    await connection.execute(
        "UPDATE outbox SET attempts = attempts + 1, last_error = $2, "
        "status = CASE WHEN $3::float8 IS NULL THEN 'dead' ELSE 'pending' END, "
        "due_at = now() + make_interval(secs => coalesce($3, 0)), "
        "finished_at = CASE WHEN $3::float8 IS NULL THEN now() END WHERE id = $1",
        outbox_id,
        reason[:500],
        after_s,
    )
    await _settle(connection, outbox_id)


async def _settle(connection: Connection, outbox_id: int) -> None:
    """An action is done when every target has it, and failed while one of its deliveries is dead."""
    await connection.execute(
        "UPDATE actions a SET status = s.status FROM updates u, (SELECT update_id, CASE WHEN bool_or(status = 'dead') "
        "THEN 'failed' WHEN bool_or(status = 'pending') THEN 'approved' ELSE 'done' END AS status FROM outbox "
        "WHERE update_id = (SELECT update_id FROM outbox WHERE id = $1) GROUP BY update_id) s "
        "WHERE u.id = s.update_id AND a.id = u.action_id AND a.status IN ('approved', 'done', 'failed') AND a.status <> s.status",
        outbox_id,
    )


async def listing(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    status: str | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[Row]:
    """Deliveries, newest first, with the slug of their target."""
    return await connection.fetch(
        "SELECT o.*, t.slug, t.kind, t.page_id FROM outbox o JOIN objects t ON t.id = o.target_id "
        "WHERE ($1::uuid[] IS NULL OR t.page_id = ANY ($1)) AND ($2::text IS NULL OR o.status = $2) "
        "AND ($3::bigint IS NULL OR o.id < $3) ORDER BY o.id DESC LIMIT $4",
        pages,
        status,
        before_id,
        limit,
    )


async def retry(connection: Connection, actor: Actor, outbox_id: int, pages: Sequence[UUID] | None) -> bool:
    """Make a dead letter of one of these pages pending again, audited; whether there was one."""
    row = await connection.fetchrow(
        "UPDATE outbox o SET status = 'pending', attempts = 0, due_at = now(), finished_at = NULL "
        "FROM objects t WHERE o.id = $1 AND o.status = 'dead' AND t.id = o.target_id "
        "AND ($2::uuid[] IS NULL OR t.page_id = ANY ($2)) RETURNING t.slug, t.page_id",
        outbox_id,
        pages,
    )
    if row is not None:
        await _settle(connection, outbox_id)
        await record(connection, actor, "delivery.retry", f"{row['slug']} {outbox_id}", row["page_id"])
    return row is not None
