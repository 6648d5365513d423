"""A new beat that no probe runs: a heartbeat, which shows its URL right after, or one that others report about."""

from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import fields, mistakes_of
from api.console.page import go, render
from api.console.words import address
from api.context import services_of
from api.problems import ProblemError
from engine.store import objects

Kind = Literal["heartbeat", "external"]
_PLAIN: Final = ("slug", "name", "page")
_OF_HEARTBEAT: Final = ("every", "cron", "timezone", "grace", "max_duration")
_BLANK: Final = dict.fromkeys((*_PLAIN, *_OF_HEARTBEAT), "")

router = Router(prefix="/console/beats/new", include_in_schema=False)


@router.get("/{kind}")
@permits(Permission.WRITE)
async def new_page(request: Request, asking: Asking, kind: Kind) -> Response:
    """The form."""
    return await _page(request, asking, kind, _BLANK | {"grace": "1m"}, {}, [])


async def _page(
    request: Request,
    asking: Principal,
    kind: Kind,
    draft: dict[str, str],
    errors: dict[str, str],
    mistakes: list[tuple[str, str]],
    status: int = 200,
) -> Response:
    async with services_of(request).pool.acquire() as db:
        found = await objects.listing(db, "page", pages=asking.pages_for(Permission.WRITE))
        pages = [(stored.slug, stored.spec["name"]) for stored in found]
        shown: dict[str, Any] = {"draft": draft, "errors": errors, "mistakes": mistakes, "pages": pages}
        return await render(request, db, "new_pushed.html", status, kind=kind, **shown)


@router.post("/{kind}")
@permits(Permission.WRITE)
async def create(request: Request, asking: Asking, kind: Kind) -> Response:
    """Save it, and go to its page."""
    sent = await fields(request)
    draft = {name: sent.get(name, "") for name in _BLANK}
    names = (*_PLAIN, *(_OF_HEARTBEAT if kind == "heartbeat" else ()))
    document = {"type": kind} | {name: draft[name] for name in names if draft[name]}
    try:
        stored = await saving.create(services_of(request), asking, "beat", document)
    except objects.TakenError as taken:
        return await _page(request, asking, kind, draft, {"slug": str(taken)}, [], 409)
    except ProblemError as refused:
        told = mistakes_of(refused)
        beside = {pointer[1:]: said for pointer, said in told if pointer[1:] in _BLANK}
        rest = [(pointer, said) for pointer, said in told if pointer[1:] not in beside]
        return await _page(request, asking, kind, draft, beside, rest, refused.status)
    return go(address("beat", stored.slug, draft["page"] or None), f"added_{kind}")
