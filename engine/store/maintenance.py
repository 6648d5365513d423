"""Which beats and groups maintenance windows cover, by name. When a window takes place is `rules.maintenance`'s."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from engine.store.database import Connection
from rules.maintenance import Maintenance

_MAYBE: Final = (
    "SELECT o.kind, o.slug, p.slug AS page, o.spec->>'group' AS member_of, "
    "coalesce(o.spec->'components', '{}') AS components FROM objects o JOIN objects p ON p.id = o.page_id "
    "WHERE o.kind IN ('beat', 'group') AND o.removed_at IS NULL AND ($1::uuid[] IS NULL OR o.page_id = ANY ($1)) "
    "AND (o.slug = ANY ($2) OR o.spec->>'group' = ANY ($2) OR o.spec->'components' ?| $3) ORDER BY 1, 3, 2"
)


async def covered(
    connection: Connection, pages: Sequence[UUID] | None, windows: Mapping[UUID, tuple[str, Maintenance]]
) -> dict[UUID, list[str]]:
    """Of each window (its home page and rule) what it covers, written as in `depends_on`: components that it names, and
    the beats and groups it is about; `page:shop` for all of a page.

    Only what is on `pages`; None means all.
    """
    slugs = {slug for _, rule in windows.values() for slug in (*rule.beats, *rule.groups)}
    paths = {path for _, rule in windows.values() for path in rule.components}
    paths |= {path.rpartition("/")[2] for path in paths}
    paths |= {full for home, rule in windows.values() for full in rule.component_paths(home)}
    rows = await connection.fetch(_MAYBE, pages, list(slugs), list(paths)) if slugs or paths else []
    found: dict[UUID, list[str]] = {}
    for window_id, (home, rule) in windows.items():
        found[window_id] = (
            [f"page:{home}"] if rule.is_of_page else [f"component:{path}" for path in rule.components]
        )
        for kind, slug, page, member_of, components in () if rule.is_of_page else rows:
            if rule.covers(home, kind, page, slug, member_of, components):
                path = slug if page == home else f"{page}/{slug}"
                found[window_id].append(f"group:{path}" if kind == "group" else path)
    return found
