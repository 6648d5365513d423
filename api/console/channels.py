"""Channels in the console: how they do, what left for them, and a form for every kind, made of its model. Changing one is `api.console.specs`."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api import channels, saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import Mistakes, fields, page_choices, refusal
from api.console.inputs import Input, document_of, inputs_of
from api.console.page import go, render
from api.console.words import address
from api.context import services_of
from api.objects import PageRef
from api.problems import ProblemError
from api.showing import page_slugs
from api.targets import replay, shown_health
from engine.store import objects, outbox, targets
from engine.store.ids import show
from engine.store.objects import TakenError
from exporters.outcome import Delivered, Outcome, Retry
from rules.channels.channel import ChannelRule
from rules.models import TYPED

_DELIVERIES: Final = 50
_STATUSES: Final = ("pending", "done", "dead", "dropped")
_NAMED: Final = frozenset({"slug", "name", "page", "type"})
_KINDS: Final = TYPED["channel"]

router = Router(prefix="/console", include_in_schema=False)


def _inputs(kind: str) -> tuple[list[Input], list[Input]]:
    """Of a kind of channel: its own, and those that all have."""
    if kind not in _KINDS:
        return [], []
    own = inputs_of(_KINDS[kind], without=_NAMED | ChannelRule.model_fields.keys())
    return own, inputs_of(ChannelRule, without=_NAMED)


async def _page(
    request: Request,
    asking: Principal,
    *,
    given: Mapping[str, str] | None = None,
    mistakes: Mistakes | None = None,
    status: int = 200,
    outcome: tuple[str, Outcome] | None = None,
) -> Response:
    readable, query = asking.pages_for(Permission.READ), request.query_params
    given = dict(given or {})
    kind = given.get("type") or query.get("add", "")
    own, shared = _inputs(kind)
    only = query.get("status", "") if query.get("status") in _STATUSES else None
    async with services_of(request).pool.acquire() as db:
        rows = await objects.listing(db, "channel", pages=readable)
        health = {row["id"]: shown_health(row) for row in await targets.health(db, readable)}
        channel = next((row for row in rows if show("channel", row.id) == query.get("channel")), None)
        of_channel = channel.id if channel else None
        found = await outbox.listing(db, pages=readable, status=only, target=of_channel, limit=_DELIVERIES)
        return await render(
            request,
            db,
            "channels.html",
            status,
            rows=rows,
            slugs=await page_slugs(db),
            pages=await page_choices(db, asking),
            health=health,
            deliveries=found,
            only=only,
            channel=channel,
            statuses=_STATUSES,
            kinds={name: (model.__doc__ or "").strip() for name, model in _KINDS.items()},
            kind=kind if kind in _KINDS else None,
            own=own,
            shared=shared,
            given=given,
            mistakes=mistakes or [],
            outcome=_said(*outcome) if outcome else None,
        )


def _said(slug: str, outcome: Outcome) -> dict[str, Any]:
    said = channels.shown_outcome(outcome)
    word = "not now, would be tried again" if isinstance(outcome, Retry) else said["outcome"]
    return said | {"slug": slug, "ok": isinstance(outcome, Delivered), "word": word}


def _document(sent: Mapping[str, str]) -> dict[str, Any]:
    """The channel that a form describes: only the fields of its kind count."""
    kind = sent.get("type", "")
    own, shared = _inputs(kind)
    return {key: sent[key] for key in sorted(_NAMED) if sent.get(key)} | document_of([*own, *shared], sent)


@router.get("/channels")
@permits(Permission.READ)
async def index(request: Request, asking: Asking) -> Response:
    """All channels, their deliveries, and the form of the kind that `add` names."""
    return await _page(request, asking)


@router.post("/channels")
@permits(Permission.WRITE)
async def create(request: Request, asking: Asking) -> Response:
    """Save what the form says, or show it again with what is wrong."""
    sent = await fields(request)
    try:
        await saving.create(services_of(request), asking, "channel", _document(sent))
    except (ProblemError, TakenError) as refused:
        return await _refused(request, asking, sent, refused)
    return go("/console/channels", "saved")


@router.post("/channels/test")
@permits(Permission.WRITE)
async def send_test_before(request: Request, asking: Asking) -> Response:
    """Send a test notice through what the form says, which is not saved, and show the form again."""
    sent = await fields(request)
    try:
        outcome = await channels.tried(services_of(request), asking, _document(sent))
    except ProblemError as refused:
        return await _refused(request, asking, sent, refused)
    return await _page(request, asking, given=sent, outcome=(sent.get("slug", ""), outcome))


async def _refused(
    request: Request, asking: Principal, sent: Mapping[str, str], refused: ProblemError | TakenError
) -> Response:
    mistakes, status = refusal(refused)
    if status not in (409, 422):
        raise refused
    return await _page(request, asking, given=sent, mistakes=mistakes, status=status)


@router.post("/channels/{ref}/test")
@permits(Permission.WRITE)
async def send_test(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Send a test notice now and show what came of it."""
    channel, outcome = await channels.tested(request, asking, ref, page_ref)
    return await _page(request, asking, outcome=(channel.slug, outcome))


@router.post("/channels/{ref}/replay-dead")
@permits(Permission.WRITE)
async def replay_dead(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Try everything again that a channel was given up for."""
    await replay(request, asking, "channel", ref, page_ref)
    return go("/console/channels", "retry")


@router.post("/deliveries/{delivery_id}/retry")
@permits(Permission.WRITE)
async def retry(request: Request, asking: Asking, delivery_id: channels.DeliveryId) -> Response:
    """Try a dead letter again, and go back to the publisher `of` which it is, or to the channels."""
    await channels.retry(request, asking, delivery_id)
    of = request.query_params.get("of")
    return go(address("publisher", of) if of else "/console/channels", "retry")
