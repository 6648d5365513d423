"""The drafts: what waits for a person, with the evidence, and their word on it. What that word does is `api.reviews`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.beats import shown_result
from api.body import validated
from api.console import journeys
from api.console.forms import PART, before, fields, older, ticked, whole
from api.console.page import go, render
from api.console.runs import run_url
from api.console.words import address
from api.context import services_of
from api.origin import base_url
from api.problems import ProblemError
from api.reviews import (
    Approval,
    Decision,
    Rejection,
    Wording,
    approving,
    decide,
    editing,
    find_action,
    rejecting,
    shown_actions,
)
from api.showing import policy_of
from engine.store import broadcasts, objects, results, reviews, signals, states, views
from engine.store.database import Connection, Row
from engine.store.ids import read
from engine.store.incidents import NotNowError
from engine.store.objects import Stored
from evaluators.review import Status
from rules.incident import Review, Step

_MOST_PICTURES: Final = 50

router = Router(prefix="/console/actions", include_in_schema=False)


@router.get("")
@permits(Permission.READ)
async def queue(request: Request, asking: Asking) -> Response:
    """Pending ones first, then what was decided."""
    pages, query = asking.pages_for(Permission.READ), request.query_params
    step = query.get("step") if query.get("step") in get_args(Step) else None
    by = asking.name if query.get("mine") else None
    async with services_of(request).pool.acquire() as db:
        homes = await objects.listing(db, "page", pages=pages)
        if named := [home.id for home in homes if home.slug == query.get("page")]:
            pages = named
        pending = await reviews.actions(db, pages=pages, status="pending", step=step, by=by, limit=200)
        rows = await reviews.actions(
            db, pages=pages, step=step, by=by, before=before(request), limit=PART + 1
        )
        decided = [row for row in rows[:PART] if row["status"] != "pending"]
        approvals = await reviews.approvals(db, [row["id"] for row in pending])
        return await render(
            request,
            db,
            "actions.html",
            pending=pending,
            decided=decided,
            cursor=older(rows, "created_at"),
            triggers=await triggers_of(db, [*pending, *decided]),
            needed={row["id"]: Review.model_validate(row["review"] or {}).approvals for row in pending},
            approvals=approvals,
            names=[(home.slug, home.spec["name"]) for home in homes],
            chosen={"page": query.get("page", ""), "step": step or "", "mine": by is not None},
        )


async def triggers_of(db: Connection, actions: Sequence[Row]) -> dict[UUID, Stored]:
    """The triggers that these rest on, by id."""
    ids = {trigger for action in actions for trigger in action["triggers"]}
    return {one.id: one for one in await objects.several(db, list(ids))} if ids else {}


@router.get("/{ref}")
@permits(Permission.READ)
async def action_page(request: Request, asking: Asking, ref: str) -> Response:
    """One draft, with what it rests on."""
    return await _page(request, asking, ref)


async def _page(
    request: Request,
    asking: Principal,
    ref: str,
    *,
    status: int = 200,
    stale: bool = False,
    wrong: str | None = None,
    typed: Mapping[str, str] | None = None,
) -> Response:
    async with services_of(request).pool.acquire() as db:
        row = await reviews.one(db, await find_action(db, asking, ref, Permission.READ))
        (action,) = await shown_actions(db, [row])
        named = [UUID(component) for component in row["components"]]
        return await render(
            request,
            db,
            "action.html",
            status,
            action=action,
            row=row,
            heard=await broadcasts.reach(db, row["page_id"], named) if row["notify"] else 0,
            triggers=await triggers_of(db, [row]),
            owner_kind=row["owner_kind"],
            evidence=await _evidence(db, row),
            can_review=asking.may(Permission.REVIEW, row["page_id"]),
            choices=await _choices(db, row, action),
            stale=stale,
            wrong=wrong,
            typed=typed,
        )


async def _choices(
    db: Connection, row: Row, action: Mapping[str, Any]
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(path, name) of components that it may name, those of its page and what it names of others; and what a form says of them."""
    said = {f"{one['page']}/{one['slug']}": one for one in action["components"]}
    names = {path: one["name"] for path, one in said.items()}
    for one in await objects.listing(db, "component", pages=[row["page_id"]]):
        names[f"{row['page']}/{one.slug}"] = one.spec["name"]
    return sorted(names.items()), {f"c:{path}": one["status"] for path, one in said.items()}


async def _evidence(db: Connection, action: Row) -> list[dict[str, Any]]:
    """Per region: what is known now while it waits (no new revision is made of that), what was known once decided.

    Of a group per member, which is kept fresh where it is stored.
    """
    items: list[dict[str, Any]] = action["evidence"]
    if action["status"] == Status.PENDING and action["owner_kind"] == "beat":
        items = await _newest(db, action["owner_id"]) or items
    pictures = await _pictures(db, action, items)
    shown = []
    for item in items:
        at = datetime.fromisoformat(item["at"]) if "at" in item else None
        is_run = at is not None and "run" in item
        beat = item.get("beat", action["owner"])
        url = run_url(beat, action["page"], item["run"], at) if at and is_run else None
        of = " in ".join(filter(None, (item.get("beat"), item["region"])))
        shown.append(
            {"error": None, "trigger": None, "event": None}
            | dict(item)
            | {"moment": at, "url": url, "of": of, "failed": pictures.get(item.get("run", ""))}
        )
    return shown


async def _pictures(
    db: Connection, action: Row, items: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any] | None]:
    """How the runs of browsers among the first few of these failed, by run."""
    beats = {item["run"]: item.get("beat", action["owner"]) for item in items if item.get("run")}
    asked = [run for text in list(beats)[:_MOST_PICTURES] if (run := read("run", text))]
    found = map(shown_result, await views.pictured(db, asked))
    return {
        run["run"]: journeys.failed(run, run_url(beats[run["run"]], action["page"], run["run"], run["at"]))
        for run in found
    }


async def _newest(db: Connection, owner_id: UUID) -> list[dict[str, Any]]:
    beat = await objects.get(db, owner_id)
    if beat is None:
        return []
    row = (await states.summaries(db, [owner_id])).get(owner_id)
    voters = policy_of(beat.kind, beat.spec, row["bound"]).regions if row else ()
    newest = await results.newest_per_region(db, [(owner_id, region) for region in voters])
    reported = (await signals.of_beats(db, [owner_id]))[owner_id]
    return [*map(reviews.evidence_of, newest), *map(reviews.signal_evidence, reported)]


async def _decided(
    request: Request,
    asking: Principal,
    ref: str,
    decision: Decision,
    said: str,
    typed: Mapping[str, str] | None = None,
) -> Response:
    """Carry out `decision`; where it comes too late, the page says so and shows what is there now, and what was `typed`."""
    try:
        done = await decide(services_of(request), asking, ref, decision)
    except reviews.StaleRevisionError:
        return await _page(request, asking, ref, status=409, stale=True, typed=typed)
    except (reviews.ActionGoneError, NotNowError) as gone:
        return await _page(request, asking, ref, status=409, wrong=f"Too late: {gone}.")
    except ProblemError as refused:
        if refused.status != 422:
            raise
        return await _page(
            request, asking, ref, status=422, wrong=f"Not done: {refused.detail}.", typed=typed
        )
    is_pending = done["status"] == Status.PENDING and said == "approved"
    return go(address("action", ref), "approved_once" if is_pending else said)


@router.post("/{ref}/approve")
@permits(Permission.REVIEW)
async def approve(request: Request, asking: Asking, ref: str) -> Response:
    """Say yes to the revision that was shown, for the targets that are ticked."""
    services, sent = services_of(request), await fields(request)
    ticks = [slug for slug in await ticked(request, "publishers") if slug]
    some = "some" in sent or len(ticks) < whole(sent.get("offered"), 0)
    said = {"revision": whole(sent.get("revision"), 1), "publishers": ticks if some else None}
    try:
        approval = validated(Approval, said | {"comment": sent.get("comment", "")})
    except ProblemError as refused:
        return await _page(request, asking, ref, status=422, wrong=f"Not approved: {refused.detail}.")
    return await _decided(request, asking, ref, approving(services, approval, base_url(request)), "approved")


@router.post("/{ref}/reject")
@permits(Permission.REVIEW)
async def reject(request: Request, asking: Asking, ref: str) -> Response:
    """Say no to the revision that was shown."""
    sent = await fields(request)
    said = Rejection(reason=sent.get("reason", "")[:4000], revision=whole(sent.get("revision"), 0) or None)
    return await _decided(request, asking, ref, rejecting(services_of(request), said), "rejected")


@router.post("/{ref}/edit")
@permits(Permission.REVIEW)
async def edit(request: Request, asking: Asking, ref: str) -> Response:
    """Other words, or other components: a new revision."""
    sent = await fields(request)
    said: dict[str, Any] = {key: sent.get(key, "").replace("\r\n", "\n") for key in ("title", "text")}
    said |= {"revision": whole(sent.get("revision"), 1), "is_markdown": "is_markdown" in sent}
    shown = {key.removeprefix("c:"): status for key, status in sent.items() if key.startswith("c:")}
    if shown:
        said["components"] = {path: status for path, status in shown.items() if status}
    try:
        wording = validated(Wording, said)
    except ProblemError as refused:
        return await _page(
            request, asking, ref, status=422, wrong=f"Not saved: {refused.detail}.", typed=sent
        )
    return await _decided(
        request, asking, ref, editing(services_of(request), asking, wording), "revised", sent
    )
