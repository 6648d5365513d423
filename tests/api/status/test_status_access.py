"""Who is let in to a page that is not public, over HTTP: by address, password, link and mailbox, and by nothing else."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from multidict import CIMultiDict

from api.status.access import COOKIE, ENTRY_S
from api.status.unlocking import LETTERS_PER_MAILBOX, LINK_S, WRONG_PER_ADDRESS
from engine.clock import SystemClock
from engine.store import hosts, objects
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from engine.store.objects import Stored
from tests.api.status.test_status_page import Away

if TYPE_CHECKING:
    from tests.api.conftest import Answer, Server

ACTOR = Actor("seed", "api")
CANARY = "canary-9931"
NONE: Mapping[str, str] = {}


class Later(SystemClock):
    """The machine's clock, moved on by hand."""

    __slots__ = ("ahead_s",)

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s

    def epoch_s(self) -> float:
        return super().epoch_s() + self.ahead_s


class Visitor:
    """Somebody at a page, later each time: what is kept of it may be read anew."""

    def __init__(self, server: "Server", clock: Later, page: Stored) -> None:
        self.server, self.clock, self.page = server, clock, page
        self.base = f"/p/{page.slug}"
        self.cookie = ""

    async def ask(
        self,
        path: str = "/status.json",
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] = NONE,
    ) -> "Answer":
        self.clock.ahead_s += 20
        sent = dict(headers)
        sent |= {"Cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}
        async with self.server.session.request(
            "GET" if form is None else "POST",
            self.server.url + self.base + path,
            data=form,
            headers={"Accept": "text/html"} | sent,
            allow_redirects=False,
        ) as answer:
            from tests.api.conftest import Answer

            found = Answer(answer.status, await answer.text(), answer.headers)
        if set_cookie := found.headers.get("Set-Cookie"):
            self.cookie = set_cookie.partition(";")[0].partition("=")[2]
        return found

    async def enter(self, password: str, to: str = "", headers: Mapping[str, str] = NONE) -> "Answer":
        return await self.ask("/unlock", {"password": password, "to": to}, headers)

    async def limit(self, access: Mapping[str, Any]) -> None:
        """The page's access from now on."""
        answer = await self.server.call("PATCH", f"/api/v1/pages/{self.page.slug}", {"access": access})
        assert answer.status == 200, answer.body


@pytest.fixture(scope="module")
async def clock(server: "Server") -> Later:
    """One for all: what the server keeps is never of a time to come."""
    later = server.services.clock = Later()
    return later


@pytest.fixture
async def visitor(server: "Server", clock: Later) -> AsyncIterator[Visitor]:
    before = server.services.settings
    async with transaction(server.services.pool) as db:
        page = {
            "slug": f"a-{new_id().hex[-8:]}",
            "name": "Inner",
            "access": {"password": "open sesame"},
            "languages": ["en", "de"],
        }
        made = await objects.create(db, ACTOR, "page", None, page)
        await objects.create(db, ACTOR, "component", made.id, {"slug": "pay", "name": CANARY})
    yield Visitor(server, clock, made)
    server.services.settings = before


async def test_a_password_lets_in_for_a_month(visitor: Visitor) -> None:
    assert (await visitor.ask()).status == 401
    came = await visitor.enter("open sesame", "status.json")
    assert came.status == 303
    assert came.headers["Location"] == f"{visitor.base}/status.json"
    said = came.headers["Set-Cookie"]
    assert f"Path={visitor.base}; HttpOnly; SameSite=Lax" in said
    assert "Secure" not in said
    seen = await visitor.ask()
    assert seen.status == 200
    assert CANARY in seen.body
    assert seen.headers["Cache-Control"] == "private, no-cache"
    assert "Access-Control-Allow-Origin" not in seen.headers
    visitor.clock.ahead_s += ENTRY_S
    assert (await visitor.ask()).status == 401


async def test_a_wrong_password_lets_nobody_in_and_is_tried_ten_times(visitor: Visitor) -> None:
    clock_s = visitor.clock.ahead_s
    for _ in range(WRONG_PER_ADDRESS):
        assert (await visitor.enter("open sesam")).status == 401
        visitor.clock.ahead_s = clock_s
    assert (await visitor.enter("open sesame")).status == 429
    assert not visitor.cookie
    visitor.clock.ahead_s += 300
    assert (await visitor.enter("open sesame")).status == 303


async def test_tries_are_of_an_address_or_of_a_network_of_ipv6(visitor: Visitor) -> None:
    services = visitor.server.services
    services.settings = replace(services.settings, trusted_proxies=("127.0.0.0/8",))
    clock_s = visitor.clock.ahead_s
    for spent, others in (("::ffff:192.0.2.1", "::ffff:192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")):
        for status in [401] * WRONG_PER_ADDRESS + [429]:
            assert (await visitor.enter("wrong", headers={"X-Forwarded-For": spent})).status == status
            visitor.clock.ahead_s = clock_s
        assert (await visitor.enter("wrong", headers={"X-Forwarded-For": others})).status == 401
        same = spent.removeprefix("::ffff:") if "." in spent else "2001:db8::2"
        assert (await visitor.enter("wrong", headers={"X-Forwarded-For": same})).status == 429


async def test_another_password_ends_cookies_and_links(visitor: Visitor) -> None:
    await visitor.enter("open sesame")
    link = urlsplit(
        (await visitor.server.call("GET", f"/api/v1/pages/{visitor.page.slug}/link")).body["link"]
    )
    assert link.path == visitor.base
    visitor_by_link = Visitor(visitor.server, visitor.clock, visitor.page)
    assert (await visitor_by_link.ask(f"/status.json?{link.query}")).status == 200
    assert (await visitor_by_link.ask()).status == 200  # by the cookie it came with
    await visitor.limit({"password": "another"})
    for who in (visitor, visitor_by_link):
        assert (await who.ask()).status == 401
        assert (await who.ask(f"/status.json?{link.query}")).status == 401
    await visitor.limit({"password": "open sesame"})
    assert (await visitor.ask()).status == 200


async def test_only_who_gave_the_password_is_shown_links_that_carry_it(visitor: Visitor) -> None:
    await visitor.limit({"password": "open sesame", "networks": ["127.0.0.0/8"]})
    link = (await visitor.server.call("GET", f"/api/v1/pages/{visitor.page.slug}/link")).body["link"]
    (proof,) = parse_qs(urlsplit(link).query)["key"]
    near = await visitor.ask("")
    assert near.status == 200
    assert proof not in near.body
    await visitor.enter("open sesame")
    assert proof in (await visitor.ask("")).body


async def test_a_password_that_stands_for_nothing_lets_nobody_in(
    visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    async with transaction(visitor.server.services.pool) as db:
        page = await objects.find(db, "page", visitor.page.slug)
        await objects.replace(db, ACTOR, page, page.spec | {"access": {"password": "${env:NOT_SET_HERE}"}})
    for password in ("", "${env:NOT_SET_HERE}", "open sesame"):
        assert (await visitor.enter(password)).status == 401
    for key in ("", "x"):
        assert (await visitor.ask(f"/status.json?key={key}")).status == 401
    link = await visitor.server.call("GET", f"/api/v1/pages/{visitor.page.slug}/link")
    assert link.status == 409
    assert "nobody is let in" in caplog.text
    assert "sesame" not in caplog.text


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "/\\evil.example", "https://evil.example/", "../../console", "..", "a/../../b", "\r\nX: y",
     "%2f/evil.example", "javascript:x", "a//evil", "?x", "@evil.example", ".env", "a" * 201],
)  # fmt: skip
async def test_who_is_let_in_is_led_nowhere_but_below_the_page(visitor: Visitor, to: str) -> None:
    assert (await visitor.enter("open sesame", to)).headers["Location"] == visitor.base


async def test_another_sites_page_cannot_give_the_password(visitor: Visitor) -> None:
    forged = ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"})
    for headers in forged:
        assert (await visitor.enter("open sesame", headers=headers)).status == 403
    assert (await visitor.enter("open sesame", headers={"Origin": visitor.server.url})).status == 303


async def test_a_page_on_its_own_host_is_let_in_to_there(visitor: Visitor) -> None:
    host = f"{visitor.page.slug}.example"
    async with transaction(visitor.server.services.pool) as db:
        page = await objects.find(db, "page", visitor.page.slug)
        await objects.replace(db, ACTOR, page, page.spec | {"domain": host})
        await hosts.verify(db, host, page.id, visitor.clock.epoch_s())
    settings = visitor.server.services.settings
    visitor.server.services.settings = replace(settings, public_url="https://up.example")
    visitor.base = ""
    visitor.clock.ahead_s += 20
    gate = await visitor.ask("/de/history", headers={"Host": host})
    assert gate.status == 401
    assert 'action="/de/unlock"' in gate.body
    came = await visitor.ask(
        "/de/unlock", {"password": "open sesame", "to": "history"}, headers={"Host": host}
    )
    assert came.headers["Location"] == "/de/history"
    assert "; Path=/; HttpOnly; SameSite=Lax; Secure" in came.headers["Set-Cookie"]
    assert (await visitor.ask("/de/history", headers={"Host": host})).status == 200
    away = await visitor.ask(
        "/unlock", {"password": "open sesame", "to": "/evil.example"}, headers={"Host": host}
    )
    assert away.headers["Location"] == "/"


SPOOFED: list[Mapping[str, str]] = [
    {},
    {"X-Forwarded-For": "10.1.2.3"},
    {"X-Forwarded-For": "10.1.2.3, 10.1.2.3"},
    {"X-Real-IP": "10.1.2.3"},
    {"Forwarded": "for=10.1.2.3"},
    {"X-Forwarded-For": "::ffff:10.1.2.3"},
    {"True-Client-IP": "10.1.2.3", "CF-Connecting-IP": "10.1.2.3", "X-Client-IP": "10.1.2.3"},
]


@pytest.mark.parametrize("headers", SPOOFED, ids=str)
async def test_nobody_is_let_in_by_an_address_that_they_only_claim(
    visitor: Visitor, headers: Mapping[str, str]
) -> None:
    await visitor.limit({"networks": ["10.0.0.0/8"]})
    assert (await visitor.ask(headers=headers)).status == 401


ASKED_BY_PROXY: list[tuple[str, Mapping[str, str], int]] = [
    ("from the network", {"X-Forwarded-For": "10.1.2.3"}, 200),
    ("IPv4 written as IPv6", {"X-Forwarded-For": "::ffff:10.1.2.3"}, 200),
    ("what a reader claims stands before", {"X-Forwarded-For": "192.0.2.1, 10.1.2.3"}, 200),
    ("only claimed, as the proxy adds the true one", {"X-Forwarded-For": "10.1.2.3, 192.0.2.1"}, 401),
    ("IPv6 from the network", {"X-Forwarded-For": "2001:db8::5"}, 200),
    ("IPv6 from elsewhere", {"X-Forwarded-For": "2001:db9::5"}, 401),
    ("from elsewhere", {"X-Forwarded-For": "192.0.2.1"}, 401),
    ("not said for whom", {}, 401),
    ("said otherwise", {"X-Real-IP": "10.1.2.3", "Forwarded": "for=10.1.2.3"}, 401),
    ("no address", {"X-Forwarded-For": "unknown"}, 401),
    ("with a port", {"X-Forwarded-For": "10.1.2.3:80"}, 401),
    ("nothing", {"X-Forwarded-For": ""}, 401),
    ("nothing at its end", {"X-Forwarded-For": "10.1.2.3,"}, 401),
]


@pytest.mark.parametrize(
    ("headers", "status"), [one[1:] for one in ASKED_BY_PROXY], ids=[one[0] for one in ASKED_BY_PROXY]
)
async def test_a_trusted_proxy_says_who_asks(
    visitor: Visitor, headers: Mapping[str, str], status: int
) -> None:
    services = visitor.server.services
    services.settings = replace(services.settings, trusted_proxies=("127.0.0.0/8",))
    # The proxy itself is in a network that is let in: that it asks says nothing.
    await visitor.limit({"networks": ["10.0.0.0/8", "127.0.0.0/8", "2001:db8::/32"]})
    assert (await visitor.ask(headers=headers)).status == status


async def test_of_several_headers_the_proxys_own_is_the_last(visitor: Visitor) -> None:
    services = visitor.server.services
    services.settings = replace(services.settings, trusted_proxies=("127.0.0.0/8",))
    await visitor.limit({"networks": ["10.0.0.0/8"]})
    for said, status in ((("10.1.2.3", "192.0.2.1"), 401), (("192.0.2.1", "10.1.2.3"), 200)):
        headers = CIMultiDict(("X-Forwarded-For", address) for address in said)
        visitor.clock.ahead_s += 20
        async with visitor.server.session.get(
            f"{visitor.server.url}{visitor.base}/status.json", headers=headers
        ) as answer:
            assert answer.status == status


async def test_who_comes_by_a_proxy_that_is_not_trusted_has_no_address(visitor: Visitor) -> None:
    await visitor.limit({"networks": ["127.0.0.0/8"]})
    assert (await visitor.ask()).status == 200
    for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "8.8.8.8"}, {"Forwarded": "for=x"}):
        assert (await visitor.ask(headers=headers)).status == 401


async def _letters(visitor: Visitor) -> list[Any]:
    async with visitor.server.services.pool.acquire() as db:
        return list(await db.fetch("SELECT * FROM letters WHERE page_id = $1 ORDER BY id", visitor.page.id))


async def test_a_mailbox_of_a_listed_domain_is_sent_a_link_that_lets_in(visitor: Visitor) -> None:
    services = visitor.server.services
    services.settings = replace(services.settings, public_url="https://up.example", can_mail=True)
    await visitor.limit({"emails": ["corp.example"]})
    answers = [
        await visitor.ask("/de/unlock", {"email": mailbox, "to": "history"}, headers={"Host": "evil.example"})
        for mailbox in (
            "Ann@CORP.example",
            "ann@other.example",
            "ann@sub.corp.example",
            "corp.example@evil.example",
        )
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(202, answers[0].body)}
    (letter,) = await _letters(visitor)
    assert letter["address"] == "Ann@corp.example"
    assert letter["item"]["letter"]["kind"] == "entrance"
    assert letter["item"]["language"] == "de"
    link = urlsplit(letter["item"]["link"])
    assert (link.scheme, link.netloc, link.path) == ("https", "up.example", f"{visitor.base}/de/unlock")
    opened = f"/de/unlock?{link.query}"
    await visitor.ask(opened)  # whoever looks into mail uses nothing up
    looked = await visitor.ask(opened)
    assert looked.status == 200
    assert not visitor.cookie
    assert CANARY not in looked.body
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', looked.body))
    sent = {name: unescape(value) for name, value in fields.items()}
    came = await visitor.ask("/de/unlock", sent)
    assert came.headers["Location"] == f"{visitor.base}/de/history"
    assert (await visitor.ask()).status == 200
    # A mailbox is let in as long as its domain is listed, and by nobody's change of a password.
    await visitor.limit({"emails": ["corp.example"], "password": "new"})
    assert (await visitor.ask()).status == 200
    await visitor.limit({"emails": ["other.example"], "password": "new"})
    assert (await visitor.ask()).status == 401
    visitor.cookie = ""
    assert (await visitor.ask("/de/unlock", sent)).status == 401


async def test_a_link_ends_and_is_no_cookie_and_neither_can_be_made_up(visitor: Visitor) -> None:
    services = visitor.server.services
    services.settings = replace(services.settings, public_url="https://up.example", can_mail=True)
    await visitor.limit({"emails": ["corp.example"]})
    await visitor.ask("/unlock", {"email": "ann@corp.example"})
    (letter,) = await _letters(visitor)
    (ticket,) = parse_qs(urlsplit(letter["item"]["link"]).query)["ticket"]
    until, mailbox, signed = ticket.split(".")
    visitor.cookie = ticket
    assert (await visitor.ask()).status == 401
    visitor.cookie = ""
    for made_up in (
        f"{int(until) + 9}.{mailbox}.{signed}", f"{until}..{signed}", f"{until}.{mailbox[:-1]}.{signed}",
        f"{until}.{mailbox}.{'A' * 43}", f"{until}.{mailbox}", "x", "9999999999..", "",
    ):  # fmt: skip
        assert (await visitor.ask("/unlock", {"ticket": made_up})).status == 401
    visitor.clock.ahead_s += LINK_S
    assert (await visitor.ask("/unlock", {"ticket": ticket})).status == 401


async def test_a_mailbox_is_not_bombed(visitor: Visitor) -> None:
    services = visitor.server.services
    services.settings = replace(services.settings, public_url="https://up.example", can_mail=True)
    await visitor.limit({"emails": ["corp.example"]})
    for domain in ("corp.example", "other.example"):
        answers = [
            (await visitor.ask("/unlock", {"email": f"bob+{n}@{domain}"})).status
            for n in range(LETTERS_PER_MAILBOX + 1)
        ]
        assert answers == [202] * LETTERS_PER_MAILBOX + [429]
    assert len(await _letters(visitor)) == LETTERS_PER_MAILBOX


@pytest.mark.parametrize("known", [{"can_mail": True}, {"public_url": "https://up.example"}], ids=str)
async def test_no_link_is_made_of_the_host_that_who_asks_names_nor_without_a_relay(
    visitor: Visitor, known: Mapping[str, Any]
) -> None:
    services = visitor.server.services
    services.settings = replace(services.settings, **known)
    await visitor.limit({"emails": ["corp.example"]})
    form, headers = {"email": "ann@corp.example"}, {"Host": "evil.example"}
    assert (await visitor.ask("/unlock", form, headers)).status == 503
    assert await _letters(visitor) == []


@pytest.mark.parametrize(
    "mailbox",
    [
        "\u0301\u0323" * 60_000 + "@corp.example",
        "ann@" + "\u0301\u0323" * 60_000,
        "",
        "ann",
        "a@b",
        "a@corp.example\r\nBcc: x@y.example",
        "a b@corp.example",
        "@",
    ],
)
async def test_what_is_no_mailbox_is_told_so(visitor: Visitor, mailbox: str) -> None:
    await visitor.limit({"emails": ["corp.example"]})
    assert (await visitor.ask("/unlock", {"email": mailbox})).status == 422


async def test_a_page_taken_away_lets_nobody_in_even_under_its_old_name(visitor: Visitor) -> None:
    await visitor.enter("open sesame")
    assert (await visitor.ask()).status == 200
    await visitor.server.call("DELETE", f"/api/v1/components/pay?page={visitor.page.slug}")
    gone = await visitor.server.call("DELETE", f"/api/v1/pages/{visitor.page.slug}")
    assert gone.status == 204, gone.body
    assert (await visitor.ask()).status == 404
    spec = {"slug": visitor.page.slug, "name": "New", "access": {"password": "open sesame"}}
    await visitor.server.call("POST", "/api/v1/pages", spec)
    assert (await visitor.ask()).status == 401


async def test_while_the_database_is_away_the_same_are_let_in_as_before(visitor: Visitor) -> None:
    services, pool = visitor.server.services, visitor.server.services.pool
    assert (await visitor.ask()).status == 401
    services.pool = Away(hangs=False)  # type: ignore[assignment]
    try:
        assert (await visitor.ask()).status == 401
        assert (await visitor.enter("wrong")).status == 401
        assert (await visitor.enter("open sesame")).status == 303
        seen = await visitor.ask()
        assert seen.status == 200
        assert '"is_stale":true' in seen.body
    finally:
        services.pool = pool


async def test_a_cookie_of_one_page_opens_no_other(visitor: Visitor, server: "Server") -> None:
    await visitor.enter("open sesame")
    async with transaction(server.services.pool) as db:
        spec = {"slug": f"b-{new_id().hex[-8:]}", "name": "B", "access": {"password": "open sesame"}}
        other = await objects.create(db, ACTOR, "page", None, spec)
    there = Visitor(server, visitor.clock, other)
    there.cookie = visitor.cookie
    assert (await there.ask()).status == 401


async def test_the_password_is_shown_to_who_administers_the_page_and_nobody_else(server: "Server") -> None:
    secret = "canary-sesame-77"
    page = (await server.call("GET", "/api/v1/pages/shop")).body
    try:
        changed = {"access": {"password": secret, "emails": ["corp.example"]}}
        assert (await server.call("PATCH", "/api/v1/pages/shop", changed)).status == 200
        for who in ("viewer", "reviewer", "editor", "reader", "writer", "other"):
            for path in (
                "/pages/shop",
                "/pages",
                "/pages/shop/link",
                "/audit",
                "/pages/shop/domain",
                "/export",
            ):
                assert secret not in str((await server.call("GET", f"/api/v1{path}", who=who)).body), path
            assert (await server.call("GET", "/api/v1/pages/shop/link", who=who)).status in (403, 404)
        assert (await server.call("GET", "/api/v1/pages/shop", who="admin")).body["access"][
            "password"
        ] == secret
        assert (await server.call("GET", "/api/v1/pages/shop", who="viewer")).body["access"] == {
            "password": "***", "networks": [], "emails": ["corp.example"],
        }  # fmt: skip
        exported = (await server.call("GET", "/api/v1/export", who="editor")).body
        assert 'password: "${secret:PASSWORD}"' in exported
        assert secret in (await server.call("GET", "/api/v1/export", who="admin")).body
        # Even who installed it finds neither in the audit log.
        assert secret not in str((await server.call("GET", "/api/v1/audit")).body)
        async with server.services.pool.acquire() as db:
            for table in ("audit", "outbox", "broadcasts", "letters", "jobs"):
                assert not await db.fetchval(
                    f"SELECT count(*) FROM {table} t WHERE t::text LIKE $1", f"%{secret}%"
                )
        # What is shown masked and sent back stays what it was.
        masked = {"access": {"password": "***", "networks": ["10.0.0.0/8"]}}
        assert (await server.call("PATCH", "/api/v1/pages/shop", masked, who="admin")).status == 200
        assert (await server.call("GET", "/api/v1/pages/shop", who="admin")).body["access"][
            "password"
        ] == secret
    finally:
        await server.call("PUT", "/api/v1/pages/shop", {"slug": "shop", "name": page["name"]})


async def test_what_is_not_there_tells_no_state_to_who_is_not_let_in(visitor: Visitor) -> None:
    pay = f"/api/v1/components/pay?page={visitor.page.slug}"
    changed = await visitor.server.call("PATCH", pay, {"status": "major_outage"})
    assert changed.status == 200, changed.body
    for path in ("/assets/none", "/favicon.ico"):
        found = await visitor.ask(path)
        assert found.status == 404
        assert "major_outage" not in found.body
    await visitor.enter("open sesame")
    assert "major_outage" in (await visitor.ask()).body


async def test_no_subscribers_token_is_logged(visitor: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    await visitor.enter("open sesame")
    services = visitor.server.services
    services.pool, pool = cast("Any", Away(hangs=False)), services.pool
    try:
        for path in ("/manage/canary-token", "/confirm/canary-token", "/de/unsubscribe/canary-token"):
            assert (await visitor.ask(path)).status == 503
    finally:
        services.pool = pool
    assert f"GET {visitor.base}/manage/*** failed" in caplog.text
    assert "canary-token" not in caplog.text


async def test_a_proxy_behind_a_proxy_that_says_nothing_lets_nobody_in(visitor: Visitor) -> None:
    services = visitor.server.services
    services.settings = replace(services.settings, trusted_proxies=("127.0.0.0/8", "10.0.0.5/32"))
    await visitor.limit({"networks": ["10.0.0.0/8"]})
    for hops, status in (("10.0.0.5", 401), ("10.0.0.5, 10.0.0.5", 401), ("10.1.2.3, 10.0.0.5", 200)):
        assert (await visitor.ask(headers={"X-Forwarded-For": hops})).status == status


async def test_a_mailed_link_leads_to_no_port_that_who_asks_names(visitor: Visitor) -> None:
    host = f"{visitor.page.slug}.example"
    async with transaction(visitor.server.services.pool) as db:
        page = await objects.find(db, "page", visitor.page.slug)
        spec = page.spec | {"domain": host, "access": {"emails": ["corp.example"]}}
        await objects.replace(db, ACTOR, page, spec)
        await hosts.verify(db, host, page.id, visitor.clock.epoch_s())
    settings = visitor.server.services.settings
    visitor.base = ""
    for public_url in ("https://up.example", "https://up.example:8443/", None):
        visitor.server.services.settings = replace(settings, public_url=public_url, can_mail=True)
        await visitor.ask(headers={"Host": host})
        asked = await visitor.ask("/unlock", {"email": "ann@corp.example"}, {"Host": f"{host}:8443"})
        assert asked.status == 202
    links = [letter["item"]["link"].partition("/unlock?")[0] for letter in await _letters(visitor)]
    assert links == [f"https://{host}", f"https://{host}:8443", f"http://{host}"]
