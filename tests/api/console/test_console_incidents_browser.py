"""An incident by hand in a real browser: from the form to its published report that customers read, clean for axe."""

from typing import TYPE_CHECKING

import pytest

from engine.store import objects
from engine.store.database import transaction
from tests.api.console.conftest import ACTOR
from tests.rig.browser import barriers

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Tab

pytestmark = pytest.mark.browser


async def test_from_the_form_to_a_report_that_customers_read(server: "Server", tab: "Tab") -> None:
    page = tab.page
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        spec = {"slug": "twin", "name": "Their other page", "type": "webhook", "url": "http://hook.example/"}
        await objects.create(db, ACTOR, "publisher", shop.id, spec)
    await page.goto(f"{server.url}/console/incidents")
    await page.get_by_role("link", name="New incident").click()
    await page.get_by_role("link", name="Shop").click()
    await page.get_by_label("Title").fill("Orders are slow")
    await page.get_by_label("Text", exact=True).fill("We are **looking**. <b>Sorry.</b>")
    await page.get_by_label("Site").select_option("degraded performance")
    await page.get_by_label("yes").check()
    await page.get_by_label("The text is Markdown").check()
    assert await barriers(page) == []
    await page.get_by_role("button", name="Publish").click()
    await page.get_by_text("The incident is on the status page.").wait_for()

    say = page.get_by_role("region", name="Say something")
    await say.get_by_label("Status").select_option("resolved")
    await say.get_by_label("Text", exact=True).fill("It is mended.")
    await say.get_by_label("no, only shown").check()
    await say.get_by_role("button", name="Publish").click()
    await page.get_by_text("nobody was notified").wait_for()
    assert await page.locator("#deliveries tbody tr").count() == 2
    await page.get_by_label("What was learnt").fill("# Why\n\nA disk was *full*.")
    await page.get_by_role("button", name="Save", exact=True).last.click()
    await page.get_by_role("button", name="Publish what is saved").click()
    await page.get_by_text("The report is on the status page.").wait_for()
    for summary in await page.locator("main details summary").all():
        if not await summary.locator("..").get_attribute("open"):
            await summary.click()
    assert await barriers(page) == []

    await page.goto(f"{server.url}/p/shop")
    shown = page.locator("article", has_text="Orders are slow")
    await shown.get_by_text("Report").click()
    assert await shown.locator("strong", has_text="looking").count() == 1
    assert await shown.get_by_text("<b>Sorry.</b>").count() == 1
    assert await shown.locator("em", has_text="full").is_visible()
    assert await barriers(page) == []
    assert tab.trouble == []
    assert await tab.attacks() == []
