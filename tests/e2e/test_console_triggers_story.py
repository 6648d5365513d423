"""From an inbox to a reviewed incident in a real browser: values are clicked, the rule is seen at work on the past, and turned on."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, expect

from tests.rig.browser import barriers, chromium
from tests.rig.process import Upbeat, fresh_folder, until

pytestmark = pytest.mark.browser

CONFIG = """\
version: 1
page: {slug: shop, name: Shop}
regions: [eu]
components: [{slug: checkout, name: Checkout}]
beats: [{slug: checkout, type: external, name: Checkout, components: [checkout]}]
"""


@pytest.fixture
async def upbeat() -> AsyncIterator[Upbeat]:
    with fresh_folder() as folder:
        (folder / "upbeat.yaml").write_text(CONFIG, "utf-8")
        async with Upbeat(folder / "data", folder / "upbeat.yaml") as running:
            await running.start()
            yield running


async def _signed_in(upbeat: Upbeat, page: Page) -> None:
    person = {"email": "rita@shop.example", "name": "Rita", "roles": [{"role": "admin"}]}
    _, made = await upbeat.call("POST", "/users", person)
    await page.goto(made["login_link"])
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/console")


async def _post(upbeat: Upbeat, token: str, status: str, host: str = "web-1") -> str:
    """What the sender says; the id of the event."""
    url = f"http://{upbeat.host}:{upbeat.port}/api/v1/external-events/ingest/{token}"
    body = {"title": "Checkout is slow", "state": status, "data": {"host": host, "tries": 3}}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        assert answer.status == 202, await answer.text()
        event: str = (await answer.json())["id"]
    return event


async def _judged(upbeat: Upbeat, event: str, verdict: str) -> None:
    async def is_judged() -> bool:
        return bool((await upbeat.get(f"/events/{event}"))["verdict"] == verdict)

    await until(is_judged, f"{event} is {verdict}", within_s=60)


async def _use(page: Page, value: str, as_what: str) -> None:
    """Choose a value of the event, and what it is used as."""
    await page.get_by_role("button", name=value).first.click()
    await page.get_by_role("group", name="Use a value").get_by_role("button", name=as_what).click()


async def test_from_a_received_event_to_a_reviewed_incident(upbeat: Upbeat) -> None:
    async with chromium() as browser:
        context = await browser.new_context(viewport={"width": 1280, "height": 900})
        page, trouble = await context.new_page(), list[str]()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
        await _signed_in(upbeat, page)

        # An inbox, with its token shown once; three deliveries with it.
        await page.get_by_role("link", name="Inboxes", exact=True).click()
        await page.get_by_label("Name").fill("Shop monitor")
        await page.get_by_role("button", name="Add, and show its token").click()
        token = await page.locator("#token").inner_text()
        events = [await _post(upbeat, token, state) for state in ("alerting", "ok", "alerting")]
        await expect(page.locator("#events tbody tr")).to_have_count(3, timeout=30_000)  # beside the token
        await _judged(upbeat, events[-1], "unmatched")

        # An event is a tree, from which a rule is picked together.
        await page.goto(f"http://{upbeat.host}:{upbeat.port}/console/events/{events[-1]}")
        await page.get_by_role("link", name="alerting of state: use it").click()
        await page.get_by_label("What ok says").select_option("recovery")
        await page.get_by_role("button", name="Use this map").click()
        await _use(page, "web-1 of host: use it", "What it is about (fingerprint)")
        await _use(page, "Checkout is slow of title: use it", "In the message")
        await page.get_by_label("Name").fill("Checkout alarms")
        sentence = page.locator("#sentence")
        await expect(sentence).to_contain_text("critical if $.state is alerting", timeout=30_000)
        await expect(sentence).to_contain_text("It is over when $.state is ok")
        await expect(page.locator("#judged")).to_contain_text("web-1")

        # The preview follows what is edited, without a button.
        await page.get_by_label("Target", exact=True).select_option("beat")
        await page.get_by_label("Its slug").fill("checkout")
        preview = page.locator("#preview")
        await expect(preview).to_contain_text("It would have opened 2 episodes", timeout=60_000)
        await page.get_by_label("Critical when, row 1: compared with").fill("something else")
        await expect(preview).to_contain_text("It would have opened 0 episodes", timeout=60_000)
        await page.get_by_label("Critical when, row 1: compared with").fill("alerting")
        await expect(preview).to_contain_text("It would have opened 2 episodes", timeout=60_000)

        # Saved, it only watches; enabled, it opens a signal, and a draft waits.
        await page.get_by_role("button", name="Save, not enabled yet").click()
        await page.get_by_text("Saved. It judges and shows events").wait_for()
        await page.get_by_role("button", name="Enable").click()
        await page.get_by_text("Enabled: what it takes opens signals").wait_for()
        await _judged(upbeat, await _post(upbeat, token, "alerting"), "matched")
        await expect(page.locator("#standing")).to_contain_text("web-1", timeout=60_000)

        async def drafts() -> Any:
            return await upbeat.items("/actions?status=pending")

        await until(drafts, "a draft waits", within_s=60)
        await page.goto(f"http://{upbeat.host}:{upbeat.port}/console/actions")
        await page.get_by_role("link", name="Checkout").first.click()
        await expect(page.get_by_role("region", name="What it rests on")).to_contain_text("Checkout alarms")
        await page.get_by_role("button", name="Approve and publish").click()
        await page.get_by_text("Approved: it is on the status page.").wait_for()

        # Its recovery ends it.
        await _judged(upbeat, await _post(upbeat, token, "ok"), "matched")
        await page.goto(f"http://{upbeat.host}:{upbeat.port}/console/triggers/checkout-alarms")
        await expect(page.locator("#standing")).to_contain_text("all is well", timeout=60_000)
        await page.get_by_role("link", name="Its record, and promotion").click()
        await expect(page.get_by_role("button", name="Promote it")).to_be_enabled()
        await page.get_by_label("Open incidents").check()
        await page.get_by_label("I have read the record").check()
        await page.get_by_role("button", name="Promote it").click()
        await page.get_by_text("Promoted: what its target allows").wait_for()

        # Another version of it is compared with the one before.
        await page.get_by_role("link", name="Change", exact=True).click()
        await page.get_by_label("Fingerprint", exact=True).fill("{$.title}")
        await page.get_by_role("button", name="Save", exact=True).click()
        await page.get_by_text("it was changed, and is draft again").wait_for()
        await page.get_by_role("button", name="Show the difference").click()
        await expect(page.locator(".diff .added")).to_contain_text("{$.title}")
        await page.get_by_role("button", name="Look", exact=True).click()
        await expect(page.locator("#preview")).to_contain_text("As the new one", timeout=60_000)
        assert await barriers(page) == []
        assert trouble == []
        await context.close()
