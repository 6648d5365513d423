"""Announced maintenance: what customers are told of each time of a window. What is due is decided in `evaluators.announcement`.

Whoever says something holds the lock of the window's row, and says it in the transaction that remembers it: two processes,
or one that is killed and started again, say nothing twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from engine.store import incidents, posts
from engine.store.audit import POLICY
from engine.store.database import Connection, Row
from engine.store.ids import new_id
from engine.store.incidents import Said
from engine.store.states import moment
from evaluators import announcement
from evaluators.announcement import Step, Told
from evaluators.lifecycle import ENDED
from rules.incident import Step as IncidentStep
from rules.maintenance import Maintenance, keys

_TOLD = (
    "SELECT i.*, (SELECT max(u.at) FROM updates u WHERE u.incident_id = i.id) AS said_at FROM incidents i "
    "WHERE i.window_id = ANY ($1) AND i.removed_at IS NULL "
)


async def look(connection: Connection, now_s: float, _: str) -> int:
    """Say whatever is due of any window; returns how many steps were taken."""
    rows = await connection.fetch(
        "SELECT id FROM objects o WHERE kind = 'maintenance' AND (removed_at IS NULL AND spec ? 'announce' OR EXISTS "
        "(SELECT 1 FROM incidents WHERE window_id = o.id AND status <> ALL ($1) AND removed_at IS NULL)) ORDER BY id",
        ENDED,
    )
    return sum([await follow(connection, row["id"], now_s) for row in rows])


async def follow(connection: Connection, window_id: UUID, now_s: float, by: str = POLICY.name) -> int:
    """Say whatever is due of one window, in the name of `by`; returns how many steps were taken."""
    if not await _due(connection, window_id, now_s):
        return 0
    await connection.execute("SELECT FROM objects WHERE id = $1 FOR UPDATE", window_id)
    steps = await _due(connection, window_id, now_s)
    for window, rule, step, told in steps:
        await _take(connection, window, rule, step, told, now_s, by)
    return len(steps)


async def _due(
    connection: Connection, window_id: UUID, now_s: float
) -> list[tuple[Row, Maintenance, Step | None, Row | None]]:
    """The window, its rule, a step (None: only what it is called or is about has changed), and what was told of that time."""
    window = await connection.fetchrow(
        "SELECT o.*, p.slug AS page FROM objects o JOIN objects p ON p.id = o.page_id WHERE o.id = $1",
        window_id,
    )
    assert window is not None
    rule = Maintenance.model_validate(window["spec"])
    rows = {str(row["id"]): row for row in await listing(connection, [window_id], now_s)}
    known = [
        Told(
            told,
            row["status"],
            row["starts_at"].timestamp(),
            row["ends_at"].timestamp(),
            row["said_at"].timestamp(),
        )
        for told, row in rows.items()
    ]
    steps = announcement.due(rule, known, now_s, is_removed=window["removed_at"] is not None)
    found: list[tuple[Row, Maintenance, Step | None, Row | None]] = [
        (window, rule, step, rows.get(step.told or "")) for step in steps
    ]
    named = {step.told for step in steps}
    if window["removed_at"] is None and any(one.is_live and one.id not in named for one in known):
        components = await _components(connection, window, rule)
        found += [
            (window, rule, None, row)
            for told, row in rows.items()
            if row["status"] not in ENDED and told not in named
            if (row["title"], row["components"]) != (announcement.title(rule), _shown(components))
        ]
    return found


async def listing(connection: Connection, window_ids: Sequence[UUID], now_s: float) -> list[Row]:
    """What customers were told of these windows: what lasts, and what was over less than two days ago; the next one first."""
    return await connection.fetch(
        f"{_TOLD} AND (i.status <> ALL ($2) OR i.ends_at > to_timestamp($3)) ORDER BY i.starts_at, i.id",
        list(window_ids),
        ENDED,
        now_s - 2 * 86400.0,
    )


async def say(
    connection: Connection, row: Row, text: str, status: str | None, at: float, by: str, **more: Any
) -> list[str]:
    """An update of a time that was announced; returns the publishers that tell their subscribers."""
    step: IncidentStep = "resolve" if status in ENDED else "update"
    said = Said(step, status, row["title"], text, row["components"], at, by, **more)
    return await incidents.say(connection, row["id"], said)


async def _take(
    connection: Connection,
    window: Row,
    rule: Maintenance,
    step: Step | None,
    told: Row | None,
    now_s: float,
    by: str,
) -> None:
    components = await _components(connection, window, rule)
    title = announcement.title(rule)
    if told is not None and told["status"] not in ENDED and window["removed_at"] is None:
        await connection.execute(
            "UPDATE incidents SET title = $2, components = $3, named = ARRAY(SELECT DISTINCT unnest(named || $4::uuid[])), "
            "revision = revision + 1 WHERE id = $1",
            told["id"],
            title,
            _shown(components),
            [*components],
        )
    if step is None:
        assert told is not None
        await posts.queue(connection, told["id"], "edit", now_s)
        return
    words = announcement.text(rule, step, list(components.values()))
    notify = rule.announce is None or rule.announce.notify
    said = Said("open", step.status, title, words, _shown(components), now_s, by, notify=notify)
    if told is None:
        times = (window["id"], *map(moment, step.span))
        await incidents.begin(connection, new_id(), window["page_id"], said, window=times)
        return
    if step.does in ("move", "complete"):
        await connection.execute(
            "UPDATE incidents SET starts_at = $2, ends_at = $3 WHERE id = $1",
            told["id"],
            *map(moment, step.span),
        )
    ends = step.status in ENDED
    status = step.status if step.status != told["status"] else None
    said = replace(said, step="resolve" if ends else "update", status=status)
    await incidents.say(connection, told["id"], said)


async def _components(connection: Connection, window: Row, rule: Maintenance) -> dict[UUID, str]:
    """Ids and names of the components that are shown under maintenance, as on the status page."""
    paths = list(rule.components)
    rows = await connection.fetch(
        "SELECT c.id, c.slug, c.spec->>'name' AS name, p.slug AS page FROM objects c JOIN objects p ON p.id = c.page_id "
        "WHERE c.kind = 'component' AND c.removed_at IS NULL AND (c.page_id = $1 OR p.slug || '/' || c.slug = ANY ($2)) "
        "ORDER BY coalesce((c.spec->>'position')::int, 0), c.spec->>'name'",
        window["page_id"],
        paths,
    )
    about = rule.about(window["page"])
    return {
        row["id"]: row["name"]
        for row in rows
        if not about.isdisjoint(keys("component", row["page"], row["slug"], None, ()))
    }


def _shown(components: Mapping[UUID, str]) -> dict[str, str]:
    return {str(component): "under_maintenance" for component in components}
