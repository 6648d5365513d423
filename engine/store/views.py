"""What the console's and the status page's views read at once: each a constant number of queries, whatever the count."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from engine.store import evidence
from engine.store.database import Connection, Row
from engine.store.states import BOUND
from evaluators.lifecycle import ENDED

_PAUSED = "(coalesce(s.paused_until > now(), false) OR coalesce(o.spec->>'enabled', 'true') = 'false')"
_FROM = "FROM objects o JOIN states s ON s.subject_id = o.id WHERE o.removed_at IS NULL "
_GROUP = "nullif(s.bound->>'group', '')::uuid"
_COUNTS = ", ".join(
    f"count(*) FILTER (WHERE s.stage = '{stage}' AND NOT {_PAUSED}) AS {stage}"
    for stage in ("critical", "warning", "unknown", "ok")
)


async def stage_counts(connection: Connection, pages: Sequence[UUID] | None) -> Row:
    """How many beats of these pages (None: all) are ok, warning, critical, unknown and paused; paused ones only there."""
    row: Row | None = await connection.fetchrow(
        f"SELECT {_COUNTS}, count(*) FILTER (WHERE {_PAUSED}) AS paused {_FROM}"
        "AND o.kind = 'beat' AND ($1::uuid[] IS NULL OR o.page_id = ANY ($1))",
        pages,
    )
    assert row is not None
    return row


async def member_counts(connection: Connection, groups: Sequence[UUID]) -> dict[UUID, Row]:
    """How many members each of these groups has (`total`), and how many that are not paused are in which stage."""
    rows = await connection.fetch(
        f"SELECT {_GROUP} AS group_id, count(*) AS total, {_COUNTS} {_FROM} AND {_GROUP} = ANY ($1) GROUP BY 1",
        list(groups),
    )
    return {row["group_id"]: row for row in rows}


async def subjects(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    kind: str | None = None,
    ids: Sequence[UUID] | None = None,
    members_of: Sequence[UUID] | None = None,
    folded: bool = False,
    search: str | None = None,
    stage: str | None = None,
    tag: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[Row]:
    """Beats and groups with their state, the worst first; `total` of each row counts all that fit.

    `stage` may be `paused`; `folded`: without beats that are in a group. Of `members_of` many groups each has its share.
    """
    worst = "f.place, f.slug, f.id"
    if members_of is not None:
        worst = f"row_number() OVER (PARTITION BY f.group_id ORDER BY {worst}), {worst}"
    return await connection.fetch(
        f"WITH fit AS (SELECT f.* FROM (SELECT o.id, {_GROUP} AS group_id, count(*) OVER () AS total, "
        f"CASE WHEN {_PAUSED} THEN 4 ELSE array_position(ARRAY['critical', 'warning', 'unknown', 'ok'], s.stage) END "
        f"AS place, o.slug {_FROM} AND ($1::uuid[] IS NULL OR o.page_id = ANY ($1)) "
        "AND ($2::uuid[] IS NULL OR o.id = ANY ($2)) "
        "AND ($3::text IS NULL OR strpos(o.slug, lower($3)) > 0 OR strpos(lower(o.spec->>'name'), lower($3)) > 0) "
        f"AND ($4::text IS NULL OR CASE $4 WHEN 'paused' THEN {_PAUSED} ELSE s.stage = $4 AND NOT {_PAUSED} END) "
        "AND ($5::text IS NULL OR o.spec->'tags' ? $5) AND ($8::text IS NULL OR o.kind = $8) "
        f"AND ($9::uuid[] IS NULL OR {_GROUP} = ANY ($9)) AND NOT ($10 AND EXISTS (SELECT FROM objects g "
        f"WHERE g.id = {_GROUP} AND g.removed_at IS NULL)) "
        f") f ORDER BY {worst} LIMIT $6 OFFSET $7) "
        "SELECT o.id, o.kind, o.slug, o.page_id, o.spec, o.revision, p.slug AS page, s.stage, s.since, s.paused_until, "
        "s.state::text, fit.group_id, "
        f"{BOUND} AS bound, "
        f"{_PAUSED} AS paused, fit.total FROM fit JOIN objects o ON o.id = fit.id "
        "JOIN objects p ON p.id = o.page_id JOIN states s ON s.subject_id = o.id ORDER BY fit.place, o.slug, o.id",
        pages,
        ids,
        search,
        stage,
        tag,
        limit,
        offset,
        kind,
        members_of,
        folded,
    )


async def tags(connection: Connection, pages: Sequence[UUID] | None) -> list[str]:
    """The tags in use on these pages, the 50 most used, by name."""
    rows = await connection.fetch(
        "SELECT tag FROM (SELECT jsonb_array_elements_text(o.spec->'tags') AS tag FROM objects o "
        "WHERE o.kind = 'beat' AND o.removed_at IS NULL AND o.spec ? 'tags' "
        "AND ($1::uuid[] IS NULL OR o.page_id = ANY ($1))) t GROUP BY tag ORDER BY count(*) DESC, tag LIMIT 50",
        pages,
    )
    return sorted(row["tag"] for row in rows)


async def newest_totals(
    connection: Connection, beat_ids: Sequence[UUID], since: datetime, each: int
) -> dict[UUID, list[float]]:
    """The last `each` run times of each beat in seconds, oldest first."""
    rows = await connection.fetch(
        "SELECT b.id, array(SELECT r.total FROM results r WHERE r.beat_id = b.id AND r.scheduled_at >= $2 "
        "AND r.total IS NOT NULL ORDER BY r.scheduled_at DESC LIMIT $3) AS totals FROM unnest($1::uuid[]) AS b (id)",
        list(beat_ids),
        since,
        each,
    )
    return {row["id"]: row["totals"][::-1] for row in rows}


async def newest_failures(
    connection: Connection, pairs: Sequence[tuple[UUID, str]], since: datetime
) -> dict[tuple[UUID, str], str]:
    """Why the newest voting run of each (beat, region) failed, where it did."""
    rows = await connection.fetch(
        "SELECT g.beat_id, g.region, r.failure_message FROM unnest($1::uuid[], $2::text[]) AS g (beat_id, region) "
        "CROSS JOIN LATERAL (SELECT failure_message FROM results WHERE beat_id = g.beat_id AND region = g.region "
        " AND kind <> 'manual' AND verdict <> 'error' AND scheduled_at >= $3 "
        " ORDER BY scheduled_at DESC, run_id DESC LIMIT 1) r WHERE r.failure_message IS NOT NULL",
        [beat_id for beat_id, _ in pairs],
        [region for _, region in pairs],
        since,
    )
    return {(row["beat_id"], row["region"]): row["failure_message"] for row in rows}


async def run(
    connection: Connection, beat_id: UUID, run_id: UUID, since: datetime, until: datetime
) -> Row | None:
    """One run of a beat that was scheduled between `since` and `until`."""
    row: Row | None = await connection.fetchrow(
        f"SELECT r.*, {evidence.SHOWN} FROM results r {evidence.JOINED} "
        "WHERE r.beat_id = $1 AND r.run_id = $2 AND r.scheduled_at BETWEEN $3 AND $4",
        beat_id,
        run_id,
        since,
        until,
    )
    return row


async def pictured(connection: Connection, run_ids: Sequence[UUID]) -> list[Row]:
    """Of these runs those that have a picture of how they failed."""
    return await connection.fetch(
        f"SELECT r.*, {evidence.SHOWN} FROM run_artifacts a JOIN results r USING (beat_id, scheduled_at, run_id) "
        f"{evidence.JOINED} WHERE a.run_id = ANY ($1) AND a.name = 'failure.jpg'",
        run_ids,
    )


async def failures_pictured(
    connection: Connection, owner_id: UUID, since: datetime, until: datetime, limit: int
) -> list[Row]:
    """How browsers failed last within a time, of each `beat` (its slug) that the owner is or has, and region."""
    return await connection.fetch(
        "WITH newest AS (SELECT DISTINCT ON (o.slug, r.region) o.slug, r.beat_id, r.scheduled_at, r.run_id "
        "FROM objects o JOIN states s ON s.subject_id = o.id CROSS JOIN LATERAL (SELECT * FROM results "
        " WHERE beat_id = o.id AND scheduled_at BETWEEN $2 AND $3 ORDER BY scheduled_at DESC LIMIT 100) r "
        "JOIN run_artifacts a ON a.run_id = r.run_id AND a.scheduled_at = r.scheduled_at AND a.name = 'failure.jpg' "
        f"WHERE o.spec->>'type' = 'browser' AND (o.id = $1 OR {_GROUP} = $1) "
        "ORDER BY o.slug, r.region, r.scheduled_at DESC LIMIT $4) "
        f"SELECT n.slug AS beat, r.*, {evidence.SHOWN} FROM newest n JOIN results r USING (beat_id, scheduled_at, run_id) "
        f"{evidence.JOINED} ORDER BY n.slug, r.region",
        owner_id,
        since,
        until,
        limit,
    )


async def around(connection: Connection, beat_id: UUID, at: datetime, within: timedelta) -> list[Row]:
    """Of each region the run of a beat that was scheduled nearest to `at`, if any was near enough; by region."""
    return await connection.fetch(
        "SELECT DISTINCT ON (r.region) r.*, NULL::json AS evidence, NULL::json AS tried FROM results r "
        "WHERE r.beat_id = $1 AND r.scheduled_at BETWEEN $2::timestamptz - $3::interval AND $2 + $3 "
        "ORDER BY r.region, abs(extract(epoch FROM r.scheduled_at - $2)), r.run_id",
        beat_id,
        at,
        within,
    )


async def standing(connection: Connection, beat_id: UUID, since: datetime) -> Row | None:
    """The newest run of a beat since then that has evidence of certificates or DNS records."""
    row: Row | None = await connection.fetchrow(
        "SELECT r.*, e.evidence, e.tried FROM results r JOIN evidence e ON e.scheduled_at = r.scheduled_at "
        "AND e.run_id = r.run_id WHERE r.beat_id = $1 AND r.scheduled_at >= $2 AND e.evidence::jsonb ?| "
        "ARRAY['tls', 'records', 'answers'] ORDER BY r.scheduled_at DESC, r.run_id DESC LIMIT 1",
        beat_id,
        since,
    )
    return row


async def pending(connection: Connection, pages: Sequence[UUID] | None) -> int:
    """How many actions of these pages wait for a person."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM actions WHERE status = 'pending' AND ($1::uuid[] IS NULL OR page_id = ANY ($1))",
        pages,
    )
    return count


async def stamps(
    connection: Connection,
    page_id: UUID,
    listed: Sequence[str],
    since: datetime,
    limit: int,
) -> list[Row]:
    """Incidents and maintenance of a page, or of components that it lists, that lasted into the time from `since` on: which revision each has.

    Not what was only ever about components that it does not list, removed ones included. Of each kind the newest `limit`.
    """
    return await connection.fetch(
        "SELECT s.* FROM unnest(ARRAY['incident', 'maintenance']) AS k (kind) CROSS JOIN LATERAL (SELECT id, revision, "
        "starts_at, ends_at FROM incidents WHERE kind = k.kind AND removed_at IS NULL "
        "AND (page_id = $1 AND (named = '{}' OR NOT named <@ ARRAY(SELECT id FROM objects WHERE page_id = $1 "
        "AND kind = 'component' AND spec->>'listed' = 'false')) OR components ?| $2::text[]) "
        "AND (status <> ALL ($4) OR resolved_at >= $3 OR ends_at >= $3) ORDER BY created_at DESC, id DESC LIMIT $5) s",
        page_id,
        listed,
        since,
        ENDED,
        limit,
    )


async def told(connection: Connection, incident_ids: Sequence[UUID]) -> list[Row]:
    """These incidents and maintenance, in no order."""
    return await connection.fetch("SELECT * FROM incidents WHERE id = ANY ($1)", list(incident_ids))


async def shown_beats(
    connection: Connection, page: str, page_id: UUID, components: Mapping[UUID, str], limit: int
) -> list[Row]:
    """The beats whose latency each of these components (id -> slug) of a page shows, as their editors said; they or their groups feed it.

    Rows of component_id, beat_id, name, and `versions`: the revisions of what says so.
    """
    return await connection.fetch(
        "SELECT c.id AS component_id, b.id AS beat_id, coalesce(b.spec->>'name', b.slug) AS name, "
        "jsonb_strip_nulls(jsonb_build_object(b.id, b.revision, coalesce(g.id, b.id), coalesce(g.revision, b.revision))) "
        "AS versions FROM objects b LEFT JOIN objects g ON g.kind = 'group' AND g.page_id = b.page_id "
        "AND g.slug = b.spec->>'group' AND g.removed_at IS NULL CROSS JOIN LATERAL (SELECT CASE WHEN b.spec ? 'group' "
        "THEN g.spec ELSE b.spec END->'components' AS names) f JOIN unnest($1::uuid[], $2::text[]) AS c (id, slug) "
        "ON f.names ? ($3 || '/' || c.slug) OR b.page_id = $4 AND f.names ? c.slug "
        "WHERE b.kind = 'beat' AND b.removed_at IS NULL AND b.spec->'public' = 'true' ORDER BY b.slug, b.id LIMIT $5",
        list(components),
        list(components.values()),
        page,
        page_id,
        limit,
    )


async def versions(connection: Connection, ids: Sequence[UUID]) -> dict[str, int]:
    """The revision of each of these objects that is there."""
    rows = await connection.fetch(
        "SELECT id, revision FROM objects WHERE id = ANY ($1) AND removed_at IS NULL", list(ids)
    )
    return {str(row["id"]): row["revision"] for row in rows}


async def run_together(connection: Connection, regions: Sequence[str]) -> bool:
    """Whether all of several regions are run by one process now: they share its network, and its failures."""
    row = await connection.fetchrow(
        "SELECT count(DISTINCT kind) AS regions, count(DISTINCT holder) AS holders FROM leases "
        "WHERE kind = ANY ($1) AND holder <> '' AND until > now()",
        [f"probe:{region}" for region in regions],
    )
    assert row is not None
    return len(regions) > 1 and row["regions"] == len(regions) and row["holders"] == 1
