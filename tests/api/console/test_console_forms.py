"""What is done by the console's forms: the same checks as REST, mistakes shown where they are, nothing forged."""

import html
import re
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import objects, people, reviews, states
from engine.store.database import transaction
from engine.store.ids import new_id, show
from evaluators.facts import EpisodeClosed, EpisodeOpened, StepProposed
from evaluators.model import Kind

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn

from tests.api.console.conftest import ACTOR

NEW = {"do": "save", "slug": "", "interval": "30s", "timeout": "5s", "page": "shop", "regions": "eu"}


async def _beat(server: "Server", **more: Any) -> Any:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": f"f-{new_id().hex[-8:]}", "type": "tcp", "host": "x.example", "port": 1}
        return await objects.create(db, ACTOR, "beat", page.id, spec | more)


async def _draft(server: "Server") -> Any:
    beat, at = await _beat(server, components={"site": {}}), server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        await reviews.open_episodes(db, [(beat, EpisodeOpened(at, 1, "critical"))])
        evidence = [{"region": "eu", "verdict": "critical"}]
        await reviews.propose(
            db, [reviews.Proposal(beat.id, 1, StepProposed(at, "open", "critical"), evidence)]
        )
        (action,) = await reviews.actions(db, owner=beat.id)
    return action


async def test_a_url_becomes_a_beat(server: "Server", admin: "Person") -> None:
    form = await admin.get("/console/beats/new?target=https://www.shop.example/health")
    assert 'name="slug" type="text" value="shop-example-health"' in form.html
    slug = f"new-{new_id().hex[-6:]}"
    sent = NEW | {
        "target": "https://www.shop.example/health",
        "slug": slug,
        "contains": "fine",
        "components": "site",
    }
    page = await admin.post("/console/beats/new", sent)
    assert page.status == 200
    assert f"/console/beats/{slug}?page=shop&said=added" in page.url
    assert "The first results show here within seconds." in page.html
    async with server.services.pool.acquire() as db:
        spec = (await objects.find(db, "beat", slug)).spec
    assert spec["url"] == "https://www.shop.example/health"
    assert (spec["regions"], spec["interval"], spec["components"]) == (["eu"], "30s", {"site": {}})
    assert spec["assertions"] == [{"of": "body", "contains": "fine"}]


@pytest.mark.parametrize(
    ("target", "kind"),
    [("tcp://db.example:5432", "tcp"), ("dns:shop.example", "dns"), ("http://[::1]:8080/x", "http")],
)
async def test_every_kind_of_target_has_its_form(admin: "Person", target: str, kind: str) -> None:
    page = await admin.get(f"/console/beats/new?target={target}")
    assert page.status == 200
    assert "Add the beat" in page.html
    assert ("The answer contains" in page.html) is (kind == "http")


@pytest.mark.parametrize(
    "target", ["shop.example", "ftp://x.example", "tcp://db.example", "http://[", "javascript:1"]
)
async def test_another_target_is_told_what_is_accepted(admin: "Person", target: str) -> None:
    page = await admin.get(f"/console/beats/new?target={target}")
    assert page.status == 422
    assert "tcp://host:port, tls://host, icmp://host, dns:name" in page.html


async def test_mistakes_stand_beside_their_fields_and_nothing_typed_is_lost(admin: "Person") -> None:
    sent = NEW | {"target": "tcp://db.example:1", "slug": "No Slug", "interval": "often", "name": "My db"}
    page = await admin.post("/console/beats/new", sent)
    assert page.status == 422
    assert page.html.count('aria-invalid="true"') == 2
    assert 'value="My db"' in page.html
    assert "is not a duration" in page.html
    taken = await admin.post("/console/beats/new", NEW | {"target": "tcp://db.example:1", "slug": "home"})
    assert (taken.status, "there is a beat" in taken.html) == (409, True)


async def test_check_now_shows_the_result_and_saves_nothing(server: "Server", admin: "Person") -> None:
    sent = NEW | {"target": "https://x.example/", "slug": "only-checked", "do": "check"}
    page = await admin.post("/console/beats/new", sent)
    assert page.status == 200
    assert "not saved" in page.html
    async with server.services.pool.acquire() as db:
        assert "only-checked" not in [stored.slug for stored in await objects.listing(db, "beat")]


async def test_check_now_keeps_what_the_beat_feeds(server: "Server", sign_in: "SignIn") -> None:
    slug = f"c-{new_id().hex[-8:]}"
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        await objects.create(db, ACTOR, "component", page.id, {"slug": slug, "name": "C"})
    editor = await sign_in("editor@shop")
    form = await editor.get("/console/beats/new?target=https://x.example/")
    home = re.search(r'<input type="hidden" name="page" value="(.*?)">', form.html)
    assert home is not None, "who edits one page is not asked for it, and the form sends it"
    sent = NEW | {
        "target": "https://x.example/",
        "slug": "x",
        "do": "check",
        "page": home[1],
        "components": slug,
    }
    checked = await editor.post("/console/beats/new", sent)
    assert f'name="components" value="{slug}" checked' in checked.html


async def test_yaml_is_saved_and_its_mistakes_have_lines(server: "Server", admin: "Person") -> None:
    beat = await _beat(server)
    path = f"/console/beats/{beat.slug}/edit?page=shop"
    text = html.unescape(
        (await admin.get(path)).html.split("<textarea")[1].split(">\n")[1].split("</textarea")[0]
    )
    assert text.startswith(f"slug: {beat.slug}\n")
    wrong = await admin.post(path, {"text": text + "\ninterval: 5x\n", "revision": "1"})
    assert wrong.status == 422
    assert "<code>line 5, interval</code>" in wrong.html
    broken = await admin.post(path, {"text": "a: [", "revision": "1"})
    assert (broken.status, "not YAML" in broken.html) == (422, True)
    saved = await admin.post(path, {"text": text + "\ninterval: 20s\n", "revision": "1"})
    assert (saved.status, "Saved." in saved.html) == (200, True)
    stale = await admin.post(path, {"text": text, "revision": "1"})
    assert (stale.status, "changed by somebody else" in stale.html) == (412, True)
    async with server.services.pool.acquire() as db:
        assert (await objects.find(db, "beat", beat.slug)).spec["interval"] == "20s"


async def test_what_a_file_manages_is_read_only_and_says_where(server: "Server", admin: "Person") -> None:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": f"filed-{new_id().hex[-6:]}", "type": "tcp", "host": "x.example", "port": 1}
        beat = await objects.create(db, ACTOR, "beat", page.id, spec, source="upbeat.yaml:12")
    shown = await admin.get(f"/console/beats/{beat.slug}?page=shop")
    assert "<code>upbeat.yaml:12</code>" in shown.html
    assert "/delete" not in shown.html
    edit = f"/console/beats/{beat.slug}/edit?page=shop"
    assert "<textarea" not in (await admin.get(edit)).html
    refused = await admin.post(
        edit, {"text": f"slug: {beat.slug}\ntype: tcp\nhost: y\nport: 1", "revision": "1"}
    )
    assert (refused.status, "upbeat.yaml:12" in refused.html) == (409, True)


async def test_a_beat_is_paused_resumed_run_and_deleted(server: "Server", admin: "Person") -> None:
    beat = await _beat(server)
    orders: list[Any] = []

    async def order(region: str, partition: int, wanted: Any) -> bool:
        orders.append((region, wanted.kind))
        return True

    paused = await admin.post(f"/console/beats/{beat.slug}/pause?page=shop", {"for": "1h"})
    assert "paused until" in paused.html
    resumed = await admin.post(f"/console/beats/{beat.slug}/resume?page=shop")
    assert "paused until" not in resumed.html
    forever = await admin.post(f"/console/beats/{beat.slug}/pause?page=shop", {"for": ""})
    assert "paused until resumed" in forever.html
    bus: Any = server.services.bus
    bus.order = order
    try:
        run = await admin.post(f"/console/beats/{beat.slug}/run?page=shop")
    finally:
        del bus.order
    assert "a manual run never votes" in run.html
    assert orders == [(region, Kind.MANUAL) for region in ("ap", "eu", "us")]
    await admin.post(f"/console/beats/{beat.slug}/delete?page=shop")
    assert (await admin.get(f"/console/beats/{beat.slug}?page=shop")).status == 404


async def test_a_draft_is_edited_approved_and_stands_on_the_page(server: "Server", admin: "Person") -> None:
    action = await _draft(server)
    path = f"/console/actions/{show('action', action['id'])}"
    revised = await admin.post(f"{path}/edit", {"revision": "1", "title": "Pay is down", "text": "We look."})
    assert "revision 2" in revised.html
    stale = await admin.post(f"{path}/approve", {"revision": "1"})
    assert (stale.status, "It says something else now." in stale.html) == (409, True)
    typed = {"revision": "1", "title": "Typed meanwhile", "text": "All of it.", "is_markdown": "on"}
    kept = await admin.post(f"{path}/edit", typed)
    assert (kept.status, 'value="Typed meanwhile"' in kept.html, "All of it." in kept.html) == (
        409,
        True,
        True,
    )
    empty = await admin.post(f"{path}/edit", {"revision": "2", "title": "", "text": "Kept, too."})
    assert (empty.status, "Kept, too." in empty.html) == (422, True)
    approved = await admin.post(f"{path}/approve", {"revision": "2"})
    assert (approved.status, "Approved by" in approved.html) == (200, True)
    again = await admin.post(f"{path}/approve", {"revision": "2"})
    assert (again.status, "Approved by" in again.html) == (200, True)
    late = await admin.post(f"{path}/reject", {"reason": "no"})
    assert (late.status, "Too late: the action is done by" in late.html) == (409, True)
    listed = (await admin.get("/console/incidents")).html
    assert "Pay is down" in listed
    assert (
        "We look."
        in (
            await admin.get("/console/incidents/inc_" + listed.split("/incidents/inc_")[1].split('"')[0])
        ).html
    )
    assert "Pay is down" in (await admin.get("/p/shop")).html
    assert f'href="{path}"' in (await admin.get("/console/audit")).html


async def test_a_draft_is_rejected_or_withdrawn_and_says_so(server: "Server", admin: "Person") -> None:
    first, second = await _draft(server), await _draft(server)
    rejected = await admin.post(
        f"/console/actions/{show('action', first['id'])}/reject", {"reason": "A test of ours."}
    )
    assert "Rejected by" in rejected.html
    assert "A test of ours." in rejected.html
    now = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        await reviews.close_episode(db, second["owner_id"], EpisodeClosed(now, 1, "recovered"))
        await reviews.propose(
            db, [reviews.Proposal(second["owner_id"], 1, StepProposed(now, "resolve", "critical"))]
        )
    path = f"/console/actions/{show('action', second['id'])}"
    assert "Customers were told nothing." in (await admin.get(path)).html
    too_late = await admin.post(f"{path}/approve", {"revision": "1"})
    assert (too_late.status, "the action is withdrawn" in too_late.html) == (409, True)


async def test_objects_are_created_by_forms(server: "Server", admin: "Person") -> None:
    mark = new_id().hex[-6:]
    made = await admin.post("/console/components", {"name": "Cart", "slug": f"cart-{mark}", "page": "shop"})
    assert (made.status, f"cart-{mark}" in made.html) == (200, True)
    by_hand = f"/console/components/cart-{mark}/status?page=shop"
    assert "partial outage" in (await admin.post(by_hand, {"status": "partial_outage"})).html
    await admin.post(by_hand, {"status": ""})
    async with server.services.pool.acquire() as db:
        assert "status" not in (await objects.find(db, "component", f"cart-{mark}")).spec
    mail = {"slug": f"mail-{mark}", "page": "shop", "type": "smtp", "host": "relay.example"}
    mail |= {"sender": "a@x.example", "to": "b@x.example, c@x.example", "url": "ignored"}
    assert (await admin.post("/console/channels", mail)).status == 200
    bad = await admin.post(
        "/console/channels", {"slug": "x", "page": "shop", "type": "webhook", "url": "nowhere"}
    )
    assert (bad.status, "<code>url</code>" in bad.html) == (422, True)
    tested = await admin.post(f"/console/channels/mail-{mark}/test?page=shop")
    assert f"mail-{mark} said HTTP 410" in tested.html
    assert (await admin.post("/console/regions", {"slug": f"r-{mark}"})).status == 200
    assert (await admin.post("/console/pages", {"slug": f"p-{mark}", "name": "P"})).status == 200
    assert (await admin.post("/console/pages", {"slug": f"p-{mark}", "name": "P"})).status == 409
    for kind, slug in (("pages", f"p-{mark}"), ("regions", f"r-{mark}")):
        gone = await admin.post(f"/console/{kind}/{slug}/delete")
        assert (gone.status, "Deleted." in gone.html) == (200, True)


async def test_a_token_is_shown_once_and_revoked(server: "Server", admin: "Person") -> None:
    made = await admin.post("/console/tokens", {"name": "ci", "scope": "read", "page": "shop", "days": "30"})
    text = made.html.split('id="secret">')[1].split("<")[0]
    assert people.is_token(text)
    listed = await admin.get("/console/tokens")
    assert text not in listed.html
    token = listed.html.split("/console/tokens/")[1].split("/revoke")[0]
    server.tokens["made"] = text
    assert (await server.call("GET", "/api/v1/beats?page=shop", who="made")).status == 200
    assert "Revoked" in (await admin.post(f"/console/tokens/{token}/revoke")).html
    assert (await server.call("GET", "/api/v1/beats", who="made")).status == 401


async def test_a_viewer_makes_no_token_that_may_more(sign_in: "SignIn") -> None:
    viewer = await sign_in("viewer@shop")
    await viewer.get("/console/tokens")
    refused = await viewer.post(
        "/console/tokens", {"name": "x", "scope": "admin", "page": "shop", "days": "1"}
    )
    assert refused.status == 403
    assert 'id="secret"' not in refused.html


async def test_a_user_is_added_disabled_and_removed(server: "Server", admin: "Person") -> None:
    email = f"new-{new_id().hex[-6:]}@shop.example"
    sent = {"email": email, "name": "", "role": "editor", "page": "shop"}
    made = await admin.post("/console/users", sent)
    assert f"<strong>{email.partition('@')[0]}</strong>" in made.html
    link = html.unescape(made.html.split('id="link">')[1].split("<")[0])
    assert "/console/login/link?secret=" in link
    assert (await admin.post("/console/users", sent)).status == 422
    async with server.services.pool.acquire() as db:
        row = await people.user_by_email(db, email)
    assert row is not None
    user = show("user", row["id"])
    assert "disabled" in (await admin.post(f"/console/users/{user}/disable")).html
    assert (await admin.post(f"/console/users/{user}/enable")).status == 200
    assert "/console/login/link" in (await admin.post(f"/console/users/{user}/link")).html
    assert email not in (await admin.post(f"/console/users/{user}/delete")).html


async def test_a_form_without_its_csrf_token_does_nothing(server: "Server", admin: "Person") -> None:
    beat = await _beat(server)
    forged = await admin.post(f"/console/beats/{beat.slug}/pause?page=shop", {"for": "1h"}, csrf="0" * 64)
    assert forged.status == 403
    async with server.services.pool.acquire() as db:
        assert (await states.summaries(db, [beat.id]))[beat.id]["paused_until"] is None


async def test_a_viewer_is_shown_no_way_to_change_and_has_none(server: "Server", sign_in: "SignIn") -> None:
    beat, viewer = await _beat(server), await sign_in("viewer@shop")
    page = await viewer.get(f"/console/beats/{beat.slug}?page=shop")
    assert "Run now" not in page.html
    refused = await viewer.post(f"/console/beats/{beat.slug}/delete?page=shop")
    assert (refused.status, "this needs the role editor" in refused.html) == (403, True)


async def test_a_link_sets_a_password_that_then_signs_in(server: "Server", sign_in: "SignIn") -> None:
    person = await sign_in("viewer")
    async with transaction(server.services.pool) as db:
        rows = [row for row in await people.users(db) if row["email"].startswith("viewer-")]
        email = max(rows, key=lambda row: row["created_at"])["email"]
        secret = await people.make_login_link(db, ACTOR, email)
    short = await person.post("/console/login/link", {"secret": secret, "password": "short"})
    assert (short.status, "at least 12 characters" in short.html) == (422, True)
    opened = await person.post("/console/login/link", {"secret": secret, "password": " a long pass phrase "})
    assert opened.url.endswith("/console")
    out = await person.post("/console/logout")
    assert "You are signed out." in out.html
    wrong = await person.post("/console/login", {"email": email, "password": "a long pass phrase"})
    assert (wrong.status, "no active user has this" in wrong.html) == (401, True)
    right = {"email": email, "password": " a long pass phrase ", "next": "/console/audit"}
    assert (await person.post("/console/login", right)).url.endswith("/console/audit")
    used = await person.post("/console/login/link", {"secret": secret, "password": ""})
    assert (used.status, "this link was used" in used.html) == (401, True)


async def test_a_password_is_changed_by_who_knows_it(server: "Server", sign_in: "SignIn") -> None:
    person = await sign_in("viewer@shop")
    short = await person.post("/console/account", {"current": "", "new": "short"})
    assert (short.status, "at least 12 characters" in short.html) == (422, True)
    first = await person.post("/console/account", {"current": "", "new": "a first pass phrase"})
    assert (first.status, "Saved." in first.html) == (200, True)
    wrong = await person.post("/console/account", {"current": "guessed", "new": "another pass phrase"})
    assert (wrong.status, "this is not the current password" in wrong.html) == (422, True)
    assert (await person.get("/console")).url.endswith("/console")


async def test_who_may_not_edit_is_shown_no_secret(sign_in: "SignIn") -> None:
    viewer = await sign_in("viewer@shop")
    page = await viewer.get("/console/channels/ops/edit?page=shop")
    assert page.status == 200
    assert "secret-path" not in page.html
    assert "***" in page.html
    assert "<textarea" not in page.html


async def test_opening_a_link_uses_nothing_up_but_a_lasting_one_signs_in_each_time(
    server: "Server", sign_in: "SignIn"
) -> None:
    person = await sign_in("viewer")
    async with transaction(server.services.pool) as db:
        once = await people.make_login_link(db, ACTOR)
        lasting = await people.make_login_link(db, ACTOR, lasting=True)
    for _ in range(2):
        assert 'type="password"' in (await person.get(f"/console/login/link?secret={once}")).html
        assert (await person.get(f"/console/login/link?secret={lasting}")).url.endswith("/console")
        await person.post("/console/logout")
    async with transaction(server.services.pool) as db:
        await people.remove_login_link(db, lasting)
    assert 'type="password"' in (await person.get(f"/console/login/link?secret={lasting}")).html
