"""How long history is kept: day partitions of raw results and of their evidence are made ahead and dropped by age or size;
the rest by rows.
"""

from datetime import date, timedelta
from typing import Final

from engine.store.database import Connection

AHEAD_DAYS = 3
HISTORY_DAYS = 400
_PARTED: Final = ("evidence", "results")  # in the order in which they are given up


async def make_days(connection: Connection, today: date) -> None:
    """See that the partitions of yesterday to three days ahead exist; rows of other days go to the tables' `_rest`."""
    for table in _PARTED:
        for offset in range(-1, AHEAD_DAYS + 1):
            await _make_day(connection, table, today + timedelta(days=offset))


async def _make_day(connection: Connection, table: str, day: date) -> None:
    name = f"{table}_{day:%Y%m%d}"
    if await connection.fetchval("SELECT to_regclass($1)", name) is not None:
        return
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        # Rows that came before their day had a partition move into it.
        await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS)")
        await connection.fetchval(
            f"WITH moved AS (DELETE FROM {table}_rest WHERE scheduled_at >= '{day}' "
            f"AND scheduled_at < '{day + timedelta(days=1)}' RETURNING *), "
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
    rows = await connection.fetch(
        "SELECT c.relname AS name, pg_total_relation_size(c.oid) AS size_bytes FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent IN ('evidence'::regclass, 'results'::regclass) "
        "AND c.relname ~ '^(evidence|results)_[0-9]{8}$' ORDER BY c.relname"
    )
    total = sum(row["size_bytes"] for row in rows)
    dropped: list[str] = []
    await connection.execute("SET lock_timeout = '1s'")  # evaluators wait behind us
    for table, kept in zip(_PARTED, (min(evidence_days, days), days), strict=True):
        oldest_kept = f"{table}_{today - timedelta(days=kept):%Y%m%d}"
        for row in rows:
            if not row["name"].startswith(table):
                continue
            is_past = row["name"] < f"{table}_{today:%Y%m%d}"
            if row["name"] >= oldest_kept and not (total > max_bytes and is_past):
                break
            await connection.execute(f"DROP TABLE {row['name']}")
            total -= row["size_bytes"]
            dropped.append(row["name"])
        await connection.execute(
            f"DELETE FROM {table}_rest WHERE scheduled_at < $1::date - make_interval(days => $2)", today, kept
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
    await connection.execute(
        "DELETE FROM outbox WHERE status <> 'pending' AND finished_at < now() - interval '30 days'"
    )
    # All of a boot or nothing: a process may be silent in a partition for days, its beats being paused or another's,
    # and from a mark that begins anew at 0 it would never learn that what it sends then is committed.
    await connection.execute(
        "DELETE FROM watermarks WHERE boot_id IN "
        "(SELECT boot_id FROM watermarks GROUP BY boot_id HAVING max(at) < now() - interval '30 days')"
    )
    gone = (
        "(SELECT id FROM objects WHERE kind IN ('beat', 'group') AND removed_at < now() - interval '30 days')"
    )
    for table in ("transitions", "signals", "facts", "states"):
        await connection.execute(f"DELETE FROM {table} WHERE subject_id IN {gone}")
    for table in ("pings", "ping_keys", "rollups"):
        await connection.execute(f"DELETE FROM {table} WHERE beat_id IN {gone}")
    await connection.execute(
        "DELETE FROM absences WHERE returned_at < now() - make_interval(days => $1)", HISTORY_DAYS
    )
    await connection.execute("DELETE FROM audit WHERE at < now() - make_interval(days => $1)", HISTORY_DAYS)
    await connection.execute("DELETE FROM idempotency WHERE at < now() - interval '1 day'")
    await connection.execute("DELETE FROM sessions WHERE expires_at < now()")
    await connection.execute("DELETE FROM login_links WHERE expires_at < now()")
    await connection.execute("DELETE FROM dead_letters WHERE at < now() - interval '30 days'")
