"""Drafts through the API: approved once, rejected, edited, withdrawn; and the incidents and episodes they leave."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from openapi_schema_validator import OAS31Validator

from engine.store import objects, outbox, results, reviews, states
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from engine.store.objects import Stored
from engine.store.states import Transition
from evaluators.facts import EpisodeClosed, EpisodeOpened, StepProposed
from evaluators.model import Failure, Kind, Notice, Outcome, Result, Stage, Timings, Verdict

if TYPE_CHECKING:
    from tests.api.conftest import Server


@pytest.fixture
async def beat(server: "Server") -> Stored:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": f"b-{new_id().hex[-8:]}", "type": "tcp", "host": "x.example", "port": 1}
        return await objects.create(
            db, Actor("t", "api"), "beat", page.id, spec | {"components": {"site": {}}}
        )


@pytest.fixture
async def draft(server: "Server", beat: Stored) -> dict[str, Any]:
    """The pending draft of an outage of `beat`."""
    at = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        await reviews.open_episodes(db, [(beat, EpisodeOpened(at, 1, "critical"))])
        evidence = [{"region": "eu", "verdict": "critical"}]
        await reviews.propose(
            db, [reviews.Proposal(beat.id, 1, StepProposed(at, "open", "critical"), evidence)]
        )
    listed = await server.call("GET", "/api/v1/actions?status=pending&limit=1")
    found: dict[str, Any] = listed.body["items"][0]
    assert found["owner"] == beat.slug
    return found


async def _decide(
    server: "Server", draft: dict[str, Any], verb: str, body: Any, who: str = "reviewer"
) -> Any:
    return await server.call("POST", f"/api/v1/actions/{draft['id']}/{verb}", body, who=who)


async def test_a_draft_shows_what_will_be_said_where_and_why(server: "Server", draft: dict[str, Any]) -> None:
    assert (draft["step"], draft["status"], draft["revision"]) == ("open", "pending", 1)
    assert draft["text"].startswith("Site is currently unavailable")
    assert draft["components"] == [{"page": "shop", "slug": "site", "name": "Site", "status": "major_outage"}]
    assert draft["evidence"] == [{"region": "eu", "verdict": "critical"}]
    assert (await server.call("GET", f"/api/v1/actions/{draft['id']}")).body == draft


async def test_an_approved_draft_is_an_incident_and_a_second_yes_says_who(
    server: "Server", draft: dict[str, Any]
) -> None:
    first = await _decide(server, draft, "approve", {"revision": 1})
    assert (first.status, first.body["status"]) == (200, "done")
    second = await _decide(server, draft, "approve", {"revision": 1}, who="editor")
    assert (second.status, second.body["decided_by"]) == (200, first.body["decided_by"])
    incident = (await server.call("GET", f"/api/v1/incidents/{first.body['incident']}")).body
    assert (incident["status"], incident["episode"]) == ("investigating", draft["episode"])
    assert [update["text"] for update in incident["updates"]] == [draft["text"]]
    assert incident["components"][0]["slug"] == "site"
    for status in ("open", "investigating"):
        listed = (await server.call("GET", f"/api/v1/incidents?status={status}")).body["items"]
        assert incident in listed
    assert incident not in (await server.call("GET", "/api/v1/incidents?status=resolved")).body["items"]


async def test_two_reviewers_at_once_make_one_incident(server: "Server", draft: dict[str, Any]) -> None:
    answers = await asyncio.gather(*(_decide(server, draft, "approve", {"revision": 1}) for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["incident"] for answer in answers}) == 1


async def test_an_edit_is_a_new_revision_and_the_old_one_is_409(
    server: "Server", draft: dict[str, Any]
) -> None:
    path = f"/api/v1/actions/{draft['id']}"
    edited = await server.call("PATCH", path, {"revision": 1, "text": "In our words."}, who="reviewer")
    assert (edited.status, edited.body["revision"], edited.body["title"]) == (200, 2, draft["title"])
    stale = await _decide(server, draft, "approve", {"revision": 1})
    assert (stale.status, stale.body["revision"]) == (409, 2)
    approved = await _decide(server, draft, "approve", {"revision": 2})
    assert approved.body["text"] == "In our words."


async def test_a_draft_says_where_it_goes_who_hears_and_what_components_become(
    server: "Server", draft: dict[str, Any]
) -> None:
    (change,) = draft["impact"]  # what others left open on the page is there before
    assert (change["slug"], change["after"]) == ("site", "major_outage")
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": "theirs", "type": "instatus", "key": "k", "page_id": "p"}
        await objects.create(db, Actor("t", "api"), "publisher", page.id, spec)
    path = f"/api/v1/actions/{draft['id']}"
    long = "A **long** story. " * 1000
    edited = await server.call(
        "PATCH", path, {"revision": 1, "text": long, "is_markdown": True}, who="reviewer"
    )
    assert edited.status == 200, edited.body
    own, theirs = edited.body["targets"]
    assert (own["target"], own["text"], own["is_cut"]) == ("page", long, False)
    assert (theirs["target"], theirs["is_chosen"]) == ("theirs", True)
    assert any("no counterpart" in note for note in theirs["notes"])
    assert (edited.body["original"]["text"], edited.body["original"]["is_markdown"]) == (draft["text"], False)
    unknown = await _decide(server, draft, "approve", {"revision": 2, "publishers": ["nowhere"]})
    assert (unknown.status, unknown.body["errors"][0]["pointer"]) == (422, "/publishers/0")
    assert "there is no publisher 'nowhere' on shop" in unknown.body["detail"]
    approved = await _decide(server, draft, "approve", {"revision": 2, "publishers": [], "comment": "go"})
    assert (approved.body["status"], approved.body["deliveries"], approved.body["reason"]) == (
        "done",
        [],
        "go",
    )
    assert [target["is_chosen"] for target in approved.body["targets"]] == [True]
    async with transaction(server.services.pool) as db:
        await objects.remove(db, Actor("t", "api"), await objects.find(db, "publisher", "theirs"))


async def test_components_are_edited_by_their_paths(server: "Server", draft: dict[str, Any]) -> None:
    path = f"/api/v1/actions/{draft['id']}"
    wrong = await server.call(
        "PATCH", path, {"revision": 1, "components": {"sit": "major_outage"}}, who="reviewer"
    )
    assert (wrong.status, "there is no component 'sit'" in wrong.body["detail"]) == (422, True)
    body = {"revision": 1, "components": {"site": "partial_outage"}}
    edited = (await server.call("PATCH", path, body, who="reviewer")).body
    assert [one["status"] for one in edited["components"]] == ["partial_outage"]
    assert [one["status"] for one in edited["original"]["components"]] == ["major_outage"]


async def test_drafts_are_filtered_and_counted(server: "Server", beat: Stored, draft: dict[str, Any]) -> None:
    async def ids(query: str, who: str = "reviewer") -> list[str]:
        return [
            a["id"] for a in (await server.call("GET", f"/api/v1/actions?{query}", who=who)).body["items"]
        ]

    assert await ids(f"beat={beat.slug}&step=open") == [draft["id"]]
    assert await ids(f"beat={beat.slug}&step=resolve") == []
    assert draft["id"] not in await ids("mine=true")
    await _decide(server, draft, "reject", {"reason": "a drill"})
    assert draft["id"] in await ids("mine=true")
    tally = (await server.call("GET", f"/api/v1/actions/tally?beat={beat.slug}", who="viewer")).body
    assert tally == {
        "proposed": 1,
        "approved_unedited": 0,
        "approved_edited": 0,
        "rejected": 1,
        "expired": 0,
    }
    both = await server.call("GET", f"/api/v1/actions/tally?beat={beat.slug}&group=together")
    assert (both.status, "name one of" in both.body["detail"]) == (422, True)


async def test_a_rejected_draft_cannot_be_approved(server: "Server", draft: dict[str, Any]) -> None:
    rejected = await _decide(server, draft, "reject", {"reason": "a drill"})
    assert (rejected.body["status"], rejected.body["reason"]) == ("rejected", "a drill")
    answer = await _decide(server, draft, "approve", {"revision": 1})
    assert (answer.status, answer.body["action_status"]) == (409, "rejected")


async def test_a_draft_withdrawn_by_recovery_cannot_be_approved(
    server: "Server", beat: Stored, draft: dict[str, Any]
) -> None:
    at = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        await reviews.close_episode(db, beat.id, EpisodeClosed(at, 1, "recovered"))
        await reviews.propose(db, [reviews.Proposal(beat.id, 1, StepProposed(at, "resolve", "critical"))])
    answer = await _decide(server, draft, "approve", {"revision": 1})
    assert (answer.status, answer.body["action_status"]) == (409, "withdrawn")
    episode = (await server.call("GET", "/api/v1/episodes?open=false&limit=1")).body["items"][0]
    assert (episode["owner"], episode["cause"], episode["peak"]) == (beat.slug, "recovered", "critical")


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("reader", 403), ("other", 404)])
async def test_only_a_reviewer_of_its_page_decides(
    server: "Server", draft: dict[str, Any], who: str, status: int
) -> None:
    for verb, body in (("approve", {"revision": 1}), ("reject", {})):
        assert (await _decide(server, draft, verb, body, who)).status == status
    patched = await server.call("PATCH", f"/api/v1/actions/{draft['id']}", {"revision": 1}, who=who)
    assert patched.status == status
    read = await server.call("GET", f"/api/v1/actions/{draft['id']}", who=who)
    assert read.status == (404 if who == "other" else 200)
    seen = (await server.call("GET", "/api/v1/actions", who=who)).body["items"]
    assert (draft["id"] in {item["id"] for item in seen}) == (who != "other")


async def test_a_revision_is_needed_and_a_number(server: "Server", draft: dict[str, Any]) -> None:
    for body in ({}, {"revision": "one"}, {"revision": 0}, {"revision": 1, "sure": True}):
        assert (await _decide(server, draft, "approve", body)).status == 422


async def test_lists_of_drafts_are_paged(server: "Server", draft: dict[str, Any]) -> None:
    seen, path = [], "/api/v1/actions?limit=2"
    while path:
        answer = await server.call("GET", path)
        seen += [item["id"] for item in answer.body["items"]]
        link = answer.headers.get("Link", "")
        path = link[1 : link.index(">")] if link else ""
    assert len(seen) == len(set(seen))
    assert draft["id"] == seen[0]


async def test_a_dead_delivery_is_listed_and_tried_again(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        channel = await objects.find(db, "channel", "ops", pages=[page.id])
        notice = Notice("n1", "open", "Home is down", server.services.clock.epoch_s())
        await outbox.put(db, [channel.id], "line", "key", notice)
        (row,) = await outbox.listing(db)
        await outbox.failed(db, row["id"], "HTTP 410", None)
    dead = (await server.call("GET", "/api/v1/deliveries?status=dead", who="viewer")).body["items"]
    assert [(d["channel"], d["last_error"], d["told"]) for d in dead] == [("ops", "HTTP 410", "open")]
    path = f"/api/v1/deliveries/{dead[0]['id']}/retry"
    assert (await server.call("POST", path, who="other")).status == 404
    assert (await server.call("POST", path, who="editor")).status == 202
    assert (await server.call("POST", path, who="editor")).status == 404
    (newest, *_) = (await server.call("GET", "/api/v1/audit", who="admin")).body["items"]
    assert (newest["verb"], newest["page"], newest["object"][:4]) == ("delivery.retry", "shop", "ops ")


async def test_a_channel_is_tested_and_says_what_came_of_it(server: "Server") -> None:
    answer = await server.call("POST", "/api/v1/channels/ops/test", who="editor")
    assert answer.body == {"outcome": "rejected", "reason": "ops said HTTP 410"}


async def test_answers_are_what_the_description_says(
    server: "Server", beat: Stored, draft: dict[str, Any]
) -> None:
    await _decide(server, draft, "approve", {"revision": 1})
    now = server.services.clock.epoch_s()
    run = Result(
        str(new_id()),
        str(beat.id),
        "eu",
        Kind.SCHEDULED,
        Verdict.CRITICAL,
        now,
        now,
        1,
        1,
        Timings(total=0.1),
    )
    failed = replace(
        run, outcomes=(Outcome("status", False, 500, "no"),), failure=Failure("http.status", "no")
    )
    async with transaction(server.services.pool) as db:
        await results.insert(db, [(str(new_id()), now, failed)], now)
        assert beat.page_id is not None
        group = await objects.create(db, Actor("t", "api"), "group", beat.page_id, {"slug": "all"})
        window = {"slug": "past", "name": "Past", "start": "2020-01-01T00:00:00Z", "duration": "1h"}
        await objects.create(db, Actor("t", "api"), "maintenance", beat.page_id, window)
        made = [
            Transition(one.id, now, Stage.OK, Stage.WARNING, {"eu": "ok"}, ("asking", f"member:{beat.id}"))
            for one in (beat, group)
        ]
        await states.record_transitions(db, made)
    described = (await server.call("GET", "/api/v1/openapi.json")).body
    checked = 0
    for path, operations in described["paths"].items():
        kind = path.removeprefix("/api/v1/").partition("/")[0]
        schema = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if (
            not (schema := schema.get("application/json", {}).get("schema"))
            or "{replay}" in path
            or "{preview}" in path
            or "{run}" in path
            or kind in ("inboxes", "events", "triggers", "subscribers", "broadcasts")  # their own tests'
            or path in ("/api/v1/pages/{ref}/link", "/api/v1/pages/{ref}/domain")  # there is none
        ):
            continue  # there is none
        ref = (
            beat.slug
            if kind == "beats"
            else {"pages": "shop", "regions": "eu", "groups": "all"}.get(kind, "")
        )
        if "{ref}" in path and not ref:
            listed = (await server.call("GET", f"/api/v1/{kind}?page=shop")).body["items"]
            ref = listed[0]["id"]
        answer = await server.call("GET", path.replace("{ref}", ref))
        assert answer.status == 200, (path, answer.body)
        OAS31Validator(schema | {"components": described["components"]}).validate(answer.body)
        is_elsewhere = path.endswith(
            ("/pings", "/drift", "/targets", "/subscribers", "/broadcasts")
        )  # their own
        assert answer.body.get("items") != [] or is_elsewhere, path
        checked += 1
    assert checked >= 16


async def test_the_machines_own_token_is_not_one_of_two_people(
    server: "Server", draft: dict[str, Any]
) -> None:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        two = await objects.replace(db, Actor("t", "api"), page, page.spec | {"review": {"approvals": 2}})
    try:
        path = f"/api/v1/actions/{draft['id']}/approve"
        token = {"Authorization": f"Bearer {server.services.settings.admin_token}"}
        refused = await server.call("POST", path, {"revision": 1}, who=None, headers=token)
        assert (refused.status, "the machine's own token is nobody" in refused.body["detail"]) == (403, True)
        first = await server.call("POST", path, {"revision": 1}, who="reviewer")
        assert (first.status, first.body["status"], len(first.body["approvals"])) == (200, "pending", 1)
    finally:
        async with transaction(server.services.pool) as db:
            await objects.replace(db, Actor("t", "api"), two, page.spec)
