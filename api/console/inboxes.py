"""Inboxes and what came into them: tokens, events as trees to pick from, why a trigger judged as it did, firing by hand. No SQL, no secrets."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, get_args
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from api import inboxes as tokens
from api import received, saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import validated
from api.console.drafting import slug_of
from api.console.forms import before, cursor, fields, in_a_line, page_choices, refusal
from api.console.page import go, go_to, render
from api.console.runs import slug_of_page
from api.console.tree import tree
from api.context import services_of
from api.named import NamedInbox
from api.problems import ProblemError, invalid
from api.received import Fired
from api.showing import ingest_url, shown
from api.shown_triggers import Verdict
from api.uptime import read_time
from engine.store import objects
from engine.store import received as stored_events
from engine.store.database import Connection
from engine.store.objects import Stored, TakenError
from engine.store.states import moment
from rules.inbox import Inbox
from rules.problem import show
from rules.sender import senders

PART: Final = 50
SPANS: Final = {"": "any time", "1h": "an hour ago", "1d": "a day ago", "7d": "a week ago"}
_ASKED: Final = ("search", "verdict", "trigger", "since")
FIRED: Final = dict.fromkeys(("body", "headers", "query", "wrong"), "")
_TRACED: Final = 10  # triggers whose trace is shown
_AMAZON: Final = (".amazonaws.com", ".amazonaws.com.cn")

router = Router(prefix="/console", include_in_schema=False)


@router.get("/inboxes")
@permits(Permission.READ)
async def index(request: Request, asking: Asking) -> Response:
    """All inboxes."""
    return await _index(request, asking)


async def _index(
    request: Request,
    asking: Principal,
    given: Mapping[str, str] | None = None,
    refused: Exception | None = None,
) -> Response:
    services, (mistakes, status) = services_of(request), refusal(refused)
    async with services.pool.acquire() as db:
        pages = await page_choices(db, asking)
        found = await objects.listing(db, "inbox", pages=asking.pages_for(Permission.READ))
        return await render(
            request,
            db,
            "inboxes.html",
            status,
            rows=await shown(services, db, asking, "inbox", found),
            pages=pages,
            can_write=bool(pages),
            given=dict.fromkeys(("name", "slug", "page"), "") | dict(given or {}),
            mistakes=mistakes,
        )


@router.post("/inboxes")
@permits(Permission.WRITE, tells_secret=True)
async def create(request: Request, asking: Asking) -> Response:
    """Add one, and show its token this once."""
    sent = await fields(request)
    document = {name: sent[name] for name in ("name", "page") if sent.get(name)}
    document["slug"] = sent.get("slug") or slug_of(sent.get("name", ""))
    try:
        stored, issued = await saving.create_inbox(services_of(request), asking, document)
    except (ProblemError, TakenError) as refused:
        return await _index(request, asking, sent, refused)
    return await _page(request, asking, stored, secret=tokens.told(services_of(request), issued))


@router.get("/inboxes/{ref}")
@permits(Permission.READ)
async def inbox_page(request: Request, asking: Asking, stored: NamedInbox) -> Response:
    """One inbox, and what came into it."""
    return await _page(request, asking, stored)


async def _page(
    request: Request,
    asking: Principal,
    stored: Stored,
    *,
    secret: Mapping[str, Any] | None = None,
    fired: Mapping[str, str] = FIRED,
    status: int = 200,
) -> Response:
    services = services_of(request)
    query = request.query_params if request.method == "GET" else {}
    asked = {name: query.get(name, "")[:200] for name in _ASKED}
    async with services.pool.acquire() as db:
        triggers = await triggers_of(db, stored)
    events, last = await received.look(
        services,
        stored,
        _wanted(asked, {one.slug: one for one in triggers}, services.clock.epoch_s()),
        before(request),
        PART,
        may_raw=asking.may(Permission.RAW, stored.page_id),
    )
    more = {name: text for name, text in asked.items() if text} | ({"before": cursor(*last)} if last else {})
    async with services.pool.acquire() as db:
        (inbox,) = await shown(services, db, asking, "inbox", [stored])
        return await render(
            request,
            db,
            "inbox.html",
            status,
            stored=stored,
            inbox=inbox,
            events=events,
            asked=asked,
            spans=SPANS,
            older=more if last else None,
            triggers=triggers,
            senders=await asyncio.to_thread(senders),
            secret=secret,
            ingest_url=ingest_url(services) or "",
            may_open=saving.may_edit(asking, stored),
            editable=saving.may_edit(asking, stored) and stored.managed_by == "api",
            fired=fired,
        )


def _wanted(asked: Mapping[str, str], triggers: Mapping[str, Stored], now_s: float) -> stored_events.Asked:
    """What somebody filters by; what is none of the choices filters nothing."""
    of = triggers.get(asked["trigger"])
    return stored_events.Asked(
        moment(read_time("since", asked["since"], now_s))
        if asked["since"] and asked["since"] in SPANS
        else None,
        None,
        asked["search"] or None,
        asked["verdict"] if asked["verdict"] in get_args(Verdict) else None,
        of.id if of else None,
    )


async def triggers_of(db: Connection, inbox: Stored) -> list[Stored]:
    """The triggers over what comes into `inbox`."""
    pages = [inbox.page_id] if inbox.page_id else []
    found = await objects.listing(db, "trigger", pages=pages)
    return [one for one in found if one.spec["inbox"] == inbox.slug]


@router.post("/inboxes/{ref}/token")
@permits(Permission.WRITE, tells_secret=True)
async def rotate(request: Request, asking: Asking, stored: NamedInbox) -> Response:
    """Another token, shown this once."""
    sent = validated(tokens.Rotation, {"overlap": (await fields(request)).get("overlap", "0s")})
    secret = await tokens.rotate(services_of(request), asking, stored, sent.overlap)
    return await _page(request, asking, stored, secret=secret)


@router.post("/inboxes/{ref}/tokens/{token}")
@permits(Permission.WRITE)
async def revoke(request: Request, asking: Asking, stored: NamedInbox, token: str) -> Response:
    """Take a token away."""
    await tokens.revoke_inbox_token(request, asking, stored, token)
    return go_to(request, stored, "revoked")


@router.post("/inboxes/{ref}/fire")
@permits(Permission.WRITE)
async def fire(request: Request, asking: Asking, stored: NamedInbox) -> Response:
    """Fire an event by hand, and show what becomes of it."""
    fired = await fire_into(request, asking, stored)
    if isinstance(fired, str):
        return go(f"/console/events/{fired}")
    return await _page(request, asking, stored, fired=fired, status=422)


async def fire_into(request: Request, asking: Principal, inbox: Stored) -> str | dict[str, str]:
    """The id of the event that a form fired, or the form with what is wrong with it."""
    sent = await fields(request)
    typed = {name: sent.get(name, "") for name in FIRED}
    lines = [line.partition(":") for line in typed["headers"].splitlines() if line.strip()]
    headers = {name.strip(): value.strip() for name, _, value in lines}
    document = {"body": typed["body"], "headers": headers, "query": typed["query"]}
    try:
        if bare := [name for name, colon, _ in lines if not colon]:
            raise invalid([("headers", f"{show(bare[0])} is no header; write such as X-Env: live")])
        json_like = typed["body"][:1] in ("{", "[")
        if json_like and all(name.lower() != "content-type" for name in headers):
            document["headers"] = {**headers, "Content-Type": "application/json"}
        return await received.put(request, asking, inbox, validated(Fired, document))
    except ProblemError as refused:
        if refused.status not in (409, 422):
            raise
        return typed | {"wrong": f"Not fired: {in_a_line(refused)}."}


# ---- one event


@router.get("/events/{event}")
@permits(Permission.READ)
async def event_page(request: Request, asking: Asking, event: str) -> Response:
    """An event: what it says, and what became of it."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        row, inbox = await received.find_event(db, asking, event)
        triggers = await triggers_of(db, inbox)
        page_slug = await slug_of_page(db, inbox)
    found = await asyncio.to_thread(
        received.shown_event, row, inbox, {str(one.id): one.slug for one in triggers}
    )
    sender = next((one for one in await asyncio.to_thread(senders) if one.slug == found["sender"]), None)
    judged = {outcome["slug"] for outcome in found["outcomes"]}
    wanted = [one for one in triggers if one.slug in judged] or triggers[:3]
    traces = [
        json.loads(bytes((await received.trace_event(request, asking, event, one.slug)).body))
        for one in wanted[:_TRACED]
    ]
    async with services.pool.acquire() as db:
        return await render(
            request,
            db,
            "event.html",
            event=found,
            inbox=Inbox.model_validate(inbox.spec),
            page_slug=page_slug,
            body=None if found["trouble"] else tree(found["document"]),
            query=parse_qsl(found["query"], keep_blank_values=True),
            raw=asking.may(Permission.RAW, inbox.page_id),
            sender=sender,
            confirm=_confirmation(found["document"]),
            traces=traces,
        )


def _confirmation(document: Any) -> dict[str, Any] | None:
    """What Amazon SNS wants opened before it sends anything: shown, and never opened by us."""
    if not isinstance(document, dict) or document.get("Type") != "SubscriptionConfirmation":
        return None
    url = document.get("SubscribeURL")
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host, parts = "", urlsplit("")
    is_known = parts.scheme == "https" and host.startswith("sns.") and host.endswith(_AMAZON)
    return {"url": url, "host": host or "unreadable", "is_known": is_known}
