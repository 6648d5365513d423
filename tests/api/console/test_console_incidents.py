"""Incidents in the console, without JavaScript: begun by a form, told, edited, merged, reported on and deleted."""

import re
from typing import TYPE_CHECKING, Any

import pytest

from engine.store.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Page, Person, SignIn

NEW = {"page": "shop", "text": "We are looking.", "status": "investigating", "notify": "no", "every": "on"}


async def _begun(person: "Person", title: str = "", **more: str) -> tuple[str, "Page"]:
    """The address of a new one, and its page."""
    sent = NEW | {"title": title or f"Slow {new_id().hex[-6:]}"} | more
    shown = await person.post("/console/incidents", sent)
    assert shown.status == 200, shown.html
    return shown.url.partition("?")[0].partition("/console")[2], shown


async def _of(server: "Server", path: str) -> dict[str, Any]:
    found: dict[str, Any] = (await server.call("GET", f"/api/v1{path}")).body
    return found


async def test_it_is_begun_by_a_form_that_knows_the_page(server: "Server", admin: "Person") -> None:
    pages = await admin.get("/console/incidents/new")
    assert 'href="/console/incidents/new?page=shop"' in pages.html
    form = await admin.get("/console/incidents/new?page=shop")
    assert 'name="c:shop/site"' in form.html
    path, shown = await _begun(admin, **{"c:shop/site": "partial_outage"})
    assert "The incident is on the status page." in shown.html
    incident = await _of(server, path)
    assert (incident["status"], incident["impact"], incident["publishers"]) == (
        "investigating",
        "major",
        None,
    )
    assert [c["status"] for c in incident["components"]] == ["partial_outage"]
    assert not incident["updates"][0]["notify"]


async def test_whether_subscribers_are_told_is_asked_and_what_was_written_stays(
    server: "Server", admin: "Person"
) -> None:
    sent = NEW | {"title": "Half a form", "c:shop/site": "major_outage"}
    wrong = await admin.post("/console/incidents", {k: v for k, v in sent.items() if k != "notify"})
    assert (wrong.status, "<code>notify</code> is missing" in wrong.html) == (422, True)
    assert 'value="Half a form"' in wrong.html
    assert "We are looking.</textarea>" in wrong.html
    assert '<option value="major_outage" selected>' in wrong.html
    made = {"slug": f"p-{new_id().hex[-8:]}", "type": "webhook", "url": "http://hook.example/"}
    assert (await server.call("POST", "/api/v1/publishers?page=shop", made)).status == 201
    only = {k: v for k, v in sent.items() if k not in ("notify", "every")} | {"publishers": made["slug"]}
    wrong = await admin.post("/console/incidents", only)
    assert f'value="{made["slug"]}" checked' in wrong.html


async def test_it_is_told_edited_and_resolved(server: "Server", admin: "Person") -> None:
    path, _ = await _begun(admin, **{"c:shop/site": "partial_outage"})
    said = {"text": "**Found** it.", "status": "identified", "notify": "no", "is_markdown": "on"}
    shown = await admin.post(f"/console{path}/updates", said | {"c:shop/site": "major_outage"})
    assert "<strong>Found</strong> it." in shown.html
    edited = await admin.post(f"/console{path}/edit", {"title": "Another title", "impact": "minor"})
    assert "<h1>Another title</h1>" in edited.html
    incident = await _of(server, path)
    assert (incident["impact"], incident["components"], len(incident["updates"])) == ("minor", [], 2)
    update = incident["updates"][1]["id"]
    parts = re.split(r"<section ", shown.html)
    assert [part[:40] for part in parts if "data-live" in part and "<textarea" in part] == []  # is refreshed
    long = await admin.post(f"/console{path}/updates/{update}", {"text": "x" * 25_001})
    assert (long.status, "x" * 25_001 in long.html) == (422, True)
    fixed = await admin.post(f"/console{path}/updates/{update}", {"text": "We look."})
    assert "corrected by" in fixed.html
    over = await admin.post(
        f"/console{path}/updates", {"text": "Over.", "status": "resolved", "notify": "no"}
    )
    assert "open it again" in over.html
    assert (await _of(server, path))["status"] == "resolved"


async def test_what_is_over_is_entered_with_its_times(server: "Server", admin: "Person") -> None:
    times = {"started_at": "2026-01-05T10:00", "resolved_at": "2026-01-05T11:30", "ended": "A disk was full."}
    path, _ = await _begun(admin, **times)
    incident = await _of(server, path)
    assert (incident["is_backfilled"], incident["status"]) == (True, "resolved")
    assert [(u["at"], u["text"]) for u in incident["updates"]] == [
        ("2026-01-05T11:30:00Z", "A disk was full."),
        ("2026-01-05T10:00:00Z", "We are looking."),
    ]
    wrong = await admin.post(
        "/console/incidents", NEW | times | {"title": "x", "resolved_at": "2026-01-05T09:00"}
    )
    assert (wrong.status, "is before started_at" in wrong.html) == (422, True)


async def test_it_is_merged_and_deleted(server: "Server", admin: "Person") -> None:
    one, _ = await _begun(admin, "The one")
    other, shown = await _begun(admin, "The other")
    assert "The one</option>" in shown.html
    merged = await admin.post(f"/console{one}/merge", {"into": other.rpartition("/")[2]})
    assert "the incident that it was merged into" in merged.html
    assert "Say something" not in merged.html
    refused = await admin.post(f"/console{one}/merge", {"into": other.rpartition("/")[2]})
    assert (refused.status, "it is over" in refused.html) == (409, True)
    gone = await admin.post(f"/console{other}/delete")
    assert gone.url.endswith("/console/incidents?said=removed")
    assert (await admin.get(f"/console{other}")).status == 404


async def test_a_report_is_written_published_and_hidden(admin: "Person") -> None:
    path, _ = await _begun(admin)
    written = await admin.post(f"/console{path}/report", {"text": "It was *us*.", "do": "save"})
    assert ("It was *us*.</textarea>" in written.html, "Publish what is saved" in written.html) == (
        True,
        False,
    )
    await admin.post(f"/console{path}/updates", {"text": "Over.", "status": "resolved", "notify": "no"})
    published = await admin.post(f"/console{path}/report", {"text": "ignored", "do": "publish"})
    assert "The report is on the status page." in published.html
    assert "It was *us*.</textarea>" in published.html
    assert "Hide" in published.html


async def test_the_list_is_chosen_by_status_and_page(admin: "Person") -> None:
    title = f"Open {new_id().hex[-6:]}"
    await _begun(admin, title)
    for query, is_there in (
        ("status=open", True),
        ("status=resolved", False),
        ("page=shop", True),
        ("page=blog&status=open", False),
    ):
        shown = await admin.get(f"/console/incidents?{query}")
        assert (title in shown.html) == is_there, query


@pytest.mark.parametrize(("who", "may"), [("viewer@shop", False), ("reviewer@shop", True)])
async def test_only_a_reviewer_sees_what_to_do(
    admin: "Person", sign_in: "SignIn", who: str, may: bool
) -> None:
    path, _ = await _begun(admin)
    person = await sign_in(who)
    shown = await person.get(f"/console{path}")
    assert bool(re.search(r'aria-label="(Say something|More|Report)"', shown.html)) == may
    listed = await person.get("/console/incidents")
    assert ("New incident" in listed.html) == may
    sent = await person.post(f"/console{path}/updates", {"text": "Mine.", "notify": "no"})
    assert sent.status == (200 if may else 403)


async def test_presets_fill_the_forms(admin: "Person") -> None:
    form = await admin.get("/console/incidents/new?page=shop")
    assert 'href="/console/incidents/new?page=shop&amp;preset=outage"' in form.html
    assert "preset=identified" not in form.html
    filled = await admin.get("/console/incidents/new?page=shop&preset=outage")
    assert 'value="Outage: Shop"' in filled.html
    assert "Shop is currently unavailable" in filled.html
    path, shown = await _begun(admin, **{"c:shop/site": "partial_outage"})
    assert f'href="/console{path}?preset=identified"' in shown.html
    update = await admin.get(f"/console{path}?preset=identified")
    assert "We know what is wrong with Site," in update.html
    assert '<option value="identified" selected>' in update.html
