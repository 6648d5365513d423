"""Tokens, users and the audit log in the console. What is allowed and what is kept is `api.people`'s: its routes are called."""

import json
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from api import people as rest
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import PART, as_json, fields, filled, page_choices, refusal, whole
from api.console.page import go, render
from api.context import services_of
from api.problems import ProblemError, invalid
from engine.store import audit
from engine.store.objects import TakenError
from engine.store.people import RANK, SCOPE_CAP

_ROLES: Final = [(role, role) for role in RANK]
_TOKEN: Final = {"name": "", "scope": "read", "role": "", "page": "", "days": "90"}
_USER: Final = {"email": "", "name": "", "role": "viewer", "page": ""}
_DAY_S: Final = 86400

router = Router(prefix="/console", include_in_schema=False)


@router.get("/tokens")
@permits(Permission.SIGNED_IN)
async def tokens(request: Request, asking: Asking) -> Response:
    """Those of the pages one administers, and one's own."""
    return await _tokens(request, asking)


async def _tokens(
    request: Request,
    asking: Principal,
    *,
    given: Mapping[str, str] | None = None,
    refused: Exception | None = None,
    secret: str | None = None,
) -> Response:
    listed = json.loads(bytes((await rest.list_tokens(request, asking, 1000)).body))["items"]
    mistakes, status = refusal(refused)
    async with services_of(request).pool.acquire() as db:
        everywhere = [("", "every page")] if asking.may(Permission.READ, None) else []
        return await render(
            request,
            db,
            "tokens.html",
            status,
            rows=listed[::-1],
            scopes=[(scope, scope) for scope in SCOPE_CAP],
            roles=[("", "as the scope allows"), *_ROLES],
            pages=everywhere + await page_choices(db, asking, Permission.READ),
            given=_TOKEN | dict(given or {}),
            mistakes=mistakes,
            secret=secret,
        )


@router.post("/tokens")
@permits(Permission.SIGNED_IN, tells_secret=True)
async def create_token(request: Request, asking: Asking) -> Response:
    """A new token, shown in the answer and never again."""
    sent = await fields(request)
    days = whole(sent.get("days"), 0)
    document = filled({key: sent.get(key, "") for key in ("name", "scope", "role", "page")})
    try:
        made = await rest.create_token(as_json(request, document | {"expires": days * _DAY_S}), asking)
    except ProblemError as refused:
        return await _tokens(request, asking, given=sent, refused=refused)
    return await _tokens(request, asking, secret=json.loads(bytes(made.body))["token"])


@router.post("/tokens/{ref}/revoke")
@permits(Permission.SIGNED_IN)
async def revoke_token(request: Request, asking: Asking, ref: str) -> Response:
    """End a token now."""
    await rest.revoke_token(request, asking, ref)
    return go("/console/tokens", "revoked")


@router.get("/users")
@permits(Permission.ADMIN, installation=True)
async def users(request: Request, asking: Asking) -> Response:
    """Everybody, with roles."""
    return await _users(request, asking)


async def _users(
    request: Request,
    asking: Principal,
    *,
    given: Mapping[str, str] | None = None,
    refused: Exception | None = None,
    link: str | None = None,
    link_for: str = "",
) -> Response:
    listed = json.loads(bytes((await rest.list_users(request, 1000)).body))["items"]
    mistakes, status = refusal(refused)
    async with services_of(request).pool.acquire() as db:
        return await render(
            request,
            db,
            "users.html",
            status,
            rows=listed,
            roles=_ROLES,
            pages=[("", "everything"), *await page_choices(db, asking)],
            given=_USER | dict(given or {}),
            mistakes=mistakes,
            link=link,
            link_for=link_for,
        )


@router.post("/users")
@permits(Permission.ADMIN, installation=True, tells_secret=True)
async def create_user(request: Request, asking: Asking) -> Response:
    """A new user with one role, and the link they sign in with first."""
    sent = await fields(request)
    role = filled({"role": sent.get("role", ""), "page": sent.get("page", "")})
    email = sent.get("email", "")
    document = {"email": email, "name": sent.get("name") or email.partition("@")[0], "roles": [role]}
    try:
        made = json.loads(bytes((await rest.create_user(as_json(request, document), asking)).body))
    except (ProblemError, TakenError) as refused:
        is_taken = isinstance(refused, TakenError)
        wrong = invalid([("/email", str(refused))]) if is_taken else refused
        return await _users(request, asking, given=sent, refused=wrong)
    return await _users(request, asking, link=made["login_link"], link_for=made["email"])


@router.post("/users/{ref}/link")
@permits(Permission.ADMIN, installation=True, tells_secret=True)
async def login_link(request: Request, asking: Asking, ref: str) -> Response:
    """A new link that signs a user in once."""
    made = json.loads(bytes((await rest.create_login_link(request, asking, ref)).body))
    return await _users(request, asking, link=made["login_link"], link_for=ref)


def _switching(verb: str, *, disabled: bool) -> None:
    @router.post(f"/users/{{ref}}/{verb}", name=f"{verb}_user")
    @permits(Permission.ADMIN, installation=True)
    async def switch(request: Request, asking: Asking, ref: str) -> Response:
        await rest.change_user(as_json(request, {"disabled": disabled}), asking, ref)
        return go("/console/users", "saved")


_switching("disable", disabled=True)  # sessions end
_switching("enable", disabled=False)


@router.post("/users/{ref}/delete")
@permits(Permission.ADMIN, installation=True)
async def remove(request: Request, asking: Asking, ref: str) -> Response:
    """Take a user away."""
    await rest.remove_user(request, asking, ref)
    return go("/console/users", "removed")


@router.get("/audit")
@permits(Permission.ADMIN)
async def audit_log(request: Request, asking: Asking) -> Response:
    """Newest first, of the pages one administers."""
    async with services_of(request).pool.acquire() as db:
        rows = await audit.listing(
            db,
            pages=asking.pages_for(Permission.ADMIN),
            before_id=whole(request.query_params.get("before"), 0) or None,
            limit=PART + 1,
        )
        cursor = rows[PART - 1]["id"] if len(rows) > PART else None
        listed = [dict(row) | {"object": rest.audited(row)} for row in rows[:PART]]
        return await render(request, db, "audit.html", rows=listed, cursor=cursor)
