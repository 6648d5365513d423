"""What became of incidents at publishers: what was delivered, what is remembered, what is shown there. Queueing is `posts`', sending `engine.delivery`'s."""

from uuid import UUID

from engine.store.database import Connection, Row
from engine.store.ids import show
from evaluators.lifecycle import ENDED

MOST: int = 10
"""Incidents of a publisher that are compared at once."""


async def deliveries(connection: Connection, incident: UUID) -> list[Row]:
    """Every step of it for every publisher, the oldest first, with what is remembered of it there."""
    return await connection.fetch(
        "SELECT t.slug, o.id, o.item->>'step' AS step, o.item->>'status' AS said, o.status, o.attempts, o.last_error, "
        "o.created_at, o.finished_at, r.remote->>'id' AS remote, r.gone_at FROM outbox o "
        "JOIN objects t ON t.id = o.target_id AND t.kind = 'publisher' "
        "LEFT JOIN remotes r ON r.target_id = o.target_id AND r.line = o.line WHERE o.incident_id = $1 ORDER BY t.slug, o.id",
        incident,
    )


async def remembered(connection: Connection, publisher: UUID, incident: UUID) -> Row | None:
    """What this publisher's next delivery of the incident will be handed; None: it is not there."""
    return await connection.fetchrow(
        "SELECT remote, gone_at FROM remotes WHERE target_id = $1 AND line = $2",
        publisher,
        show("incident", incident),
    )


async def newest(connection: Connection, publisher: UUID) -> list[Row]:
    """The last thing delivered there of each incident that is not over, or was a day ago; the newest first."""
    return await connection.fetch(
        "SELECT * FROM (SELECT DISTINCT ON (o.incident_id) o.id, o.incident_id, o.item, o.finished_at, r.remote, r.gone_at "
        " FROM outbox o JOIN remotes r ON r.target_id = o.target_id AND r.line = o.line "
        " WHERE o.target_id = $1 AND o.status = 'done' AND o.incident_id IS NOT NULL ORDER BY o.incident_id, o.id DESC) s "
        "WHERE item->>'step' <> 'delete' AND (item->>'status' <> ALL ($2) OR finished_at > now() - interval '1 day') "
        "ORDER BY id DESC LIMIT $3",
        publisher,
        ENDED,
        MOST,
    )
