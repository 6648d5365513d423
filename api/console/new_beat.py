"""A new beat from a URL: sensible defaults, a check before saving, and its page right after."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from api import saving, tools
from api.auth import Asking, Permission, Principal, Router, permits
from api.console import charts
from api.console.forms import fields, listed, mistakes_of, ticked
from api.console.page import go, render
from api.console.words import address
from api.context import services_of
from api.problems import ProblemError
from engine.store import objects
from engine.store.database import Connection
from evaluators.model import PHASES
from rules.known import Kind
from rules.pasted import check_of

_PLAIN: Final = ("slug", "name", "interval", "timeout", "degraded_after", "group")
_TEXTS: Final = (*_PLAIN, "contains", "depends_on")
_LISTED: Final = ("regions", "components", "channels")

router = Router(prefix="/console/beats/new", include_in_schema=False)


def _slug(check: Mapping[str, Any]) -> str:
    """A slug that its target suggests: `shop-example-health` for https://shop.example/health."""
    parts = urlsplit(check.get("url", ""))
    text = f"{parts.hostname}{parts.path}" if parts.hostname else check["host"]
    words = re.sub(r"[^a-z0-9]+", "-", text.lower().removeprefix("www.")).strip("-")
    return words[:63].strip("-") or "beat"


def _document(check: Mapping[str, Any], draft: Mapping[str, Any], regions: list[str]) -> dict[str, Any]:
    """The beat that the form describes, as the API takes it."""
    document = dict(check) | {key: draft[key] for key in _PLAIN if draft[key]}
    document |= {key: draft[key] for key in ("components", "channels") if draft[key]}
    if set(draft["regions"]) != set(regions):
        document["regions"] = draft["regions"]
    if draft["depends_on"]:
        document["depends_on"] = listed(draft["depends_on"])
    if draft["contains"]:
        # A status assertion of one's own is not there, so that 200 to 299 is still needed.
        document["assertions"] = [{"of": "body", "contains": draft["contains"]}]
    return document | ({"page": draft["page"]} if draft["page"] else {})


@router.get("")
@permits(Permission.WRITE)
async def new_page(request: Request, asking: Asking) -> Response:
    """The target, then the form that fits it."""
    target = request.query_params.get("target", "").strip()[:4000]
    if not target:
        return await _page(request, asking, target)
    try:
        check = check_of(target)
    except ValueError as wrong:
        return await _page(request, asking, target, errors={"target": str(wrong)}, status=422)
    async with services_of(request).pool.acquire() as db:
        regions = [stored.slug for stored in await objects.listing(db, "region")]
        pages = await _pages(db, asking)
    draft: dict[str, Any] = dict.fromkeys(_TEXTS, "") | {key: [] for key in _LISTED}
    draft |= {"slug": _slug(check), "interval": "60s", "timeout": "10s", "regions": regions}
    return await _page(request, asking, target, draft | {"type": check["type"], "page": pages[0][0]})


async def _pages(db: Connection, asking: Principal) -> list[tuple[str, str]]:
    found = await objects.listing(db, "page", pages=asking.pages_for(Permission.WRITE))
    return [(stored.slug, stored.spec["name"]) for stored in found] or [("", "no page yet")]


async def _page(
    request: Request,
    asking: Principal,
    target: str,
    draft: dict[str, Any] | None = None,
    *,
    errors: Mapping[str, str] | None = None,
    mistakes: list[tuple[str, str]] | None = None,
    preview: dict[str, Any] | None = None,
    status: int = 200,
) -> Response:
    async with services_of(request).pool.acquire() as db:
        pages = await _pages(db, asking)
        writable = asking.pages_for(Permission.WRITE)
        kinds: tuple[Kind, ...] = ("region", "component", "channel", "group")
        lists = {kind: await objects.listing(db, kind, pages=writable) for kind in kinds}
        homes = await objects.listing(db, "page", pages=writable)
        home = next((s.id for s in homes if draft and s.slug == draft["page"]), None)
        offered = {
            f"{kind}s": [s.slug for s in found if s.page_id in (None, home)] for kind, found in lists.items()
        }
        timings = preview["timings"] if preview else {}
        return await render(
            request,
            db,
            "new.html",
            status,
            target=target,
            draft=draft,
            pages=pages,
            **offered,
            choices=[("", "none: it stands alone"), *((slug, slug) for slug in offered["groups"])],
            errors=errors or {},
            mistakes=mistakes or [],
            preview=preview,
            parts=charts.stacked(timings, timings["total"] or 0.0) if timings else (),
        )


@router.post("")
@permits(Permission.WRITE)
async def create(request: Request, asking: Asking) -> Response:
    """Check now, or save and go to its page."""
    sent = await fields(request)
    target = sent.get("target", "")
    draft: dict[str, Any] = {key: sent.get(key, "") for key in (*_TEXTS, "page")}
    draft |= {key: await ticked(request, key) for key in _LISTED}
    try:
        check = check_of(target)
    except ValueError as wrong:
        return await _page(request, asking, target, errors={"target": str(wrong)}, status=422)
    draft["type"] = check["type"]
    services = services_of(request)
    async with services.pool.acquire() as db:
        regions = [stored.slug for stored in await objects.listing(db, "region")]
    document = _document(check, draft, regions)
    try:
        if sent.get("do") == "check":
            preview = await tools.check_now(services, asking, document | {"retries": 0})
            return await _page(request, asking, target, draft, preview=_shown(preview))
        stored = await saving.create(services, asking, "beat", document)
    except (ProblemError, objects.TakenError) as refused:
        problem = refused if isinstance(refused, ProblemError) else ProblemError(409, "taken", str(refused))
        errors, rest = _sorted(mistakes_of(problem), problem.name)
        return await _page(
            request, asking, target, draft, errors=errors, mistakes=rest, status=problem.status
        )
    return go(address("beat", stored.slug, draft["page"] or None), "added")


def _sorted(mistakes: list[tuple[str, str]], name: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Mistakes beside the field they are about, and those that are about none."""
    if name == "taken":
        return {"slug": mistakes[0][1]}, []
    beside = {p[1:]: said for p, said in mistakes if p[1:] in (*_PLAIN, "page")}
    return beside, [(pointer, said) for pointer, said in mistakes if pointer[1:] not in beside]


def _shown(preview: Mapping[str, Any]) -> dict[str, Any]:
    """A check's result with all that a page asks for."""
    timings = dict.fromkeys(PHASES) | dict(preview.get("timings") or {})
    return {"verdict": "error", "error": None, "assertions": []} | dict(preview) | {"timings": timings}
