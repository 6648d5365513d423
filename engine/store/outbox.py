"""What must leave: notices and posts, queued in the transaction that caused them, delivered at least once, in order per line."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from evaluators.model import Item, Notice
from evaluators.routing import Place, Standing
from rules.channels.channel import DIGEST_OVER

SCHEDULE_S = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0)
"""Seconds to wait at least after each failed try, more than a day in all; after the last one the notice is a dead letter."""


HOLD_S: Final = 30.0
"""Seconds that a try has for itself: whoever else delivers, in a process that took over, leaves it alone for so long."""


HELD: Final = "waits IS NOT NULL AND begun_at IS NULL"
"""What waits for its hours, or for nobody to acknowledge: it may be taken back."""


class Entry(NamedTuple):
    """A notice for one channel, and when it leaves."""

    target_id: UUID
    line: str
    notice: Notice
    place: Place


_HELD_UP: Final = "now() + interval '30 days'"
"""When what waits behind a dead step is due: once that arrived (`delivered`), or never."""
_FREE: Final = f"(o.tried_at IS NULL OR o.tried_at <= to_timestamp($2) - interval '{HOLD_S} s')"


async def put_all(connection: Connection, entries: Sequence[Entry]) -> None:
    """Queue these in their order, each once: however many they are, in one go."""
    if not entries:
        return
    items = {entry.notice.id: msgspec.json.encode(entry.notice).decode() for entry in entries}
    await connection.execute(
        "INSERT INTO outbox (target_id, line, key, item, due_at, waits, last_error, status, finished_at) "
        "SELECT target_id, line, key, item::jsonb, coalesce(to_timestamp(due_at), now()), waits, dropped, "
        "CASE WHEN dropped IS NULL THEN 'pending' ELSE 'dropped' END, CASE WHEN dropped IS NOT NULL THEN now() END "
        "FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::text[], $7::text[]) "
        "WITH ORDINALITY AS n (target_id, line, key, item, due_at, waits, dropped, nth) ORDER BY nth "
        "ON CONFLICT (target_id, key) DO NOTHING",
        [entry.target_id for entry in entries],
        [entry.line for entry in entries],
        [entry.notice.id for entry in entries],
        [items[entry.notice.id] for entry in entries],
        [entry.place.due_at for entry in entries],
        [entry.place.waits for entry in entries],
        [entry.place.dropped for entry in entries],
    )


async def standings(
    connection: Connection, lines: Collection[tuple[UUID, str]]
) -> dict[tuple[UUID, str], Standing]:
    """What targets know of these lines. What may still be taken back stays so until the transaction ends."""
    if not lines:
        return {}
    rows = await connection.fetch(
        "SELECT o.target_id, o.line, o.item->>'told' AS told, "
        "CASE WHEN o.status = 'pending' AND o.begun_at IS NULL THEN o.waits END AS held "
        "FROM outbox o JOIN unnest($1::uuid[], $2::text[]) AS n (target_id, line) USING (target_id, line) "
        "WHERE o.status <> 'dropped' ORDER BY o.id FOR UPDATE OF o",
        [target for target, _ in lines],
        [line for _, line in lines],
    )
    found: dict[tuple[UUID, str], Standing] = {}
    for row in rows:
        key = row["target_id"], row["line"]
        found[key] = found.get(key, Standing()).then(row["told"], row["held"])
    return found


async def drop(connection: Connection, lines: Sequence[tuple[UUID, str, str]]) -> None:
    """Take back what waits in these (target, line), each for its reason."""
    if lines:
        await connection.execute(
            "UPDATE outbox o SET status = 'dropped', last_error = n.why, finished_at = now() "
            "FROM unnest($1::uuid[], $2::text[], $3::text[]) AS n (target_id, line, why) WHERE o.target_id = n.target_id "
            f"AND o.line = n.line AND o.status = 'pending' AND {HELD}",
            *map(list, zip(*lines, strict=True)),
        )


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
        "INSERT INTO outbox (target_id, line, key, item, incident_id, update_id, due_at) "
        "SELECT t, $2, $3, $4, $5, $6, CASE WHEN EXISTS (SELECT FROM outbox d WHERE d.target_id = t AND d.line = $2 "
        f" AND d.status = 'dead' AND d.incident_id IS NOT NULL) THEN {_HELD_UP} ELSE now() END "
        "FROM unnest($1::uuid[]) AS t ON CONFLICT (target_id, key) DO NOTHING",
        list(targets),
        line,
        key,
        msgspec.to_builtins(item),
        incident,
        update,
    )


_TARGETS: Final = (
    "WITH RECURSIVE each AS ((SELECT target_id FROM outbox WHERE status = 'pending' ORDER BY target_id LIMIT 1) UNION ALL "
    "SELECT (SELECT o.target_id FROM outbox o WHERE o.status = 'pending' AND o.target_id > each.target_id "
    " ORDER BY o.target_id LIMIT 1) FROM each WHERE each.target_id IS NOT NULL) "
)
"""Every target that something waits for, found without a look at all that waits."""


async def due(connection: Connection, limit: int, now: float) -> list[Row]:
    """Up to `limit` due heads of lines of each target, each with its target, what is remembered of its line, how much is due
    for the target in all (`waiting`, as far as it matters to a channel), and whether the line was told before, alone or in a digest.
    """
    return await connection.fetch(
        _TARGETS
        + "SELECT o.id, o.target_id, o.line, o.attempts, o.item, o.begun_at, o.incident_id, o.update_id, "
        "t.slug, t.kind, t.spec, t.page_id, t.removed_at, r.remote, r.gone_at, s.stopped_at, s.error, n.waiting, "
        "b.id IS NOT NULL AS was_told, b.digest_id FROM each JOIN objects t ON t.id = each.target_id "
        "CROSS JOIN LATERAL (SELECT count(*) AS waiting FROM (SELECT FROM outbox w WHERE w.target_id = t.id "
        " AND w.status = 'pending' AND w.due_at <= to_timestamp($2) "
        " LIMIT CASE t.kind WHEN 'channel' THEN coalesce((t.spec->>'digest_over')::int, $3) + 1 ELSE 0 END) w) n "
        "CROSS JOIN LATERAL (SELECT * FROM outbox o WHERE o.target_id = t.id AND o.status = 'pending' "
        f" AND o.due_at <= to_timestamp($2) AND {_FREE} AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.target_id = o.target_id "
        "  AND e.line = o.line AND e.id < o.id AND (e.status = 'pending' OR e.status = 'dead' AND e.incident_id IS NOT NULL)) "
        " ORDER BY o.due_at, o.id LIMIT $1) o "
        "LEFT JOIN targets s ON s.target_id = o.target_id "
        "LEFT JOIN remotes r ON r.target_id = o.target_id AND r.line = o.line "
        "LEFT JOIN LATERAL (SELECT b.id, b.digest_id FROM outbox b WHERE b.target_id = o.target_id AND b.line = o.line "
        " AND b.id < o.id AND b.status = 'done' ORDER BY b.id DESC LIMIT 1) b ON true ORDER BY o.target_id, o.due_at, o.id",
        limit,
        now,
        DIGEST_OVER,
    )


async def begin(connection: Connection, ids: Sequence[int], now: float) -> dict[int, Any]:
    """These are tried from now on: of which nobody writes down what came of it, it may have arrived all the same.

    Returns what those say by now that were not taken back meanwhile, nor begun by somebody else.
    """
    rows = await connection.fetch(
        "UPDATE outbox SET begun_at = coalesce(begun_at, to_timestamp($2)), tried_at = to_timestamp($2) WHERE id IN "
        f"(SELECT id FROM outbox o WHERE id = ANY ($1) AND status = 'pending' AND {_FREE} "
        "ORDER BY id FOR UPDATE SKIP LOCKED) RETURNING id, item",
        ids,
        now,
    )
    return {row["id"]: row["item"] for row in rows}


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
    """(pending notices, dead ones, seconds since the oldest pending one was queued that is not meant to wait)."""
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE status = 'pending') AS pending, count(*) FILTER (WHERE status = 'dead') AS dead, "
        f"coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE status = 'pending' AND NOT ({HELD}))), 0)::float8 AS age_s "
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
    await connection.execute(  # what waited behind it while it was dead
        "UPDATE outbox n SET due_at = now() FROM outbox o WHERE o.id = $1 AND o.incident_id IS NOT NULL AND n.id > o.id "
        "AND n.target_id = o.target_id AND n.line = o.line AND n.status = 'pending' AND n.due_at > now()",
        outbox_id,
    )
    await connection.execute(  # what it says of components may be over by now, unless more follows: see `posts.settle`
        "UPDATE incidents i SET posted = coalesce(o.item->'components', '{}') FROM outbox o WHERE o.id = $1 "
        "AND i.id = o.incident_id AND NOT EXISTS (SELECT FROM outbox n "
        "WHERE n.target_id = o.target_id AND n.line = o.line AND n.id > o.id AND n.status = 'pending')",
        outbox_id,
    )
    await _settle(connection, outbox_id)


async def failed(
    connection: Connection,
    outbox_id: int,
    reason: str,
    after_s: float | None,
    now: float | None = None,
    *,
    counts: bool = True,
) -> None:
    """One try failed: again in `after_s` seconds, or never (None). Not `counts`: it is none of those that are `SCHEDULE_S`."""
    await connection.execute(
        "UPDATE outbox SET attempts = attempts + $5::int, last_error = $2, tried_at = NULL, "
        "status = CASE WHEN $3::float8 IS NULL THEN 'dead' ELSE 'pending' END, "
        "due_at = coalesce(to_timestamp($4), now()) + make_interval(secs => coalesce($3, 0)), "
        "finished_at = CASE WHEN $3::float8 IS NULL THEN now() END WHERE id = $1 AND status = 'pending'",
        outbox_id,
        reason[:500],
        after_s,
        now,
        int(counts),
    )
    await connection.execute(  # what cannot leave before it is not looked at before
        f"UPDATE outbox n SET due_at = CASE o.status WHEN 'dead' THEN {_HELD_UP} ELSE o.due_at END FROM outbox o "
        "WHERE o.id = $1 AND (o.status = 'pending' OR o.status = 'dead' AND o.incident_id IS NOT NULL) "
        "AND n.target_id = o.target_id AND n.line = o.line AND n.id > o.id AND n.status = 'pending' "
        "AND n.due_at < CASE o.status WHEN 'dead' THEN now() ELSE o.due_at END",
        outbox_id,
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
    target: UUID | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[Row]:
    """Deliveries, newest first, with the slug of their target."""
    return await connection.fetch(
        "SELECT o.*, t.slug, t.kind, t.page_id FROM outbox o JOIN objects t ON t.id = o.target_id "
        "WHERE ($1::uuid[] IS NULL OR t.page_id = ANY ($1)) AND ($2::text IS NULL OR o.status = $2) "
        "AND ($3::bigint IS NULL OR o.id < $3) AND ($4::uuid IS NULL OR t.id = $4) ORDER BY o.id DESC LIMIT $5",
        pages,
        status,
        before_id,
        target,
        limit,
    )


async def retry(
    connection: Connection,
    actor: Actor,
    pages: Sequence[UUID] | None,
    *,
    outbox_id: int | None = None,
    target_id: UUID | None = None,
) -> int:
    """Make a dead letter of one of these pages pending again, or all of a target, audited; how many there were."""
    rows = await connection.fetch(
        "UPDATE outbox o SET status = 'pending', attempts = 0, due_at = now(), finished_at = NULL "
        "FROM objects t WHERE o.status = 'dead' AND t.id = o.target_id AND ($1::bigint IS NULL OR o.id = $1) "
        "AND ($2::uuid IS NULL OR t.id = $2) AND ($3::uuid[] IS NULL OR t.page_id = ANY ($3)) "
        "RETURNING o.id, t.slug, t.page_id",
        outbox_id,
        target_id,
        pages,
    )
    for row in rows:
        await _settle(connection, row["id"])
    if rows:
        which = f"{rows[0]['slug']} {rows[0]['id'] if len(rows) == 1 else f'({len(rows)} of them)'}"
        await record(connection, actor, "delivery.retry", which, rows[0]["page_id"])
    return len(rows)
