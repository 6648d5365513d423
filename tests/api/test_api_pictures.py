"""Pictures of a page over HTTP: uploaded by who may, served as they were made anew, and inert in a real browser."""

import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from engine.clock import SystemClock
from engine.store.ids import new_id
from tests.api.console.conftest import WATCH
from tests.rig.browser import barriers, chromium
from tests.rules.test_picture import HOSTILE, SVG

if TYPE_CHECKING:
    from tests.api.conftest import Server


class Later(SystemClock):
    """The machine's clock, moved on with every question."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


def png(colour: str = "red", size: tuple[int, int] = (60, 20)) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, colour).save(written, "PNG")
    return written.getvalue()


@pytest.fixture
async def slug(server: "Server") -> str:
    slug = f"q-{new_id().hex[-8:]}"
    made = await server.call("POST", "/api/v1/pages", {"slug": slug, "name": "Painted"})
    assert made.status == 201
    Later.ahead_s += 1000
    server.services.clock = Later()
    return slug


async def _put(server: "Server", slug: str, name: str, body: bytes, who: str = "installer") -> Any:
    path, kind = f"/api/v1/pages/{slug}/pictures/{name}", {"Content-Type": "image/png"}
    return await server.call("PUT", path, data=body, who=who, headers=kind)


async def _get(server: "Server", path: str) -> tuple[int, Any, bytes]:
    Later.ahead_s += 20
    async with server.session.get(server.url + path) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_a_picture_is_served_under_a_name_of_its_content(server: "Server", slug: str) -> None:
    first = await _put(server, slug, "logo", png())
    assert first.status == 200, first.body
    assert (first.body["name"], first.body["media_type"]) == ("logo", "image/png")
    status, headers, body = await _get(server, f"/p/{slug}/assets/{first.body['file']}")
    assert (status, headers["Content-Type"], len(body)) == (200, "image/png", first.body["size_bytes"])
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert first.body["file"].encode() in (await _get(server, f"/p/{slug}"))[2]
    second = await _put(server, slug, "logo", png("blue"))
    assert second.body["file"] != first.body["file"]
    assert second.body["file"].encode() in (await _get(server, f"/p/{slug}"))[2]
    gone = await server.call("DELETE", f"/api/v1/pages/{slug}/pictures/logo")
    assert gone.status == 204
    assert b"assets/logo" not in (await _get(server, f"/p/{slug}"))[2]
    assert (await server.call("DELETE", f"/api/v1/pages/{slug}/pictures/logo")).status == 404
    lines = (await server.call("GET", "/api/v1/audit")).body["items"][:3]
    assert [line["verb"] for line in lines] == ["picture.remove", "picture.upload", "picture.upload"]
    assert (lines[1]["before"], lines[1]["after"]) == (
        {"file": first.body["file"]},
        {"file": second.body["file"]},
    )


async def test_a_favicon_is_at_the_root_of_the_page_too(server: "Server", slug: str) -> None:
    assert (await _get(server, f"/p/{slug}/favicon.ico"))[0] == 404
    made = await _put(server, slug, "favicon", png(size=(200, 100)))
    status, headers, body = await _get(server, f"/p/{slug}/favicon.ico")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(body)).size == (180, 180)
    assert len(body) == made.body["size_bytes"]


async def test_what_is_no_picture_is_refused(server: "Server", slug: str) -> None:
    for body, status, said in (
        (b"", 422, "is no picture that is known"),
        (b"%PDF", 422, "is no picture that is known"),
        (png()[:60], 422, "is damaged"),
        (b"\0" * 1_000_001, 413, "1000000 bytes"),
    ):
        refused = await _put(server, slug, "logo", body)
        assert refused.status == status
        assert said in refused.body["detail"]
    assert (await _put(server, slug, "banner", png())).status == 422
    assert (await _put(server, "nothing", "logo", png())).status == 404


async def test_pictures_are_for_who_may_edit_the_page(server: "Server") -> None:
    for who, status in (("viewer", 403), ("reviewer", 403), ("other", 404), ("editor", 200), ("writer", 200)):
        assert (await _put(server, "shop", "logo", png(), who)).status == status, who
    assert (await server.call("DELETE", "/api/v1/pages/shop/pictures/logo", who="viewer")).status == 403
    assert (await server.call("DELETE", "/api/v1/pages/shop/pictures/logo", who="editor")).status == 204


async def test_pictures_are_shown_at_the_gate_and_end_with_their_page(server: "Server", slug: str) -> None:
    file = (await _put(server, slug, "logo", png())).body["file"]
    await server.call("PATCH", f"/api/v1/pages/{slug}", {"access": {"password": "x"}})
    status, headers, body = await _get(server, f"/p/{slug}")
    assert (status, file.encode() in body) == (401, True)
    status, headers, _ = await _get(server, f"/p/{slug}/assets/{file}?key=x")
    assert (status, "Set-Cookie" in headers) == (200, False)
    assert (await server.call("DELETE", f"/api/v1/pages/{slug}")).status == 204
    assert (await _get(server, f"/p/{slug}/assets/{file}"))[0] == 404


@pytest.mark.browser
async def test_a_hostile_svg_runs_and_loads_nothing_even_opened_by_itself(
    server: "Server", slug: str
) -> None:
    async with chromium() as browser:
        context = await browser.new_context()
        await context.add_init_script(WATCH)
        tab = await context.new_page()
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        for inner in ("<path d='M0 0h9v9z' fill='#0a0'/>", *HOSTILE):
            made = await _put(server, slug, "logo", SVG.format(f"<path d='M0 0h9v9z'/>{inner}").encode())
            if made.status == 422:
                continue
            path = f"/p/{slug}/assets/{made.body['file']}"
            _, headers, _ = await _get(server, path)
            assert headers["Content-Type"] == "image/svg+xml"
            assert headers["Content-Security-Policy"].endswith("sandbox")
            await tab.goto(server.url + path)
            assert await tab.evaluate("window.attacks || []") == []
            assert await tab.evaluate("document.documentElement.localName") == "svg"
        assert not [url for url in asked if not url.startswith(server.url)]
        Later.ahead_s += 20
        await tab.goto(f"{server.url}/p/{slug}")
        assert await tab.evaluate("document.querySelector('header img').naturalWidth > 0")


@pytest.mark.browser
async def test_the_gate_is_passed_by_keyboard_alone_and_leads_to_where_one_was_going(
    server: "Server", slug: str
) -> None:
    await _put(server, slug, "logo", png())
    access = {"password": "open sesame", "emails": ["corp.example"]}
    await server.call("PATCH", f"/api/v1/pages/{slug}", {"access": access})
    Later.ahead_s += 20
    said: list[str] = []
    async with chromium() as browser:
        for scripts in (True, False):
            context = await browser.new_context(java_script_enabled=scripts)
            tab = await context.new_page()
            tab.on("console", lambda message: said.append(message.text))
            await tab.goto(f"{server.url}/p/{slug}/history")
            assert "not public" in await tab.inner_text("h1")
            if scripts:
                assert await barriers(tab) == []
            await tab.focus("#password")
            await tab.keyboard.type("wrong")
            await tab.keyboard.press("Enter")
            await tab.wait_for_selector("[role=status]")
            assert "not the password" in await tab.inner_text("[role=status]")
            await tab.focus("#password")
            await tab.keyboard.type("open sesame")
            await tab.keyboard.press("Enter")
            await tab.wait_for_url(f"**/p/{slug}/history")
            assert (await context.cookies())[0]["httpOnly"]
            await context.close()
    assert not [line for line in said if "Content Security Policy" in line]
