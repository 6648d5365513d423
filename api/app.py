"""The HTTP application: one list of routers, and what all of them share. Its routes are in their own modules."""

import re
from collections.abc import Callable

from fastapi import APIRouter, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import (
    artifacts,
    beats,
    broadcasts,
    channels,
    console,
    domains,
    episodes,
    events,
    explaining,
    health,
    inboxes,
    incidents,
    ingest,
    maintenance,
    objects,
    openapi,
    people,
    pictures,
    pings,
    previews,
    problems,
    publishers,
    pushed,
    received,
    replays,
    reviews,
    secrets,
    session,
    slack,
    static_page,
    status,
    subjects,
    subscribers,
    targets,
    templates,
    tools,
    triggers,
    uptime,
)
from api.context import Services
from api.limits import WINDOW_S, Limiter
from engine.store.ids import new_id

MAX_BODY_BYTES = 1_000_000
LARGER = {f"{root}/subscribers/import": 5_000_000 for root in ("/api/v1", "/console")}
"""Paths that a longer body may be sent to."""
DRAINED_BYTES = 10 * MAX_BODY_BYTES
VERSION = "1"

# One line per router; each module makes its `router` with `api.auth.Router`.
ROUTERS: tuple[APIRouter, ...] = (
    *objects.ROUTERS,
    pictures.router,
    beats.router,
    artifacts.router,
    *subjects.ROUTERS,
    pushed.router,
    explaining.router,
    maintenance.router,
    inboxes.router,
    received.router,
    triggers.router,
    channels.router,
    targets.router,
    reviews.router,
    episodes.router,
    incidents.router,
    publishers.router,
    static_page.router,
    subscribers.router,
    broadcasts.router,
    replays.router,
    previews.router,
    templates.router,
    session.router,
    people.router,
    secrets.router,
    *slack.ROUTERS,
    tools.router,
    *uptime.ROUTERS,
    events.router,
    health.router,
    openapi.router,
    *console.ROUTERS,
    domains.router,
    status.router,
)

# How browsers are shown problems outside /api; the console puts its own page here.
HTML_PROBLEM: problems.HtmlProblem | None = console.html_problem

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A page that needs more sets its own; nothing is ever loaded from elsewhere.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
}


def create_app(services: Services, around: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> FastAPI:
    """The application over `services`. Serve it with uvicorn's `proxy_headers=False`: `trusted_proxies` are ours.

    `around` goes around all but public pages, which are there whatever else is not.
    """
    app = _Application(
        title="Upbeat",
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.limiter = Limiter(WINDOW_S)
    app.state.logins = Limiter(300.0)
    app.state.entrances = Limiter(3600.0)  # links into pages that are not public, asked for by mail
    app.state.subscribing = {}  # limits of asking for links to confirm, by what they are of
    app.state.hub = events.Hub()
    app.state.slack = set()  # what Slack was answered for and is under way
    problems.install(app, HTML_PROBLEM)
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    app.add_middleware(Frame)
    app.state.addresses = status.Addresses(services)
    behind = around(pings.Pings(ingest.Ingest(app.behind, services), services))
    app.front = status.Front(behind, services, app.state.addresses)
    return app


class _Application(FastAPI):
    """FastAPI behind the raw paths, which pay for nothing of it."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        scope["app"] = self
        await self.front(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is for neither of them."""
        await super().__call__(scope, receive, send)


class Frame:
    """Around every request: its id, the cap on its body, security headers, and what it was refused with."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            # PostgreSQL knows no NUL, so nothing can be there.
            scope = {**scope, "path": "/\ufffd", "query_string": b""}
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode(
            "latin-1"
        )
        request_id = given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else f"req_{new_id().hex}"
        scope.setdefault("state", {})["request_id"] = request_id

        is_begun = False

        async def framed(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, _capped(receive, LARGER.get(scope["path"], MAX_BODY_BYTES)), framed)
        except Exception as bug:
            # Here rather than in Starlette's outermost layer, so that a bug's answer is framed like any other.
            if is_begun:
                raise
            response = await problems.answer(Request(scope), bug)
            await response(scope, receive, framed)


def _capped(receive: Receive, most: int) -> Receive:
    taken = 0

    async def capped() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken <= most:
            return message
        # Read on for a while: closing a connection with unread data would destroy the answer on its way.
        while message.get("more_body") and taken < DRAINED_BYTES:
            message = await receive()
            taken += len(message.get("body", b""))
        raise problems.ProblemError(413, "too-large", f"a request may have {most} bytes")

    return capped
