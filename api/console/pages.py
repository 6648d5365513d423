"""One place for all of a status page: what it says, its look, who is let in, its host name, pictures, and what others may embed.

A form over `rules.page`; saving is `api.saving`'s. What the form does not have is in the page's declaration.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args
from zoneinfo import available_timezones

import msgspec
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from api import domains, pictures, saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import Mistakes, fields, mistakes_of, ticked, whole, with_body
from api.console.page import go_to, render
from api.context import services_of
from api.domains import ShownDomain
from api.objects import locate
from api.origin import base_url
from api.problems import ProblemError
from api.status.access import proof_of, seal_of
from api.status.badge import COLOURS
from api.status.previews import keyed
from api.status.snippets import snippets
from api.status.view import Place
from engine.store import assets, hosts
from engine.store.objects import StaleError, Stored
from engine.store.signing import signing_key
from rules.language import LANGUAGES, language
from rules.page import Page, PictureUse, SubscriberKind

_DOMAIN: Final = msgspec.json.Decoder(ShownDomain)
_DEFAULTS: Final = Page(slug="x", name="x").model_dump(mode="json")
_LINES: Final = ("frames", "access.networks", "access.emails")
_TEXTS: Final = (
    "name", "description", "homepage", "contact", "timezone", "domain", "look.theme", "look.style", "look.css",
    "subscribers.sender", "subscribers.reply_to",
)  # fmt: skip
_TICKS: Final = ("indexed", "look.branded")
_PICTURES: Final[dict[PictureUse, str]] = {
    "logo": "Logo",
    "logo-dark": "Logo on dark ground",
    "favicon": "Icon of the browser's tab",
}

router = Router(prefix="/console", include_in_schema=False)


@router.get("/pages/{ref}")
@permits(Permission.READ)
async def settings_page(request: Request, asking: Asking, ref: str) -> Response:
    """What is stored."""
    return await _page(request, asking, await _named(request, asking, ref))


@router.post("/pages/{ref}")
@permits(Permission.READ)
async def settings(request: Request, asking: Asking, ref: str) -> Response:
    """Save what the form says, or show it with what is wrong."""
    stored = await _named(request, asking, ref)
    sent = await fields(request)
    sent["access.password"] = "".join(
        await ticked(request, "access.password")
    )  # blanks around it are part of it
    patch = _patch(sent, await ticked(request, "languages"), await ticked(request, "kinds"))
    expected = whole(sent.get("revision"), stored.revision)
    try:
        await saving.change(services_of(request), asking, stored, patch, patch=True, expected=expected)
    except StaleError:
        return await _page(request, asking, await _named(request, asking, ref), patch, changed=True)
    except ProblemError as refused:
        if refused.status != 422:
            raise
        return await _page(request, asking, stored, patch, mistakes_of(refused))
    return go_to(request, stored, "saved")


async def _named(request: Request, asking: Principal, ref: str) -> Stored:
    async with services_of(request).pool.acquire() as db:
        return await locate(db, asking, "page", ref)


def _patch(sent: Mapping[str, str], languages: list[str], kinds: list[str]) -> dict[str, Any]:
    """A merge patch of all that the form has; what was left empty has its default."""
    values: dict[str, Any] = {name: sent.get(name, "").replace("\r\n", "\n") or None for name in _TEXTS}
    values |= {name: sent.get(name, "").replace(",", " ").split() or None for name in _LINES}
    values |= {name: name in sent for name in _TICKS}
    values |= {f"look.colours.{of}": sent.get(of) if f"{of}_own" in sent else None for of in COLOURS}
    values["look.accent"] = sent.get("look.accent") if "accent_own" in sent else None
    values["languages"] = list(dict.fromkeys([sent.get("language") or "en", *languages]))
    values["subscribers.kinds"] = kinds
    if values["frames"] == ["any"]:
        values["frames"] = "any"
    if sent["access.password"] or "access.open" in sent:
        values["access.password"] = sent["access.password"] or None
    patch: dict[str, Any] = {}
    for name, value in values.items():
        *outer, last = name.split(".")
        inner = patch
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return patch


@router.post("/pages/{ref}/pictures/{name}")
@permits(Permission.WRITE)
async def upload(request: Request, asking: Asking, ref: str, name: PictureUse) -> Response:
    """Show this picture, or say what is wrong with it."""
    stored = await _named(request, asking, ref)
    async with request.form() as form:
        file = form.get("file")
        body = await file.read() if isinstance(file, UploadFile) else b""
    try:
        await pictures.put_picture(with_body(request, body, b"image/*"), asking, ref, name)
    except ProblemError as refused:
        if refused.status != 422:
            raise
        return await _page(request, asking, stored, mistakes=mistakes_of(refused))
    return go_to(request, stored, "saved")


@router.post("/pages/{ref}/pictures/{name}/delete")
@permits(Permission.WRITE)
async def take_away(request: Request, asking: Asking, ref: str, name: PictureUse) -> Response:
    """Show none any more."""
    await pictures.delete_picture(request, asking, ref, name)
    return go_to(request, await _named(request, asking, ref), "removed")


@router.post("/pages/{ref}/domain/check")
@permits(Permission.WRITE)
async def check_domain(request: Request, asking: Asking, ref: str) -> Response:
    """Look for the record now, and say what was found."""
    stored = await _named(request, asking, ref)
    checked = _DOMAIN.decode((await domains.check_domain(request, asking, stored)).body)
    if checked.problem:
        return await _page(request, asking, stored, domain=checked)
    return go_to(request, stored, "proved")


async def _page(
    request: Request,
    asking: Principal,
    stored: Stored,
    patch: Mapping[str, Any] | None = None,
    mistakes: Mistakes | None = None,
    *,
    changed: bool = False,
    domain: ShownDomain | None = None,
) -> Response:
    spec = saving.merged(stored.spec, patch or {})
    given = saving.merged(_DEFAULTS, spec)
    access = (patch or {}).get("access", {})  # what was written stays, or a mistake elsewhere would lose it
    services, editable = services_of(request), saving.may_edit(asking, stored)
    rule = Page.model_validate(stored.spec)
    if domain is None and rule.domain and asking.may(Permission.WRITE, stored.id):
        domain = _DOMAIN.decode((await domains.read_domain(request, asking, stored)).body)
    async with services.pool.acquire() as db:
        is_elsewhere = bool(rule.domain and await hosts.verified_at(db, rule.domain, stored.id))
        seal = seal_of(await signing_key(db), stored.id)
        place = Place(
            "" if is_elsewhere else f"/p/{stored.slug}",
            f"{base_url(request).partition('://')[0]}://{rule.domain}" if is_elsewhere else base_url(request),
            language(rule.languages[0]),
            key=proof_of(rule, seal, services.secrets.of(stored.id)) if editable else "",
        )
        files = await assets.files(db, stored.id)
        return await render(
            request,
            db,
            "page.html",
            412 if changed else 422 if mistakes else 200,
            stored=stored,
            given=given,
            has_password=bool(rule.access.password),
            password=access.get("password") or "",
            is_opened="password" in access and access["password"] is None,
            is_private=not rule.access.is_public,
            wrong={where.strip("/0123456789").replace("/", "."): said for where, said in mistakes or []},
            mistakes=mistakes or [],
            changed=changed,
            editable=editable and stored.managed_by == "api",
            languages=[(code, language(code).name) for code in dict.fromkeys([*rule.languages, *LANGUAGES])],
            zones=sorted(available_timezones()),
            colours=COLOURS,
            kinds=get_args(SubscriberKind),
            pictures={name: (said, files.get(name)) for name, said in _PICTURES.items()},
            url=place.url(),
            shown=f"/p/{stored.slug}",
            badge=keyed(place, "badge.svg") if place.key or rule.access.is_public else None,
            snippets=snippets(place, rule.name),
            domain=domain,
        )
