"""Which beats and groups maintenance windows cover, by name. When a window takes place is `rules.maintenance`'s."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from engine.store.database import Connection
from rules.maintenance import Key, Maintenance, keys

_MAYBE: Final = (
    "SELECT o.kind, p.slug AS page, o.slug, o.spec->>'group' AS member_of, "
    "coalesce(o.spec->'components', '{}') AS components FROM objects o JOIN objects p ON p.id = o.page_id "
    "WHERE o.kind IN ('beat', 'group') AND o.removed_at IS NULL AND ($1::uuid[] IS NULL OR o.page_id = ANY ($1)) "
    "AND (o.slug = ANY ($2) OR o.spec->>'group' = ANY ($2) OR o.spec->'components' ?| $3)"
)


async def covered(
    connection: Connection, pages: Sequence[UUID] | None, windows: Mapping[UUID, tuple[str, Maintenance]]
) -> dict[UUID, list[str]]:
    """Of each window (its home page and rule) what it covers, written as in `depends_on`: components that it names, and
    the beats and groups it is about; `page:shop` for all of a page.

    Only what is on `pages`; None means all.
    """
    about = {
        window_id: rule.about(home) for window_id, (home, rule) in windows.items() if not rule.is_of_page
    }
    named = {key for found in about.values() for key in found}
    slugs = [slug for kind, _, slug in named if kind in ("beat", "group")]
    paths = [path for kind, page, slug in named if kind == "component" for path in (slug, f"{page}/{slug}")]
    by_key = defaultdict[Key, list[tuple[str, str, str]]](list)
    for row in await connection.fetch(_MAYBE, pages, slugs, paths) if slugs or paths else ():
        for key in named.intersection(keys(*row)):
            by_key[key].append(row[:3])
    found: dict[UUID, list[str]] = {}
    for window_id, (home, rule) in windows.items():
        found[window_id] = (
            [f"page:{home}"] if rule.is_of_page else [f"component:{path}" for path in rule.components]
        )
        for kind, page, slug in sorted({one for key in about.get(window_id, ()) for one in by_key[key]}):
            path = slug if page == home else f"{page}/{slug}"
            found[window_id].append(f"group:{path}" if kind == "group" else path)
    return found
