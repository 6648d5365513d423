"""What people name in what they say in public, as ids: components with what they are shown as, and publishers."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from api.auth import Permission, Principal
from api.body import escape
from api.problems import invalid
from engine.store import objects
from engine.store.database import Connection
from engine.store.objects import Stored
from rules.problem import nearest


async def affected(
    db: Connection,
    asking: Principal,
    home: Stored,
    statuses: Mapping[str, str],
    now: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Ids of components, and what they are shown as, of paths as people write them. Raises 403, 404, 422.

    What is said of them `now` needs no right where it stays as it is.
    """
    rows = [
        row
        for row in await objects.listing(db, "component")
        if str(row.id) in now or asking.may(Permission.READ, row.page_id)
    ]
    pages = {home.id: home, **{one.id: one for one in await objects.listing(db, "page")}}
    known = {f"{pages[row.page_id].slug}/{row.slug}": row for row in rows if row.page_id in pages}
    found: dict[str, str] = {}
    for path, status in statuses.items():
        full = path if "/" in path else f"{home.slug}/{path}"
        if full not in known:
            near = nearest(full, known) or ""
            raise invalid([(f"/components/{escape(path)}", f"there is no component {path!r}{near}")])
        key = str(known[full].id)
        if now.get(key) != status:
            asking.require(Permission.REVIEW, known[full].page_id)
        found[key] = status
    return found


async def publishers_of(db: Connection, home: Stored, slugs: Sequence[str] | None) -> list[UUID] | None:
    """Ids of publishers of a page; None: all of them. Raises 422."""
    if slugs is None:
        return None
    known = {one.slug: one.id for one in await objects.listing(db, "publisher", pages=[home.id])}
    wrong = [
        (
            f"/publishers/{n}",
            f"there is no publisher {slug!r} on {home.slug}; {', '.join(known) or 'none'} are there",
        )
        for n, slug in enumerate(slugs)
        if slug not in known
    ]
    if wrong:
        raise invalid(wrong)
    return [known[slug] for slug in dict.fromkeys(slugs)]
