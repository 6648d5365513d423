"""How people subscribe to a page and end it: forms, and links with a token. What they are sent is `engine.mailing`'s.

Double opt-in, whatever the kind: nothing but a link to confirm is sent to an address before somebody who reads what is sent
there pressed a button. GET changes nothing, as programs that look through mail open links. A token proves itself: its pages are
no secret to who has it, though the page may be. Nobody learns here whether an address is known.
"""

import base64
import logging
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Permission, Router, permits
from api.context import services_of
from api.limits import Limiter
from api.origin import near
from api.status import access, pages
from api.status.document import Document
from api.status.unlocking import answered, shown
from api.subscribers import ask
from engine.store import subscribers
from engine.store.database import Row, transaction
from engine.store.ids import read, show
from engine.store.signing import signing_key, webhook_key
from engine.store.subscribers import Entry
from rules.page import SubscriberKind
from rules.subscriber import address_of

PER_CLIENT: Final = 20
PER_HOST: Final = 60
PER_PAGE: Final = 1000
PER_ADDRESS: Final = 3
"""Links that are sent in an hour: asked for by one client, to one host of webhooks, of one page; to one address, of all pages.

How often one page writes to one address is `engine.store.subscribers`'.
"""
MISSES: Final = 100
"""Tokens that one client may guess in an hour."""
_TRAP: Final = "subject"
"""A field that people do not see, and programs fill in."""
_HERE: Final = ("localhost", "127.0.0.1", "::1")
_log = logging.getLogger(__name__)

router = Router(prefix="/p/{slug}", include_in_schema=False)


def _shown(request: Request, template: str, path: str, status: int = 200, **values: Any) -> Response:
    page, place = shown(request)
    title = (
        f"{place.language.say(values.get('heading', 'sub_title'), page=page.rule.name)} · {page.rule.name}"
    )
    values["sections"] = pages.sections(page)
    response = answered(pages.render(template, page, place, title=title, path=path, status=status, **values))
    response.headers["X-Robots-Tag"] = "noindex"
    return response


# ---- asked for


@router.get("/subscribe")
@permits(Permission.PUBLIC)
async def form(request: Request) -> Response:
    """The form of the kind that the address names."""
    return _form(request, request.query_params.get("kind", ""))


@router.post("/subscribe")
@permits(Permission.PUBLIC, csrf=False)
async def subscribe(request: Request) -> Response:
    """Send a link to confirm. The answer is the same whether the address is known or not."""
    page, place = shown(request)
    sent = await _sent(request)
    kind = _text(sent, "kind")
    if kind not in page.rule.subscribers.kinds:
        return _form(request, kind)
    try:
        address = address_of(kind, _text(sent, "address"))
    except ValueError:
        return _form(request, kind, sent, f"sub_wrong_{kind}", 422)
    if not _text(sent, _TRAP):
        services = services_of(request)
        settings = services.settings
        # The Host header is whatever who asks says: a link made of it could lead who is told to them.
        is_lost = place.base and settings.public_url is None and urlsplit(place.origin).hostname not in _HERE
        if is_lost or (kind == "email" and not settings.can_mail):
            unset = "public_url" if is_lost else "mail"
            _log.warning("nobody can subscribe to the page %s by %s: set %s", page.rule.slug, kind, unset)
            return _form(request, kind, sent, "gate_unmailed", 503)
        if _is_too_much(request, kind, address):
            return _form(request, kind, sent, "gate_too_many", 429)
        entry = Entry(kind, address, "", *_choice(page, sent))
        if _takes(request, "addresses", subscribers.folded(kind, address), PER_ADDRESS):
            async with transaction(services.pool) as db:
                below, at_s = place.url().rstrip("/"), services.clock.epoch_s()
                await ask(db, _page_id(page), entry, below, at_s, "page")
    return _shown(
        request, "subscribed.html", "subscribe", heading="sub_sent_title", kind=kind, address=address
    )


def _form(
    request: Request, kind: str, sent: FormData | None = None, wrong: str = "", status: int = 200
) -> Response:
    page, place = shown(request)
    kinds = page.rule.subscribers.kinds
    if not kinds:
        return _missing(request)
    chosen, language = _choice(page, sent) if sent else (None, place.language.code)
    return _shown(
        request,
        "subscribe.html",
        "subscribe",
        status,
        kind=kind if kind in kinds else kinds[0],
        wrong=wrong,
        trap=_TRAP,
        given=_text(sent, "address") if sent else "",
        chosen=_ids(chosen),
        language=language,
    )


def _missing(request: Request) -> Response:
    page, place = shown(request)
    return answered(pages.missing(access.outside(page), place))


async def _sent(request: Request) -> FormData:
    return await request.form(max_files=0, max_fields=2000)


def _text(sent: FormData, name: str) -> str:
    value = sent.get(name)
    return value.strip() if isinstance(value, str) else ""


def _choice(page: Document, sent: FormData) -> tuple[list[UUID] | None, str | None]:
    """The components that were ticked (none: all), and the language; what the page has not is passed over."""
    ticked = {value for value in sent.getlist("component") if isinstance(value, str)}
    named = [read("component", shown.id) for shown in page.components if shown.id in ticked]
    language = _text(sent, "language")
    return [one for one in named if one] or None, language if language in page.rule.languages else None


def _ids(components: list[UUID] | None) -> set[str]:
    return {show("component", one) for one in components or ()}


def _page_id(page: Document) -> UUID:
    found = read("page", page.id)
    assert found is not None
    return found


def _is_too_much(request: Request, kind: SubscriberKind, address: str) -> bool:
    page, _ = shown(request)
    taken = _takes(request, "clients", near(request), PER_CLIENT)
    taken = taken and (kind != "webhook" or _takes(request, "hosts", urlsplit(address).hostname, PER_HOST))
    return not (taken and _takes(request, "pages", page.id, PER_PAGE))


def _takes(request: Request, of: str, key: str | None, quota: int) -> bool:
    """Whether there is one left of so many in an hour. Each kind of key has a limiter: none can crowd out another's."""
    limiters: dict[str, Limiter] = request.app.state.subscribing
    limiter = limiters.setdefault(of, Limiter(3600.0))
    return limiter.take(key, quota, services_of(request).clock.monotonic_s())[0] >= 0


# ---- with a token


async def _whose(request: Request, token: str) -> Row | None:
    """The subscriber of this page that has this token; a wrong one is counted."""
    page, _ = shown(request)
    limiters: dict[str, Limiter] = request.app.state.subscribing
    misses, now_s = limiters.setdefault("misses", Limiter(3600.0)), services_of(request).clock.monotonic_s()
    if misses.spent_s(near(request), MISSES, now_s):
        return None
    async with services_of(request).pool.acquire() as db:
        row = await subscribers.by_token(db, token) if token.isascii() and len(token) <= 100 else None
    if row is None or row["page_id"] != _page_id(page):
        misses.take(near(request), MISSES, now_s)
        return None
    return row


def _of(request: Request, row: Row | None, heading: str, **values: Any) -> Response:
    """What a subscriber sees of the subscription."""
    if row is None:
        return _missing(request)
    path = request.url.path.split("/", 3)[3]
    return _shown(
        request, "subscription.html", path, heading=heading, one=row, chosen=_ids(row["components"]), **values
    )


@router.get("/confirm/{token}")
@permits(Permission.PUBLIC)
async def ask_to_confirm(request: Request, token: str) -> Response:
    """One button."""
    row = await _whose(request, token)
    is_active = row is not None and row["status"] == "active"
    return _of(request, row, "sub_confirmed_title" if is_active else "sub_confirm_title")


@router.post("/confirm/{token}")
@permits(Permission.PUBLIC, csrf=False)
async def confirm(request: Request, token: str) -> Response:
    """Tell them from now on."""
    if (row := await _whose(request, token)) is not None:
        async with transaction(services_of(request).pool) as db:
            row = await subscribers.confirm(db, token)
    return _of(request, row, "sub_confirmed_title")


@router.get("/manage/{token}")
@permits(Permission.PUBLIC)
async def manage(request: Request, token: str) -> Response:
    """What they hear of, to be changed."""
    row = await _whose(request, token)
    return _of(request, row, "sub_manage_title", is_saved=False, secret=await _secret(request, row))


async def _secret(request: Request, row: Row | None) -> str:
    """With which the owner of a webhook knows that it is us; "" of others."""
    if row is None or row["kind"] != "webhook":
        return ""
    async with services_of(request).pool.acquire() as db:
        key = webhook_key(await signing_key(db), row["id"])
    return f"whsec_{base64.b64encode(key).decode()}"


@router.post("/manage/{token}")
@permits(Permission.PUBLIC, csrf=False)
async def change(request: Request, token: str) -> Response:
    """Hear of something else."""
    page, _ = shown(request)
    if (row := await _whose(request, token)) is not None:
        choice = _choice(page, await _sent(request))
        async with transaction(services_of(request).pool) as db:
            row = await subscribers.change(db, token, *choice)
    return _of(request, row, "sub_manage_title", is_saved=True, secret=await _secret(request, row))


@router.get("/unsubscribe/{token}")
@permits(Permission.PUBLIC)
async def ask_to_end(request: Request, token: str) -> Response:
    """One button."""
    row = await _whose(request, token)
    is_over = row is not None and row["status"] == "unsubscribed"
    return _of(request, row, "sub_ended_title" if is_over else "sub_end_title")


@router.post("/unsubscribe/{token}")
@permits(Permission.PUBLIC, csrf=False)
async def end(request: Request, token: str) -> Response:
    """Send them nothing more, at once: a person's button, or a mail program's (RFC 8058)."""
    if (row := await _whose(request, token)) is not None:
        async with transaction(services_of(request).pool) as db:
            row = await subscribers.unsubscribe(db, token)
    return _of(request, row, "sub_ended_title")
