"""How people subscribe to a page and end it: forms, and links with a token. What they are sent is `engine.mailing`'s.

Double opt-in, whatever the kind: nothing but a link to confirm is sent to an address before somebody who reads what is sent
there pressed a button. GET changes nothing, as programs that look through mail open links. A token proves itself: its pages are
no secret to who has it, though the page may be. Nobody learns here whether an address is known.
"""

import base64
import logging
import re
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
from engine.store.database import transaction
from engine.store.ids import read, show
from engine.store.signing import signing_key, webhook_key
from engine.store.subscribers import Entry
from rules.subscriber import address_of

PER_CLIENT, PER_HOST, PER_PAGE, PER_ADDRESS = 20, 60, 1000, 5
"""Links that are sent in an hour: asked for by one client, to one host of webhooks, of one page; to one address, of all pages.

How often one page writes to one address is `engine.store.subscribers`'.
"""
_TRAP: Final = "subject"
"""A field that people do not see, and programs fill in."""
_HERE: Final = ("localhost", "127.0.0.1", "::1")
_TAG: Final = re.compile(r"\+[^@]*@")
"""Behind a name: one mailbox has as many of them as it likes."""
_CHANGES: Final = {"confirm": {"status": "active"}, "unsubscribe": {"status": "unsubscribed"}}
_HEADINGS: Final = {
    "confirm": ("sub_confirm_title", "sub_confirmed_title"),
    "manage": ("sub_manage_title", "sub_manage_title"),
    "unsubscribe": ("sub_end_title", "sub_ended_title"),
}
"""Before it is done, and after."""
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


@router.api_route("/subscribe", methods=["GET", "POST"])
@permits(Permission.PUBLIC, csrf=False)
async def subscribe(request: Request) -> Response:
    """The form of a kind; sent, it sends a link to confirm. The answer is the same whether the address is known or not."""
    if request.method == "GET":
        return _form(request, request.query_params.get("kind", ""))
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
        # The Host header is whatever who asks says: a link made of it could lead who is told to them.
        if place.base and not services.settings.public_url and urlsplit(place.origin).hostname not in _HERE:
            _log.warning("nobody can subscribe to the page %s: set public_url", page.rule.slug)
            return _form(request, kind, sent, "gate_unmailed", 503)
        host = urlsplit(address).hostname if kind == "webhook" else None
        taken = _takes(request, "client", near(request), PER_CLIENT)
        taken = taken and (host is None or _takes(request, "host", host, PER_HOST))
        if not (taken and _takes(request, "page", page.id, PER_PAGE)):
            return _form(request, kind, sent, "gate_too_many", 429)
        if _takes(request, "address", _TAG.sub("@", subscribers.folded(kind, address)), PER_ADDRESS):
            entry = Entry(kind, address, "", *_choice(page, sent))
            async with transaction(services.pool) as db:
                below, at_s = place.url(language="").rstrip("/"), services.clock.epoch_s()
                await ask(db, _page_id(page), entry, below, at_s, "page", page.rule.languages)
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


def _takes(request: Request, of: str, key: str, quota: int) -> bool:
    """Whether there is one left of so many in an hour. Each kind of key has a limiter: none can crowd out another's."""
    limiters: dict[str, Limiter] = request.app.state.subscribing
    limiter = limiters.setdefault(of, Limiter(3600.0))
    return limiter.take(key, quota, services_of(request).clock.monotonic_s())[0] >= 0


# ---- with a token


@router.api_route("/{verb}/{token}", methods=["GET", "POST"])
@permits(Permission.PUBLIC, csrf=False, anywhere=True)
async def subscription(request: Request, verb: str, token: str) -> Response:
    """What a subscriber sees of it, and the button: `confirm`, `unsubscribe` (by mail programs too, RFC 8058), and `manage`,
    what they hear of.
    """
    page, _ = shown(request)
    services, is_sent = services_of(request), request.method == "POST"
    async with transaction(services.pool) as db:
        row = await subscribers.by_token(db, token) if token.isascii() and len(token) <= 100 else None
        if row is None or row["page_id"] != _page_id(page) or verb not in _HEADINGS:
            return _missing(request)
        if is_sent:
            components, language = _choice(page, await _sent(request)) if verb == "manage" else (None, None)
            changes = {"components": components, "language": language}
            row = await subscribers.edit(db, row["id"], _CHANGES.get(verb, changes)) or row
        key = webhook_key(await signing_key(db), row["id"]) if row["kind"] == "webhook" else b""
    return _shown(
        request,
        "subscription.html",
        f"{verb}/{token}",
        heading=_HEADINGS[verb][row["status"] == _CHANGES.get(verb, {}).get("status")],
        one=row,
        chosen=_ids(row["components"]),
        is_saved=is_sent,
        secret=f"whsec_{base64.b64encode(key).decode()}" if key else "",
    )
