"""Why a stage is what it is, on the pages of beats and groups, in the overview and by REST: the same sentences."""

import html
from typing import TYPE_CHECKING

import msgspec
import pytest

from api.console.overview import members_of
from api.shapes import ShownWhy
from engine.store import objects
from engine.store.database import transaction
from engine.store.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Live, Person, SignIn

from tests.api.console.conftest import ACTOR, Runs, grouped, outage

WELL: Runs = [(30 - n, region, "ok") for n, region in enumerate(("eu", "us", "ap"))]


async def test_a_beat_says_why_and_what_would_change_it(
    server: "Server", admin: "Person", live: "Live"
) -> None:
    slug = f"why-{new_id().hex[-6:]}"
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": slug, "type": "tcp", "host": "x.example", "port": 1}
        await objects.create(db, ACTOR, "beat", page.id, spec)
    await live(slug, [*outage(), (1, "eu", "ok")])
    told = (await server.call("GET", f"/api/v1/beats/{slug}/explain", who="viewer")).body
    assert msgspec.convert(told, ShownWhy).stage == "critical"
    assert told["because"] == ["3 of 3 regions say critical; it ends when 2 of 3 say better (0 do)."]
    assert "2 ok votes of ap, eu or us would make it ok." in told["change"]
    assert "1 more ok run in eu would make its vote ok." in told["change"]
    shown = html.unescape((await admin.get(f"/console/beats/{slug}?page=shop")).html)
    for sentence in (*told["because"], *told["change"][:3], *told["rules"]):
        assert sentence in shown
    assert "1 ok in a row" in shown
    assert f"/console/beats/{slug}/replay?page=shop" in shown


async def test_a_group_shows_its_members_and_what_they_fail_with(server: "Server", admin: "Person") -> None:
    slug = f"group-{new_id().hex[-6:]}"
    one, two = f"{slug}-cart", f"{slug}-pay"
    await grouped(server.services, slug, {one: outage(), two: WELL})
    shown = (await admin.get(f"/console/groups/{slug}?page=shop")).html
    assert "1 of 2 members say critical; it ends when 2 of 2 say better (1 do)." in shown
    assert f"1 more ok vote of {one} would make it ok." in shown
    assert "status is 503; expected eq 200" in shown
    assert "Review the draft" in shown
    told = (await server.call("GET", f"/api/v1/groups/{slug}/explain")).body
    assert [(vote["name"], vote["verdict"]) for vote in told["votes"]] == [(one, "critical"), (two, "ok")]
    assert f"Its group {slug.title()} owns its episodes." in (await admin.get(f"/console/beats/{one}")).html

    overview = (await admin.get("/console")).html
    happening, table = overview.split('aria-label="Beats and groups"')
    assert f"/console/groups/{slug}?page=shop" in happening
    assert "status is 503; expected eq 200" in happening
    assert "2 members, 1 critical" in table
    assert table.count(f">{one}</a>") == 1  # folded into its group, not a line of its own
    assert f">{one}</a>" in (await admin.get(f"/console?q={one}")).html
    listed = (await admin.get("/console/groups")).html
    assert "2 members, 1 critical" in listed
    assert "no member" in listed

    draft = happening.split("/console/actions/")[1].split('"')[0]
    page = (await admin.get(f"/console/actions/{draft}")).html
    assert f"/console/groups/{slug}?page=shop" in page
    assert f"{one} in " in page


async def test_of_many_members_each_group_shows_its_worst_and_counts_all(
    server: "Server", admin: "Person", monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (f"many-{new_id().hex[-6:]}" for _ in "ab")
    for slug in (one, two):
        await grouped(
            server.services, slug, {f"{slug}-{n}": WELL for n in range(11)} | {f"{slug}-z": outage()}
        )
    monkeypatch.setattr("api.console.overview.PART", 1)  # ten members at once
    shown = (await admin.get(f"/console/groups/{one}?page=shop")).html
    assert "These are the worst 10 of 12." in shown
    async with server.services.pool.acquire() as db:
        groups = [await objects.find(db, "group", slug) for slug in (one, two)]
        members = await members_of(db, [group.id for group in groups])
    for slug, group in zip((one, two), groups, strict=True):
        assert [row["slug"] for row in members[group.id]][:2] == [f"{slug}-z", f"{slug}-0"]
        assert len(members[group.id]) == 5


async def test_a_group_is_paused_and_resumed(server: "Server", admin: "Person") -> None:
    await admin.get("/console/groups/together")
    paused = await admin.post("/console/groups/together/pause?page=shop", {"for": "1h"})
    assert "paused until" in paused.html
    assert (await server.call("GET", "/api/v1/groups/together")).body["paused"] is True
    resumed = await admin.post("/console/groups/together/resume?page=shop")
    assert "Pause…" in resumed.html


async def test_a_sick_region_is_told_on_top(server: "Server", admin: "Person") -> None:
    async with server.services.pool.acquire() as db:
        why = {"beats": 9, "lonely": 7}
        await db.execute("INSERT INTO suspensions (region, began_at, why) VALUES ('ap', now(), $1)", why)
        assert "7 of 9 beats were bad there" in (await admin.get("/console")).html
        await db.execute("DELETE FROM suspensions")


@pytest.mark.parametrize("kind", ["beats", "groups"])
async def test_what_is_not_there_is_not_explained(server: "Server", kind: str) -> None:
    assert (await server.call("GET", f"/api/v1/{kind}/nobody/explain")).status == 404


async def test_a_group_is_added_by_a_form_and_a_beat_joins_it(server: "Server", admin: "Person") -> None:
    slug = f"made-{new_id().hex[-6:]}"
    await admin.get("/console/groups")
    fields = {"slug": slug, "page": "blog", "components": "site", "channels": "ops", "depends_on": "home"}
    page = await admin.post("/console/groups", fields)
    assert page.status == 200, page.html
    assert slug in page.html
    form = await admin.get("/console/beats/new?target=tcp://db.example:5432")
    assert f'<option value="{slug}"' in form.html
    sent = {
        "do": "save",
        "slug": f"{slug}-db",
        "interval": "30s",
        "timeout": "5s",
        "page": "blog",
        "regions": "eu",
    }
    sent |= {"target": "tcp://db.example:5432", "group": slug, "depends_on": "home"}
    made = await admin.post("/console/beats/new", sent)
    assert made.status == 200, made.html
    beat = (await server.call("GET", f"/api/v1/beats/{slug}-db?page=blog")).body
    assert (beat["group"], beat["depends_on"]) == (slug, ["home"])
    wrong = await admin.post("/console/groups", fields | {"slug": "x", "depends_on": "nobody"})
    assert (wrong.status, "there is no beat" in wrong.html) == (422, True)
    edited = await admin.post(
        f"/console/groups/{slug}/edit?page=blog", {"text": f"slug: {slug}\nname: Made\npage: blog"}
    )
    assert "<h1>Made</h1>" in edited.html


async def test_pages_of_groups_are_served_with_a_strict_policy_to_who_may_read_them(
    server: "Server", admin: "Person", sign_in: "SignIn"
) -> None:
    viewer = await sign_in("viewer@blog")
    for path in ("/console/groups", "/console/groups/together", "/console/groups/together/edit"):
        page = await admin.get(path)
        assert page.status == 200
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert " style=" not in page.html
        assert (await viewer.get(path)).status == (200 if path.endswith("groups") else 404)
    assert "/groups/together" not in (await viewer.get("/console/groups")).html
