"""How far actions reach: what components are shown as before and after, what came of each delivery, where an incident is still open."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from engine.store.database import Connection, Row
from evaluators.lifecycle import ENDED
from evaluators.public import component_status


class Impact(NamedTuple):
    """What a component is shown as now, and what it is once the action is published."""

    component: str  # id
    before: str
    after: str


async def impacts(connection: Connection, actions: Sequence[Row]) -> dict[UUID, list[Impact]]:
    """Of each of these actions: of all components that it, or its incident until now, names."""
    incidents = [row["of_incident"] for row in actions if row["of_incident"]]
    named = {
        row["id"]: row["components"]
        for row in await connection.fetch(
            "SELECT id, components FROM incidents WHERE id = ANY ($1)", incidents
        )
    }
    touched = {row["id"]: [*(row["components"] | named.get(row["of_incident"], {}))] for row in actions}
    ids = list({component for components in touched.values() for component in components})
    manual = {
        row["id"]: row["manual"]
        for row in await connection.fetch(
            "SELECT id::text, spec->>'status' AS manual FROM objects WHERE id = ANY ($1::uuid[]) AND removed_at IS NULL",
            ids,
        )
    }
    said = await connection.fetch(
        "SELECT i.id, key AS component, CASE WHEN kind = 'incident' THEN value ELSE 'under_maintenance' END AS status "
        "FROM incidents i, jsonb_each_text(components) WHERE components ?| $1 AND removed_at IS NULL "
        "AND i.status <> ALL ($2) AND (kind = 'incident' OR i.status <> 'scheduled')",
        ids,
        ENDED,
    )
    found: dict[UUID, list[Impact]] = {}
    for action in actions:
        found[action["id"]] = []
        for component in touched[action["id"]]:
            if component not in manual:
                continue
            ours = action["components"].get(component) if action["step"] != "resolve" else None
            of_it = [row for row in said if row["component"] == component]
            others = [row["status"] for row in of_it if row["id"] != action["of_incident"]]
            before = component_status(manual[component], [row["status"] for row in of_it])
            after = component_status(manual[component], [*others, *([ours] if ours else [])])
            found[action["id"]].append(Impact(component, before, after))
    return found


async def deliveries(connection: Connection, action_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """What came of each action's delivery to publishers, by slug."""
    rows = await connection.fetch(
        "SELECT u.action_id, t.slug, o.status, o.attempts, o.last_error, o.finished_at, r.gone_at IS NOT NULL AS is_gone "
        "FROM updates u JOIN outbox o ON o.update_id = u.id JOIN objects t ON t.id = o.target_id AND t.kind = 'publisher' "
        "LEFT JOIN remotes r ON r.target_id = o.target_id AND r.line = o.line WHERE u.action_id = ANY ($1) ORDER BY t.slug, o.id",
        list(action_ids),
    )
    return {action: [row for row in rows if row["action_id"] == action] for action in action_ids}


async def still_open(
    connection: Connection, incident_ids: Sequence[UUID]
) -> dict[UUID, list[dict[str, Any]]]:
    """Where these incidents are still shown as open though what they are about is over: `target` (`page` is our own), and `why`.

    What a person took over is theirs to end; what was removed there by hand is not there.
    """
    incidents = await connection.fetch(
        "SELECT i.id, i.status, p.slug AS page, a.status AS said, a.decided_by, a.reason FROM incidents i "
        "JOIN objects p ON p.id = i.page_id LEFT JOIN episodes e ON e.id = i.episode_id "
        "LEFT JOIN LATERAL (SELECT * FROM actions WHERE incident_id = i.id OR episode_id = i.episode_id AND step = 'resolve' "
        " ORDER BY step = 'resolve' DESC, created_at DESC LIMIT 1) a ON a.step = 'resolve' WHERE i.id = ANY ($1) "
        "AND i.removed_at IS NULL AND i.taken_over_by IS NULL AND (i.status = ANY ($2) OR e.closed_at IS NOT NULL)",
        list(incident_ids),
        ENDED,
    )
    posted = await connection.fetch(
        "SELECT o.incident_id, t.slug, bool_or(o.status = 'pending') AS waits, "
        "(array_agg(o.item ORDER BY o.id DESC) FILTER (WHERE o.status = 'done'))[1] AS last, "
        "(array_agg(o.last_error ORDER BY o.id) FILTER (WHERE o.status = 'dead'))[1] AS error FROM outbox o "
        "JOIN objects t ON t.id = o.target_id AND t.removed_at IS NULL "
        "LEFT JOIN remotes r ON r.target_id = o.target_id AND r.line = o.line "
        "WHERE o.incident_id = ANY ($1) AND r.gone_at IS NULL GROUP BY o.incident_id, t.slug ORDER BY t.slug",
        [row["id"] for row in incidents],
    )
    found: dict[UUID, list[dict[str, Any]]] = {incident: [] for incident in incident_ids}
    for row in incidents:
        why = _unsaid(row)
        if row["status"] not in ENDED:
            found[row["id"]].append({"target": "page", "why": why})
        for there in posted:
            if there["incident_id"] != row["id"] or not _is_open(there["last"]):
                continue
            if there["error"] is not None:
                found[row["id"]].append({"target": there["slug"], "why": f"not delivered: {there['error']}"})
            elif not there["waits"]:
                left_out = "its end was approved for others only"
                found[row["id"]].append(
                    {"target": there["slug"], "why": left_out if row["status"] in ENDED else why}
                )
    return found


def _is_open(post: Mapping[str, Any] | None) -> bool:
    return post is not None and post["step"] != "delete" and post["status"] not in ENDED


def _unsaid(row: Row) -> str:
    """Why nobody was told of the end."""
    if row["said"] == "pending":
        return "its end waits for a review"
    if row["said"] == "rejected":
        return f"{row['decided_by']} rejected its end" + (f": {row['reason']}" if row["reason"] else "")
    if row["said"] == "expired":
        return "nobody decided in time on the draft of its end"
    return "no policy says its end"
