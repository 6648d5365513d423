"""Episodes in the console: listed by who looks at them, handled by forms, and their whole course on one page."""

from typing import TYPE_CHECKING

import pytest

from engine.store import episodes, objects
from engine.store.database import transaction
from engine.store.ids import new_id, show
from engine.store.objects import Stored

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn, Tab

from tests.api.console.conftest import ACTOR, happened, outage
from tests.rig.browser import barriers


@pytest.fixture
async def episode(server: "Server") -> str:
    """The open episode of a beat that has a channel."""
    slug = f"cart-{new_id().hex[-6:]}"
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": slug, "type": "tcp", "host": "x.example", "port": 1, "channels": ["ops"]}
        beat: Stored = await objects.create(db, ACTOR, "beat", page.id, spec)
    await happened(server.services, beat, outage())
    async with server.services.pool.acquire() as db:
        (row,) = await episodes.listing(db, owner=beat.id)
    return show("episode", row["id"])


async def test_an_episode_is_handled_by_forms_and_shows_its_whole_course(
    admin: "Person", episode: str
) -> None:
    path = f"/console/episodes/{episode}"
    page = await admin.get(path)
    assert page.status == 200, page.html
    assert "by nobody" in page.html
    assert "is down" in page.html  # what ops is told
    for verb, fields in (
        ("acknowledge", {}),
        ("comment", {"text": "the <b>disk</b> is full"}),
        ("snooze", {"for": "4h"}),
        ("escalate", {"text": ""}),
    ):
        page = await admin.post(f"{path}/{verb}", fields)
        assert (page.status, "Saved." in page.html) == (200, True), page.html
    assert "the &lt;b&gt;disk&lt;/b&gt; is full" in page.html
    assert "Snoozed until" in page.html
    assert "Give it back" in page.html
    refused = await admin.post(f"{path}/snooze", {"for": "soon"})
    assert refused.status == 422
    assert "is not a duration" in refused.html
    assert "Saved." in (await admin.post(f"{path}/snooze", {"for": ""})).html


async def test_the_list_is_of_a_state_or_mine(admin: "Person", episode: str) -> None:
    listed = [
        (await admin.get(f"/console/episodes?state={state}")).html for state in ("unacknowledged", "mine")
    ]
    assert [episode in html for html in listed] == [True, False]
    page = await admin.get(f"/console/episodes/{episode}")
    me = next(line for line in page.html.split("<option>") if line.startswith("admin-")).partition("<")[0]
    await admin.post(f"/console/episodes/{episode}/acknowledge")
    mine = page.html.count(me)
    assert mine
    assert episode in (await admin.get("/console/episodes?state=acknowledged")).html
    assert episode not in (await admin.get("/console/episodes?state=unacknowledged")).html


async def test_a_viewer_reads_it_and_is_offered_nothing(sign_in: "SignIn", episode: str) -> None:
    viewer, other = await sign_in("viewer@shop"), await sign_in("viewer@blog")
    page = await viewer.get(f"/console/episodes/{episode}")
    assert page.status == 200
    assert "/acknowledge" not in page.html
    assert (await viewer.post(f"/console/episodes/{episode}/acknowledge")).status == 403
    assert (await other.get(f"/console/episodes/{episode}")).status == 404


@pytest.mark.browser
async def test_somebody_takes_an_episode_in_a_browser(server: "Server", tab: "Tab", episode: str) -> None:
    page = tab.page
    await page.goto(f"{server.url}/console/episodes/{episode}")
    await page.get_by_role("button", name="Acknowledge").click()
    await page.get_by_role("button", name="Give it back").wait_for()
    await page.get_by_label("Comment", exact=True).fill("looking at the disk")
    await page.get_by_role("button", name="Comment").click()
    await page.get_by_text("looking at the disk").wait_for()
    assert await barriers(page) == []
    await page.goto(f"{server.url}/console/episodes?state=open")
    assert await barriers(page) == []
    assert (tab.trouble, await tab.attacks()) == ([], [])
