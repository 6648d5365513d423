"""Signing in, sessions and their end, CSRF, users, tokens, limits, and whom a proxy is believed about."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import people
from engine.store.audit import Actor
from engine.store.database import transaction

if TYPE_CHECKING:
    from tests.api.conftest import Answer, Server

PASSWORD = "correct horse battery"
_ACTOR = Actor("test", "cli")


class Browser:
    """Sends the session's cookie, as a page of ours would."""

    def __init__(self, server: "Server") -> None:
        self.server, self.cookie, self.csrf = server, "", ""

    async def call(self, method: str, path: str, json: Any = None, **headers: str) -> "Answer":
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            sent["Cookie"] = self.cookie
        answer = await self.server.call(method, path, json, who=None, headers=sent)
        if "Set-Cookie" in answer.headers:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        if isinstance(answer.body, dict) and answer.body.get("csrf"):
            self.csrf = answer.body["csrf"]
        return answer


@pytest.fixture
async def browser(server: "Server") -> Browser:
    """Ann, an editor of the page shop, signed in by a link, with a password."""
    await server.call("DELETE", "/api/v1/users/ann@shop.example")
    made = await server.call(
        "POST",
        "/api/v1/users",
        {"email": "ann@shop.example", "name": "Ann", "roles": [{"page": "shop", "role": "editor"}]},
    )
    assert made.status == 201, made.body
    browser = Browser(server)
    secret = made.body["login_link"].rpartition("=")[2]
    assert (await browser.call("POST", "/api/v1/login/link", {"secret": secret})).status == 200
    again = await Browser(server).call("POST", "/api/v1/login/link", {"secret": secret})
    assert again.status == 401  # once
    changed = await browser.call("POST", "/api/v1/me/password", {"new": PASSWORD}, x_csrf_token=browser.csrf)
    assert changed.status == 200, changed.body
    return browser


async def _login(server: "Server", password: str = PASSWORD, email: str = "ann@shop.example") -> "Answer":
    return await server.call("POST", "/api/v1/login", {"email": email, "password": password}, who=None)


async def test_a_session_knows_who_one_is_and_what_one_may(browser: Browser) -> None:
    me = (await browser.call("GET", "/api/v1/me")).body
    assert (me["name"], me["surface"]) == ("ann@shop.example", "console")
    assert me["roles"] == [{"page": "shop", "role": "editor"}]


async def test_the_cookie_is_for_this_site_only_and_secure_where_there_is_https(
    server: "Server", browser: Browser
) -> None:
    header = (await _login(server)).headers["Set-Cookie"]
    assert header.startswith("upbeat=")
    assert "HttpOnly" in header
    assert "SameSite=lax" in header
    assert "Secure" not in header
    settings = server.services.settings
    server.services.settings = replace(settings, public_url="https://up.example")
    try:
        header = (await _login(server)).headers["Set-Cookie"]
    finally:
        server.services.settings = settings
    assert header.startswith("__Host-upbeat=")
    assert "; Secure" in header
    assert "Path=/" in header


async def test_a_wrong_password_and_an_unknown_address_are_the_same_401(
    server: "Server", browser: Browser
) -> None:
    wrong = await _login(server, "not the password")
    unknown = await _login(server, email="bob@shop.example")
    assert wrong.status == unknown.status == 401
    assert wrong.body["detail"] == unknown.body["detail"]
    assert (await _login(server)).status == 200


async def test_a_new_password_ends_every_other_session(server: "Server", browser: Browser) -> None:
    other = Browser(server)
    await other.call("POST", "/api/v1/login", {"email": "ann@shop.example", "password": PASSWORD})
    refused = await browser.call(
        "POST", "/api/v1/me/password", {"current": "guess", "new": "x" * 12}, x_csrf_token=browser.csrf
    )
    assert refused.status == 422
    short = {"current": PASSWORD, "new": "short"}
    assert (await browser.call("POST", "/api/v1/me/password", short, x_csrf_token=browser.csrf)).status == 422
    changed = {"current": PASSWORD, "new": "another long password"}
    answer = await browser.call("POST", "/api/v1/me/password", changed, x_csrf_token=browser.csrf)
    assert answer.status == 200
    assert (await other.call("GET", "/api/v1/me")).status == 401
    assert (await browser.call("GET", "/api/v1/me")).status == 200


async def test_other_roles_and_being_disabled_end_sessions_and_narrow_tokens(
    server: "Server", browser: Browser
) -> None:
    made = await browser.call(
        "POST", "/api/v1/tokens", {"name": "t", "scope": "write", "page": "shop"}, x_csrf_token=browser.csrf
    )
    assert made.status == 201, made.body
    server.tokens["ann"] = made.body["token"]
    assert (await server.call("PATCH", "/api/v1/pages/shop", {}, who="ann")).status == 403
    path = "/api/v1/users/ann@shop.example"
    viewer = {"roles": [{"page": "shop", "role": "viewer"}]}
    assert (await server.call("PATCH", path, viewer)).status == 200
    assert (await browser.call("GET", "/api/v1/me")).status == 401
    me = (await server.call("GET", "/api/v1/me", who="ann")).body
    assert me["roles"] == [{"page": "shop", "role": "viewer"}]
    assert me["name"] == "ann@shop.example"
    assert (await server.call("PATCH", path, {"disabled": True})).status == 200
    assert (await server.call("GET", "/api/v1/me", who="ann")).status == 401
    assert (await _login(server)).status == 401


async def test_signing_out_ends_the_session(browser: Browser) -> None:
    cookie = browser.cookie
    assert (await browser.call("POST", "/api/v1/logout", x_csrf_token=browser.csrf)).status == 204
    browser.cookie = cookie
    assert (await browser.call("GET", "/api/v1/me")).status == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 403, id="without a CSRF token"),
        pytest.param({"x_csrf_token": "0" * 64}, 403, id="with a wrong CSRF token"),
        pytest.param(
            {"x_csrf_token": "ours", "origin": "https://evil.example"}, 403, id="from another origin"
        ),
        pytest.param({"x_csrf_token": "ours", "origin": "null"}, 403, id="from nowhere"),
        pytest.param({"x_csrf_token": "ours", "sec_fetch_site": "cross-site"}, 403, id="cross-site"),
        pytest.param({"x_csrf_token": "ours", "sec_fetch_site": "same-site"}, 403, id="from a sibling"),
        pytest.param({"x_csrf_token": "ours"}, 200, id="with the CSRF token"),
        pytest.param({"x_csrf_token": "ours", "sec_fetch_site": "same-origin"}, 200, id="from our page"),
    ],
)
async def test_a_cookie_alone_changes_nothing(browser: Browser, headers: dict[str, str], status: int) -> None:
    sent = {name: browser.csrf if value == "ours" else value for name, value in headers.items()}
    answer = await browser.call("PATCH", "/api/v1/beats/home", {"name": "H"}, **sent)
    assert answer.status == status, answer.body


async def test_a_form_carries_the_csrf_token_in_a_field(browser: Browser) -> None:
    sent = {"Cookie": browser.cookie, "Content-Type": "application/x-www-form-urlencoded"}
    for csrf, status in ((browser.csrf, 415), ("wrong", 403)):  # past the guard, where a form is no JSON
        answer = await browser.server.call(
            "POST", "/api/v1/beats", who=None, data=f"csrf={csrf}".encode(), headers=sent
        )
        assert answer.status == status


async def test_signing_in_from_another_site_is_refused(server: "Server", browser: Browser) -> None:
    body = {"email": "ann@shop.example", "password": PASSWORD}
    answer = await Browser(server).call("POST", "/api/v1/login", body, origin="https://evil.example")
    assert answer.status == 403


async def test_guessing_passwords_is_slowed_per_account_and_address(
    server: "Server", browser: Browser
) -> None:
    server.app.state.logins.forget("127.0.0.1")
    answers = [await _login(server, "guess", "eve@shop.example") for _ in range(11)]
    assert [a.status for a in answers] == [401] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert (await _login(server)).status == 200  # others still sign in


async def test_the_last_admin_stays(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        first = await people.make_login_link(db, _ACTOR)
    browser = Browser(server)
    assert (await browser.call("POST", "/api/v1/login/link", {"secret": first})).status == 200
    path = "/api/v1/users/admin@localhost"
    for method, body in (("DELETE", None), ("PATCH", {"disabled": True}), ("PATCH", {"roles": []})):
        answer = await server.call(method, path, body)
        assert (answer.status, answer.body["type"].rpartition("#")[2]) == (409, "last-admin")
    assert (await browser.call("GET", "/api/v1/users")).status == 200


@pytest.mark.parametrize(
    "text", ["upb_x", "upb_" + "0" * 36, "Zm9v", "ü" * 40, "", "upb_" + "é" * 36, "x" * 5000]
)
async def test_what_is_no_token_is_refused_without_asking_the_database(server: "Server", text: str) -> None:
    headers = {"Authorization": f"Bearer {text}"}
    answer = await server.call("GET", "/api/v1/me", who=None, headers=headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not people.is_token(text)


async def test_a_token_is_shown_once_and_kept_as_a_hash(server: "Server") -> None:
    made = (await server.call("POST", "/api/v1/tokens", {"name": "ci", "page": "shop"})).body
    text = made["token"]
    assert text.startswith("upb_")
    assert people.is_token(text)
    listed = (await server.call("GET", "/api/v1/tokens?limit=1000")).body["items"]
    (shown,) = [item for item in listed if item["id"] == made["id"]]
    assert shown["hint"] == text[-4:]
    assert text not in str(listed)
    assert shown["expires_at"] is not None
    dump = await server.services.pool.fetch("SELECT t::text AS row FROM tokens t")
    assert text not in str(dump)
    assert text not in str((await server.call("GET", "/api/v1/audit?limit=1000")).body)


async def test_a_revoked_token_is_refused_at_once(server: "Server") -> None:
    made = (await server.call("POST", "/api/v1/tokens", {"name": "brief", "page": "shop"})).body
    server.tokens["brief"] = made["token"]
    assert (await server.call("GET", "/api/v1/me", who="brief")).status == 200
    assert (await server.call("DELETE", f"/api/v1/tokens/{made['id']}")).status == 204
    assert (await server.call("GET", "/api/v1/me", who="brief")).status == 401


async def test_a_token_without_the_scope_admin_manages_no_tokens(server: "Server") -> None:
    made = (await server.call("POST", "/api/v1/tokens", {"name": "victim", "page": "shop"})).body
    for who in ("viewer", "writer", "other"):
        assert (await server.call("GET", "/api/v1/tokens", who=who)).body["items"] == []
        assert (await server.call("DELETE", f"/api/v1/tokens/{made['id']}", who=who)).status == 404
    assert (await server.call("DELETE", f"/api/v1/tokens/{made['id']}", who="admin")).status == 204


async def test_an_admin_of_one_page_ends_their_own_token_of_another(
    server: "Server", browser: Browser
) -> None:
    roles = [{"page": "shop", "role": "admin"}, {"page": "blog", "role": "editor"}]
    changed = await server.call("PATCH", "/api/v1/users/ann@shop.example", {"roles": roles})
    assert changed.status == 200
    await server.call("POST", "/api/v1/tokens", {"name": "theirs", "page": "blog"})
    answer = await _login(server)
    browser.cookie, browser.csrf = answer.headers["Set-Cookie"].partition(";")[0], answer.body["csrf"]
    made = await browser.call(
        "POST", "/api/v1/tokens", {"name": "mine", "page": "blog"}, x_csrf_token=browser.csrf
    )
    listed = (await browser.call("GET", "/api/v1/tokens")).body["items"]
    assert [t["name"] for t in listed if t["page"] == "blog"] == ["mine"]
    path = f"/api/v1/tokens/{made.body['id']}"
    assert (await browser.call("DELETE", path, x_csrf_token=browser.csrf)).status == 204


async def test_a_proxys_own_password_is_no_concern_of_ours(browser: Browser) -> None:
    basic = "Basic YTpi"
    assert (await browser.call("GET", "/api/v1/me", authorization=basic)).status == 200
    answer = await browser.call("PATCH", "/api/v1/beats/home", {"name": "H"}, authorization=basic)
    assert answer.status == 403  # and it lifts no CSRF check


@pytest.mark.parametrize(
    ("who", "body", "status"),
    [
        pytest.param("admin", {"role": "admin", "scope": "admin", "page": "shop"}, 201, id="one's own role"),
        pytest.param("admin", {"role": "viewer", "scope": "read"}, 403, id="beyond one's page"),
        pytest.param("admin", {"role": "viewer", "scope": "read", "page": "blog"}, 404, id="a foreign page"),
        pytest.param(
            "editor", {"role": "viewer", "scope": "read", "page": "shop"}, 403, id="with no admin token"
        ),
        pytest.param(
            "writer", {"role": "viewer", "scope": "read", "page": "shop"}, 403, id="with a write scope"
        ),
    ],
)
async def test_nobody_makes_a_token_that_may_more_than_they(
    server: "Server", who: str, body: dict[str, Any], status: int
) -> None:
    answer = await server.call("POST", "/api/v1/tokens", {"name": "n"} | body, who=who)
    assert answer.status == status, answer.body


async def test_an_editor_in_a_session_cannot_make_an_admin_token(browser: Browser) -> None:
    body = {"name": "up", "role": "admin", "scope": "admin", "page": "shop"}
    answer = await browser.call("POST", "/api/v1/tokens", body, x_csrf_token=browser.csrf)
    assert answer.status == 403


async def test_a_short_admin_token_opens_nothing(server: "Server") -> None:
    settings = server.services.settings
    server.services.settings = replace(settings, admin_token="short")
    try:
        answer = await server.call("GET", "/api/v1/me", who=None, headers={"Authorization": "Bearer short"})
    finally:
        server.services.settings = settings
    assert answer.status == 401


async def test_who_may_try_no_more_pushes_nobody_out_by_making_up_accounts(
    server: "Server", browser: Browser
) -> None:
    settings, logins = server.services.settings, server.app.state.logins
    server.services.settings = replace(settings, trusted_proxies=("127.0.0.1/32",))
    now_s = server.services.clock.monotonic_s()
    for _ in range(50):
        logins.take("2001:db8:0:7::/64", 50, now_s)
    known = len(logins._windows)
    try:
        for n in range(5):  # each from another address of the same network
            body = {"email": f"made-up-{n}@shop.example", "password": "guess"}
            hop = {"x_forwarded_for": f"2001:db8:0:7::{n}"}
            assert (await Browser(server).call("POST", "/api/v1/login", body, **hop)).status == 429
    finally:
        server.services.settings = settings
    assert len(logins._windows) == known


async def test_every_answer_says_what_is_left_and_too_much_is_429(server: "Server") -> None:
    settings = server.services.settings
    server.services.settings = replace(settings, requests_per_minute=3)
    server.app.state.limiter.forget("UPBEAT_ADMIN_TOKEN")
    try:
        answers = await asyncio.gather(*(server.call("GET", "/api/v1/me") for _ in range(5)))
    finally:
        server.services.settings = settings
        server.app.state.limiter.forget("UPBEAT_ADMIN_TOKEN")
    assert sorted(a.status for a in answers) == [200, 200, 200, 429, 429]
    refused = next(a for a in answers if a.status == 429)
    assert "Retry-After" in refused.headers
    assert refused.headers["RateLimit-Policy"] == '"default";q=3;w=60'


async def test_only_a_trusted_proxy_is_believed_about_the_client(server: "Server", browser: Browser) -> None:
    settings = server.services.settings
    forged = {"x_forwarded_for": "203.0.113.9"}
    body = {"email": "mallory@shop.example", "password": "guess"}
    try:
        for trusted, status in (((), 429), (("127.0.0.1/32",), 401)):
            server.services.settings = replace(settings, trusted_proxies=trusted)
            server.app.state.logins.forget("127.0.0.1")
            for _ in range(10):
                await _login(server, "guess", "mallory@shop.example")
            answer = await Browser(server).call("POST", "/api/v1/login", body, **forged)
            assert answer.status == status
    finally:
        server.services.settings = settings


async def test_health_and_metrics_say_no_more_than_they_should(server: "Server") -> None:
    assert (await server.call("GET", "/healthz", who=None)).status == 200
    assert (await server.call("GET", "/readyz", who=None)).body == {"ready": True, "reasons": []}
    away = await server.call("GET", "/readyz?role=probe", who=None)
    assert (away.status, away.body["reasons"]) == (503, ["no probe here"])
    assert (await server.call("GET", "/readyz?verbose", who=None)).status == 401
    assert "detail" in (await server.call("GET", "/readyz?verbose", who="viewer")).body
    assert (await server.call("GET", "/metrics", who=None)).status == 401
    assert (
        await server.call("GET", "/metrics", who="viewer")
    ).status == 403  # signing in anew would not help
    assert (await server.call("GET", "/metrics")).body == "upbeat_up 1\n"


async def test_every_answer_carries_the_security_headers(server: "Server") -> None:
    for path in ("/healthz", "/api/v1/nothing", "/api/v1/me"):
        headers = (await server.call("GET", path, who=None, headers={"X-Request-Id": "mine-1"})).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Request-Id"] == "mine-1"
