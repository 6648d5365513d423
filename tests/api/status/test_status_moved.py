"""What programs read of a page that the database has: told by people, and the same to them when the page moves to a host of its own."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import feedparser
import icalendar

from engine.store import announcing, hosts, objects
from engine.store.database import transaction
from engine.store.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server


def _in(server: "Server", hours: float) -> str:
    return datetime.fromtimestamp(server.services.clock.epoch_s() // 60 * 60 + hours * 3600, UTC).isoformat()


async def _announced(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        await announcing.look(db, server.services.clock.epoch_s(), "")


async def test_feeds_and_calendars_go_on_where_a_page_moves_to_a_host_of_its_own(server: "Server") -> None:
    slug = f"p{new_id().hex[-8:]}"
    host = f"status.{slug}.example"
    steps = [
        ("/api/v1/pages", {"slug": slug, "name": "Bank", "domain": host, "languages": ["en", "de"]}),
        (f"/api/v1/components?page={slug}", {"slug": "pay", "name": "Payments"}),
        ("/api/v1/incidents", {"page": slug, "title": "Slow", "text": "We *look*.", "notify": True, "components": {"pay": "partial_outage"}}),
        (f"/api/v1/maintenances?page={slug}", {"slug": "move", "name": "A move", "components": ["pay"], "start": _in(server, 24), "duration": "2h", "announce": {"before": "90d"}}),
    ]  # fmt: skip
    for path, body in steps:
        made = await server.call("POST", path, body)
        assert made.status == 201, made.body
    said = {"status": "resolved", "text": "It is over.", "notify": True}
    told = (await server.call("GET", f"/api/v1/incidents?page={slug}")).body["items"][0]
    assert (await server.call("POST", f"/api/v1/incidents/{told['id']}/updates", said)).status < 300

    await _announced(server)

    async def read(at: str, **headers: str) -> tuple[list[str], set[str], set[str]]:
        server.app.state.status_pages = None
        feeds = {
            path: (await server.call("GET", f"{at}/{path}", who=None, headers=headers)).body
            for path in ("feed.atom", "feed.rss", "de/feed.rss", "feed.json", "calendar.ics")
        }
        found = feedparser.parse(feeds["feed.atom"])
        assert not found.bozo
        for other in ("feed.rss", "de/feed.rss"):
            assert [entry.id for entry in feedparser.parse(feeds[other]).entries] == [
                one.id for one in found.entries
            ]
        assert [one["id"] for one in feeds["feed.json"]["items"]] == [one.id for one in found.entries]
        events = {str(event["UID"]) for event in icalendar.Calendar.from_ical(feeds["calendar.ics"]).events}
        return (
            [entry.id for entry in found.entries],
            {entry.link.partition("/incidents")[0] for entry in found.entries},
            events,
        )

    ids, links, events = await read(f"/p/{slug}")
    assert len(ids) == len({*ids}) >= 2
    assert links == {f"{server.url}/p/{slug}"}
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", slug)
        await hosts.verify(db, host, page.id, server.services.clock.epoch_s())
    server.app.state.addresses.read_s = float("-inf")
    assert await read("", Host=host) == (ids, {f"http://{host}"}, events)
    summary = (await server.call("GET", "/api/v2/summary.json", who=None, headers={"Host": host})).body
    assert (summary["page"]["url"], summary["status"]["indicator"]) == (f"http://{host}/", "none")
    led = await server.call("GET", "/de/history/?a=1", who=None, headers={"Host": host})
    assert (led.status, '<html lang="de"' in led.body, "/de/history" in led.body) == (200, True, True)


async def test_a_calendar_follows_maintenance_that_is_put_off_and_cancelled(server: "Server") -> None:
    slug = f"p{new_id().hex[-8:]}"
    first, later = _in(server, 24), _in(server, 48)
    window = {
        "slug": slug,
        "name": "A move",
        "components": ["pay"],
        "start": first,
        "duration": "2h",
    }
    for path, body in (
        ("/api/v1/pages", {"slug": slug, "name": "Bank"}),
        (f"/api/v1/components?page={slug}", {"slug": "pay", "name": "Payments"}),
        (f"/api/v1/maintenances?page={slug}", window | {"announce": {"before": "90d"}}),
    ):
        assert (await server.call("POST", path, body)).status == 201
    seen = []
    for change in ({}, {"start": later}, None):
        if change is None:
            assert (await server.call("DELETE", f"/api/v1/maintenances/{slug}")).status < 300
        elif change:
            assert (await server.call("PATCH", f"/api/v1/maintenances/{slug}", change)).status == 200
        await _announced(server)
        server.app.state.status_pages = None
        made = (await server.call("GET", f"/p/{slug}/calendar.ics", who=None)).body
        (event,) = icalendar.Calendar.from_ical(made).events
        seen.append((str(event["UID"]), event["SEQUENCE"], event.start.isoformat(), str(event["STATUS"])))
    uid = seen[0][0]
    assert seen == [
        (uid, 0, first, "CONFIRMED"),
        (uid, 1, later, "CONFIRMED"),
        (uid, 2, later, "CANCELLED"),
    ]
