"""Who asks, and whether they may: principals, permissions and the one guard every route stands behind.

A route declares its permission with `@permits(...)`; a `Router` refuses one that does not. The guard, in this order:
who is it (bearer token, else session cookie), rate limit, CSRF for cookies, permission, Idempotency-Key.
Which *objects* a principal may touch is asked of `Principal.pages_for` and `Principal.require`.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from api import idempotency, limits
from api.context import services_of
from api.origin import is_foreign, is_https, near
from api.problems import ProblemError, missing
from engine.store import people
from engine.store.audit import Actor, Surface
from engine.store.ids import show
from engine.store.people import RANK, Grants

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
ACTING = "upbeat.acting"
"""Of a scope: who acts, as another of the ways in found out. No request from outside has one."""
ADMIN_TOKEN_LEAST = 20
"""Characters that UPBEAT_ADMIN_TOKEN must have."""
OPERATOR_KEYS = ("UPBEAT_ADMIN_TOKEN", "local")
"""Key ids of who has the environment of this process, or its data folder."""


class Permission(Enum):
    """What a route needs; the value is the least rank of the role that has it."""

    PUBLIC = 0
    SIGNED_IN = -1  # anybody who is somebody
    READ = RANK["viewer"]
    REVIEW = RANK["reviewer"]
    WRITE = RANK["editor"]
    ADMIN = RANK["admin"]
    RAW = (
        RANK["admin"] - 0.5
    )  # what others sent, secrets and all; no alias of ADMIN, as equal values would make it


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts through which surface, and their role per page (under None: everywhere)."""

    name: str
    surface: Surface
    key_id: str | None = None
    grants: Grants = field(default_factory=dict)
    user_id: UUID | None = None
    csrf: str | None = None  # of a session: forms and scripts send it back

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody is signed in."""
        return not self.name

    @property
    def is_operator(self) -> bool:
        """Whether they hold the machine's own token, and so all that is on it."""
        return self.key_id in OPERATOR_KEYS

    @property
    def actor(self) -> Actor:
        """As the audit log names them."""
        return Actor(self.name, self.surface, self.key_id)

    def may(self, permission: Permission, page_id: UUID | None) -> bool:
        """On this page; None: on every page and the installation itself."""
        role = self.grants.get(page_id) or self.grants.get(None)
        best = max((RANK[held] for held in (role, self.grants.get(None)) if held), default=0)
        return not self.is_anonymous and best >= permission.value

    def pages_for(self, permission: Permission) -> list[UUID] | None:
        """The pages on which they may; None means every page."""
        if self.may(permission, None):
            return None
        return [page for page in self.grants if page is not None and self.may(permission, page)]

    def require(self, permission: Permission, page_id: UUID | None) -> None:
        """Raise 403, or 404 when they may not even see that page."""
        if self.may(permission, page_id):
            return
        if page_id is not None and not self.may(Permission.READ, page_id):
            raise missing("there is no such object")
        raise _forbidden(permission)


ANONYMOUS = Principal("", "api")


def principal(request: Request) -> Principal:
    """Who asks, as the guard found out."""
    known: Principal = request.state.principal
    return known


Asking = Annotated[Principal, Depends(principal)]
"""A route parameter: who asks."""

E = TypeVar("E", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Declared:
    """What a route needs. `installation`: for every page, not just one. `tells_secret`: its answer is kept nowhere.

    `anywhere`: the address itself is the proof, whatever page or program it is sent from.
    """

    permission: Permission
    installation: bool = False
    csrf: bool = True
    tells_secret: bool = False
    anywhere: bool = False


def permits(
    permission: Permission,
    *,
    installation: bool = False,
    csrf: bool = True,
    tells_secret: bool = False,
    anywhere: bool = False,
) -> Callable[[E], E]:
    """Declare what a route needs; stands below the router's own decorator.

    `csrf=False` is for what an outsider may as well do (signing in); the Origin is checked all the same.
    """

    def declare(endpoint: E) -> E:
        endpoint.declared = Declared(permission, installation, csrf, tells_secret, anywhere)  # type: ignore[attr-defined]
        return endpoint

    return declare


class GuardedRoute(APIRoute):
    """A route behind the guard."""

    @property
    def declared(self) -> Declared:
        """What the endpoint declares. Raises `TypeError` when it does not."""
        found = getattr(self.endpoint, "declared", None)
        if not isinstance(found, Declared):
            raise TypeError(
                f"{self.path} declares no permission: put @permits(...) below the route's decorator"
            )
        return found

    def get_route_handler(self) -> Callable[[Request], Any]:
        """FastAPI's handler with the guard before it."""
        return guarded(self.declared, super().get_route_handler())


def Router(**options: Any) -> APIRouter:  # noqa: N802 - it makes a router, as FastAPI's class does
    """An `APIRouter` whose routes all stand behind the guard. All of ours are made here."""
    # The function's name is the operationId: what generated clients call it.
    return APIRouter(
        route_class=GuardedRoute, generate_unique_id_function=lambda route: str(route.name), **options
    )


def guarded(
    declared: Declared, handle: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """`handle` behind the guard."""

    async def guard(request: Request) -> Response:
        try:
            asking = await identify(request)
        except ProblemError:
            limits.take(request, near(request))  # guessing is limited too
            raise
        request.state.principal = asking
        headers: dict[str, str] = {}
        if declared.permission is not Permission.PUBLIC or request.method not in SAFE:
            # Not what is public: many read a status page through one proxy, most of all in an outage.
            headers = limits.take(request, asking.key_id or asking.name or near(request))
        await _refuse_forged(request, asking, declared)
        _refuse_unpermitted(asking, declared)
        if request.method == "POST" and "idempotency-key" in request.headers and not asking.is_anonymous:
            actor = asking.key_id or asking.name
            response = await idempotency.once(request, actor, handle, keep=not declared.tells_secret)
        else:
            response = await handle(request)
        response.headers.update(headers)
        return response

    return guard


async def identify(connection: HTTPConnection) -> Principal:
    """Who asks. A bad token is 401; a cookie that ended is nobody."""
    acting = connection.scope.get(ACTING)
    if isinstance(acting, Principal):
        return acting
    text = _bearer(connection)
    if text is not None:
        return await _by_token(connection, text)
    secret = session_secret(connection)
    return await _by_session(connection, secret) if secret else ANONYMOUS


def _bearer(connection: HTTPConnection) -> str | None:
    """The token that was sent. Other schemes are somebody else's: a proxy's password passes through here."""
    scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


async def _by_token(connection: HTTPConnection, text: str) -> Principal:
    services = services_of(connection)
    surface: Surface = "cli" if connection.headers.get("user-agent", "").startswith("upbeat-cli") else "api"
    settings = services.settings
    for name, admin in zip(OPERATOR_KEYS, (settings.admin_token, settings.local_token), strict=True):
        if admin and len(admin) >= ADMIN_TOKEN_LEAST and hmac.compare_digest(text.encode(), admin.encode()):
            return Principal(name, surface, name, {None: "admin"})
    if not people.is_token(text):
        raise unauthorized("this is no token; was it cut when it was copied?")
    async with services.pool.acquire() as db:
        found = await people.token(db, text)
    if found is None:
        raise unauthorized("this token was revoked, has expired or never was one")
    row, grants = found
    return Principal(row["created_by"], surface, show("token", row["id"]), grants)


async def _by_session(connection: HTTPConnection, secret: str) -> Principal:
    async with services_of(connection).pool.acquire() as db:
        person = await people.session(db, secret)
    if person is None:
        return ANONYMOUS
    return Principal(person.email, "console", None, person.grants, person.id, csrf_of(secret))


def unauthorized(detail: str) -> ProblemError:
    """401."""
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _forbidden(permission: Permission, where: str = "here") -> ProblemError:
    role = next((role for role, rank in RANK.items() if rank >= permission.value), "role")
    return ProblemError(403, "forbidden", f"this needs the role {role} or more {where}")


def _refuse_unpermitted(asking: Principal, declared: Declared) -> None:
    if declared.permission is Permission.PUBLIC:
        return
    if asking.is_anonymous:
        raise unauthorized("sign in, or send a token: `Authorization: Bearer upb_...`")
    pages = asking.pages_for(declared.permission)
    if declared.installation and pages is not None:
        raise _forbidden(declared.permission, "on every page: it concerns the whole installation")
    if declared.permission is not Permission.SIGNED_IN and pages == []:
        raise _forbidden(declared.permission)


# ---- sessions in a browser


def cookie_name(connection: HTTPConnection) -> str:
    """`__Host-` binds the cookie to this very host, and needs https."""
    return "__Host-upbeat" if is_https(connection) else "upbeat"


def session_secret(connection: HTTPConnection) -> str | None:
    """The session cookie's value."""
    return connection.cookies.get(cookie_name(connection))


def set_session(request: Request, response: Response, secret: str) -> None:
    """Give the browser its session."""
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=int(people.SESSION_LIFE.total_seconds()),
        path="/",
        secure=is_https(request),
        httponly=True,
        samesite="lax",
    )


def clear_session(request: Request, response: Response) -> None:
    """Make the browser forget it."""
    response.delete_cookie(
        cookie_name(request), path="/", secure=is_https(request), httponly=True, samesite="lax"
    )


def csrf_of(secret: str) -> str:
    """The session's CSRF token: known to who was shown a page of that session, and useless as a session."""
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()


async def _refuse_forged(request: Request, asking: Principal, declared: Declared) -> None:
    if request.method in SAFE or _bearer(request) is not None:
        return
    if is_foreign(request) and not declared.anywhere:
        raise ProblemError(403, "forged", "another site's page made this request")
    if asking.csrf is None or not declared.csrf:
        return
    sent = request.headers.get("x-csrf-token") or await _form_field(request)
    if not hmac.compare_digest(sent.encode(), asking.csrf.encode()):
        raise ProblemError(
            403, "forged", "the CSRF token is missing or of another session; load the page again"
        )


async def _form_field(request: Request) -> str:
    if not request.headers.get("content-type", "").startswith(
        ("application/x-www-form-urlencoded", "multipart/form-data")
    ):
        return ""
    await request.body()  # kept, so that the route can read the form too
    value = (await request.form()).get("csrf")
    return value if isinstance(value, str) else ""
