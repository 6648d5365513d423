"""Messages by hand: previewed as mail, told exactly once, followed; and how many hear of an incident."""

from email.header import decode_header
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import broadcasts
from engine.store.database import transaction

if TYPE_CHECKING:
    from tests.api.conftest import Server

PATH = "/api/v1/broadcasts"
OF_SHOP = "?page=shop"
MESSAGE = {"subject": "We move <today>", "text": "To **Berlin** & <b>on</b>.", "is_markdown": True}


@pytest.fixture(autouse=True)
async def _told(server: "Server") -> None:
    async with server.services.pool.acquire() as db:
        await db.execute("TRUNCATE subscribers, letters, broadcasts CASCADE")
    for address, fields in (
        ("ann@shop.example", {}),
        ("bob@shop.example", {"components": ["site"]}),
        ("https://hook.example/x", {"kind": "webhook"}),
    ):
        body = {"address": address, "is_confirmed": True, "reason": "staff"} | fields
        assert (await server.call("POST", f"/api/v1/subscribers{OF_SHOP}", body)).status == 201
    assert (
        await server.call("POST", f"/api/v1/subscribers{OF_SHOP}", {"address": "eve@shop.example"})
    ).status == 201


async def _letters(server: "Server") -> list[Any]:
    async with transaction(server.services.pool) as db:
        while await broadcasts.spread(db):
            pass
        return await db.fetch("SELECT * FROM letters WHERE broadcast_id IS NOT NULL")


async def test_a_preview_is_the_mail_itself_and_sends_nothing(server: "Server") -> None:
    seen = await server.call("POST", f"{PATH}/preview{OF_SHOP}", MESSAGE, who="reviewer")
    assert seen.status == 200, seen.body
    assert seen.body["subscribers"] == 3  # who has yet to confirm is none of them
    mail = seen.body["mail"]
    assert mail["subject"] == "[Shop] We move <today>"
    assert "<strong>Berlin</strong>" in mail["html"]
    assert "<today>" not in mail["html"]
    assert "<b>on</b>" not in mail["html"]
    assert "Berlin" in mail["text"]
    assert decode_header(mail["subject"])[0][1] is None
    some = await server.call("POST", f"{PATH}/preview{OF_SHOP}", MESSAGE | {"components": ["site"]})
    assert some.body["subscribers"] == 3
    assert (await server.call("GET", PATH)).body["items"] == []
    assert not await _letters(server)


async def test_a_message_is_told_to_each_exactly_once(server: "Server") -> None:
    headers = {"Idempotency-Key": "once"}
    sent = [await server.call("POST", PATH + OF_SHOP, MESSAGE, headers=headers) for _ in range(2)]
    assert [answer.status for answer in sent] == [201, 201]
    assert sent[0].body["id"] == sent[1].body["id"]
    assert sent[0].body["progress"] == {"waiting": 3, "sent": 0, "failed": 0, "dropped": 0}
    letters = await _letters(server)
    assert len({letter["subscriber_id"] for letter in letters}) == len(letters) == 3
    async with server.services.pool.acquire() as db:
        await db.execute("UPDATE letters SET status = 'done' WHERE id = $1", letters[0]["id"])
        await db.execute("UPDATE letters SET status = 'dead' WHERE id = $1", letters[1]["id"])
    shown = await server.call("GET", f"{PATH}/{sent[0].body['id']}")
    assert shown.body["progress"] == {"waiting": 1, "sent": 1, "failed": 1, "dropped": 0}
    listed = await server.call("GET", PATH + OF_SHOP)
    assert [item["id"] for item in listed.body["items"]] == [sent[0].body["id"]]
    log = (await server.call("GET", "/api/v1/audit?limit=1")).body["items"][0]
    assert (log["verb"], log["after"]["subject"]) == ("broadcast.send", "We move <today>")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"subject": "a\r\nBcc: b@shop.example"}, "/subject"),
        ({"subject": ""}, "/subject"),
        ({"subject": "a" * 201}, "/subject"),
        ({"text": ""}, "/text"),
        ({"components": ["nothing"]}, "/components/0"),
        ({"components": []}, "/components"),
    ],
)
async def test_a_message_that_cannot_be_told_is_refused(
    server: "Server", fields: dict[str, Any], pointer: str
) -> None:
    for path in (PATH, f"{PATH}/preview"):
        answer = await server.call("POST", path + OF_SHOP, MESSAGE | fields)
        assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, pointer)


async def test_what_is_told_is_for_who_may_review_that_page(server: "Server") -> None:
    assert (await server.call("POST", PATH + OF_SHOP, MESSAGE, who="viewer")).status == 403
    assert (await server.call("POST", PATH + OF_SHOP, MESSAGE, who="other")).status == 404
    made = await server.call("POST", PATH, MESSAGE, who="reviewer")  # theirs is the only page
    assert (made.status, made.body["page"]) == (201, "shop")
    assert (await server.call("GET", f"{PATH}/{made.body['id']}", who="other")).status == 404
    assert (await server.call("GET", PATH, who="other")).body["items"] == []


async def test_an_incident_says_how_many_hear_of_it(server: "Server") -> None:
    body = {"page": "shop", "title": "Down", "text": "It is.", "components": {"shop/site": "major_outage"}}
    quiet = await server.call("POST", "/api/v1/incidents", body | {"notify": False})
    assert quiet.body["notified"]["subscribers"] == 0
    told = await server.call(
        "POST", f"/api/v1/incidents/{quiet.body['id']}/updates", {"text": "Still.", "notify": True}
    )
    assert told.body["notified"]["subscribers"] == 3
    (item,) = (await server.call("GET", PATH + OF_SHOP)).body["items"]
    assert (item["kind"], item["incident"], item["subject"]) == ("update", quiet.body["id"], "Down")
    elsewhere = await server.call(
        "POST", "/api/v1/incidents", {"page": "shop", "title": "Odd", "text": "Hm.", "notify": True}
    )
    assert (
        elsewhere.body["notified"]["subscribers"] == 2
    )  # of no component: who wants only some hears nothing
