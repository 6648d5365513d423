"""Maintenance windows: those that run, come and are over; one begun or planned; what customers are told of one. What they do is `rules.maintenance`'s."""

from collections.abc import Coroutine, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api import maintenance, saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import validated
from api.console.forms import fields, filled, listed, page_choices, refusal
from api.console.page import go, go_to, render
from api.context import services_of
from api.maintenance import Window
from api.problems import ProblemError
from api.showing import shown
from engine.store import objects
from engine.store.objects import Stored, TakenError

_PAST: Final = 50  # windows that are over and still shown
_LISTS: Final = ("beats", "groups", "components")
_ANNOUNCE: Final = ("announce", "title", "text", "before", "remind")
_BLANK: Final = dict.fromkeys(
    (*_LISTS, *_ANNOUNCE, "name", "page", "start", "duration", "timezone", "rrule"), ""
)

router = Router(prefix="/console/maintenances", include_in_schema=False)


async def _page(
    request: Request,
    asking: Principal,
    *,
    given: Mapping[str, str] | None = None,
    refused: Exception | None = None,
) -> Response:
    services, (mistakes, status) = services_of(request), refusal(refused)
    async with services.pool.acquire() as db:
        found = await objects.listing(db, "maintenance", pages=asking.pages_for(Permission.READ))
        items = await shown(services, db, asking, "maintenance", found)
        windows = [*zip(found, items, strict=True)]
        begins = [(stored, item) for stored, item in windows if item["next"]]
        begins.sort(key=lambda window: window[1]["next"]["start"])
        over = [window for window in windows if not window[1]["next"]]
        over.sort(key=lambda window: window[0].updated_at, reverse=True)
        return await render(
            request,
            db,
            "maintenances.html",
            status,
            running=[window for window in begins if window[1]["active"]],
            coming=[window for window in begins if not window[1]["active"]],
            over=over[:_PAST],
            pages=await page_choices(db, asking),
            given=_BLANK | {"duration": "1h", "timezone": "UTC"} | dict(given or {}),
            mistakes=mistakes,
        )


@router.get("")
@permits(Permission.READ)
async def index(request: Request, asking: Asking) -> Response:
    """All windows."""
    return await _page(request, asking)


@router.post("")
@permits(Permission.WRITE)
async def create(request: Request, asking: Asking) -> Response:
    """Begin one now, or plan one that has a start."""
    sent = await fields(request)
    document: dict[str, Any] = filled(sent)
    document |= {key: listed(document[key]) for key in _LISTS if key in document}
    announce = {key: said for key in _ANNOUNCE if (said := document.pop(key, None))}
    if announce.pop("announce", None):
        document["announce"] = announce
    try:
        await saving.create(services_of(request), asking, "maintenance", document)
    except (ProblemError, TakenError) as refused:
        return await _page(request, asking, given=sent, refused=refused)
    return go("/console/maintenances", "saved" if "start" in document else "maintained")


@router.post("/{ref}/end")
@permits(Permission.WRITE)
async def end(request: Request, asking: Asking, stored: Window) -> Response:
    """End the time of it that runs."""
    await maintenance.ended(services_of(request), asking, stored)
    return go("/console/maintenances", "ended")


@router.get("/{ref}")
@permits(Permission.READ)
async def window(request: Request, asking: Asking, stored: Window) -> Response:
    """One window, and what customers were told of it."""
    return await _window(request, asking, stored)


async def _window(
    request: Request, asking: Principal, stored: Stored, refused: Exception | None = None
) -> Response:
    services, (mistakes, status) = services_of(request), refusal(refused)
    async with services.pool.acquire() as db:
        (seen,) = await shown(services, db, asking, "maintenance", [stored])
        said = {"window": stored, "seen": seen, "mistakes": mistakes}
        return await render(request, db, "maintenance.html", status, **said)


async def _done(
    request: Request, asking: Principal, stored: Stored, work: Coroutine[Any, Any, Stored], said: str
) -> Response:
    """Do this with a window, and go back to its page; it says so where that is refused."""
    try:
        await work
    except ProblemError as refused:
        if refused.status not in (409, 422):
            raise
        return await _window(request, asking, stored, refused)
    return go_to(request, stored, said)


@router.post("/{ref}/extend")
@permits(Permission.WRITE)
async def extend(request: Request, asking: Asking, stored: Window) -> Response:
    """Let it last longer."""
    sent = filled(await fields(request))
    try:
        extension = validated(maintenance.Extension, sent)
    except ProblemError as refused:
        return await _window(request, asking, stored, refused)
    work = maintenance.extended(services_of(request), asking, stored, extension)
    return await _done(request, asking, stored, work, "extended")


@router.post("/{ref}/cancel")
@permits(Permission.WRITE)
async def cancel(request: Request, asking: Asking, stored: Window) -> Response:
    """Leave its next time out; what runs is over early."""
    work = maintenance.cancelled(services_of(request), asking, stored)
    return await _done(request, asking, stored, work, "cancelled")


@router.post("/{ref}/say")
@permits(Permission.REVIEW)
async def say(request: Request, asking: Asking, stored: Window) -> Response:
    """Tell customers how it goes."""
    sent = filled(await fields(request))
    ticks = {key: key in sent for key in ("notify", "is_markdown")}
    try:
        words = validated(maintenance.Say, sent | ticks)
    except ProblemError as refused:
        return await _window(request, asking, stored, refused)
    work = maintenance.said(services_of(request), asking, stored, words)
    return await _done(request, asking, stored, work, "said")
