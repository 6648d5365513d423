"""Every route against every role: what is declared is what is enforced, and nothing is undeclared."""

import re
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import validate
from starlette.responses import Response

from api.app import ROUTERS, create_app
from api.auth import GuardedRoute, Permission, Router
from api.openapi import document
from api.problems import of_exception
from engine.store.people import RANK

if TYPE_CHECKING:
    from tests.api.conftest import Server

# Who -> (the rank they have on the page shop, whether everywhere). None: no valid credentials at all.
WHO: dict[str | None, tuple[int, bool] | None] = {
    None: None,
    "expired": None,
    "revoked": None,
    "viewer": (RANK["viewer"], False),
    "reviewer": (RANK["reviewer"], False),
    "editor": (RANK["editor"], False),
    "admin": (RANK["admin"], False),
    "reader": (RANK["viewer"], False),
    "writer": (RANK["editor"], False),
    "other": (RANK["editor"], False),
    "installation": (RANK["admin"], True),
}
ROUTES = [
    (method, route)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, GuardedRoute)
    for method in sorted(route.methods or ())
]
# What anybody may ask of the API: a route that becomes public by mistake is found here.
PUBLIC = {"/api/v1/" + path for path in ("openapi.json", "docs", "schema", "login", "login/link")} | {
    "/api/v1/hosts",
    "/healthz",
    "/readyz",
    "/metrics",
    "/robots.txt",
    *(f"/slack/{path}" for path in ("commands", "interactions", "events")),  # signed by Slack
}


def test_every_route_declares_what_it_needs() -> None:
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, GuardedRoute), route
            assert isinstance(route.declared.permission, Permission)


def test_only_what_is_meant_to_be_public_is() -> None:
    ours = [route for _, route in ROUTES if not route.path.startswith(("/console", "/p/", "/static"))]
    public = {route.path for route in ours if route.declared.permission is Permission.PUBLIC}
    assert public - {"/"} == PUBLIC


def test_a_route_without_a_declared_permission_cannot_be_made() -> None:
    router = Router()

    async def forgotten() -> Response:
        return Response()

    with pytest.raises(TypeError, match="declares no permission"):
        router.add_api_route("/forgotten", forgotten)


def test_no_route_of_the_application_stands_outside_the_guard(server: "Server") -> None:
    app = create_app(server.services)
    assert not [r for r in app.routes if isinstance(r, APIRoute) and not isinstance(r, GuardedRoute)]


@pytest.mark.parametrize("who", list(WHO), ids=str)
async def test_a_role_may_do_what_is_declared_and_nothing_else(server: "Server", who: str | None) -> None:
    wrong = []
    for method, route in ROUTES:
        if route.declared.permission is Permission.PUBLIC:
            continue  # some ask more inside, and their own tests say so
        status = await _status(server, method, route, who)
        expected = _expected(route, who)
        if (expected is None and status in (401, 403)) or (expected is not None and status != expected):
            wrong.append(f"{method} {route.path}: {status}, not {expected or 'let in'}")
    assert not wrong, "\n".join(wrong)


def _expected(route: GuardedRoute, who: str | None) -> int | None:
    """The status that keeps `who` out; None: let in, whatever comes then."""
    declared, held = route.declared, WHO[who]
    if held is None:
        return 401
    rank, is_everywhere = held
    return 403 if rank < declared.permission.value or (declared.installation and not is_everywhere) else None


async def _status(server: "Server", method: str, route: GuardedRoute, who: str | None) -> int:
    # A reference that nothing has: whoever is let in finds nothing and changes nothing.
    path = re.sub(r"{delivery_id}", "1", route.path)
    path = re.sub(r"{\w+}", "nothing-here", path)
    headers = {"Authorization": f"Bearer {server.tokens[who]}"} if who else {}
    body = {"data": b'{"nothing": "here"}'} if method in ("POST", "PUT", "PATCH") else {}
    headers |= {"Content-Type": "application/json"} if body else {}
    async with server.session.request(method, server.url + path, headers=headers, **body) as answer:  # type: ignore[arg-type]
        return answer.status


FOREIGN = [
    (method, path)
    for kind in ("component", "beat", "channel")
    for method, path in [("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", "")]
    + (
        [("GET", f"/{x}") for x in ("results", "pings", "transitions", "uptime", "latency")]
        + [("GET", f"/results/run_{'0' * 32}/artifacts{x}") for x in ("", "/trace.zip")]
        if kind == "beat"
        else []
    )
    + ([("POST", f"/{x}") for x in ("run", "pause", "resume", "ping-key/rotate")] if kind == "beat" else [])
    + ([("POST", "/test")] if kind == "channel" else [])
    for path in [f"/api/v1/{kind}s/{{{kind}}}{path}"]
]


@pytest.mark.parametrize(("method", "path"), FOREIGN)
async def test_an_object_of_a_foreign_page_is_not_there(server: "Server", method: str, path: str) -> None:
    ids = {}
    for kind in ("component", "beat", "channel"):
        listed = await server.call("GET", f"/api/v1/{kind}s?page=shop")
        ids[kind] = listed.body["items"][0]["id"]
    answer = await server.call(method, path.format(**ids), {} if method != "GET" else None, who="other")
    assert answer.status == 404, answer.body


@pytest.mark.parametrize("who", ["viewer", "reviewer", "reader"])
async def test_whoever_may_see_an_object_but_not_change_it_is_told_so(server: "Server", who: str) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        answer = await server.call(method, "/api/v1/beats/home?page=shop", {}, who=who)
        assert answer.status == 403, answer.body


async def test_an_editor_of_one_page_cannot_reach_another_by_naming_it(server: "Server") -> None:
    beat = {"slug": "intruder", "type": "tcp", "host": "x.example", "port": 1, "page": "shop"}
    answer = await server.call("POST", "/api/v1/beats", beat, who="other")
    assert answer.status == 422
    assert answer.body["errors"][0]["pointer"] == "/page"
    answer = await server.call("GET", "/api/v1/beats?page=shop", who="other")
    assert answer.status == 404


async def test_a_beat_feeds_a_component_of_another_page_only_with_rights_on_both(server: "Server") -> None:
    beat: dict[str, Any] = {"slug": "across", "type": "tcp", "host": "x.example", "port": 1, "page": "shop"}
    answer = await server.call("POST", "/api/v1/beats", beat | {"components": ["blog/site"]}, who="editor")
    assert answer.status == 422
    answer = await server.call("POST", "/api/v1/beats", beat | {"components": ["blog/site"]})
    assert answer.status == 201, answer.body
    assert (await server.call("DELETE", "/api/v1/beats/across")).status == 204


async def test_the_description_is_valid_openapi_3_1(server: "Server") -> None:
    described = (await server.call("GET", "/api/v1/openapi.json", who=None)).body
    assert described["openapi"] == "3.1.0"
    validate(described)
    assert described == document(create_app(server.services))


async def test_the_docs_load_nothing_from_elsewhere(server: "Server") -> None:
    docs = await server.call("GET", "/api/v1/docs", who=None)
    assert docs.status == 200
    assert "//" not in docs.body.replace("</", "")
    assert "default-src 'none'" in docs.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (ConnectionRefusedError(), 503),
        (TimeoutError(), 503),
        (asyncpg.AdminShutdownError("terminating connection"), 503),
        (asyncpg.DiskFullError("no space left"), 503),
        (asyncpg.InterfaceError("pool is closing"), 503),
        (asyncpg.UndefinedColumnError("a typing mistake of ours"), 500),
        (ZeroDivisionError(), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_database_that_is_away_is_no_bug(raised: Exception, status: int) -> None:
    problem = of_exception(raised)
    assert problem.status == status
    assert str(raised) not in problem.detail or not str(raised)
