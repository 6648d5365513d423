"""The words of a step in public, and what it says of each component: put together from what is declared and stored."""

from dataclasses import dataclass
from typing import Any

from engine.store.database import Connection, Row
from evaluators import words
from evaluators.facts import Of
from evaluators.model import Severity
from rules.incident import Step
from rules.owner import OwnerRule


@dataclass(frozen=True, slots=True)
class Wording:
    """What is said. `components`: id to status. `warnings`: why it is not said as a template wants it."""

    title: str
    text: str
    components: dict[str, str]
    is_markdown: bool = False
    warnings: tuple[str, ...] = ()


async def wording(
    connection: Connection, episode: Row, rule: OwnerRule, step: Step, severity: Severity, of: Of
) -> Wording:
    """Of a step of an episode; `rule` is the owner as it was when that opened."""
    rows = await connection.fetch(
        "SELECT c.id, c.slug, c.spec->>'name' AS name, p.slug AS page, c.page_id FROM objects c "
        "JOIN objects p ON p.id = c.page_id WHERE c.kind = 'component' AND c.removed_at IS NULL "
        "AND (c.page_id = $1 AND c.slug = ANY ($2) OR p.slug || '/' || c.slug = ANY ($2)) ORDER BY c.slug",
        episode["page_id"],
        list(rule.components),
    )
    components: dict[str, str] = {}
    for row in rows:
        components[str(row["id"])] = _status(
            rule, row, severity, is_home=row["page_id"] == episode["page_id"]
        )
    names = [row["name"] for row in rows]
    return Wording(
        words.public_title(severity, rule.title, names),
        words.public_text(step, severity, rule.title, names, of),
        components,
    )


def _status(rule: OwnerRule, row: Row, severity: Severity, *, is_home: bool) -> str:
    impact: Any = rule.components.get(row["slug"]) if is_home else None
    impact = impact or rule.components[f"{row['page']}/{row['slug']}"]
    status: str = impact.critical if severity == "critical" else impact.warning
    return status
