"""Subscribers and broadcasts in the console: who is told by pages, added, imported and ended; messages by hand, previewed as mail first."""

import json
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from msgspec import convert
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from api import broadcasts as told
from api import idempotency
from api import subscribers as rest
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import PART, as_json, fields, filled, listed, page_choices, refusal, with_body
from api.console.page import CSP, go, render
from api.context import services_of
from api.objects import locate
from api.problems import ProblemError, missing
from api.shown_subscribers import ShownSubscriber
from engine.store import subscribers
from engine.store.objects import MissingError
from rules.page import SubscriberKind

_STATUSES: Final = ("pending", "active", "unsubscribed", "bounced")
_KINDS: Final[tuple[SubscriberKind, ...]] = ("email", "webhook", "slack")
_REFUSALS: Final = (ProblemError, MissingError)
_FRAMED: Final = {
    "Content-Security-Policy": CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
}
"""Of a page with a mail in a frame: mails are styled in place, and a frame that has no address of its own obeys its page."""

router = Router(prefix="/console", include_in_schema=False)


@router.get("/subscribers")
@permits(Permission.READ)
async def index(request: Request, asking: Asking) -> Response:
    """Newest first; the query chooses some."""
    return await _subscribers(request, asking)


async def _subscribers(
    request: Request,
    asking: Principal,
    *,
    given: Mapping[str, str] | None = None,
    refused: Exception | None = None,
    imported: Mapping[str, Any] | None = None,
) -> Response:
    mistakes, status = refusal(refused)
    query = {
        key: request.query_params.get(key, "") for key in ("page", "kind", "status", "component", "search")
    }
    async with services_of(request).pool.acquire() as db:
        pages = await page_choices(db, asking, Permission.READ)
        page = query["page"] if query["page"] in dict(pages) else pages[0][0] if len(pages) == 1 else ""
        home = await locate(db, asking, "page", page) if page else None
        components = sorted(await rest.components_of(db, home)) if home else []
        chosen = query | {"page": page}
        allowed = {"kind": _KINDS, "status": _STATUSES, "component": components}
        chosen |= {key: value if (value := query[key]) in those else "" for key, those in allowed.items()}
        counts = await subscribers.counts(db, home.id) if home else {}
        editable = await page_choices(db, asking)
    asked: dict[str, Any] = filled(chosen) | {"cursor": request.query_params.get("cursor")}
    newest = await rest.list_subscribers(request, asking, asked.pop("page", None), limit=PART, **asked)
    found = json.loads(bytes(newest.body))
    async with services_of(request).pool.acquire() as db:
        return await render(
            request,
            db,
            "subscribers.html",
            status,
            rows=[convert(one, ShownSubscriber) for one in found["items"]],
            cursor=found["next"],
            counts=counts,
            pages=pages,
            editable=editable,
            chosen=chosen,
            kinds=_KINDS,
            statuses=_STATUSES,
            components=components,
            can_mail=services_of(request).settings.can_mail,
            given={"kind": "email", "page": page} | dict(given or {}),
            mistakes=mistakes,
            imported=imported,
        )


@router.post("/subscribers")
@permits(Permission.WRITE)
async def add(request: Request, asking: Asking) -> Response:
    """Ask somebody to confirm, or tell who is known to want it."""
    sent = await fields(request)
    document: dict[str, Any] = filled(
        {key: sent.get(key, "") for key in ("kind", "address", "name", "reason")}
    )
    document |= {"components": slugs} if (slugs := listed(sent.get("components", ""))) else {}
    document["is_confirmed"] = bool(document.get("reason"))
    try:
        answer = await rest.create_subscriber(as_json(request, document), asking, sent.get("page") or None)
    except _REFUSALS as refused:
        return await _subscribers(request, asking, given=sent, refused=refused)
    said = "added_subscriber" if document["is_confirmed"] else "asked_subscriber"
    return go(
        "/console/subscribers?" + urlencode({"page": sent.get("page", "")}),
        said if answer.status_code == 201 else "known_subscriber",
    )


@router.post("/subscribers/import")
@permits(Permission.WRITE)
async def import_file(request: Request, asking: Asking) -> Response:
    """What a file would do, or does."""
    sent = await fields(request)
    file = (await request.form()).get("file")
    raw = b""
    if isinstance(file, UploadFile):
        raw = await file.read()
        await file.close()
    try:
        made = await rest.import_subscribers(
            with_body(request, raw, b"text/csv"),
            asking,
            sent.get("page") or None,
            dry_run="check" in sent,
            skip_bad="skip_bad" in sent,
            confirmed="confirmed" in sent,
            reason=sent.get("reason", ""),
        )
    except _REFUSALS as refused:
        return await _subscribers(request, asking, given=sent, refused=refused)
    return await _subscribers(request, asking, given=sent, imported=json.loads(bytes(made.body)))


@router.post("/subscribers/{ref}/{verb}")
@permits(Permission.WRITE)
async def handle(request: Request, asking: Asking, ref: str, verb: str) -> Response:
    """Unsubscribe one, tell them again for a reason, or forget them."""
    sent = await fields(request)
    changes: dict[str, dict[str, str]] = {
        "unsubscribe": {"status": "unsubscribed"},
        "again": {"status": "active", "reason": sent.get("reason", "")},
    }
    try:
        if verb in changes:
            await rest.change_subscriber(as_json(request, changes[verb]), asking, ref)
        elif verb == "remove":
            await rest.delete_subscriber(request, asking, ref)
        else:
            raise missing("there is no such page")
    except ProblemError as refused:
        if refused.status != 422:
            raise
        return await _subscribers(request, asking, refused=refused)
    return go(
        "/console/subscribers?" + urlencode({"page": request.query_params.get("page", "")}),
        "removed" if verb == "remove" else "saved",
    )


# ---- broadcasts


@router.get("/broadcasts")
@permits(Permission.READ)
async def broadcasts(request: Request, asking: Asking) -> Response:
    """What subscribers were told, newest first, and the form of a message."""
    return await _broadcasts(request, asking, {})


async def _broadcasts(
    request: Request,
    asking: Principal,
    given: Mapping[str, str],
    refused: Exception | None = None,
    preview: Mapping[str, Any] | None = None,
) -> Response:
    mistakes, status = refusal(refused)
    newest = await told.list_broadcasts(request, asking, None, PART, request.query_params.get("cursor"))
    found = json.loads(bytes(newest.body))
    blank = dict.fromkeys(("page", "subject", "text", "components", "is_markdown"), "")
    async with services_of(request).pool.acquire() as db:
        response = await render(
            request,
            db,
            "broadcasts.html",
            status,
            rows=found["items"],
            next=found["next"],
            pages=await page_choices(db, asking, Permission.REVIEW),
            given=blank | dict(given),
            preview=preview,
            key=secrets.token_urlsafe(16),
            mistakes=mistakes,
        )
    response.headers.update(_FRAMED if preview else {})
    return response


def _message(sent: Mapping[str, str]) -> dict[str, Any]:
    slugs = listed(sent.get("components", ""))
    said: dict[str, Any] = {"subject": sent.get("subject", ""), "text": sent.get("text", "")}
    return said | {"is_markdown": "is_markdown" in sent} | ({"components": slugs} if slugs else {})


@router.post("/broadcasts/preview")
@permits(Permission.REVIEW)
async def preview(request: Request, asking: Asking) -> Response:
    """The message as mail, and how many are told; with what sends it."""
    sent = await fields(request)
    try:
        seen = await told.preview_broadcast(
            as_json(request, _message(sent)), asking, sent.get("page") or None
        )
    except _REFUSALS as refused:
        return await _broadcasts(request, asking, sent, refused)
    return await _broadcasts(request, asking, sent, preview=json.loads(bytes(seen.body)))


@router.post("/broadcasts")
@permits(Permission.REVIEW)
async def send(request: Request, asking: Asking) -> Response:
    """Tell it, once for each time that it was previewed."""
    sent = await fields(request)
    asked = as_json(request, _message(sent))
    asked.scope["headers"].append((b"idempotency-key", sent.get("key", "").encode()))

    async def create(request: Request) -> Response:
        return await told.create_broadcast(request, asking, sent.get("page") or None)

    try:
        answer = await idempotency.once(asked, asking.key_id or asking.name, create, keep=True)
    except _REFUSALS as refused:
        return await _broadcasts(request, asking, sent, refused)
    return go(f"/console/broadcasts/{json.loads(bytes(answer.body))['id']}", "told")


@router.get("/broadcasts/{ref}")
@permits(Permission.READ)
async def broadcast(request: Request, asking: Asking, ref: str) -> Response:
    """One of them, and how far it is."""
    async with services_of(request).pool.acquire() as db:
        one = await told.one(db, asking, ref)
        response = await render(request, db, "broadcast.html", one=one)
    if one["finished_at"] is None:
        response.headers["Refresh"] = "3"
    return response
