"""Announced maintenance: what customers are told of each time of a window. What is due is decided in `evaluators.announcement`.

Whoever says something holds the lock of the window's row, and says it in the transaction that remembers it: two processes,
or one that is killed and started again, say nothing twice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

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
from rules.language import DEFAULT, Language, language
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
    due = await _due(connection, [row["id"] for row in rows], now_s)
    return sum([await follow(connection, window, now_s) for window in due])


async def follow(connection: Connection, window_id: UUID, now_s: float, by: str = POLICY.name) -> int:
    """Say whatever is due of one window, in the name of `by`; returns how many steps were taken."""
    await connection.execute("SELECT FROM objects WHERE id = $1 FOR UPDATE", window_id)
    steps = (await _due(connection, [window_id], now_s)).get(window_id, [])
    for step in steps:
        await _take(connection, step, now_s, by)
    return len(steps)


class _Due(NamedTuple):
    """A step (None: only what it is called or is about has changed) of a window, and what was told of that time."""

    window: Row
    rule: Maintenance
    step: Step | None
    told: Row | None


async def _due(connection: Connection, window_ids: Sequence[UUID], now_s: float) -> dict[UUID, list[_Due]]:
    """What is to be said of those of these windows of which anything is, in a few queries however many they are."""
    windows = await connection.fetch(
        "SELECT o.*, p.slug AS page, p.spec AS page_spec FROM objects o JOIN objects p ON p.id = o.page_id WHERE o.id = ANY ($1) ORDER BY o.id",
        window_ids,
    )
    heard: dict[UUID, dict[str, Row]] = {window["id"]: {} for window in windows}
    for row in await listing(connection, window_ids, now_s):
        heard[row["window_id"]][str(row["id"])] = row
    found: dict[UUID, list[_Due]] = {}
    quiet: list[_Due] = []
    for window in windows:
        await asyncio.sleep(0)  # there may be hundreds
        rule, rows = Maintenance.model_validate(window["spec"]), heard[window["id"]]
        is_removed = window["removed_at"] is not None
        known = [Told(told, row["status"], *_seconds(row)) for told, row in rows.items()]
        steps = announcement.due(rule, known, now_s, is_removed=is_removed)
        found[window["id"]] = [_Due(window, rule, step, rows.get(step.told or "")) for step in steps]
        named = {step.told for step in steps}
        live = [rows[one.id] for one in known if one.is_live and one.id not in named and not is_removed]
        quiet += [_Due(window, rule, None, row) for row in live]
    components = await _components(connection, [(one.window, one.rule) for one in quiet])
    for one in quiet:
        now = announcement.title(one.rule, _words(one.window)), _shown(components[one.window["id"]])
        if one.told is not None and (one.told["title"], one.told["components"]) != now:
            found[one.window["id"]].append(one)
    return {window: due for window, due in found.items() if due}


def _words(window: Row) -> Language:
    """Its page's first language."""
    return language((window["page_spec"].get("languages") or [DEFAULT])[0])


def _seconds(told: Row) -> tuple[float, float, float]:
    return told["starts_at"].timestamp(), told["ends_at"].timestamp(), told["said_at"].timestamp()


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


async def _take(connection: Connection, due: _Due, now_s: float, by: str) -> None:
    window, rule, step, told = due
    components = (await _components(connection, [(window, rule)]))[window["id"]]
    spoken = _words(window)
    title = announcement.title(rule, spoken)
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
    zone = ZoneInfo(window["page_spec"].get("timezone", "UTC"))
    words = announcement.text(rule, step, list(components.values()), spoken, zone)
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


async def _components(
    connection: Connection, windows: Sequence[tuple[Row, Maintenance]]
) -> dict[UUID, dict[UUID, str]]:
    """Of each window ids and names of the components that are shown under maintenance, as on the status page."""
    if not windows:
        return {}
    rows = await connection.fetch(
        "SELECT c.id, c.slug, c.spec->>'name' AS name, p.slug AS page FROM objects c JOIN objects p ON p.id = c.page_id "
        "WHERE c.kind = 'component' AND c.removed_at IS NULL AND (c.page_id = ANY ($1) OR p.slug || '/' || c.slug = ANY ($2)) "
        "ORDER BY coalesce((c.spec->>'position')::int, 0), c.spec->>'name'",
        list({window["page_id"] for window, _ in windows}),
        list({path for _, rule in windows for path in rule.components}),
    )
    known = [
        (row["id"], row["name"], {*keys("component", row["page"], row["slug"], None, ())}) for row in rows
    ]
    found: dict[UUID, dict[UUID, str]] = {}
    for window, rule in windows:
        about = rule.about(window["page"])
        found[window["id"]] = {one: name for one, name, named in known if not about.isdisjoint(named)}
    return found


def _shown(components: Mapping[UUID, str]) -> dict[str, str]:
    return {str(component): "under_maintenance" for component in components}
