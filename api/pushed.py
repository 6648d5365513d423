"""The pings of a heartbeat as people are shown them, and its URL. Taking pings is `api.pings`."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.beats import find_beat
from api.context import services_of
from api.objects import PageRef, answer, locate
from api.paging import AtAndNumber, Cursor, Limit, page, read_cursor
from api.problems import ProblemError
from api.shapes import ShownBeat, ShownPing, gives
from engine.store import pings
from engine.store.database import Row, transaction

router = Router(prefix="/api/v1/beats/{ref}", tags=["beats"])


@router.get("/pings")
@permits(Permission.READ)
@gives(ShownPing, listed=True)
async def list_pings(
    request: Request,
    asking: Asking,
    ref: str,
    page_ref: PageRef = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first; bodies cut, and without what looks like a secret."""
    async with services_of(request).pool.acquire() as db:
        beat = await locate(db, asking, "beat", ref, page_ref)
        before = read_cursor(cursor, AtAndNumber)
        rows = await pings.listing(db, beat.id, before=before, limit=limit + 1)
    last = (rows[limit - 1]["at"], rows[limit - 1]["id"]) if len(rows) > limit else None
    shown = await asyncio.to_thread(
        lambda: [shown_ping(row) for row in rows[:limit]]
    )  # bodies may be hostile
    return page(request, shown, last)


def shown_ping(row: Row) -> dict[str, Any]:
    """A row of `pings` as the contract says."""
    said = ("at", "signal", "code", "method", "address", "agent", "counted")
    return {name: row[name] for name in said} | {
        "run": row["run"] or None,
        "body": pings.text_of(row["body"]),
    }


@router.post("/ping-key/rotate")
@permits(Permission.WRITE, tells_secret=True)
@gives(ShownBeat)
async def rotate_ping_key(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Another URL for a heartbeat, also one of a file's; the old one stops at once."""
    beat = await find_beat(request, asking, ref, page_ref)
    asking.require(Permission.WRITE, beat.page_id)
    if beat.spec["type"] != "heartbeat":
        raise ProblemError(
            409, "wrong-type", f"{beat.slug} is a beat of type {beat.spec['type']}: it has no URL to ping"
        )
    async with transaction(services_of(request).pool) as db:
        await pings.rotate_key(db, asking.actor, beat)
    return await answer(request, asking, beat)
