"""Checks without saving, and the document: check a URL now, validate, export, schema. It changes nothing."""

import asyncio
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_json, reply, takes
from api.context import services_of
from api.problems import ProblemError, invalid
from api.saving import masked, may_edit, rule_of, unlent
from engine.store import installation, objects
from engine.store.database import Connection
from engine.store.objects import Stored
from engine.tasks import end
from rules.beat import AnyBeat, Beat
from rules.config import Declared, dump, json_schema, parse
from rules.kinds.browser import BrowserBeat
from rules.kinds.kind import ProbedRule
from rules.known import KINDS
from rules.problem import ConfigError, show
from rules.secret import Unjudged, UnsetReferenceError
from rules.settings import Settings

CHECKS_AT_ONCE: Final = 8
JOURNEYS_AT_ONCE: Final = 2
MOST_CHECK_S: Final = 30.0
MOST_JOURNEY_S: Final = 60.0

router = Router(prefix="/api/v1", tags=["tools"])
_checks, _journeys = asyncio.Semaphore(CHECKS_AT_ONCE), asyncio.Semaphore(JOURNEYS_AT_ONCE)


@router.post("/check")
@permits(Permission.WRITE)
@takes(Beat)
async def check(request: Request, asking: Asking) -> Response:
    """Run a beat that is not saved, now; `{url}` alone is enough."""
    return reply(await check_now(request, asking, await read_json(request)))


async def check_now(request: Request, asking: Principal, document: Any) -> dict[str, Any]:
    """The result of one run of `document`, in at most 30 s, a journey's in 60 s; it ends when who asked has left.

    Raises 403, 422, 503.
    """
    services = services_of(request)
    if isinstance(document, dict):
        document = {"slug": "check", "type": "http" if "url" in document else None} | document
    rule = rule_of("beat", document)
    assert isinstance(rule, AnyBeat)
    if not isinstance(rule, ProbedRule):
        raise invalid([("/type", rule.not_run())])
    if "retries" not in rule.model_fields_set:
        rule = rule.model_copy(update={"retries": 0})
    is_journey = isinstance(rule, BrowserBeat)
    most_s = MOST_JOURNEY_S if is_journey else MOST_CHECK_S
    if rule.timeout * (rule.retries + 1) > most_s:
        raise invalid([("/timeout", f"a check may take {most_s:.0f} s in all, retries included")])
    async with services.pool.acquire() as db:
        pages = {
            stored.slug: stored.id
            for stored in await objects.listing(db, "page", pages=asking.pages_for(Permission.WRITE))
        }
        home = rule.page or (next(iter(pages)) if len(pages) == 1 else None)
        if home is not None and home not in pages:
            raise invalid([("/page", f"there is no page {show(home)} that you may edit")])
        page_id = pages[home] if home else None
        if errors := await unlent(services, db, asking, document, page_id):
            raise invalid(errors)
    slots = _journeys if is_journey else _checks
    if slots.locked():
        many = f"{JOURNEYS_AT_ONCE} journeys" if is_journey else f"{CHECKS_AT_ONCE} checks"
        raise ProblemError(503, "busy", f"{many} are running", headers={"Retry-After": "5"})
    rule = rule.model_copy(
        update={"interval": min(rule.interval, most_s)}
    )  # nor does it wait longer for a browser
    async with slots:
        run = asyncio.ensure_future(services.check_now(rule, page_id))
        try:
            while not (await asyncio.wait([run], timeout=1))[0]:
                if await request.is_disconnected():
                    raise ProblemError(503, "busy", "who asked for this check has left")
            return run.result()
        except (UnsetReferenceError, ValueError) as refused:
            raise invalid([("", str(refused))]) from None
        finally:
            await end([run])


@router.post("/validate")
@permits(Permission.WRITE, installation=True)
@takes(str)
async def validate(request: Request) -> Response:
    """An `upbeat.yaml` (the raw body): every mistake with its line. Changes nothing."""
    raw = await request.body()
    try:
        text = raw.decode("utf-8")
        document = await asyncio.to_thread(parse, text, "upbeat.yaml", Unjudged())
    except UnicodeDecodeError:
        raise ProblemError(400, "malformed", "the body is not UTF-8") from None
    except ConfigError as wrong:
        problems = [{"line": p.line, "path": p.path, "message": p.message} for p in wrong.problems]
        return reply({"valid": False, "problems": problems, "objects": 0})
    return reply({"valid": True, "problems": [], "objects": len(document.objects)})


@router.get("/export")
@permits(Permission.WRITE)
async def export(request: Request, asking: Asking) -> Response:
    """The objects of the pages one may edit, as `upbeat.yaml`; secrets as they are written. Settings with a role on all."""
    async with services_of(request).pool.acquire() as db:
        whole = asking.may(Permission.WRITE, None)
        settings = Settings.model_validate(await installation.read_settings(db) if whole else {})
        text = dump(await declared(db, asking), settings)
    return Response(text, media_type="application/yaml")


async def declared(db: Connection, asking: Principal) -> list[Declared]:
    """Everything on the pages they may edit, in an order in which later ones refer to earlier ones."""
    pages = asking.pages_for(Permission.WRITE)
    slugs = {stored.id: stored.slug for stored in await objects.listing(db, "page", pages=pages)}
    found = []
    for kind in KINDS:
        for stored in await objects.listing(db, kind, pages=pages):
            page = slugs.get(stored.page_id) if stored.page_id else None
            spec = stored.spec if may_edit(asking, stored) else _without_secrets(stored)
            spec = spec if page is None else spec | {"page": page}
            found.append(Declared(kind, stored.slug, page, rule_of(kind, spec), 0))
    return found


def _without_secrets(stored: Stored) -> dict[str, Any]:
    """For who edits what is on a page, and not the page. What stands for its password must not become it: a secret to store does."""
    spec = masked(stored.spec, stored.kind)
    if "password" in spec.get("access", {}):
        spec["access"] |= {"password": "${secret:PASSWORD}"}
    return spec


@router.get("/schema")
@permits(Permission.PUBLIC)
async def schema() -> Response:
    """JSON Schema of `upbeat.yaml`, for editors."""
    return reply(json_schema())
