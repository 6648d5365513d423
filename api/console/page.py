"""How a console page is made: its template, what all pages share, and the headers that keep its content inert."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from importlib import resources
from typing import Any, Final
from urllib.parse import quote, urlencode
from uuid import UUID

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Message

from api.auth import ANONYMOUS, Permission, Principal, Router, permits
from api.console import charts
from api.context import services_of
from api.problems import ProblemError, missing
from engine.store import views
from engine.store.database import Connection, Row
from engine.store.ids import show
from engine.store.states import moment
from rules.duration import format_duration

CSP: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types upbeat"
)
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_STATIC: Final = {
    file.name: file.read_bytes()
    for file in resources.files("api.console").joinpath("static").iterdir()
    if file.name.rpartition(".")[2] in _TYPES
}
_DIGESTS: Final = {name: hashlib.sha256(body).hexdigest()[:12] for name, body in _STATIC.items()}

PART: Final = 50
"""Rows of a long list that are shown at once."""

SAID: Final = {
    "run": "Every region was asked for a run. Results show here as they arrive; a manual run never votes.",
    "paused": "Paused. Nothing is measured, and nobody is told anything, until it is resumed.",
    "resumed": "Resumed. The stage follows once enough regions have answered anew.",
    "added": "Added. The first results show here within seconds.",
    "saved": "Saved.",
    "removed": "Deleted.",
    "approved": "Approved: it is on the status page.",
    "rejected": "Rejected: customers are told nothing.",
    "revised": "Saved as a new revision.",
    "retry": "It is tried again now.",
    "revoked": "Revoked: it opens nothing from now on.",
    "signed-out": "You are signed out.",
}
"""What a page may say on top. The address names one of these, so that nobody can make a page say something else."""

router = Router(include_in_schema=False)


# ---- what templates may use


def environment(package: str) -> Environment:
    """Templates of `package`, everything escaped; the console's macros are there for all."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("api.console")]),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "short": charts.shown,
        "percent": charts.percent,
        "iso": iso,
        "clock": clock,
        "lasting": lasting,
        "duration": format_duration,
        "words": words,
        "static": static_url,
        "shown_id": lambda value, kind: show(kind, value),
        "tojson_text": plain,
        "pairs": pairs,
    }
    made.globals |= {"at": address, "sparkline": charts.sparkline}
    return made


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(moment: datetime) -> str:
    """A moment for people, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def lasting(seconds: float) -> str:
    """A duration for people: its two largest units."""
    left, parts = int(max(seconds, 0)), []
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size_s)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"


def words(name: str) -> str:
    """`major_outage` as people read it."""
    return name.replace("_", " ")


def plain(value: Any) -> str:
    """Any JSON value as text; a text is itself."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def pairs(items: Sequence[Any]) -> list[tuple[Any, Any]]:
    """A list's items with their names: headers come as pairs, the rest has its number."""
    return [
        (*item,) if isinstance(item, list) and len(item) == 2 else (n, item)
        for n, item in enumerate(items, 1)
    ]


def address(kind: str, slug: str, page: str | None = None, *more: str, **query: object) -> str:
    """Where an object's page is: `/console/beats/api?page=shop`."""
    path = "/".join(quote(part, safe="") for part in (f"{kind}s", slug, *more))
    asked = urlencode({name: value for name, value in ({"page": page} | query).items() if value is not None})
    return f"/console/{path}" + (f"?{asked}" if asked else "")


def static_url(name: str) -> str:
    """The address of a static file, which changes when its content does."""
    return f"/static/{_DIGESTS[name]}/{name}"


TEMPLATES: Final = environment("api.console")


# ---- answers


async def render(
    request: Request, connection: Connection, template: str, status: int = 200, **values: Any
) -> Response:
    """A page for who is signed in."""
    asking: Principal = request.state.principal
    waiting = await views.pending(connection, asking.pages_for(Permission.READ))
    return bare(request, template, status, asking=asking, waiting=waiting, **values)


def bare(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page that needs no database: for signing in, and for problems."""
    asking: Principal = getattr(request.state, "principal", ANONYMOUS)
    query = request.url.query
    shared = {
        "asking": asking,
        "waiting": 0,
        "now": now(request),
        "guide": services_of(request).guide() if not asking.is_anonymous else None,
        "method": request.method,
        "path": request.url.path,
        "viewed": request.query_params.get("from", request.url.path),
        "here": request.url.path + (f"?{query}" if query else ""),
        "may": lambda permission, page_id=None: asking.may(Permission[permission], page_id),
        "notice": SAID.get(request.query_params.get("said", "")),
        "request_id": getattr(request.state, "request_id", ""),
    }
    body = TEMPLATES.get_template(template).render(shared | values)
    return HTMLResponse(body, status, {"Content-Security-Policy": CSP})


def now(request: Request) -> datetime:
    """The clock's time."""
    return moment(services_of(request).clock.epoch_s())


def go(url: str, said: str | None = None) -> Response:
    """See other: what a form's POST answers. `said` is a key of `SAID`, shown there."""
    if said:
        url += ("&" if "?" in url else "?") + urlencode({"said": said})
    return RedirectResponse(url, 303)


async def html_problem(request: Request, problem: ProblemError) -> Response:
    """How a browser is shown a refusal; who is not signed in is sent to sign in and back."""
    if problem.status == 401 and request.method == "GET":
        query = request.url.query
        back = request.url.path + (f"?{query}" if query else "")
        return go("/console/login?" + urlencode({"next": back}))
    title = HTTPStatus(problem.status).phrase
    response = bare(request, "problem.html", problem.status, problem=problem, title=title)
    response.headers.update(problem.headers)
    return response


# ---- what routes share


async def fields(request: Request) -> dict[str, str]:
    """The texts of a form."""
    form = await request.form()
    return {name: value.strip() for name, value in form.items() if isinstance(value, str) and name != "csrf"}


async def ticked(request: Request, name: str) -> list[str]:
    """The values of a form's check boxes called `name`."""
    return [value for value in (await request.form()).getlist(name) if isinstance(value, str)]


def filled(values: Mapping[str, str]) -> dict[str, str]:
    """Those of a form that were filled in."""
    return {name: value for name, value in values.items() if value}


def as_json(request: Request, document: Any) -> Request:
    """The request as REST would have got it: the same asker, `document` as its body."""
    kept = [pair for pair in request.scope["headers"] if pair[0] not in (b"content-type", b"content-length")]
    body = json.dumps(document).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({**request.scope, "headers": [*kept, (b"content-type", b"application/json")]}, receive)


def older(rows: Sequence[Row], column: str) -> str | None:
    """The cursor behind the first `PART` of `rows`, when there are more."""
    if len(rows) <= PART:
        return None
    last = rows[PART - 1]
    return f"{last[column].timestamp():.6f}_{last['id'].hex}"


def before(request: Request) -> tuple[datetime, UUID] | None:
    """What `older` said, as it comes back."""
    text = request.query_params.get("before", "")
    match = re.fullmatch(r"(\d{1,10}\.\d{6})_([0-9a-f]{32})", text, re.ASCII)
    return (moment(float(match[1])), UUID(match[2])) if match else None


def mistakes_of(problem: ProblemError) -> list[tuple[str, str]]:
    """(where, what) of a refused form."""
    return list(problem.errors) or [("", problem.detail)]


def whole(text: str | None, default: int) -> int:
    """A positive number in a query, else the default."""
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text[:10]) < 10**9 else default


@router.get("/static/{digest}/{name}")
@permits(Permission.PUBLIC)
async def static(digest: str, name: str) -> Response:
    """Style, script and icon; kept by browsers for good, as the address changes with the content."""
    if name not in _STATIC or digest != _DIGESTS[name]:
        raise missing("there is no such file")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_STATIC[name], 200, headers, media_type=_TYPES[name.rpartition(".")[2]])


@router.get("/")
@permits(Permission.PUBLIC)
async def root() -> Response:
    """Operators come in here; customers are given the address of their page."""
    return RedirectResponse("/console", 302)


@router.get("/console/guide")
@permits(Permission.READ)
async def guide(request: Request) -> Response:
    """What the demo says now, for pages to keep theirs fresh."""
    return bare(request, "guide.html")
