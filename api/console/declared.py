"""Components, groups, pages and regions: listed and created by forms. Changing one further is `api.console.specs`."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import fields, filled, listed, mistakes_of
from api.console.page import go, render
from api.context import services_of
from api.objects import PageRef, locate
from api.problems import ProblemError
from api.showing import page_slugs
from engine.store import objects, regions, views
from engine.store.objects import TakenError
from rules.component import ComponentStatus
from rules.known import Kind

STATUSES: Final = ("", *get_args(ComponentStatus))
_GROUPS: Final = 500
_LISTS: Final = ("components", "channels", "depends_on")
_BLANK: Final = dict.fromkeys((*_LISTS, "name", "slug", "page", "group", "description"), "")
_MAKES: Final[dict[Kind, Permission]] = {
    "component": Permission.WRITE,
    "group": Permission.WRITE,
    "page": Permission.ADMIN,
    "region": Permission.WRITE,
}
_WHOLE: Final = ("page", "region")
"""Kinds that are the installation's and not a page's."""
_ABOUT: Final = {"page": "What customers read.", "region": "Where beats run."}

router = Router(prefix="/console", include_in_schema=False)


async def _page(
    request: Request,
    asking: Principal,
    kind: Kind,
    *,
    given: Mapping[str, str] | None = None,
    mistakes: list[tuple[str, str]] | None = None,
    status: int = 200,
    **more: Any,
) -> Response:
    pages = asking.pages_for(Permission.READ)
    is_whole = kind in _WHOLE
    async with services_of(request).pool.acquire() as db:
        offered = await objects.listing(db, "page", pages=asking.pages_for(Permission.WRITE))
        shared: dict[str, Any] = {
            "rows": await objects.listing(db, kind, pages=pages),
            "slugs": await page_slugs(db),
            "pages": [(stored.slug, stored.spec["name"]) for stored in offered],
            "given": _BLANK | dict(given or {}),
            "mistakes": mistakes or [],
            "can_write": asking.may(_MAKES[kind], None) if is_whole else bool(offered),
        }
        if is_whole:
            slugs = [row.slug for row in shared["rows"]]
            more["together"] = kind == "region" and await views.run_together(db, slugs)
            more["sick"] = await regions.suspended(db) if kind == "region" else {}
            more |= {"kind": kind, "heading": f"{kind.capitalize()}s", "about": _ABOUT[kind]}
        if kind == "component":
            more["statuses"] = STATUSES
        if kind == "group":
            more["standing"] = await views.subjects(db, pages=pages, kind="group", limit=_GROUPS)
            more["counts"] = await views.member_counts(db, [row["id"] for row in more["standing"]])
        template = "places.html" if is_whole else f"{kind}s.html"
        return await render(request, db, template, status, **shared, **more)


def _routes(kind: Kind) -> None:
    """The list of one kind, and the form that adds to it."""

    @router.get(f"/{kind}s", name=f"list_{kind}s")
    @permits(Permission.READ)
    async def index(request: Request, asking: Asking) -> Response:
        return await _page(request, asking, kind)

    @router.post(f"/{kind}s", name=f"create_{kind}")
    @permits(_MAKES[kind], installation=kind in _WHOLE)
    async def create(request: Request, asking: Asking) -> Response:
        sent = await fields(request)
        try:
            made = await saving.create(services_of(request), asking, kind, _document(sent))
        except ProblemError as refused:
            if refused.status != 422:
                raise
            return await _page(request, asking, kind, given=sent, mistakes=mistakes_of(refused), status=422)
        except TakenError as taken:
            return await _page(request, asking, kind, given=sent, mistakes=[("", str(taken))], status=409)
        return go(f"/console/{kind}s" + (f"/{made.slug}" if kind == "page" else ""), "saved")


for _kind in _MAKES:
    _routes(_kind)


def _document(sent: Mapping[str, str]) -> dict[str, Any]:
    """The object that a form describes."""
    document: dict[str, Any] = filled(sent)
    return document | {key: listed(document[key]) for key in _LISTS if key in document}


@router.post("/components/{ref}/status")
@permits(Permission.WRITE)
async def set_status(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Set the public status by hand, or leave it to its incidents again."""
    status = (await fields(request)).get("status") or None
    async with services_of(request).pool.acquire() as db:
        stored = await locate(db, asking, "component", ref, page_ref)
    await saving.change(services_of(request), asking, stored, {"status": status}, patch=True)
    return go("/console/components", "saved")
