"""Subscribers and broadcasts in a real browser: added, imported, ended; a message that was seen as mail before it left."""

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.rig.browser import barriers

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import SignIn, Tab

SHOTS = os.environ.get("SHOTS")


@pytest.fixture(autouse=True)
async def _empty(server: "Server") -> None:
    async with server.services.pool.acquire() as db:
        await db.execute("TRUNCATE subscribers, letters, broadcasts CASCADE")


async def _shoot(tab: "Tab", name: str) -> None:
    if SHOTS:
        await tab.page.screenshot(path=f"{SHOTS}/e_{name}.png", full_page=True)


async def _unfold(tab: "Tab") -> None:
    for summary in await tab.page.locator("main details summary").all():
        if not await summary.locator("..").get_attribute("open"):
            await summary.click()


@pytest.mark.browser
async def test_subscribers_are_added_imported_chosen_and_ended(server: "Server", tab: "Tab") -> None:
    page = tab.page
    await page.goto(f"{server.url}/console/subscribers?page=shop")
    add = page.locator("form", has_text="Add one")
    await add.get_by_label("Address").fill("no mailbox")
    await add.get_by_role("button", name="Add").click()
    await page.get_by_text("is no e-mail address").wait_for()
    await add.get_by_label("Address").fill("ann@shop.example")
    await add.get_by_role("button", name="Add").click()
    await page.get_by_text("told once they confirmed").first.wait_for()
    await add.get_by_label("Address").fill("https://hook.example/x")
    await add.get_by_label("Kind").select_option("Webhook")
    await add.get_by_label("Known to want it because").fill("our own")
    await add.get_by_role("button", name="Add").click()
    await page.get_by_text("Added: they are told from now on.").wait_for()

    lines = "email,name,components\nbob@shop.example,Bob,site\nnobody,,\n=evil@shop.example,,\n"
    file = {"name": "list.csv", "mimeType": "text/csv", "buffer": lines.encode()}
    form = page.locator("#import")
    await form.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    await form.get_by_role("button", name="Check the file").click()
    await page.get_by_text("line 3 email: is no e-mail address").wait_for()
    await page.get_by_text("this is what the file would do").wait_for()
    await _shoot(tab, "import")
    assert await barriers(page) == []
    await form.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    await form.get_by_label("Leave out bad lines").check()
    await form.get_by_role("button", name="Import", exact=True).click()
    await page.get_by_text("Imported.").wait_for()

    await page.goto(f"{server.url}/console/subscribers?page=shop&status=pending")
    assert await page.locator("tbody tr").count() == 3
    bob = page.locator("tbody tr", has_text="bob@shop.example")
    await bob.locator("summary").click()
    await bob.get_by_role("button", name="Unsubscribe").click()
    await page.get_by_label("Status").select_option("unsubscribed")
    await page.get_by_role("button", name="Show").click()
    assert await page.locator("tbody tr").count() == 1
    await page.locator("tbody summary").click()
    await page.get_by_label("How do you know that they want it?").fill("they wrote")
    await page.get_by_role("button", name="Tell them from now on").click()
    await page.get_by_text("Saved.").wait_for()
    await _shoot(tab, "subscribers")
    await _unfold(tab)
    assert await barriers(page) == []
    async with page.expect_download() as got:
        await page.get_by_role("link", name="Shop as CSV").click()
    assert "'=evil@shop.example" in (await (await got.value).path()).read_text("utf-8")
    await page.set_viewport_size({"width": 390, "height": 900})
    await _shoot(tab, "subscribers_phone")
    assert [said for said in tab.trouble if "422" not in said] == []


@pytest.mark.browser
async def test_a_message_is_seen_as_mail_before_it_leaves_once(server: "Server", tab: "Tab") -> None:
    page = tab.page
    body = {"address": "ann@shop.example", "is_confirmed": True, "reason": "staff"}
    assert (await server.call("POST", "/api/v1/subscribers?page=shop", body)).status == 201
    await page.goto(f"{server.url}/console/broadcasts")
    await page.get_by_label("To subscribers of").select_option("Shop")
    await page.get_by_label("Subject").fill("We move")
    await page.get_by_label("Text", exact=True).fill(
        "To **Berlin**. <script>window.attacks.push('mail')</script>"
    )
    await page.get_by_label("The text is Markdown").check()
    await page.get_by_role("button", name="Preview").click()
    await page.get_by_text("1 subscriber is told").wait_for()
    frame = page.frame_locator("iframe")
    await frame.locator("strong", has_text="Berlin").wait_for()
    await page.get_by_text("As plain text").click()
    await _shoot(tab, "broadcast_preview")
    assert await barriers(page) == []
    assert (await server.call("GET", "/api/v1/broadcasts")).body["items"] == []
    await page.get_by_role("button", name="Send to 1").click()
    await page.get_by_text("Under way: 0 sent, 1 waiting").wait_for()
    await _shoot(tab, "broadcast")
    assert await barriers(page) == []
    await page.goto(f"{server.url}/console/broadcasts")
    assert await page.locator("tbody tr").count() == 1
    assert await barriers(page) == []
    assert [said for said in tab.trouble if "422" not in said] == []
    assert await tab.attacks() == []


async def test_a_message_that_is_sent_twice_is_told_once(server: "Server", sign_in: "SignIn") -> None:
    person = await sign_in("reviewer@shop")
    said = {"page": "shop", "subject": "We move", "text": "To Berlin."}
    shown = await person.post("/console/broadcasts/preview", said)
    key = re.search(r'name="key" value="([\w-]+)"', shown.html)
    assert key is not None
    for _ in range(2):
        assert (await person.post("/console/broadcasts", said | {"key": key[1]})).status == 200
    assert len((await server.call("GET", "/api/v1/broadcasts")).body["items"]) == 1
    assert (await person.post("/console/broadcasts", said | {"key": ""})).status == 400
    wrong = await person.post("/console/broadcasts/preview", {"page": "shop", "subject": "", "text": "x"})
    assert (wrong.status, "subject" in wrong.html) == (422, True)


async def test_who_may_only_look_is_offered_nothing_to_change(server: "Server", sign_in: "SignIn") -> None:
    body = {
        "address": "https://hook.example/secret-7731",
        "kind": "webhook",
        "is_confirmed": True,
        "reason": "x",
    }
    made = await server.call("POST", "/api/v1/subscribers?page=shop", body)
    viewer = await sign_in("viewer@shop")
    listed = await viewer.get("/console/subscribers")
    assert (listed.status, "https://hook.example/..." in listed.html) == (200, True)
    assert "secret-7731" not in listed.html
    assert "Add one" not in listed.html
    assert "A message by hand" not in (await viewer.get("/console/broadcasts")).html
    for verb in ("unsubscribe", "again", "remove"):
        assert (await viewer.post(f"/console/subscribers/{made.body['id']}/{verb}")).status == 403
    other = await sign_in("editor@blog")
    assert (await other.post(f"/console/subscribers/{made.body['id']}/remove")).status == 404
