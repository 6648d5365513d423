"""The public page in a real browser: narrow and wide, light and dark, in every language, without script, on paper, by keyboard."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from playwright.async_api import Browser, Page, expect

from api.status.document import Day, Document, Picture
from rules.language import LANGUAGES
from rules.picture import drawn
from tests.api.console.conftest import WATCH
from tests.api.status.shown import NOW, component, crowded, document, incident, showing, usual
from tests.rig.browser import barriers, chromium

if TYPE_CHECKING:
    from tests.api.conftest import Server

pytestmark = pytest.mark.browser
PAGES = {
    page.rule.slug: page
    for page in (
        usual(),
        usual("cards", look={"style": "cards", "accent": "#ffd400", "colours": {"operational": "#a0e8af", "partial_outage": "#ff00aa"}}),
        usual("dark", look={"theme": "dark", "css": "h1 { letter-spacing: 3px }"}),
        usual("gated", access={"password": "x", "emails": ["a.example"]}),
        document("empty", []),
        crowded(),
    )
}  # fmt: skip
CLIPPED = """() => [...document.querySelectorAll("h1, h2, h3, h4, p, li, dd, .pill, .status, .button, summary, time")]
  .filter((e) => !e.closest(".unseen") && e.checkVisibility())
  .filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline" || e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture
async def tab(browser: Browser, server: "Server") -> AsyncIterator[Page]:
    """A tab that notes refused loads and errors, while the server shows `PAGES`."""
    context = await browser.new_context()
    await context.add_init_script(WATCH)
    page, trouble = await context.new_page(), list[str]()
    page.on("pageerror", lambda error: trouble.append(str(error)))
    async with showing(server, *PAGES.values()):
        yield page
    assert trouble == []
    assert await page.evaluate("window.attacks") == []
    await context.close()


@pytest.mark.parametrize("width", [320, 1280])  # one on either side of the only break
async def test_nothing_is_cut_off_or_wider_than_the_screen(server: "Server", tab: Page, width: int) -> None:
    await tab.set_viewport_size({"width": width, "height": 900})
    spoken = [f"usual/{code}{below}" for code in LANGUAGES[1:] for below in ("", "/incidents/inc_2")]
    for path in (
        "usual",
        *spoken,
        "usual/history",
        "cards",
        "crowded",
        "crowded/incidents/inc_2",
        "gated",
        "empty",
    ):
        await tab.goto(f"{server.url}/p/{path}")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width, path
        assert await tab.evaluate(CLIPPED) == [], path


@pytest.mark.parametrize(
    "path",
    [
        *(f"usual/{code}" if code != LANGUAGES[0] else "usual" for code in LANGUAGES),
        "usual/history/2026-11",
        "usual/incidents/inc_1",
        "cards",
        "gated",
    ],
)
async def test_there_are_no_barriers(server: "Server", tab: Page, path: str) -> None:
    await tab.set_viewport_size({"width": 390, "height": 900})
    await tab.goto(f"{server.url}/p/{path}")
    if await tab.locator(".menu").count():
        await tab.locator(".menu > summary").click()
    # Other words have the same colours.
    assert await barriers(tab, ("light",) if path[6:] in LANGUAGES else ("light", "dark")) == []
    assert await tab.locator("h1").count() == 1
    assert await tab.locator("html").get_attribute("lang") == (
        path.partition("/")[2] if path[6:] in LANGUAGES else "en"
    )


async def test_a_theme_holds_whatever_the_reader_prefers_and_css_comes_last(
    server: "Server", tab: Page
) -> None:
    await tab.emulate_media(color_scheme="light")
    await tab.goto(f"{server.url}/p/dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert await tab.evaluate(ground) == "rgb(13, 15, 19)"
    assert await tab.evaluate("getComputedStyle(document.querySelector('h1')).letterSpacing") == "3px"
    await tab.goto(f"{server.url}/p/usual")
    assert await tab.evaluate(ground) == "rgb(248, 249, 251)"


async def test_a_keyboard_reaches_everything(server: "Server", tab: Page) -> None:
    await tab.goto(f"{server.url}/p/usual")
    await tab.keyboard.press("Tab")
    await expect(tab.get_by_role("link", name="Skip to content")).to_be_focused()
    for _ in range(3):
        await tab.keyboard.press("Tab")
    menu = tab.locator(".menu")
    await tab.keyboard.press("Enter")
    await expect(menu.get_by_role("link", name="RSS")).to_be_visible()
    await tab.keyboard.press("Escape")
    await expect(menu.get_by_role("link", name="RSS")).to_be_hidden()
    await expect(menu.locator("summary")).to_be_focused()
    met = set()
    for _ in range(40):
        await tab.keyboard.press("Tab")
        at = "document.activeElement"
        met.add(
            await tab.evaluate(f"{at}.getAttribute('aria-label') || {at}.textContent.trim().slice(0, 40)")
        )
        if await tab.evaluate(f"Boolean({at}.closest('.bars'))") and "tip" not in met:
            met.add("tip")
            label = await tab.evaluate(f"{at}.getAttribute('aria-label')")
            assert await tab.locator(".tip").inner_text() == label
    assert {"tip", "November 18, 2026: Major outage, 50%. Checkout was down", "Deutsch", "History"} <= met
    group = tab.locator(".group").first
    await group.locator("summary").first.focus()
    await tab.keyboard.press("Enter")
    await expect(group.get_by_text("Storefront")).to_be_hidden()


async def test_a_pointer_is_told_of_any_day(server: "Server", tab: Page) -> None:
    await tab.goto(f"{server.url}/p/usual")
    bars = tab.locator(".bars").first
    await bars.scroll_into_view_if_needed()
    box = await bars.bounding_box()
    assert box is not None
    for ago, said in (
        (89, "August 24, 2026: Operational"),
        (12, "November 9, 2026: Degraded performance. Pages were slow"),
        (0, "November 21, 2026: Operational"),
    ):
        await tab.mouse.move(box["x"] + box["width"] * (89.4 - ago) / 90, box["y"] + 16)
        await expect(tab.locator(".tip")).to_have_text(said)
    await tab.mouse.move(2, 2)
    await expect(tab.locator(".tip")).to_be_hidden()
    days = [Day(day.date, "operational", 0.9991) for day in component(1, "A").days]
    async with showing(server, document("figures", [component(1, "A", days=days)])):
        await tab.goto(f"{server.url}/p/figures")
        await tab.locator(".bars").hover()
        await expect(tab.locator(".tip")).to_contain_text("Operational, 99.91%")


async def test_it_reads_without_script_and_each_day_has_its_words(server: "Server", browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    tab = await context.new_page()
    async with showing(server, *PAGES.values()):
        await tab.goto(f"{server.url}/p/usual")
        await expect(tab.get_by_role("heading", name="Partial outage")).to_be_visible()
        await expect(tab.get_by_text("Orders", exact=False)).to_have_count(0)
        await expect(tab.get_by_text("99.98% uptime").first).to_be_visible()
        await expect(tab.locator("#lost")).to_be_hidden()
        await tab.locator(".group summary").first.click()
        await expect(tab.get_by_text("Storefront").first).to_be_hidden()
        assert "<title>November 20, 2026: Operational</title>" in await tab.content()
        await tab.goto(f"{server.url}/p/usual/incidents/inc_2")
        await expect(tab.locator("#copy")).to_be_hidden()
        await expect(tab.get_by_role("heading", name="Why")).to_be_visible()
    await context.close()


async def test_on_paper_all_is_unfolded_and_nothing_is_a_button(server: "Server", tab: Page) -> None:
    await tab.goto(f"{server.url}/p/usual")
    await tab.locator(".group summary").first.click()
    await tab.emulate_media(media="print", color_scheme="dark")
    await expect(tab.locator(".tools")).to_be_hidden()
    high = await tab.locator(".group .component").first.bounding_box()
    assert high is not None
    assert high["height"] > 40
    assert await tab.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


async def test_who_wants_no_motion_has_none(server: "Server", tab: Page) -> None:
    moving = """[...document.querySelectorAll("*")].some((e) => ["", "::before", "::after"].some((of) => {
      const style = getComputedStyle(e, of || null);
      return style.transitionDuration !== "0s" || style.animationName !== "none";
    }))"""
    await tab.emulate_media(reduced_motion="no-preference")
    await tab.goto(f"{server.url}/p/usual")
    assert await tab.evaluate(moving) is True
    await tab.emulate_media(reduced_motion="reduce")
    assert await tab.evaluate(moving) is False


async def test_news_is_swapped_in_said_aloud_and_what_was_folded_stays_so(
    server: "Server", browser: Browser
) -> None:
    calm = document("live", [component(1, "Storefront", "Shopping"), component(2, "Search", "More")])
    down = document("live", [component(1, "Storefront", "Shopping", "major_outage"), component(2, "Search", "More")], [incident(1, "All is down", "investigating", timedelta(minutes=1), about={"comp_1": "major_outage"})])  # fmt: skip
    told = replace(down, incidents=[msgspec.structs.replace(down.incidents[0], updates=[msgspec.structs.replace(down.incidents[0].updates[0], text="A disk is full.")])])  # fmt: skip
    context = await browser.new_context()
    tab, trouble = await context.new_page(), list[str]()
    frame = await context.new_page()
    frame.on("pageerror", lambda error: trouble.append(str(error)))
    await tab.clock.install()
    await frame.clock.install()
    async with showing(server, calm):
        await frame.goto(f"{server.url}/p/live/embed")
        await tab.goto(f"{server.url}/p/live")
        await tab.locator(".group summary").nth(1).click()
        await tab.evaluate("window.kept = true")
    async with showing(server, down):
        await tab.clock.fast_forward(16_000)
        await expect(tab.locator("#said")).to_have_text(
            "Major outage, All is down, Investigating, We look into it."
        )
        await expect(tab.get_by_role("link", name="All is down")).to_be_visible()
        await expect(tab.get_by_text("Search")).to_be_hidden()
        await expect(tab).to_have_title("Major outage · Shop")
        assert "icon-major_outage" in (await tab.locator("#icon").get_attribute("href") or "")
        assert await tab.evaluate("window.kept") is True
        await tab.get_by_role("link", name="All is down").focus()
        await frame.clock.fast_forward(16_000)
        await expect(frame.get_by_role("heading", name="Major outage")).to_be_visible()
    async with showing(server, told):
        await tab.clock.fast_forward(16_000)
        await expect(tab.locator("#said")).to_contain_text("A disk is full.")
        await expect(tab.get_by_role("link", name="All is down")).to_be_focused()
    async with showing(server, calm):
        await tab.clock.fast_forward(16_000)
        await expect(tab.get_by_role("link", name="All is down")).to_have_count(0)
        await expect(tab.locator("main")).to_be_focused()
    assert trouble == []
    await context.set_offline(True)
    for _ in range(2):
        await expect(tab.locator("#lost")).to_be_hidden()
        await tab.clock.fast_forward(16_000)
    await expect(tab.locator("#lost")).to_be_visible()
    await context.close()


async def test_a_readers_wrong_clock_puts_nothing_that_was_ahead(server: "Server", tab: Page) -> None:
    await tab.clock.install(time=NOW - timedelta(hours=11))
    for path in ("usual", "usual/incidents/inc_1"):
        await tab.goto(f"{server.url}/p/{path}")
        assert not re.search(r"in \d+ hours|-\d", await tab.locator("main").inner_text())
    await tab.goto(f"{server.url}/p/usual/incidents/inc_5")
    await expect(tab.locator(".facts")).to_contain_text("15:05 CET · in 4 days")


async def test_an_old_page_says_so(server: "Server", tab: Page) -> None:
    page: Document = usual("old")
    async with showing(server, replace(page, stale_since=page.at - timedelta(minutes=7))):
        await tab.goto(f"{server.url}/p/old/de")
        said = await tab.locator(".note:visible").inner_text()
    assert re.match(r"Stand: 21.11.2026, 14:58 CET. Neuere Angaben sind gerade nicht abrufbar.", said)


async def test_curl_is_shown_text_and_a_browser_html(server: "Server") -> None:
    async with showing(server, *PAGES.values()):
        for path, agent, kind in (
            ("usual", "curl/8.5.0", "text/plain"),
            ("usual/tr", "Wget/1.21", "text/plain"),
            ("usual/de/incidents/inc_1", "HTTPie/3.2", "text/plain"),
            ("usual", "Mozilla/5.0", "text/html"),
        ):
            answer = await server.call("GET", f"/p/{path}", who=None, headers={"User-Agent": agent})
            assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, kind)
            # Caches that others share keep pages, each once for all browsers, and no text in their place.
            assert (
                answer.headers["Cache-Control"]
                == f"{'public' if kind == 'text/html' else 'private'}, no-cache"
            )
            assert "User-Agent" not in answer.headers["Vary"]


async def test_a_logo_without_a_size_is_seen_on_the_page_and_at_its_gate(server: "Server", tab: Page) -> None:
    pages = []
    for n, size in enumerate(("", "width='100%' height='100%'", "width='60'")):
        mark = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 8' {size}><rect width='24' height='8'/></svg>"
        logo = {"logo": Picture(f"logo-{n}.svg", *drawn(mark.encode(), "logo"))}
        pages += [replace(page, pictures=logo) for page in (usual(f"open-{n}"), usual(f"shut-{n}", access={"password": "x"}))]  # fmt: skip
    async with showing(server, *pages):
        for page in pages:
            await tab.goto(f"{server.url}/p/{page.rule.slug}")
            box = await tab.locator(".brand img").bounding_box()
            assert box
            assert (round(box["width"]), round(box["height"])) in ((120, 40), (60, 20)), page.rule.slug
