"""The words of a step in public, and what it says of each component: put together from what is declared and stored."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from engine.store.database import Connection, Row
from engine.store.objects import Stored
from evaluators import words
from evaluators.facts import Of
from evaluators.model import Severity
from evaluators.rendering import Rendered, bad, render, resting_on, values_of, variant_of
from rules.incident import Step
from rules.owner import OwnerRule
from rules.subject import rule_of
from rules.wording import Templates

RENDERING_S: Final = 0.05
"""Of this thread's own time, so that no other load makes words of a template those by default."""

Evidence = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Wording:
    """What is said. `components`: id to status. `warnings`: why it is not said as a template wants it."""

    title: str
    text: str
    components: dict[str, str]
    is_markdown: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """Of whom something is said, and what was seen. `written` goes before the templates that are stored, by whose they are."""

    page_id: UUID
    kind: str  # beat or group
    rule: OwnerRule
    since: datetime
    episode: UUID | None
    evidence: Evidence = ()
    written: Mapping[str, Templates] = field(default_factory=dict)


async def wording(
    connection: Connection,
    episode: Row,
    rule: OwnerRule,
    step: Step,
    severity: Severity,
    of: Of,
    evidence: Evidence = (),
) -> Wording:
    """Of a step of an episode; `rule` is the owner as it was when that opened, `evidence` what is seen now."""
    scene = Scene(episode["page_id"], episode["kind"], rule, episode["opened_at"], episode["id"], evidence)
    said, components = await rendered(connection, scene, step, severity, of)
    return Wording(said.title, said.text, components, said.is_markdown, said.warnings)


async def rendered(
    connection: Connection, scene: Scene, step: Step, severity: Severity, of: Of
) -> tuple[Rendered, dict[str, str]]:
    """What is said in a step, by whose templates; and of which components, id to status.

    Where nothing is wrong any more, it is of what the last step before rested on.
    """
    rule = scene.rule
    rows = await connection.fetch(
        "SELECT h.slug AS home, h.spec->>'name' AS home_name, h.spec->'templates' AS templates, c.* FROM objects h "
        "LEFT JOIN LATERAL (SELECT c.id, c.slug, c.spec->>'name' AS name, p.slug AS page, c.page_id FROM objects c "
        " JOIN objects p ON p.id = c.page_id WHERE c.kind = 'component' AND c.removed_at IS NULL "
        " AND (c.page_id = $1 AND c.slug = ANY ($2) OR p.slug || '/' || c.slug = ANY ($2))) c ON true "
        "WHERE h.id = $1 ORDER BY c.slug",
        scene.page_id,
        list(rule.components),
    )
    page, rows = rows[0], [row for row in rows if row["id"]]
    statuses = [_status(rule, row, severity, is_home=row["page_id"] == scene.page_id) for row in rows]
    components = {str(row["id"]): status for row, status in zip(rows, statuses, strict=True)}
    names = [row["name"] for row in rows]
    title = words.public_title(severity, rule.title, names)
    otherwise = title, words.public_text(step, severity, rule.title, names, of)
    evidence = scene.evidence
    if not bad(evidence) and scene.episode is not None:
        evidence = await _last(connection, scene.episode)
    stored = {scene.kind: rule.templates, "page": Templates.model_validate(page["templates"] or {})}
    if trigger := resting_on(evidence):
        spec = await connection.fetchval("SELECT spec->'templates' FROM objects WHERE id = $1", UUID(trigger))
        stored = {"trigger": Templates.model_validate(spec or {}), **stored}
    templates = {whose: scene.written.get(whose, each) for whose, each in stored.items()}
    if all(each == Templates() for each in templates.values()):
        return Rendered(*otherwise), components
    values = values_of(
        rule,
        scene.kind,
        step,
        severity,
        scene.since,
        {"slug": page["home"], "name": page["home_name"]},
        [
            {"slug": row["slug"], "name": row["name"], "status": status}
            for row, status in zip(rows, statuses, strict=True)
        ],
        evidence,
        await _regions(connection, evidence),
    )
    variant = variant_of(step, of)
    return await asyncio.to_thread(render, templates, variant, values, otherwise, _deadline), components


def _deadline() -> Callable[[], bool]:
    ends_s = time.thread_time() + RENDERING_S
    return lambda: time.thread_time() > ends_s


async def last_scene(
    connection: Connection, of: Stored, rule: OwnerRule | None, episode: UUID | None
) -> tuple[Scene, Severity] | None:
    """What the newest step of a page, beat, group or trigger rested on, and how bad it was; of this episode, if one is given.

    `rule`: the owner as it is now; None: as it was then.
    """
    mine = {"page": "a.page_id = $1", "trigger": "$1 = ANY (a.triggers)"}.get(of.kind, "a.owner_id = $1")
    rows = await connection.fetch(
        "SELECT a.evidence, a.severity, a.page_id, e.id, e.opened_at, e.spec, o.kind FROM actions a "
        "JOIN episodes e ON e.id = a.episode_id JOIN objects o ON o.id = e.owner_id "
        f"WHERE {mine} AND ($2::uuid IS NULL OR e.id = $2) ORDER BY a.created_at DESC, a.id DESC LIMIT 50",
        of.id,
        episode,
    )
    for row in rows:
        found = [
            item
            for item in bad(row["evidence"])
            if of.kind != "trigger" or item.get("trigger_id") == str(of.id)
        ]
        if found:
            owner = rule or rule_of(row["kind"], row["spec"])
            return Scene(row["page_id"], row["kind"], owner, row["opened_at"], row["id"], found), row[
                "severity"
            ]
    return None


async def _last(connection: Connection, episode: UUID) -> Evidence:
    """What the episode's newest step rested on that was about something wrong."""
    rows = await connection.fetch(
        "SELECT evidence FROM actions WHERE episode_id = $1 ORDER BY created_at DESC, id DESC LIMIT 20",
        episode,
    )
    return next((row["evidence"] for row in rows if bad(row["evidence"])), ())


async def _regions(connection: Connection, evidence: Evidence) -> dict[str, str]:
    rows = await connection.fetch(
        "SELECT slug, coalesce(spec->>'name', slug) AS name FROM objects WHERE kind = 'region' AND slug = ANY ($1)",
        [item.get("region") or "" for item in evidence],
    )
    return {row["slug"]: row["name"] for row in rows}


def _status(rule: OwnerRule, row: Row, severity: Severity, *, is_home: bool) -> str:
    impact: Any = rule.components.get(row["slug"]) if is_home else None
    impact = impact or rule.components[f"{row['page']}/{row['slug']}"]
    status: str = impact.critical if severity == "critical" else impact.warning
    return status
