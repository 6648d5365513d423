"""Messages by hand to subscribers of a page: previewed, sent, followed. Updates of incidents, which are broadcast too, are `api.incidents`'."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import services_of
from api.incidents import Words, page_of
from api.objects import PageRef, locate
from api.paging import Cursor, Limit, NumberOnly, page, read_cursor
from api.problems import missing
from api.shapes import gives
from api.shown_subscribers import ShownBroadcast, ShownBroadcastPreview
from api.subscribers import Components, meant, page_url
from engine.store import broadcasts, objects
from engine.store.audit import record
from engine.store.database import Connection, Row, transaction
from engine.store.ids import read, show
from evaluators.model import Envelope, Letter
from rules.mail import Subject
from rules.page import Page
from rules.shape import Rule

router = Router(prefix="/api/v1/broadcasts", tags=["broadcasts"])


class NewBroadcast(Rule):
    """A message. `components`: only who hears of one of them; not given, all of the page's subscribers."""

    subject: Subject
    text: Words
    is_markdown: bool = False
    components: Components = None


@router.get("")
@permits(Permission.READ)
@gives(ShownBroadcast, listed=True)
async def list_broadcasts(
    request: Request, asking: Asking, page_ref: PageRef = None, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Newest first, updates of incidents too."""
    before = read_cursor(cursor, NumberOnly)
    async with services_of(request).pool.acquire() as db:
        pages = asking.pages_for(Permission.READ)
        if page_ref is not None:
            pages = [(await locate(db, asking, "page", page_ref)).id]
        rows = await broadcasts.listing(db, pages=pages, before=before and before[0], limit=limit + 1)
        items = await shown_broadcasts(db, rows[:limit])
    return page(request, items, (rows[limit - 1]["number"],) if len(rows) > limit else None)


@router.get("/{ref}")
@permits(Permission.READ)
@gives(ShownBroadcast)
async def read_broadcast(request: Request, asking: Asking, ref: str) -> Response:
    """One of them, and how far it is."""
    async with services_of(request).pool.acquire() as db:
        return reply(await one(db, asking, ref))


async def one(db: Connection, asking: Principal, ref: str) -> dict[str, Any]:
    """The broadcast that a path names. Raises 404."""
    key = read("broadcast", ref)
    pages = asking.pages_for(Permission.READ)
    if not (rows := key and await broadcasts.listing(db, pages=pages, broadcast=key)):
        raise missing(f"there is no broadcast {ref!r}")
    (item,) = await shown_broadcasts(db, rows)
    return item


async def shown_broadcasts(db: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Broadcasts as JSON."""
    ids = {component for row in rows for component in row["components"] or ()}
    slugs = {one.id: one.slug for one in await objects.several(db, list(ids))} if ids else {}
    return [
        {
            "id": show("broadcast", row["id"]),
            "incident": show("incident", row["incident_id"]) if row["incident_id"] else None,
            "subject": row["title"] or row["item"].get("title", ""),
            "text": row["item"].get("text", ""),
            "is_markdown": row["item"].get("is_markdown", False),
            "components": None
            if row["components"] is None
            else sorted(slugs[one] for one in row["components"] if one in slugs),
            "progress": await broadcasts.progress(db, row),
        }
        | {name: row[name] for name in ("page", "kind", "by", "created_at", "finished_at")}
        for row in rows
    ]


@router.post("/preview")
@permits(Permission.REVIEW)
@takes(NewBroadcast)
@gives(ShownBroadcastPreview)
async def preview_broadcast(request: Request, asking: Asking, page_ref: PageRef = None) -> Response:
    """How many would be told, and what they would be mailed. Nothing is sent."""
    sent = await read_body(request, NewBroadcast)
    services = services_of(request)
    async with services.pool.acquire() as db:
        home = await page_of(db, asking, page_ref)
        wanted = await meant(db, home, sent.components)
        told = await broadcasts.audience(db, [home.id], wanted)
        below = await page_url(request, db, home)
    rule = Page.model_validate(home.spec)
    at_s = services.clock.epoch_s()
    envelope = Envelope(
        Letter("message", "preview", at_s, sent.subject, sent.text, sent.is_markdown),
        to="reader@example.com",
        kind="email",
        key="preview",
        page=rule.name,
        page_url=below,
        language=rule.languages[0],
        timezone=rule.timezone,
        manage_url=f"{below}/manage/...",
        unsubscribe_url=f"{below}/unsubscribe/...",
        sender=rule.subscribers.sender,
        reply_to=rule.subscribers.reply_to,
        accent=rule.look.accent,
    )
    return reply({"page": home.slug, "subscribers": told, "mail": services.preview_mail(envelope)})


@router.post("", status_code=201)
@permits(Permission.REVIEW)
@takes(NewBroadcast)
@gives(ShownBroadcast)
async def create_broadcast(request: Request, asking: Asking, page_ref: PageRef = None) -> Response:
    """Tell the subscribers of a page something, each exactly once; with an Idempotency-Key, repeating it tells nobody twice."""
    sent = await read_body(request, NewBroadcast)
    services = services_of(request)
    async with transaction(services.pool) as db:
        home = await page_of(db, asking, page_ref)
        wanted = await meant(db, home, sent.components)
        said, at_s = sent.model_dump(exclude={"components"}), services.clock.epoch_s()
        row = await broadcasts.message(db, home.id, at=at_s, by=asking.name, components=wanted, **said)
        ref = show("broadcast", row["id"])
        await record(db, asking.actor, "broadcast.send", ref, home.id, None, sent.model_dump())
        return reply(await one(db, asking, ref), 201)
