"""Groups through the API: declared like everything else, shown with their members, paused, reported on, named as owners."""

from typing import TYPE_CHECKING, Any

import pytest
from msgspec import to_builtins

from engine.store import objects, reviews, states
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id, show
from engine.store.objects import Stored
from evaluators.facts import EpisodeOpened, StepProposed
from evaluators.model import Stage
from evaluators.policy import Bound
from evaluators.state import Member, State

if TYPE_CHECKING:
    from tests.api.conftest import Server

ACTOR = Actor("t", "api")


@pytest.fixture
async def group(server: "Server") -> dict[str, Any]:
    """A group made through the API."""
    sent = {"slug": f"g-{new_id().hex[-8:]}", "page": "shop", "name": "Shop", "components": ["site"]}
    answer = await server.call("POST", "/api/v1/groups", sent, who="editor")
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.body
    return made


async def _stored(server: "Server", group: dict[str, Any]) -> Stored:
    async with server.services.pool.acquire() as db:
        return await objects.find(db, "group", group["id"])


async def _member(server: "Server", group: dict[str, Any], stage: str) -> Stored:
    """A beat of the group that an evaluator has seen."""
    of = await _stored(server, group)
    async with transaction(server.services.pool) as db:
        slug = f"m-{new_id().hex[-8:]}"
        spec = {"slug": slug, "type": "external", "group": group["slug"]}
        assert of.page_id is not None
        beat = await objects.create(db, ACTOR, "beat", of.page_id, spec)
        await states.save_bounds(db, {beat.id: Bound(group=str(of.id))})
        await db.execute("UPDATE states SET stage = $2 WHERE subject_id = $1", beat.id, stage)
    return beat


async def _set(server: "Server", subject_id: Any, **fields: Any) -> None:
    state = to_builtins(State(**fields))
    await server.services.pool.execute(
        "UPDATE states SET state = $2 WHERE subject_id = $1", subject_id, state
    )


async def test_a_group_shows_its_members_the_worst_first_and_how_many_it_takes(
    server: "Server", group: dict[str, Any]
) -> None:
    good, bad = await _member(server, group, "ok"), await _member(server, group, "critical")
    joining = await _member(server, group, "warning")
    members = {
        str(good.id): Member(Stage.OK, 1.0),
        str(bad.id): Member(Stage.CRITICAL, 2.0, is_suppressed=True),
    }
    await _set(server, (await _stored(server, group)).id, members=members)
    shown = (await server.call("GET", f"/api/v1/groups/{group['slug']}?page=shop", who="viewer")).body
    assert [(m["slug"], m["stage"], m["suppressed"], m["counts"]) for m in shown["members"]] == [
        (bad.slug, "critical", True, True),
        (joining.slug, "warning", False, False),
        (good.slug, "ok", False, True),
    ]
    assert shown["members"][0]["id"] == show("beat", bad.id)
    assert shown["need"] == {"critical": 1, "warning": 1, "min_voters": 1, "available": 2}
    assert (shown["stage"], shown["paused"], shown["flapping"], shown["episode"]) == (
        "unknown",
        False,
        False,
        None,
    )
    listed = (await server.call("GET", "/api/v1/groups?page=shop&limit=500")).body["items"]
    assert shown in listed


async def test_what_is_shown_of_a_group_may_be_sent_back(server: "Server", group: dict[str, Any]) -> None:
    sent = group | {"late_members": "update"}
    answer = await server.call("PUT", f"/api/v1/groups/{group['id']}", sent)
    assert (answer.status, answer.body["late_members"]) == (200, "update")


async def test_a_group_is_not_deleted_while_a_beat_names_it(server: "Server", group: dict[str, Any]) -> None:
    beat = await _member(server, group, "ok")
    refused = await server.call("DELETE", f"/api/v1/groups/{group['id']}")
    assert refused.status == 409
    assert f"is used by beat {beat.slug!r}" in refused.body["detail"]
    assert (await server.call("DELETE", f"/api/v1/beats/{show('beat', beat.id)}")).status == 204
    assert (await server.call("DELETE", f"/api/v1/groups/{group['id']}")).status == 204


@pytest.mark.parametrize("user", ["depends_on", "maintenance"])
async def test_nor_while_anything_else_does(server: "Server", group: dict[str, Any], user: str) -> None:
    if user == "depends_on":
        parent = f"group:shop/{group['slug']}"
        beat = {"slug": f"c-{new_id().hex[-8:]}", "page": "blog", "type": "external", "depends_on": [parent]}
        made = await server.call("POST", "/api/v1/beats", beat)
    else:
        window = {"slug": f"w-{new_id().hex[-8:]}", "page": "shop", "groups": [group["slug"]]}
        window |= {"start": "2150-01-01T00:00:00Z", "duration": "1h"}
        made = await server.call("POST", "/api/v1/maintenances", window)
    assert made.status == 201, made.body
    assert (await server.call("DELETE", f"/api/v1/groups/{group['id']}")).status == 409


async def test_a_group_is_paused_and_resumed_by_who_may_write(
    server: "Server", group: dict[str, Any]
) -> None:
    path = f"/api/v1/groups/{group['slug']}"
    assert (await server.call("POST", f"{path}/pause", {"for": "1h"}, who="viewer")).status == 403
    paused = await server.call("POST", f"{path}/pause", {"for": "1h"}, who="editor")
    assert (paused.status, paused.body["paused"], paused.body["paused_until"] is not None) == (
        200,
        True,
        True,
    )
    assert (await server.call("POST", f"{path}/resume", who="editor")).body["paused"] is False
    said = "SELECT verb FROM audit WHERE object = $1 ORDER BY id"
    rows = await server.services.pool.fetch(said, group["slug"])
    assert [row["verb"] for row in rows] == ["group.create", "group.pause", "group.resume"]


async def test_a_report_on_a_group_is_kept_for_whoever_evaluates(
    server: "Server", group: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.subjects.FOLDED_WITHIN_S", 0.05)
    said = {"verdict": "critical", "message": "orders are refused"}
    answer = await server.call("POST", f"/api/v1/groups/{group['slug']}/report", said)
    assert (answer.status, answer.body["slug"], answer.body["decided"]) == (202, group["slug"], False)


async def test_what_suppresses_a_beat_is_said_by_name(server: "Server", group: dict[str, Any]) -> None:
    beat = await _member(server, group, "critical")
    parent = await _stored(server, group)
    await _set(
        server,
        beat.id,
        suppressed_by=(f"dependency:{parent.id}", "asking"),
        flapping=True,
        advised=True,
        dissent=("eu",),
        dissent_since=60.0,
    )
    shown = (await server.call("GET", f"/api/v1/beats/{beat.slug}")).body
    assert shown["suppressed_by"] == [
        {"kind": "dependency", "id": show("group", parent.id), "slug": parent.slug},
        {"kind": "asking", "id": None, "slug": None},
    ]
    assert (shown["group"], shown["flapping"]) == (group["slug"], True)
    advisory = {"kind": "minority", "regions": ["eu"], "members": [], "since": "1970-01-01T00:01:00Z"}
    assert shown["advisories"] == [advisory]


async def test_episodes_actions_and_incidents_name_a_group_that_owns_them(
    server: "Server", group: dict[str, Any]
) -> None:
    owner, at = await _stored(server, group), server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        await reviews.open_episodes(db, [(owner, EpisodeOpened(at, 1, "critical"))])
        (action,) = await reviews.propose(
            db, [reviews.Proposal(owner.id, 1, StepProposed(at, "open", "critical"))]
        )
        await reviews.approve(db, ACTOR, action, 1, at)
    for kind in ("episodes", "actions", "incidents"):
        (item,) = (await server.call("GET", f"/api/v1/{kind}?group={group['slug']}&page=shop")).body["items"]
        assert (item["owner"], item["owner_kind"]) == (group["slug"], "group")
        assert (await server.call("GET", f"/api/v1/{kind}?beat=home&page=shop")).body["items"] == []
    both = await server.call("GET", f"/api/v1/actions?group={group['slug']}&beat=home&page=shop")
    assert both.status == 422
