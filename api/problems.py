"""Every refusal as `application/problem+json` (RFC 9457), in plain words. It decides nothing."""

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import asyncpg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from engine.store import incidents, objects, people, reviews, secrets
from rules.validation import said_of

TYPES = "https://github.com/upbeat-monitoring/upbeat/blob/main/docs/reference/api.md#"
"""Where each kind of problem is explained: its `type` is this and its name."""

_TOKEN: Final = re.compile(r"(^/p/[^/]+/[a-z]+/).+")
"""In the path of what a subscriber is mailed."""
log = logging.getLogger(__name__)

HtmlProblem = Callable[[Request, "ProblemError"], Awaitable[Response]]
"""How a browser is shown a problem, outside /api."""


class ProblemError(Exception):
    """A refusal. `name` is stable, for programs; `detail` is for people; `errors` are (JSON Pointer, message)."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        errors: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail = status, name, detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.members = members

    def document(self, request: Request) -> dict[str, Any]:
        """The body."""
        body: dict[str, Any] = {
            "type": TYPES + self.name,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": request.url.path,
            "request_id": getattr(request.state, "request_id", None),
        }
        if self.errors:
            body["errors"] = [{"pointer": pointer, "message": message} for pointer, message in self.errors]
        return body | self.members


def invalid(errors: Iterable[tuple[str, str]]) -> ProblemError:
    """422: the body is JSON, but not what is allowed."""
    listed = list(errors)
    first = f"{listed[0][0]}: {listed[0][1]}" if listed else "the document is not allowed"
    return ProblemError(422, "invalid", first, errors=listed)


def missing(what: str) -> ProblemError:
    """404: it is not there, or not for you; the same answer for both."""
    return ProblemError(404, "missing", what)


def install(app: FastAPI, html: HtmlProblem | None) -> None:
    """Answer every exception of `app` with a problem; `html` shows it to browsers outside /api."""
    app.state.html_problem = html
    for kind in (*_TRANSLATED, ProblemError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)


async def answer(request: Request, raised: Exception) -> Response:
    """`raised` as a response; a bug, or a database that is away, is logged with its traceback."""
    problem = of_exception(raised)
    if problem.status >= 500 and problem is not raised:  # what is raised as a problem is none of ours
        request_id = getattr(request.state, "request_id", "")
        path = _TOKEN.sub(r"\1***", request.url.path)
        log.error("%s %s failed (%s)", request.method, path, request_id, exc_info=raised)
    html: HtmlProblem | None = request.app.state.html_problem
    wants_html = "text/html" in request.headers.get("accept", "")
    if html is not None and wants_html and not request.url.path.startswith("/api/"):
        return await html(request, problem)
    return JSONResponse(
        problem.document(request), problem.status, problem.headers, media_type="application/problem+json"
    )


def of_exception(raised: Exception) -> ProblemError:
    """The problem that an exception is."""
    if isinstance(raised, ProblemError):
        return raised
    if isinstance(raised, RequestValidationError):
        return invalid((_pointer(error["loc"]), said_of(error)) for error in raised.errors())
    if isinstance(raised, HTTPException):
        return _of_http(raised)
    for kind, (status, name) in _TRANSLATED.items():
        if isinstance(raised, kind):
            return ProblemError(status, name, str(raised), **_members(raised))
    if isinstance(raised, _DATABASE_AWAY):
        said = "the database does not answer; nothing was changed unless this was about to be confirmed"
        return ProblemError(503, "database-away", said, headers={"Retry-After": "2"})
    return ProblemError(500, "bug", "this is a fault of Upbeat; its log has the details under the request id")


_TRANSLATED: dict[type[Exception], tuple[int, str]] = {
    objects.MissingError: (404, "missing"),
    objects.AmbiguousError: (409, "ambiguous"),
    objects.TakenError: (409, "taken"),
    objects.StaleError: (412, "stale"),
    objects.InUseError: (409, "in-use"),
    objects.ManagedByFileError: (409, "managed-by-file"),
    people.LastAdminError: (409, "last-admin"),
    reviews.ActionGoneError: (409, "gone"),
    incidents.NotNowError: (409, "not-now"),
    secrets.LockedError: (409, "no-secret-key"),
    reviews.StaleRevisionError: (409, "stale-revision"),
}


_DATABASE_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)


def _members(raised: Exception) -> dict[str, Any]:
    names = {
        "pages": "pages",
        "source": "source",
        "current": "revision",
        "status": "action_status",
        "by": "by",
    }
    return {
        member: getattr(raised, attribute)
        for attribute, member in names.items()
        if getattr(raised, attribute, None) is not None
    }


def _of_http(raised: HTTPException) -> ProblemError:
    said = {
        404: ("missing", "there is nothing at this address"),
        405: ("method", "this address does not take this method"),
        413: ("too-large", str(raised.detail)),
    }
    name, detail = said.get(raised.status_code, ("refused", str(raised.detail)))
    return ProblemError(raised.status_code, name, detail, headers=raised.headers)


def _pointer(steps: Iterable[str | int]) -> str:
    """Where in the request: `/limit` of the query, `/a/b` of the body."""
    first, *rest = steps
    return "".join(f"/{step}" for step in rest) or f"/{first}"
