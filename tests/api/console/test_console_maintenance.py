"""The console's page of maintenance: begun from a beat's page, planned by a form, ended by a button."""

from typing import TYPE_CHECKING

import pytest

from engine.store import objects
from engine.store.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn


def _rows(html: str, heading: str) -> str:
    return html.partition(f'aria-label="{heading}"')[2].partition("</section>")[0]


async def test_it_is_begun_from_the_page_of_a_beat_and_ended_by_a_button(admin: "Person") -> None:
    beat = await admin.get("/console/beats/home?page=shop")
    assert '<input type="hidden" name="beats" value="home">' in beat.html
    name = f"Move {new_id().hex[-6:]}"
    sent = {"beats": "home", "page": "shop", "duration": "1h", "name": name}
    begun = await admin.post("/console/maintenances", sent)
    assert (begun.status, "Maintenance has begun" in begun.html) == (200, True)
    running = _rows(begun.html, "Running")
    assert name in running
    assert '<span class="pill">home</span>' in running
    slug = running.partition(name)[0].rpartition("/console/maintenances/")[2].partition("?")[0]
    ended = await admin.post(f"/console/maintenances/{slug}/end?page=shop", {})
    assert "Maintenance is over" in ended.html
    assert name in _rows(ended.html, "Over")
    assert name not in _rows(ended.html, "Running")
    again = await admin.post(f"/console/maintenances/{slug}/end?page=shop", {})
    assert (again.status, "does not run now" in again.html) == (409, True)


async def test_it_is_planned_and_a_mistake_keeps_what_was_written(server: "Server", admin: "Person") -> None:
    sent = {"page": "shop", "components": "site", "start": "2199-01-06T02:00", "duration": "2h"}
    sent |= {"timezone": "Europe/Berlin", "rrule": "FREQ=WEKLY", "name": "Nights"}
    wrong = await admin.post("/console/maintenances", sent)
    assert wrong.status == 422
    assert "FREQ=WEKLY is not allowed" in wrong.html
    assert 'value="2199-01-06T02:00"' in wrong.html
    planned = await admin.post("/console/maintenances", sent | {"rrule": "FREQ=WEEKLY;BYDAY=SU"})
    assert planned.status == 200, planned.html
    coming = _rows(planned.html, "Coming")
    assert "Nights" in coming
    assert "2199-01-06 01:00" in coming
    async with server.services.pool.acquire() as db:
        (stored,) = await objects.listing(db, "maintenance", search="Nights")
    assert stored.spec["rrule"] == "FREQ=WEEKLY;BYDAY=SU"
    edit = await admin.get(f"/console/maintenances/{stored.slug}/edit?page=shop")
    assert "FREQ=WEEKLY;BYDAY=SU" in edit.html


@pytest.mark.parametrize("who", ["viewer@shop", "reviewer@shop"])
async def test_who_may_not_edit_begins_none(sign_in: "SignIn", who: str) -> None:
    person = await sign_in(who)
    page = await person.get("/console/maintenances")
    assert (page.status, "Begin or plan" in page.html) == (200, False)
    assert (await person.post("/console/maintenances", {"page": "shop", "duration": "1h"})).status == 403
