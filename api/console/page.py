"""How a console page is made: its template, what all pages share, and the headers that keep its content inert."""

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.auth import ANONYMOUS, Permission, Principal, Router, permits
from api.console import charts, words
from api.console.files import static_url
from api.context import services_of
from api.problems import ProblemError
from engine.store import views
from engine.store.database import Connection
from engine.store.ids import show
from engine.store.objects import Stored
from engine.store.states import moment
from rules import markdown
from rules.duration import format_duration

CSP: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types upbeat"
)
SAID: Final = {
    "run": "Every region was asked for a run. Results show here as they arrive; a manual run never votes.",
    "paused": "Paused. Nobody is told anything until it runs again.",
    "resumed": "Resumed. The stage follows once enough regions have answered anew.",
    "added_heartbeat": "Added. It waits for the first ping of its URL.",
    "added_external": "Added. It is ok until somebody reports otherwise.",
    "rotated": "The heartbeat has another URL; the old one has stopped.",
    "added": "Added. The first results show here within seconds.",
    "saved": "Saved.",
    "maintained": "Maintenance has begun: what it covers opens nothing until it is over.",
    "ended": "Maintenance is over: what is still bad opens now.",
    "extended": "It lasts longer now; what was announced says so.",
    "cancelled": "Cancelled: what was announced says so.",
    "removed": "Deleted.",
    "approved": "Approved: it is on the status page.",
    "approved_once": "Approved by you: one more person has to, then it is on the status page.",
    "rejected": "Rejected: customers are told nothing.",
    "begun": "The incident is on the status page.",
    "said": "Said: it is on the status page.",
    "drafted": "It waits for a reviewer: customers are told nothing before.",
    "merged": "Merged: the other incident goes on for both.",
    "taken_over": "It is in your hands: its beat or group says nothing more of it by itself.",
    "handed_back": "Its beat or group speaks of it again.",
    "report_published": "The report is on the status page.",
    "revised": "Saved as a new revision.",
    "retry": "It is tried again now.",
    "added_trigger": "Saved. It judges and shows events from now on; enable it, and it opens signals.",
    "enabled": "Enabled: what it takes opens signals from now on.",
    "disabled": "Disabled: it opens nothing, and what is open may still end.",
    "ended_signal": "Ended by hand. The next event that fires opens it again.",
    "promoted": "Promoted: what its target allows too is said without a review.",
    "proved": "The record is there: the page is shown on its host name from now on.",
    "asked_subscriber": "Added: they are sent a link, and told once they confirmed.",
    "added_subscriber": "Added: they are told from now on.",
    "known_subscriber": "They were there already, and are as they were.",
    "told": "It is on its way.",
    "connected": "Connected. Channels of the kind slack_bot may use it.",
    "disconnected": "Disconnected.",
    "unlinked": "No longer linked.",
    "stored": "Stored. What refers to it uses the new value within seconds.",
    "revoked": "Revoked: it opens nothing from now on.",
    "signed-out": "You are signed out.",
}
"""What a page may say on top. The address names one of these, so that nobody can make a page say something else."""

router = Router(include_in_schema=False)


def _environment() -> Environment:
    """The console's templates, everything escaped."""
    made = Environment(
        loader=PackageLoader("api.console"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "short": charts.shown,
        "percent": charts.percent,
        "iso": words.iso,
        "clock": words.clock,
        "lasting": words.lasting,
        "duration": format_duration,
        "words": words.spelled,
        "static": static_url,
        "shown_id": lambda value, kind: show(kind, value),
        "tojson_text": words.plain,
        "pairs": words.pairs,
        "seen": words.seen,
        "cut": words.cut,
        "found": words.found,
        "days_left": words.days_left,
        "markdown": lambda text: Markup(markdown.html(text)),  # noqa: S704 - it is made to be shown as it is
    }
    made.globals |= {"at": words.address, "sparkline": charts.sparkline}
    return made


TEMPLATES: Final = _environment()


async def render(
    request: Request, connection: Connection, template: str, status: int = 200, **values: Any
) -> Response:
    """A page for who is signed in."""
    asking: Principal = request.state.principal
    waiting = await views.pending(connection, asking.pages_for(Permission.READ))
    shared = {"asking": asking, "waiting": waiting, **values}
    return await asyncio.to_thread(bare, request, template, status, **shared)  # Markdown may take a while


def bare(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page that needs no database: for signing in, and for problems."""
    asking: Principal = getattr(request.state, "principal", ANONYMOUS)
    shared = {
        "asking": asking,
        "waiting": 0,
        "now": now(request),
        "guide": services_of(request).guide() if not asking.is_anonymous else None,
        "method": request.method,
        "path": request.url.path,
        "viewed": request.query_params.get("from", request.url.path),
        "may": lambda permission, page_id=None: asking.may(Permission[permission], page_id),
        "edits": asking.pages_for(Permission.WRITE) != [],
        "administers": asking.pages_for(Permission.ADMIN) != [],
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


def go_to(request: Request, stored: Stored, said: str) -> Response:
    """Back to the page of an object that this was about, of the page that the address names."""
    return go(words.address(stored.kind, stored.slug, request.query_params.get("page")), said)


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
