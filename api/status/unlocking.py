"""How people come in to a page that is not public: by its password, or by a link to their mailbox. Whom that lets in is `api.status.access`'s.

Nothing that is asked here answers otherwise for a mailbox that is let in than for one that is not.
"""

import hashlib
import logging
import re
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Permission, Router, permits
from api.context import services_of
from api.limits import Limiter
from api.origin import near
from api.status import access, pages
from api.status.document import Document
from api.status.front import LONGEST, PLACE
from api.status.view import CSP, Place, Rendition
from engine.store import letters
from engine.store.database import transaction
from engine.store.ids import new_id, read
from evaluators.model import Letter
from rules import subscriber

LINK_S: Final = 900
"""How long a mailed link opens: as often as it is opened, so that a program that looks into mail uses nothing up."""
WRONG_PER_ADDRESS, WRONG_PER_PAGE = 10, 300
"""Passwords in five minutes, in one process."""
LETTERS_PER_MAILBOX, LETTERS_PER_ADDRESS, LETTERS_PER_PAGE = 5, 60, 1000
"""Asked for in an hour, in one process."""
_PATH: Final = re.compile(r"(?!\.)[\w.-]+(?:/(?!\.)[\w.-]+)*(?:\?[\w=&%.,:+-]*)?", re.ASCII)
"""Of a path below the page that it cannot lead out of."""
_log = logging.getLogger(__name__)

router = Router(include_in_schema=False)


def answered(rendition: Rendition, status: int | None = None) -> Response:
    """A rendition as the application answers it."""
    return Response(
        rendition.body,
        status or rendition.status,
        {"Content-Security-Policy": CSP, **rendition.headers},
        rendition.media_type,
    )


@router.get("/p/{slug}/unlock")
@permits(Permission.PUBLIC)
async def come(request: Request) -> Response:
    """Where a mailed link leads: to one button, because programs that look into mail open links too."""
    page, place = shown(request)
    ticket = request.query_params.get("ticket", "")
    if not ticket or page.rule.access.is_public:
        return Response(status_code=303, headers={"Location": place.path()})
    return answered(
        pages.render(
            "enter.html",
            access.outside(page),
            place,
            title=page.rule.name,
            status=401,
            ticket=ticket,
            to=_below(request.query_params.get("to")),
        ),
        200,
    )


@router.post("/p/{slug}/unlock")
@permits(Permission.PUBLIC, csrf=False)
async def unlock(request: Request) -> Response:
    """Take a password, a mailed link's ticket, or a mailbox that a link is mailed to."""
    page, place = shown(request)
    async with request.form(max_files=0, max_fields=10) as form:
        given = {name: value for name, value in form.items() if isinstance(value, str)}
    to, outside = _below(given.get("to")), access.outside(page)
    whose, said, status = None, "gate_ended", 401
    if page.rule.access.is_public:
        return Response(status_code=303, headers={"Location": place.path(to)})
    if "ticket" in given:
        whose = access.holder(page, "link", given["ticket"], services_of(request).clock.epoch_s())
    elif "email" in given:
        said, status = await _mailed(request, page, place, given["email"], to)
    elif not (wrong := _judged(request, page, given.get("password", ""))):
        whose = ""
    else:
        said, status = wrong
    if whose is None:
        return answered(pages.gate(outside, place, to=to, said=said), status)
    came = {"Location": place.path(to), "Set-Cookie": access.cookie(page, place, request, whose)}
    return Response(status_code=303, headers=came)


def _judged(request: Request, page: Document, password: str) -> tuple[str, int] | None:
    """What is wrong with this password, and the status that says so; None: nothing."""
    tries: Limiter = request.app.state.logins
    now_s = services_of(request).clock.monotonic_s()
    quotas = {(page.id, near(request)): WRONG_PER_ADDRESS, page.id: WRONG_PER_PAGE}
    if any(tries.spent_s(key, quota, now_s) for key, quota in quotas.items()):
        return "gate_too_many", 429
    if access.knows(page, password):
        return None
    if page.rule.access.password and not page.proof:
        _log.warning(
            "nobody is let in to the page %s by its password: it stands for nothing here, see `upbeat doctor`",
            page.rule.slug,
        )
    for key, quota in quotas.items():
        tries.take(key, quota, now_s)
    return "gate_wrong", 401


async def _mailed(request: Request, page: Document, place: Place, given: str, to: str) -> tuple[str, int]:
    """Queue a link for this mailbox if its domain is listed; what is said of it, which tells nobody whether it is."""
    services = services_of(request)
    try:
        mailbox = subscriber.address_of("email", given)
    except ValueError:
        return "gate_no_mailbox", 422
    # The Host header is whatever who asks says: a link made of it could lead who is mailed to them.
    is_lost = bool(place.base) and services.settings.public_url is None
    if is_lost or not services.settings.can_mail:
        unset = "public_url" if is_lost else "mail"
        _log.warning("no link to the page %s is mailed: set %s", page.rule.slug, unset)
        return "gate_unmailed", 503
    local, _, domain = mailbox.partition("@")
    # Mailboxes last: who may ask no more cannot push others out of the limiter by making up many.
    quotas = {
        (page.id, near(request)): LETTERS_PER_ADDRESS,
        page.id: LETTERS_PER_PAGE,
        hashlib.sha256(f"{local.partition('+')[0]}@{domain}".lower().encode()).digest(): LETTERS_PER_MAILBOX,
    }
    asked: Limiter = request.app.state.entrances
    now_s = services.clock.monotonic_s()
    if any(asked.take(key, quota, now_s)[0] < 0 for key, quota in quotas.items()):
        return "gate_too_many", 429
    if access.is_listed(page.rule, mailbox):
        at = services.clock.epoch_s()
        ticket = access.ticket(page, "link", mailbox, int(at) + LINK_S)
        link = f"{place.url('unlock')}?{urlencode({'ticket': ticket, 'to': to})}"
        letter = Letter(kind="entrance", id=new_id().hex, at=at)
        page_id, language = read("page", page.id), place.language.code
        assert page_id is not None
        async with transaction(services.pool) as db:
            await letters.put_single(db, page_id, "email", mailbox, letter, link=link, language=language)
    return "gate_sent", 202


def shown(request: Request) -> tuple[Document, Place]:
    shown: tuple[Document, Place] = request.scope[PLACE]
    return shown


def _below(path: str | None) -> str:
    return path if path and len(path) <= LONGEST and _PATH.fullmatch(path) else ""
