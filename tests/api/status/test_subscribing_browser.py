"""The forms of who subscribes in a real browser: by keyboard alone, in every language, clean for axe, with nothing refused by policy."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.store import objects
from engine.store.database import transaction
from rules.language import LANGUAGES
from tests.api.conftest import INSTALLER
from tests.api.console.conftest import WATCH
from tests.rig.browser import barriers, chromium

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.api.conftest import Server

pytestmark = pytest.mark.browser
SHOTS = os.environ.get("SHOTS")


async def _shoot(page: "Page", name: str) -> None:
    if SHOTS:
        await page.screenshot(path=f"{SHOTS}/e_{name}.png", full_page=True)


async def test_somebody_subscribes_and_ends_it_by_keyboard_alone(server: "Server") -> None:
    server.services.settings = replace(server.services.settings, can_mail=True)
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        for slug, group in (("pay", "Money"), ("refunds", "Money")):
            spec = {"slug": slug, "name": slug.title(), "group": group}
            await objects.create(db, INSTALLER, "component", shop.id, spec)
        await objects.replace(db, INSTALLER, shop, shop.spec | {"languages": [*LANGUAGES]})
    async with chromium() as browser:
        context = await browser.new_context(viewport={"width": 1000, "height": 800})
        await context.add_init_script(WATCH)
        page = await context.new_page()
        await page.goto(f"{server.url}/p/shop/subscribe")
        assert await barriers(page) == []
        await page.get_by_label("E-mail address").focus()
        await page.keyboard.type("ann@shop.example")
        await page.keyboard.press("Tab")  # over what only programs see
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Space")
        await _shoot(page, "subscribe")
        assert await barriers(page) == []
        await page.get_by_label("E-mail address").focus()
        await page.keyboard.press("Enter")
        await page.get_by_text("We send a link to ann@shop.example").wait_for()
        assert await barriers(page) == []
        await _shoot(page, "subscribed")
        async with server.services.pool.acquire() as db:
            (row,) = await db.fetch("SELECT token, components FROM subscribers")
        assert len(row["components"]) == 1
        await page.goto(f"{server.url}/p/shop/confirm/{row['token']}")
        assert await barriers(page) == []
        await _shoot(page, "confirm")
        await page.get_by_role("button", name="Confirm").press("Enter")
        await page.get_by_role("heading", name="You are subscribed").wait_for()
        await page.get_by_role("link", name="Choose what you get").press("Enter")
        await page.get_by_label("Refunds").press("Space")
        await page.get_by_role("combobox", name="Language").select_option("de")
        await page.get_by_role("button", name="Save").press("Enter")
        await page.get_by_text("Saved.").wait_for()
        assert await barriers(page) == []
        await _shoot(page, "manage")
        await page.get_by_role("link", name="Unsubscribe").press("Enter")
        assert await barriers(page) == []
        await page.get_by_role("button", name="Unsubscribe").press("Enter")
        await page.get_by_role("heading", name="You are unsubscribed").wait_for()
        assert await barriers(page) == []
        for code in LANGUAGES:
            await page.set_viewport_size({"width": 390, "height": 800})
            await page.goto(f"{server.url}/p/shop/{'' if code == 'en' else code + '/'}subscribe?kind=slack")
            await page.get_by_role("button").last.focus()
            await page.locator("#address").fill("https://elsewhere.example/")
            await page.locator("form button").press("Enter")
            await page.locator("#wrong").wait_for()
            assert await page.evaluate("document.documentElement.lang") == code
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390
            assert await barriers(page) == []
            await _shoot(page, f"wrong_{code}")
        assert await page.evaluate("window.attacks") == []
        await context.close()
