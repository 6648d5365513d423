"""Subscribers of pages as operators manage them: listed, added, imported, exported, ended. How people subscribe is `api.status.subscribing`'s."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api import subscriber_files
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import services_of
from api.incidents import page_of
from api.objects import PageRef, Text, locate
from api.origin import base_url
from api.paging import AtAndId, Cursor, Limit, page, read_cursor
from api.problems import ProblemError, invalid, missing
from api.shapes import gives
from api.shown_subscribers import ShownImport, ShownSubscriber
from engine.store import letters, objects, subscribers
from engine.store.audit import record
from engine.store.database import Connection, Row, transaction
from engine.store.ids import new_id, read, show
from engine.store.objects import Stored
from engine.store.subscribers import Asked, Entry, Source, Status
from evaluators.model import Letter
from rules.page import Page, SubscriberKind
from rules.shape import Rule, Slug
from rules.subscriber import PersonName, address_of

router = Router(prefix="/api/v1/subscribers", tags=["subscribers"])

MOST_ASKED: Final = 5000
"""Links that one import mails: who imports more than that has their word already, or none at all."""
_PART: Final = 500
Components = Annotated[list[Slug], Field(min_length=1, max_length=1000)] | None
Reason = Annotated[str, Field(max_length=1000)]


class NewSubscriber(Rule):
    """Somebody to be told: mailed a link to confirm, or known to want it, for a `reason`. `components` not given: all."""

    kind: SubscriberKind = "email"
    address: Annotated[str, Field(min_length=1, max_length=2000)]
    name: PersonName = ""
    components: Components = None
    language: str | None = None
    is_confirmed: bool = False
    reason: Reason = ""


class SubscriberChange(Rule):
    """What changes; `active` needs a `reason`."""

    name: PersonName = ""
    components: Components = None
    language: str | None = None
    status: Literal["active", "unsubscribed"] = "active"
    reason: Reason = ""


def _refuse_unsaid(needed: bool, reason: str) -> None:
    if needed and not reason.strip():
        said = "is missing: say how it is known that they want it; it is kept in the audit log"
        raise invalid([("/reason", said)])


async def shown_subscribers(db: Connection, asking: Principal, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Subscribers as JSON."""
    pages = list({row["page_id"] for row in rows})
    slugs = {one.id: one.slug for one in await objects.several(db, pages)}
    named = {one.id: one.slug for one in await objects.listing(db, "component", pages=pages)} if pages else {}
    items = []
    for row in rows:
        item = {name: row[name] for name in ShownSubscriber.__struct_fields__ if name in row}
        item |= {"id": show("subscriber", row["id"]), "page": slugs[row["page_id"]]}
        if row["components"] is not None:
            item["components"] = sorted(named[one] for one in row["components"] if one in named)
        if row["kind"] != "email" and not asking.may(Permission.WRITE, row["page_id"]):
            parts = urlsplit(row["address"])
            item["address"] = f"{parts.scheme}://{parts.hostname}/..."
        items.append(item)
    return items


async def components_of(db: Connection, home: Stored) -> dict[str, UUID]:
    """Of a page, by slug; those too that it does not list (any more)."""
    return {one.slug: one.id for one in await objects.listing(db, "component", pages=[home.id])}


async def meant(db: Connection, home: Stored, slugs: Sequence[str] | None) -> list[UUID] | None:
    """The components that a body names. Raises 422."""
    if slugs is None:
        return None
    known = await components_of(db, home)
    if wrong := [
        (f"/components/{at}", f"is {slug!r}; allowed are {', '.join(known) or 'none'}")
        for at, slug in enumerate(slugs)
        if slug not in known
    ]:
        raise invalid(wrong)
    return [known[slug] for slug in slugs]


def _language(home: Stored, code: str | None) -> str | None:
    languages = Page.model_validate(home.spec).languages
    if code is not None and code not in languages:
        raise invalid([("/language", f"is {code!r}; allowed are {', '.join(languages)}")])
    return code


async def ask(
    db: Connection,
    page_id: UUID,
    entry: Entry,
    below: str,
    at_s: float,
    source: Source,
    languages: Sequence[str],
) -> Asked:
    """Mail them a link to confirm, at most as often as one mailbox may be. `below`: the page's URL; `languages` are the page's."""
    asked = await subscribers.ask(db, page_id, entry, source)
    if asked.is_new:
        row = asked.row
        if row["language"] in languages[1:]:
            below += f"/{row['language']}"
        letter = Letter(kind="confirm", id=new_id().hex, at=at_s)
        await letters.put_single(
            db,
            page_id,
            row["kind"],
            row["address"],
            letter,
            link=f"{below}/confirm/{row['token']}",
            language=row["language"],
            subscriber=row["id"],
        )
    return asked


async def page_url(request: Request, db: Connection, home: Stored) -> str:
    """Where links to a page lead that operators cause."""
    host = (await letters.pages(db, [home.id]))[home.id]["host"]
    return f"https://{host}" if host else f"{base_url(request)}/p/{home.slug}"


# ---- read


@router.get("")
@permits(Permission.READ)
@gives(ShownSubscriber, listed=True)
async def list_subscribers(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    kind: Annotated[SubscriberKind | None, Query(description="Only of this kind.")] = None,
    status: Annotated[Status | None, Query(description="Only of this status.")] = None,
    component: Annotated[str | None, Query(max_length=100, description="Who hears of this one.")] = None,
    search: Text = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first, the unsubscribed and bounced too. `search`: part of an address or name."""
    before = read_cursor(cursor, AtAndId)
    async with services_of(request).pool.acquire() as db:
        pages = asking.pages_for(Permission.READ)
        if page_ref is not None:
            pages = [(await locate(db, asking, "page", page_ref)).id]
        rows = await subscribers.listing(
            db,
            pages=pages,
            kind=kind,
            status=status,
            component=(await locate(db, asking, "component", component, page_ref)).id if component else None,
            search=search,
            # a URL that is masked must not be guessed letter by letter
            finds_urls=all(asking.may(Permission.WRITE, one) for one in ([None] if pages is None else pages)),
            before=before,
            limit=limit + 1,
        )
        items = await shown_subscribers(db, asking, rows[:limit])
    last = (rows[limit - 1]["created_at"], rows[limit - 1]["id"]) if len(rows) > limit else None
    return page(request, items, last)


@router.get("/export")
@permits(Permission.WRITE)
async def export_subscribers(request: Request, asking: Asking, page_ref: PageRef = None) -> Response:
    """All of a page as CSV, which `import` takes. Cells that a spreadsheet would compute begin with '."""
    services = services_of(request)
    async with transaction(services.pool) as db:
        home = await page_of(db, asking, page_ref, Permission.WRITE)
        await record(db, asking.actor, "subscribers.export", home.slug, home.id)

    async def parts() -> AsyncIterator[str]:
        before, is_more = None, True
        yield ",".join(subscriber_files.COLUMNS) + "\r\n"
        while is_more:
            async with services.pool.acquire() as db:
                rows = await subscribers.listing(db, pages=[home.id], before=before, limit=_PART)
                items = await shown_subscribers(db, asking, rows)
            yield subscriber_files.written(items)
            if is_more := len(rows) == _PART:
                before = (rows[-1]["created_at"], rows[-1]["id"])

    head = {"Content-Disposition": f'attachment; filename="{home.slug}-subscribers.csv"'}
    return StreamingResponse(parts(), headers=head, media_type="text/csv; charset=utf-8")


@router.get("/{ref}")
@permits(Permission.READ)
@gives(ShownSubscriber)
async def read_subscriber(request: Request, asking: Asking, ref: str) -> Response:
    """One of them."""
    async with services_of(request).pool.acquire() as db:
        return await _answer(db, asking, await _one(db, asking, ref, Permission.READ))


async def _one(db: Connection, asking: Principal, ref: str, permission: Permission = Permission.WRITE) -> Row:
    key = read("subscriber", ref)
    row = await subscribers.get(db, key) if key else None
    if row is None or not asking.may(Permission.READ, row["page_id"]):
        raise missing(f"there is no subscriber {ref!r}")
    asking.require(permission, row["page_id"])
    return row


async def _answer(db: Connection, asking: Principal, row: Row, status: int = 200) -> Response:
    (item,) = await shown_subscribers(db, asking, [row])
    return reply(item, status)


# ---- changed


@router.post("", status_code=201)
@permits(Permission.WRITE)
@takes(NewSubscriber)
@gives(ShownSubscriber)
async def create_subscriber(request: Request, asking: Asking, page_ref: PageRef = None) -> Response:
    """Ask somebody to confirm, or tell who is known to want it. 200: they are there; who unsubscribed stays so."""
    sent = await read_body(request, NewSubscriber)
    _refuse_unsaid(sent.is_confirmed, sent.reason)
    try:
        address = address_of(sent.kind, sent.address)
    except ValueError as wrong:
        raise invalid([("/address", str(wrong))]) from None
    services = services_of(request)
    async with transaction(services.pool) as db:
        home = await page_of(db, asking, page_ref, Permission.WRITE)
        wanted = await meant(db, home, sent.components)
        entry = Entry(sent.kind, address, sent.name, wanted, _language(home, sent.language))
        asked = (
            await subscribers.add(db, home.id, entry)
            if sent.is_confirmed
            else await ask(
                db,
                home.id,
                entry,
                await page_url(request, db, home),
                services.clock.epoch_s(),
                "admin",
                home.spec.get("languages", ()),
            )
        )
        said = {"kind": sent.kind, "is_confirmed": sent.is_confirmed, "reason": sent.reason}
        await record(
            db, asking.actor, "subscriber.add", show("subscriber", asked.row["id"]), home.id, None, said
        )
        return await _answer(db, asking, asked.row, 201 if asked.is_new else 200)


@router.patch("/{ref}")
@permits(Permission.WRITE)
@takes(SubscriberChange)
@gives(ShownSubscriber)
async def change_subscriber(request: Request, asking: Asking, ref: str) -> Response:
    """Change what they hear of, or end it; tell again who bounced or unsubscribed, for a reason."""
    sent = await read_body(request, SubscriberChange)
    _refuse_unsaid("status" in sent.model_fields_set and sent.status == "active", sent.reason)
    changes: dict[str, Any] = {name: getattr(sent, name) for name in sent.model_fields_set - {"reason"}}
    async with transaction(services_of(request).pool) as db:
        row = await _one(db, asking, ref)
        home = await locate(db, asking, "page", show("page", row["page_id"]))
        if "components" in changes:
            changes["components"] = await meant(db, home, sent.components)
        _language(home, changes.get("language"))
        changed = await subscribers.edit(db, row["id"], changes)
        assert changed is not None
        said = {"changed": sorted(changes), "status": changed["status"], "reason": sent.reason}
        await record(db, asking.actor, "subscriber.change", ref, home.id, {"status": row["status"]}, said)
        return await _answer(db, asking, changed)


@router.delete("/{ref}", status_code=204)
@permits(Permission.WRITE)
async def delete_subscriber(request: Request, asking: Asking, ref: str) -> Response:
    """Forget one. Who may not be asked again is better set to `unsubscribed`."""
    async with transaction(services_of(request).pool) as db:
        row = await _one(db, asking, ref)
        await subscribers.remove(db, row["id"])
        await record(db, asking.actor, "subscriber.remove", ref, row["page_id"])
    return Response(status_code=204)


class _DryRun(Exception):  # noqa: N818 - nothing went wrong: it ends a transaction whose changes are not wanted
    pass


@router.post("/import")
@permits(Permission.WRITE)
@gives(ShownImport)
async def import_subscribers(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    dry_run: bool = False,
    skip_bad: bool = False,
    confirmed: bool = False,
    reason: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """Those of a CSV file (text/csv). Who is not `confirmed`, by their line or all of them, is mailed a link. Nothing is
    imported while a line is bad, unless those are to be skipped: 422 names every bad line.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ("text/csv", "application/octet-stream"):
        raise ProblemError(415, "media-type", "send text/csv")
    services, at_s = services_of(request), services_of(request).clock.epoch_s()
    async with services.pool.acquire() as db:
        home = await page_of(db, asking, page_ref, Permission.WRITE)
        known, below = await components_of(db, home), await page_url(request, db, home)
    languages = Page.model_validate(home.spec).languages
    sheet = await asyncio.to_thread(
        subscriber_files.read_sheet, await request.body(), known, languages, are_confirmed=confirmed
    )
    if len(sheet.pending) > MOST_ASKED:
        said = f"{len(sheet.pending)} would be mailed a link; one import mails {MOST_ASKED} at most"
        raise ProblemError(422, "too-many", said)
    if not dry_run and sheet.bad and not skip_bad:
        raise invalid([(f"/{number}", f"line {number} {why}") for number, why in sheet.bad])
    _refuse_unsaid(bool(sheet.confirmed) and not dry_run, reason)
    counts = {"ended": sheet.ended, "repeated": sheet.repeated}
    try:
        async with transaction(services.pool) as db:
            added = 0
            for part in range(0, len(sheet.confirmed), _PART):  # so that others are answered in between
                chunk = sheet.confirmed[part : part + _PART]
                added += len(await subscribers.import_many(db, home.id, chunk))
            spoken = home.spec.get("languages", ())
            asked = [await ask(db, home.id, one, below, at_s, "import", spoken) for one in sheet.pending]
            counts |= {"added": added, "asked": sum(one.is_new for one in asked)}
            counts["kept"] = len(sheet.confirmed) + len(asked) - counts["added"] - counts["asked"]
            await record(
                db, asking.actor, "subscribers.import", home.slug, home.id, None, counts | {"reason": reason}
            )
            if dry_run:
                raise _DryRun
    except _DryRun:
        pass
    bad = [{"line": number, "reason": why} for number, why in sheet.bad]
    return reply({"dry_run": dry_run, "bad": bad} | counts)
