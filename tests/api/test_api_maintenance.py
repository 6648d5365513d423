"""Maintenance through the API: begun now with one request, planned, ended early, and what it says of itself."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import announcing, objects
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from engine.store.states import moment

if TYPE_CHECKING:
    from tests.api.conftest import Server

ACTOR = Actor("t", "api")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def begin(server: "Server", who: str = "installer", **more: Any) -> Any:
    return await server.call(
        "POST", "/api/v1/maintenances", {"page": "shop", "duration": "45m"} | more, who=who
    )


async def make(server: "Server", kind: Any, page: str = "shop", **spec: Any) -> str:
    slug: str = f"{kind[0]}-{new_id().hex[-8:]}"
    async with transaction(server.services.pool) as db:
        home = await objects.find(db, "page", page)
        await objects.create(db, ACTOR, kind, home.id, {"slug": slug, **spec})
    return slug


async def test_one_request_begins_maintenance_now(server: "Server") -> None:
    before = moment(server.services.clock.epoch_s())
    answer = await begin(server)
    assert answer.status == 201, answer.body
    window = answer.body
    assert window["slug"].startswith("maintenance-")
    assert window["active"] is True
    assert (
        before - timedelta(seconds=2) < at(window["next"]["start"]) <= moment(server.services.clock.epoch_s())
    )
    assert at(window["next"]["end"]) - at(window["next"]["start"]) == timedelta(minutes=45)
    assert window["covers"] == ["page:shop"]
    read = await server.call("GET", f"/api/v1/maintenances/{window['id']}")
    assert read.body == window
    assert (await server.call("PUT", f"/api/v1/maintenances/{window['id']}", window)).body == window


async def test_what_is_planned_says_when_it_is_next(server: "Server") -> None:
    answer = await begin(
        server,
        slug="night",
        start="2026-01-04T02:00",
        timezone="Europe/Berlin",
        rrule="FREQ=YEARLY;BYMONTH=1",
    )
    assert answer.status == 201, answer.body
    begins = at(answer.body["next"]["start"])
    assert (begins.month, begins.day, begins.hour) == (1, 4, 1)
    assert begins > moment(server.services.clock.epoch_s())
    assert answer.body["active"] is False
    over = await begin(server, slug="over", start="2026-01-04T02:00")
    assert (over.body["next"], over.body["active"]) == (None, False)


async def test_it_names_what_it_covers(server: "Server") -> None:
    group = await make(server, "group")
    tcp: dict[str, Any] = {"type": "tcp", "host": "x.example", "port": 1}
    member = await make(server, "beat", **tcp, group=group)
    fed = await make(server, "beat", **tcp, components={"site": {}})
    other = await make(server, "beat", "blog", **tcp, components={"shop/site": {}})
    await make(server, "beat", **tcp)
    covers = (await begin(server, groups=[group])).body["covers"]
    assert covers == [member, f"group:{group}"]
    covers = (await begin(server, beats=[member], components=["site"])).body["covers"]
    assert covers[0] == "component:site"
    assert {member, fed, f"blog/{other}"} <= {*covers}
    seen = await begin(server, "editor", components=["site"])
    assert not any(path.startswith("blog/") for path in seen.body["covers"])
    whole = (await begin(server, slug=None, start=None)).body  # null is not given
    listed = (await server.call("GET", "/api/v1/maintenances?limit=1000")).body["items"]
    assert [one["covers"] for one in listed if one["id"] == whole["id"]] == [["page:shop"]]


async def test_a_running_one_is_ended_and_only_that_time_of_it(server: "Server") -> None:
    begun = moment(server.services.clock.epoch_s() - 60).replace(microsecond=0).isoformat()
    window = (await begin(server, start=begun, rrule="FREQ=DAILY")).body
    ended = await server.call("POST", f"/api/v1/maintenances/{window['id']}/end")
    assert ended.status == 200, ended.body
    assert ended.body["active"] is False
    assert at(ended.body["next"]["start"]) == at(begun) + timedelta(days=1)
    again = await server.call("POST", f"/api/v1/maintenances/{window['id']}/end")
    assert (again.status, again.body["type"].rpartition("#")[2]) == (409, "not-running")
    assert "its next time begins at" in again.body["detail"]
    once = (await begin(server)).body
    assert (await server.call("POST", f"/api/v1/maintenances/{once['id']}/end")).body["next"] is None


async def test_what_is_history_holds_nothing_back(server: "Server") -> None:
    beat = await make(server, "beat", type="tcp", host="x.example", port=1)
    window = (await begin(server, beats=[beat])).body
    refused = await server.call("DELETE", f"/api/v1/beats/{beat}")
    assert (refused.status, window["slug"] in refused.body["detail"]) == (409, True)
    assert (await server.call("POST", f"/api/v1/maintenances/{window['id']}/end")).status == 200
    assert (await server.call("DELETE", f"/api/v1/beats/{beat}")).status == 204
    assert (await server.call("GET", f"/api/v1/maintenances/{window['id']}")).body["covers"] == []


async def test_who_may_not_edit_the_page_begins_and_ends_none(server: "Server") -> None:
    window = (await begin(server)).body
    for who in ("viewer", "reviewer", "other"):
        assert (await begin(server, who)).status in (403, 404, 422)
        answer = await server.call("POST", f"/api/v1/maintenances/{window['id']}/end", who=who)
        assert answer.status in (403, 404), who
    answer = await begin(server, "editor", components=["blog/site"])
    assert answer.status in (403, 422)


async def test_what_a_file_declares_is_ended_in_the_file(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        home = await objects.find(db, "page", "shop")
        spec = {"slug": "filed", "start": "2026-01-01T00:00", "duration": "24h", "rrule": "FREQ=DAILY"}
        await objects.create(db, ACTOR, "maintenance", home.id, spec, source="upbeat.yaml:7")
    answer = await server.call("POST", "/api/v1/maintenances/filed/end")
    assert answer.status == 409
    assert "upbeat.yaml:7" in answer.body["detail"]


@pytest.mark.parametrize(
    ("more", "pointer", "words"),
    [
        pytest.param({"duration": None}, "", "either end: or duration:", id="no end"),
        pytest.param({"rrule": "FREQ=SECONDLY"}, "", "FREQ=SECONDLY is not allowed", id="every second"),
        pytest.param({"beats": ["no-such"]}, "/beats/0", "there is no beat", id="no such beat"),
        pytest.param({"start": "soon-ish, after lunch"}, "/start", "datetime", id="no time"),
        pytest.param({"timezone": "Berlin"}, "/timezone", "is no time zone", id="no zone"),
        pytest.param({"for": "45m"}, "/for", "unknown key", id="another word"),
    ],
)
async def test_a_mistake_is_told_in_plain_words(
    server: "Server", more: dict[str, Any], pointer: str, words: str
) -> None:
    answer = await begin(server, **more)
    assert answer.status == 422, answer.body
    said = {error["pointer"]: error["message"] for error in answer.body["errors"]}
    assert words in said.get(pointer, str(said))
    assert pointer in said


async def test_what_may_be_left_out_is_described_so(server: "Server") -> None:
    described = (await server.call("GET", "/api/v1/openapi.json")).body
    asked = {
        method: described["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
        for path, method in (("/api/v1/maintenances", "post"), ("/api/v1/maintenances/{ref}", "put"))
    }
    assert "required" not in asked["post"]
    assert asked["put"]["required"] == ["slug", "start"]


async def told(server: "Server", slug: str, **sent: Any) -> Any:
    """An announced window that begins in an hour, once somebody has looked."""
    begins = moment(server.services.clock.epoch_s() + 3600.0).replace(microsecond=0)
    spec = {
        "slug": slug,
        "name": slug,
        "start": begins.isoformat(),
        "components": ["site"],
        "announce": {},
    } | sent
    assert (await begin(server, **spec)).status == 201
    async with transaction(server.services.pool) as db:
        await announcing.look(db, server.services.clock.epoch_s(), "")
    return (await server.call("GET", f"/api/v1/maintenances/{slug}?page=shop")).body


async def public(server: "Server", slug: str) -> list[str]:
    server.app.state.status_pages = None  # nothing of before is kept
    shown = (await server.call("GET", "/p/shop/status.json", who=None)).body["maintenances"]
    return [one["status"] for one in shown if one["title"] == slug]


async def test_what_is_announced_is_extended_spoken_of_and_cancelled(server: "Server") -> None:
    window = await told(server, "disks")
    (announced,) = window["announced"]
    assert (announced["status"], announced["starts_at"]) == ("scheduled", window["next"]["start"])
    assert await public(server, "disks") == ["scheduled"]
    path = "/api/v1/maintenances/disks"
    longer = await server.call("POST", f"{path}/extend?page=shop", {"by": "30m"}, who="editor")
    assert at(longer.body["next"]["end"]) - at(longer.body["next"]["start"]) == timedelta(minutes=75)
    assert longer.body["announced"][0]["updates"][0]["text"].startswith("The maintenance was moved")
    said = {"text": "We begin early.", "status": "in_progress", "notify": False}
    spoken = await server.call("POST", f"{path}/say?page=shop", said, who="reviewer")
    assert (spoken.status, spoken.body["announced"][0]["status"]) == (200, "in_progress")
    update = spoken.body["announced"][0]["updates"][0]
    assert (update["text"], update["notify"]) == ("We begin early.", False)
    over = await server.call("POST", f"{path}/cancel?page=shop", who="editor")
    assert (over.body["next"], over.body["announced"][0]["status"]) == (None, "completed")
    assert await public(server, "disks") == []
    late = await server.call("POST", f"{path}/say?page=shop", {"text": "More."}, who="reviewer")
    assert (late.status, late.body["type"].rpartition("#")[2]) == (409, "not-announced")


async def test_what_has_not_begun_is_cancelled_and_comes_again(server: "Server") -> None:
    first = await told(server, "daily", rrule="FREQ=DAILY")
    over = (await server.call("POST", "/api/v1/maintenances/daily/cancel?page=shop", who="editor")).body
    assert [one["status"] for one in over["announced"]] == ["cancelled"]
    assert at(over["next"]["start"]) - at(first["next"]["start"]) == timedelta(days=1)
    clash = await server.call(
        "POST", "/api/v1/maintenances/daily/extend?page=shop", {"by": "1d"}, who="editor"
    )
    assert (clash.status, clash.body["type"].rpartition("#")[2]) == (409, "comes-again")


@pytest.mark.parametrize(
    "body", [{}, {"by": "5m", "until": "2199-01-01T00:00Z"}, {"by": "0s"}, {"until": "2001-01-01T00:00Z"}]
)
async def test_an_extension_is_one_later_time(server: "Server", body: Any) -> None:
    slug = f"ext-{new_id().hex[-6:]}"
    await told(server, slug)
    answer = await server.call("POST", f"/api/v1/maintenances/{slug}/extend?page=shop", body, who="editor")
    assert answer.status == 422, answer.body


async def test_who_reviews_speaks_and_who_edits_extends(server: "Server") -> None:
    await told(server, "roles")
    path = "/api/v1/maintenances/roles"
    for who, verb, body, status in (
        ("viewer", "say", {"text": "x"}, 403),
        ("reviewer", "extend", {"by": "5m"}, 403),
        ("reviewer", "cancel", None, 403),
        ("reviewer", "say", {"text": "x", "status": "completed"}, 200),
    ):
        answer = await server.call("POST", f"{path}/{verb}?page=shop", body, who=who)
        assert answer.status == status, (who, verb, answer.body)


async def test_what_is_said_of_it_has_the_language_and_the_clocks_of_its_page(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        spec = {"slug": "laden", "name": "Laden", "languages": ["de"], "timezone": "Europe/Berlin"}
        page = await objects.create(db, ACTOR, "page", None, spec)
        window = {
            "slug": "platten",
            "start": "2026-12-24T21:00Z",
            "duration": "2h",
            "announce": {"before": "90d"},
        }
        made = await objects.create(db, ACTOR, "maintenance", page.id, window)
        await announcing.follow(db, made.id, datetime(2026, 12, 1, tzinfo=UTC).timestamp())
        said = await db.fetchrow(
            "SELECT i.title, u.text FROM incidents i JOIN updates u ON u.incident_id = i.id WHERE i.window_id = $1", made.id
        )  # fmt: skip
    assert said is not None
    assert said["title"] == "Geplante Wartung"
    assert said["text"] == "Die Wartung ist von 24.12.2026, 22:00 CET bis 25.12.2026, 00:00 CET geplant."
