"""Incidents and announced maintenance, as customers see them: begun, spoken of, listed. Who may say what is not decided here.

Whatever changes what customers see goes to the publishers of the page in the same transaction: see `engine.store.posts`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from engine.store import posts
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, new_id
from evaluators.lifecycle import ENDED
from evaluators.model import Impact, Severity
from rules.incident import Step


@dataclass(frozen=True, slots=True, kw_only=False)
class Said:
    """One step in public. `status` None: it stays what it is. `components`: id to status, all that are affected from now on."""

    step: Step
    status: str | None
    title: str
    text: str
    components: Mapping[str, str]
    at: float  # seconds since the epoch
    by: str
    severity: Severity | None = None
    impact: Impact | None = None  # set by a person
    notify: bool = True
    is_markdown: bool = False
    is_backfilled: bool = False
    publishers: Sequence[UUID] | None = None  # of a new one: where it goes; None: to all of its page
    action_id: UUID | None = None
    update_id: UUID | None = None


def update_id(said: Said) -> UUID:
    """Of the update that says it: the same for the same action, so that it is said once."""
    if said.update_id is not None:
        return said.update_id
    return derived_id("update", said.action_id) if said.action_id else new_id()


async def begin(
    connection: Connection, incident: UUID, page_id: UUID, said: Said, episode_id: UUID | None = None
) -> None:
    """A new incident with its first update."""
    await connection.execute(
        "INSERT INTO incidents (id, page_id, episode_id, title, status, components, created_at, severity, impact, by, "
        "is_backfilled, publishers) VALUES ($1, $2, $3, $4, $5, $6, to_timestamp($7), $8, $9, $10, $11, $12)",
        incident,
        page_id,
        episode_id,
        said.title,
        said.status,
        said.components,
        said.at,
        said.severity,
        said.impact,
        said.by,
        said.is_backfilled,
        said.publishers,
    )
    await _write(connection, incident, said)


async def say(connection: Connection, incident: UUID, said: Said) -> None:
    """An update of an incident."""
    await connection.execute(
        "UPDATE incidents SET status = coalesce($2, status), components = $3, severity = coalesce($5, severity), "
        "impact = coalesce($6, impact), revision = revision + 1, silence_told_at = NULL, "
        "resolved_at = CASE WHEN $2 = ANY ($7) THEN to_timestamp($4) "
        "WHEN $2 IS NULL THEN resolved_at END WHERE id = $1",
        incident,
        said.status,
        said.components,
        said.at,
        said.severity,
        said.impact,
        ENDED,
    )
    await _write(connection, incident, said)


async def _write(connection: Connection, incident: UUID, said: Said) -> None:
    update = update_id(said)
    await connection.execute(
        "INSERT INTO updates (id, incident_id, action_id, status, text, components, at, by, notify, is_markdown) "
        "SELECT $1, $2, $3, status, $4, $5, to_timestamp($6), $7, $8, $9 FROM incidents WHERE id = $2",
        update,
        incident,
        said.action_id,
        said.text,
        said.components,
        said.at,
        said.by,
        said.notify,
        said.is_markdown,
    )
    await posts.queue(connection, incident, said.step, said.at, update)


async def listing(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    status: str | None = None,
    kind: str | None = None,
    incident: UUID | None = None,
    owner: UUID | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Row]:
    """Incidents and announced maintenance, newest first; `status` `open` is every one that has not ended."""
    return await connection.fetch(
        "SELECT i.*, p.slug AS page, o.slug AS owner, o.kind AS owner_kind FROM incidents i "
        "JOIN objects p ON p.id = i.page_id "
        "LEFT JOIN episodes e ON e.id = i.episode_id LEFT JOIN objects o ON o.id = e.owner_id "
        "WHERE i.removed_at IS NULL AND ($1::uuid[] IS NULL OR i.page_id = ANY ($1)) AND ($8::text IS NULL OR i.kind = $8) "
        "AND ($2::text IS NULL OR CASE $2 WHEN 'open' THEN i.status <> ALL ($9) ELSE i.status = $2 END) "
        "AND ($3::uuid IS NULL OR i.id = $3) AND ($7::uuid IS NULL OR e.owner_id = $7) "
        "AND ($4::timestamptz IS NULL OR (i.created_at, i.id) < ($4, $5)) "
        "ORDER BY i.created_at DESC, i.id DESC LIMIT $6",
        pages,
        status,
        incident,
        before[0] if before else None,
        before[1] if before else None,
        limit,
        owner,
        kind,
        ENDED,
    )


async def updates(connection: Connection, incident_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """Updates of these incidents, newest first."""
    rows = await connection.fetch(
        "SELECT * FROM updates WHERE incident_id = ANY ($1) ORDER BY at DESC, id DESC", list(incident_ids)
    )
    found: dict[UUID, list[Row]] = {incident: [] for incident in incident_ids}
    for row in rows:
        found[row["incident_id"]].append(row)
    return found


async def component_names(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """(page slug, slug, name) of components by id, removed ones too."""
    rows = await connection.fetch(
        "SELECT c.id, p.slug AS page, c.slug, c.spec->>'name' AS name FROM objects c "
        "JOIN objects p ON p.id = c.page_id WHERE c.id = ANY ($1::uuid[])",
        list(ids),
    )
    return {str(row["id"]): (row["page"], row["slug"], row["name"]) for row in rows}
