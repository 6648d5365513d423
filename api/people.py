"""Users, their roles and login links; tokens; the audit log. Signing in is `api.session`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import services_of
from api.objects import locate
from api.origin import base_url
from api.paging import Cursor, Limit, NumberOnly, SlugAndId, page, read_cursor
from api.problems import ProblemError, missing
from api.showing import page_slugs
from engine.store import audit, people
from engine.store.database import Connection, Row, transaction
from engine.store.ids import read, show
from engine.store.people import RANK, SCOPE_CAP, TOKEN_LIFE, Grants, Role, Scope
from rules.duration import Duration
from rules.mail import Mailbox
from rules.shape import Name, Rule

router = Router(prefix="/api/v1", tags=["people"])

LOGIN_PATH = "/console/login/link"
"""Where the console takes a login link's secret, as `?secret=`."""


class RoleOn(Rule):
    """A role on a page (its slug or id); without one on every page and the installation."""

    page: str | None = None
    role: Role


Roles = Annotated[list[RoleOn], Field(max_length=200)]


class NewUser(Rule):
    """A user to be."""

    email: Mailbox
    name: Name
    roles: Roles = Field(default=[])


class UserChange(Rule):
    """What changes of a user."""

    name: Name | None = None
    roles: Roles | None = None
    disabled: bool | None = None


class NewToken(Rule):
    """A token to be: its scope, intersected with a role on a page, intersected with what its maker may."""

    name: Name
    scope: Scope = "read"
    role: Role | None = None
    page: str | None = None
    expires: Annotated[Duration, Field(ge=60, le=3650 * 86400)] | None = float(TOKEN_LIFE.total_seconds())


async def _grants(db: Connection, asking: Principal, roles: Sequence[RoleOn]) -> Grants:
    grants: dict[UUID | None, Role] = {}
    for given in roles:
        stored = await locate(db, asking, "page", given.page) if given.page is not None else None
        grants[stored.id if stored else None] = given.role
    return grants


def _shown_user(row: Row, slugs: dict[UUID, str]) -> dict[str, Any]:
    person = people.person_of(row)
    return {
        "id": show("user", person.id),
        "email": person.email,
        "name": person.name,
        "disabled": person.disabled,
        "has_password": row["password"] is not None,
        "created_at": row["created_at"],
        "roles": [{"page": slugs.get(p) if p else None, "role": role} for p, role in person.grants.items()],
    }


async def _user_id(db: Connection, ref: str) -> UUID:
    """A user by id or e-mail address."""
    by_email = await people.user_by_email(db, ref) if "@" in ref else None
    user_id = by_email["id"] if by_email else read("user", ref)
    if user_id is None:
        raise missing(f"there is no user {ref!r}")
    return UUID(str(user_id))


async def _one_user(db: Connection, user_id: UUID) -> dict[str, Any]:
    return _shown_user(await people.user(db, user_id), await page_slugs(db))


@router.get("/users")
@permits(Permission.ADMIN, installation=True)
async def list_users(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """By e-mail address."""
    async with services_of(request).pool.acquire() as db:
        rows = await people.users(db, after=read_cursor(cursor, SlugAndId), limit=limit + 1)
        slugs = await page_slugs(db)
    last = (rows[limit - 1]["email"].lower(), rows[limit - 1]["id"]) if len(rows) > limit else None
    return page(request, [_shown_user(row, slugs) for row in rows[:limit]], last)


@router.post("/users", status_code=201)
@permits(Permission.ADMIN, installation=True, tells_secret=True)
@takes(NewUser)
async def create_user(request: Request, asking: Asking) -> Response:
    """A user, and the link with which they sign in first (valid for an hour)."""
    sent = await read_body(request, NewUser)
    async with transaction(services_of(request).pool) as db:
        grants = await _grants(db, asking, sent.roles)
        user_id = await people.create_user(db, asking.actor, sent.email, sent.name, grants)
        secret = await people.make_login_link(db, asking.actor, sent.email)
        shown = await _one_user(db, user_id)
    return reply(shown | {"login_link": login_link(request, secret)}, 201)


def login_link(request: Request, secret: str) -> str:
    """The address a login link's secret is sent to people as."""
    return f"{base_url(request)}{LOGIN_PATH}?secret={secret}"


@router.get("/users/{ref}")
@permits(Permission.ADMIN, installation=True)
async def read_user(request: Request, ref: str) -> Response:
    """One user, by id or e-mail address."""
    async with services_of(request).pool.acquire() as db:
        return reply(await _one_user(db, await _user_id(db, ref)))


@router.patch("/users/{ref}")
@permits(Permission.ADMIN, installation=True)
@takes(UserChange)
async def change_user(request: Request, asking: Asking, ref: str) -> Response:
    """Change name, roles or whether they are disabled; other roles end their sessions."""
    sent = await read_body(request, UserChange)
    async with transaction(services_of(request).pool) as db:
        user_id = await _user_id(db, ref)
        grants = None if sent.roles is None else await _grants(db, asking, sent.roles)
        await people.change_user(
            db, asking.actor, user_id, name=sent.name, grants=grants, disabled=sent.disabled
        )
        return reply(await _one_user(db, user_id))


@router.delete("/users/{ref}", status_code=204)
@permits(Permission.ADMIN, installation=True)
async def remove_user(request: Request, asking: Asking, ref: str) -> Response:
    """Take a user away, with sessions and tokens."""
    async with transaction(services_of(request).pool) as db:
        await people.remove_user(db, asking.actor, await _user_id(db, ref))
    return Response(status_code=204)


@router.post("/users/{ref}/login-link", status_code=201)
@permits(Permission.ADMIN, installation=True, tells_secret=True)
async def create_login_link(request: Request, asking: Asking, ref: str) -> Response:
    """A new link that signs this user in once."""
    async with transaction(services_of(request).pool) as db:
        row = await people.user(db, await _user_id(db, ref))
        secret = await people.make_login_link(db, asking.actor, row["email"])
    return reply({"login_link": login_link(request, secret)}, 201)


# ---- tokens


def _shown_token(row: Row) -> dict[str, Any]:
    kept = ("name", "hint", "scope", "role", "page", "created_by", "created_at", "expires_at", "last_used_at")
    return {"id": show("token", row["id"])} | {n: row[n] for n in kept} | {"revoked_at": row["revoked_at"]}


def _token_scope(asking: Principal) -> tuple[Sequence[UUID] | None, str | None]:
    """The pages whose tokens they manage, and whose own, too. A token without the scope admin manages none."""
    return asking.pages_for(Permission.ADMIN), asking.name if asking.key_id is None else None


@router.get("/tokens")
@permits(Permission.SIGNED_IN)
async def list_tokens(
    request: Request, asking: Asking, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Those of the pages one administers, and one's own."""
    pages, maker = _token_scope(asking)
    async with services_of(request).pool.acquire() as db:
        after = read_cursor(cursor, tuple[UUID])
        rows = await people.tokens(
            db, pages=pages, created_by=maker, after=after[0] if after else None, limit=limit + 1
        )
    last = (rows[limit - 1]["id"],) if len(rows) > limit else None
    return page(request, [_shown_token(row) for row in rows[:limit]], last)


@router.post("/tokens", status_code=201)
@permits(Permission.SIGNED_IN, tells_secret=True)
@takes(NewToken)
async def create_token(request: Request, asking: Asking) -> Response:
    """A token that may no more than its maker; its text is shown this once. With a token it takes the scope admin."""
    sent = await read_body(request, NewToken)
    async with transaction(services_of(request).pool) as db:
        stored = await locate(db, asking, "page", sent.page) if sent.page is not None else None
        page_id = stored.id if stored else None
        role = sent.role or SCOPE_CAP[sent.scope]
        least = Permission(RANK[role])
        if asking.key_id is not None and not asking.may(Permission.ADMIN, page_id):
            raise ProblemError(403, "forbidden", "only a token with the scope admin makes tokens")
        asking.require(least, page_id)
        life = timedelta(seconds=sent.expires) if sent.expires is not None else None
        token_id, text = await people.issue_token(
            db, asking.actor, sent.name, sent.scope, role, page_id, life
        )
    shown = {
        "id": show("token", token_id),
        "token": text,
        "scope": sent.scope,
        "role": role,
        "name": sent.name,
    }
    return reply(shown | {"page": stored.slug if stored else None}, 201)


@router.delete("/tokens/{ref}", status_code=204)
@permits(Permission.SIGNED_IN)
async def revoke_token(request: Request, asking: Asking, ref: str) -> Response:
    """End a token now."""
    token_id = read("token", ref)
    if token_id is None:
        raise missing(f"there is no token {ref!r}")
    pages, maker = _token_scope(asking)
    async with transaction(services_of(request).pool) as db:
        await people.revoke_token(db, asking.actor, token_id, pages=pages, created_by=maker)
    return Response(status_code=204)


# ---- audit


def audited(row: Row) -> str:
    """What a line of the audit log is about, as it is called elsewhere: an action by its id."""
    name: str = row["object"]
    return show("action", UUID(name)) if row["verb"].startswith("action.") else name


@router.get("/audit")
@permits(Permission.ADMIN)
async def list_audit(
    request: Request,
    asking: Asking,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first, of the pages one administers."""
    before = read_cursor(cursor, NumberOnly)
    async with services_of(request).pool.acquire() as db:
        pages = asking.pages_for(Permission.ADMIN)
        rows = await audit.listing(db, pages=pages, before_id=before[0] if before else None, limit=limit + 1)
        slugs = await page_slugs(db)
    kept = ("id", "at", "actor", "surface", "key_id", "verb", "object", "before", "after")
    items = [
        {name: row[name] for name in kept}
        | {"page": slugs.get(row["page_id"]) if row["page_id"] else None, "object": audited(row)}
        for row in rows[:limit]
    ]
    return page(request, items, (items[-1]["id"],) if len(rows) > limit else None)
