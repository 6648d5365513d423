"""Received events as people look for them and read them. Taking them in is `engine.store.inboxes`', judging them `engine.store.events`'."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from engine.store.database import Connection, Pool, Row, transaction
from engine.store.ids import read, show
from evaluators.event import Event

LOOKED_AT: Final = 1000
"""Events that one query looks at."""
LOOKED_AT_BYTES: Final = 16_000_000
TIMEOUT_S: Final = 5
MOST_COUNTED: Final = 10_000
"""Events of an inbox that are counted; there may be more."""


class Asked(NamedTuple):
    """Which events of an inbox are looked for. `search` is a text that occurs in what came, a name of a delivery or a fingerprint."""

    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None
    verdict: str | None = None
    trigger: UUID | None = None


class TooSlowError(Exception):
    """The database took too long to look through what there is."""


_EVENT: Final = (
    "c.id, c.inbox_id, c.received_at, extract(epoch FROM c.received_at)::float8 AS received, c.address, c.headers, c.query, "
    "c.body, octet_length(c.body) AS size_bytes, c.delivery, c.is_signed, c.tested_by, j.verdict, j.outcomes, j.at AS judged_at, "
    "(SELECT count(*) FROM judged r WHERE r.event_id = c.id AND r.received_at = c.received_at AND r.is_repeat) AS repeats"
)
_JUDGED: Final = (
    "LEFT JOIN LATERAL (SELECT verdict, outcomes, at FROM judged j WHERE j.event_id = c.id "
    "AND j.received_at = c.received_at AND NOT j.is_repeat ORDER BY position LIMIT 1) j ON true"
)
# Newest first, so many and of so many bytes; of those that are not meant only the last, where the next look begins.
# Texts are compared as `encode` writes bytes, which knows no encoding and so no error; and as JSON writes them in ASCII.
_LOOK: Final = (
    "WITH looked AS (SELECT *, sum(octet_length(body)) OVER w - octet_length(body) AS before, row_number() OVER w AS n "
    " FROM (SELECT * FROM events WHERE inbox_id = $1 AND ($2::timestamptz IS NULL OR received_at >= $2) "
    "  AND ($3::timestamptz IS NULL OR received_at < $3) AND ($4::timestamptz IS NULL OR (received_at, id) < ($4, $5)) "
    "  ORDER BY received_at DESC, id DESC LIMIT $6) e WINDOW w AS (ORDER BY received_at DESC, id DESC)), "
    "c AS MATERIALIZED (SELECT * FROM looked WHERE before < $7), "
    f"found AS (SELECT {_EVENT}, c.n, ($8::text IS NULL OR coalesce(j.verdict, 'waiting') = $8) "
    "  AND ($9::text IS NULL OR j.outcomes::jsonb ? $9) AND ($10::text IS NULL OR c.id = $12 "
    "   OR strpos(t.said, lower(encode(convert_to($10, 'UTF8'), 'escape'))) > 0 "
    "   OR strpos(t.said, lower(encode(convert_to($11, 'UTF8'), 'escape'))) > 0) AS is_meant "
    f" FROM c {_JUDGED} CROSS JOIN LATERAL (SELECT CASE WHEN $10::text IS NOT NULL THEN lower(concat_ws(' ', "
    "   encode(c.body, 'escape'), encode(convert_to(concat_ws(' ', c.headers::text, c.query, c.delivery, "
    "   j.outcomes::text), 'UTF8'), 'escape'))) END AS said OFFSET 0) t) "
    "SELECT * FROM found WHERE is_meant OR n = (SELECT max(n) FROM c) ORDER BY n"
)


async def look(
    pool: Pool, inbox_id: UUID, asked: Asked, before: tuple[datetime, UUID] | None, most: int = LOOKED_AT
) -> list[Row]:
    """Of the next `most` events behind `before` those that are meant, and the last one, which may not be: see `is_meant`.

    Empty when there are no more. Raises `TooSlowError`.
    """
    try:
        async with transaction(pool) as db:
            await db.execute(f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'")
            return await db.fetch(
                _LOOK,
                inbox_id,
                asked.since,
                asked.until,
                *(before or (None, None)),
                most,
                LOOKED_AT_BYTES,
                asked.verdict,
                str(asked.trigger) if asked.trigger else None,
                asked.search or None,
                json.dumps(asked.search)[1:-1],
                read("event", asked.search or ""),
            )
    except asyncpg.QueryCanceledError:
        raise TooSlowError from None


async def one(connection: Connection, event_id: UUID) -> Row | None:
    """The event with this id, and what became of it."""
    return await connection.fetchrow(f"SELECT {_EVENT} FROM events c {_JUDGED} WHERE c.id = $1", event_id)


def event_of(row: Row) -> Event:
    """A row as what judges it takes it."""
    headers = tuple((name, value) for name, value in row["headers"])
    is_test = row["tested_by"] is not None
    return Event(show("event", row["id"]), row["received"], headers, row["query"], row["body"], is_test)


async def activity(connection: Connection, inboxes: Sequence[UUID]) -> dict[UUID, Row]:
    """Of each inbox: `events_24h`, at most `MOST_COUNTED`, and `last_event_at`."""
    rows = await connection.fetch(
        "SELECT i.id, (SELECT count(*) FROM (SELECT FROM events WHERE inbox_id = i.id "
        " AND received_at > now() - interval '1 day' LIMIT $2) e) AS events_24h, (SELECT received_at FROM events "
        " WHERE inbox_id = i.id ORDER BY received_at DESC, id DESC LIMIT 1) AS last_event_at FROM unnest($1::uuid[]) AS i (id)",
        list(inboxes),
        MOST_COUNTED,
    )
    return {row["id"]: row for row in rows}


async def versions(
    connection: Connection,
    object_id: UUID,
    *,
    revision: int | None = None,
    before: int | None = None,
    at: float | None = None,
    limit: int = 100,
) -> list[Row]:
    """Every version of a trigger, this one, or those by `at`, seconds since the epoch: `revision`, `spec`, `by`, `at`, newest first."""
    return await connection.fetch(
        "SELECT revision, spec, by, at FROM versions WHERE object_id = $1 AND ($2::bigint IS NULL OR revision = $2) "
        "AND ($3::bigint IS NULL OR revision < $3) AND ($4::float8 IS NULL OR at <= to_timestamp($4)) "
        "ORDER BY revision DESC LIMIT $5",
        object_id,
        revision,
        before,
        at,
        limit,
    )
