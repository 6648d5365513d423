"""Stored secrets in the console: stored, replaced and removed through `api.secrets`. No page ever holds a value."""

import json
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from api import secrets as rest
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import as_json, fields, page_choices, refusal
from api.console.page import go, render
from api.context import services_of
from api.problems import ProblemError
from engine.store.objects import InUseError
from engine.store.secrets import LockedError
from rules.secret import SECRET_NAME

_INSTALLATION: Final = "*"

router = Router(prefix="/console", include_in_schema=False)


@router.get("/secrets")
@permits(Permission.WRITE)
async def secrets(request: Request, asking: Asking) -> Response:
    """Those of the pages one may edit, and the form for another."""
    return await _secrets(request, asking)


async def _secrets(
    request: Request,
    asking: Principal,
    *,
    given: Mapping[str, str] | None = None,
    refused: Exception | None = None,
) -> Response:
    listed = json.loads(bytes((await rest.list_secrets(request, asking)).body))["items"]
    mistakes, status = refusal(refused)
    async with services_of(request).pool.acquire() as db:
        pages = await page_choices(db, asking)
        if asking.may(Permission.ADMIN, None):
            pages.append((_INSTALLATION, "the installation"))
        return await render(
            request,
            db,
            "secrets.html",
            status,
            rows=listed,
            pages=pages,
            pattern=SECRET_NAME,
            given={"name": "", "page": ""} | dict(given or {}),
            mistakes=mistakes,
        )


@router.post("/secrets")
@permits(Permission.WRITE)
async def store(request: Request, asking: Asking) -> Response:
    """Store a value, or another in its place."""
    sent = await fields(request)
    value = (await request.form()).get("value")  # not from `fields`: blanks around it are part of it
    try:
        await rest.put_secret(
            as_json(request, {"value": value if isinstance(value, str) else ""}),
            asking,
            sent.get("name", ""),
            *_place(sent.get("page", "")),
        )
    except (ProblemError, LockedError) as refused:
        given = {key: sent.get(key, "") for key in ("name", "page")}
        return await _secrets(request, asking, given=given, refused=refused)
    return go("/console/secrets", "stored")


@router.post("/secrets/{name}/delete")
@permits(Permission.WRITE)
async def remove(request: Request, asking: Asking, name: str, page: str = "") -> Response:
    """Forget one that nothing uses."""
    try:
        await rest.delete_secret(request, asking, name, *_place(page))
    except InUseError as refused:
        return await _secrets(request, asking, refused=refused)
    return go("/console/secrets", "removed")


def _place(page: str) -> tuple[str | None, bool]:
    return (None, True) if page == _INSTALLATION else (page or None, False)
