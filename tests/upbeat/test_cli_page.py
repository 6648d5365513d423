"""`upbeat page`: pictures and the host name of a page, on a server that runs. Its files are another test's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from engine.store.ids import new_id
from tests.rig.process import Upbeat
from tests.upbeat.conftest import Cli


@pytest.fixture
async def page(server: Upbeat) -> AsyncIterator[str]:
    """A page with a host name of its own."""
    slug = f"p-{new_id().hex[-8:]}"
    status, _ = await server.call(
        "POST", "/pages", {"slug": slug, "name": "Shop", "domain": f"{slug}.invalid"}
    )
    assert status == 201
    yield slug
    # Other tests on this server name no page: there is but one.
    assert (await server.call("DELETE", f"/pages/{slug}"))[0] == 204


async def test_a_picture_is_uploaded_from_a_file_and_shown(
    server: Upbeat, remote: Cli, page: str, tmp_path: Path
) -> None:
    logo, text = tmp_path / "logo.gif", tmp_path / "notes.txt"
    Image.new("RGB", (40, 20), "red").save(logo)
    text.write_text("no picture")
    ran = await remote("page", "upload", page, "logo", logo, "--json")
    assert (ran.code, ran.json["media_type"]) == (0, "image/png")
    shown = await remote("page", "upload", page, "logo-dark", logo)
    assert shown.out.startswith(f"{page} shows it as image/png of ")
    wrong = await remote("page", "upload", page, "favicon", text)
    assert (wrong.code, "the picture" in wrong.err) == (2, True)
    _, html = await server.call("GET", f"//p/{page}")
    assert f"/assets/{ran.json['file']}" in html


async def test_the_records_of_a_host_name_are_printed_and_looked_for(
    server: Upbeat, remote: Cli, page: str
) -> None:
    ran = await remote("page", "domain", page)
    assert ran.code == 0
    assert f"_upbeat.{page}.invalid" in ran.out
    assert "Set them, then: --check" in ran.out
    assert (await remote("page", "domain", page, "--quiet")).out.startswith("upbeat-verify=")
    looked = await remote("page", "domain", page, "--check")
    assert (looked.code, "Set them" in looked.out) == (1, False)
    assert (await server.call("PATCH", f"/pages/{page}", {"domain": None}))[0] == 200
    without = await remote("page", "domain", page)
    assert (without.code, "names no domain" in without.err) == (2, True)
