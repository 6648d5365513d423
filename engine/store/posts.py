"""Steps of incidents for the publishers of their pages: put together, and queued in the transaction that takes them."""

from typing import Literal
from uuid import UUID

from engine.store import outbox
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, show
from evaluators.lifecycle import ENDED, impact_of
from evaluators.model import Post
from evaluators.public import component_status


async def queue(
    connection: Connection,
    incident: UUID,
    step: Literal["open", "update", "resolve", "edit", "delete"],
    at: float,
    update: UUID | None = None,
    *,
    only: UUID | None = None,
) -> None:
    """Queue this step for every publisher that the incident goes to, or for `only` one. `update`: what is said with it."""
    row = await connection.fetchrow(
        "SELECT i.*, p.slug AS page, u.text, u.is_markdown, u.notify, u.revision AS said FROM incidents i "
        "JOIN objects p ON p.id = i.page_id LEFT JOIN (SELECT *, coalesce(extract(epoch FROM edited_at)::text, '') AS revision "
        "FROM updates) u ON u.id = $2 WHERE i.id = $1",
        incident,
        update,
    )
    assert row is not None
    publishers = await connection.fetch(
        "SELECT id, spec FROM objects WHERE kind = 'publisher' AND removed_at IS NULL AND page_id = $1 "
        "AND coalesce((spec->>'enabled')::bool, true) AND ($2::uuid[] IS NULL OR id = ANY ($2)) "
        "AND ($3::uuid IS NULL OR id = $3) AND ($4 = 'incident' OR coalesce((spec->>'maintenance')::bool, true))",
        row["page_id"],
        row["publishers"],
        only,
        row["kind"],
    )
    if not publishers:
        return
    components = await _components(connection, row)
    post = Post(
        id=str(derived_id("post", incident, step, update or row["revision"], row["said"] or "")),
        step=step,
        incident=show("incident", incident),
        kind=row["kind"],
        page=row["page"],
        title=row["title"],
        status=row["status"],
        impact=impact_of(row["severity"], row["components"].values(), row["impact"]),
        at=at,
        began_at=row["created_at"].timestamp(),
        components=components,
        text=row["text"] or "",
        is_markdown=row["is_markdown"] or False,
        notify=row["notify"] if row["notify"] is not None else False,
        is_backfilled=row["is_backfilled"],
        starts_at=row["starts_at"].timestamp() if row["starts_at"] else None,
        ends_at=row["ends_at"].timestamp() if row["ends_at"] else None,
    )
    ids = [one["id"] for one in publishers]
    await outbox.put(
        connection, ids, show("incident", incident), post.id, post, incident=incident, update=update
    )


async def _components(connection: Connection, incident: Row) -> dict[str, str]:
    """What each component that the incident ever named is shown as now: other open incidents have their say."""
    named = await connection.fetch(
        "SELECT c.id, p.slug || '/' || c.slug AS path, c.spec->>'status' AS manual FROM objects c "
        "JOIN objects p ON p.id = c.page_id WHERE c.removed_at IS NULL AND c.id IN "
        "(SELECT jsonb_object_keys(components)::uuid FROM updates WHERE incident_id = $1 "
        " UNION SELECT jsonb_object_keys(components)::uuid FROM incidents WHERE id = $1)",
        incident["id"],
    )
    shown = await connection.fetch(
        "SELECT key AS id, CASE WHEN kind = 'incident' THEN value ELSE 'under_maintenance' END AS status "
        "FROM incidents, jsonb_each_text(components) WHERE components ?| $1 AND removed_at IS NULL "
        "AND status <> ALL ($2) AND (kind = 'incident' OR status <> 'scheduled')",
        [str(row["id"]) for row in named],
        ENDED,
    )
    return {
        row["path"]: component_status(
            row["manual"], [one["status"] for one in shown if one["id"] == str(row["id"])]
        )
        for row in named
    }
