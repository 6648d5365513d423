"""Open signals as people are shown them. What they do to a beat's stage is in its state, saved in the same transaction."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from engine.store.database import Connection, Row
from engine.store.pushed import Report


async def keep(connection: Connection, subject_id: UUID, report: Report, at: float) -> None:
    """Bring what is shown to what `report`, which came at `at`, says."""
    if report.severity is None:
        await connection.execute(
            "DELETE FROM signals WHERE subject_id = $1 AND source = $2 AND fingerprint = $3",
            subject_id,
            report.source,
            report.fingerprint,
        )
        return
    await connection.execute(
        "INSERT INTO signals (subject_id, source, fingerprint, severity, message, since, at, by, evidence) "
        "VALUES ($1, $2, $3, $4, $5, to_timestamp($6), to_timestamp($7), $8, $9::text::json) "
        "ON CONFLICT (subject_id, source, fingerprint) DO UPDATE SET severity = excluded.severity, "
        "message = excluded.message, at = excluded.at, by = excluded.by, evidence = excluded.evidence",
        subject_id,
        report.source,
        report.fingerprint,
        report.severity,
        report.message,
        report.at,
        at,
        report.by,
        msgspec.json.encode(report.evidence).decode() if report.evidence is not None else None,
    )


async def of_beats(
    connection: Connection, beats: Sequence[UUID], most: int | None = None
) -> dict[UUID, list[Row]]:
    """The open signals of each of these beats or groups, the worst and oldest first, at most so many of each."""
    rows = await connection.fetch(
        "SELECT s.* FROM unnest($1::uuid[]) AS b (id) CROSS JOIN LATERAL (SELECT * FROM signals "
        "WHERE subject_id = b.id ORDER BY severity, since, source, fingerprint LIMIT $2) s",
        list(set(beats)),
        most,
    )
    found: dict[UUID, list[Row]] = {subject_id: [] for subject_id in beats}
    for row in rows:
        found[row["subject_id"]].append(row)
    return found
