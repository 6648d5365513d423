"""Files kept of runs: each content once, by its SHA-256, under a cap. Who may read them is the caller's."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from engine.store.database import Connection, Row
from evaluators.observation import Artifact

MOST_BYTES: Final = 8 << 20
"""Of one file."""
_BATCH: Final = 200
_OLDER: Final = (
    "DELETE FROM run_artifacts WHERE ctid = ANY (ARRAY(SELECT ctid FROM run_artifacts "
    "WHERE scheduled_at < $1::timestamptz - make_interval(days => $2) LIMIT $3))"
)
# Of the oldest runs as many as hold $1 bytes, if nobody else has the same.
_OLDEST: Final = (
    "DELETE FROM run_artifacts r USING (SELECT run_id, scheduled_at, sum(sum(length(data))) OVER w - sum(length(data)) AS before "
    "FROM (SELECT * FROM run_artifacts ORDER BY scheduled_at, run_id LIMIT $2) o JOIN artifacts USING (sha256) "
    "GROUP BY run_id, scheduled_at WINDOW w AS (ORDER BY scheduled_at, run_id)) o "
    "WHERE o.before < $1 AND (r.run_id, r.scheduled_at) = (o.run_id, o.scheduled_at)"
)
_ORPHANED: Final = "NOT EXISTS (SELECT FROM run_artifacts r WHERE r.sha256 = a.sha256)"


async def keep(
    connection: Connection, run_id: UUID, beat_id: UUID, scheduled_at: float, artifacts: Sequence[Artifact]
) -> None:
    """Store them, all or none, once however often it is called. Raises `ValueError` for one of more than MOST_BYTES."""
    for one in artifacts:
        if len(one.data) > MOST_BYTES:
            raise ValueError(f"{one.name} has {len(one.data)} bytes; at most {MOST_BYTES} are kept")
    digests = await asyncio.to_thread(lambda: [sha256(one.data).digest() for one in artifacts])
    contents = dict(zip(digests, (one.data for one in artifacts), strict=True))
    async with connection.transaction():
        for digest in sorted(contents):  # in one order, or two of us could wait for each other
            # The update of nothing locks it: `expire` leaves it alone until we have named it.
            await connection.execute(
                "INSERT INTO artifacts (sha256, data) VALUES ($1, $2) "
                "ON CONFLICT (sha256) DO UPDATE SET sha256 = excluded.sha256",
                digest,
                contents[digest],
            )
        await connection.executemany(
            "INSERT INTO run_artifacts (run_id, scheduled_at, name, beat_id, type, sha256) "
            "VALUES ($1, to_timestamp($2), $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            [
                (run_id, scheduled_at, one.name, beat_id, one.type, digest)
                for one, digest in zip(artifacts, digests, strict=True)
            ],
        )


async def of_runs(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """The files of each run that has some: rows of `run_id`, `beat_id`, `name`, `type`, `size_bytes`, `sha256` (hex)."""
    found: dict[UUID, list[Row]] = {}
    for row in await connection.fetch(
        "SELECT run_id, beat_id, name, type, length(data) AS size_bytes, encode(sha256, 'hex') AS sha256 "
        "FROM run_artifacts JOIN artifacts USING (sha256) WHERE run_id = ANY ($1) ORDER BY run_id, name",
        run_ids,
    ):
        found.setdefault(row["run_id"], []).append(row)
    return found


async def read(connection: Connection, beat_id: UUID, run_id: UUID, name: str) -> Row | None:
    """One file of a run of this beat: `type`, `sha256` (hex), `data`."""
    return await connection.fetchrow(
        "SELECT type, encode(sha256, 'hex') AS sha256, data FROM run_artifacts JOIN artifacts USING (sha256) "
        "WHERE beat_id = $1 AND run_id = $2 AND name = $3",
        beat_id,
        run_id,
        name,
    )


async def size_bytes(connection: Connection) -> int:
    """Of all contents."""
    total: int = await connection.fetchval("SELECT coalesce(sum(length(data)), 0)::bigint FROM artifacts")
    return total


async def expire(connection: Connection, now: datetime, *, days: int, max_bytes: int) -> None:
    """Drop what is older than `days`, and while all take more than `max_bytes` the oldest runs.

    In many small steps that nobody waits for: not in a transaction of the caller's.
    """
    while await connection.execute(_OLDER, now, days, _BATCH) != "DELETE 0":
        pass
    await _drop_orphans(connection)
    while (excess := await size_bytes(connection) - max_bytes) > 0:
        if await connection.execute(_OLDEST, excess, _BATCH) == "DELETE 0":
            break  # what is left is being kept right now
        await _drop_orphans(connection)


async def _drop_orphans(connection: Connection) -> None:
    """Contents that no run has any more."""
    while True:
        async with connection.transaction():
            # Locked first, and looked at again by a statement of its own: somebody may have named one in between.
            locked = await connection.fetch(
                f"SELECT sha256 FROM artifacts a WHERE {_ORPHANED} LIMIT $1 FOR UPDATE SKIP LOCKED", _BATCH
            )
            await connection.execute(
                f"DELETE FROM artifacts a WHERE sha256 = ANY ($1) AND {_ORPHANED}",
                [row["sha256"] for row in locked],
            )
        if len(locked) < _BATCH:
            return
