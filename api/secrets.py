"""Stored secrets under /api/v1/secrets: written, listed without their values, removed, sealed anew. None is ever shown."""

import re
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import services_of
from api.objects import PageRef, locate
from api.problems import ProblemError, invalid, missing
from api.showing import page_slugs
from engine.secrets import FILE_MOST_BYTES
from engine.store import objects, secrets
from engine.store.database import Connection, transaction
from engine.store.secrets import Kept
from rules.secret import HIDDEN_LEAST, SECRET_NAME
from rules.shape import Rule

router = Router(prefix="/api/v1", tags=["secrets"])

SecretName = Annotated[str, Path(description="Letters, digits, `_`, `.` and `-`.")]
OfInstallation = Annotated[
    bool, Query(description="The installation's, for `${secret:/NAME}`, instead of a page's.")
]


class NewSecret(Rule):
    """A value to keep."""

    value: Annotated[str, Field(json_schema_extra={"writeOnly": True})]


@router.get("/secrets")
@permits(Permission.WRITE)
async def list_secrets(request: Request, asking: Asking) -> Response:
    """What is stored on the pages one may edit, by name, and what uses it; never a value. The installation's with a role on all."""
    async with services_of(request).pool.acquire() as db:
        found = await secrets.listing(db, pages=asking.pages_for(Permission.WRITE))
        slugs = await page_slugs(db)
    return reply({"items": [_shown(kept, slugs) for kept in found], "next": None})


@router.put("/secrets/{name}")
@permits(Permission.WRITE)
@takes(NewSecret)
async def put_secret(
    request: Request,
    asking: Asking,
    name: SecretName,
    page_ref: PageRef = None,
    installation: OfInstallation = False,
) -> Response:
    """Store a value for `${secret:NAME}` of a page's objects, in the place of what was; in force within seconds."""
    services, sent = services_of(request), await read_body(request, NewSecret)
    value = sent.value
    if not re.fullmatch(SECRET_NAME, name):
        raise invalid([("/name", "a name is of letters, digits, _, . and -, and begins with a letter or _")])
    if len(value) < HIDDEN_LEAST or len(value.encode()) > FILE_MOST_BYTES:
        said = f"a secret has {HIDDEN_LEAST} characters (shorter ones could not be hidden in results) to {FILE_MOST_BYTES >> 10} KiB"
        raise invalid([("/value", said)])
    async with transaction(services.pool) as db:
        page_id = await _home(db, asking, page_ref, installation=installation)
        assert services.secrets.keyring is not None
        sealed = services.secrets.keyring.seal(page_id, name, value)
        await secrets.put(db, asking.actor, page_id, name, sealed)
        shown = _shown(await _found(db, page_id, name), await page_slugs(db))
    return reply(shown)


@router.delete("/secrets/{name}", status_code=204)
@permits(Permission.WRITE)
async def delete_secret(
    request: Request,
    asking: Asking,
    name: SecretName,
    page_ref: PageRef = None,
    installation: OfInstallation = False,
    force: Annotated[bool, Query(description="Although it is used.")] = False,
) -> Response:
    """Forget a secret. 409 names what uses it, unless forced."""
    async with transaction(services_of(request).pool) as db:
        page_id = await _home(db, asking, page_ref, installation=installation)
        await secrets.remove(db, asking.actor, await _found(db, page_id, name), force=force)
    return Response(status_code=204)


@router.post("/secrets/rotate")
@permits(Permission.ADMIN, installation=True)
async def rotate_secrets(request: Request, asking: Asking) -> Response:
    """Seal every secret anew with the first key of UPBEAT_SECRET_KEY; after it the others may go."""
    services = services_of(request)
    assert services.secrets.keyring is not None
    async with transaction(services.pool) as db:
        count = await secrets.rotate(db, asking.actor, services.secrets.keyring)
    return reply({"sealed": count})


async def _home(
    db: Connection, asking: Principal, page_ref: str | None, *, installation: bool
) -> UUID | None:
    """The page whose secret it is, None for the installation's. Raises 403, 404, 409."""
    if installation:
        asking.require(Permission.ADMIN, None)
        return None
    if page_ref is not None:
        page_id = (await locate(db, asking, "page", page_ref)).id
    else:
        pages = await objects.listing(db, "page", pages=asking.pages_for(Permission.WRITE))
        if len(pages) != 1:
            said = ", ".join(stored.slug for stored in pages) or "none yet"
            raise ProblemError(
                409, "ambiguous", f"say whose secret it is with ?page= ({said}) or ?installation=true"
            )
        page_id = pages[0].id
    asking.require(Permission.WRITE, page_id)
    return page_id


async def _found(db: Connection, page_id: UUID | None, name: str) -> Kept:
    for kept in await secrets.listing(db, name=name):
        if kept.page_id == page_id:
            return kept
    raise missing(f"there is no secret {name!r} there")


def _shown(kept: Kept, slugs: dict[UUID, str]) -> dict[str, Any]:
    return {
        "name": kept.name,
        "page": slugs.get(kept.page_id) if kept.page_id else None,
        "revision": kept.revision,
        "updated_at": kept.updated_at,
        "updated_by": kept.updated_by,
        "used_by": kept.used_by,
    }
