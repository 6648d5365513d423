"""Reviews and announced maintenance in a real browser, clean for axe: two people, some targets, and a window that is extended."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from engine.store import announcing, objects
from engine.store.database import transaction
from engine.store.ids import new_id
from engine.store.states import moment
from tests.api.console.conftest import ACTOR, outage
from tests.rig.browser import barriers

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.api.conftest import Server
    from tests.api.console.conftest import Live, SignIn, Tab

pytestmark = pytest.mark.browser


async def _unfolded(page: "Page") -> None:
    for summary in await page.locator("main details summary").all():
        if await summary.locator("..").get_attribute("open") is None:
            await summary.click()


async def test_a_draft_is_edited_and_approved_by_two_for_some_targets(
    server: "Server", tab: "Tab", live: "Live", sign_in: "SignIn"
) -> None:
    page, slug = tab.page, f"cart-{new_id().hex[-6:]}"
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        await objects.replace(db, ACTOR, shop, shop.spec | {"review": {"approvals": 2}})
        for name in ("their-page", "small"):
            hook = {"slug": name, "type": "webhook", "url": "http://hook.example/"}
            await objects.create(db, ACTOR, "publisher", shop.id, hook)
        spec = {"slug": slug, "type": "tcp", "host": "x.example", "port": 1, "components": {"site": {}}}
        await objects.create(db, ACTOR, "beat", shop.id, spec | {"channels": ["ops"]})
    await live(slug, outage(ago=20.0))
    await page.goto(f"{server.url}/console/actions")
    await page.get_by_label("Kind").select_option("open")
    await page.get_by_role("button", name="Show").click()
    assert await barriers(page) == []
    await page.get_by_role("row", name=slug).get_by_role("link").first.click()
    await page.get_by_text("0 of 2 approvals.").wait_for()
    await _unfolded(page)
    assert await barriers(page) == []
    await page.get_by_label("Text", exact=True).fill("We **cannot** take orders.")
    await page.get_by_label("Markdown").check()
    await page.locator("#edit").get_by_label("Site").select_option("partial outage")
    await page.get_by_role("button", name="Save as a new revision").click()
    await page.get_by_text("What was proposed, before people changed it").wait_for()
    await page.get_by_label("small").uncheck()
    await page.get_by_role("button", name="Approve", exact=True).click()
    await page.get_by_text("1 of 2 approvals.").wait_for()
    assert not await page.get_by_label("small").is_checked()
    assert await barriers(page) == []
    other = await sign_in("reviewer@shop")
    done = await other.post(
        f"{page.url.partition('?')[0].removeprefix(server.url)}/approve", {"revision": "2"}
    )
    assert "Approved: it is on the status page." in done.html
    await page.reload()
    await page.get_by_role("table", name="Deliveries").wait_for()
    assert await page.locator("table tbody tr").count() == 1
    assert await barriers(page) == []
    assert tab.trouble == []
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        await objects.replace(db, ACTOR, shop, {"slug": "shop", "name": "Shop"})


async def test_maintenance_is_announced_extended_spoken_of_and_ended(server: "Server", tab: "Tab") -> None:
    page, now = tab.page, server.services.clock.epoch_s()
    await page.goto(f"{server.url}/console/maintenances")
    await page.get_by_text("Begin or plan maintenance").click()
    name = f"Disks {new_id().hex[-6:]}"
    await page.get_by_label("Name").fill(name)
    await page.locator("#add").get_by_label("Page", exact=True).select_option("shop")
    await page.get_by_label("Components").fill("site")
    begins = moment(now) + timedelta(hours=3)
    await page.get_by_label("Begins", exact=True).fill(f"{begins:%Y-%m-%dT%H:%M}")
    await page.get_by_label("Customers are told of it").check()
    await _unfolded(page)
    assert await barriers(page) == []
    await page.get_by_role("button", name="Save").click()
    async with transaction(server.services.pool) as db:
        await announcing.look(db, now, "")
    await page.get_by_role("link", name=name).click()
    told = page.locator("#announced")
    await told.get_by_text("Maintenance of Site is planned from").wait_for()
    await page.get_by_label("Longer by").fill("30m")
    await page.get_by_role("button", name="Extend").click()
    await told.get_by_text("The maintenance was moved").wait_for()
    await page.get_by_label("Text", exact=True).fill("We begin **early**.")
    await page.get_by_label("Status").select_option("in progress")
    await page.get_by_label("Markdown").check()
    await page.get_by_role("button", name="Publish").click()
    await told.locator("strong", has_text="early").wait_for()
    await _unfolded(page)
    assert await barriers(page) == []

    await page.goto(f"{server.url}/p/shop")
    shown = page.locator("article", has_text=name)
    assert await shown.locator("strong", has_text="early").count() == 1
    assert await shown.locator(".affected", has_text="Site").count() == 1
    assert await barriers(page) == []

    await page.go_back()
    await page.locator("#cancel summary").click()
    await page.locator("#cancel").get_by_role("button").click()
    await told.get_by_text("The maintenance is over.").wait_for()
    assert tab.trouble == []
    assert await tab.attacks() == []
