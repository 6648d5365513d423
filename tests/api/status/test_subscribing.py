"""How people subscribe to a page: nothing before they confirm, nothing by GET, and nobody learns who is known."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from api.status.subscribing import PER_ADDRESS, PER_CLIENT, PER_HOST, PER_PAGE
from engine.store import objects
from engine.store.database import transaction
from tests.api.conftest import INSTALLER

if TYPE_CHECKING:
    from tests.api.conftest import Answer, Server

SHOP = "/p/shop/"


@pytest.fixture(autouse=True)
async def _empty(server: "Server") -> AsyncIterator[None]:
    server.app.state.subscribing.clear()
    settings = server.services.settings
    server.services.settings = replace(settings, can_mail=True)
    server.app.state.status_pages = None  # read anew
    async with server.services.pool.acquire() as db:
        await db.execute("TRUNCATE subscribers, letters CASCADE")
    yield
    server.services.settings = settings
    server.app.state.status_pages = None


async def _get(server: "Server", path: str, **headers: str) -> "Answer":
    return await server.call("GET", SHOP + path, who=None, headers=headers)


async def _post(
    server: "Server", path: str, fields: Mapping[str, str] | str = "", **headers: str
) -> "Answer":
    raw = fields if isinstance(fields, str) else "&".join(f"{k}={_quoted(v)}" for k, v in fields.items())
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return await server.call("POST", SHOP + path, data=raw.encode(), who=None, headers=kind | headers)


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


async def _ask(server: "Server", address: str, kind: str = "email", **fields: str) -> "Answer":
    return await _post(server, "subscribe", {"kind": kind, "address": address} | fields)


async def _rows(server: "Server", table: str = "subscribers") -> list[Any]:
    async with server.services.pool.acquire() as db:
        return list(await db.fetch(f"SELECT * FROM {table} ORDER BY id"))


async def _told(server: "Server", address: str = "ann@shop.example") -> str:
    """The token of who confirmed."""
    assert (await _ask(server, address)).status == 200
    token: str = next(row["token"] for row in await _rows(server) if row["folded"] == address)
    assert (await _post(server, f"confirm/{token}")).status == 200
    return token


async def test_somebody_subscribes_confirms_chooses_and_ends_it(server: "Server") -> None:
    form = await _get(server, "subscribe")
    assert (form.status, 'type="email"' in form.body) == (200, True)
    assert form.headers["Cache-Control"] == "no-store"
    asked = await _ask(server, "Ann@Shop.example")
    assert (asked.status, "Ann@shop.example" in asked.body) == (200, True)
    (row,), (letter,) = await _rows(server), await _rows(server, "letters")
    assert (row["status"], len(row["token"]) >= 22) == ("pending", True)
    link = letter["item"]["link"]
    assert link == f"{server.url}/p/shop/confirm/{row['token']}"
    for _ in range(3):  # programs that look through mail
        opened = await _get(server, f"confirm/{row['token']}")
        assert (opened.status, "<button" in opened.body) == (200, True)
    assert (await _rows(server))[0]["status"] == "pending"
    assert "You are subscribed" in (await _post(server, f"confirm/{row['token']}")).body
    assert (await _rows(server))[0]["status"] == "active"
    manage = await _get(server, f"manage/{row['token']}")
    assert (manage.status, "Ann@shop.example" in manage.body) == (200, True)
    ended = await _get(server, f"unsubscribe/{row['token']}")
    assert (ended.status, (await _rows(server))[0]["status"]) == (200, "active")
    assert "You are unsubscribed" in (await _post(server, f"unsubscribe/{row['token']}")).body
    assert (await _rows(server))[0]["status"] == "unsubscribed"
    assert "Subscribe again" in (await _get(server, f"manage/{row['token']}")).body
    assert "You are subscribed" in (await _post(server, f"confirm/{row['token']}")).body


async def test_a_mail_program_unsubscribes_with_one_post(server: "Server") -> None:
    token = await _told(server)
    done = await _post(server, f"unsubscribe/{token}", "List-Unsubscribe=One-Click")
    assert (done.status, done.headers.get("Set-Cookie")) == (200, None)
    assert (await _rows(server))[0]["status"] == "unsubscribed"
    assert (await _post(server, f"unsubscribe/{token}", "List-Unsubscribe=One-Click")).status == 200


@pytest.mark.parametrize("origin", ["null", "https://mail.example"])
async def test_a_link_works_from_wherever_it_is_sent(server: "Server", origin: str) -> None:
    assert (await _ask(server, "ann@shop.example")).status == 200
    token = (await _rows(server))[0]["token"]
    for path, status in (("confirm", "active"), ("unsubscribe", "unsubscribed")):
        done = await _post(server, f"{path}/{token}", **{"Origin": origin, "Sec-Fetch-Site": "cross-site"})
        assert (done.status, (await _rows(server))[0]["status"]) == (200, status)


async def test_programs_that_only_look_at_a_link_change_nothing(server: "Server") -> None:
    token = await _told(server)
    for path in ("subscribe", f"confirm/{token}", f"manage/{token}", f"unsubscribe/{token}"):
        answer = await server.call("HEAD", SHOP + path, who=None)
        assert (answer.status, answer.body) == (200, "")
    assert (await _rows(server))[0]["status"] == "active"


async def test_components_and_language_are_chosen(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        await objects.create(
            db, INSTALLER, "component", shop.id, {"slug": "pay", "name": "Pay", "group": "Money"}
        )
        await objects.replace(db, INSTALLER, shop, shop.spec | {"languages": ["en", "de"]})
    await server.call("GET", "/api/v1/pages")
    server.app.state.status_pages = None  # read anew
    form = await _get(server, "subscribe")
    ids = re.findall(r'name="component" value="(comp_\w+)"', form.body)
    assert (len(ids), "<legend>Money</legend>" in form.body) == (2, True)
    assert "Abonnieren" in (await _get(server, "de/subscribe")).body
    await _post(
        server,
        "subscribe",
        f"kind=email&address=ann%40shop.example&component={ids[0]}&component=x&language=de",
    )
    (row,) = await _rows(server)
    assert ([f"comp_{one.hex}" for one in row["components"]], row["language"]) == ([ids[0]], "de")
    (letter,) = await _rows(server, "letters")
    assert letter["item"]["link"] == f"{server.url}/p/shop/de/confirm/{row['token']}"
    assert "Bestätigen Sie" in (await server.call("GET", f"/p/shop/de/confirm/{row['token']}", who=None)).body
    await _post(server, f"confirm/{row['token']}")
    saved = await _post(server, f"manage/{row['token']}", f"component={ids[1]}&language=tlh")
    assert (saved.status, "Saved." in saved.body) == (200, True)
    (row,) = await _rows(server)
    assert ([f"comp_{one.hex}" for one in row["components"]], row["language"]) == ([ids[1]], None)
    await _post(server, f"manage/{row['token']}", "language=en")
    assert (await _rows(server))[0]["components"] is None


async def test_the_answer_is_the_same_whether_an_address_is_known_or_not(server: "Server") -> None:
    token = await _told(server)
    pages = []
    for address in ("ann@shop.example", "bob@shop.example", "ANN@shop.example"):
        answer = await _ask(server, address)
        pages.append((answer.status, answer.body.replace(address, "")))
    await _post(server, f"unsubscribe/{token}")
    answer = await _ask(server, "ann@shop.example")
    pages.append((answer.status, answer.body.replace("ann@shop.example", "")))
    assert len(set(pages)) == 1
    assert (await _rows(server))[0]["status"] == "unsubscribed"  # until they confirm again


@pytest.mark.parametrize(
    "address",
    [
        "ann",
        "ann@shop",
        "ann@shop.example\r\nBcc: everybody@shop.example",
        "ann@shop.example\nSubject: hello",
        "ann@shop.example, bob@shop.example",
        "Ann <ann@shop.example>",
        '"ann\r\n"@shop.example',
        "ann@[127.0.0.1]",
        "ann@shop.example\x00",
        "a" * 65 + "@shop.example",
        "=?utf-8?q?ann=0d=0aBcc:x?=@shop.example",
    ],
)
async def test_what_could_add_a_header_is_no_mailbox(server: "Server", address: str) -> None:
    answer = await _ask(server, address)
    if "=?" in address:  # allowed in a local part; what makes mails writes it as it is
        return
    assert (answer.status, "That is no e-mail address" in answer.body) == (422, True)
    assert not await _rows(server)


async def test_one_mailbox_is_mailed_once_an_hour_however_it_is_written(server: "Server") -> None:
    for address in ("ann@shop.example", "Ann@Shop.Example", " ANN@SHOP.EXAMPLE "):
        assert (await _ask(server, address)).status == 200
    assert len(await _rows(server, "letters")) == 1
    for _ in range(5):
        async with server.services.pool.acquire() as db:
            await db.execute("UPDATE subscribers SET asked_at = asked_at - interval '61 minutes'")
        server.app.state.subscribing.clear()
        assert (await _ask(server, "ann@shop.example")).status == 200
    assert len(await _rows(server, "letters")) == 3


async def test_one_mailbox_has_one_limit_whatever_is_behind_a_plus(server: "Server") -> None:
    for n in range(PER_ADDRESS + 2):
        assert (await _ask(server, f"ann+{n}@shop.example")).status == 200
    assert len(await _rows(server, "letters")) == PER_ADDRESS


async def test_one_client_asks_for_so_many_links_however_it_says_it_is_called(server: "Server") -> None:
    answers = [
        (
            await _post(
                server,
                "subscribe",
                {"kind": "email", "address": f"n{n}@shop.example"},
                **{"X-Forwarded-For": f"10.0.0.{n}"},
            )
        ).status
        for n in range(PER_CLIENT + 2)
    ]
    assert answers == [200] * PER_CLIENT + [429] * 2
    assert len(await _rows(server, "letters")) == PER_CLIENT


async def test_a_page_and_a_host_of_webhooks_have_limits_whoever_asks(server: "Server") -> None:
    server.services.settings = replace(server.services.settings, trusted_proxies=("127.0.0.0/8",))

    async def asked(n: int, kind: str, address: str) -> int:
        fields = {"kind": kind, "address": address}
        answer = await _post(server, "subscribe", fields, **{"X-Forwarded-For": f"2001:db8:{n:x}::1"})
        return answer.status

    hooks = [await asked(n, "webhook", f"https://hook.example/{n}") for n in range(PER_HOST + 1)]
    assert hooks == [200] * PER_HOST + [429]
    # IPv6: a client has a whole network.
    near = [
        (
            await _post(
                server,
                "subscribe",
                {"kind": "email", "address": f"n{n}@shop.example"},
                **{"X-Forwarded-For": f"2001:db8:ffff::{n:x}"},
            )
        ).status
        for n in range(PER_CLIENT + 1)
    ]
    assert near[-2:] == [200, 429]
    limiter = server.app.state.subscribing["page"]
    (key,) = limiter._windows
    limiter._windows[key] = (limiter._windows[key][0], PER_PAGE)
    assert await asked(5000, "email", "late@shop.example") == 429


async def test_a_program_that_fills_in_every_field_sends_nothing(server: "Server") -> None:
    answer = await _ask(server, "ann@shop.example", subject="buy")
    assert (answer.status, "ann@shop.example" in answer.body) == (200, True)
    assert not await _rows(server)


async def test_guessed_tokens_find_nothing(server: "Server") -> None:
    token = await _told(server)
    for path in ("confirm", "manage", "unsubscribe"):
        for guess in ("x", "0" * 32, token[:-1], token + "x", token.swapcase(), "%C3%BC", "a" * 5000):
            assert (await _get(server, f"{path}/{guess}")).status == 404
            assert (await _post(server, f"{path}/{guess}")).status == 404
    assert (await server.call("GET", f"/p/blog/manage/{token}", who=None)).status == 404
    assert (await _rows(server))[0]["status"] == "active"
    assert (await _get(server, f"manage/{token}")).status == 200


async def test_a_link_leads_nowhere_that_the_asker_chose(server: "Server") -> None:
    answer = await _post(
        server, "subscribe", {"kind": "email", "address": "ann@shop.example"}, Host="evil.example"
    )
    assert (answer.status, "No link can be sent" in answer.body) == (503, True)
    assert not await _rows(server)
    server.services.settings = replace(server.services.settings, public_url="https://status.shop.example")
    answer = await _post(
        server, "subscribe", {"kind": "email", "address": "ann@shop.example"}, Host="evil.example"
    )
    (letter,) = await _rows(server, "letters")
    assert letter["item"]["link"].startswith("https://status.shop.example/p/shop/confirm/")


async def test_without_a_relay_no_mail_is_offered(server: "Server") -> None:
    server.services.settings = replace(server.services.settings, can_mail=False)
    server.app.state.status_pages = None
    asked = await _ask(server, "ann@shop.example")
    assert ('type="email"' in asked.body, 'type="url"' in asked.body) == (False, True)
    assert "E-mail" not in (await _get(server, "")).body
    assert not await _rows(server)
    assert (await _ask(server, "https://hook.example/", "webhook")).status == 200


async def test_another_sites_form_subscribes_nobody(server: "Server") -> None:
    fields = {"kind": "email", "address": "ann@shop.example"}
    assert (await _post(server, "subscribe", fields, Origin="https://evil.example")).status == 403
    assert not await _rows(server)


async def test_what_a_page_does_not_offer_is_not_asked_for(server: "Server") -> None:
    changed = await server.call("PATCH", "/api/v1/pages/shop", {"subscribers": {"kinds": ["webhook"]}})
    assert changed.status == 200, changed.body
    try:
        server.app.state.status_pages = None
        assert 'type="url"' in (await _ask(server, "ann@shop.example")).body
        await server.call("PATCH", "/api/v1/pages/shop", {"subscribers": {"kinds": []}})
        server.app.state.status_pages = None
        assert (await _get(server, "subscribe")).status == 404
        assert (await _ask(server, "ann@shop.example")).status == 404
        assert not await _rows(server)
    finally:
        await server.call("PATCH", "/api/v1/pages/shop", {"subscribers": None})
        server.app.state.status_pages = None


async def test_a_page_that_is_not_public_is_subscribed_to_only_by_who_is_let_in(server: "Server") -> None:
    token = await _told(server)
    await server.call("PATCH", "/api/v1/pages/shop", {"access": {"password": "sesame 7731"}})
    try:
        server.app.state.status_pages = None
        assert (await _get(server, "subscribe")).status == 401
        assert (await _ask(server, "bob@shop.example")).status == 401
        assert (await _get(server, f"manage/{token}")).status == 401
        assert (await _get(server, f"confirm/{token}")).status == 200
        assert (await _post(server, f"unsubscribe/{token}")).status == 200
        assert [row["status"] for row in await _rows(server)] == ["unsubscribed"]
    finally:
        await server.call("PATCH", "/api/v1/pages/shop", {"access": None})
        server.app.state.status_pages = None
