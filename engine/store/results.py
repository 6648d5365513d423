"""Raw results: written in bulk exactly once, read newest first. What is summed up of them is `engine.store.rollups`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.store import evidence
from engine.store.database import Connection, Row
from evaluators.model import PHASES, Result

# The fields of the type `arrived`, in its order. Rows are sent as one array of it: an array a column takes twice as long.
_SENT: Final = (
    *(
        "scheduled_at",
        "run_id",
        "beat_id",
        "region",
        "kind",
        "verdict",
        "at",
        "seen_at",
        "boot_id",
        "seq",
        "attempts",
    ),
    *("check_version", *PHASES, "failure_type", "failure_message", "outcomes", "request", "n", "trace_id"),
    "certificate_days",
)
_READ: Final = {
    **{name: f"to_timestamp(r.{name})" for name in ("scheduled_at", "at", "seen_at")},
    "outcomes": "r.outcomes::json",
}
_INSERT: Final = (
    f"INSERT INTO results ({', '.join(_SENT)}) SELECT {', '.join(_READ.get(name, f'r.{name}') for name in _SENT)} "
    "FROM unnest($1::arrived[]) AS r ON CONFLICT DO NOTHING"
)
_MINE: Final = (
    "SELECT r.run_id FROM unnest($1::uuid[], $2::float8[], $3::uuid[]) AS n (beat_id, scheduled_at, run_id) "
    "JOIN results r ON r.beat_id = n.beat_id AND r.scheduled_at = to_timestamp(n.scheduled_at) AND r.run_id = n.run_id "
    "WHERE r.xmin = pg_current_xact_id()::xid"
)


async def insert(
    connection: Connection, arrived: Sequence[tuple[str, float, Result]], seen_at: float
) -> set[str]:
    """Write results not written before, in the caller's transaction; returns the run ids that were new.

    Not in a savepoint: rows written there carry its id, and where one of them was known already none would be
    returned as new. `arrived` holds (boot id, end of the run in server time, result); times are seconds since the epoch.
    """
    if not arrived:
        return set()
    runs = {result.run_id: result for _, _, result in arrived}
    done = await connection.execute(
        _INSERT, [_row(boot_id, at, result, seen_at) for boot_id, at, result in arrived]
    )
    if done != f"INSERT 0 {len(runs)}":  # nearly never; to have each one returned costs a sixth of it all
        wanted = zip(*[(run.beat_id, run.scheduled_at, run.run_id) for run in runs.values()], strict=True)
        runs = {
            str(row["run_id"]): runs[str(row["run_id"])] for row in await connection.fetch(_MINE, *wanted)
        }
    await evidence.insert(connection, [run for run in runs.values() if run.evidence or run.tried])
    return set(runs)


def _row(boot_id: str, at: float, result: Result, seen_at: float) -> tuple[Any, ...]:
    failure, timings = result.failure, result.timings
    return (
        result.scheduled_at,
        result.run_id,
        result.beat_id,
        result.region,
        result.kind,
        result.verdict,
        at,
        seen_at,
        boot_id,
        result.seq,
        result.attempts,
        result.check_version,
        timings.dns,
        timings.connect,
        timings.tls,
        timings.ttfb,
        timings.transfer,
        timings.total,
        failure.type if failure else None,
        # A stranger's bytes may be in it, and PostgreSQL's text holds every character but this one.
        failure.message.replace("\0", "\ufffd") if failure else None,
        msgspec.json.encode(result.outcomes).decode() if result.outcomes else None,
        result.request,
        result.n,
        result.trace_id,
        result.certificate_days,
    )


async def oldest(connection: Connection) -> float | None:
    """When the oldest day begins whose results are kept, in seconds since the epoch."""
    begins: float | None = await connection.fetchval(
        "SELECT date_part('epoch', min(to_date(right(c.relname, 8), 'YYYYMMDD'))) FROM pg_inherits i JOIN pg_class c "
        "ON c.oid = i.inhrelid WHERE i.inhparent = 'results'::regclass AND c.relname ~ '^results_[0-9]{8}$'"
    )
    return begins


async def listing(
    connection: Connection,
    beat_id: UUID,
    *,
    region: str | None = None,
    kind: str | None = None,
    request: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> list[Row]:
    """Results of a beat, newest first by (scheduled_at, run_id), those behind the cursor `before`."""
    return await connection.fetch(
        f"SELECT r.*, {evidence.SHOWN} FROM (SELECT * FROM results WHERE beat_id = $1 "
        " AND ($2::text IS NULL OR region = $2) AND ($3::text IS NULL OR kind = $3) "
        " AND ($4::text IS NULL OR request = $4) "
        " AND ($5::timestamptz IS NULL OR (scheduled_at, run_id) < ($5, $6)) "
        " AND ($7::timestamptz IS NULL OR scheduled_at >= $7) "
        f" ORDER BY scheduled_at DESC, run_id DESC LIMIT $8) r {evidence.JOINED} "
        "ORDER BY scheduled_at DESC, run_id DESC",
        beat_id,
        region,
        kind,
        request,
        *(before or (None, None)),
        since,
        limit,
    )


async def newest_per_region(
    connection: Connection, wanted: Sequence[tuple[UUID, str]], since: datetime | None = None
) -> list[Row]:
    """The newest result that voted of each (beat, region) that has one, scheduled since then: a draft's evidence.

    Without `since` a region that has none costs reading everything the beat's other regions ever said.
    """
    return await connection.fetch(
        "SELECT r.* FROM unnest($1::uuid[], $2::text[]) AS g (beat_id, region) CROSS JOIN LATERAL ("
        " SELECT * FROM results WHERE beat_id = g.beat_id AND region = g.region AND kind <> 'manual' "
        " AND verdict <> 'error' AND scheduled_at >= coalesce($3, '-infinity'::timestamptz) "
        " ORDER BY scheduled_at DESC, run_id DESC LIMIT 1) r",
        [beat_id for beat_id, _ in wanted],
        [region for _, region in wanted],
        since,
    )


async def newest_bad(
    connection: Connection, wanted: Sequence[tuple[UUID, str]], since: datetime
) -> list[Row]:
    """The newest result of each (beat, verdict) that says so, scheduled since then: why a member of a group is bad."""
    return await connection.fetch(
        "SELECT r.* FROM unnest($1::uuid[], $2::text[]) AS g (beat_id, verdict) CROSS JOIN LATERAL ("
        " SELECT * FROM results WHERE beat_id = g.beat_id AND verdict = g.verdict AND kind <> 'manual' "
        " AND scheduled_at >= $3 ORDER BY scheduled_at DESC, run_id DESC LIMIT 1) r",
        [beat_id for beat_id, _ in wanted],
        [verdict for _, verdict in wanted],
        since,
    )


async def latency(connection: Connection, beat_id: UUID, since: datetime, step_s: int) -> list[Row]:
    """Of scheduled runs, per region and step of `step_s` seconds: rows of at, region, p50, p95 (seconds), runs, bad.

    Reads every run: for a day at the most. For longer there is `engine.store.rollups.read`.
    """
    return await connection.fetch(
        "SELECT to_timestamp(floor(extract(epoch FROM scheduled_at) / $3) * $3) AS at, region, "
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY total) AS p50, "
        "percentile_cont(0.95) WITHIN GROUP (ORDER BY total) AS p95, count(*) AS runs, "
        "count(*) FILTER (WHERE verdict IN ('warning', 'critical')) AS bad FROM results WHERE beat_id = $1 "
        "AND scheduled_at >= $2 AND verdict <> 'error' AND kind = 'scheduled' GROUP BY 1, 2 ORDER BY 1, 2",
        beat_id,
        since,
        step_s,
    )
