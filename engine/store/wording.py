"""The words of a step in public, and what it says of each component: put together from what is declared and stored."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

WAITING_S: Final = 10.0
"""So long an episode's row is held for a rendering at most."""

Evidence = Sequence[Mapping[str, Any]]


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


@dataclass(frozen=True, slots=True)
class Named:
    """What words name, by id and by path: pages, which know the names of all regions, and components of whatever page."""

    pages: Mapping[UUID, Row]
    components: Mapping[str, Row]

    def of(self, page: UUID, rule: OwnerRule, severity: Severity) -> list[tuple[Row, str]]:
        """The components of this beat or group, each with what it is when that is so bad."""
        found: dict[UUID, tuple[Row, str]] = {}
        for name, impact in sorted(rule.components.items(), key=lambda item: "/" in item[0]):
            if row := self.components.get(name if "/" in name else f"{self.pages[page]['slug']}/{name}"):
                status = impact.critical if severity == "critical" else impact.warning
                found.setdefault(row["id"], (row, status))
        return sorted(found.values(), key=lambda item: (item[0]["slug"], item[0]["path"]))


async def named(connection: Connection, of: Collection[tuple[UUID, OwnerRule]]) -> Named:
    """What the words of these beats and groups, each with its page, name: however many they are, in two queries."""
    pages, names = {page for page, _ in of}, {name for _, rule in of for name in rule.components}
    homes = await connection.fetch(
        "SELECT id, slug, spec->>'name' AS name, spec->'templates' AS templates, "
        "(SELECT json_object_agg(slug, coalesce(spec->>'name', slug)) FROM objects WHERE kind = 'region' AND page_id IS NULL "
        " AND removed_at IS NULL) AS regions FROM objects WHERE id = ANY ($1)",
        pages,
    )
    rows = (
        await connection.fetch(
            "SELECT c.id, c.slug, c.spec->>'name' AS name, p.slug || '/' || c.slug AS path FROM objects c "
            "JOIN objects p ON p.id = c.page_id WHERE c.kind = 'component' AND c.removed_at IS NULL "
            "AND (c.page_id = ANY ($1) AND c.slug = ANY ($2) OR p.slug || '/' || c.slug = ANY ($2))",
            pages,
            names,
        )
        if names
        else []
    )
    return Named({row["id"]: row for row in homes}, {row["path"]: row for row in rows})


async def wording(
    connection: Connection,
    known: Named,
    episode: Row,
    rule: OwnerRule,
    step: Step,
    severity: Severity,
    of: Of,
    evidence: Evidence = (),
) -> Rendered:
    """Of a step of an episode; `rule` is the owner as it was when that opened, `evidence` what is seen now."""
    scene = Scene(episode["page_id"], episode["kind"], rule, episode["opened_at"], episode["id"], evidence)
    return await rendered(connection, known, scene, step, severity, of)


async def rendered(
    connection: Connection, known: Named, scene: Scene, step: Step, severity: Severity, of: Of
) -> Rendered:
    """What is said in a step, by whose templates, and of which components. `known`: of its page at least.

    Where nothing is wrong any more, it is of what the last step before rested on.
    """
    rule, page = scene.rule, known.pages[scene.page_id]
    affected = known.of(scene.page_id, rule, severity)
    components = {str(row["id"]): status for row, status in affected}
    names = [row["name"] for row, _ in affected]
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
    variant = variant_of(step, of)
    if not any(True for each in templates.values() for name in {variant, "open"} for _ in each.of(name)):
        return Rendered(*otherwise, components=components)
    values = values_of(
        rule,
        scene.kind,
        step,
        severity,
        scene.since,
        {"slug": page["slug"], "name": page["name"]},
        [{"slug": row["slug"], "name": row["name"], "status": status} for row, status in affected],
        evidence,
        page["regions"] or {},
    )
    try:
        async with asyncio.timeout(WAITING_S):  # of whatever else the threads are held up by
            said = await asyncio.to_thread(render, templates, variant, values, otherwise, _deadline)
    except TimeoutError:
        said = Rendered(
            *otherwise, warnings=(f"no thread could render its templates within {WAITING_S:g} s",)
        )
    return replace(said, components=components)


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
