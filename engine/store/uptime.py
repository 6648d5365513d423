"""What uptime is computed from: who feeds what, when which stage began, who was paused or unseen, windows, incidents. It computes no share.

Transitions are kept for 400 days, and of what was before them the last: any time is read by one short index scan per
subject. What a component or group is made of is what is declared now, removed objects included while they have a history.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from engine.store import objects
from engine.store.database import Connection, Row
from engine.store.ids import partition_of
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators.public import PRECEDENCE
from evaluators.uptime import PAUSED, Span, Windows, covered, lasting, of_incidents
from rules.maintenance import Maintenance, keys

SLICE: Final = 20_000  # transitions read at once
_OF_SEVERITY: Final = {"warning": "degraded_performance", "critical": "major_outage"}
"""What an incident says that names no component."""


async def slices(
    connection: Connection, subjects: Sequence[Stored], since: float, until: float
) -> list[float]:
    """`since`, `until` and edges between, for what flaps all year to be read and computed bit by bit."""
    found = await connection.fetchval(
        "SELECT count(*) FROM transitions WHERE subject_id = ANY ($1) AND at >= $2 AND at < $3",
        [subject.id for subject in subjects],
        moment(since),
        moment(until),
    )
    pieces = found // SLICE + 1
    return [since, *(since + (until - since) * n // pieces for n in range(1, pieces)), until]


async def stages(
    connection: Connection, subjects: Sequence[Stored], since: float, until: float
) -> dict[UUID, list[Span]]:
    """Of each beat or group the stages it had in that time, from its birth to its removal; `paused` and unseen ones are no stage."""
    ids = [subject.id for subject in subjects]
    rows = await connection.fetch(  # in arrays: a row object for each transition would cost more than all else
        "SELECT subject_id, array_agg(extract(epoch FROM at)::float8 ORDER BY at, id) AS at, "
        "array_agg(stage ORDER BY at, id) AS stage FROM ("
        "(SELECT t.* FROM unnest($1::uuid[]) AS b (id) CROSS JOIN LATERAL (SELECT id, subject_id, at, stage "
        "  FROM transitions WHERE subject_id = b.id AND at < $2 ORDER BY at DESC, id DESC LIMIT 1) t) "
        "UNION ALL (SELECT id, subject_id, at, stage FROM transitions "
        "  WHERE subject_id = ANY ($1) AND at >= $2 AND at < $3)) t GROUP BY subject_id",
        ids,
        moment(since),
        moment(until),
    )
    points = {row["subject_id"]: list(zip(row["at"], row["stage"], strict=True)) for row in rows}
    paused, unseen = await _pauses(connection, ids, until), await _absences(connection, since, until)
    found: dict[UUID, list[Span]] = {}
    for subject in subjects:
        known = points.get(subject.id, [])
        born = min([subject.created_at.timestamp(), *(at for at, _ in known[:1])])
        end = min(until, subject.removed_at.timestamp()) if subject.removed_at else until
        line = covered(
            lasting(known, max(born, since), end), unseen.get(partition_of(subject.id), ()), "unknown"
        )
        found[subject.id] = covered(line, paused.get(subject.id, ()), PAUSED)
    return found


async def _pauses(
    connection: Connection, ids: Sequence[UUID], until: float
) -> dict[UUID, list[tuple[float, float]]]:
    """When each was paused."""
    paused: dict[UUID, list[tuple[float, float]]] = {}
    for row in await connection.fetch(
        "SELECT subject_id, at, fact->>'type' = 'Suspended' AS begins FROM facts WHERE subject_id = ANY ($1) "
        "AND fact->>'type' IN ('Suspended', 'Continued') AND at < $2 ORDER BY at, position",
        list(ids),
        until,
    ):
        mine = paused.setdefault(row["subject_id"], [])
        if row["begins"]:
            mine.append((row["at"], until))
        else:
            mine[:] = [(start, min(end, row["at"])) for start, end in mine]
    return paused


async def _absences(connection: Connection, since: float, until: float) -> dict[int, Windows]:
    """When nobody evaluated the beats and groups of each partition."""
    rows = await connection.fetch(
        "SELECT partition, array_agg(extract(epoch FROM left_at)::float8) AS begins, "
        "array_agg(extract(epoch FROM returned_at)::float8) AS ends FROM absences "
        "WHERE returned_at > $1 AND left_at < $2 GROUP BY partition",
        moment(since),
        moment(until),
    )
    return {row["partition"]: list(zip(row["begins"], row["ends"], strict=True)) for row in rows}


async def keep_absences(
    connection: Connection, partition: int, absences: Sequence[tuple[float, float]]
) -> None:
    """Remember when nobody evaluated it, from and to."""
    await connection.executemany(
        "INSERT INTO absences (partition, left_at, returned_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        [(partition, moment(left_at), moment(returned_at)) for left_at, returned_at in absences],
    )


async def feeding(connection: Connection, component: Stored, page: str, since: float) -> list[Stored]:
    """The beats and groups whose stages are the component's: beats of a group count by their group."""
    rows = await connection.fetch(
        "SELECT id FROM objects WHERE kind IN ('beat', 'group') AND (removed_at IS NULL OR removed_at > $4) "
        "AND spec->>'group' IS NULL AND (spec->'components' ? $2 OR page_id = $3 AND spec->'components' ? $1)",
        component.slug,
        f"{page}/{component.slug}",
        component.page_id,
        moment(since),
    )
    return await objects.several(connection, [row["id"] for row in rows])


async def measured(connection: Connection, subjects: Sequence[Stored]) -> list[Stored]:
    """The beats whose runs count: of groups those of their members."""
    groups = [subject for subject in subjects if subject.kind == "group"]
    rows = await connection.fetch(
        "SELECT o.id FROM objects o JOIN unnest($1::uuid[], $2::text[]) AS g (page_id, slug) "
        "ON o.page_id = g.page_id AND o.spec->>'group' = g.slug WHERE o.kind = 'beat' AND o.removed_at IS NULL",
        [group.page_id for group in groups],
        [group.slug for group in groups],
    )
    members = await objects.several(connection, [row["id"] for row in rows])
    return [*(subject for subject in subjects if subject.kind == "beat"), *members]


async def windows(
    connection: Connection, subjects: Sequence[Stored], since: float, until: float
) -> dict[UUID, Windows]:
    """When each of these (beats, groups, components) was under maintenance, as it is declared now."""
    rows = await connection.fetch("SELECT id, slug FROM objects WHERE kind = 'page'")
    pages: dict[UUID | None, str] = {row["id"]: row["slug"] for row in rows}
    mine = {
        one.id: keys(
            one.kind, pages[one.page_id], one.slug, one.spec.get("group"), one.spec.get("components", ())
        )
        for one in subjects
    }
    by_key: dict[tuple[str, str, str], list[UUID]] = {}
    for subject_id, its in mine.items():
        for key in its:
            by_key.setdefault(key, []).append(subject_id)
    fed = [key for key in by_key if key[0] == "component"]
    found: dict[UUID, list[tuple[float, float]]] = {one.id: [] for one in subjects}
    for row in await connection.fetch(
        "SELECT page_id, spec, extract(epoch FROM removed_at)::float8 AS removed FROM objects "
        "WHERE kind = 'maintenance' AND (removed_at IS NULL OR removed_at > $1) "
        "AND (page_id = ANY ($2) OR spec->'components' ?| $3)",
        moment(since),
        list({one.page_id for one in subjects}),
        [path for _, page, slug in fed for path in (slug, f"{page}/{slug}")],
    ):
        window = Maintenance.model_validate(row["spec"])
        about = window.about(pages[row["page_id"]])
        covered = {subject_id for key in about for subject_id in by_key.get(key, ())}
        for start, end in window.spans(since, min(until, row["removed"] or until)) if covered else ():
            for subject_id in covered:
                found[subject_id].append((start, min(end, row["removed"] or end)))
    return {subject_id: tuple(spans) for subject_id, spans in found.items()}


_SPOKEN: Final = (
    "SELECT incident_id, at, position, status, components FROM updates UNION ALL (SELECT DISTINCT ON (b.incident_id) "
    "b.incident_id, i.created_at, 0, 'investigating', b.components FROM updates b JOIN incidents i ON i.id = b.incident_id "
    "WHERE i.is_backfilled ORDER BY b.incident_id, b.at, b.position)"
)
"""What customers were told; what was entered after the fact began before anything was said of it."""


async def impacts(connection: Connection, subject: Stored, since: float, until: float) -> list[Span]:
    """What approved incidents say: of a component, or of the beat or group that owned their episodes."""
    is_component = subject.kind == "component"
    which = (
        "i.id IN (SELECT incident_id FROM updates WHERE components ? $1::text)"
        if is_component
        else "e.owner_id = $1::text::uuid"
    )
    rows = await connection.fetch(
        "SELECT u.incident_id, extract(epoch FROM u.at)::float8 AS at, u.status, u.components, e.peak "
        f"FROM ({_SPOKEN}) u JOIN incidents i ON i.id = u.incident_id LEFT JOIN episodes e ON e.id = i.episode_id "
        f"WHERE {which} AND i.kind = 'incident' AND i.removed_at IS NULL AND (i.resolved_at IS NULL OR i.resolved_at >= $2) AND u.at < $3 ORDER BY u.at, u.position",
        str(subject.id),
        moment(since),
        moment(until),
    )
    key = str(subject.id) if is_component else None
    return of_incidents(((row["incident_id"], row["at"], _said(row, key)) for row in rows), until)


def _said(update: Row | Mapping[str, Any], component: str | None) -> str | None:
    """What an update says of this component, or (None) of its owner; None: nothing any more."""
    if update["status"] == "resolved":
        return None
    if component is not None:
        status: str | None = update["components"].get(component)
        return status
    named = update["components"].values()
    return max(named, key=lambda status: PRECEDENCE[status], default=_OF_SEVERITY[update["peak"]])
