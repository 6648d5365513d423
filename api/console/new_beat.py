"""A new beat: from a URL, with a check before saving, or a journey that begins there; or one that no probe runs, of which jobs or other systems tell."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from api import saving, tools
from api.auth import Asking, Permission, Principal, Router, permits
from api.console import charts, journeys
from api.console.forms import fields, filled, line_of, listed, page_choices, refusal, ticked, yaml_of
from api.console.inputs import document_of, inputs_of
from api.console.page import go, render
from api.console.words import address
from api.context import services_of
from api.problems import ProblemError, invalid
from engine.store import objects
from evaluators.model import PHASES
from rules.export import text_of
from rules.journey import Journey, Keeping
from rules.known import Kind
from rules.node import Node
from rules.pasted import check_of

Pushed = Literal["heartbeat", "external"]
_NAMES: Final = ("slug", "name", "page")
_OF_HEARTBEAT: Final = ("every", "cron", "timezone", "grace", "max_duration")
_BLANK: Final = dict.fromkeys((*_NAMES, *_OF_HEARTBEAT), "")
_PLAIN: Final = (*_NAMES, "interval", "timeout", "degraded_after", "group")
_TEXTS: Final = (*_PLAIN, "contains", "depends_on")
_LISTED: Final = ("regions", "components", "channels")
_YAML: Final = ("steps", "teardown", "assertions")  # of a browser, in an editor each
_OF_JOURNEY: Final = inputs_of(
    Journey, without=frozenset(Journey.model_fields).difference(("device", "locale", "timezone"))
)
_OF_EVIDENCE: Final = inputs_of(Keeping)
_BROWSED: Final = ("recording", *_YAML, *(one.name for one in (*_OF_JOURNEY, *_OF_EVIDENCE)))
_BEGIN: Final = "- goto: /\n- expect: {of: title, matches: .}\n"
_OFFERED: Final[tuple[Kind, ...]] = ("region", "component", "channel", "group")

router = Router(prefix="/console/beats/new", include_in_schema=False)


async def _form(
    request: Request,
    asking: Principal,
    template: str,
    draft: Mapping[str, Any] | None,
    refused: Exception | None = None,
    nodes: Mapping[str, Node] | None = None,
    **more: Any,
) -> Response:
    """A form, with mistakes beside the field they are about, and on top those that are about none.

    Those of YAML, whose `nodes` are the values of their fields, say the line.
    """
    mistakes, status = refusal(refused)
    mistakes = [_placed(pointer, said, nodes or {}) for pointer, said in mistakes]
    texts = {"target", *(name for name, value in (draft or {}).items() if isinstance(value, str))}
    beside: dict[str, str] = {}
    for pointer, said in mistakes:
        if (name := pointer[1:]) in texts:
            beside[name] = f"{beside[name]}; {said}" if name in beside else said
    rest = [(pointer, said) for pointer, said in mistakes if pointer[1:] not in beside]
    async with services_of(request).pool.acquire() as db:
        pages = await page_choices(db, asking)
        more |= {"draft": draft, "errors": beside, "mistakes": rest, "pages": pages}
        return await render(request, db, template, status, **more)


def _placed(pointer: str, said: str, nodes: Mapping[str, Node]) -> tuple[str, str]:
    _, name, *rest = pointer.split("/", 2) if "/" in pointer else ("", "")
    return (
        (f"/{name}", f"{line_of(nodes[name], '/' + rest[0])}: {said}")
        if rest and name in nodes
        else (pointer, said)
    )


# ---- from a URL


@router.get("")
@permits(Permission.WRITE)
async def new_page(request: Request, asking: Asking) -> Response:
    """The target, then the form that fits it."""
    target = request.query_params.get("target", "").strip()[:4000]
    if not target:
        return await _page(request, asking, target)
    try:
        check = _check_of(target, request.query_params.get("type"))
    except ValueError as wrong:
        return await _page(request, asking, target, refused=invalid([("/target", str(wrong))]))
    async with services_of(request).pool.acquire() as db:
        regions = [stored.slug for stored in await objects.listing(db, "region")]
        pages = await page_choices(db, asking)
    draft: dict[str, Any] = dict.fromkeys(_TEXTS, "") | {key: [] for key in _LISTED}
    draft |= {"slug": _slug(check), "interval": "60s", "timeout": "10s", "regions": regions}
    if check["type"] == "browser":
        draft |= dict.fromkeys(_BROWSED, "") | {"interval": "5m", "timeout": "1m", "steps": _BEGIN}
    return await _page(
        request, asking, target, draft | {"type": check["type"], "page": pages[0][0] if pages else ""}
    )


def _check_of(target: str, kind: str | None) -> dict[str, Any]:
    check = check_of(target)
    if kind != "browser":
        return check
    if check["type"] != "http":
        raise ValueError("a journey begins at http:// or https://")
    return check | {"type": "browser"}


def _slug(check: Mapping[str, Any]) -> str:
    """A slug that its target suggests: `shop-example-health` for https://shop.example/health."""
    parts = urlsplit(check.get("url", ""))
    text = f"{parts.hostname}{parts.path}" if parts.hostname else check["host"]
    words = re.sub(r"[^a-z0-9]+", "-", text.lower().removeprefix("www.")).strip("-")
    return words[:63].strip("-") or "beat"


async def _page(
    request: Request,
    asking: Principal,
    target: str,
    draft: Mapping[str, Any] | None = None,
    refused: Exception | None = None,
    preview: Mapping[str, Any] | None = None,
    nodes: Mapping[str, Node] | None = None,
    notes: Sequence[str] = (),
) -> Response:
    pages = asking.pages_for(Permission.WRITE)
    async with services_of(request).pool.acquire() as db:
        homes = await objects.listing(db, "page", pages=pages)
        home = next((one.id for one in homes if draft and one.slug == draft["page"]), None)
        offered = {
            f"{kind}s": [
                one.slug
                for one in await objects.listing(db, kind, pages=pages)
                if one.page_id in (None, home)
            ]
            for kind in _OFFERED
        }
    timings: dict[str, float | None] = {}
    if preview:  # with all that the page asks for
        timings = dict.fromkeys(PHASES) | dict(preview.get("timings") or {})
        preview = {"verdict": "error", "error": None, "assertions": []} | dict(preview) | {"timings": timings}
    return await _form(
        request,
        asking,
        "new.html",
        draft,
        refused,
        nodes,
        target=target,
        kind=draft["type"] if draft else request.query_params.get("type"),
        notes=notes,
        inputs=(*_OF_JOURNEY, *_OF_EVIDENCE),
        journey=await asyncio.to_thread(journeys.tried, preview) if preview else None,
        **offered,
        choices=[("", "none: it stands alone"), *((slug, slug) for slug in offered["groups"])],
        preview=preview,
        parts=charts.stacked(timings, timings["total"] or 0.0) if timings else (),
    )


@router.post("")
@permits(Permission.WRITE)
async def create(request: Request, asking: Asking) -> Response:
    """Check now, or save and go to its page."""
    sent = await fields(request)
    target = sent.get("target", "")
    draft: dict[str, Any] = {key: sent.get(key, "") for key in _TEXTS}
    draft |= {key: await ticked(request, key) for key in _LISTED}
    try:
        check = _check_of(target, sent.get("type"))
    except ValueError as wrong:
        return await _page(request, asking, target, refused=invalid([("/target", str(wrong))]))
    draft["type"] = check["type"]
    nodes: dict[str, Node] = {}
    services = services_of(request)
    async with services.pool.acquire() as db:
        regions = [stored.slug for stored in await objects.listing(db, "region")]
    document = _document(check, draft, regions)
    try:
        if check["type"] == "browser":
            draft |= {key: sent.get(key, "").replace("\r\n", "\n") for key in _BROWSED}
            if sent.get("do") == "import":
                return await _imported(request, asking, target, draft)
            nodes = await _nodes(draft)
            document |= {name: node.plain() for name, node in nodes.items()} | document_of(_OF_JOURNEY, sent)
            document["evidence"] = document_of(_OF_EVIDENCE, sent)
        if sent.get("do") == "check":
            shows_all = {"evidence": {"keep": "always", "trace": "always"}} if nodes else {}
            preview = await tools.check_now(request, asking, document | {"retries": 0} | shows_all)
            return await _page(request, asking, target, draft, preview=preview)
        stored = await saving.create(services, asking, "beat", document)
    except (ProblemError, objects.TakenError) as refused:
        return await _page(request, asking, target, draft, refused, nodes=nodes)
    return go(address("beat", stored.slug, draft["page"] or None), "added")


async def _imported(request: Request, asking: Principal, target: str, draft: dict[str, Any]) -> Response:
    """The form with the steps of a recording instead of its own; where that is none, as it was."""
    try:
        spec, notes = await asyncio.to_thread(services_of(request).recorded, draft["recording"])
    except ValueError as wrong:
        return await _page(request, asking, target, draft, invalid([("/recording", str(wrong))]))
    text = text_of({"steps": spec["steps"]}).partition("\n")[2]
    steps = "".join(line.removeprefix("  ") for line in text.splitlines(keepends=True))
    draft |= {"steps": steps, "recording": ""} | {
        one.name: spec[one.name] for one in _OF_JOURNEY if one.name in spec
    }
    return await _page(request, asking, spec.get("url", target), draft, notes=notes)


async def _nodes(draft: Mapping[str, Any]) -> dict[str, Node]:
    """What the editors of a journey say. Raises 422 with the lines."""
    read = {name: await yaml_of(draft[name]) for name in _YAML if draft[name]}
    if wrong := [(f"/{name}", ": ".join(said)) for name, (_, found) in read.items() for said in found]:
        raise invalid(wrong)
    return {name: node for name, (node, _) in read.items()}


def _document(check: Mapping[str, Any], draft: Mapping[str, Any], regions: list[str]) -> dict[str, Any]:
    """The beat that the form describes, as the API takes it."""
    document = dict(check) | {key: draft[key] for key in (*_PLAIN, "components", "channels") if draft[key]}
    if set(draft["regions"]) != set(regions):
        document["regions"] = draft["regions"]
    if draft["depends_on"]:
        document["depends_on"] = listed(draft["depends_on"])
    if draft["contains"]:
        # A status assertion of one's own is not there, so that 200 to 299 is still needed.
        document["assertions"] = [{"of": "body", "contains": draft["contains"]}]
    return document


# ---- that no probe runs


@router.get("/{kind}")
@permits(Permission.WRITE)
async def new_pushed(request: Request, asking: Asking, kind: Pushed) -> Response:
    """The form."""
    return await _form(request, asking, "new_pushed.html", _BLANK | {"grace": "1m"}, kind=kind)


@router.post("/{kind}")
@permits(Permission.WRITE)
async def create_pushed(request: Request, asking: Asking, kind: Pushed) -> Response:
    """Save it, and go to its page, which shows a heartbeat's URL."""
    sent = await fields(request)
    draft = {name: sent.get(name, "") for name in _BLANK}
    names = _BLANK if kind == "heartbeat" else _NAMES
    document = {"type": kind} | filled({name: draft[name] for name in names})
    try:
        stored = await saving.create(services_of(request), asking, "beat", document)
    except (ProblemError, objects.TakenError) as refused:
        return await _form(request, asking, "new_pushed.html", draft, refused, kind=kind)
    return go(address("beat", stored.slug, draft["page"] or None), f"added_{kind}")
