"""A page as a zip over REST: who gets it, of which page; and who may have files written where."""

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.store.ids import new_id
from rules.settings import Lending

if TYPE_CHECKING:
    from tests.api.conftest import Server


async def _zip(server: "Server", path: str, who: str = "viewer") -> zipfile.ZipFile:
    headers = {"Authorization": f"Bearer {server.tokens[who]}"}
    async with server.session.get(f"{server.url}/api/v1/pages/{path}", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "application/zip")
        return zipfile.ZipFile(io.BytesIO(await answer.read()))


async def test_who_may_read_a_page_gets_all_of_it(server: "Server") -> None:
    found = await _zip(server, "shop/export?base=/status&origin=https://s.example&index=true")
    assert found.testzip() is None
    assert {"index.html", "history/index.html", "feed.atom", "status.json"} <= set(found.namelist())
    text = found.read("index.html").decode()
    assert 'href="/status/history/index.html"' in text
    assert not any(
        b"127.0.0.1" in found.read(name) for name in found.namelist()
    )  # the live page's, for us alone
    assert b"https://s.example/status/" in found.read("feed.atom")


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("other", 404), ("expired", 401)])
async def test_nobody_else_does(server: "Server", who: str | None, status: int) -> None:
    assert (await server.call("GET", "/api/v1/pages/shop/export", who=who)).status == status


async def test_a_page_that_is_not_public_is_written_only_by_who_says_that_it_becomes_so(
    server: "Server",
) -> None:
    slug = f"closed-{new_id().hex[-8:]}"
    spec = {"slug": slug, "name": "Closed", "access": {"password": "sesame"}}
    assert (await server.call("POST", "/api/v1/pages", spec)).status == 201
    refused = await server.call("GET", f"/api/v1/pages/{slug}/export")
    assert (refused.status, refused.body["type"].rpartition("#")[2]) == (409, "not-public")
    assert "public" in refused.body["detail"]
    found = await _zip(server, f"{slug}/export?public=true", "installation")
    for name in found.namelist():
        assert b"sesame" not in found.read(name)


@pytest.mark.parametrize(
    "query", ["base=status", "base=/a//b", "origin=status.example.com", "base=/a?b", "origin=https://a/b"]
)
async def test_an_address_that_is_none_is_refused(server: "Server", query: str) -> None:
    refused = await server.call("GET", f"/api/v1/pages/shop/export?{query}")
    assert refused.status == 422
    name, _, value = query.partition("=")
    (error,) = refused.body["errors"]
    assert error["pointer"] == f"/{name}"
    assert error["message"].startswith(f"'{value}' is not ")
    assert ", such as " in error["message"]


async def test_only_who_has_the_machine_says_which_folder_is_written_to(
    server: "Server", tmp_path: Path
) -> None:
    lent, other = tmp_path / "lent", tmp_path / "other"
    lent.mkdir()
    (lent / "out").symlink_to(other)

    async def asked(folder: Path, who: str, page: str = "shop") -> Any:
        spec = {
            "slug": f"f-{new_id().hex[-8:]}",
            "page": page,
            "type": "folder",
            "origin": "https://s.example",
            "folder": str(folder),
        }
        return await server.call("POST", "/api/v1/publishers", spec, who=who)

    refused = await asked(lent / "shop", "editor")
    assert refused.status == 422
    assert refused.body["errors"] == [
        {
            "pointer": "/folder",
            "message": f"{lent}/shop is not lent to API and console: list it in upbeat.yaml as "
            f"`secrets: {{folders: [{lent}/shop]}}`, or declare the object there",
        }
    ]
    before = server.services.secrets.lending
    server.services.secrets.lending = Lending(folders=[str(lent)])
    try:
        made = await asked(lent / "shop", "editor")
        assert made.status == 201, made.body
        assert (await asked(lent / "out" / "shop", "editor")).status == 422
        assert (await asked(lent / ".." / "other", "editor")).status == 422
        assert (await asked(Path(f"{lent}er"), "editor")).status == 422
        within = await asked(lent / "shop" / "de", "other", page="blog")
        assert within.body["errors"][0]["message"] == (
            f"{lent}/shop/de is within the folder of another page: name one beside it"
        )
        moved = {"folder": str(other)}
        path = f"/api/v1/publishers/{made.body['slug']}"
        assert (await server.call("PATCH", path, moved, who="editor")).status == 422
    finally:
        server.services.secrets.lending = before
    assert (await server.call("PATCH", path, {"base": "/status"}, who="editor")).status == 200
    assert (await asked(other, "installer")).status == 201  # with the admin token
