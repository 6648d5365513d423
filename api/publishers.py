"""What is special to publishers: asked, rehearsed and compared without changing anything there. Declaring them is `api.objects`."""

import asyncio
from itertools import groupby
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.channels import shown_outcome
from api.context import services_of
from api.incidents import find_incident
from api.objects import PageRef, locate
from api.shapes import gives
from api.shown_publishers import ShownCheck, ShownDrifts, ShownDryRun, ShownTargets
from engine.store import posts, published
from engine.store.database import Row
from engine.store.ids import new_id, show
from engine.store.objects import Stored
from evaluators.lifecycle import ENDED
from evaluators.model import Post
from exporters.outcome import FIRST, Memory, Removed, Report
from rules.shape import Rule

router = Router(prefix="/api/v1", tags=["publishers"])


class Rehearsed(Rule):
    """What a dry run is of: an incident as it is now; without one, of an example that touches every component."""

    incident: str | None = None


@router.post("/publishers/{ref}/check")
@permits(Permission.WRITE)
@gives(ShownCheck)
async def check_publisher(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Whether its key is good and its components are there."""
    publisher = await _publisher(request, asking, ref, page_ref, Permission.WRITE)
    return reply(_shown(await services_of(request).publishers.check(publisher)))


@router.post("/publishers/{ref}/dry-run")
@permits(Permission.REVIEW)
@takes(Rehearsed)
@gives(ShownDryRun)
async def dry_run(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """The requests that a step would become there, and what it would lose. Nothing is sent that changes anything."""
    publisher = await _publisher(request, asking, ref, page_ref, Permission.REVIEW)
    sent = await read_body(request, Rehearsed)
    return reply(await rehearsed(request, asking, publisher, sent.incident))


async def rehearsed(
    request: Request, asking: Principal, publisher: Stored, incident: str | None
) -> dict[str, Any]:
    """A dry run as JSON. Raises 404 for an incident that they may not see."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        if incident is None:
            page = await db.fetchval("SELECT slug FROM objects WHERE id = $1", publisher.page_id)
            post, memory = _example(publisher, page, services.clock.epoch_s()), FIRST
        else:
            row = await find_incident(db, asking, incident)
            found = await published.remembered(db, publisher.id, row["id"])
            memory = Memory(found["remote"]) if found else FIRST
            step = "update" if found else "open"
            post = await posts.picture(db, row["id"], step, services.clock.epoch_s())  # type: ignore[arg-type]
    report = await services.publishers.rehearse(publisher, post, memory)
    calls = [{"method": call.method, "path": call.path, "body": call.body} for call in report.calls]
    return _shown(report) | {"title": report.title, "text": report.text, "calls": calls}


@router.get("/publishers/{ref}/drift")
@permits(Permission.REVIEW)
@gives(ShownDrifts)
async def drift(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """What is otherwise there than it was told, of incidents that are open there or were within a day."""
    publisher = await _publisher(request, asking, ref, page_ref, Permission.REVIEW)
    return reply({"items": await drifted(request, publisher)})


async def drifted(request: Request, publisher: Stored) -> list[dict[str, Any]]:
    """Its incidents compared with what it shows, the newest first."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        rows = await published.newest(db, publisher.id)

    async def compared(row: Row) -> dict[str, Any]:
        post = msgspec.convert(row["item"], Post)
        if row["gone_at"] is not None:
            report = Report(Removed(), (Removed().reason,))
        else:
            report = await services.publishers.differences(publisher, post, Memory(row["remote"]))
        incident = show("incident", row["incident_id"])
        return _shown(report) | {"incident": incident, "title": post.title, "remote": row["remote"].get("id")}

    return await asyncio.gather(*(compared(row) for row in rows))


@router.get("/incidents/{ref}/targets", tags=["incidents"])
@permits(Permission.READ)
@gives(ShownTargets)
async def incident_targets(request: Request, asking: Asking, ref: str) -> Response:
    """Where an incident was posted: what it is called there, whether it is open there, what did not arrive."""
    async with services_of(request).pool.acquire() as db:
        incident = await find_incident(db, asking, ref)
        rows = await published.deliveries(db, incident["id"])
    return reply(
        {"items": [shown_target(slug, list(steps)) for slug, steps in groupby(rows, lambda r: r["slug"])]}
    )


def shown_target(slug: str, steps: list[Row]) -> dict[str, Any]:
    """An incident at one publisher, as JSON: of its steps, the oldest first."""
    last = next((row for row in reversed(steps) if row["status"] == "done"), None)
    kept = ("id", "step", "status", "attempts", "last_error", "created_at", "finished_at")
    there, is_gone = steps[-1]["remote"], steps[-1]["gone_at"] is not None
    return {
        "publisher": slug,
        "remote": there,
        "gone_at": steps[-1]["gone_at"],
        "is_open_there": bool(
            there and not is_gone and last and last["step"] != "delete" and last["said"] not in ENDED
        ),
        "last_error": next((row["last_error"] for row in reversed(steps) if row["last_error"]), None),
        "dead": sum(row["status"] == "dead" for row in steps),
        "deliveries": [{name: row[name] for name in kept} for row in steps],
    }


async def _publisher(
    request: Request, asking: Principal, ref: str, page_ref: str | None, permission: Permission
) -> Stored:
    async with services_of(request).pool.acquire() as db:
        publisher = await locate(db, asking, "publisher", ref, page_ref)
    asking.require(permission, publisher.page_id)
    return publisher


def _shown(report: Report) -> dict[str, Any]:
    return shown_outcome(report.outcome) | {"lines": list(report.lines)}


def _example(publisher: Stored, page: str, now_s: float) -> Post:
    paths = publisher.spec.get("components", {})
    return Post(
        id=str(new_id()),
        step="open",
        incident=show("incident", new_id()),
        kind="incident",
        page=page,
        title="Outage: an example",
        status="investigating",
        impact="major",
        at=now_s,
        began_at=now_s,
        components={path if "/" in path else f"{page}/{path}": "major_outage" for path in paths},
        text="We are looking into it.",
    )
