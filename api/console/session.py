"""Signing in to the console with a password or a one-time link, and out again. How it is proved is `api.session`."""

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits, set_session
from api.body import validated
from api.console.forms import fields, mistakes_of
from api.console.page import bare, go, render
from api.context import services_of
from api.passwords import LEAST_LENGTH, hash_password
from api.problems import ProblemError, missing
from api.session import NewPassword, replace_password, sign_in, sign_in_by_link, sign_out
from engine.store import people
from engine.store.audit import Actor
from engine.store.database import transaction

router = Router(prefix="/console", include_in_schema=False)


def _inside(path: str) -> str:
    """`path` where it is a page of the console: nobody is sent anywhere else after signing in."""
    fits = path == "/console" or path.startswith(("/console/", "/console?"))
    return path if fits and "\\" not in path and path.isprintable() else "/console"


@router.get("/login")
@permits(Permission.PUBLIC)
async def login_page(request: Request, asking: Asking) -> Response:
    """The form; who is signed in goes on at once."""
    back = _inside(request.query_params.get("next", ""))
    if not asking.is_anonymous:
        return go(back)
    return bare(request, "login.html", next=back, email="", wrong=None)


@router.post("/login")
@permits(Permission.PUBLIC, csrf=False)
async def login(request: Request) -> Response:
    """Sign in with a password."""
    sent = await fields(request)
    back, email = _inside(sent.get("next", "")), sent.get("email", "")
    # Not from `fields`: blanks around a password are part of it.
    password = (await request.form()).get("password")
    try:
        _, secret = await sign_in(request, email, password if isinstance(password, str) else "")
    except ProblemError as refused:
        return bare(request, "login.html", refused.status, next=back, email=email, wrong=refused.detail)
    return _signed_in(request, secret, back)


@router.get("/login/link")
@permits(Permission.PUBLIC)
async def link_page(request: Request) -> Response:
    """The form behind a link: opening it uses nothing up, so that a mail scanner cannot. The demo's signs in at once."""
    secret = request.query_params.get("secret", "")
    async with services_of(request).pool.acquire() as db:
        is_demo = await people.is_lasting_link(db, secret)
    if not is_demo:
        return bare(request, "link.html", secret=secret, wrong=None)
    try:
        _, session = await sign_in_by_link(request, secret)
    except ProblemError as refused:
        return bare(request, "link.html", refused.status, secret=secret, wrong=refused.detail)
    return _signed_in(request, session, "/console")


@router.post("/login/link")
@permits(Permission.PUBLIC, csrf=False)
async def link(request: Request) -> Response:
    """Use the link, and set a password if one was chosen."""
    used, form = (await fields(request)).get("secret", ""), await request.form()
    chosen = form.get("password")
    password = chosen if isinstance(chosen, str) else ""
    if password and len(password) < LEAST_LENGTH:
        wrong = f"a password has at least {LEAST_LENGTH} characters"
        return bare(request, "link.html", 422, secret=used, wrong=wrong)
    try:
        person, secret = await sign_in_by_link(request, used)
    except ProblemError as refused:
        return bare(request, "link.html", refused.status, secret=used, wrong=refused.detail)
    if password:
        actor, hashed = Actor(person.email, "console"), await hash_password(password)
        async with transaction(services_of(request).pool) as db:
            await people.set_password(db, actor, person.id, hashed)
            secret = await people.open_session(db, actor, person.id)
    return _signed_in(request, secret, "/console")


def _signed_in(request: Request, secret: str, back: str) -> Response:
    response = go(back)
    set_session(request, response, secret)
    return response


@router.post("/logout")
@permits(Permission.SIGNED_IN)
async def logout(request: Request, asking: Asking) -> Response:
    """End the session."""
    return await sign_out(request, asking, go("/console/login", "signed-out"))


@router.get("/account")
@permits(Permission.SIGNED_IN)
async def account_page(request: Request) -> Response:
    """One's own password."""
    return await _account(request, [])


async def _account(request: Request, mistakes: list[tuple[str, str]], status: int = 200) -> Response:
    async with services_of(request).pool.acquire() as db:
        return await render(request, db, "account.html", status, errors={p[1:]: said for p, said in mistakes})


@router.post("/account")
@permits(Permission.SIGNED_IN)
async def change_password(request: Request, asking: Asking) -> Response:
    """Replace it; every other session of the user ends."""
    form = await request.form()
    current, new = (str(form.get(name, "")) for name in ("current", "new"))
    if asking.user_id is None:
        raise missing("a token has no password")
    try:
        sent = validated(NewPassword, {"current": current, "new": new})
        _, secret = await replace_password(request, asking.actor, asking.user_id, sent)
    except ProblemError as refused:
        if refused.status != 422:
            raise
        return await _account(request, mistakes_of(refused), 422)
    response = go("/console/account", "saved")
    set_session(request, response, secret)
    return response
