"""Subscribers as operators manage them: listed, added, imported, exported; nobody is told again against their will."""

import asyncio
import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import subscribers
from engine.store.database import transaction
from engine.store.ids import read

if TYPE_CHECKING:
    from tests.api.conftest import Answer, Server

OF_SHOP = "?page=shop"
PATH = "/api/v1/subscribers"


@pytest.fixture(autouse=True)
async def _empty(server: "Server") -> None:
    async with server.services.pool.acquire() as db:
        await db.execute("TRUNCATE subscribers, letters CASCADE")


async def _add(server: "Server", address: str, page: str = "shop", **fields: Any) -> "Answer":
    return await server.call("POST", f"{PATH}?page={page}", {"address": address} | fields)


async def _known(server: "Server", address: str, **fields: Any) -> Any:
    answer = await _add(server, address, is_confirmed=True, reason="in the contract", **fields)
    assert answer.status == 201, answer.body
    return answer.body


async def _letters(server: "Server") -> list[Any]:
    async with server.services.pool.acquire() as db:
        return list(await db.fetch("SELECT * FROM letters ORDER BY id"))


async def _import(server: "Server", text: str | bytes, query: str = "", who: str = "installer") -> "Answer":
    raw = text.encode() if isinstance(text, str) else text
    return await server.call(
        "POST", f"{PATH}/import{OF_SHOP}{query}", data=raw, headers={"Content-Type": "text/csv"}, who=who
    )


async def test_whoever_is_added_is_mailed_a_link_and_told_only_once_they_confirm(server: "Server") -> None:
    added = await _add(server, " Ann.B+ops@Bücher.example ", components=["site"], name="Ann", language="en")
    assert added.status == 201, added.body
    assert added.body["address"] == "Ann.B+ops@xn--bcher-kva.example"
    assert (added.body["status"], added.body["source"]) == ("pending", "admin")
    assert (added.body["components"], added.body["name"]) == (["site"], "Ann")
    (letter,) = await _letters(server)
    assert letter["item"]["letter"]["kind"] == "confirm"
    assert letter["item"]["link"].startswith(f"{server.url}/p/shop/confirm/")
    again = await _add(server, "ann.b+OPS@bücher.example")
    assert (again.status, again.body["id"]) == (200, added.body["id"])
    assert len(await _letters(server)) == 1  # not so soon after the first


async def test_who_is_told_without_asking_is_told_for_a_reason_that_is_kept(server: "Server") -> None:
    refused = await _add(server, "ann@shop.example", is_confirmed=True)
    assert (refused.status, "is missing: say how" in str(refused.body)) == (422, True)
    made = await _known(server, "ann@shop.example")
    assert made["status"] == "active"
    assert not await _letters(server)
    log = await server.call("GET", "/api/v1/audit?limit=1")
    assert log.body["items"][0]["after"]["reason"] == "in the contract"
    assert "ann@shop" not in str(log.body["items"][0])


async def test_who_unsubscribed_is_not_told_again_by_a_file_nor_by_being_added(server: "Server") -> None:
    made = await _known(server, "ann@shop.example")
    ended = await server.call("PATCH", f"{PATH}/{made['id']}", {"status": "unsubscribed"})
    assert ended.body["status"] == "unsubscribed"
    again = await _add(server, "ANN@shop.example", is_confirmed=True, reason="they are back")
    assert (again.status, again.body["status"]) == (200, "unsubscribed")
    done = await _import(server, "email,confirmed\nann@shop.example,yes\n", "&reason=list")
    assert (done.body["added"], done.body["kept"]) == (0, 1)
    silent = await server.call("PATCH", f"{PATH}/{made['id']}", {"status": "active"})
    assert silent.status == 422
    back = await server.call("PATCH", f"{PATH}/{made['id']}", {"status": "active", "reason": "they wrote"})
    assert back.body["status"] == "active"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"address": "no mailbox"}, "/address"),
        ({"address": "a@shop.example\r\nBcc: b@shop.example"}, "/address"),
        ({"address": "a@shop.example", "name": "A\r\nBcc: b@shop.example"}, "/name"),
        ({"address": "a@127.0.0.1"}, "/address"),
        ({"address": "ftp://x.example/", "kind": "webhook"}, "/address"),
        ({"address": "https://evil.example/services/", "kind": "slack"}, "/address"),
        ({"address": "https://me:secret@x.example/", "kind": "webhook"}, "/address"),
        ({"address": "a@shop.example", "components": ["nothing"]}, "/components/0"),
        ({"address": "a@shop.example", "language": "tlh"}, "/language"),
    ],
)
async def test_what_nobody_could_be_told_at_is_refused(
    server: "Server", fields: dict[str, Any], pointer: str
) -> None:
    answer = await server.call("POST", PATH + OF_SHOP, fields)
    assert answer.status == 422, answer.body
    assert answer.body["errors"][0]["pointer"] == pointer
    assert "secret" not in str(answer.body)


async def test_a_list_is_chosen_from_and_read_in_parts(server: "Server") -> None:
    for n in range(5):
        await _known(server, f"n{n}@shop.example", components=["site"] if n == 3 else None, name=f"No {n}")
    hook = await _known(server, "https://hook.example/secret-7731?k=1", kind="webhook")
    await _known(server, "n0@shop.example", page="blog")
    await server.call("PATCH", f"{PATH}/{hook['id']}", {"status": "unsubscribed"})

    async def listed(query: str, who: str = "installer") -> list[str]:
        answer = await server.call("GET", f"{PATH}?{query}", who=who)
        assert answer.status == 200, answer.body
        return [item["address"] for item in answer.body["items"]]

    assert len(await listed("")) == 7
    assert len(await listed("page=shop&status=active")) == 5
    assert await listed("page=shop&kind=webhook") == ["https://hook.example/secret-7731?k=1"]
    assert await listed("page=shop&search=NO 3") == ["n3@shop.example"]
    assert len(await listed("page=shop&component=site")) == 6
    first = await server.call("GET", f"{PATH}?page=shop&limit=4")
    second = await server.call("GET", f"{PATH}?page=shop&limit=4&cursor={first.body['next']}")
    assert [len(first.body["items"]), len(second.body["items"]), second.body["next"]] == [4, 2, None]
    # Who may not edit sees no URL, nor finds it letter by letter.
    assert await listed("page=shop&kind=webhook", "viewer") == ["https://hook.example/..."]
    assert await listed("page=shop&search=secret-7731", "viewer") == []
    assert await listed("page=shop&kind=webhook&search=secret-7731", "viewer") == []
    assert await listed("page=shop&search=n3@", "viewer") == ["n3@shop.example"]
    assert await listed("", "other") == ["n0@shop.example"]


async def test_a_subscriber_of_a_foreign_page_is_not_there(server: "Server") -> None:
    made = await _known(server, "ann@shop.example")
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        answer = await server.call(method, f"{PATH}/{made['id']}", body, who="other")
        assert answer.status == 404
    assert (await server.call("DELETE", f"{PATH}/{made['id']}", who="reviewer")).status == 403
    assert (await server.call("DELETE", f"{PATH}/{made['id']}", who="editor")).status == 204
    assert (await server.call("GET", f"{PATH}/{made['id']}")).status == 404


async def test_who_ended_it_while_an_operator_edits_them_stays_so(server: "Server") -> None:
    made = await _known(server, "ann@shop.example")
    key = read("subscriber", made["id"])
    assert key is not None
    async with transaction(server.services.pool) as db:
        await subscribers.edit(db, key, {"status": "unsubscribed"})
        edit = asyncio.create_task(server.call("PATCH", f"{PATH}/{made['id']}", {"name": "Ann"}))
        await asyncio.sleep(0.3)
    answer = await edit
    assert (answer.body["status"], answer.body["name"]) == ("unsubscribed", "Ann")


async def test_a_file_asks_nobody_who_is_told_or_ended_it(server: "Server") -> None:
    await _known(server, "told@shop.example")
    made = await _known(server, "ended@shop.example")
    await server.call("PATCH", f"{PATH}/{made['id']}", {"status": "unsubscribed"})
    text = "email\ntold@shop.example\nended@shop.example\nnew@shop.example\n"
    done = await _import(server, text)
    assert (done.body["asked"], done.body["kept"]) == (1, 2)
    assert [letter["address"] for letter in await _letters(server)] == ["new@shop.example"]
    assert (await _add(server, "ended@shop.example")).body["status"] == "unsubscribed"
    assert len(await _letters(server)) == 1


async def test_who_ended_it_in_one_line_of_a_file_is_told_by_no_other(server: "Server") -> None:
    text = "email,status\na@shop.example,active\nA@shop.example,unsubscribed\na@shop.example,active\n"
    done = await _import(server, text, "&confirmed=true&reason=list")
    assert (done.body["added"], done.body["ended"], done.body["repeated"]) == (0, 1, 1), done.body
    assert (await server.call("GET", PATH)).body["items"] == []


async def test_every_bad_line_of_a_file_is_named_and_nothing_imported(server: "Server") -> None:
    text = (
        "\ufeffemail;url;components;language;name;confirmed\r\n"
        "ok@shop.example;;site;en;Ann;yes\r\n"
        "nobody;;;;;\r\n"
        ";;;;;\r\n"
        "a@shop.example;https://x.example/;;;;\r\n"
        "b@shop.example;;nothing;;;\r\n"
        "c@shop.example;;;tlh;;\r\n"
        "d@shop.example;;;;;perhaps\r\n"
        "e@shop.example;;\r\n"
        "OK@shop.example;;;;;yes\r\n"
        ";https://hook.example/x;;;;\r\n"
    )
    tried = await _import(server, text, "&dry_run=true")
    assert tried.status == 200, tried.body
    assert {bad["line"]: bad["reason"].partition(":")[0] for bad in tried.body["bad"]} == {
        3: "email",
        5: "has an email or a url, one of them",
        6: "components",
        7: "language",
        8: "confirmed",
        9: "has 3 cells; the first line has 6",
    }
    assert (tried.body["added"], tried.body["asked"], tried.body["repeated"]) == (1, 1, 1)
    refused = await _import(server, text, "&reason=list")
    assert refused.status == 422
    assert [error["pointer"] for error in refused.body["errors"]] == ["/3", "/5", "/6", "/7", "/8", "/9"]
    assert (await server.call("GET", PATH)).body["items"] == []
    assert not await _letters(server)
    unsaid = await _import(server, text, "&skip_bad=true")
    assert (unsaid.status, unsaid.body["errors"][0]["pointer"]) == (422, "/reason")
    done = await _import(server, text, "&skip_bad=true&reason=list")
    assert (done.status, done.body["added"], done.body["asked"]) == (200, 1, 1), done.body
    (letter,) = await _letters(server)
    assert (letter["kind"], letter["address"]) == ("webhook", "https://hook.example/x")
    log = (await server.call("GET", "/api/v1/audit?limit=1")).body["items"][0]
    assert (log["verb"], log["after"]["added"], "ok@shop" in str(log)) == ("subscribers.import", 1, False)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "names the columns"),
        (b"mail\nx@shop.example\n", "names the columns"),
        (b"email,email\nx@shop.example,\n", "names the columns"),
        (b"email\n\xff\n", "is not UTF-8"),
        (b'email\n"x@shop.example\n', "cannot be read as CSV"),
        (b"email\n" + b"x" * 200_000, "cannot be read as CSV"),
        (b"email\n" + b"x@shop.example\n" * 50_001, "is beyond 50000 lines"),
    ],
)
async def test_a_file_that_is_none_is_refused(server: "Server", raw: bytes, said: str) -> None:
    answer = await _import(server, raw, "&dry_run=true")
    assert said in str(answer.body["bad"]), answer.body


async def test_a_file_is_bounded(server: "Server") -> None:
    big = io.BytesIO(b"email\n" + b"x" * 5_000_000)
    headers = {"Content-Type": "text/csv", "Authorization": f"Bearer {server.tokens['installer']}"}
    async with server.session.post(f"{server.url}{PATH}/import{OF_SHOP}", data=big, headers=headers) as sent:
        assert sent.status == 413
    many = "email\n" + "\n".join(f"n{n}@shop.example" for n in range(5001))
    refused = await _import(server, many)
    assert (refused.status, "one import mails 5000" in refused.body["detail"]) == (422, True)
    json = await server.call("POST", f"{PATH}/import{OF_SHOP}", {})
    assert json.status == 415
    assert (await _import(server, "email\n", who="reviewer")).status == 403


async def test_an_export_is_computed_by_no_spreadsheet_and_imports_as_it_was(server: "Server") -> None:
    await _known(server, "=cmd+x@shop.example", name="+1", components=["site"])
    await _known(server, "'=x@shop.example", name="'=1")
    await _known(server, "https://hook.example/x", kind="webhook", name="@SUM(A1)")
    gone = await _known(server, "gone@shop.example")
    await server.call("PATCH", f"{PATH}/{gone['id']}", {"status": "unsubscribed"})
    export = await server.call("GET", f"{PATH}/export{OF_SHOP}")
    assert export.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert 'filename="shop-subscribers.csv"' in export.headers["Content-Disposition"]
    cells = list(csv.DictReader(io.StringIO(export.body)))
    assert {row["name"] for row in cells} == {"'+1", "'@SUM(A1)", "''=1", ""}
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in cells for cell in row.values())
    assert (await server.call("GET", f"{PATH}/export{OF_SHOP}", who="reviewer")).status == 403
    before = (await server.call("GET", PATH)).body["items"]
    async with server.services.pool.acquire() as db:
        await db.execute("TRUNCATE subscribers CASCADE")
    done = await _import(server, export.body, "&reason=moved")
    assert (done.body["added"], done.body["ended"], done.body["bad"]) == (3, 1, []), done.body
    kept = ("address", "kind", "name", "components", "status")
    after = (await server.call("GET", PATH)).body["items"]
    told = [item for item in before if item["status"] == "active"]

    def brief(items: list[Any]) -> list[tuple[Any, ...]]:
        return sorted(tuple(str(item[key]) for key in kept) for item in items)

    assert brief(after) == brief(told)


async def test_who_heard_of_what_is_gone_or_unlisted_hears_of_no_more_after_a_move(server: "Server") -> None:
    for slug in ("gone", "hidden"):
        fields = {"slug": slug, "name": slug}
        assert (await server.call("POST", f"/api/v1/components{OF_SHOP}", fields)).status == 201
        await _known(server, f"{slug}@shop.example", components=[slug])
    match = {"If-Match": "*"}
    await server.call("DELETE", f"/api/v1/components/gone{OF_SHOP}", headers=match)
    hidden = await server.call("PATCH", f"/api/v1/components/hidden{OF_SHOP}", {"listed": False})
    assert hidden.status == 200, hidden.body
    export = await server.call("GET", f"{PATH}/export{OF_SHOP}")
    async with server.services.pool.acquire() as db:
        await db.execute("TRUNCATE subscribers CASCADE")
    done = await _import(server, export.body, "&reason=moved")
    assert (done.body["added"], done.body["bad"]) == (2, []), done.body
    items = (await server.call("GET", PATH)).body["items"]
    assert {item["address"]: item["components"] for item in items} == {
        "gone@shop.example": [],
        "hidden@shop.example": ["hidden"],
    }
    await server.call("DELETE", f"/api/v1/components/hidden{OF_SHOP}", headers=match)


async def test_subscribers_of_a_removed_page_are_shown_to_nobody(server: "Server") -> None:
    await server.call("POST", "/api/v1/pages", {"slug": "gone", "name": "Gone"})
    made = await _known(server, "ann@shop.example", page="gone")
    said = {"subject": "Hello", "text": "World"}
    assert (await server.call("POST", "/api/v1/broadcasts?page=gone", said)).status == 201
    removed = await server.call("DELETE", "/api/v1/pages/gone", headers={"If-Match": "*"})
    assert removed.status == 204
    assert (await server.call("GET", PATH)).body["items"] == []
    assert (await server.call("GET", f"{PATH}/{made['id']}")).status == 404
    assert all(
        one["page"] != "gone" for one in (await server.call("GET", "/api/v1/broadcasts")).body["items"]
    )
