"""Incidents and episodes: what customers saw, and what operators did. Read here; decided in the drafts."""

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.console.forms import PART, before, older
from api.console.page import render
from api.context import services_of
from api.incidents import shown_incident, shown_incidents
from engine.store import incidents, reviews

router = Router(prefix="/console", include_in_schema=False)


@router.get("/incidents")
@permits(Permission.READ)
async def incidents_page(request: Request, asking: Asking) -> Response:
    """Newest first."""
    pages = asking.pages_for(Permission.READ)
    async with services_of(request).pool.acquire() as db:
        rows = await incidents.listing(db, pages=pages, before=before(request), limit=PART + 1)
        shown = await shown_incidents(db, rows[:PART])
        return await render(request, db, "incidents.html", rows=shown, cursor=older(rows, "created_at"))


@router.get("/incidents/{ref}")
@permits(Permission.READ)
async def incident(request: Request, asking: Asking, ref: str) -> Response:
    """One incident with its updates."""
    async with services_of(request).pool.acquire() as db:
        shown = await shown_incident(db, asking, ref)
        return await render(request, db, "incident.html", incident=shown)


@router.get("/episodes")
@permits(Permission.READ)
async def episodes(request: Request, asking: Asking) -> Response:
    """Newest first."""
    pages = asking.pages_for(Permission.READ)
    async with services_of(request).pool.acquire() as db:
        rows = await reviews.episodes(db, pages=pages, before=before(request), limit=PART + 1)
        cursor = older(rows, "opened_at")
        return await render(request, db, "episodes.html", rows=rows[:PART], cursor=cursor)
