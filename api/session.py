"""Signing in and out, and who one is. Users and tokens are managed in `api.people`."""

import hashlib
from typing import Annotated
from uuid import UUID

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import (
    Asking,
    Permission,
    Principal,
    Router,
    clear_session,
    csrf_of,
    permits,
    session_secret,
    set_session,
)
from api.body import read_body, reply, takes
from api.context import services_of
from api.limits import too_many
from api.origin import near
from api.passwords import LEAST_LENGTH, hash_password, is_password
from api.problems import ProblemError, invalid
from api.showing import page_slugs
from engine.store import people
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.people import Person
from rules.shape import Rule

Password = Annotated[str, Field(max_length=1000)]
Secret = Annotated[str, Field(min_length=1, max_length=200)]
TRIES_PER_ACCOUNT, TRIES_PER_ADDRESS = 10, 50
"""In five minutes, in one process."""

router = Router(prefix="/api/v1", tags=["session"])


class Login(Rule):
    """Who signs in."""

    email: Annotated[str, Field(max_length=254)]
    password: Password


class Link(Rule):
    """The secret of a login link."""

    secret: Secret


class NewPassword(Rule):
    """A new password; the current one is needed where there is one."""

    current: Password | None = None
    new: Password


async def sign_in(request: Request, email: str, password: str) -> tuple[Person, str]:
    """Whoever proves to be `email`, and their new session's secret. Raises 401, 429."""
    services = services_of(request)
    # Addresses first: one that may try no more cannot push others out of the limiter by making up many accounts.
    _limit(request, near(request), TRIES_PER_ADDRESS)
    account = f"{hashlib.sha256(email.lower().encode()).hexdigest()}@{near(request)}"
    _limit(request, account, TRIES_PER_ACCOUNT)
    async with services.pool.acquire() as db:
        row = await people.user_by_email(db, email)
    known = row["password"] if row and not row["disabled"] else None
    if not await is_password(password, known) or row is None:
        raise ProblemError(401, "unauthorized", "no active user has this e-mail address and password")
    request.app.state.logins.forget(account)
    return await _opened(request, people.person_of(row))


async def sign_in_by_link(request: Request, secret: str) -> tuple[Person, str]:
    """Whoever a login link is for; it works once. Raises 401, 429."""
    _limit(request, near(request), TRIES_PER_ADDRESS)
    async with transaction(services_of(request).pool) as db:
        person = await people.use_login_link(db, secret)
    if person is None:
        raise ProblemError(
            401, "unauthorized", "this link was used or is older than an hour: ask for a new one"
        )
    return await _opened(request, person)


def _limit(request: Request, key: str, quota: int) -> None:
    left, wait_s = request.app.state.logins.take(key, quota, services_of(request).clock.monotonic_s())
    if left < 0:
        raise too_many(int(wait_s) + 1, "too many attempts to sign in")


async def _opened(request: Request, person: Person) -> tuple[Person, str]:
    old = session_secret(request)
    async with transaction(services_of(request).pool) as db:
        actor = Actor(person.email, "console")
        if old:  # a session that was there before proves nothing now
            await people.close_session(db, actor, old)
        return person, await people.open_session(db, actor, person.id)


def _answer(request: Request, person: Person, secret: str) -> Response:
    response = reply({"email": person.email, "name": person.name, "csrf": csrf_of(secret)})
    set_session(request, response, secret)
    return response


@router.post("/login")
@permits(Permission.PUBLIC, csrf=False)
@takes(Login)
async def login(request: Request) -> Response:
    """Sign in with a password: sets the session's cookie."""
    sent = await read_body(request, Login)
    return _answer(request, *await sign_in(request, sent.email, sent.password))


@router.post("/login/link")
@permits(Permission.PUBLIC, csrf=False)
@takes(Link)
async def login_by_link(request: Request) -> Response:
    """Sign in with the secret of a login link."""
    return _answer(request, *await sign_in_by_link(request, (await read_body(request, Link)).secret))


@router.post("/logout", status_code=204)
@permits(Permission.SIGNED_IN)
async def logout(request: Request, asking: Asking) -> Response:
    """End this session."""
    return await sign_out(request, asking, Response(status_code=204))


async def sign_out(request: Request, asking: Principal, response: Response) -> Response:
    """`response`, with which the browser forgets the session that ended."""
    secret = session_secret(request)
    if secret:
        async with transaction(services_of(request).pool) as db:
            await people.close_session(db, asking.actor, secret)
        clear_session(request, response)
    return response


@router.get("/me")
@permits(Permission.SIGNED_IN)
async def me(request: Request, asking: Asking) -> Response:
    """Who asks, and what they may do where."""
    async with services_of(request).pool.acquire() as db:
        slugs = await page_slugs(db)
    roles = [
        {"page": slugs.get(page) if page else None, "role": role} for page, role in asking.grants.items()
    ]
    shown = {"name": asking.name, "surface": asking.surface, "key_id": asking.key_id, "csrf": asking.csrf}
    return reply(shown | {"roles": roles})


@router.post("/me/password")
@permits(Permission.SIGNED_IN, tells_secret=True)
@takes(NewPassword)
async def change_password(request: Request, asking: Asking) -> Response:
    """Change one's own password: every session of the user ends, and this one is replaced."""
    sent = await read_body(request, NewPassword)
    if asking.user_id is None:
        raise ProblemError(403, "forbidden", "a password is changed in a session, not with a token")
    return _answer(request, *await replace_password(request, asking.actor, asking.user_id, sent))


async def replace_password(
    request: Request, actor: Actor, user_id: UUID, sent: NewPassword
) -> tuple[Person, str]:
    """Check and replace the signed-in user's password; a new session. Raises 401, 422, 429."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        row = await people.user(db, user_id)
    if row["password"] is not None:
        _limit(request, f"password of {row['id']}", TRIES_PER_ACCOUNT)
        if not await is_password(sent.current or "", row["password"]):
            raise invalid([("/current", "this is not the current password")])
    if len(sent.new) < LEAST_LENGTH:
        raise invalid([("/new", f"a password has at least {LEAST_LENGTH} characters")])
    hashed = await hash_password(sent.new)
    async with transaction(services.pool) as db:
        await people.set_password(db, actor, row["id"], hashed)
    return await _opened(request, people.person_of(row))
