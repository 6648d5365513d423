"""The editor of templates: of a page, beat, group or trigger, with what customers would read of what was last seen. Saving is `api.saving`'s."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import validated
from api.console.forms import Mistakes, fields
from api.console.page import go, render
from api.console.specs import AnyNamed
from api.console.words import address
from api.context import services_of
from api.problems import ProblemError, missing
from api.showing import page_slugs
from api.templates import AskedRendering, preview
from engine.store.objects import Stored
from rules.wording import VARIANTS, presets

_TEMPLATED: Final = ("page", "beat", "group", "trigger")
_NAMES: Final = {
    "open": "An incident begins",
    "update": "An update",
    "reopened": "It is bad again",
    "member": "Another member is bad",
    "resolve": "It is over",
}

_BLANK: Final[dict[str, Any]] = dict.fromkeys(("preset", "title", "text", "format"))

router = Router(prefix="/console", include_in_schema=False)


@router.get("/{kinds}/{ref}/templates")
@permits(Permission.READ)
async def templates_page(request: Request, asking: Asking, stored: AnyNamed) -> Response:
    """What is stored, and what it says."""
    return await _page(request, asking, stored, stored.spec.get("templates", {}))


@router.post("/{kinds}/{ref}/templates")
@permits(Permission.READ)
async def edit_templates(request: Request, asking: Asking, stored: AnyNamed) -> Response:
    """Save what was written, or only show what it says."""
    sent = await fields(request)
    document = _document(sent)
    if sent.get("do") != "save":
        return await _page(request, asking, stored, document)
    try:
        patch = {"templates": _replacing(document) if document else None}
        await saving.change(services_of(request), asking, stored, patch, patch=True)
    except ProblemError as refused:
        if refused.status != 422:
            raise
        return await _page(request, asking, stored, document, list(refused.errors))
    async with services_of(request).pool.acquire() as db:
        home = (await page_slugs(db)).get(stored.page_id) if stored.page_id else None
    return go(address(stored.kind, stored.slug, home, "templates"), "saved")


def _document(sent: Mapping[str, str]) -> dict[str, Any]:
    """The templates that a form describes."""
    found: dict[str, Any] = {}
    for name in VARIANTS:
        words = {
            "preset": sent.get(f"{name}_preset"),
            "title": sent.get(f"{name}_title"),
            "text": sent.get(f"{name}_text", "").replace("\r\n", "\n"),
            "format": "markdown" if f"{name}_markdown" in sent else None,
        }
        if any(words[key] for key in ("preset", "title", "text")):
            found[name] = {key: value for key, value in words.items() if value}
    return found


def _replacing(document: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch that leaves nothing of what was there."""
    return {name: _BLANK | document[name] if name in document else None for name in VARIANTS}


async def _page(
    request: Request,
    asking: Principal,
    stored: Stored,
    document: dict[str, Any],
    mistakes: Mistakes | None = None,
) -> Response:
    if stored.kind not in _TEMPLATED:
        raise missing("there is nothing at this address")
    from rules.template import FILTERS, VARIABLES

    async with services_of(request).pool.acquire() as db:
        told = None
        try:
            asked = validated(AskedRendering, {"templates": document})
            told = await preview(request, db, asking, stored, asked)
        except ProblemError as refused:
            mistakes = mistakes or list(refused.errors)
        return await render(
            request,
            db,
            "templates.html",
            422 if mistakes else 200,
            stored=stored,
            home=(await page_slugs(db)).get(stored.page_id) if stored.page_id else None,
            given={
                name: _BLANK | document.get(name, {})
                for name in VARIANTS
                if name != "member" or stored.kind != "beat"
            },
            names=_NAMES,
            told={step["step"]: step for step in told["steps"]} if told else {},
            seen=told,
            presets=list(presets().values()),
            variables=VARIABLES,
            filters={name: said for name, (_, said) in FILTERS.items()},
            mistakes=mistakes or [],
            editable=stored.managed_by == "api" and saving.may_edit(asking, stored),
        )
