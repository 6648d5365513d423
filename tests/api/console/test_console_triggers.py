"""Inboxes, events and triggers as pages and forms, as a browser without JavaScript has them."""

import re
from collections.abc import Sequence
from html import unescape
from typing import TYPE_CHECKING

from engine.store import inboxes, objects
from engine.store.database import transaction
from engine.store.ids import new_id, show
from engine.store.objects import Stored
from tests.api.console.conftest import ACTOR

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person

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
