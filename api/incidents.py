"""Incidents: read, and handled by people. What customers see of them is `api.status`'s, drafts are `api.reviews`'."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import reply
from api.context import services_of
from api.objects import PageRef
from api.owned import OfBeat, OfGroup, components, listed
from api.paging import Cursor, Limit
from api.problems import missing
from api.shapes import ShownIncident, gives
from engine.store import incidents
from engine.store.database import Connection, Row
from engine.store.ids import read, show

router = Router(prefix="/api/v1", tags=["incidents"])

IncidentStatus = Literal["open", "investigating", "identified", "monitoring", "resolved"]


@router.get("/incidents")
@permits(Permission.READ)
@gives(ShownIncident, listed=True)
async def list_incidents(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    status: IncidentStatus | None = None,
    beat: OfBeat = None,
    group: OfGroup = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first; `open` is every one that is not resolved."""
    query = partial(incidents.listing, status=status)
    return await listed(request, asking, page_ref, limit, cursor, (beat, group), query, shown_incidents)


@router.get("/incidents/{ref}")
@permits(Permission.READ)
@gives(ShownIncident)
async def read_incident(request: Request, asking: Asking, ref: str) -> Response:
    """One incident."""
    async with services_of(request).pool.acquire() as db:
        item = await shown_incident(db, asking, ref)
    return reply(item, headers={"ETag": f'"{item["revision"]}"'})


async def shown_incident(db: Connection, asking: Principal, ref: str) -> dict[str, Any]:
    """The incident that a path names, as JSON. Raises 404."""
    incident_id, pages = read("incident", ref), asking.pages_for(Permission.READ)
    rows = await incidents.listing(db, pages=pages, incident=incident_id, limit=1) if incident_id else []
    if not rows:
        raise missing(f"there is no incident {ref!r}")
    (item,) = await shown_incidents(db, rows)
    return item


async def shown_incidents(db: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Incidents as JSON, updates newest first."""
    names = await incidents.component_names(db, sorted({c for row in rows for c in row["components"]}))
    updates = await incidents.updates(db, [row["id"] for row in rows])
    kept = ("title", "status", "page", "owner", "owner_kind", "created_at", "resolved_at", "revision")
    return [
        {"id": show("incident", row["id"])}
        | {name: row[name] for name in kept}
        | {
            "episode": show("episode", row["episode_id"]) if row["episode_id"] else None,
            "components": components(row["components"], names),
            "updates": [
                {"id": show("update", u["id"])} | {name: u[name] for name in ("status", "text", "at", "by")}
                for u in updates[row["id"]]
            ],
        }
        for row in rows
    ]
