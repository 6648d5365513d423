"""Pages that are kept as files: when one is due to be written anew. Who writes it, and what, is others' to say."""

import hashlib
from typing import Final
from uuid import UUID

import msgspec

from engine.store import objects, uptime
from engine.store.database import Connection
from evaluators.lifecycle import ENDED
from evaluators.model import Refresh
from rules.duration import parse_duration_s
from rules.publishers.static import EVERY_S

LINE: Final = "page"
"""Of deliveries, each publisher's one row: a next time takes the place of one that failed."""
KINDS: Final = ("folder", "s3")
_NOW_S: Final = 0.001
_DUE: Final = (
    "INSERT INTO outbox AS o (target_id, line, key, item) VALUES ($1, $2, $2, $3) ON CONFLICT (target_id, key) DO UPDATE SET "
    "item = excluded.item, attempts = 0, due_at = now(), finished_at = NULL, status = 'pending', "
    "created_at = CASE o.status WHEN 'pending' THEN o.created_at ELSE now() END, "
    "begun_at = CASE o.status WHEN 'pending' THEN o.begun_at END, tried_at = CASE o.status WHEN 'pending' THEN o.tried_at END "
    "WHERE o.status <> 'pending' OR o.attempts > 0"
)


async def state(connection: Connection, page_id: UUID, now_s: float) -> str:
    """Which of its states a page is in: another one after whatever changes it but the measured days."""
    shown = await objects.listing(connection, "component", pages=[page_id])
    windows = await uptime.windows(connection, shown, now_s, now_s + _NOW_S)
    row = await connection.fetchrow(
        "SELECT p.revision, (SELECT string_agg(digest, ' ' ORDER BY name) FROM assets WHERE page_id = $1), "
        "(SELECT (count(*), sum(revision))::text FROM incidents WHERE page_id = $1), "
        "(SELECT (count(*), sum(revision))::text FROM incidents WHERE page_id <> $1 AND named && $2 "
        " AND status <> ALL ($3) AND removed_at IS NULL) FROM objects p WHERE p.id = $1",
        page_id,
        [component.id for component in shown],
        ENDED,
    )
    covered = sorted(str(key) for key, spans in windows.items() if spans)
    seen = repr(([(one.id, one.revision) for one in shown], covered, row and tuple(row)))
    return hashlib.sha256(seen.encode()).hexdigest()[:32]


async def look(connection: Connection, now_s: float, _: str) -> None:
    """Have pages written whose files say something else, or are as old as they may be; not again before that after a failure."""
    rows = await connection.fetch(
        "SELECT o.id, o.page_id, o.spec, coalesce(t.failures, 0) AS failures, r.remote->>'state' AS state, "
        "extract(epoch FROM r.updated_at)::float8 AS written_s, "
        "CASE WHEN t.failures > 0 AND o.updated_at <= t.failed_at THEN extract(epoch FROM t.failed_at)::float8 END AS failed_s "
        "FROM objects o LEFT JOIN targets t ON t.target_id = o.id LEFT JOIN LATERAL (SELECT remote, updated_at FROM remotes "
        " WHERE target_id = o.id ORDER BY updated_at DESC LIMIT 1) r ON true "
        "WHERE o.kind = 'publisher' AND o.removed_at IS NULL AND o.spec->>'type' = ANY ($1) "
        "AND coalesce((o.spec->>'enabled')::bool, true) AND t.stopped_at IS NULL",
        KINDS,
    )
    for row in rows:
        every_s = parse_duration_s(row["spec"].get("every", EVERY_S))
        if row["failed_s"] is not None and now_s - row["failed_s"] < every_s:
            continue
        is_old = row["written_s"] is None or now_s - row["written_s"] >= every_s
        if is_old or row["state"] != await state(connection, row["page_id"], now_s):
            await connection.execute(_DUE, row["id"], LINE, msgspec.to_builtins(Refresh(now_s)))
    await connection.execute(  # what they could not take while they took nothing
        "UPDATE outbox SET due_at = now() WHERE target_id = ANY ($1) AND status = 'pending' AND attempts > 0 "
        "AND due_at > now() AND incident_id IS NOT NULL",
        [row["id"] for row in rows if not row["failures"]],
    )
