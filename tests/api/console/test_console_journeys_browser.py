"""Journeys in the console, in a real browser: pictures are seen, hostile evidence runs nothing, and customers see none of it."""

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Literal

import pytest
from msgspec import structs

from engine.store.ids import new_id
from evaluators.observation import Artifact, Document, Journeyed, StepDone
from tests.api.console.conftest import outage
from tests.api.console.journey import FILES, SEEN, drawn, journey_beat, recorded, travelled
from tests.api.console.test_console_hostile import ALL, PAYLOADS
from tests.rig.browser import barriers

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.api.conftest import Server
    from tests.api.console.conftest import Live, Tab

pytestmark = pytest.mark.browser

STATES: tuple[Literal["ok", "failed", "skipped"], ...] = ("ok", "failed", "skipped")
EVIL = Journeyed(
    tuple(
        StepDone(payload, ALL, state, n / 9, 0.1, ALL, n % 2 == 0, n == 5, payload, payload)
        for n, (payload, state) in enumerate(zip(PAYLOADS, STATES * 14, strict=True))
    ),
    tuple(Document(payload, payload, 0.1, 0.2, 0.3, 0.4) for payload in PAYLOADS[:5]),
    PAYLOADS,
    99,
    PAYLOADS,
    99,
    browser=ALL,
    isolation=ALL,
)
EVIL_FILES = (
    *(Artifact(payload, "image/jpeg", drawn("x")) for payload in PAYLOADS[:8]),
    Artifact(PAYLOADS[9], PAYLOADS[2], b"x"),
    Artifact("failure.jpg", "image/jpeg", ALL.encode()),  # it is none
    Artifact("network.har", "application/json", recorded(*((payload, 200) for payload in PAYLOADS), ("http://x/" + ALL, -1), name=ALL)),
    Artifact("console.txt", "text/html", ALL.encode() + b"\xff\0"),
    Artifact("page.html", "text/html", ALL.encode()),
)  # fmt: skip


async def seen(page: "Page") -> list[int]:
    """The widths of the pictures of a page, once all are loaded; 0 of one that could not be."""
    widths: list[int] = await page.evaluate(
        """async () => {
        const pictures = [...document.querySelectorAll("main img")];
        for (const one of pictures) one.loading = "eager";
        await Promise.all(pictures.map((one) => one.decode().catch(() => {})));
        return pictures.map((one) => one.naturalWidth);
    }"""
    )
    return widths


async def test_the_pictures_of_a_run_are_seen_and_nothing_is_in_the_way(server: "Server", tab: "Tab") -> None:
    beat = await journey_beat(server)
    _, url = await travelled(server, beat)
    await tab.page.goto(server.url + url)
    assert await seen(tab.page) == [800] * 5  # how it failed, three on the film, one that the journey took
    assert await barriers(tab.page) == []
    await tab.page.set_viewport_size({"width": 390, "height": 844})
    assert await tab.page.evaluate("document.documentElement.scrollWidth") == 390
    assert await barriers(tab.page, ("light",)) == []
    assert tab.trouble == []
    assert await tab.attacks() == []


async def test_a_run_reads_without_script(server: "Server", tab: "Tab") -> None:
    beat = await journey_beat(server)
    _, url = await travelled(server, beat)
    browser = tab.page.context.browser
    assert browser is not None
    state = await tab.page.context.storage_state()
    context = await browser.new_context(java_script_enabled=False, storage_state=state)
    page = await context.new_page()
    await page.goto(server.url + url)
    text = await page.locator("main").inner_text()
    for part in ("Failed at pay", "step-3.jpg is on its way", "needs improvement", "cdn.shop.example"):
        assert part in text, part
    await context.close()


async def test_hostile_evidence_is_inert(server: "Server", tab: "Tab", live: "Live") -> None:
    beat = await journey_beat(server, components={"site": {}}, quorum={"confirm": "off"})
    await live(beat.slug, outage(ago=60.0))
    _, url = await travelled(server, beat, EVIL, EVIL_FILES, error=ALL)
    for path in (url, f"/console/beats/{beat.slug}?page=shop", "/console/actions", "/console/episodes"):
        await tab.page.goto(server.url + path)
        if path in ("/console/actions", "/console/episodes"):
            await tab.page.locator("main tr", has_text=beat.slug).get_by_role("link").first.click()
            await tab.page.locator("main img").wait_for()
        await tab.page.wait_for_load_state()
        assert 0 in await seen(tab.page), path  # what is no picture was tried
        assert await tab.attacks() == [], path
    assert [said for said in tab.trouble if "status of 4" not in said] == []


async def test_a_journey_is_written_tried_and_added(server: "Server", tab: "Tab") -> None:
    async def check_now(_rule: Any, _page_id: Any) -> dict[str, Any]:
        steps, documents = ([structs.asdict(one) for one in many] for many in (SEEN.steps, SEEN.documents))
        return {
            "verdict": "critical",
            "timings": {"total": 6.3},
            "error": {"type": "step.timeout", "message": PAYLOADS[0]},
            "evidence": {"journey": structs.asdict(SEEN) | {"steps": steps, "documents": documents}},
            "artifacts": [{"name": one.name, "type": one.type, "data": b64encode(one.data).decode()} for one in FILES],
        }  # fmt: skip

    page, before = tab.page, server.services.check_now
    await page.goto(f"{server.url}/console/beats/new")
    await page.get_by_label("What to watch").fill("https://shop.example/")
    await page.get_by_role("button", name="Write a browser's journey").click()
    await page.get_by_label("Page", exact=True).select_option("shop")
    await page.get_by_label("Slug").fill(beat := f"buy-{new_id().hex[-6:]}")
    await page.get_by_label("Steps").fill("- goto: /\n- clik: Buy\n- expect: {at: Thanks}\n")
    await page.get_by_role("button", name="Add the beat").click()
    await page.get_by_text("line 2, 1.clik: unknown key; did you mean click?").wait_for()
    await page.get_by_label("Steps").fill("- goto: /\n- click: Buy\n")
    await page.get_by_label("Teardown").fill("- goto: [")
    await page.get_by_role("button", name="Add the beat").click()
    await page.get_by_text("line 1: not YAML").wait_for()
    await page.get_by_label("Teardown").fill("- goto: /logout")
    await page.get_by_label("Device").select_option("phone")
    server.services.check_now = check_now
    try:
        await page.get_by_role("button", name="Check now").click()
        await page.get_by_text("just now, not saved").wait_for()
    finally:
        server.services.check_now = before
    assert await seen(page) == [800] * 5
    assert await barriers(page) == []
    await page.get_by_role("button", name="Add the beat").click()
    await page.wait_for_url(f"**/console/beats/{beat}?**")
    answer = await server.call("GET", f"/api/v1/beats/{beat}?page=shop")
    spec = answer.body
    assert (spec["type"], spec["steps"], spec["teardown"]) == (
        "browser",
        [{"goto": "/"}, {"click": {"text": "Buy"}}],
        [{"goto": "/logout"}],
    )
    assert (spec["device"], spec["interval"], spec["timeout"]) == ("phone", "5m", "1m")
    assert [said for said in tab.trouble if "status of 422" not in said] == []
    assert await tab.attacks() == []


RECORDED = """
def test_buys(page: Page) -> None:
    page.goto("https://shop.example/mugs")
    page.get_by_role("button", name="Add </textarea><script>xss()</script>").click()
    page.mouse.move(3, 4)
"""


async def test_a_recording_becomes_steps_and_what_does_not_is_said(server: "Server", tab: "Tab") -> None:
    page = tab.page
    await page.goto(f"{server.url}/console/beats/new?target=https://shop.example/&type=browser")
    await page.get_by_text("From a recording").click()
    await page.get_by_label("Script of playwright codegen").fill("nothing at all")
    await page.get_by_role("button", name="Turn into steps").click()
    await page.get_by_text("it is neither Python nor JavaScript").wait_for()
    await page.get_by_label("Script of playwright codegen").fill(RECORDED)
    await page.get_by_role("button", name="Turn into steps").click()
    await page.get_by_text("line 4: mouse so").wait_for()
    assert (await page.get_by_label("Steps").input_value()).startswith(
        "- goto: /mugs\n- click:\n    role: button\n"
    )
    assert await tab.attacks() == []


async def test_customers_see_nothing_of_how_a_journey_failed(
    server: "Server", tab: "Tab", live: "Live"
) -> None:
    beat = await journey_beat(server, components={"site": {}}, quorum={"confirm": "off"}, channels=["ops"])
    await live(beat.slug, outage(ago=60.0))
    run_id, _ = await travelled(server, beat)
    page = tab.page
    await page.goto(f"{server.url}/console/actions")
    await page.locator("main tr", has_text=beat.slug).get_by_role("link").first.click()
    assert await seen(page) == [800]
    shown = await page.locator("main img").get_attribute("src")
    assert shown is not None
    await page.get_by_role("button", name="Approve and publish").click()
    await page.get_by_text("Approved: it is on the status page.").wait_for()
    hidden = (run_id.hex, str(run_id), "artifacts", "failure.jpg", "Pay now")
    for path in ("", "status.json", "index.txt", "feed.atom", "feed.json", "widget"):
        async with server.session.get(f"{server.url}/p/shop/{path}") as answer:
            assert answer.status == 200, path
            said = await answer.text()
        assert [one for one in hidden if one in said] == [], path
    async with server.services.pool.acquire() as db:  # nor in a letter, or what a publisher is sent
        told = await db.fetch("SELECT item::text FROM outbox")
    assert [one for one in hidden for row in told if one in row["item"]] == []
    async with server.session.get(server.url + shown) as answer:
        assert answer.status == 401
