"""Incidents: what customers see, begun, told and ended by people. What their word does is `api.incidents`'."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api import incidents as rest
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import validated
from api.console.forms import PART, before, fields, filled, older, page_choices, refusal, ticked
from api.console.page import go, render
from api.console.words import address
from api.context import services_of
from api.incidents import Edit, Into, NewIncident, NewUpdate, Text, find_incident, handle, shown_incidents
from api.objects import locate
from api.origin import base_url
from api.problems import ProblemError, missing
from api.reviews import home_of
from engine.store import by_hand, incidents, objects, published
from engine.store.database import Connection
from engine.store.ids import read
from engine.store.incidents import NotNowError
from engine.store.objects import MissingError, Stored
from evaluators.words import joined
from rules.wording import presets

router = Router(prefix="/console/incidents", include_in_schema=False)

_REFUSALS: Final = (ProblemError, NotNowError, MissingError)
_BLANK: Final = dict.fromkeys((*NewIncident.model_fields, *rest.Backfilled.model_fields, "ended"), "")
_DEEDS: Final[Mapping[str, rest.Work]] = {
    "take-over": by_hand.take_over,
    "hand-back": by_hand.hand_back,
    "delete": by_hand.remove,
    "forget": by_hand.report,
}
_SAID: Final = {
    "merge": "merged",
    "take-over": "taken_over",
    "hand-back": "handed_back",
    "delete": "removed",
    "publish": "report_published",
}
_COMPONENT: Final = "c:"  # before the path of a component, in the name of its field


@router.get("")
@permits(Permission.READ)
async def incidents_page(request: Request, asking: Asking) -> Response:
    """Newest first; `status` and `page` choose some."""
    pages, query = asking.pages_for(Permission.READ), request.query_params
    status = query.get("status", "")
    async with services_of(request).pool.acquire() as db:
        choices = await page_choices(db, asking, Permission.READ)
        of_page = query.get("page", "")
        if of_page in dict(choices):
            pages = [(await locate(db, asking, "page", of_page)).id]
        rows = await incidents.listing(
            db, pages=pages, status=status or None, kind="incident", before=before(request), limit=PART + 1
        )
        shown = await shown_incidents(db, rows[:PART])
        chosen = {"status": status, "page": of_page}
        return await render(
            request,
            db,
            "incidents.html",
            rows=shown,
            cursor=older(rows, "created_at"),
            pages=choices,
            chosen=chosen,
            may_begin=asking.pages_for(Permission.REVIEW) != [],
        )


@router.get("/new")
@permits(Permission.REVIEW)
async def new(request: Request, asking: Asking) -> Response:
    """The form of a new one, of the page that the address names."""
    return await _new(request, asking, request.query_params.get("page"))


async def _new(
    request: Request,
    asking: Principal,
    page_ref: str | None,
    given: Mapping[str, str] | None = None,
    refused: Exception | None = None,
) -> Response:
    mistakes, status = refusal(refused)
    async with services_of(request).pool.acquire() as db:
        pages = await page_choices(db, asking, Permission.REVIEW)
        if page_ref is None and len(pages) == 1:
            page_ref = pages[0][0]
        home = await locate(db, asking, "page", page_ref) if page_ref else None
        taken = _taken(request, home.spec["name"]) if home else {}
        sent = _BLANK | {"status": "investigating"} | taken | dict(given or {})
        return await render(
            request,
            db,
            "new_incident.html",
            status,
            pages=pages,
            home=home,
            components=await _choices(db, home) if home else [],
            publishers=await _publishers(db, home) if home else [],
            presets=[one for one in presets().values() if one.use == "open"],
            given=sent,
            mistakes=mistakes,
        )


def _taken(request: Request, what: str) -> dict[str, str]:
    """What the preset that the address names says of `what`, as forms have it."""
    preset = presets().get(request.query_params.get("preset", ""))
    if preset is None:
        return {}
    said = {"title": preset.title or "", "text": preset.text}
    found = {key: text.replace("{{ what }}", what) for key, text in said.items()}
    return found if preset.use == "open" else found | {"status": preset.slug}


async def _choices(db: Connection, home: Stored) -> list[tuple[str, str]]:
    """(path, name) of the page's components."""
    found = await objects.listing(db, "component", pages=[home.id])
    return [(f"{home.slug}/{one.slug}", one.spec["name"]) for one in found]


async def _publishers(db: Connection, home: Stored) -> list[tuple[str, str]]:
    found = await objects.listing(db, "publisher", pages=[home.id])
    return [(one.slug, one.spec.get("name") or one.slug) for one in found if one.spec.get("enabled", True)]


def _speech(sent: Mapping[str, str]) -> dict[str, Any]:
    """What a form says of an update, as REST would have got it; components are all that are affected."""
    said: dict[str, Any] = filled({key: sent.get(key, "") for key in ("status", "text", "impact")})
    said |= {key: key in sent for key in ("is_markdown", "draft")}
    if sent.get("notify") in ("yes", "no"):
        said["notify"] = sent["notify"] == "yes"
    return said | {"components": _affected(sent)}


def _affected(sent: Mapping[str, str]) -> dict[str, str]:
    return {
        key.removeprefix(_COMPONENT): value for key, value in sent.items() if key[:2] == _COMPONENT and value
    }


@router.post("")
@permits(Permission.REVIEW)
async def create(request: Request, asking: Asking) -> Response:
    """Begin one, ask for it, or enter one that is over."""
    sent, publishers = await fields(request), await ticked(request, "publishers")
    document = _speech(sent) | {"page": sent.get("page"), "title": sent.get("title", "")}
    if "every" not in sent:
        document["publishers"] = publishers
    if sent.get("started_at"):
        times = filled({key: sent.get(key, "") for key in ("started_at", "acknowledged_at", "resolved_at")})
        updates = [
            {
                "at": times["started_at"],
                "status": document.pop("status", ""),
                "text": document.pop("text", ""),
            }
        ]
        if "resolved_at" in times:
            updates.append({"at": times["resolved_at"], "status": "resolved", "text": sent.get("ended", "")})
        document["backfilled"] = times | {"updates": updates}
    try:
        body = validated(NewIncident, document)
        item = await rest.create(services_of(request), asking, body, None, base_url(request))
    except _REFUSALS as refused:
        ticks = {f"publishers:{slug}": "on" for slug in publishers}
        return await _new(request, asking, sent.get("page"), sent | ticks, refused)
    return await _gone(request, item, "begun")


async def _gone(request: Request, item: Mapping[str, Any], said: str) -> Response:
    """To what came of it: the incident, or the action that asks for it."""
    return (
        go(address("action", item["id"]), "drafted")
        if "step" in item
        else go(address("incident", item["id"]), said)
    )


@router.get("/{ref}")
@permits(Permission.READ)
async def incident(request: Request, asking: Asking, ref: str) -> Response:
    """One incident with its updates."""
    return await _page(request, asking, ref)


async def _page(
    request: Request,
    asking: Principal,
    ref: str,
    given: Mapping[str, str] | None = None,
    refused: Exception | None = None,
) -> Response:
    mistakes, status = refusal(refused)
    async with services_of(request).pool.acquire() as db:
        row = await find_incident(db, asking, ref)
        (shown,) = await shown_incidents(db, [row])
        home = await home_of(db, row)
        now = {f"{one['page']}/{one['slug']}": one for one in shown["components"]}
        choices = dict(await _choices(db, home)) | {path: one["name"] for path, one in now.items()}
        others = await incidents.listing(db, pages=[home.id], status="open", kind="incident", limit=100)
        said = {f"{_COMPONENT}{path}": one["status"] for path, one in now.items()}
        what = joined(home.spec["name"], [one["name"] for one in now.values()])
        return await render(
            request,
            db,
            "incident.html",
            status,
            incident=shown,
            can_review=asking.may(Permission.REVIEW, home.id),
            components=sorted(choices.items(), key=lambda choice: choice[1].lower()),
            others=[(one["id"], one["title"]) for one in others if one["id"] != row["id"]],
            deliveries=await published.deliveries(db, row["id"]),
            presets=[one for one in presets().values() if one.use != "open"],
            given=_BLANK | said | _taken(request, what) | dict(given or {}),
            mistakes=mistakes,
        )


@router.post("/{ref}/updates")
@permits(Permission.REVIEW)
async def say(request: Request, asking: Asking, ref: str) -> Response:
    """Say something of it."""
    sent = await fields(request)
    try:
        body = validated(NewUpdate, _speech(sent))
        item = await rest.update(services_of(request), asking, ref, body, base_url(request))
    except _REFUSALS as refused:
        return await _page(request, asking, ref, sent, refused)
    return await _gone(request, item, "said")


async def _handled(
    request: Request,
    asking: Principal,
    ref: str,
    said: str,
    work: Callable[[], Awaitable[rest.Work]],
    form: str,
    sent: Mapping[str, str],
) -> Response:
    """Do it and show what came of it, or why it cannot be done, with what was typed into that form."""
    try:
        item = await handle(services_of(request), asking, ref, await work(), base_url(request))
    except _REFUSALS as refused:
        typed = {f"{form}:{name}": value for name, value in sent.items()}
        return await _page(request, asking, ref, typed, refused)
    return go(address("incident", ref) if item else "/console/incidents", said)


@router.post("/{ref}/updates/{update_ref}")
@permits(Permission.REVIEW)
async def reword(request: Request, asking: Asking, ref: str, update_ref: str) -> Response:
    """Correct what an update says."""
    sent = await fields(request)

    async def work() -> rest.Work:
        text = validated(Text, {"text": sent.get("text", "")}).text
        return partial(by_hand.reword, update=read("update", update_ref), text=text)

    return await _handled(request, asking, ref, "saved", work, update_ref, sent)


@router.post("/{ref}/{verb}")
@permits(Permission.REVIEW)
async def deed(request: Request, asking: Asking, ref: str, verb: str) -> Response:
    """Whatever else is done with it; what is done with its report, the button says that was pressed."""
    services, sent, form = services_of(request), await fields(request), verb
    verb = sent.get("do", verb) if verb == "report" else verb

    async def work() -> rest.Work:
        match verb:
            case "edit":
                changes = {"title": sent.get("title", ""), "impact": sent.get("impact") or None}
                body = validated(Edit, changes | {"components": _affected(sent)})
                return await rest.edit(services, asking, ref, body)
            case "merge":
                return await rest.merge(services, asking, validated(Into, {"into": sent.get("into", "")}))
            case "save":
                return partial(by_hand.report, text=validated(Text, {"text": sent.get("text", "")}).text)
            case "publish" | "unpublish":
                return partial(by_hand.report, is_public=verb == "publish")
            case _ if verb in _DEEDS:
                return _DEEDS[verb]
        raise missing("there is nothing at this address")

    return await _handled(request, asking, ref, _SAID.get(verb, "saved"), work, form, sent)
