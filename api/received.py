"""Received events under /api/v1: looked for, read without secrets, explained, fired by hand. Raw bytes are another permission, and audited."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from fastapi import Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.ingest import KEPT_BACK
from api.named import NamedInbox
from api.origin import address_of
from api.paging import AtAndId, Cursor, page, read_cursor
from api.problems import ProblemError, invalid, missing
from api.shapes import gives
from api.shown_triggers import (
    ShownDetected,
    ShownEvent,
    ShownFired,
    ShownReceived,
    ShownSender,
    ShownTrace,
    Verdict,
)
from api.uptime import read_time
from engine.store import inboxes, objects, received
from engine.store.audit import record
from engine.store.database import Connection, Row, transaction
from engine.store.ids import new_id, partition_of, read, show
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators.event import Document
from evaluators.event import read as take_apart
from evaluators.guess import guesses
from evaluators.matching import Matcher, unwrapped
from rules.assertion import HeaderName, HeaderValue
from rules.inbox import Inbox
from rules.redaction import Redaction, hidden_paths, hidden_text
from rules.secret import cut
from rules.selection import Budget, BudgetError, normal_path
from rules.sender import senders
from rules.shape import Rule
from rules.trigger import Trigger

MOST: Final = 200
LOOKED_FOR_S: Final = 3.0
"""How long one request looks; where it ends, the next one goes on."""
_EXCERPT: Final = 200
_UNWRAPPABLE: Final = 20

router = Router(prefix="/api/v1", tags=["events"])
Few = Annotated[int, Query(ge=1, le=MOST, description="Most items in the answer.")]
Time = Annotated[str | None, Query(max_length=60, description="RFC 3339, or a duration, so long ago.")]
Searched = Annotated[
    str | None,
    Query(
        max_length=200, description="A text in what came, an event's id, a delivery's name, or a fingerprint."
    ),
]
OfTrigger = Annotated[str, Query(max_length=100, description="Slug or id of a trigger of its inbox.")]


class Fired(Rule):
    """An event to be fired by hand: text as it is, anything else as JSON."""

    body: Any = Field(default="", description="What is posted.")
    headers: dict[HeaderName, HeaderValue] = Field(default={}, max_length=50)
    query: Annotated[str, Field(max_length=4000, pattern=r"^[^\x00-\x20]*$")] = ""

    def sent(self) -> tuple[list[tuple[str, str]], bytes]:
        """Headers, with a Content-Type where they name none, and body."""
        is_text, headers = isinstance(self.body, str), list(self.headers.items())
        if all(name.lower() != "content-type" for name, _ in headers):
            headers.append(("Content-Type", "text/plain; charset=utf-8" if is_text else "application/json"))
        return headers, self.body.encode() if is_text else msgspec.json.encode(self.body)


# ---- looked for


@router.get("/inboxes/{ref}/events")
@permits(Permission.READ)
@gives(ShownEvent, listed=True)
async def list_events(
    request: Request,
    asking: Asking,
    inbox: NamedInbox,
    since: Time = None,
    until: Time = None,
    search: Searched = None,
    verdict: Verdict | None = None,
    trigger: Annotated[str | None, Query(max_length=100)] = None,
    limit: Few = 50,
    cursor: Cursor = None,
) -> Response:
    """Newest first. A request looks for 3 s, and may answer few or none with a `next` that goes on from there."""
    services = services_of(request)
    now_s = services.clock.epoch_s()
    async with services.pool.acquire() as db:
        of = await _trigger_of(db, inbox, trigger) if trigger else None
    asked = received.Asked(
        moment(read_time("since", since, now_s)) if since else None,
        moment(read_time("until", until, now_s)) if until else None,
        search,
        verdict,
        of.id if of else None,
    )
    may_raw = asking.may(Permission.RAW, inbox.page_id)
    items, last = await look(services, inbox, asked, read_cursor(cursor, AtAndId), limit, may_raw=may_raw)
    return page(request, items, last)


async def look(
    services: Services,
    inbox: Stored,
    asked: received.Asked,
    before: Any,
    limit: int,
    *,
    may_raw: bool = False,
) -> tuple[list[dict[str, Any]], Any]:
    """Events of `inbox` as JSON, and the cursor of the last that was looked at where there may be more. Raises 503.

    Only for who `may_raw` the database looks through what is hidden, too, which is faster: how long that takes, and how
    far one request gets, tells of what it found.
    """
    until_s = services.clock.monotonic_s() + LOOKED_FOR_S
    is_filtered, search = any((asked.search, asked.verdict, asked.trigger)), asked.search
    if search and not may_raw and not read("event", search):
        asked = asked._replace(search=None)
    items: list[dict[str, Any]] = []
    async with services.pool.acquire() as db:
        slugs = await _slugs(db, inbox)
    while True:
        most = received.LOOKED_AT if is_filtered else limit - len(items) + 1
        try:
            rows = await received.look(services.pool, inbox.id, asked, before, most)
        except received.TooSlowError:
            said = "looking through what came takes too long now; ask for less with since and until"
            raise ProblemError(503, "busy", said, headers={"Retry-After": "5"}) from None
        if not rows:
            return items, None
        for row in rows:
            if len(items) == limit:
                return items, before
            if row["is_meant"]:
                item = await asyncio.to_thread(_listed, row, inbox.spec.get("redact", ()), slugs, search)
                items += [item] if item else []
            before = (row["received_at"], row["id"])
            if services.clock.monotonic_s() > until_s:
                return items, before


def _listed(
    row: Row, paths: Sequence[str], slugs: Mapping[str, str], search: str | None
) -> dict[str, Any] | None:
    """A row as JSON; None where what is searched for is only in what people are not shown."""
    seen, document, shown, headers, query = _read(row, paths)
    text = shown if isinstance(shown, str) else _json(shown)
    item = _event(row, document.form, seen, slugs)
    if search and read("event", search) != row["id"]:
        prints = " ".join(outcome["fingerprint"] for outcome in item["outcomes"])
        beside = " ".join([*(": ".join(pair) for pair in headers), query, item["delivery"] or "", prints])
        sought = (search.lower(), _json(search)[1:-1].lower())
        place = max(text.lower().find(one) for one in sought)
        if place < 0 and sought[0] not in beside.lower():
            return None
        text = text[max(place - _EXCERPT // 2, 0) :]
    return item | {"excerpt": cut(text[: _EXCERPT + 1], _EXCERPT)}


def _read(row: Row, paths: Sequence[str]) -> tuple[Redaction, Document, Any, list[list[str]], str]:
    """An event, and as people are shown it: its body taken apart or as text, headers and query. What was hidden is known then."""
    seen, document = Redaction(paths), take_apart(received.event_of(row))
    shown = seen.text(document.text) if document.trouble else seen.document(document.body)
    return seen, document, shown, seen.headers(row["headers"]), seen.query(row["query"])


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _event(row: Row, form: str, seen: Redaction, slugs: Mapping[str, str]) -> dict[str, Any]:
    said = ("received_at", "size_bytes", "address", "is_signed", "tested_by", "repeats")
    return {
        "id": show("event", row["id"]),
        **{name: row[name] for name in said},
        "form": form,
        "delivery": hidden_text(row["delivery"]) if row["delivery"] else None,
        "verdict": row["verdict"] or "waiting",
        "outcomes": [
            {
                "trigger": show("trigger", trigger),
                "slug": slugs.get(trigger, ""),
                "revision": judged["revision"],
                "kind": outcome["kind"],
                "index": outcome.get("index", 0),
                "reason": seen.derived(outcome.get("reason", "")),
                "fingerprint": seen.derived(outcome.get("fingerprint", "")),
                "severity": outcome.get("severity"),
            }
            for trigger, judged in (row["outcomes"] or {}).items()
            for outcome in judged["outcomes"]
        ],
    }


async def _slugs(db: Connection, inbox: Stored) -> dict[str, str]:
    """What the triggers of its page are called, by id."""
    pages = [inbox.page_id] if inbox.page_id else []
    return {str(one.id): one.slug for one in await objects.listing(db, "trigger", pages=pages)}


async def _trigger_of(db: Connection, inbox: Stored, ref: str) -> Stored:
    return await objects.find(db, "trigger", ref, pages=[inbox.page_id] if inbox.page_id else [])


# ---- read


async def find_event(
    db: Connection, asking: Principal, ref: str, permission: Permission = Permission.READ
) -> tuple[Row, Stored]:
    """The event that a path names and its inbox, removed or not. Raises 403, 404."""
    event_id = read("event", ref)
    row = await received.one(db, event_id) if event_id else None
    inbox = await objects.get(db, row["inbox_id"]) if row else None
    if row is None or inbox is None or not asking.may(Permission.READ, inbox.page_id):
        raise missing(f"there is no event {ref!r}; they are kept as long as their inbox's retention says")
    asking.require(permission, inbox.page_id)
    return row, inbox


@router.get("/events/{event}")
@permits(Permission.READ)
@gives(ShownReceived)
async def read_event(request: Request, asking: Asking, event: str) -> Response:
    """One event without what looks like a secret; what is hidden is in the raw bytes."""
    async with services_of(request).pool.acquire() as db:
        row, inbox = await find_event(db, asking, event)
        slugs = await _slugs(db, inbox)
    return reply(await asyncio.to_thread(shown_event, row, inbox, slugs))


def shown_event(row: Row, inbox: Stored, slugs: Mapping[str, str]) -> dict[str, Any]:
    """An event as the contract says. It takes its time with what is large: run it in a thread."""
    seen, document, shown, headers, query = _read(row, inbox.spec.get("redact", ()))
    text = shown if document.trouble else None
    return _event(row, document.form, seen, slugs) | {
        "inbox": inbox.slug,
        "excerpt": cut(text or _json(shown), _EXCERPT),
        "headers": headers,
        "query": query,
        "document": None if document.trouble else shown,
        "text": text,
        "trouble": document.trouble,
        "hidden": seen.hidden,
        "unwrappable": list(_wrapped(document.body))[:_UNWRAPPABLE],
        "sender": next((guess.sender for guess in guesses(document)), None),
    }


def _wrapped(value: Any, *place: str | int) -> Iterator[str]:
    """Paths of texts that are JSON themselves."""
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _wrapped(inner, *place, step)
    elif isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(msgspec.DecodeError, RecursionError, UnicodeError):
            msgspec.json.decode(value)
            yield normal_path(place)


@router.get("/events/{event}/raw")
@permits(Permission.RAW)
async def read_raw_event(request: Request, asking: Asking, event: str) -> Response:
    """The bytes as they came, secrets and all: for an admin of its page, and in the audit log."""
    async with transaction(services_of(request).pool) as db:
        row, inbox = await find_event(db, asking, event, Permission.RAW)
        name = show("event", row["id"])
        await record(db, asking.actor, "event.read_raw", name, inbox.page_id, None, {"inbox": inbox.slug})
    headers = {"Content-Disposition": f'attachment; filename="{name}.bin"'}
    return Response(row["body"], headers=headers, media_type="application/octet-stream")


# ---- explained


@router.get("/events/{event}/trace")
@permits(Permission.READ)
@gives(ShownTrace)
async def trace_event(request: Request, asking: Asking, event: str, trigger: OfTrigger) -> Response:
    """Why a trigger made of it what it did: computed again by the revision that judged it, else by the one of now."""
    async with services_of(request).pool.acquire() as db:
        row, inbox = await find_event(db, asking, event)
        of = await _trigger_of(db, inbox, trigger)
        judged = (row["outcomes"] or {}).get(str(of.id))
        by = {"revision": judged["revision"]} if judged else {"at": row["judged_at"]}
        version = await received.versions(db, of.id, **by, limit=1)
    revision, spec = (version[0]["revision"], version[0]["spec"]) if version else (of.revision, of.spec)
    paths = inbox.spec.get("redact", ())
    shown = await asyncio.to_thread(traced, row, paths, Trigger.model_validate(spec))
    return reply({"trigger": show("trigger", of.id), "slug": of.slug, "revision": revision, **shown})


def traced(row: Row, paths: Sequence[str], rule: Trigger) -> dict[str, Any]:
    """What `rule` sees in an event, without secrets and what is at these paths. It takes its time with what is large: run it in a thread."""
    seen, document, *_ = _read(row, hidden_paths(rule, paths))
    if rule.unwrap and document.form != "text":
        with contextlib.suppress(BudgetError):  # a secret inside a text is hidden in what follows, too
            seen.document(unwrapped(document.body, rule.unwrap, Budget()))
    found = Matcher(rule).match(document, row["received"], lambda _: {}, is_traced=True)
    moving = {leaf.value for leaf in rule.conditions() if leaf.changed is not None}
    items = []
    for item in found.items:
        trace = []
        for step in item.trace:
            is_moving = step.of in moving and "changed" in step.wanted
            note = "the value before is not kept" if is_moving else seen.derived(step.note)
            plain = msgspec.structs.asdict(step)
            trace.append(plain | {"actual": seen.derived(step.actual, step.of), "note": note})
        items.append(
            {name: getattr(item, name) for name in ("index", "says", "ignored")}
            | {name: seen.derived(getattr(item, name)) for name in ("error", "fingerprint", "message")}
            | {"at": moment(item.at) if item.at else None, "trace": trace}
        )
    return {"error": seen.derived(found.error), "is_truncated": found.is_truncated, "items": items}


# ---- fired, and known


@router.post("/inboxes/{ref}/fire", status_code=202)
@permits(Permission.WRITE)
@takes(Fired)
@gives(ShownFired)
async def fire(request: Request, asking: Asking, inbox: NamedInbox) -> Response:
    """Put an event into an inbox by hand: it goes the way of all others, but is no proof of its sender. 202 once it is kept."""
    return reply({"id": await put(request, asking, inbox, await read_body(request, Fired))}, 202)


async def put(request: Request, asking: Principal, inbox: Stored, sent: Fired) -> str:
    """Keep an event fired by hand, and tell who judges it. Its id. Raises 403, 409, 422."""
    services = services_of(request)
    asking.require(Permission.WRITE, inbox.page_id)
    if not inbox.spec.get("enabled", True):
        raise ProblemError(409, "disabled", f"inbox {inbox.slug!r} is disabled: it takes nothing")
    headers, body = sent.sent()
    if len(body) > (most := Inbox.model_validate(inbox.spec).max_size):
        raise invalid([("/body", f"it has {len(body)} bytes; this inbox takes {most}")])
    kept = [(name, value) for name, value in headers if name.lower() not in KEPT_BACK]
    now_s, address = services.clock.epoch_s(), address_of(request)
    delivery = inboxes.Delivery(
        new_id(), inbox.id, now_s, address, kept, sent.query, body, tested_by=asking.name
    )
    async with transaction(services.pool) as db:
        (stored,) = await inboxes.put(db, [delivery])
        name = show("event", stored.event_id)
        await record(db, asking.actor, "inbox.fire", inbox.slug, inbox.page_id, None, {"event": name})
    await services.bus.announce_each(inboxes.SUBJECT, [partition_of(inbox.id)])
    return name


@router.get("/senders")
@permits(Permission.READ)
@gives(ShownSender, listed=True)
async def list_senders() -> Response:
    """Known senders, each with what a trigger for it begins with."""
    known = await asyncio.to_thread(senders)
    kept = ("title", "docs", "help", "body", "signature", "trigger")
    items = [{"sender": one.slug} | {name: getattr(one, name) for name in kept} for one in known]
    return reply({"items": items, "next": None})


@router.post("/events/{event}/detect")
@permits(Permission.READ)
@gives(ShownDetected, listed=True)
async def detect_sender(request: Request, asking: Asking, event: str) -> Response:
    """Which senders it may be from, the likeliest first, each with what a trigger begins with. Changes nothing."""
    async with services_of(request).pool.acquire() as db:
        row, _ = await find_event(db, asking, event)
    return reply(
        {"items": await asyncio.to_thread(lambda: detected(take_apart(received.event_of(row)))), "next": None}
    )


def detected(document: Document) -> list[dict[str, Any]]:
    """Senders of an event with their drafts of a trigger."""
    drafts = {one.slug: one.trigger for one in senders()}
    return [
        {"sender": one.sender, "title": one.title, "score": one.score, "trigger": drafts[one.sender]}
        for one in guesses(document)
    ]
