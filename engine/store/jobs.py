"""Work that was asked for and runs elsewhere: how far it is, what was found. Kept for an hour; any node may be asked. What it is, its kind knows."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from engine.store.database import Connection, Row
from engine.store.ids import new_id

JobKind = Literal["replay", "preview"]
MOST_AT_ONCE: Final = 4
"""Of a kind, of an installation; more are refused."""
MOST_OF_ONE: Final = 2
"""Of these, that one person or token asked for: the others are for others."""
GONE_S: Final = 15.0
"""Nothing heard for so long from the node that runs it: it is no more."""
_KEPT: Final = "interval '1 hour'"


async def sweep(connection: Connection) -> None:
    """Forget the old ones, with what was pasted to be tried."""
    await connection.execute(f"DELETE FROM jobs WHERE at < now() - {_KEPT}")


async def create(
    connection: Connection,
    kind: JobKind,
    by: str,
    pages: Sequence[UUID],
    asked: Mapping[str, Any],
    plan: Any,
    workers: int = 1,
) -> UUID | None:
    """Keep a job that waits to be run; None when too many do, or too many of theirs. Old ones are forgotten."""
    await sweep(connection)
    created: UUID | None = await connection.fetchval(
        "INSERT INTO jobs (id, page_ids, by, asked, plan, workers, kind) "
        "SELECT $1, $2, $3, $4::text::json, $5::text::json, $6, $9 FROM (SELECT count(*) AS every, "
        " count(*) FILTER (WHERE by = $3) AS own FROM jobs WHERE kind = $9 AND status IN ('waiting', 'running') "
        " AND seen_at > now() - make_interval(secs => $7)) busy WHERE busy.every < $8 AND busy.own < $10 RETURNING id",
        new_id(),
        list(pages),
        by,
        msgspec.json.encode(asked).decode(),
        msgspec.json.encode(plan).decode(),
        workers,
        GONE_S,
        MOST_AT_ONCE,
        kind,
        MOST_OF_ONE,
    )
    return created


async def get(connection: Connection, kind: JobKind, job_id: UUID) -> Row | None:
    """How a job is doing, as a row, or None. `is_gone`: the node that ran it is no more."""
    return await connection.fetchrow(
        "SELECT id, page_ids, by, asked, workers, status, done, rows, found::text AS found, is_cut, error, at, finished_at, "
        "status IN ('waiting', 'running') AND seen_at < now() - make_interval(secs => $2) AS is_gone "
        f"FROM jobs WHERE id = $1 AND kind = $3 AND at > now() - {_KEPT}",
        job_id,
        GONE_S,
        kind,
    )


async def plan_of(connection: Connection, job_id: UUID) -> str:
    """What a job is to do, as JSON."""
    plan: str = await connection.fetchval("SELECT plan::text FROM jobs WHERE id = $1", job_id)
    return plan


async def progress(
    connection: Connection, job_id: UUID, done: float, rows: int, found: bytes | None, *, runs: bool
) -> bool:
    """Say how far it is, and what was found by now. Whether anybody still wants it."""
    said = await connection.execute(
        "UPDATE jobs SET done = $2, rows = $3, status = $4, found = coalesce($5::text::json, found), seen_at = now() "
        "WHERE id = $1 AND status IN ('waiting', 'running')",
        *(job_id, done, rows, "running" if runs else "waiting", found.decode() if found else None),
    )
    return said == "UPDATE 1"


async def finish(
    connection: Connection,
    job_id: UUID,
    found: bytes | None,
    rows: int | None = None,
    error: str | None = None,
    *,
    is_cut: bool = False,
) -> None:
    """Keep what was found (`is_cut`: until its time was over), or why nothing was, unless it was cancelled."""
    await connection.execute(
        "UPDATE jobs SET status = CASE WHEN $3::text IS NULL THEN 'done' ELSE 'failed' END, "
        "done = CASE WHEN $5 THEN done ELSE 1 END, found = $2::text::json, error = $3, rows = coalesce($4, rows), "
        "is_cut = $5, finished_at = now() WHERE id = $1 AND status IN ('waiting', 'running')",
        *(job_id, found.decode() if found else None, error, rows, is_cut),
    )


async def cancel(connection: Connection, job_id: UUID) -> None:
    """Nobody wants it any more: the node that runs it ends it within a second."""
    await connection.execute(
        "UPDATE jobs SET status = 'cancelled', finished_at = now() WHERE id = $1 AND status IN ('waiting', 'running')",
        job_id,
    )
