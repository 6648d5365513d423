"""Pictures of pages under /api/v1/pages/{page}/pictures, and the link that lets in to a page that is not public. Showing them is the page's."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import reply
from api.context import services_of
from api.objects import locate
from api.origin import base_url
from api.problems import ProblemError, missing
from api.shapes import gives
from api.shown_pictures import ShownLink, ShownPicture
from api.status.access import KEY, proof_of, seal_of
from engine.store import assets
from engine.store.database import Connection, transaction
from engine.store.objects import Stored
from engine.store.signing import signing_key
from rules.page import Page, PictureUse

router = Router(prefix="/api/v1/pages/{ref}", tags=["pages"])

Picture = Annotated[
    PictureUse, Path(description="`logo`, `logo-dark` (instead of it where the look is dark) or `favicon`.")
]
_DRAWING: Final = ThreadPoolExecutor(1, "pictures")
"""One after the other: a picture may take 130 MB and a second."""


async def _page(db: Connection, asking: Principal, ref: str, permission: Permission) -> Stored:
    page = await locate(db, asking, "page", ref)
    asking.require(permission, page.id)
    return page


@router.put("/pictures/{name}", openapi_extra={"requestBody": {"required": True, "content": {"image/*": {}}}})
@permits(Permission.WRITE)
@gives(ShownPicture)
async def put_picture(request: Request, asking: Asking, ref: str, name: Picture) -> Response:
    """Show this picture: PNG, JPEG, WebP, GIF, ICO or SVG of up to 1 MB as the body. It is made anew, without what else is in the file."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        page = await _page(db, asking, ref, Permission.WRITE)
    from rules.picture import drawn  # with lxml, which few need

    body = await request.body()
    try:
        made = await asyncio.get_running_loop().run_in_executor(_DRAWING, drawn, body, name)
    except ValueError as wrong:
        raise ProblemError(422, "picture", f"the picture {wrong}") from None
    async with transaction(services.pool) as db:
        file = await assets.put(db, asking.actor, page.id, name, *made)
    return reply(ShownPicture(name, file, made.media_type, len(made.body)))


@router.delete("/pictures/{name}", status_code=204)
@permits(Permission.WRITE)
async def delete_picture(request: Request, asking: Asking, ref: str, name: Picture) -> Response:
    """Show none any more."""
    async with transaction(services_of(request).pool) as db:
        page = await _page(db, asking, ref, Permission.WRITE)
        if not await assets.remove(db, asking.actor, page.id, name):
            raise missing(f"{page.slug} has no {name}")
    return Response(status_code=204)


@router.get("/link")
@permits(Permission.ADMIN, tells_secret=True)
@gives(ShownLink)
async def page_link(request: Request, asking: Asking, ref: str) -> Response:
    """The link that lets in as its password does, until that is changed: for feeds, programs and embeds."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        page = await _page(db, asking, ref, Permission.ADMIN)
        seal = seal_of(await signing_key(db), page.id)
    proof = proof_of(Page.model_validate(page.spec), seal, services.secrets.of(page.id))
    if not proof:
        raise ProblemError(
            409, "no-password", f"{page.slug} has no password, or one that stands for nothing here"
        )
    return reply(ShownLink(f"{base_url(request)}/p/{page.slug}?{urlencode({KEY: proof})}"))
