"""Publishers in the console: how they do and what is where; checked, rehearsed, compared; a form for every kind, made of its model. Changing one is `api.console.specs`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from api import publishers, saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.channels import shown_outcome
from api.console.forms import Mistakes, fields, listed, page_choices, refusal
from api.console.inputs import Input, document_of, inputs_of
from api.console.page import go, go_to, render
from api.context import services_of
from api.objects import PageRef, locate
from api.problems import ProblemError
from api.showing import page_slugs
from api.targets import replay, shown_health
from engine.store import objects, outbox, published, targets
from engine.store.database import Connection
from engine.store.ids import show
from engine.store.objects import Stored, TakenError
from rules.models import TYPED
from rules.publishers.publisher import PublisherRule
from rules.publishers.static import StaticPublisher

_DELIVERIES: Final = 50
_NAMED: Final = frozenset({"slug", "name", "page", "type", "components"})
_KINDS: Final = TYPED["publisher"]

router = Router(prefix="/console", include_in_schema=False)


async def _named(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Stored:
    async with services_of(request).pool.acquire() as db:
        return await locate(db, asking, "publisher", ref, page_ref)


Named = Annotated[Stored, Depends(_named)]


def _inputs(kind: str) -> list[Input]:
    """Of a kind of publisher: its own, then those that all have."""
    found = inputs_of(_KINDS[kind], without=_NAMED) if kind in _KINDS else []
    return sorted(found, key=lambda one: one.name in PublisherRule.model_fields)


def _document(sent: Mapping[str, str]) -> dict[str, Any]:
    """The publisher that a form describes. Components are lines of `component: its id there`; those without one are left out."""
    lines = (line.partition(":") for line in sent.get("components", "").splitlines())
    components = {path.strip(): ids for path, _, rest in lines if (ids := listed(rest))}
    named = {key: sent[key] for key in sorted(_NAMED - {"components"}) if sent.get(key)}
    return named | document_of(_inputs(sent.get("type", "")), sent) | {"components": components}


async def _list(
    request: Request,
    asking: Principal,
    *,
    given: Mapping[str, str] | None = None,
    mistakes: Mistakes | None = None,
    status: int = 200,
) -> Response:
    readable = asking.pages_for(Permission.READ)
    given = dict(given or {})
    kind = given.get("type") or request.query_params.get("add", "")
    async with services_of(request).pool.acquire() as db:
        health = await targets.health(db, readable)
        given.setdefault("components", await _asked(db, asking))
        return await render(
            request,
            db,
            "publishers.html",
            status,
            rows=await objects.listing(db, "publisher", pages=readable),
            slugs=await page_slugs(db),
            pages=await page_choices(db, asking),
            health={row["id"]: shown_health(row) for row in health},
            kinds={name: (model.__doc__ or "").strip() for name, model in _KINDS.items()},
            kind=kind if kind in _KINDS else None,
            inputs=_inputs(kind),
            is_mapped=kind in _KINDS and not issubclass(_KINDS[kind], StaticPublisher),
            given=given,
            mistakes=mistakes or [],
        )


async def _asked(db: Connection, asking: Principal) -> str:
    """A line for every component that could be there, for its id to be written behind."""
    slugs = await page_slugs(db)
    found = await objects.listing(db, "component", pages=asking.pages_for(Permission.WRITE))
    return "\n".join(f"{slugs[one.page_id]}/{one.slug}: " for one in found if one.page_id)


async def _one(request: Request, asking: Principal, publisher: Stored, **found: Any) -> Response:
    async with services_of(request).pool.acquire() as db:
        (health,) = await targets.health(db, None, publisher.id)
        rows = await outbox.listing(db, target=publisher.id, limit=_DELIVERIES)
        return await render(
            request,
            db,
            "publisher.html",
            publisher=publisher,
            page_slug=(await page_slugs(db)).get(publisher.page_id) if publisher.page_id else None,
            health=shown_health(health),
            there=await published.newest(db, publisher.id),
            deliveries=rows,
            **({"checked": None, "ran": None, "drifted": None} | found),
        )


@router.get("/publishers")
@permits(Permission.READ)
async def index(request: Request, asking: Asking) -> Response:
    """All publishers, and the form of the kind that `add` names."""
    return await _list(request, asking)


@router.post("/publishers")
@permits(Permission.WRITE)
async def create(request: Request, asking: Asking) -> Response:
    """Save what the form says."""
    sent = await fields(request)
    try:
        made = await saving.create(services_of(request), asking, "publisher", _document(sent))
    except (ProblemError, TakenError) as refused:
        mistakes, status = refusal(refused)
        if status not in (409, 422):
            raise
        return await _list(request, asking, given=sent, mistakes=mistakes, status=status)
    return go(f"/console/publishers/{show('publisher', made.id)}", "saved")


@router.get("/publishers/{ref}")
@permits(Permission.READ)
async def publisher_page(request: Request, asking: Asking, publisher: Named) -> Response:
    """What is there, and what is on its way."""
    return await _one(request, asking, publisher)


@router.post("/publishers/{ref}/check")
@permits(Permission.WRITE)
async def check(request: Request, asking: Asking, publisher: Named) -> Response:
    """Ask it whether it can be used."""
    asking.require(Permission.WRITE, publisher.page_id)
    report = await services_of(request).publishers.check(publisher)
    return await _one(
        request, asking, publisher, checked=shown_outcome(report.outcome) | {"lines": report.lines}
    )


@router.post("/publishers/{ref}/dry-run")
@permits(Permission.REVIEW)
async def dry_run(request: Request, asking: Asking, publisher: Named) -> Response:
    """Show what it would be sent: of an incident as it is now, or of an example."""
    asking.require(Permission.REVIEW, publisher.page_id)
    incident = (await fields(request)).get("incident")
    ran = await publishers.rehearsed(request, asking, publisher, incident)
    calls = [
        f"{call['method']} {call['path']}\n{json.dumps(call['body'], indent=2, ensure_ascii=False)}"
        for call in ran["calls"]
    ]
    return await _one(request, asking, publisher, ran=ran | {"calls": calls, "incident": incident})


@router.post("/publishers/{ref}/drift")
@permits(Permission.REVIEW)
async def drift(request: Request, asking: Asking, publisher: Named) -> Response:
    """Compare what it shows with what it was told."""
    asking.require(Permission.REVIEW, publisher.page_id)
    found = await publishers.drifted(request, publisher)
    return await _one(request, asking, publisher, drifted={item["incident"]: item for item in found})


@router.post("/publishers/{ref}/replay-dead")
@permits(Permission.WRITE)
async def replay_dead(request: Request, asking: Asking, publisher: Named) -> Response:
    """Try everything again that it was given up for."""
    await replay(request, asking, "publisher", show("publisher", publisher.id))
    return go_to(request, publisher, "retry")
