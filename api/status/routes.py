"""`/p/{slug}` and `/p/{slug}/status.json`: the same for everybody, so that nobody is asked who they are."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.auth import ANONYMOUS, GuardedRoute, Permission, Router, permits
from api.console.page import CSP, environment
from api.context import Services, services_of
from api.problems import missing
from api.status.document import document, public
from api.status.kept import Copy, Kept, Measured
from api.uptime import first_day
from engine.store import incidents, objects, uptime, views
from engine.store.states import moment

_TEMPLATES = environment("api.status")
_NOW_S = 0.001  # maintenance that touches so much of time is now


class OpenRoute(GuardedRoute):
    """A public route without the guard's work: no session is looked up, so that it lives without the database."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The endpoint itself."""
        assert self.declared.permission is Permission.PUBLIC
        answer: Callable[[Request], Awaitable[Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            request.state.principal = ANONYMOUS
            return await answer(request)

        return handle


router = Router(include_in_schema=False)
router.route_class = OpenRoute


@router.api_route("/p/{slug}", methods=["GET", "HEAD"])
@permits(Permission.PUBLIC)
async def page(request: Request) -> Response:
    """The page."""
    copy = await _copy(request)
    return _answer(request, copy, copy.html, "text/html; charset=utf-8")


@router.api_route("/p/{slug}/status.json", methods=["GET", "HEAD"])
@permits(Permission.PUBLIC)
async def status_json(request: Request) -> Response:
    """The same, for programs."""
    copy = await _copy(request)
    response = _answer(request, copy, copy.json, "application/json")
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


async def _copy(request: Request) -> Copy:
    services = services_of(request)
    kept: Kept | None = getattr(request.app.state, "status_pages", None)
    if kept is None:
        kept = request.app.state.status_pages = Kept(partial(_read, services, Measured()), _render)
    slug, now_s = request.path_params["slug"], services.clock.epoch_s()
    copy = await kept.page(slug, moment(now_s), services.clock.monotonic_s())
    if copy is None:
        raise missing("there is no such status page")
    return copy


def _answer(request: Request, copy: Copy, body: bytes, media_type: str) -> Response:
    headers = {"ETag": copy.etag, "Cache-Control": "public, no-cache", "Content-Security-Policy": CSP}
    asked = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if copy.etag in asked:
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type=media_type)


async def _read(services: Services, measured: Measured, slug: str) -> dict[str, Any] | None:
    now_s = services.clock.epoch_s()
    now = moment(now_s)
    async with services.pool.acquire() as db:
        try:
            stored = await objects.find(db, "page", slug)
        except objects.MissingError:
            return None
        components = await objects.listing(db, "component", pages=[stored.id])
        since = moment(first_day(now_s)) - timedelta(days=1)
        rows = await views.published(db, stored.id, [c.id for c in components], since)
        announced = await views.announced(db, stored.id, [c.id for c in components])
        updates = await incidents.updates(db, [row["id"] for row in [*rows, *announced]])
        days = await measured.days(db, public(components), now_s)
        windows = await uptime.windows(db, components, now_s, now_s + _NOW_S)
    maintained = {component_id for component_id, spans in windows.items() if spans}
    return document(stored, components, rows, updates, days, maintained, announced, now)


def _render(said: dict[str, Any], stale_since: datetime | None) -> str:
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for component in said["components"]:
        groups.setdefault(component["group"], []).append(component)
    return _TEMPLATES.get_template("status.html").render(
        said, groups=groups, past=_past(said["days"]), stale_since=stale_since
    )


def _past(days: list[dict[str, Any]]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(newest day, oldest day, incidents), newest first: quiet days beside each other are one stretch."""
    stretches: list[tuple[str, str, list[dict[str, Any]]]] = []
    for day in days:
        date = f"{datetime.fromisoformat(day['date']):%d %B %Y}".lstrip("0")
        if stretches and not day["incidents"] and not stretches[-1][2]:
            stretches[-1] = (stretches[-1][0], date, [])
        else:
            stretches.append((date, date, day["incidents"]))
    return stretches
