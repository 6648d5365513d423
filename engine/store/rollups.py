"""Roll-ups: scheduled runs counted per beat, region and hour or day, each exactly once; and sums of them over any time.

Raw results are numbered by a sequence, `position`, before their transaction commits. Whoever writes results holds a
lock on that table until the end of its transaction, so a moment in which nobody does is a horizon: every row up to the
sequence's last number is committed or will never be. What lies between the last horizon and this one is added to the
roll-ups in one transaction with the new mark, `rolled`. So late rows need no care of their own, a killed roller has
done nothing, and a second one waits for the first and goes on where it ended.

Confirm runs come in bursts when something is wrong, and manual ones as somebody likes: neither counts.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from engine.store import results
from engine.store.database import Connection, Pool, Row, transaction
from engine.store.states import moment
from evaluators.model import PHASES, Verdict
from evaluators.sketch import BUCKETS, GAMMA, LEAST_S, MOST_S, Sketch
from evaluators.uptime import Parts, of_runs

HOURS_KEPT_DAYS: Final = 32
SLICE: Final = 500_000  # rows in one transaction
_LATEST: Final = timedelta(hours=2)  # later rows are seen at the next roll-up only
_LOCK: Final = "250ms"  # evaluators wait behind us for no longer
_ROLL_TIMEOUT_S: Final = 600.0
HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_EVER: Final = timedelta(days=100_000)

_VERDICTS: Final = tuple(verdict.value for verdict in Verdict)
_NAMES: Final = ", ".join(_VERDICTS)
_ARRAY: Final = "ARRAY['" + "', '".join(_VERDICTS) + "']"
# Each phase has a range of buckets of its own, so that one pair of arrays holds them all.
_BUCKET: Final = (
    f"(phase * {BUCKETS} + ceil(ln(greatest(seconds, {LEAST_S}) / {LEAST_S}) / ln({GAMMA}::float8)))::int2"
)
_CELLS: Final = len(PHASES) * BUCKETS
_PHASES: Final = f"""
    CROSS JOIN LATERAL (VALUES {", ".join(f"({n}, {phase}::float8)" for n, phase in enumerate(PHASES))}) AS p (phase, seconds)
    WHERE seconds >= 0 AND seconds < {MOST_S} AND verdict <> 'error'"""
# Every hour of a beat in a region that has new rows is numbered, so that what is counted often is found by one number.
_ROLL: Final = f"""
WITH fresh AS MATERIALIZED (
    SELECT dense_rank() OVER (ORDER BY beat_id, region, date_bin('1 hour', scheduled_at, 'epoch')) AS span,
        beat_id, region, scheduled_at, verdict, at, failure_type, {", ".join(PHASES)}
    FROM results WHERE position > $1 AND position <= $2 AND kind = 'scheduled'
), hourly AS MATERIALIZED (
    SELECT span, any_value(beat_id) AS beat_id, any_value(region) AS region, date_bin('1 hour', min(scheduled_at), 'epoch') AS hour,
        {", ".join(f"count(*) FILTER (WHERE verdict = '{v}') AS {v}" for v in _VERDICTS)},
        -- The newest run's end and verdict as one number: a maximum is cheap, a sort is not.
        max((date_part('epoch', at) * 1e6)::int8 * 4 + array_position({_ARRAY}, verdict) - 1) AS last
    FROM fresh GROUP BY span
), spans AS MATERIALIZED (
    SELECT span, -dense_rank() OVER (ORDER BY beat_id, region, date_bin('1 day', hour, 'epoch')) AS day FROM hourly
), counted AS (
    SELECT span, 1 AS hours, hour AS start, beat_id, region, {_NAMES}, last FROM hourly
    UNION ALL SELECT day, 24, date_bin('1 day', min(hour), 'epoch'), any_value(beat_id), any_value(region),
        {", ".join(f"sum({v})" for v in _VERDICTS)}, max(last) FROM hourly JOIN spans USING (span) GROUP BY day
), failed AS MATERIALIZED (
    SELECT span, failure_type, count(*) AS n FROM fresh WHERE failure_type IS NOT NULL GROUP BY span, failure_type
), failures AS (
    SELECT span, jsonb_object_agg(failure_type, n) AS failures FROM (
        SELECT * FROM failed UNION ALL
        SELECT day, failure_type, sum(n) FROM failed JOIN spans USING (span) GROUP BY day, failure_type
    ) f GROUP BY span
), cells AS MATERIALIZED (
    SELECT span * {_CELLS} + {_BUCKET} AS cell, count(*) AS n FROM fresh {_PHASES} GROUP BY cell
), sketches AS (
    SELECT span, array_agg(bucket ORDER BY bucket) AS buckets, array_agg(n ORDER BY bucket) AS counts FROM (
        SELECT cell / {_CELLS} AS span, cell % {_CELLS} AS bucket, n FROM cells
        UNION ALL SELECT day, cell % {_CELLS}, sum(n)
        FROM cells JOIN spans ON span = cell / {_CELLS} GROUP BY day, cell % {_CELLS}
    ) c GROUP BY span
)
INSERT INTO rollups AS kept
    (beat_id, hours, start, region, {_NAMES}, last_at, last_verdict, failures, buckets, counts)
SELECT beat_id, hours, start, region, {_NAMES}, to_timestamp((last / 4) / 1e6::float8), ({_ARRAY})[last % 4 + 1],
    coalesce(failures, '{{}}'), coalesce(buckets, '{{}}'), coalesce(counts, '{{}}')
FROM counted LEFT JOIN failures USING (span) LEFT JOIN sketches USING (span)
ON CONFLICT (beat_id, hours, start, region) DO UPDATE SET
    {", ".join(f"{v} = kept.{v} + excluded.{v}" for v in _VERDICTS)},
    last_at = greatest(kept.last_at, excluded.last_at),
    last_verdict = CASE WHEN excluded.last_at > kept.last_at THEN excluded.last_verdict ELSE kept.last_verdict END,
    failures = (SELECT coalesce(jsonb_object_agg(key, n), '{{}}') FROM (
        SELECT key, sum(value::int8) AS n FROM (
            SELECT * FROM jsonb_each(kept.failures) UNION ALL SELECT * FROM jsonb_each(excluded.failures)
        ) u GROUP BY key) s),
    (buckets, counts) = (SELECT coalesce(array_agg(bucket ORDER BY bucket), '{{}}'),
        coalesce(array_agg(n ORDER BY bucket), '{{}}') FROM (
        SELECT bucket, sum(n) AS n FROM (
            SELECT * FROM unnest(kept.buckets, kept.counts)
            UNION ALL SELECT * FROM unnest(excluded.buckets, excluded.counts)
        ) u (bucket, n) GROUP BY bucket) s)
"""
# What is rolled up, in days where whole ones are asked for, and what is not yet: one statement, so one moment.
_READ: Final = f"""
WITH mark AS (SELECT position, at - $7::interval AS since FROM rolled),
fresh AS MATERIALIZED (
    SELECT date_bin($5::interval, scheduled_at, $2) AS start, * FROM results
    WHERE beat_id = $1 AND scheduled_at >= greatest($2::timestamptz, (SELECT since FROM mark))
        AND position > (SELECT position FROM mark) AND kind = 'scheduled' AND ($3::text IS NULL OR region = $3)
), kept AS MATERIALIZED (
    SELECT date_bin($5::interval, start, $2) AS start, region, {_NAMES}, last_at, last_verdict, failures, buckets, counts
    FROM rollups WHERE beat_id = $1 AND ($3::text IS NULL OR region = $3)
        AND (hours = 24 AND start >= $4 OR hours = 1 AND start >= $2 AND start < $4)
), counted AS (
    SELECT start, region, {", ".join(f"sum({v})::int8 AS {v}" for v in _VERDICTS)}, max(last_at) AS last_at,
        (array_agg(last_verdict ORDER BY last_at DESC))[1] AS last_verdict
    FROM (
        SELECT start, region, {_NAMES}, last_at, last_verdict FROM kept
        UNION ALL SELECT start, region, {", ".join(f"(verdict = '{v}')::int" for v in _VERDICTS)}, at, verdict FROM fresh
    ) c GROUP BY start, region
), failures AS (
    SELECT start, region, jsonb_object_agg(type, n) AS failures FROM (
        SELECT start, region, type, sum(n) AS n FROM (
            SELECT start, region, key AS type, value::int8 AS n FROM kept CROSS JOIN jsonb_each(failures)
            UNION ALL SELECT start, region, failure_type, 1 FROM fresh WHERE failure_type IS NOT NULL
        ) f GROUP BY start, region, type
    ) g GROUP BY start, region
), sketches AS (
    SELECT start, region, array_agg(bucket) AS buckets, array_agg(n) AS counts FROM (
        SELECT start, region, bucket, sum(n)::int8 AS n FROM (
            SELECT start, region, bucket, n FROM kept CROSS JOIN unnest(buckets, counts) AS u (bucket, n)
            UNION ALL SELECT start, region, {_BUCKET}, 1 FROM fresh {_PHASES}
        ) s WHERE bucket >= $6 GROUP BY start, region, bucket
    ) t GROUP BY start, region
)
SELECT start, region, {_NAMES}, last_at, last_verdict, coalesce(failures, '{{}}') AS failures,
    coalesce(buckets, '{{}}') AS buckets, coalesce(counts, '{{}}') AS counts
FROM counted LEFT JOIN failures USING (start, region) LEFT JOIN sketches USING (start, region) ORDER BY start, region
"""
# What many beats took in all regions, hour by hour, in one moment.
_TOTALS: Final = f"""
WITH mark AS (SELECT position, at - $3::interval AS since FROM rolled)
SELECT beat_id, start, array_agg(bucket) AS buckets, array_agg(n) AS counts FROM (
    SELECT beat_id, start, bucket, sum(n)::int8 AS n FROM (
        SELECT beat_id, start, bucket, n FROM rollups CROSS JOIN unnest(buckets, counts) AS u (bucket, n)
        WHERE beat_id = ANY ($1) AND hours = 1 AND start >= $2
        UNION ALL SELECT beat_id, date_bin('1 hour', scheduled_at, 'epoch'), {_BUCKET}, 1 FROM (
            SELECT * FROM results WHERE beat_id = ANY ($1) AND scheduled_at >= greatest($2::timestamptz, (SELECT since FROM mark))
                AND position > (SELECT position FROM mark) AND kind = 'scheduled') fresh {_PHASES}
    ) s WHERE bucket >= {PHASES.index("total") * BUCKETS} GROUP BY beat_id, start, bucket
) t GROUP BY beat_id, start
"""
# Sums of many stretches of time at once, each read from days, hours or (0) raw rows, and in one moment.
_COUNT: Final = f"""
WITH mark AS (SELECT position, at - $6::interval AS since FROM rolled)
SELECT a.n, {", ".join(f"sum({v})::int8 AS {v}" for v in _VERDICTS)}
FROM unnest($2::int[], $3::timestamptz[], $4::timestamptz[], $5::smallint[]) AS a (n, since, until, hours)
CROSS JOIN mark CROSS JOIN LATERAL (
    SELECT {_NAMES} FROM rollups
    WHERE beat_id = ANY ($1) AND hours = a.hours AND start >= a.since AND start < a.until
    UNION ALL SELECT {", ".join(f"count(*) FILTER (WHERE verdict = '{v}')" for v in _VERDICTS)}
    FROM results WHERE beat_id = ANY ($1) AND kind = 'scheduled' AND scheduled_at < a.until
        AND scheduled_at >= CASE WHEN a.hours = 0 THEN a.since ELSE greatest(a.since, mark.since) END
        AND (a.hours = 0 OR results.position > mark.position)
) c GROUP BY a.n
"""


async def roll(pool: Pool) -> int:
    """Add what was stored since the last time; returns how many rows that were at the most."""
    upto, at = await _horizon(pool)
    began = position = None
    while position is None or position < upto:
        async with transaction(pool) as connection:
            position = await connection.fetchval("SELECT position FROM rolled FOR UPDATE")
            began = position if began is None else began
            until = min(position + SLICE, upto)
            if until > position:
                # Of a partition nobody analysed yet too much is expected, and all of it would be read.
                await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL work_mem = '64MB'")
                await connection.execute(_ROLL, position, until, timeout=_ROLL_TIMEOUT_S)
                await connection.execute(
                    "UPDATE rolled SET position = $1, at = CASE WHEN $2 THEN $3 ELSE at END",
                    until,
                    until == upto,
                    at,
                )
                position = until
    return max(upto - (began or 0), 0)


async def _horizon(pool: Pool) -> tuple[int, datetime]:
    """(position, time): every row up to it is committed or never will be. Evaluators wait for at most `_LOCK`."""
    async with transaction(pool) as connection:
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK}'; LOCK TABLE ONLY results IN SHARE MODE")
        row = await connection.fetchrow(
            "SELECT coalesce(pg_sequence_last_value('results_position_seq'), 0) AS position, clock_timestamp() AS at"
        )
        assert row is not None
        return row["position"], row["at"]


async def read(
    connection: Connection,
    beat_id: UUID,
    since: datetime,
    *,
    step: timedelta | None = None,
    region: str | None = None,
) -> list[Row]:
    """Scheduled runs from the full hour `since` on, per region, those not rolled up yet included.

    Rows of start, region, a count of each verdict, last_at, last_verdict, failures ({type: runs}), and what `sketches`
    reads: of every phase, or, where it is asked per `step` (full hours), of `total` only.
    """
    return await connection.fetch(
        _READ,
        beat_id,
        since,
        region,
        moment(math.ceil(since.timestamp() / _DAY_S) * _DAY_S)
        if step is None
        else datetime.max.replace(tzinfo=UTC),
        step or _EVER,
        0 if step is None else PHASES.index("total") * BUCKETS,
        _LATEST,
    )


async def totals(connection: Connection, beats: Sequence[UUID], since: datetime) -> list[Row]:
    """What `sketches` reads of `total`, of scheduled runs in all regions, per beat and hour from the full hour `since` on."""
    return await connection.fetch(_TOTALS, list(beats), since, _LATEST)


def pieces(
    since: float, until: float, raw_since: float, hours_since: float
) -> tuple[list[tuple[float, float, int]], int]:
    """`since` to `until` as stretches to be counted by days (24), hours (1) or raw rows (0); and how exact that is, in seconds.

    Before `raw_since` an hour, and before `hours_since` (midnights) a day, belongs to whichever time its begin lies in.
    So times that adjoin share no run and lose none.
    """
    edges, resolution_s = [], 0
    for edge in (since, until):
        unit_s = 1 if edge >= raw_since else HOUR_S if edge >= hours_since else _DAY_S
        snapped = edge if unit_s == 1 else math.ceil(edge / unit_s) * unit_s
        resolution_s = resolution_s if snapped == edge else max(resolution_s, unit_s)
        edges.append(snapped)
    left, right = edges
    hours_from = min(math.ceil(left / HOUR_S) * HOUR_S, right)
    hours_to = max(right // HOUR_S * HOUR_S, hours_from)
    days_from = min(math.ceil(hours_from / _DAY_S) * _DAY_S, hours_to)
    days_to = max(hours_to // _DAY_S * _DAY_S, days_from)
    made = [
        (left, hours_from, 0),
        (hours_from, days_from, 1),
        (days_from, days_to, 24),
        (days_to, hours_to, 1),
        (hours_to, right, 0),
    ]
    return [piece for piece in made if piece[0] < piece[1]], resolution_s


async def count(
    connection: Connection, beats: Sequence[UUID], stretches: Sequence[tuple[float, float]], now: float
) -> tuple[list[Parts], int]:
    """Scheduled runs of all these beats in each stretch of time, and the `resolution_s` of `pieces`."""
    oldest = await results.oldest(connection)
    raw_since = math.inf if oldest is None else oldest
    hours_since = math.ceil(now / _DAY_S - HOURS_KEPT_DAYS) * _DAY_S
    asked = [pieces(since, until, raw_since, hours_since) for since, until in stretches]
    flat = [(n, *piece) for n, (found, _) in enumerate(asked) for piece in found]
    rows = await connection.fetch(
        _COUNT,
        list(beats),
        [n for n, *_ in flat],
        [moment(since) for _, since, _, _ in flat],
        [moment(until) for _, _, until, _ in flat],
        [hours for *_, hours in flat],
        _LATEST,
    )
    counted = {row["n"]: of_runs(*(row[verdict] for verdict in _VERDICTS)) for row in rows}
    return [counted.get(n, Parts()) for n in range(len(asked))], max((exact for _, exact in asked), default=0)


def sketches(row: Row) -> Mapping[str, Sketch]:
    """The sketch of each phase that happened, in seconds."""
    found: dict[str, dict[int, int]] = {}
    for bucket, count in sorted(zip(row["buckets"], row["counts"], strict=True)):
        found.setdefault(PHASES[bucket // BUCKETS], {})[bucket % BUCKETS] = count
    return found


async def sweep(connection: Connection, now: datetime, *, days: int) -> None:
    """Forget hours after a month, and days after `days`."""
    for hours, kept in ((1, min(days, HOURS_KEPT_DAYS)), (24, days)):
        await connection.execute(
            "DELETE FROM rollups WHERE hours = $1 AND start < $2", hours, now - timedelta(days=kept)
        )
