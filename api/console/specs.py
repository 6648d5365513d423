"""A declared object as YAML: read, changed and deleted, with mistakes at their lines. What may be saved is `api.saving`."""

import json
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import Mistakes, fields, line_of, whole, yaml_of
from api.console.page import go, render
from api.console.words import address
from api.context import services_of
from api.objects import PageRef, locate
from api.problems import ProblemError, missing
from api.showing import page_slugs
from engine.store.objects import StaleError, Stored
from rules.declared import Declared
from rules.export import dump
from rules.known import KINDS, plural
from rules.settings import Settings

router = Router(prefix="/console", include_in_schema=False)


async def _named(request: Request, asking: Asking, kinds: str, ref: str, page_ref: PageRef = None) -> Stored:
    kind = next((kind for kind in KINDS if kinds == plural(kind)), None)
    if kind is None:
        raise missing("there is nothing at this address")
    async with services_of(request).pool.acquire() as db:
        return await locate(db, asking, kind, ref, page_ref)


AnyNamed = Annotated[Stored, Depends(_named)]


def as_text(stored: Stored, asking: Principal) -> str:
    """`stored` as one entry of an `upbeat.yaml`; for who may not edit it, as JSON with its secrets hidden."""
    if not saving.may_edit(asking, stored):
        return json.dumps(saving.masked(stored.spec, stored.kind), indent=2, ensure_ascii=False)
    rule = saving.rule_of(stored.kind, stored.spec)
    text = dump([Declared(stored.kind, stored.slug, None, rule, 0)], Settings())
    # The one entry of a list: `  - slug: x`, the rest indented as far.
    entry = text.partition(f"{plural(stored.kind)}:\n")[2]
    return "\n".join(line[4:] for line in entry.splitlines()) or f"slug: {stored.slug}"


@router.get("/{kinds}/{ref}/edit")
@permits(Permission.READ)
async def edit_page(request: Request, asking: Asking, stored: AnyNamed) -> Response:
    """The object's declaration."""
    return await _page(request, asking, stored, as_text(stored, asking), [])


async def _page(
    request: Request,
    asking: Principal,
    stored: Stored,
    text: str,
    mistakes: Mistakes,
    *,
    status: int = 200,
    changed: bool = False,
) -> Response:
    async with services_of(request).pool.acquire() as db:
        page_slug = (await page_slugs(db)).get(stored.page_id) if stored.page_id else None
        return await render(
            request,
            db,
            "edit.html",
            status,
            stored=stored,
            text=text,
            mistakes=mistakes,
            changed=changed,
            page_slug=page_slug,
            kinds=plural(stored.kind),
            editable=stored.managed_by == "api" and saving.may_edit(asking, stored),
            back=_back(stored, page_slug),
        )


def _back(stored: Stored, page_slug: str | None) -> str:
    has_page = stored.kind in ("beat", "group", "inbox", "page", "publisher", "trigger")
    return address(stored.kind, stored.slug, page_slug) if has_page else f"/console/{plural(stored.kind)}"


@router.post("/{kinds}/{ref}/edit")
@permits(Permission.WRITE)
async def edit(request: Request, asking: Asking, stored: AnyNamed) -> Response:
    """Save it, or show every mistake at its line."""
    sent = await fields(request)
    text = sent.get("text", "").replace("\r\n", "\n")
    node, mistakes = await yaml_of(text)
    if mistakes:
        return await _page(request, asking, stored, text, mistakes, status=422)
    try:
        expected = whole(sent.get("revision"), stored.revision)
        await saving.change(services_of(request), asking, stored, node.plain(), expected=expected)
    except ProblemError as refused:
        if refused.status != 422:
            raise
        mistakes = [(line_of(node, pointer), message) for pointer, message in refused.errors]
        return await _page(request, asking, stored, text, mistakes, status=422)
    except StaleError:
        return await _page(request, asking, stored, text, [], status=412, changed=True)
    return go(_back(stored, request.query_params.get("page")), "saved")


@router.post("/{kinds}/{ref}/delete")
@permits(Permission.WRITE)
async def delete(request: Request, asking: Asking, stored: AnyNamed) -> Response:
    """Take it away."""
    await saving.remove(services_of(request), asking, stored)
    return go("/console" if stored.kind == "beat" else f"/console/{plural(stored.kind)}", "removed")
