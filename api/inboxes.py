"""What inboxes have beside being declared: the tokens that open them. What was delivered is `api.received`'s."""

from datetime import timedelta
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.named import NamedInbox
from api.problems import missing
from api.shapes import gives
from api.showing import ingest_url
from api.shown_triggers import ShownIssued
from engine.store import inboxes
from engine.store.database import transaction
from engine.store.ids import read, show
from engine.store.objects import Stored
from rules.duration import Duration
from rules.shape import Rule

router = Router(prefix="/api/v1/inboxes/{ref}", tags=["inboxes"])


class Rotation(Rule):
    """A new token."""

    overlap: Duration = Field(
        default=0.0,
        le=inboxes.MOST_OVERLAP.total_seconds(),
        description="How long the one before still opens the inbox, while the sender is told the new one.",
    )


@router.post("/token", status_code=201)
@permits(Permission.WRITE, tells_secret=True)
@takes(Rotation)
@gives(ShownIssued)
async def rotate_inbox_token(request: Request, asking: Asking, inbox: NamedInbox) -> Response:
    """Another token, also for an inbox of a file; told this once. Older ones stop at once, the last one after `overlap`."""
    sent = await read_body(request, Rotation)
    return reply(await rotate(services_of(request), asking, inbox, sent.overlap), 201)


async def rotate(services: Services, asking: Principal, inbox: Stored, overlap_s: float) -> dict[str, Any]:
    """Issue a token for `inbox`. Raises 403, 404."""
    asking.require(Permission.WRITE, inbox.page_id)
    async with transaction(services.pool) as db:
        return told(
            services, await inboxes.issue_token(db, asking.actor, inbox, timedelta(seconds=overlap_s))
        )


def told(services: Services, made: inboxes.Issued) -> dict[str, Any]:
    """A new token as the contract says."""
    return {
        "id": show("token", made.id),
        "token": made.text,
        "ingest_url": f"{ingest_url(services)}/{made.text}",
        "expires_at": made.old_until,
    }


@router.delete("/tokens/{token}", status_code=204)
@permits(Permission.WRITE)
async def revoke_inbox_token(request: Request, asking: Asking, inbox: NamedInbox, token: str) -> Response:
    """Within a second it opens nothing any more."""
    asking.require(Permission.WRITE, inbox.page_id)
    token_id = read("token", token)
    async with transaction(services_of(request).pool) as db:
        if token_id is None or not await inboxes.revoke_token(db, asking.actor, inbox, token_id):
            raise missing(f"inbox {inbox.slug!r} has no token {token!r}")
    return Response(status_code=204)
