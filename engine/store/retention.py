"""How long history is kept: day partitions of raw results, of their evidence and of received events are made ahead and
dropped by age or size; the rest by rows.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

from engine.store import subscribers
from engine.store.database import Connection

AHEAD_DAYS = 3
HISTORY_DAYS = 400
LETTER_DAYS: Final = 90
# By the column that says on which day a row is: tables in the order in which they are given up.
_RESULTS: Final = ("scheduled_at", ("evidence", "results"))
_EVENTS: Final = ("received_at", ("judged", "events"))


async def make_days(connection: Connection, today: date) -> None:
    """See that the partitions of yesterday to three days ahead exist; rows of other days go to the tables' `_rest`."""
    for column, tables in (_RESULTS, _EVENTS):
        for table in tables:
            for offset in range(-1, AHEAD_DAYS + 1):
                await _make_day(connection, table, column, today + timedelta(days=offset))


async def _make_day(connection: Connection, table: str, column: str, day: date) -> None:
    name = f"{table}_{day:%Y%m%d}"
    if await connection.fetchval("SELECT to_regclass($1)", name) is not None:
        return
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        # Rows that came before their day had a partition move into it.
        await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS)")
        await connection.fetchval(
            f"WITH moved AS (DELETE FROM {table}_rest WHERE {column} >= '{day}' "
            f"AND {column} < '{day + timedelta(days=1)}' RETURNING *), "
            f"kept AS (INSERT INTO {name} SELECT * FROM moved RETURNING 1) SELECT count(*) FROM kept"
        )
        await connection.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
        )


async def drop_days(
    connection: Connection, today: date, *, days: int, evidence_days: int, max_bytes: int
) -> list[str]:
    """Drop whole days that are too old, and while all take more than `max_bytes` the oldest, evidence before results.

    Returns the names of what was dropped. Today is never dropped.
    """
    column, (evidence, results) = _RESULTS
    kept = [((evidence,), min(evidence_days, days)), ((results,), days)]
    return await _drop(connection, today, column, kept, max_bytes)


async def drop_events(connection: Connection, today: date, *, days: int, max_bytes: int) -> list[str]:
    """Drop whole days of received events, each with what was made of it, as `drop_days` does."""
    column, (judged, events) = _EVENTS
    return await _drop(connection, today, column, [((events, judged), days)], max_bytes)


async def _drop(
    connection: Connection,
    today: date,
    column: str,
    kept: Sequence[tuple[Sequence[str], int]],
    max_bytes: int,
) -> list[str]:
    """Of tables whose days go together what is older than so many days, and while all of them take too much the oldest."""
    rows = await connection.fetch(
        "SELECT c.relname AS name, pg_total_relation_size(c.oid) AS size_bytes FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = ANY ($1::text[]::regclass[]) "
        "AND c.relname ~ '_[0-9]{8}$' ORDER BY c.relname",
        [table for tables, _ in kept for table in tables],
    )
    sizes_bytes = {row["name"]: row["size_bytes"] for row in rows}  # of day partitions, the oldest first
    total, dropped = sum(sizes_bytes.values()), list[str]()
    await connection.execute("SET lock_timeout = '1s'")  # evaluators wait behind us
    for tables, days in kept:
        first = tables[0]
        oldest, now = (f"{first}_{day:%Y%m%d}" for day in (today - timedelta(days=days), today))
        for name in [name for name in sizes_bytes if name.startswith(first)]:
            if name >= (now if total > max_bytes else oldest):
                break
            for each in (name.replace(first, table) for table in tables):
                if each in sizes_bytes:
                    await connection.execute(f"DROP TABLE {each}")
                    total -= sizes_bytes[each]
                    dropped.append(each)
        for table in tables:
            await connection.execute(
                f"DELETE FROM {table}_rest WHERE {column} < $1::date - make_interval(days => $2)", today, days
            )
    return dropped


# Of what is too old a replay needs the last pause, the last word of each signal, member and parent unless it was the end
# of it, and what others made of it last; of how long it was up all pauses say something.
_OLD_FACTS: Final = (
    "SELECT position, at, about, is_over, row_number() OVER (PARTITION BY subject_id, about ORDER BY position DESC) AS age "
    "FROM (SELECT position, at, subject_id, CASE WHEN fact->>'type' IN ('Suspended', 'Continued') THEN 'pause' "
    "WHEN bound IS NOT NULL THEN 'bound' ELSE coalesce(fact->>'signal', fact->>'member', fact->>'parent') END AS about, "
    "fact->>'is_gone' = 'true' OR fact->>'type' = 'SignalChanged' AND fact->>'severity' IS NULL AS is_over "
    "FROM facts WHERE at < extract(epoch FROM now()) - $1::float8 * 86400) f"
)


_SUBJECTS: Final = (
    "(SELECT id FROM objects WHERE kind IN ('beat', 'group') AND removed_at < now() - interval '30 days')"
)
_TRIGGERS: Final = (
    "(SELECT id FROM objects WHERE kind = 'trigger' AND removed_at < now() - interval '30 days')"
)
_BEHIND: Final = (
    "status = 'pending' AND EXISTS (SELECT FROM outbox d WHERE d.target_id = outbox.target_id AND d.line = outbox.line "
    "AND d.id < outbox.id AND d.status = 'dead' AND d.incident_id IS NOT NULL AND d.finished_at < now() - interval '29 days')"
)
"""What waits behind a dead step goes before it, or it would leave a month late."""
_REMEMBERED: Final = (
    f"updated_at < now() - interval '{HISTORY_DAYS} days' AND left(line, 36) NOT IN (SELECT 'inc_' || replace(id::text, '-', '') "
    "FROM incidents WHERE status NOT IN ('resolved', 'completed', 'cancelled') AND removed_at IS NULL)"
)
_UNCONFIRMED: Final = f"interval '{subscribers.PENDING_DAYS} days'"
_SWEPT: Final = (
    ("outbox", _BEHIND),
    ("outbox", "status <> 'pending' AND finished_at < now() - interval '30 days'"),
    ("remotes", _REMEMBERED),
    # All of a boot or nothing: a process may be silent in a partition for days, its beats being paused or another's,
    # and from a mark that begins anew at 0 it would never learn that what it sends then is committed.
    (
        "watermarks",
        "boot_id IN (SELECT boot_id FROM watermarks GROUP BY boot_id HAVING max(at) < now() - interval '30 days')",
    ),
    *((table, f"subject_id IN {_SUBJECTS}") for table in ("transitions", "signals", "facts", "states")),
    *((table, f"beat_id IN {_SUBJECTS}") for table in ("pings", "ping_keys", "rollups", "run_artifacts")),
    *((table, f"trigger_id IN {_TRIGGERS}") for table in ("trigger_states", "trigger_keys", "trigger_beats")),
    ("versions", f"object_id IN {_TRIGGERS}"),
    ("deafness", f"ended_at < now() - interval '{HISTORY_DAYS} days'"),
    ("absences", f"returned_at < now() - interval '{HISTORY_DAYS} days'"),
    ("audit", f"at < now() - interval '{HISTORY_DAYS} days'"),
    ("idempotency", "at < now() - interval '1 day'"),
    ("sessions", "expires_at < now()"),
    ("login_links", "expires_at < now()"),
    ("dead_letters", "at < now() - interval '30 days'"),
    ("letters", f"finished_at < now() - interval '{LETTER_DAYS} days'"),
    ("subscribers", f"status = 'pending' AND greatest(created_at, asked_at) < now() - {_UNCONFIRMED}"),
)


async def sweep(connection: Connection, *, days: int) -> None:
    """Forget old history: transitions, facts older than the raw results of `days`, delivered notices, used watermarks,
    expired logins.
    """
    await connection.execute(
        f"DELETE FROM facts WHERE position IN (SELECT position FROM ({_OLD_FACTS}) o WHERE about IS NULL OR is_over "
        "OR age > 1 AND (about <> 'pause' OR at < extract(epoch FROM now()) - $2::float8 * 86400))",
        days + 1,  # a replay begins some hours before
        HISTORY_DAYS,
    )
    await connection.execute(
        "DELETE FROM transitions t WHERE at < now() - make_interval(days => $1) AND EXISTS "
        "(SELECT 1 FROM transitions n WHERE n.subject_id = t.subject_id AND n.at > t.at AND n.at < now() - make_interval(days => $1))",
        HISTORY_DAYS,
    )
    for table, which in _SWEPT:
        await connection.execute(f"DELETE FROM {table} WHERE {which}")
