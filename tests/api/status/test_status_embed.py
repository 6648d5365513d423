"""The page in a frame of another site: chosen parts of it, where the page allows it, and nothing else of Upbeat anywhere."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from api.status.document import Document
from api.status.embed import VIEWS
from api.status.snippets import snippets
from api.status.view import Place
from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from rules.language import language
from rules.page import Page
from tests.api.console.conftest import WATCH
from tests.api.console.test_console_hostile import ALL, PAYLOADS
from tests.api.status.told import NOW, component, incident
from tests.rig.browser import barriers, chromium

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

    from tests.api.conftest import Server

PLACE = Place("/p/shop", "https://up.example", language("en"))
PAY, WEB = component(1, "pay", "major_outage", group="Money"), component(2, "web")


def _page(**rule: Any) -> Document:
    failed = incident(
        1, {"identified": "We know **why**."}, about={PAY.id: "major_outage"}, title="Cards fail"
    )
    planned = incident(
        2,
        {"scheduled": "New disks."},
        kind="maintenance",
        about={WEB.id: "under_maintenance"},
        title="Disks",
        hours=9,
    )
    return Document(
        "page_x",
        Page.model_validate({"slug": "shop", "name": "Shop"} | rule),
        "major_outage",
        [PAY, WEB],
        [failed],
        [planned],
        NOW + timedelta(hours=1),
        {},
    )


def _html(page: Document | None = None, path: str = "embed", **asked: str) -> str:
    (made,) = (view.make(page or _page(), PLACE, asked) for view in VIEWS if view.pattern.fullmatch(path))
    assert made is not None
    return made.body.decode()


def _order(html: str) -> list[str]:
    """The parts of it, by something that each has."""
    return re.findall(r'class="banner|id="listed"|id="open"|id="planned"', html)


STATUS, LISTED, OPEN, PLANNED = 'class="banner', 'id="listed"', 'id="open"', 'id="planned"'


@pytest.mark.parametrize(
    ("sections", "shown"),
    [
        ("", [STATUS, LISTED, OPEN, PLANNED]),
        ("status", [STATUS]),
        ("maintenance,incidents", [PLANNED, OPEN]),
        ("components,components,status", [LISTED, STATUS]),
        ("nothing,that,is", [STATUS, LISTED, OPEN, PLANNED]),
    ],
)
def test_sections_are_shown_in_the_order_that_is_asked(sections: str, shown: list[str]) -> None:
    assert _order(_html(sections=sections)) == shown


def test_of_chosen_components_there_is_only_what_is_about_them() -> None:
    html = _html(components="web")
    assert ("All systems operational" in html, "Cards fail" in html, "Disks" in html) == (True, False, True)
    html = _html(components="pay,unknown")
    assert ("Major outage" in html, "Cards fail" in html, "Disks" in html) == (True, True, False)
    for misspelt in ("", "pays", ",,"):
        html = _html(components=misspelt)
        assert ("Major outage" in html, _order(html)) == (True, [STATUS, LISTED, OPEN, PLANNED])


def test_theme_and_size_are_chosen() -> None:
    assert 'data-theme="dark"' in _html(theme="dark")
    assert 'data-theme="light"' in _html(_page(look={"theme": "light"}), theme="pink")
    whole, compact = _html(), _html(compact="1")
    assert ("We know" in whole, "We know" in compact) == (True, False)
    assert _order(_html(path="widget", sections="components", compact="0")) == [STATUS]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["sections", "components", "theme", "compact"]),
        st.one_of(st.text(max_size=200), st.sampled_from(["status,,", "pay,web", "1", "light", *PAYLOADS])),
    ),
    st.sampled_from(["embed", "widget"]),
)
def test_whatever_is_asked_a_page_comes_out_with_nothing_of_it(asked: dict[str, str], path: str) -> None:
    html = _html(_page(), path, **asked)
    assert not any(said in html for said in asked.values() if "<" in said)
    assert html.count("<h1") == 1


def test_a_frame_has_no_form_and_leads_out_of_itself() -> None:
    html = _html()
    assert "<form" not in html
    assert '<base target="_blank">' in html


@pytest.mark.parametrize(
    ("frames", "ancestors"),
    [
        ([], "'none'"),
        (["https://a.example", "https://*.b.example:8443"], "https://a.example https://*.b.example:8443"),
        ("any", "*"),
    ],
)
def test_who_may_show_it_in_a_frame_is_said_by_the_page(frames: Any, ancestors: str) -> None:
    for path in ("embed", "widget"):
        (view,) = (view for view in VIEWS if view.pattern.fullmatch(path))
        made = view.make(_page(frames=frames), PLACE, {})
        assert made is not None
        policy = dict(
            part.strip().split(" ", 1) for part in made.headers["Content-Security-Policy"].split(";")
        )
        assert (policy["frame-ancestors"], policy["form-action"]) == (ancestors, "'none'")


async def _made(server: "Server", **spec: Any) -> str:
    slug = f"f-{new_id().hex[-8:]}"
    async with transaction(server.services.pool) as db:
        page = await objects.create(
            db, Actor("t", "api"), "page", None, {"slug": slug, "name": "Shop"} | spec
        )
        for at, payload in enumerate(PAYLOADS):
            rule = {"slug": f"c{at}", "name": payload, "group": payload, "description": ALL}
            await objects.create(db, Actor("t", "api"), "component", page.id, rule)
    return slug


@pytest.fixture
async def sites() -> AsyncIterator[list[str]]:
    """Two sites of others, whose pages frame what `?to=` names."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=f'<iframe src="{request.query["to"]}"></iframe>', content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    for _ in range(2):
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
    ports = [address[1] for address in runner.addresses]
    yield [f"http://127.0.0.1:{port}" for port in ports]
    await runner.cleanup()


async def _is_framed(context: "BrowserContext", site: str, inner: str) -> bool:
    """Whether a page of `site` shows `inner` in a frame."""
    tab = await context.new_page()
    await tab.goto(f"{site}/?to={quote(inner, safe='')}")
    (frame,) = tab.main_frame.child_frames
    is_shown = frame.url == inner
    assert is_shown or frame.url.startswith("chrome-error:"), frame.url
    await tab.close()
    return is_shown


@pytest.mark.browser
async def test_allowed_sites_frame_what_is_made_for_it_and_nobody_anything_else(
    server: "Server", sites: list[str]
) -> None:
    good, bad = sites
    closed, some, anybody = (
        await _made(server),
        await _made(server, frames=[good]),
        await _made(server, frames="any"),
    )
    async with chromium() as browser:
        context = await browser.new_context()
        for path in ("embed", "widget", "embed?compact=1&theme=dark"):
            assert await _is_framed(context, good, f"{server.url}/p/{some}/{path}")
            assert not await _is_framed(context, bad, f"{server.url}/p/{some}/{path}")
            assert await _is_framed(context, bad, f"{server.url}/p/{anybody}/{path}")
            assert not await _is_framed(context, good, f"{server.url}/p/{closed}/{path}")
        for path in ("", "/history", "/status.json", "/badge.svg", "/subscribe", "/no-such-thing"):
            assert not await _is_framed(context, good, f"{server.url}/p/{anybody}{path}")
        for path in ("/console", "/console/login", "/api/v1/docs", "/p/no-such-page"):
            assert not await _is_framed(context, good, server.url + path)


@pytest.mark.browser
async def test_hostile_text_in_a_frame_is_text_and_the_frame_is_accessible(server: "Server") -> None:
    slug = await _made(server, name=ALL[:200], frames="any")
    async with chromium() as browser:
        context = await browser.new_context(viewport={"width": 320, "height": 600})
        await context.add_init_script(WATCH)
        tab = await context.new_page()
        for path in ("embed", "embed?compact=1", "widget"):
            await tab.goto(f"{server.url}/p/{slug}/{path}")
            assert await tab.evaluate("window.attacks") == []
            assert await tab.locator("main :is(script, iframe, object, embed, img, form)").count() == 0
            assert await tab.evaluate("document.documentElement.scrollWidth") <= 320
            assert await barriers(tab) == []


@pytest.mark.browser
async def test_of_a_page_that_is_not_public_other_sites_show_what_carries_its_proof(
    server: "Server", sites: list[str]
) -> None:
    slug = await _made(server, frames="any", access={"password": "tulips", "networks": ["127.0.0.1"]})
    key = next(iter((await server.call("GET", f"/api/v1/pages/{slug}/link")).body.values())).partition("?")[2]
    load = "url => new Promise(done => { const i = new Image(); i.onload = () => done(true); i.onerror = () => done(false); i.src = url })"
    async with chromium() as browser:
        tab = await browser.new_page()
        await tab.goto(f"{sites[0]}/?to=about:blank")
        # Who is let in by address lends that to no other site.
        assert await tab.evaluate(load, f"{server.url}/p/{slug}/badge.svg") is False
        for badge in ("badge.svg", "badge.png"):
            assert await tab.evaluate(load, f"{server.url}/p/{slug}/{badge}?{key}") is True


async def test_a_page_that_is_not_public_is_framed_with_its_proof_only(server: "Server") -> None:
    slug = await _made(server, frames="any", access={"password": "tulips"})
    link = (await server.call("GET", f"/api/v1/pages/{slug}/link")).body
    key = next(iter(link.values())).partition("?")[2]
    for path in ("embed", "widget", "badge.svg", "badge.png", "preview.png"):
        refused = await server.call("GET", f"/p/{slug}/{path}", who=None)
        shown = await server.call("HEAD", f"/p/{slug}/{path}?{key}", who=None)
        assert (refused.status, shown.status) == (401, 200)
        assert "Access-Control-Allow-Origin" not in shown.headers
        assert "private" in shown.headers["Cache-Control"]


def test_what_is_copied_is_escaped_and_carries_the_proof() -> None:
    place = Place("/p/shop", "https://up.example", language("en"), key="k/y")
    texts = {one.slug: one.text for one in snippets(place, 'A "[b](x)" <c>')}
    assert "<c>" not in texts["widget"] + texts["embed"]
    assert texts["readme"].startswith('[![Status of A "(b)(x)" <c>](https://up.example/p/shop/badge.svg?key=')
    assert all("key=k" in text for text in texts.values())
