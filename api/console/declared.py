"""Components, channels, pages and regions: listed and created by forms. Changing one further is `api.console.specs`."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from starlette.requests import Request
from starlette.responses import Response

from api import channels, saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import fields, filled, mistakes_of
from api.console.page import go, render
from api.context import services_of
from api.objects import PageRef, locate
from api.problems import ProblemError
from api.showing import page_slugs
from engine.store import objects, outbox
from engine.store.audit import record
from engine.store.database import transaction
from engine.store.objects import ObjectKind, TakenError
from exporters.outcome import Delivered, Outcome
from rules.component import ComponentStatus

STATUSES: Final = ("", *get_args(ComponentStatus))
_DELIVERIES: Final = 50
_BLANK: Final = dict.fromkeys(
    ("name", "slug", "page", "group", "description", "type", "url", "secret", "host", "sender", "to"), ""
)
_ABOUT: Final = {"page": "What customers read.", "region": "Where beats run."}
_OF_CHANNEL: Final = {
    "webhook": ("slug", "page", "type", "url", "secret"),
    "slack": ("slug", "page", "type", "url"),
    "smtp": ("slug", "page", "type", "host", "sender", "to"),
}

router = Router(prefix="/console", include_in_schema=False)


async def _page(
    request: Request,
    asking: Principal,
    kind: ObjectKind,
    *,
    given: Mapping[str, str] | None = None,
    mistakes: list[tuple[str, str]] | None = None,
    status: int = 200,
    **more: Any,
) -> Response:
    pages = asking.pages_for(Permission.READ)
    makes = Permission.ADMIN if kind == "page" else Permission.WRITE
    is_whole = kind in ("page", "region")
    async with services_of(request).pool.acquire() as db:
        offered = await objects.listing(db, "page", pages=asking.pages_for(Permission.WRITE))
        shared = {
            "rows": await objects.listing(db, kind, pages=pages),
            "slugs": await page_slugs(db),
            "pages": [(stored.slug, stored.spec["name"]) for stored in offered],
            "given": _BLANK | dict(given or {}),
            "mistakes": mistakes or [],
            "can_write": asking.may(makes, None) if is_whole else bool(offered),
        }
        if is_whole:
            more |= {"kind": kind, "heading": f"{kind.capitalize()}s", "about": _ABOUT[kind]}
        if kind == "channel":
            asked = request.query_params.get("status")
            only = asked if asked in ("pending", "done", "dead") else None
            more["deliveries"] = await outbox.listing(db, pages=pages, status=only, limit=_DELIVERIES)
            more.setdefault("outcome", None)
        if kind == "component":
            more["statuses"] = STATUSES
        template = "places.html" if is_whole else f"{kind}s.html"
        return await render(request, db, template, status, **shared, **more)


async def _create(
    request: Request, asking: Principal, kind: ObjectKind, document: Any, given: Mapping[str, str]
) -> Response:
    try:
        await saving.create(services_of(request), asking, kind, document)
    except ProblemError as refused:
        if refused.status != 422:
            raise
        return await _page(request, asking, kind, given=given, mistakes=mistakes_of(refused), status=422)
    except TakenError as taken:
        return await _page(request, asking, kind, given=given, mistakes=[("", str(taken))], status=409)
    return go(f"/console/{kind}s", "saved")


@router.get("/components")
@permits(Permission.READ)
async def components(request: Request, asking: Asking) -> Response:
    """All components, with what was set by hand."""
    return await _page(request, asking, "component")


@router.post("/components")
@permits(Permission.WRITE)
async def create_component(request: Request, asking: Asking) -> Response:
    """A new component."""
    sent = await fields(request)
    return await _create(request, asking, "component", filled(sent), sent)


@router.post("/components/{ref}/status")
@permits(Permission.WRITE)
async def set_status(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Set the public status by hand, or leave it to its incidents again."""
    status = (await fields(request)).get("status") or None
    async with services_of(request).pool.acquire() as db:
        stored = await locate(db, asking, "component", ref, page_ref)
    await saving.change(services_of(request), asking, stored, {"status": status}, patch=True)
    return go("/console/components", "saved")


@router.get("/channels")
@permits(Permission.READ)
async def channels_page(request: Request, asking: Asking) -> Response:
    """All channels, and what left for them or did not."""
    return await _page(request, asking, "channel")


@router.post("/channels")
@permits(Permission.WRITE)
async def create_channel(request: Request, asking: Asking) -> Response:
    """A new channel; only the fields of its type count."""
    sent = await fields(request)
    document: dict[str, Any] = filled(
        {key: sent.get(key, "") for key in _OF_CHANNEL.get(sent.get("type", ""), ())}
    )
    if "to" in document:
        document["to"] = [address.strip() for address in document["to"].split(",")]
    return await _create(request, asking, "channel", document, sent)


@router.post("/channels/{ref}/test")
@permits(Permission.WRITE)
async def send_test(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Send a test notice now and show what came of it."""
    services = services_of(request)
    async with transaction(services.pool) as db:
        channel = await locate(db, asking, "channel", ref, page_ref)
        asking.require(Permission.WRITE, channel.page_id)
        await record(db, asking.actor, "channel.test", channel.slug, channel.page_id)
    outcome = _shown(channel.slug, await services.test_channel(channel))
    return await _page(request, asking, "channel", outcome=outcome)


def _shown(slug: str, outcome: Outcome) -> dict[str, Any]:
    said = channels.shown_outcome(outcome)
    word = {"delivered": "delivered", "retry": "not now, would be tried again", "rejected": "rejected"}
    is_ok = isinstance(outcome, Delivered)
    return {"slug": slug, "ok": is_ok, "word": word[said["outcome"]], "reason": said["reason"]}


@router.post("/deliveries/{delivery_id}/retry")
@permits(Permission.WRITE)
async def retry(request: Request, asking: Asking, delivery_id: channels.DeliveryId) -> Response:
    """Try a dead letter again."""
    await channels.retry(request, asking, delivery_id)
    return go("/console/channels", "retry")


@router.get("/pages")
@permits(Permission.READ)
async def pages(request: Request, asking: Asking) -> Response:
    """The public pages."""
    return await _page(request, asking, "page")


@router.post("/pages")
@permits(Permission.ADMIN, installation=True)
async def create_page(request: Request, asking: Asking) -> Response:
    """A new page."""
    sent = await fields(request)
    return await _create(request, asking, "page", filled(sent), sent)


@router.get("/regions")
@permits(Permission.READ)
async def regions(request: Request, asking: Asking) -> Response:
    """The vantage points."""
    return await _page(request, asking, "region")


@router.post("/regions")
@permits(Permission.WRITE, installation=True)
async def create_region(request: Request, asking: Asking) -> Response:
    """A new region."""
    sent = await fields(request)
    return await _create(request, asking, "region", filled(sent), sent)
