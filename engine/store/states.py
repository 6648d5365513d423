"""What is remembered of beats between facts, saved by compare-and-swap; pausing; transitions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from engine.store.objects import CHANGED, Stored
from evaluators.model import Stage
from evaluators.policy import Bound
from evaluators.state import State


class Held(msgspec.Struct, frozen=True):
    """A beat's state with what the compare-and-swap needs."""

    subject_id: UUID
    version: int
    revision: int  # of the object, as last applied
    measures: str  # digest of what is measured, as last applied
    measured_from: int  # runs of older revisions do not vote
    state: State
    bound: Bound = Bound()  # what others make of it, as last applied


class ConflictError(Exception):
    """Somebody else saved one of the states first: roll back, load again, fold again."""


decode_state: Final = msgspec.json.Decoder(State).decode
"""A `state` column read as text."""
decode_bound: Final = msgspec.json.Decoder(Bound).decode
"""A `bound` column read as text."""


async def load(
    connection: Connection, *, partition: int | None = None, beats: Sequence[UUID] | None = None
) -> list[Held]:
    """States of a partition, or of these beats; of a removed beat only while its end is not folded in yet."""
    rows = await connection.fetch(
        "SELECT s.subject_id, s.version, s.revision, s.measures, s.measured_from, s.state::text, s.bound::text "
        "FROM states s "
        "JOIN objects o ON o.id = s.subject_id WHERE ($1::int2 IS NULL OR s.partition = $1) "
        "AND ($2::uuid[] IS NULL OR s.subject_id = ANY ($2)) "
        "AND (o.removed_at IS NULL OR s.state->>'suspended' IS DISTINCT FROM 'true' "
        "     OR s.state->>'severity' IS NOT NULL OR s.state->>'group' IS NOT NULL)",
        partition,
        beats,
    )
    return [
        Held(
            row["subject_id"],
            row["version"],
            row["revision"],
            row["measures"],
            row["measured_from"],
            decode_state(row["state"]),
            decode_bound(row["bound"]),
        )
        for row in rows
    ]


async def save(connection: Connection, held: Sequence[Held]) -> None:
    """Write states, each only if its `version` is still the stored one; then that is version + 1.

    Raises `ConflictError` when any was not: the transaction must be rolled back.
    """
    if not held:
        return
    saved = await connection.fetchval(
        "WITH saved AS (UPDATE states s SET version = s.version + 1, revision = n.revision, "
        " measures = n.measures, measured_from = n.measured_from, state = n.state::json, stage = n.stage, "
        " since = to_timestamp(n.since) "
        "FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::text[], $5::int8[], $6::text[], $7::text[], $8::float8[]) "
        "AS n (subject_id, version, revision, measures, measured_from, state, stage, since) "
        "WHERE s.subject_id = n.subject_id AND s.version = n.version RETURNING 1) SELECT count(*) FROM saved",
        [h.subject_id for h in held],
        [h.version for h in held],
        [h.revision for h in held],
        [h.measures for h in held],
        [h.measured_from for h in held],
        [msgspec.json.encode(h.state).decode() for h in held],
        [h.state.stage for h in held],
        [h.state.since for h in held],
    )
    if saved != len(held):
        raise ConflictError


async def save_bounds(connection: Connection, bounds: Mapping[UUID, Bound]) -> None:
    """Write what others make of these now: apart from their states, which change all the time."""
    if bounds:
        await connection.execute(
            "UPDATE states s SET bound = n.bound::json FROM unnest($1::uuid[], $2::text[]) AS n (subject_id, bound) "
            "WHERE s.subject_id = n.subject_id",
            list(bounds),
            [msgspec.json.encode(bound).decode() for bound in bounds.values()],
        )


BOUND: Final = (
    "CASE WHEN s.bound::text <> '{}' THEN s.bound::text ELSE (SELECT json_build_object('regions', coalesce("
    "json_agg(slug ORDER BY slug), '[]'))::text FROM objects WHERE kind = 'region' AND removed_at IS NULL) END"
)
"""What others make of a beat or group, as text; of one that no evaluator has seen yet the regions there are."""


async def summaries(connection: Connection, beats: Sequence[UUID]) -> dict[UUID, Row]:
    """stage, since, paused_until, paused_by, state and bound (text) of each of these beats or groups."""
    rows = await connection.fetch(
        "SELECT subject_id, stage, since, paused_until, paused_by, state::text, "
        f"{BOUND} AS bound FROM states s WHERE subject_id = ANY ($1)",
        list(beats),
    )
    return {row["subject_id"]: row for row in rows}


async def members(connection: Connection, groups: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """id, slug, stage and since of the beats that name each of these groups, the worst first."""
    rows = await connection.fetch(
        "SELECT s.bound->>'group' AS group_id, o.id, o.slug, s.stage, s.since FROM states s "
        "JOIN objects o ON o.id = s.subject_id WHERE o.removed_at IS NULL AND s.bound->>'group' = ANY ($1) "
        "ORDER BY array_position(ARRAY['critical', 'warning', 'unknown', 'ok'], s.stage), o.slug",
        [str(group) for group in groups],
    )
    found: dict[UUID, list[Row]] = {group: [] for group in groups}
    for row in rows:
        found[UUID(row["group_id"])].append(row)
    return found


async def pause(connection: Connection, actor: Actor, subject: Stored, until: datetime | None) -> None:
    """Stop `subject`, a beat or group, until `until`, or until somebody resumes it (None)."""
    await connection.execute(
        "UPDATE states SET paused_until = coalesce($2::timestamptz, 'infinity'), paused_by = $3 WHERE subject_id = $1",
        subject.id,
        until,
        actor.name,
    )
    after = {"until": until.isoformat() if until else None}
    await _touched(connection, actor, subject, "pause", after)


async def resume(connection: Connection, actor: Actor, subject: Stored) -> None:
    """Let `subject` go on."""
    await connection.execute(
        "UPDATE states SET paused_until = NULL, paused_by = NULL WHERE subject_id = $1", subject.id
    )
    await _touched(connection, actor, subject, "resume", None)


async def _touched(connection: Connection, actor: Actor, subject: Stored, verb: str, after: Any) -> None:
    await connection.execute("UPDATE objects SET updated_at = clock_timestamp() WHERE id = $1", subject.id)
    await record(connection, actor, f"{subject.kind}.{verb}", subject.slug, subject.page_id, None, after)
    await connection.execute("SELECT pg_notify($1, $2)", CHANGED, subject.kind)


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of a beat's history, with the fresh votes it rested on; `at` in seconds since the epoch."""

    subject_id: UUID
    at: float
    was: Stage
    stage: Stage
    votes: Mapping[str, str]
    suppressed_by: Sequence[str] = ()  # why a bad stage opened no episode


async def record_transitions(connection: Connection, made: Sequence[Transition]) -> None:
    """Write lines of history, in their order."""
    if made:
        await connection.execute(
            "INSERT INTO transitions (subject_id, at, was, stage, votes, suppressed_by) SELECT subject_id, "
            "to_timestamp(at), was, stage, votes::json, suppressed_by::json FROM unnest($1::uuid[], $2::float8[], "
            "$3::text[], $4::text[], $5::text[], $6::text[]) AS t (subject_id, at, was, stage, votes, suppressed_by)",
            [one.subject_id for one in made],
            [one.at for one in made],
            [one.was for one in made],
            [one.stage for one in made],
            [msgspec.json.encode(one.votes).decode() for one in made],
            [msgspec.json.encode(one.suppressed_by).decode() if one.suppressed_by else None for one in made],
        )


async def note_suppression(connection: Connection, reasons: Mapping[UUID, Sequence[str]]) -> None:
    """Why these open nothing now is written to the line of history in which they became bad."""
    if reasons:
        await connection.execute(
            "UPDATE transitions t SET suppressed_by = n.reasons::json FROM unnest($1::uuid[], $2::text[]) "
            "AS n (subject_id, reasons) WHERE t.id = (SELECT id FROM transitions WHERE subject_id = n.subject_id "
            "ORDER BY at DESC, id DESC LIMIT 1)",
            list(reasons),
            [msgspec.json.encode(found).decode() for found in reasons.values()],
        )


async def transitions(
    connection: Connection, beats: Sequence[UUID], *, since: datetime, limit: int | None = None
) -> list[Row]:
    """Transitions of these beats from `since` on, oldest first, each beat's last one before `since` included."""
    return await connection.fetch(
        "(SELECT t.* FROM unnest($1::uuid[]) AS b (id) CROSS JOIN LATERAL (SELECT * FROM transitions "
        "  WHERE subject_id = b.id AND at < $2 ORDER BY at DESC, id DESC LIMIT 1) t) "
        "UNION ALL (SELECT * FROM transitions WHERE subject_id = ANY ($1) AND at >= $2) ORDER BY at, id LIMIT $3",
        list(beats),
        since,
        limit,
    )


def moment(epoch_s: float) -> datetime:
    """Seconds since the epoch as an aware datetime."""
    return datetime.fromtimestamp(epoch_s, UTC)
