"""Declared objects under /api/v1: one implementation for all kinds. What is special to one kind is elsewhere."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_json, reply, takes
from api.context import services_of
from api.paging import Cursor, Limit, SlugAndId, page, read_cursor
from api.shapes import Shown, ShownBeat, ShownGroup, ShownMaintenance, ShownRegion, gives
from api.showing import shown
from api.shown_triggers import ShownInbox, ShownTrigger
from api.windows import Begun
from engine.store import objects
from engine.store.database import Connection
from engine.store.ids import show
from engine.store.objects import Stored
from rules.beat import Beat
from rules.channel import Channel
from rules.known import KINDS, PAGELESS, Kind, plural, with_article
from rules.models import MODELS
from rules.publisher import Publisher

PageRef = Annotated[str | None, Query(alias="page", max_length=100, description="Slug or id of its page.")]
IfMatch = Annotated[str | None, Header(description="The ETag that was read; another one now is 412.")]
Text = Annotated[str | None, Query(max_length=200)]

SHAPES: Final[dict[Kind, type[Shown]]] = {
    "beat": ShownBeat,
    "group": ShownGroup,
    "maintenance": ShownMaintenance,
    "region": ShownRegion,
    "inbox": ShownInbox,
    "trigger": ShownTrigger,
}
_MODELS: Final[dict[Kind, Any]] = {**MODELS, "beat": Beat, "channel": Channel, "publisher": Publisher}


async def locate(
    db: Connection, asking: Principal, kind: Kind, ref: str, page_ref: str | None = None
) -> Stored:
    """The object that a path names, among the pages they may read (design 10). Raises 404, 409."""
    pages = asking.pages_for(Permission.READ)
    if page_ref is not None and kind not in PAGELESS:
        pages = [(await objects.find(db, "page", page_ref, pages=pages)).id]
    return await objects.find(db, kind, ref, pages=pages)


async def answer(
    request: Request, asking: Principal, stored: Stored, status: int = 200, **beside: Any
) -> Response:
    """One object with its ETag, and what is told `beside` it this once."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        (item,) = await shown(services, db, asking, stored.kind, [stored])
    headers = {"ETag": f'"{stored.revision}"'}
    if status == 201:
        headers["Location"] = f"/api/v1/{plural(stored.kind)}/{show(stored.kind, stored.id)}"
    return reply(item | beside, status, headers)


def routes(kind: Kind) -> APIRouter:
    """The routes of one kind."""
    kinds = plural(kind)
    router = Router(prefix=f"/api/v1/{kinds}", tags=[kinds])
    write = Permission.ADMIN if kind == "page" else Permission.WRITE
    whole = kind in PAGELESS
    takes_kind, shape = takes(_MODELS[kind]), SHAPES.get(kind, Shown)

    @router.get("", name=f"List {kinds}", operation_id=f"list_{kinds}")
    @permits(Permission.READ)
    @gives(shape, listed=True)
    async def index(
        request: Request,
        asking: Asking,
        page_ref: PageRef = None,
        search: Text = None,
        tag: Text = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        services = services_of(request)
        pages = asking.pages_for(Permission.READ)
        async with services.pool.acquire() as db:
            if page_ref is not None and kind not in PAGELESS:
                pages = [(await objects.find(db, "page", page_ref, pages=pages)).id]
            after = read_cursor(cursor, SlugAndId)
            found = await objects.listing(
                db, kind, pages=pages, after=after, limit=limit + 1, search=search, tag=tag
            )
            items = await shown(services, db, asking, kind, found[:limit])
        last = (found[limit - 1].slug, found[limit - 1].id) if len(found) > limit else None
        return page(request, items, last)

    @router.post("", status_code=201, name=f"Create {with_article(kind)}", operation_id=f"create_{kind}")
    @permits(write, installation=whole, tells_secret=kind == "inbox")
    @takes(Begun if kind == "maintenance" else _MODELS[kind])
    @gives(shape)
    async def create(request: Request, asking: Asking, page_ref: PageRef = None) -> Response:
        document = await read_json(request)
        page_slug = None
        if page_ref is not None and not whole:
            async with services_of(request).pool.acquire() as db:
                page_slug = (await locate(db, asking, "page", page_ref)).slug
        services, told = services_of(request), {}
        if kind == "inbox":
            stored, issued = await saving.create_inbox(services, asking, document, page_slug)
            told["token"] = issued.text
        else:
            stored = await saving.create(services, asking, kind, document, page_slug)
        return await answer(request, asking, stored, 201, **told)

    @router.get("/{ref}", name=f"Read {with_article(kind)}", operation_id=f"read_{kind}")
    @permits(Permission.READ)
    @gives(shape)
    async def read(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
        async with services_of(request).pool.acquire() as db:
            stored = await locate(db, asking, kind, ref, page_ref)
        return await answer(request, asking, stored)

    async def change(
        request: Request,
        asking: Principal,
        ref: str,
        page_ref: str | None,
        if_match: str | None,
        *,
        patch: bool,
    ) -> Response:
        document = await read_json(request)
        async with services_of(request).pool.acquire() as db:
            stored = await locate(db, asking, kind, ref, page_ref)
        expected = saving.expected_revision(if_match)
        stored = await saving.change(
            services_of(request), asking, stored, document, patch=patch, expected=expected
        )
        return await answer(request, asking, stored)

    @router.put("/{ref}", name=f"Replace {with_article(kind)}", operation_id=f"replace_{kind}")
    @permits(write)
    @takes_kind
    @gives(shape)
    async def put(
        request: Request, asking: Asking, ref: str, page_ref: PageRef = None, if_match: IfMatch = None
    ) -> Response:
        return await change(request, asking, ref, page_ref, if_match, patch=False)

    @router.patch("/{ref}", name=f"Change {with_article(kind)}", operation_id=f"change_{kind}")
    @permits(write)
    @takes(dict[str, Any])
    @gives(shape)
    async def patch(
        request: Request, asking: Asking, ref: str, page_ref: PageRef = None, if_match: IfMatch = None
    ) -> Response:
        """JSON Merge Patch (RFC 7396): only what is sent changes, null brings a default back."""
        return await change(request, asking, ref, page_ref, if_match, patch=True)

    @router.delete(
        "/{ref}", status_code=204, name=f"Delete {with_article(kind)}", operation_id=f"delete_{kind}"
    )
    @permits(write, installation=whole)
    async def delete(
        request: Request, asking: Asking, ref: str, page_ref: PageRef = None, if_match: IfMatch = None
    ) -> Response:
        async with services_of(request).pool.acquire() as db:
            stored = await locate(db, asking, kind, ref, page_ref)
        await saving.remove(services_of(request), asking, stored, saving.expected_revision(if_match))
        return Response(status_code=204)

    return router


ROUTERS = tuple(routes(kind) for kind in KINDS)
