"""Inboxes, events and triggers as pages and forms, as a browser without JavaScript has them."""

import re
from base64 import b64encode
from collections.abc import Sequence
from html import unescape
from typing import TYPE_CHECKING, Any

import msgspec
from lxml.html import document_fromstring

from engine.store import inboxes, objects
from engine.store.database import transaction
from engine.store.ids import new_id, show
from engine.store.objects import Stored
from tests.api.console.conftest import ACTOR

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn

ALERT = (
    b'{"receiver": "shop", "alerts": [{"status": "firing", "labels": {"alertname": "Slow", "severity": "page", '
    b'"host": "web-1"}, "count": 3, "token": "s3cr3t-value"}]}'
)


async def inbox_of(
    server: "Server", *bodies: bytes, headers: Sequence[tuple[str, str]] = ()
) -> tuple[Stored, list[str]]:
    """An inbox into which these came, and the ids of the events, judged by nobody."""
    slug, now = f"in-{new_id().hex[-8:]}", server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        inbox = await objects.create(db, ACTOR, "inbox", page.id, {"slug": slug, "name": slug.title()})
        sent = [
            inboxes.Delivery(new_id(), inbox.id, now, "203.0.113.9", list(headers), "env=live", body)
            for body in bodies
        ]
        kept = await inboxes.put(db, sent) if sent else []
    return inbox, [show("event", one.event_id) for one in kept]


async def test_an_inbox_is_added_and_its_token_is_shown_once(admin: "Person", server: "Server") -> None:
    name = f"Grafana {new_id().hex[-6:]}"
    await admin.get("/console/inboxes")
    made = await admin.post("/console/inboxes", {"name": name, "slug": "", "page": "shop"})
    assert made.status == 200, made.html
    token = re.search(r'<code id="token"[^>]*>(\w+)<', made.html)
    assert token, made.html
    assert f"/api/v1/external-events/ingest/{token[1]}" in made.html
    listed = await admin.get("/console/inboxes")
    assert name in listed.html
    assert token[1] not in listed.html
    slug = name.lower().replace(" ", "-")
    shown = await admin.get(f"/console/inboxes/{slug}?page=shop")
    assert token[1] not in shown.html
    assert token[1][-4:] in shown.html
    rotated = await admin.post(f"/console/inboxes/{slug}/token?page=shop", {"overlap": "1h"})
    assert "The token before works until" in rotated.html
    assert rotated.html.count("Revoke…") == 2
    ids = re.findall(r"/tokens/(tok_\w+)", rotated.html)
    gone = await admin.post(f"/console/inboxes/{slug}/tokens/{ids[0]}?page=shop")
    assert "Revoked" in gone.html


async def test_a_name_that_is_no_slug_and_one_that_is_taken_are_told(
    admin: "Person", server: "Server"
) -> None:
    inbox, _ = await inbox_of(server)
    await admin.get("/console/inboxes")
    for given, said in (
        ({"name": "!!!", "page": "shop"}, "slug"),
        ({"name": inbox.slug, "page": "shop"}, "already"),
    ):
        refused = await admin.post("/console/inboxes", given)
        assert refused.status in (409, 422)
        assert said in refused.html


async def test_an_event_is_a_tree_whose_values_begin_a_rule(admin: "Person", server: "Server") -> None:
    inbox, (event,) = await inbox_of(server, ALERT, headers=[("X-Kind", "alert")])
    listed = await admin.get(f"/console/inboxes/{inbox.slug}?page=shop")
    assert f'href="/console/events/{event}"' in listed.html
    shown = await admin.get(f"/console/events/{event}")
    assert "s3cr3t-value" not in shown.html
    links = [unescape(link) for link in re.findall(r'class="value" href="([^"]+)"', shown.html)]
    assert any(link.endswith("pick=header%3AX-Kind") for link in links)
    path = next(link for link in links if link.endswith("pick=%24.alerts%5B0%5D.labels.severity"))
    picked = await admin.get(path)
    assert "Critical when it is that" in picked.html
    assert "Look at every item of $.alerts[*]" in picked.html


SPEC = {
    "each": "$.alerts[*]",
    "critical": {"value": "$.status", "eq": "firing"},
    "recovery": {"value": "$.status", "eq": "resolved"},
    "fingerprint": "{$.labels.host}",
    "target": {"external": "picked"},
}


async def trigger_of(server: "Server", inbox: Stored, **more: Any) -> Stored:
    """A trigger over that inbox."""
    slug = f"trg-{new_id().hex[-8:]}"
    document = {
        "slug": slug,
        "inbox": inbox.slug,
        **SPEC,
        "page": "shop",
        "target": {"external": slug},
        **more,
    }
    made = await server.call("POST", "/api/v1/triggers", document)
    assert made.status == 201, made.body
    async with transaction(server.services.pool) as db:
        return await objects.find(db, "trigger", slug)


def form_of(html: str) -> list[tuple[str, str]]:
    """The fields of the builder as a browser would send them back."""
    form: Any = document_fromstring(html).get_element_by_id("builder")
    return [(name, text) for name, text in form.form_values() if name != "csrf"]


async def test_a_rule_is_built_by_forms_alone(admin: "Person", server: "Server") -> None:
    inbox, (event,) = await inbox_of(server, ALERT)
    built = await admin.get(
        f"/console/triggers/new?inbox={inbox.slug}&page=shop&event={event}&pick=%24.alerts"
    )
    for pick, use in (
        ("$.alerts[*]", "each"),
        ("$.alerts[0].status", "critical"),
        ("$.alerts[0].labels.host", "fingerprint"),
        ("$.alerts[0].labels.severity", "when"),
        ("header:X-Nothing", "message"),
    ):
        picking = await admin.post("/console/triggers/new", [*form_of(built.html), ("pick", pick)])
        assert 'id="pick"' in picking.html, picking.html
        built = await admin.post("/console/triggers/new", [*form_of(picking.html), ("use", use)])
        assert built.status == 200, built.html
    assert "It is not whole yet" in built.html
    assert "say when it is over" in built.html
    slug = f"built-{new_id().hex[-6:]}"
    fields = {"name": "Built by hand", "slug": slug, "recovery.mode": "never", "target_slug": slug}
    filled = [(name, fields.get(name, text)) for name, text in form_of(built.html)]
    whole = await admin.post("/console/triggers/new", [*filled, ("do", "rows")])
    assert "is critical if $.status is firing" in whole.html
    assert "Only a person can say that it is over" in whole.html
    assert whole.html.count('name="critical.value"') == 4
    saved = await admin.post("/console/triggers", form_of(whole.html))
    assert f"/console/triggers/{slug}" in saved.url, saved.html
    assert "not enabled" in saved.html
    spec = (await server.call("GET", f"/api/v1/triggers/{slug}?page=shop")).body
    assert spec["when"] == {"value": "$.labels.severity", "eq": "page"}
    assert spec["recovery"] == {"always": False}
    assert spec["enabled"] is False
    assert set(spec["effective"].values()) == {"draft"}
    assert "Disable" in (await admin.post(f"/console/triggers/{slug}/enable?page=shop")).html


async def test_a_preset_fills_the_form_and_mistakes_stand_beside_their_fields(
    admin: "Person", server: "Server"
) -> None:
    inbox, _ = await inbox_of(server)
    blank = await admin.get(f"/console/triggers/new?inbox={inbox.slug}&page=shop")
    fields = {"sender": "alertmanager"}
    filled = [(name, fields.get(name, text)) for name, text in form_of(blank.html)]
    preset = await admin.post("/console/triggers/new", [*filled, ("do", "sender")])
    assert "It is over when $.status is resolved" in preset.html
    wrong = {"fingerprint": "{$.x", "for": "soon", "slug": "Not a slug", "per_fingerprint": "many"}
    refused = await admin.post(
        "/console/triggers", [(name, wrong.get(name, text)) for name, text in form_of(preset.html)]
    )
    assert refused.status == 422
    assert "that is not closed" in refused.html
    assert "is not a duration" in refused.html
    assert refused.html.count('aria-invalid="true"') == 4


async def test_what_rows_cannot_show_is_said_and_kept(admin: "Person", server: "Server") -> None:
    inbox, _ = await inbox_of(server)
    deep = {
        "all": [
            {"any": [{"value": "$.a", "eq": 1}, {"value": "$.b", "eq": 2}]},
            {"value": "$.c", "exists": True},
        ]
    }
    stored = await trigger_of(server, inbox, critical=deep, values={"h": "$.host"}, tags=["kept"])
    built = await admin.get(f"/console/triggers/{stored.slug}/build?page=shop")
    assert "This is more than rows can show" in built.html
    assert "(“$.a is 1" not in built.html
    assert "$.a is 1 or $.b is 2" in built.html
    saved = await admin.post(f"/console/triggers/{stored.slug}/save?page=shop", form_of(built.html))
    assert "Saved." in saved.html
    async with transaction(server.services.pool) as db:
        again = await objects.find(db, "trigger", stored.slug)
    assert (again.revision, again.spec) == (stored.revision, stored.spec)
    stale = [(name, "9" if name == "revision" else text) for name, text in form_of(built.html)]
    assert (await admin.post(f"/console/triggers/{stored.slug}/save?page=shop", stale)).status == 412
    broken = [(name, "{" if name == "critical.kept" else text) for name, text in form_of(built.html)]
    assert (await admin.post(f"/console/triggers/{stored.slug}/save?page=shop", broken)).status == 400


async def test_what_somebody_else_saved_meanwhile_is_not_lost_unseen(
    admin: "Person", server: "Server"
) -> None:
    inbox, _ = await inbox_of(server)
    stored = await trigger_of(server, inbox)
    where, there = f"/console/triggers/{stored.slug}", f"/api/v1/triggers/{stored.slug}?page=shop"
    mine = await admin.get(f"{where}/build?page=shop")
    await server.call("PATCH", there, {"for": "5m", "enabled": True})
    mine = await admin.post(f"{where}/build?page=shop", [*form_of(mine.html), ("do", "rows")])
    assert "changed by somebody else meanwhile" in mine.html
    assert "old=1&amp;new=2" in mine.html
    refused = await admin.post(f"{where}/save?page=shop", form_of(mine.html))
    assert refused.status == 412
    assert "Saving again replaces that" in refused.html
    assert "Saved." in (await admin.post(f"{where}/save?page=shop", form_of(refused.html))).html
    spec = (await server.call("GET", there)).body
    assert (spec["for"], spec["enabled"]) == ("0s", True)  # the form has no say in what is enabled


async def test_versions_are_compared_and_a_promotion_says_what_it_lacks(
    admin: "Person", server: "Server"
) -> None:
    inbox, _ = await inbox_of(server)
    stored = await trigger_of(server, inbox)
    where = f"/console/triggers/{stored.slug}"
    await server.call("PATCH", f"/api/v1/triggers/{stored.slug}?page=shop", {"for": "5m"})
    compared = await admin.get(f"{where}/versions?page=shop&old=1&new=2")
    assert '<span class="added">+for: 5m' in compared.html
    assert (await admin.get(f"{where}/versions?page=shop&old=1&new=7")).status == 404
    record = await admin.get(f"{where}/promote?page=shop")
    assert "It cannot be promoted yet." in record.html
    assert "no firing and no recovery was seen yet" in record.html
    assert "<button disabled>" in record.html
    assert (
        "Tick that you have read" in (await admin.post(f"{where}/promote?page=shop", {"steps": "open"})).html
    )
    sure = {"steps": "open", "sure": "yes", "record": "0"}
    assert (await admin.post(f"{where}/promote?page=shop", sure)).status == 409


async def test_an_event_is_fired_by_hand_and_bad_ones_are_refused(admin: "Person", server: "Server") -> None:
    inbox, _ = await inbox_of(server)
    stored = await trigger_of(server, inbox)
    shown = await admin.get(f"/console/triggers/{stored.slug}?page=shop")
    assert "This is real." in shown.html
    fired = await admin.post(f"/console/triggers/{stored.slug}/fire?page=shop", {"body": ALERT.decode()})
    assert "/console/events/evt_" in fired.url
    assert "by hand" in fired.html
    assert 'data-every="1500"' in fired.html  # it looks again until somebody has judged it
    wrong = {"body": "{}", "headers": "X-Ok: 1\nno-header"}
    refused = await admin.post(f"/console/inboxes/{inbox.slug}/fire?page=shop", wrong)
    assert refused.status == 422
    assert "Not fired: headers" in refused.html


async def test_a_handshake_is_shown_and_never_opened(admin: "Person", server: "Server") -> None:
    def asked(url: str) -> bytes:
        return msgspec.json.encode({"Type": "SubscriptionConfirmation", "SubscribeURL": url})

    good, evil = (
        "https://sns.eu-west-1.amazonaws.com/?Action=Confirm",
        "https://sns.amazonaws.com.evil.example/?a",
    )
    _, events = await inbox_of(server, asked(good), asked(evil), asked("https://[bad"))
    pages = [(await admin.get(f"/console/events/{event}")).html for event in events]
    assert "looks like Amazon" in pages[0]
    for page in pages[1:]:
        assert "do not open it" in page
    assert not re.search(r'href="https://sns', "".join(pages))


async def test_who_may_only_read_sees_and_tries_and_saves_nothing(
    sign_in: "SignIn", server: "Server"
) -> None:
    inbox, (event,) = await inbox_of(server, ALERT)
    stored = await trigger_of(server, inbox)
    viewer = await sign_in("viewer@shop")
    shown = await viewer.get(f"/console/events/{event}")
    assert "Download as it came" not in shown.html
    built = await viewer.get(f"/console/triggers/{stored.slug}/build?page=shop")
    assert "Save" not in re.findall(r"<button[^>]*>([^<]*)", built.html)
    tried = await viewer.post(f"/console/triggers/{stored.slug}/build?page=shop", form_of(built.html))
    assert tried.status == 200
    for path in ("save", "enable", "promote", "fire", "end"):
        assert (await viewer.post(f"/console/triggers/{stored.slug}/{path}?page=shop")).status == 403
    other = await sign_in("admin@blog")
    for path in (
        f"/console/events/{event}",
        f"/console/inboxes/{inbox.slug}",
        f"/console/triggers/{stored.slug}",
    ):
        assert (await other.get(path)).status == 404
    begun = await other.get(f"/console/triggers/new?event={event}&pick=%24.receiver")
    assert ALERT.decode()[14:18] not in re.sub(r"/p/shop", "", begun.html[begun.html.index("<main") :])


async def test_texts_that_are_json_are_read_as_the_rule_reads_them(admin: "Person", server: "Server") -> None:
    inner = b64encode(b'{"state": "ALARM", "password": "s3cr3t-value"}').decode()
    _, (event,) = await inbox_of(server, msgspec.json.encode({"plain": '{"a": [1]}', "coded": inner}))
    await admin.get("/console/triggers/new")
    for unwrap, shown in (("$.plain\n$.coded", True), ("$.plain\n$[", False)):
        built = await admin.post("/console/triggers/new", {"unwrap": unwrap, "event": event})
        assert ('value="$.plain.a[0]"' in built.html) is shown
        assert ('value="$.coded.state"' in built.html) is shown
        assert "s3cr3t-value" not in built.html
    rule = {
        "critical.value": "$.coded.password",
        "critical.op": "exists",
        "critical.text": "",
        "critical.as": "",
    }
    whole = {
        **rule,
        "unwrap": "$.coded",
        "event": event,
        "silence": "1h",
        "fingerprint": "{$.coded.password}",
    }
    judged = await admin.post("/console/triggers/new", whole | {"name": "a", "message": "{$.coded.password}"})
    assert "How it judges this event" in judged.html
    assert "s3cr3t-value" not in judged.html


async def test_a_rule_of_ones_own_asks_no_event_of_a_page_that_one_only_reads(
    sign_in: "SignIn", server: "Server"
) -> None:
    _, (event,) = await inbox_of(server, ALERT)
    person = await sign_in("viewer@shop admin@blog")
    rule = {"critical.value": "$.alerts[0].token", "critical.op": "starts", "critical.text": "s3c"}
    whole = {**rule, "critical.as": "", "silence": "1h", "fingerprint": "single", "name": "Curious"}
    await person.get("/console/triggers/new")
    for page in ("blog", "shop"):
        asked = {**whole, "page": page, "inbox": "any", "event": event}
        built = await person.post("/console/triggers/new", asked)
        assert "is critical if $.alerts[0].token starts with s3c" in built.html
        assert "How it judges this event" not in built.html


async def test_forms_that_nobody_could_have_filled_in_are_refused(admin: "Person", server: "Server") -> None:
    inbox, _ = await inbox_of(server)
    stored = await trigger_of(server, inbox)
    await admin.get(f"/console/triggers/{stored.slug}?page=shop")
    deep = '{"tags": ' + "[" * 900 + "]" * 900 + "}"
    for fields in ({"kept": deep}, {"kept": "[" * 9000}, {"recovery.kept": "nonsense"}, {"name": "a\x00b"}):
        assert (await admin.post("/console/triggers/new", fields)).status == 400, fields
    huge = {"critical.value": "$.a", "critical.op": "gt", "critical.text": "1e999", "critical.as": ""}
    assert "compares numbers" in (await admin.post("/console/triggers/new", huge)).html
    ending = f"/console/triggers/{stored.slug}/end?page=shop"
    assert (await admin.post(ending, {"fingerprint": "no JSON"})).status == 400
    assert (await admin.post(ending, {"fingerprint": '"nothing open"'})).status == 404
    token = f"/console/inboxes/{inbox.slug}/token?page=shop"
    assert (await admin.post(token, {"overlap": "soon"})).status == 422
