"""Triggers: what each does, has open, did and was; enabling, ending by hand, comparing versions and the promotion. Building them is `api.console.building`'s."""

import difflib
import json
from typing import Any, Final, get_args

from starlette.requests import Request
from starlette.responses import Response

from api import received, saving, triggers
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import validated
from api.console.building import page_of
from api.console.forms import fields, ticked, whole
from api.console.inboxes import FIRED, fire_into
from api.console.page import go, go_to, render
from api.console.previewing import RANGES, begun
from api.console.runs import slug_of_page
from api.console.words import address
from api.context import services_of
from api.named import NamedTrigger
from api.problems import ProblemError, missing
from api.showing import shown
from api.triggers import Ended, Promotion
from engine.store import objects, records, reviews
from engine.store import received as stored_events
from engine.store.objects import Stored
from rules.export import text_of
from rules.incident import Step

_RECENT: Final = 10
_VERSIONS: Final = 50

router = Router(prefix="/console/triggers", include_in_schema=False)


@router.get("")
@permits(Permission.READ)
async def index(request: Request, asking: Asking) -> Response:
    """All triggers."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        stored = await objects.listing(db, "trigger", pages=asking.pages_for(Permission.READ))
        rows = await shown(services, db, asking, "trigger", stored)
        return await render(request, db, "triggers.html", rows=rows)


@router.get("/{ref}")
@permits(Permission.READ)
async def trigger_page(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """One trigger."""
    return await _page(request, asking, stored)


async def _page(
    request: Request, asking: Principal, stored: Stored, fired: Any = None, status: int = 200
) -> Response:
    services = services_of(request)
    inbox = await _inbox(request, stored)
    events: list[dict[str, Any]] = []
    if inbox is not None:
        asked = stored_events.Asked(trigger=stored.id)
        events, _ = await received.look(services, inbox, asked, None, _RECENT)
    async with services.pool.acquire() as db:
        (trigger,) = await shown(services, db, asking, "trigger", [stored])
        return await render(
            request,
            db,
            "trigger.html",
            status,
            stored=stored,
            trigger=trigger,
            target=[
                (kind, slug) for kind, slug in stored.spec["target"].items() if kind != "per_fingerprint"
            ],
            signals=await records.opened(db, stored.id),
            tally=await reviews.tally(db, trigger=stored.id),
            events=events,
            versions=await stored_events.versions(db, stored.id, limit=_VERSIONS),
            fired=fired or FIRED,
        )


async def _inbox(request: Request, trigger: Stored) -> Stored | None:
    pages = [trigger.page_id] if trigger.page_id else []
    async with services_of(request).pool.acquire() as db:
        boxes = await objects.listing(db, "inbox", pages=pages)
    return next((box for box in boxes if box.slug == trigger.spec["inbox"]), None)


def _enabling(verb: str, *, enabled: bool) -> None:
    @router.post(f"/{{ref}}/{verb}", name=f"{verb}_trigger")
    @permits(Permission.WRITE)
    async def switch(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
        await saving.change(services_of(request), asking, stored, {"enabled": enabled}, patch=True)
        return go_to(request, stored, f"{verb}d")


_enabling("enable", enabled=True)
_enabling("disable", enabled=False)


@router.post("/{ref}/end")
@permits(Permission.WRITE)
async def end(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """Say that a signal is over."""
    try:  # as JSON: blanks and line breaks are part of it, and forms change them
        ended = validated(Ended, {"fingerprint": json.loads((await fields(request)).get("fingerprint", ""))})
    except ValueError:
        raise ProblemError(400, "malformed", "this names no signal") from None
    await triggers.end(services_of(request), asking, stored, ended.fingerprint)
    return go_to(request, stored, "ended_signal")


@router.post("/{ref}/fire")
@permits(Permission.WRITE)
async def fire(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """Fire an event into its inbox by hand, and show what becomes of it."""
    inbox = await _inbox(request, stored)
    if inbox is None:
        raise missing("its inbox is gone")
    fired = await fire_into(request, asking, inbox)
    if isinstance(fired, str):
        return go(f"/console/events/{fired}")
    return await _page(request, asking, stored, fired, 422)


# ---- versions


@router.get("/{ref}/versions")
@permits(Permission.READ)
async def versions(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """What differs between two versions."""
    return await _versions(request, asking, stored, "")


@router.post("/{ref}/versions")
@permits(Permission.READ)
async def compare(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """What would have differed, over the past."""
    return await _versions(request, asking, stored, (await fields(request)).get("range", "7d"))


async def _versions(request: Request, asking: Principal, stored: Stored, span: str) -> Response:
    asked, page = request.query_params, await page_of(request, stored)
    new = whole(asked.get("new"), stored.revision)
    old = whole(asked.get("old"), max(new - 1, 1))
    texts: list[list[str]] = []
    async with services_of(request).pool.acquire() as db:
        for revision in (old, new):
            rows = await stored_events.versions(db, stored.id, revision=revision)
            if not rows:
                raise missing(f"trigger {stored.slug!r} has no revision {revision}")
            texts.append(text_of(rows[0]["spec"]).splitlines())
    differs = list(difflib.unified_diff(texts[0], texts[1], lineterm=""))[2:]  # without names of files
    lines = ["…" if line.startswith("@@") else line for line in differs]
    preview = None
    if span:
        plan = {"trigger": stored.slug, "page": page, "revision": new, "against": {"revision": old}}
        preview = await begun(request, asking, plan, span)
    async with services_of(request).pool.acquire() as db:
        return await render(
            request,
            db,
            "versions.html",
            stored=stored,
            page_slug=page,
            old=old,
            new=new,
            lines=lines,
            preview=preview,
            ranges=RANGES,
            range=span or "7d",
            here=address("trigger", stored.slug, page, "versions", old=old, new=new),
        )


# ---- promotion


@router.get("/{ref}/promote")
@permits(Permission.READ)
async def record(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """The record so far, and the form where it is enough."""
    return await _record(request, asking, stored)


async def _record(
    request: Request, asking: Principal, stored: Stored, wrong: str = "", status: int = 200
) -> Response:
    services = services_of(request)
    async with services.pool.acquire() as db:
        (trigger,) = await shown(services, db, asking, "trigger", [stored])
        return await render(
            request,
            db,
            "promote.html",
            status,
            stored=stored,
            page_slug=await slug_of_page(db, stored),
            trigger=trigger,
            record=await triggers.shown_record(db, stored),
            steps=[step for step in get_args(Step) if trigger["effective"][step] != "auto"],
            wrong=wrong,
            can_write=asking.may(Permission.WRITE, stored.page_id),
        )


@router.post("/{ref}/promote")
@permits(Permission.WRITE)
async def promote(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """Let it speak without a review, on the record that was shown."""
    sent = await fields(request)
    if sent.get("sure") != "yes":
        said = "Tick that you have read the record: nothing was changed."
        return await _record(request, asking, stored, said, 422)
    try:
        steps = {"steps": await ticked(request, "steps"), "record": sent.get("record", "")}
        await triggers.promote(services_of(request), asking, stored, validated(Promotion, steps))
    except ProblemError as refused:
        if refused.status not in (409, 422):
            raise
        said = f"Not promoted: {refused.detail}."
        return await _record(request, asking, stored, said, refused.status)
    return go_to(request, stored, "promoted")
