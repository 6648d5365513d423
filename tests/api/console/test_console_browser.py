"""The console in a real browser: from a login link to an approved draft that customers read, live, without an error."""

from typing import TYPE_CHECKING

import msgspec
import pytest

from engine.bus import LIVE
from engine.store import objects
from engine.store.database import transaction
from engine.store.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Live, Tab

from tests.api.console.conftest import ACTOR, grouped, outage

pytestmark = pytest.mark.browser


async def _announce(server: "Server", event: str, slug: str, **more: object) -> None:
    async with server.services.pool.acquire() as db:
        page = (await objects.find(db, "page", "shop")).id
    news = [{"event": event, "page": str(page), "beat": slug} | more]
    await server.services.bus.announce(LIVE, msgspec.json.encode(news))


async def test_from_a_url_to_an_incident_that_customers_read(
    server: "Server", tab: "Tab", live: "Live"
) -> None:
    page, slug = tab.page, f"cart-{new_id().hex[-6:]}"
    await page.get_by_role("link", name="Add a beat").click()
    await page.get_by_label("What to watch").fill("https://shop.example/cart")
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("Slug").fill(slug)
    await page.get_by_label("Page").select_option("shop")
    await page.get_by_role("button", name="Add the beat").click()
    await page.wait_for_url(f"**/console/beats/{slug}?**")
    assert await page.get_by_text("No run yet.").count() == 1

    # Its first results arrive, and show without a reload.
    await page.evaluate("window.kept = true")
    await live(slug, [(n, region, "ok") for n, region in ((103, "eu"), (102, "us"), (101, "ap"))])
    await _announce(server, "result", slug)
    await page.locator("#runs tbody tr").nth(2).wait_for(timeout=10_000)
    assert await page.evaluate("window.kept") is True

    # It fails, and a person approves what customers are told.
    async with transaction(server.services.pool) as db:
        beat = await objects.find(db, "beat", slug)
        await objects.replace(db, ACTOR, beat, beat.spec | {"components": {"site": {}}})
    await page.goto(f"{server.url}/console")
    await live(slug, outage(ago=20.0))
    await _announce(server, "stage", slug, stage="critical")
    episode = page.locator("article.episode", has_text=slug)
    await episode.wait_for(timeout=10_000)
    await episode.get_by_role("link", name="Review the draft").click()
    await page.get_by_text("Edit the words…").click()
    await page.get_by_label("Text").fill("We cannot take orders. <b>Sorry.</b>")
    await page.get_by_role("button", name="Save as a new revision").click()
    await page.get_by_role("button", name="Approve and publish").click()
    await page.get_by_text("Approved: it is on the status page.").wait_for()
    await page.get_by_role("link", name="the status page", exact=True).click()
    await page.get_by_text("We cannot take orders. <b>Sorry.</b>").wait_for()
    assert await page.locator(".banner h2").inner_text() == "Major outage"
    assert tab.trouble == []
    assert await tab.attacks() == []


async def test_what_somebody_types_survives_the_news(server: "Server", tab: "Tab", live: "Live") -> None:
    page, slug = tab.page, f"typed-{new_id().hex[-6:]}"
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        spec = {"slug": slug, "type": "tcp", "host": "x.example", "port": 1, "components": {"site": {}}}
        await objects.create(db, ACTOR, "beat", shop.id, spec)
    await live(slug, outage(ago=20.0))
    await page.goto(f"{server.url}/console/actions")
    await page.get_by_role("link", name="Outage: Site").first.click()
    await page.get_by_text("Reject…").click()
    await page.get_by_label("Why").fill("It is our own")
    await live(slug, [(0, "eu", "critical")])
    await _announce(server, "stage", slug, stage="critical")
    await page.wait_for_timeout(700)
    assert await page.get_by_label("Why").input_value() == "It is our own"
    assert tab.trouble == []


async def test_a_group_at_night_on_a_phone(server: "Server", tab: "Tab") -> None:
    page, slug = tab.page, f"night-{new_id().hex[-6:]}"
    one = f"{slug}-cart"
    await grouped(server.services, slug, {one: outage(), f"{slug}-pay": [(9, "eu", "ok"), (8, "us", "ok")]})
    await page.set_viewport_size({"width": 360, "height": 640})
    await page.goto(f"{server.url}/console")
    episode = page.locator("article.episode", has_text=slug.title())
    assert await episode.get_by_text("status is 503; expected eq 200").count() == 1
    folded = page.locator(f"#of-shop-{slug}")
    await folded.locator("summary").click()
    assert await folded.get_by_role("link", name=one).is_visible()
    await _announce(server, "stage", one, stage="critical")
    await page.wait_for_timeout(700)
    assert await folded.get_by_role("link", name=one).is_visible()  # news closes nothing
    await episode.get_by_role("link", name=slug.title(), exact=True).click()
    await page.get_by_text("1 more ok vote of").wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.trouble == []


async def test_every_page_reads_without_script(server: "Server", tab: "Tab") -> None:
    browser = tab.page.context.browser
    assert browser is not None
    context = await browser.new_context(
        java_script_enabled=False, storage_state=await tab.page.context.storage_state()
    )
    page = await context.new_page()
    for path in (
        "/console",
        "/console/beats/home?page=shop",
        "/console/groups/together?page=shop",
        "/console/actions",
        "/console/users",
        "/p/shop",
    ):
        await page.goto(server.url + path)
        assert await page.locator("main h1, header h1").count() == 1
    await context.close()


@pytest.mark.parametrize(
    "path",
    [
        "/console",
        "/console/beats/home?page=shop",
        "/console/groups",
        "/console/groups/together?page=shop",
        "/console/channels",
        "/console/publishers?add=cachet",
        "/console/pages/shop",
        "/p/shop",
        "/p/shop/embed",
    ],
)
async def test_no_page_is_wider_than_a_small_phone(server: "Server", tab: "Tab", path: str) -> None:
    await tab.page.set_viewport_size({"width": 360, "height": 640})
    await tab.page.goto(server.url + path)
    wide = """[...document.querySelectorAll("main *")]
      .filter((e) => e.getBoundingClientRect().right > 360 && !e.closest(".scroll")).map((e) => e.outerHTML)"""
    assert await tab.page.evaluate(wide) == []
    assert await tab.page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_every_field_and_button_has_a_name(server: "Server", tab: "Tab") -> None:
    nameless = """[...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a, summary")]
      .filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label")))
      .map((e) => e.outerHTML)"""
    for path in (
        "/console",
        "/console/beats/new?target=https://x.example",
        "/console/beats/home?page=shop",
        "/console/groups",
        "/console/groups/together?page=shop",
        "/console/components",
        "/console/channels",
        "/console/publishers?add=cachet",
        "/console/tokens",
        "/console/users",
        "/console/pages/shop",
        "/p/shop",
    ):
        await tab.page.goto(server.url + path)
        assert await tab.page.evaluate(nameless) == []
        assert await tab.page.locator("h1").count() == 1
        assert await tab.page.locator("main").count() == 1
