"""Incidents by hand through the API: begun, spoken of, edited, merged, taken over, deleted, entered after the fact, and their reports."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import objects, reviews
from engine.store.audit import Actor, listing
from engine.store.database import transaction
from engine.store.ids import new_id, read
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators.facts import EpisodeClosed, EpisodeOpened, StepProposed

if TYPE_CHECKING:
    from tests.api.conftest import Answer, Server

ACTOR = Actor("t", "api")
BY = "UPBEAT_ADMIN_TOKEN"  # who made the tokens
NEW = {"page": "shop", "title": "Checkout is slow", "text": "We are looking.", "notify": True}


@pytest.fixture
async def site(server: "Server") -> str:
    """A component that no other test says anything of."""
    slug = f"c-{new_id().hex[-8:]}"
    made = await server.call("POST", "/api/v1/components?page=shop", {"slug": slug, "name": slug})
    assert made.status == 201
    return slug


@pytest.fixture
async def publisher(server: "Server") -> str:
    slug = f"p-{new_id().hex[-8:]}"
    spec = {"slug": slug, "type": "webhook", "url": "http://hook.example/posts", "page": "shop"}
    assert (await server.call("POST", "/api/v1/publishers", spec)).status == 201
    return slug


async def _begun(server: "Server", **more: Any) -> dict[str, Any]:
    made = await server.call("POST", "/api/v1/incidents", NEW | more, who="reviewer")
    assert made.status == 201, made.body
    found: dict[str, Any] = made.body
    return found


async def _said(server: "Server", incident: dict[str, Any], **update: Any) -> "Answer":
    body = {"text": "More.", "notify": False} | update
    return await server.call("POST", f"/api/v1/incidents/{incident['id']}/updates", body, who="reviewer")


async def _do(server: "Server", incident: dict[str, Any], verb: str, body: Any = None) -> "Answer":
    return await server.call("POST", f"/api/v1/incidents/{incident['id']}/{verb}", body, who="reviewer")


async def _status(server: "Server", component: str) -> str:
    server.app.state.status_pages = None
    page = (await server.call("GET", "/p/shop/status.json", who=None)).body
    found: str = next(one["status"] for one in page["components"] if one["slug"] == component)
    return found


async def _posts(server: "Server", incident: dict[str, Any]) -> list[tuple[str, str, dict[str, str], str]]:
    rows = await server.services.pool.fetch(
        "SELECT DISTINCT ON (item->>'id') id, item FROM outbox WHERE incident_id = $1 ORDER BY item->>'id', id",
        read("incident", incident["id"]),
    )
    items = [row["item"] for row in sorted(rows, key=lambda row: row["id"])]  # several publishers get each
    return [(i["step"], i["status"], i.get("components", {}), i.get("text", "")) for i in items]


async def _told(server: "Server", incident: dict[str, Any]) -> list[str]:
    rows = await server.services.pool.fetch(
        "SELECT o.item FROM outbox o JOIN objects t ON t.id = o.target_id JOIN objects p ON p.id = t.page_id "
        "WHERE o.line = $1 AND o.item->>'type' = 'notice' AND t.slug = 'ops' AND p.slug = 'shop' ORDER BY o.id",
        incident["id"],
    )
    return [row["item"]["title"] for row in rows]


async def test_it_is_begun_spoken_of_and_resolved_and_everybody_hears(
    server: "Server", site: str, publisher: str
) -> None:
    made = await _begun(server, components={site: "partial_outage"})
    assert (made["status"], made["impact"], made["impact_by"]) == ("investigating", "major", "default")
    assert made["notified"] == {"subscribers": 0, "targets": [publisher]}
    assert await _status(server, site) == "partial_outage"
    said = await _said(server, made, status="identified", components={f"shop/{site}": "major_outage"})
    assert said.body["notified"]["targets"] == []  # notify: false
    assert (said.body["status"], said.body["impact"]) == ("identified", "critical")
    over = await _said(server, made, status="resolved", text="Mended.", notify=True)
    assert (over.body["status"], over.body["resolved_at"] is None) == ("resolved", False)
    assert [u["status"] for u in over.body["updates"]] == ["resolved", "identified", "investigating"]
    assert await _status(server, site) == "operational"
    path = f"shop/{site}"
    assert await _posts(server, made) == [
        ("open", "investigating", {path: "partial_outage"}, "We are looking."),
        ("update", "identified", {path: "major_outage"}, "More."),
        ("resolve", "resolved", {path: "operational"}, "Mended."),
    ]
    said_to_operators = [f"Incident {verb}: Checkout is slow" for verb in ("opened", "updated", "resolved")]
    assert await _told(server, made) == said_to_operators
    read_again = (await server.call("GET", f"/api/v1/incidents/{made['id']}")).body
    assert read_again == {key: value for key, value in over.body.items() if key != "notified"}


@pytest.mark.parametrize(
    ("change", "pointer", "said"),
    [
        ({"notify": None}, "/notify", "is"),
        ({"components": {"siet": "major_outage"}}, "/components/siet", "there is no component 'siet'"),
        ({"components": {"site": "under_maintenance"}}, "/components/site", "is not allowed"),
        ({"publishers": ["nowhere"]}, "/publishers/0", "there is no publisher 'nowhere' on shop"),
        ({"text": None}, "/text", "is missing: say what customers are to read"),
        ({"status": "over"}, "/status", "write investigating, identified, monitoring or resolved"),
        ({"impact": "huge"}, "/impact", "write none, minor, major or critical"),
    ],
)
async def test_a_mistake_is_named_with_its_place(
    server: "Server", change: dict[str, Any], pointer: str, said: str
) -> None:
    refused = await server.call("POST", "/api/v1/incidents", NEW | change, who="reviewer")
    assert refused.status == 422, refused.body
    (error,) = refused.body["errors"]
    assert (error["pointer"], said in error["message"]) == (pointer, True), error


async def test_whether_subscribers_are_told_is_always_said(server: "Server") -> None:
    made = await _begun(server)
    for path, body in (
        ("/api/v1/incidents", {k: v for k, v in NEW.items() if k != "notify"}),
        (f"/api/v1/incidents/{made['id']}/updates", {"text": "More."}),
    ):
        refused = await server.call("POST", path, body, who="reviewer")
        message = refused.body["errors"][0]["message"]
        assert (refused.status, message) == (
            422,
            "is missing: say true or false, whether subscribers are told",
        )


async def test_the_same_key_makes_one_incident(server: "Server") -> None:
    headers = {"Idempotency-Key": new_id().hex}
    first, second = [
        await server.call("POST", "/api/v1/incidents", NEW, who="reviewer", headers=headers) for _ in range(2)
    ]
    assert first.body["id"] == second.body["id"]


async def test_an_update_may_leave_the_status_and_impact_is_a_persons_word(
    server: "Server", site: str
) -> None:
    made = await _begun(server, components={site: "degraded_performance"}, impact="critical")
    said = (await _said(server, made)).body
    assert (said["status"], said["impact"], said["impact_by"]) == ("investigating", "critical", "person")
    assert said["components"] == made["components"]
    path = f"/api/v1/incidents/{made['id']}"
    edited = await server.call("PATCH", path, {"impact": None}, who="reviewer")
    assert (edited.body["impact"], edited.body["impact_by"]) == ("minor", "default")


async def test_an_edit_says_nothing_and_publishers_follow(
    server: "Server", site: str, publisher: str
) -> None:
    made = await _begun(server, components={site: "major_outage"}, title="Chekout is slow")
    path = f"/api/v1/incidents/{made['id']}"
    edited = await server.call("PATCH", path, {"title": "Checkout is slow", "components": {}}, who="reviewer")
    assert (edited.body["title"], edited.body["components"]) == ("Checkout is slow", [])
    assert len(edited.body["updates"]) == 1
    assert await _status(server, site) == "operational"
    assert (await _posts(server, made))[1:] == [
        ("edit", "investigating", {f"shop/{site}": "operational"}, "")
    ]
    assert len(await _told(server, made)) == 1
    same = await server.call("PATCH", path, {"title": "Checkout is slow"}, who="reviewer")
    assert same.body["revision"] == edited.body["revision"]


async def test_who_read_an_older_one_changes_nothing(server: "Server") -> None:
    made = await _begun(server)
    path, etag = f"/api/v1/incidents/{made['id']}", {"If-Match": f'"{made["revision"]}"'}
    sent = {"title": "Another"}
    first = await server.call("PATCH", path, sent, who="reviewer", headers=etag)
    assert (first.status, first.headers["ETag"]) == (200, f'"{made["revision"] + 1}"')
    update = f"{path}/updates/{made['updates'][0]['id']}"
    for where, body in ((path, sent), (update, {"text": "Mine."})):
        assert (await server.call("PATCH", where, body, who="reviewer", headers=etag)).status == 412


async def test_a_typing_mistake_is_corrected_where_it_has_not_left_yet(
    server: "Server", publisher: str
) -> None:
    made = await _begun(server, text="We are loking.")
    path = f"/api/v1/incidents/{made['id']}/updates/{made['updates'][0]['id']}"
    corrected = await server.call("PATCH", path, {"text": "We are looking."}, who="reviewer")
    (update,) = corrected.body["updates"]
    assert (update["text"], update["edited_by"]) == ("We are looking.", BY)
    assert update["at"] == made["updates"][0]["at"]
    assert (await _posts(server, made))[0][3] == "We are looking."
    wrong = await server.call("PATCH", path[:-3] + "000", {"text": "x"}, who="reviewer")
    assert wrong.status == 404


async def test_it_is_opened_again_within_the_pages_time_and_not_later(server: "Server", site: str) -> None:
    made = await _begun(server, components={site: "major_outage"})
    await _said(server, made, status="resolved")
    again = await _said(server, made, status="monitoring")
    assert (again.status, again.body["status"], again.body["resolved_at"]) == (201, "monitoring", None)
    assert await _status(server, site) == "major_outage"
    await _said(server, made, status="resolved")
    await server.services.pool.execute(
        "UPDATE incidents SET resolved_at = resolved_at - interval '8 days' WHERE id = $1",
        read("incident", made["id"]),
    )
    late = await _said(server, made, status="investigating")
    assert late.status == 409
    assert late.body["detail"].startswith("it ended more than 7d ago")
    assert (await _said(server, made, text="A last word.")).body["status"] == "resolved"
    twice = await _said(server, made, status="resolved", text="Over, and over.")
    assert (twice.status, "is resolved already" in twice.body["detail"]) == (409, True)


async def test_a_deleted_one_is_shown_to_nobody_and_kept(server: "Server", site: str, publisher: str) -> None:
    made = await _begun(server, components={site: "major_outage"})
    path = f"/api/v1/incidents/{made['id']}"
    assert (await server.call("DELETE", path, who="viewer")).status == 403
    assert (await server.call("DELETE", path, who="reviewer")).status == 204
    assert (await server.call("GET", path)).status == 404
    assert (await server.call("DELETE", path, who="reviewer")).status == 404
    assert await _status(server, site) == "operational"
    assert (await _posts(server, made))[-1] == (
        "delete",
        "investigating",
        {f"shop/{site}": "operational"},
        "",
    )
    assert (await _told(server, made))[-1] == "Incident deleted: Checkout is slow"
    async with server.services.pool.acquire() as db:
        line = (await listing(db, limit=1))[0]
        kept = await db.fetchval("SELECT count(*) FROM incidents WHERE id = $1", read("incident", made["id"]))
    assert (line["verb"], line["actor"], line["object"]) == ("incident.delete", BY, made["id"])
    assert kept == 1


async def test_two_become_one(server: "Server", site: str, publisher: str) -> None:
    one = await _begun(server, components={site: "major_outage"}, title="Shop is down")
    other = await _begun(server, components={site: "partial_outage"}, title="Site is slow")
    never = await _begun(server, components={"site": "partial_outage"}, title="Not yet posted")
    await server.services.pool.execute(
        "UPDATE outbox SET status = 'done' WHERE incident_id = $1", read("incident", one["id"])
    )
    for incident in (one, never):
        merged = await _do(server, incident, "merge", {"into": other["id"]})
        assert (merged.status, merged.body["merged_into"]) == (200, other["id"]), merged.body
    whole = (await server.call("GET", f"/api/v1/incidents/{other['id']}")).body
    assert {c["slug"]: c["status"] for c in whole["components"]} == {
        site: "major_outage",
        "site": "partial_outage",
    }
    assert whole["updates"][0]["text"] == "This now includes “Not yet posted”."
    ended = (await server.call("GET", f"/api/v1/incidents/{one['id']}")).body
    assert (ended["status"], ended["merged_into"]) == ("resolved", other["id"])
    assert ended["updates"][0]["text"] == "This goes on as “Site is slow”."
    path = f"shop/{site}"
    assert (await _posts(server, one))[-1] == (
        "resolve",
        "resolved",
        {path: "major_outage"},  # the other one still says so
        "This goes on as “Site is slow”.",
    )
    assert [step for step, *_ in await _posts(server, never)] == ["open", "delete"]
    assert await _status(server, site) == "major_outage"
    refused = await _said(server, one, status="investigating")
    assert (refused.status, "was merged" in refused.body["detail"]) == (409, True)
    for body, detail in (
        ({"into": other["id"]}, "it is over"),
        ({"into": one["id"]}, "an incident is not merged into itself"),
    ):
        answer = await _do(server, one, "merge", body)
        assert (answer.status, answer.body["detail"].startswith(detail)) == (409, True)
    assert (await _do(server, other, "merge", {"into": "inc_nothing"})).status == 404
    await _said(server, other, status="resolved")
    assert await _status(server, site) == "operational"


async def test_whose_subscribers_cannot_be_left_out_is_said_to_tell_them(server: "Server") -> None:
    slug = f"p-{new_id().hex[-8:]}"
    spec = {"slug": slug, "type": "statusapi", "url": "http://hook.example", "key": "k", "page": "shop"}
    assert (await server.call("POST", "/api/v1/publishers", spec)).status == 201
    quiet = await _begun(server, publishers=[slug], notify=False)
    assert quiet["notified"]["targets"] == [slug]
    await server.call("DELETE", f"/api/v1/publishers/{slug}?page=shop")


async def test_it_goes_only_to_the_publishers_that_were_named(server: "Server", publisher: str) -> None:
    made = await _begun(server, publishers=[publisher])
    assert made["publishers"] == [publisher]
    nowhere = await _begun(server, publishers=[])
    assert (nowhere["notified"]["targets"], await _posts(server, nowhere)) == ([], [])


# ---- what was


async def test_what_is_over_is_entered_with_its_times_and_notifies_nobody(
    server: "Server", site: str, publisher: str
) -> None:
    now = server.services.clock.epoch_s()
    began, ended = (moment(now - days * 86400).isoformat() for days in (3, 2))
    past = {
        "started_at": began,
        "acknowledged_at": began,
        "resolved_at": ended,
        "updates": [
            {"at": began, "status": "investigating", "text": "It began."},
            {"at": ended, "status": "resolved", "text": "It ended."},
        ],
    }
    body = {"page": "shop", "title": "Long ago", "notify": False, "components": {site: "major_outage"}}
    made = await server.call("POST", "/api/v1/incidents", body | {"backfilled": past}, who="reviewer")
    assert made.status == 201, made.body
    assert (made.body["is_backfilled"], made.body["status"]) == (True, "resolved")
    assert [update["text"] for update in made.body["updates"]] == ["It ended.", "It began."]
    assert made.body["notified"] == {"subscribers": 0, "targets": []}
    assert await _told(server, made.body) == []
    told = await server.call(
        "POST", "/api/v1/incidents", body | {"backfilled": past, "notify": True}, who="reviewer"
    )
    assert (told.status, "notifies nobody" in told.body["detail"]) == (422, True)
    ((step, status, _, text),) = await _posts(server, made.body)
    assert (step, status, text) == ("open", "resolved", "It began.\n\nIt ended.")
    assert await _status(server, site) == "operational"
    page = (await server.call("GET", "/p/shop/status.json", who=None)).body
    bars = next(one["bars"] for one in page["components"] if one["slug"] == site)
    known = [bar["status"] for bar in bars if bar["status"]]  # from when it was first spoken of
    assert known[0] == known[1] == "major_outage"
    assert set(known[2:]) == {"operational"}
    assert len(known) == 4
    again = await _said(server, made.body, status="investigating")
    assert (again.status, "after it was over" in again.body["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("change", "pointer", "said"),
    [
        ({"started_at": "2199-01-01T00:00Z"}, "/backfilled/started_at", "in the future"),
        ({"resolved_at": "2020-01-01T00:00Z"}, "/backfilled/resolved_at", "is before started_at"),
        ({"resolved_at": None}, "/backfilled/resolved_at", "is missing"),
        ({"started_at": "yesterday"}, "/backfilled/started_at", "is not a time"),
    ],
)
async def test_what_was_is_in_the_past_and_in_order(
    server: "Server", change: dict[str, Any], pointer: str, said: str
) -> None:
    past = {"started_at": "2026-01-01T10:00Z", "resolved_at": "2026-01-01T11:00Z"} | change
    body = NEW | {"status": "resolved", "notify": False, "backfilled": past}
    refused = await server.call("POST", "/api/v1/incidents", body, who="reviewer")
    found = {error["pointer"]: error["message"] for error in refused.body["errors"]}
    assert (refused.status, said in found.get(pointer, "")) == (422, True), found


@pytest.mark.parametrize("age", [timedelta(days=20), timedelta()], ids=["declared-before", "declared-after"])
async def test_what_was_counts_from_its_beginning_though_only_its_end_was_said(
    server: "Server", site: str, age: timedelta
) -> None:
    await server.services.pool.execute(
        "UPDATE objects SET created_at = now() - $2::interval WHERE slug = $1", site, age
    )
    now = server.services.clock.epoch_s()
    began, ended = (moment(now - 2 * 86400 + after).isoformat() for after in (0, 3600))
    body = NEW | {"status": "resolved", "notify": False, "components": {site: "major_outage"}}
    past = {"started_at": began, "resolved_at": ended}
    made = await server.call("POST", "/api/v1/incidents", body | {"backfilled": past}, who="reviewer")
    assert made.status == 201, made.body
    counted = await server.call("GET", f"/api/v1/components/{site}/uptime?since=9d&page=shop")
    assert round(counted.body["seconds"]["down"]) == 3600, counted.body
    server.app.state.status_pages = None
    page = (await server.call("GET", "/p/shop/status.json", who=None)).body
    bars = next(one["bars"] for one in page["components"] if one["slug"] == site)
    assert "major_outage" in [bar["status"] for bar in bars]
    await server.call("PATCH", f"/api/v1/incidents/{made.body['id']}", {"components": {}}, who="reviewer")
    counted = await server.call("GET", f"/api/v1/components/{site}/uptime?since=9d&page=shop")
    assert counted.body["seconds"]["down"] == 0


# ---- automatic ones


@pytest.fixture
async def automatic(server: "Server", site: str) -> tuple[Stored, dict[str, Any]]:
    """A beat, and the incident of its episode that was approved."""
    return await _automatic(server, site)


async def _automatic(server: "Server", site: str) -> tuple[Stored, dict[str, Any]]:
    at = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": f"b-{new_id().hex[-8:]}", "type": "tcp", "host": "x.example", "port": 1}
        beat = await objects.create(db, ACTOR, "beat", page.id, spec | {"components": {site: {}}})
        await reviews.open_episodes(db, [(beat, EpisodeOpened(at, 1, "critical"))])
        (action,) = await reviews.propose(
            db, [reviews.Proposal(beat.id, 1, StepProposed(at, "open", "critical"))]
        )
        await reviews.approve(db, ACTOR, action, 1, at)
    found = (await server.call("GET", f"/api/v1/incidents?beat={beat.slug}")).body["items"]
    return beat, found[0]


async def _propose(server: "Server", beat: Stored, step: Any, severity: Any = "critical") -> list[Any]:
    async with transaction(server.services.pool) as db:
        at = server.services.clock.epoch_s()
        if step == "resolve":
            await reviews.close_episode(db, beat.id, EpisodeClosed(at, 1, "recovered"))
        return await reviews.propose(db, [reviews.Proposal(beat.id, 1, StepProposed(at, step, severity))])


async def test_what_a_person_took_over_says_nothing_by_itself_until_it_is_handed_back(
    server: "Server", automatic: tuple[Stored, dict[str, Any]]
) -> None:
    beat, incident = automatic
    (draft,) = await _propose(server, beat, "update", "warning")
    taken = await _do(server, incident, "take-over")
    assert (taken.status, taken.body["taken_over_by"]) == (200, BY)
    status = await server.services.pool.fetchval("SELECT status FROM actions WHERE id = $1", draft)
    assert status == "withdrawn"
    assert await _propose(server, beat, "resolve") == []
    still = (await server.call("GET", f"/api/v1/incidents/{incident['id']}")).body
    assert (still["status"], len(still["updates"])) == ("investigating", 1)
    back = await _do(server, incident, "hand-back")
    assert (back.status, back.body["taken_over_by"]) == (200, None)
    waiting = (await server.call("GET", f"/api/v1/actions?status=pending&beat={beat.slug}")).body["items"]
    assert [action["step"] for action in waiting] == ["resolve"]
    again = await _do(server, incident, "hand-back")
    assert (again.status, again.body["detail"]) == (409, "nobody took it over")


async def test_resolving_by_hand_is_taking_over(
    server: "Server", automatic: tuple[Stored, dict[str, Any]]
) -> None:
    beat, incident = automatic
    over = (await _said(server, incident, status="resolved", text="By hand.")).body
    assert (over["taken_over_by"], over["status"]) == (BY, "resolved")
    assert await _propose(server, beat, "update", "warning") == []
    assert await _propose(server, beat, "resolve") == []
    after = (await server.call("GET", f"/api/v1/incidents/{incident['id']}")).body
    assert after["updates"][0]["text"] == "By hand."
    assert (await _do(server, incident, "hand-back")).status == 409


async def test_a_deleted_one_is_not_spoken_of_by_its_beat(
    server: "Server", automatic: tuple[Stored, dict[str, Any]], site: str
) -> None:
    beat, incident = automatic
    await server.call("DELETE", f"/api/v1/incidents/{incident['id']}", who="reviewer")
    assert await _propose(server, beat, "resolve") == []
    assert await _status(server, site) == "operational"


async def test_what_took_another_in_is_not_over_by_itself_while_that_lasts(
    server: "Server", automatic: tuple[Stored, dict[str, Any]], site: str
) -> None:
    (one, first), (_, middle), (other, last) = (
        automatic,
        await _automatic(server, site),
        await _automatic(server, site),
    )
    for incident, into in ((first, middle), (middle, last)):
        assert (await _do(server, incident, "merge", {"into": into["id"]})).status == 200
    assert len(await _propose(server, other, "resolve")) == 1  # a draft
    assert (await server.call("GET", f"/api/v1/incidents/{last['id']}")).body["status"] == "investigating"
    assert await _propose(server, one, "resolve") == []
    assert await _status(server, site) == "major_outage"


async def test_one_by_hand_is_in_peoples_hands(server: "Server") -> None:
    made = await _begun(server)
    refused = await _do(server, made, "take-over")
    assert (refused.status, "in people's hands" in refused.body["detail"]) == (409, True)


# ---- reports


async def test_a_report_is_public_once_it_is_published_and_while_it_is_over(server: "Server") -> None:
    made = await _begun(server)
    path = f"/api/v1/incidents/{made['id']}/report"

    async def seen() -> str | None:
        server.app.state.status_pages = None
        page = (await server.call("GET", "/p/shop/status.json", who=None)).body
        shown = [*page["open"], *(one for day in page["days"] for one in day["incidents"])]
        report = next(one["report"] for one in shown if one["id"] == made["id"])
        return report["text"] if report else None

    assert (await server.call("POST", f"{path}/publish", who="reviewer")).status == 409  # none yet
    written = await server.call("PUT", path, {"text": "A disk was full."}, who="reviewer")
    assert (written.body["report"]["status"], written.body["report"]["at"]) == ("draft", None)
    early = await server.call("POST", f"{path}/publish", who="reviewer")
    assert (early.status, "once it is resolved" in early.body["detail"]) == (409, True)
    await _said(server, made, status="resolved")
    assert await seen() is None
    assert (await server.call("POST", f"{path}/publish", who="reviewer")).body["report"][
        "status"
    ] == "published"
    assert await seen() == "A disk was full."
    await server.call("PUT", path, {"text": "Two disks were full."}, who="reviewer")
    assert await seen() == "Two disks were full."
    await _said(server, made, status="investigating")
    assert await seen() is None
    await _said(server, made, status="resolved")
    await server.call("POST", f"{path}/unpublish", who="reviewer")
    assert await seen() is None
    gone = await server.call("DELETE", path, who="reviewer")
    assert gone.body["report"] is None


# ---- who may


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("reader", 403), ("other", 404)])
async def test_only_reviewers_of_its_page_handle_it(server: "Server", who: str, status: int) -> None:
    made = await _begun(server)
    path = f"/api/v1/incidents/{made['id']}"
    update = {"text": "Mine.", "notify": False}
    for method, below, body in (
        ("POST", "/updates", update),
        ("PATCH", "", {"title": "Mine"}),
        ("DELETE", "", None),
        ("POST", "/merge", {"into": made["id"]}),
        ("PUT", "/report", {"text": "Mine."}),
    ):
        assert (await server.call(method, path + below, body, who=who)).status == status
    assert (await server.call("POST", "/api/v1/incidents", NEW, who=who)).status == status


async def test_what_stays_as_it_is_on_another_page_needs_no_right_there(server: "Server") -> None:
    slug = f"c-{new_id().hex[-8:]}"
    assert (
        await server.call("POST", "/api/v1/components?page=blog", {"slug": slug, "name": slug})
    ).status == 201
    elsewhere = f"blog/{slug}"
    made = await server.call("POST", "/api/v1/incidents", NEW | {"components": {elsewhere: "major_outage"}})
    assert made.status == 201, made.body
    said = await _said(server, made.body, components={elsewhere: "major_outage", "site": "partial_outage"})
    assert (said.status, len(said.body["components"])) == (201, 2), said.body
    worse = await _said(server, made.body, components={elsewhere: "partial_outage"})
    assert worse.status == 404  # a page that they do not know


async def test_a_draft_is_an_action_that_becomes_the_incident(server: "Server", site: str) -> None:
    body = NEW | {"draft": True, "components": {site: "major_outage"}, "impact": "minor"}
    asked = await server.call("POST", "/api/v1/incidents", body, who="reviewer")
    assert (asked.status, asked.body["status"], asked.body["step"]) == (202, "pending", "open")
    assert await _status(server, site) == "operational"
    approved = await _approve(server, asked.body)
    incident = (await server.call("GET", f"/api/v1/incidents/{approved['incident']}")).body
    assert (incident["title"], incident["impact"], incident["episode"]) == (NEW["title"], "minor", None)
    assert await _status(server, site) == "major_outage"
    asked = await _said(server, incident, draft=True, status="resolved", text="Mended.")
    assert (asked.status, asked.body["step"]) == (202, "resolve")
    await _approve(server, asked.body)
    incident = (await server.call("GET", f"/api/v1/incidents/{incident['id']}")).body
    assert (incident["status"], incident["updates"][0]["text"]) == ("resolved", "Mended.")


async def test_a_page_that_wants_two_approvals_has_every_word_reviewed(server: "Server") -> None:
    page = {"slug": f"p-{new_id().hex[-8:]}", "name": "Careful", "review": {"approvals": 2}}
    assert (await server.call("POST", "/api/v1/pages", page)).status == 201
    body = NEW | {"page": page["slug"]}
    asked = await server.call("POST", "/api/v1/incidents", body)
    assert (asked.status, asked.body["status"]) == (202, "pending")
    log = (await server.call("GET", "/api/v1/audit?limit=1")).body["items"]
    assert (log[0]["verb"], log[0]["object"]) == ("action.draft", asked.body["id"])
    past = {"started_at": "2026-01-01T10:00Z"}
    refused = await server.call("POST", "/api/v1/incidents", body | {"notify": False, "backfilled": past})
    assert (refused.status, "two approvals" in refused.body["detail"]) == (422, True)


async def _approve(server: "Server", action: dict[str, Any]) -> dict[str, Any]:
    answer = await server.call(
        "POST", f"/api/v1/actions/{action['id']}/approve", {"revision": action["revision"]}, who="editor"
    )
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body
