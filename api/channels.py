"""What is special to channels: testing one, and what left for them or did not. Declaring them is `api.objects`."""

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_json, reply, takes
from api.context import Services, services_of
from api.objects import PageRef, locate
from api.paging import Cursor, Limit, NumberOnly, page, read_cursor
from api.problems import missing
from engine.store import outbox, targets
from engine.store.audit import record
from engine.store.database import Row, transaction
from engine.store.objects import Stored
from exporters.outcome import Delivered, Outcome
from rules.channel import Channel
from rules.shape import spec_of

router = Router(prefix="/api/v1", tags=["channels"])

DeliveryId = Annotated[int, Path(ge=1, le=2**62)]


@router.post("/channels/test")
@permits(Permission.WRITE)
@takes(Channel)
async def send_test_before(request: Request, asking: Asking, page_ref: PageRef = None) -> Response:
    """Send a test notice through a channel that is not saved. It is refused as saving it would be."""
    document, slug = await read_json(request), None
    if page_ref is not None:
        async with services_of(request).pool.acquire() as db:
            slug = (await locate(db, asking, "page", page_ref)).slug
    return reply(shown_outcome(await tried(services_of(request), asking, document, slug)))


async def tried(
    services: Services, asking: Principal, document: Any, page_slug: str | None = None
) -> Outcome:
    """What came of a test notice through the channel that was sent, on this page where it names none. Raises 403, 422."""
    async with transaction(services.pool) as db:
        rule, page_id = await saving.tried(services, db, asking, "channel", document, page_slug)
        asking.require(Permission.WRITE, page_id)
        spec = spec_of(rule)
        await record(db, asking.actor, "channel.test", spec["slug"], page_id)
    return await services.test_channel(spec, page_id)


@router.post("/channels/{ref}/test")
@permits(Permission.WRITE)
async def send_test(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Send a test notice now. Says what came of it, never what the other side answered."""
    _, outcome = await tested(request, asking, ref, page_ref)
    return reply(shown_outcome(outcome))


async def tested(
    request: Request, asking: Principal, ref: str, page_ref: str | None
) -> tuple[Stored, Outcome]:
    """The channel that a path names, and what came of a test notice. Raises 403, 404, 409."""
    services = services_of(request)
    async with transaction(services.pool) as db:
        channel = await locate(db, asking, "channel", ref, page_ref)
        asking.require(Permission.WRITE, channel.page_id)
        await record(db, asking.actor, "channel.test", channel.slug, channel.page_id)
    outcome = await services.test_channel(channel.spec, channel.page_id)
    if isinstance(outcome, Delivered):
        async with services.pool.acquire() as db:
            await targets.well(db, channel.id, services.clock.epoch_s())
    return channel, outcome


def shown_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON."""
    reason = outcome.reason[:500] if outcome.reason else None
    return {"outcome": type(outcome).__name__.lower(), "reason": reason}


@router.get("/deliveries")
@permits(Permission.READ)
async def list_deliveries(
    request: Request,
    asking: Asking,
    status: Annotated[Literal["pending", "done", "dead", "dropped"] | None, Query()] = None,
    channel: Annotated[str | None, Query(max_length=100, description="Slug or id of one.")] = None,
    page_ref: PageRef = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """What leaves for channels, newest first; `dead` is what was given up, `dropped` what no channel wanted any more."""
    async with services_of(request).pool.acquire() as db:
        before = read_cursor(cursor, NumberOnly)
        target = (await locate(db, asking, "channel", channel, page_ref)).id if channel else None
        rows = await outbox.listing(
            db,
            pages=asking.pages_for(Permission.READ),
            status=status,
            target=target,
            before_id=before[0] if before else None,
            limit=limit + 1,
        )
    last = (rows[limit - 1]["id"],) if len(rows) > limit else None
    return page(request, [_shown(row) for row in rows[:limit]], last)


def _shown(row: Row) -> dict[str, Any]:
    counts, times = (
        ("id", "status", "attempts", "waits", "digest_id"),
        ("due_at", "created_at", "finished_at"),
    )
    item = row["item"]
    shown = {"channel": row["slug"], "told": item.get("told"), "title": item.get("title")}
    return shown | {name: row[name] for name in (*counts, "last_error", *times)}


@router.post("/deliveries/{delivery_id}/retry", status_code=202)
@permits(Permission.WRITE)
async def retry(request: Request, asking: Asking, delivery_id: DeliveryId) -> Response:
    """Try a dead letter again, and what waits behind it."""
    async with transaction(services_of(request).pool) as db:
        if not await outbox.retry(
            db, asking.actor, asking.pages_for(Permission.WRITE), outbox_id=delivery_id
        ):
            raise missing("there is no such dead delivery")
    return reply({"id": delivery_id, "status": "pending"}, 202)
