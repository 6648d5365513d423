"""Inboxes, events and triggers in a real browser: by keyboard alone, on a phone, for who cannot see, and with hostile deliveries."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from tests.api.console.test_console_hostile import ALL, PAYLOADS
from tests.api.console.test_console_triggers import ALERT, inbox_of, trigger_of
from tests.rig.browser import barriers

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Tab

pytestmark = pytest.mark.browser


async def test_every_page_is_open_to_all_and_fits_a_phone(server: "Server", tab: "Tab") -> None:
    inbox, (event,) = await inbox_of(server, ALERT)
    stored = await trigger_of(server, inbox)
    await server.call("PATCH", f"/api/v1/triggers/{stored.slug}?page=shop", {"for": "5m"})
    trigger = f"/console/triggers/{stored.slug}"
    wide = """(most) => [...document.querySelectorAll("main *")].filter((e) =>
      e.getBoundingClientRect().right > most && !e.closest(".scroll")).map((e) => e.outerHTML.slice(0, 200))"""
    for path in (
        "/console/inboxes",
        f"/console/inboxes/{inbox.slug}?page=shop",
        f"/console/events/{event}",
        "/console/triggers",
        f"{trigger}?page=shop",
        f"{trigger}/build?page=shop&event={event}",
        f"{trigger}/versions?page=shop&old=1&new=2",
        f"{trigger}/promote?page=shop",
        f"/console/triggers/new?event={event}&pick=%24.alerts%5B0%5D.status",
    ):
        await tab.page.set_viewport_size({"width": 1280, "height": 900})
        await tab.page.goto(server.url + path)
        assert await tab.page.locator("h1").count() == 1
        assert await barriers(tab.page) == [], path
        await tab.page.set_viewport_size({"width": 360, "height": 640})
        await tab.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert await tab.page.evaluate(wide, 360) == [], path
    assert tab.trouble == []
    assert await tab.attacks() == []


async def test_a_rule_is_picked_by_keyboard_alone(server: "Server", tab: "Tab") -> None:
    _, (event,) = await inbox_of(server, ALERT)
    page = tab.page
    await page.goto(f"{server.url}/console/events/{event}")

    async def tabs_to(name: str) -> None:
        focused = "document.activeElement.textContent.trim().replace(/\\s+/g, ' ')"
        for _ in range(120):
            if await page.evaluate(focused) == name:
                return
            await page.keyboard.press("Tab")
        raise AssertionError(f"{name} cannot be reached by Tab")

    await tabs_to("firing of status: use it")
    await page.keyboard.press("Enter")
    await page.locator("#pick").wait_for()
    await expect(page.get_by_role("button", name="Take items when it is that")).to_be_focused()
    await tabs_to("Critical when it is that")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Critical when, row 1: value")).to_have_value("$.alerts[0].status")
    await expect(page.get_by_label("Critical when, row 1: compared with")).to_have_value("firing")
    await tabs_to("web-1 of host: use it")
    await page.keyboard.press("Space")
    await page.get_by_role("group", name="Use a value").get_by_text("web-1").first.wait_for()
    await tabs_to("What it is about (fingerprint)")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Fingerprint", exact=True)).to_have_value("{$.alerts[0].labels.host}")
    assert tab.trouble == []


async def test_hostile_deliveries_are_inert_and_bounded(server: "Server", tab: "Tab") -> None:
    deep: Any = ALL
    for _ in range(60):
        deep = {PAYLOADS[0]: deep}
    bodies = [
        json.dumps(
            {
                "payloads": dict(zip(PAYLOADS, PAYLOADS, strict=True)),
                "right": "\u202eevil\u2066",
                "deep": deep,
            }
        ),
        json.dumps({"long": "x" * 1_000_000, "list": [ALL] * 200}),
        json.dumps({f"{n} {PAYLOADS[n % len(PAYLOADS)]}": n for n in range(5000)}),
        "[" * 100_000,
        ALL,
        "\x00\x07<script>xss()</script>",
    ]
    inbox, events = await inbox_of(
        server, *(body.encode() for body in bodies), headers=[(PAYLOADS[3][:60], ALL), ("X-Long", "y" * 8000)]
    )
    path = f'$["{PAYLOADS[3]}"]'
    rule = {"value": f"header:{ALL[:300]}", "eq": ALL[:900]}
    stored = await trigger_of(server, inbox, name=PAYLOADS[9], critical=rule, description=ALL[:3000])
    page, trigger = tab.page, f"/console/triggers/{stored.slug}"
    for address in (
        "/console/inboxes",
        f"/console/inboxes/{inbox.slug}?page=shop&search={PAYLOADS[3]}&verdict={PAYLOADS[2]}&trigger={PAYLOADS[0]}",
        *(f"/console/events/{event}" for event in events),
        *(f"/console/triggers/new?event={event}&pick={path}&sender={PAYLOADS[0]}" for event in events),
        f"/console/triggers/new?inbox={PAYLOADS[3]}&page={PAYLOADS[4]}&event={PAYLOADS[2]}",
        "/console/triggers",
        f"{trigger}?page=shop",
        f"{trigger}/build?page=shop&event={events[0]}",
        f"{trigger}/promote?page=shop",
    ):
        await page.goto(server.url + address)
        await page.wait_for_load_state("load")
        assert await page.locator("h1").count() == 1, address
        assert await tab.attacks() == [], address
        assert len(await page.content()) < 700_000, address
        assert await page.locator("main *").count() < 8000, address
    assert [said for said in tab.trouble if "status of 4" not in said] == []
