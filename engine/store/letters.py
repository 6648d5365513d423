"""Letters on their way: one of a broadcast for one subscriber, or one for one address alone. Which are due, and what came of them.

How they are sent is `engine.mailing`'s; what they say is put together here, of what holds when they leave.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, NamedTuple, get_args
from uuid import UUID

from msgspec import convert, to_builtins
from msgspec.structs import replace

from engine.store.database import Connection, Pool, Row, transaction
from engine.store.outbox import HOLD_S
from evaluators.model import Letter
from rules.page import SubscriberKind

STALE_DAYS: Final = 3
"""Old news: what waited for so long, for a relay or an answer, is not sent any more."""


async def put_single(
    connection: Connection,
    page_id: UUID,
    kind: SubscriberKind,
    address: str,
    letter: Letter,
    *,
    link: str,
    language: str | None = None,
    subscriber: UUID | None = None,
) -> None:
    """Send one address alone this letter (`confirm`, `entrance`) with the URL `link` that it asks to open.

    It goes before what a page's subscribers are told. `subscriber`: who is to confirm. `language` None: the page's first.
    """
    await connection.execute(
        "INSERT INTO letters (page_id, kind, address, item, subscriber_id, line) VALUES ($1, $2, $3, $4, $5, $6)",
        page_id,
        kind,
        address,
        {"letter": to_builtins(letter), "link": link, "language": language},
        subscriber,
        letter.id,
    )


@asynccontextmanager
async def working(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction in which queries are planned anew: a plan kept since there were few letters looks at all of many for each."""
    async with transaction(pool) as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        yield connection


async def claim(connection: Connection, kind: SubscriberKind, limit: int, now: float) -> list[Row]:
    """Begin up to `limit` due letters of this kind, in turn of each page, those of one line one after the other.

    Of which nobody writes down what came of it, it may have arrived.
    """
    free = f"l.status = 'pending' AND (l.tried_at IS NULL OR l.tried_at <= to_timestamp($3) - interval '{HOLD_S} s')"
    return await connection.fetch(
        "WITH RECURSIVE each AS ((SELECT page_id FROM letters WHERE status = 'pending' AND kind = $1 ORDER BY page_id LIMIT 1) "
        "UNION ALL SELECT (SELECT l.page_id FROM letters l WHERE l.status = 'pending' AND l.kind = $1 "
        " AND l.page_id > each.page_id ORDER BY l.page_id LIMIT 1) FROM each WHERE each.page_id IS NOT NULL), "
        "heads AS (SELECT h.id FROM each CROSS JOIN LATERAL (SELECT l.id, row_number() OVER () AS nth FROM "
        f" (SELECT l.id FROM letters l WHERE l.kind = $1 AND l.page_id = each.page_id AND {free} "
        "  AND l.due_at <= to_timestamp($3) AND (l.subscriber_id IS NULL OR l.id = (SELECT e.id FROM letters e "
        "   WHERE e.subscriber_id = l.subscriber_id AND e.line = l.line AND e.status = 'pending' "
        "   ORDER BY e.subscriber_id, e.line, e.id LIMIT 1)) "
        "  ORDER BY l.broadcast_id IS NOT NULL, l.due_at, l.id LIMIT $2) l) h ORDER BY h.nth LIMIT $2), "
        f"begun AS (UPDATE letters l SET tried_at = to_timestamp($3) FROM heads WHERE l.id = heads.id AND {free} RETURNING l.*) "
        "SELECT l.id, l.page_id, l.kind, l.broadcast_id, l.subscriber_id, l.item, l.attempts, "
        "coalesce(l.address, s.address) AS address, s.status, s.token, s.language "
        "FROM begun l LEFT JOIN subscribers s ON s.id = l.subscriber_id ORDER BY l.id",
        kind,
        limit,
        now,
    )


async def pages(connection: Connection, which: Collection[UUID]) -> dict[UUID, Row]:
    """Those of these pages that are there, each with its host name where it has one of its own."""
    rows = await connection.fetch(
        "SELECT p.id, p.slug, p.spec, h.host FROM objects p LEFT JOIN hosts h ON h.page_id = p.id "
        "AND h.host = p.spec->>'domain' WHERE p.id = ANY ($1) AND p.removed_at IS NULL",
        which,
    )
    return {row["id"]: row for row in rows}


async def told(
    connection: Connection, which: Collection[tuple[UUID | None, UUID]]
) -> dict[tuple[UUID, UUID], Row]:
    """What these broadcasts say to subscribers of these pages, for `worded`; nothing of a removed incident."""
    rows = await connection.fetch(
        "SELECT n.id, n.page_id, b.item, i.title, u.text, u.is_markdown, (SELECT jsonb_object_agg(c.id, c.spec->>'name') "
        " FROM objects c WHERE c.kind = 'component' AND c.page_id = n.page_id AND c.removed_at IS NULL "
        " AND coalesce((c.spec->>'listed')::bool, true) AND b.item->'components' ? c.id::text) AS names "
        "FROM unnest($1::uuid[], $2::uuid[]) AS n (id, page_id) JOIN broadcasts b ON b.id = n.id "
        "LEFT JOIN incidents i ON i.id = b.incident_id LEFT JOIN updates u ON u.id = b.update_id "
        "WHERE b.kind = 'message' OR i.removed_at IS NULL AND u.id IS NOT NULL",
        *map(list, zip(*which, strict=True)),
    )
    return {(row["id"], row["page_id"]): row for row in rows}


def worded(row: Row) -> Letter:
    """The letter as it is worded now. A page names no component but those of its own that it shows."""
    letter, names = convert(row["item"], Letter), row["names"] or {}
    if row["title"] is None:
        return letter
    said = {names[key]: status for key, status in letter.components.items() if key in names}
    now = {name: row[name] for name in ("title", "text", "is_markdown")}
    return replace(letter, components=said, **now)


class Fate(NamedTuple):
    """What came of a try. `pending`: again at `due_at` (seconds since the epoch); `counts`: as one of its tries."""

    id: int
    status: Literal["pending", "done", "dead", "dropped"]
    reason: str | None = None
    due_at: float | None = None
    counts: bool = True


async def settle(connection: Connection, fates: Sequence[Fate]) -> None:
    """Write down what came of these. What was sent is sent, whatever was taken back meanwhile."""
    await connection.execute(
        "WITH settled AS (UPDATE letters l SET status = n.status, last_error = n.reason, attempts = attempts + n.counts::int, "
        "tried_at = NULL, due_at = coalesce(to_timestamp(n.due_at), l.due_at), "
        "finished_at = CASE WHEN n.status <> 'pending' THEN now() END "
        "FROM unnest($1::bigint[], $2::text[], $3::text[], $4::float8[], $5::bool[]) AS n (id, status, reason, due_at, counts) "
        "WHERE l.id = n.id AND (l.status = 'pending' OR n.status = 'done') RETURNING l.*) "
        # what cannot leave before it is not looked at before
        "UPDATE letters n SET due_at = l.due_at FROM settled l WHERE l.status = 'pending' AND n.subscriber_id = l.subscriber_id "
        "AND n.line = l.line AND n.id > l.id AND n.status = 'pending' AND n.due_at < l.due_at",
        *map(list, zip(*fates, strict=True)),
    )


async def expire(connection: Connection) -> int:
    """Give up what could not leave for `STALE_DAYS`; returns how many."""
    done: str = await connection.execute(
        "UPDATE letters SET status = 'dead', last_error = $1, finished_at = now() WHERE status = 'pending' "
        "AND created_at < now() - make_interval(days => $2)",
        f"it could not be sent for {STALE_DAYS} days",
        STALE_DAYS,
    )
    return int(done.rpartition(" ")[2])


async def kinds(connection: Connection) -> set[SubscriberKind]:
    """Of which kinds there are letters that wait."""
    rows = await connection.fetch(
        "SELECT kind FROM unnest($1::text[]) AS k (kind) WHERE EXISTS "
        "(SELECT FROM letters l WHERE l.kind = k.kind AND l.status = 'pending')",
        get_args(SubscriberKind),
    )
    return {row["kind"] for row in rows}


async def waiting(connection: Connection) -> dict[str, tuple[int, float]]:
    """By kind: how many letters wait, and seconds since the oldest of them was written."""
    rows = await connection.fetch(
        "SELECT kind, count(*) AS n, extract(epoch FROM now() - min(created_at))::float8 AS age_s FROM letters "
        "WHERE status = 'pending' GROUP BY kind"
    )
    return {row["kind"]: (row["n"], row["age_s"]) for row in rows}
