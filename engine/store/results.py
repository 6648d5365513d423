"""Raw results: written in bulk exactly once, read newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.store.database import Connection, Row
from evaluators.model import PHASES, Result

_COLUMNS: Final = (
    ("scheduled_at", "float8", "to_timestamp(r.scheduled_at)"),
    ("run_id", "uuid", "r.run_id"),
    ("beat_id", "uuid", "r.beat_id"),
    ("region", "text", "r.region"),
    ("kind", "text", "r.kind"),
    ("verdict", "text", "r.verdict"),
    ("at", "float8", "to_timestamp(r.at)"),
    ("seen_at", "float8", "to_timestamp(r.seen_at)"),
    ("boot_id", "uuid", "r.boot_id"),
    ("seq", "int8", "r.seq"),
    ("attempts", "int2", "r.attempts"),
    ("check_version", "int8", "r.check_version"),
    *((phase, "float4", f"r.{phase}") for phase in PHASES),
    ("failure_type", "text", "r.failure_type"),
    ("failure_message", "text", "r.failure_message"),
    ("outcomes", "text", "r.outcomes::json"),
    ("evidence", "text", "r.evidence::json"),
    ("request", "text", "r.request"),
    ("n", "int2", "r.n"),
)
_INSERT: Final = (
    f"INSERT INTO results ({', '.join(name for name, _, _ in _COLUMNS)}) "
    f"SELECT {', '.join(value for _, _, value in _COLUMNS)} "
    f"FROM unnest({', '.join(f'${i}::{kind}[]' for i, (_, kind, _) in enumerate(_COLUMNS, 1))}) "
    f"AS r ({', '.join(name for name, _, _ in _COLUMNS)}) ON CONFLICT DO NOTHING"
)
_MINE: Final = (
    "SELECT r.run_id FROM unnest($1::float8[], $2::uuid[]) AS n (scheduled_at, run_id) "
    "JOIN results r ON r.scheduled_at = to_timestamp(n.scheduled_at) AND r.run_id = n.run_id "
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
    rows = [_row(boot_id, at, result, seen_at) for boot_id, at, result in arrived]
    columns = [list(column) for column in zip(*rows, strict=True)]
    run_ids = {result.run_id for _, _, result in arrived}
    done = await connection.execute(_INSERT, *columns)
    if done == f"INSERT 0 {len(run_ids)}":  # nearly always; to have each one returned costs a sixth of it all
        return run_ids
    mine = await connection.fetch(_MINE, *columns[:2])
    return {str(row["run_id"]) for row in mine}


def _row(boot_id: str, at: float, result: Result, seen_at: float) -> tuple[Any, ...]:
    failure = result.failure
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
        result.timings.dns,
        result.timings.connect,
        result.timings.tls,
        result.timings.ttfb,
        result.timings.transfer,
        result.timings.total,
        failure.type if failure else None,
        # A stranger's bytes may be in it, and PostgreSQL's text holds every character but this one.
        failure.message.replace("\0", "\ufffd") if failure else None,
        _text(result.outcomes),
        _text(result.evidence),
        result.request,
        result.n,
    )


def _text(value: object) -> str | None:
    return msgspec.json.encode(value).decode() if value else None


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
        "SELECT * FROM results WHERE beat_id = $1 AND ($2::text IS NULL OR region = $2) "
        "AND ($3::text IS NULL OR kind = $3) AND ($4::text IS NULL OR request = $4) "
        "AND ($5::timestamptz IS NULL OR (scheduled_at, run_id) < ($5, $6)) "
        "AND ($7::timestamptz IS NULL OR scheduled_at >= $7) "
        "ORDER BY scheduled_at DESC, run_id DESC LIMIT $8",
        beat_id,
        region,
        kind,
        request,
        before[0] if before else None,
        before[1] if before else None,
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


async def latency(connection: Connection, beat_id: UUID, since: datetime, step_s: int) -> list[Row]:
    """Per region and step of `step_s` seconds: rows of at, region, p50, p95 (seconds), runs, bad."""
    return await connection.fetch(
        "SELECT to_timestamp(floor(extract(epoch FROM scheduled_at) / $3) * $3) AS at, region, "
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY total) AS p50, "
        "percentile_cont(0.95) WITHIN GROUP (ORDER BY total) AS p95, count(*) AS runs, "
        "count(*) FILTER (WHERE verdict IN ('warning', 'critical')) AS bad "
        "FROM results WHERE beat_id = $1 AND scheduled_at >= $2 AND verdict <> 'error' GROUP BY 1, 2 ORDER BY 1, 2",
        beat_id,
        since,
        step_s,
    )
