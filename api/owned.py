"""Lists of what beats and groups own: episodes, actions and incidents, part by part. What each of them shows is its own module's."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Permission, Principal
from api.context import services_of
from api.objects import locate
from api.paging import AtAndId, page, read_cursor
from api.problems import invalid
from engine.store.database import Connection, Row
from rules.known import Kind

OfBeat = Annotated[str | None, Query(max_length=100, description="Slug or id of the beat that owns it.")]
OfGroup = Annotated[str | None, Query(max_length=100, description="Slug or id of the group that owns it.")]
_OWNERS: Final[tuple[Kind, ...]] = ("beat", "group")


async def listed(
    request: Request,
    asking: Principal,
    page_ref: str | None,
    limit: int,
    cursor: str | None,
    owner: tuple[str | None, str | None],
    query: Callable[..., Awaitable[list[Row]]],
    show_all: Callable[[Connection, Sequence[Row]], Awaitable[list[dict[str, Any]]]],
    at: str = "created_at",
) -> Response:
    """Of what `query` finds on the pages they may read, of this beat or group, one part, newest `at` first."""
    async with services_of(request).pool.acquire() as db:
        pages: Sequence[UUID] | None = asking.pages_for(Permission.READ)
        if page_ref is not None:
            pages = [(await locate(db, asking, "page", page_ref)).id]
        named = [(kind, ref) for kind, ref in zip(_OWNERS, owner, strict=True) if ref is not None]
        if len(named) > 1:
            raise invalid([("/group", "name a beat or a group, not both")])
        owners = [(await locate(db, asking, kind, ref, page_ref)).id for kind, ref in named]
        rows = await query(
            db,
            pages=pages,
            owner=next(iter(owners), None),
            before=read_cursor(cursor, AtAndId),
            limit=limit + 1,
        )
        items = await show_all(db, rows[:limit])
    last = (rows[limit - 1][at], rows[limit - 1]["id"]) if len(rows) > limit else None
    return page(request, items, last)


def components(impacts: dict[str, str], names: dict[str, tuple[str, str, str]]) -> list[dict[str, str]]:
    """What is said of each, by the `names` that `incidents.component_names` finds."""
    return [
        {"page": names[c][0], "slug": names[c][1], "name": names[c][2], "status": status}
        for c, status in impacts.items()
        if c in names
    ]
