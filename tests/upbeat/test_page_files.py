"""A page as files from a server that runs: written by `upbeat page export`, and kept fresh by publishers."""

import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.store.ids import new_id
from tests.exporters.publishers.s3_server import BUCKET, KEY_ID, REGION, SECRET, S3Server
from tests.rig.process import Upbeat, until
from tests.upbeat.conftest import Cli


@pytest.fixture
async def page(server: Upbeat) -> AsyncIterator[str]:
    """A page of its own, with a component."""
    slug = f"p-{new_id().hex[-8:]}"
    made = [
        await server.call("POST", "/pages", {"slug": slug, "name": "Files", "languages": ["en", "de"]}),
        await server.call("POST", "/components", {"slug": "pay", "name": "Payments", "page": slug}),
    ]
    assert [status for status, _ in made] == [201, 201], made
    yield slug
    # Other tests on this server name no page: there is but one.
    for path in (f"/components/pay?page={slug}", f"/pages/{slug}"):
        assert (await server.call("DELETE", path))[0] == 204


async def test_a_page_is_exported_to_a_folder_again_and_again_and_to_a_zip(
    remote: Cli, page: str, tmp_path: Path
) -> None:
    folder, archive = tmp_path / "status", tmp_path / "status.zip"
    where = ("--base", "/status", "--origin", "https://status.example.com")
    ran = await remote("page", "export", page, "--out", folder, *where)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith(f" files are in {folder}\n")
    before = (folder / "history" / "index.html").stat().st_mtime_ns
    assert 'href="/status/history/"' in (folder / "index.html").read_text()
    assert (await remote("page", "export", page, "--out", folder, *where)).code == 0
    assert (folder / "history" / "index.html").stat().st_mtime_ns == before
    ran = await remote("page", "export", page, "--zip", archive, "--json", *where)
    with zipfile.ZipFile(archive) as found:
        assert ran.json == {"files": len(found.namelist()), "place": str(archive)}
        assert "de/index.html" in found.namelist()


async def test_an_export_that_cannot_be_written_says_why(remote: Cli, page: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    ran = await remote("page", "export", page, "--out", tmp_path)
    assert (ran.code, ran.err) == (
        2,
        f"Error: It was not written: {tmp_path} has files that are not Upbeat's: name an empty folder\n",
    )


async def test_publishers_keep_a_page_fresh_in_a_folder_and_a_bucket(
    server: Upbeat, page: str, tmp_path: Path
) -> None:
    folder = tmp_path / "status"
    common = {"page": page, "origin": "https://status.example.com"}
    async with S3Server.running() as s3:
        for spec in (
            {"slug": "files", "type": "folder", "folder": str(folder), **common},
            {
                "slug": "bucket",
                "type": "s3",
                "bucket": BUCKET,
                "region": REGION,
                "endpoint": s3.url,
                "key_id": KEY_ID,
                "secret": SECRET,
                **common,
            },
        ):
            made = await server.call("POST", "/publishers", spec)
            assert made[0] == 201, made

        async def both(text: str) -> bool:
            def says(said: bytes) -> bool:
                return text.encode() in said

            index = folder / "index.html"
            is_there = index.exists() and says(index.read_bytes())
            return is_there and "index.html" in s3.kept and says(s3.kept["index.html"].body)

        try:
            await until(lambda: both("Payments"), "the page is written", 60)
            assert json.loads(s3.kept["status.json"].body)["status"] == "operational"
            said = {
                "title": "Cards fail",
                "text": "We look.",
                "components": {"pay": "major_outage"},
                "page": page,
                "notify": False,
            }
            status, incident = await server.call("POST", "/incidents", said)
            assert status == 201, incident
            await until(lambda: both("Cards fail"), "the incident is written", 60)
            assert (folder / "incidents" / incident["id"] / "index.html").is_file()
            await server.call("PATCH", f"/pages/{page}", {"name": "Renamed"})
            await until(lambda: both("Renamed"), "its new name is written", 60)

            async def arrived() -> bool:
                found = await server.get(f"/incidents/{incident['id']}/targets")
                steps = {one["publisher"]: one["deliveries"][0]["status"] for one in found["items"]}
                return steps == {"files": "done", "bucket": "done"}

            await until(arrived, "both are targets of the incident", 60)
            asked = f"/publishers/files/{{}}?page={page}"
            _, checked = await server.call("POST", asked.format("check"))
            assert (checked["outcome"], checked["lines"][0].partition(": ")[0]) == ("delivered", str(folder))
            _, ran = await server.call("POST", asked.format("dry-run"), {"incident": incident["id"]})
            assert ran["outcome"] == "delivered"
            (there,) = (await server.get(asked.format("drift")))["items"]
            assert (there["remote"], there["lines"]) == (f"incidents/{incident['id']}", [])
            health = await server.get(f"/publishers/files/health?page={page}")
            assert (health["state"], health["pending"], health["dead"]) == ("ok", 0, 0)
        finally:
            for slug in ("files", "bucket"):
                await server.call("DELETE", f"/publishers/{slug}?page={page}")
