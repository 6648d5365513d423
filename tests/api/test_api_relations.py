"""What depends on what, and regions that are sick, over HTTP."""

import asyncio
from typing import Any

from msgspec import to_builtins

from engine.store import objects, regions, states
from engine.store.database import transaction
from engine.store.states import Transition
from evaluators.model import Stage
from evaluators.policy import Bound, Window
from evaluators.sickness import Count, RegionReturned, RegionSuspended
from evaluators.state import State
from tests.api.conftest import Server


async def make(server: Server, slug: str, *parents: str, kind: str = "beat", **more: Any) -> None:
    probed = {"type": "tcp", "host": "a.example", "port": 1} if kind == "beat" else {}
    document = {"slug": slug, "page": "shop", "depends_on": list(parents), **probed, **more}
    answer = await server.call("POST", f"/api/v1/{kind}s", document)
    assert answer.status == 201, answer.body


async def depend(server: Server, slug: str, *parents: str, kind: str = "beat") -> tuple[int, str]:
    path = f"/api/v1/{kind}s/{slug}?page=shop"
    answer = await server.call("PATCH", path, {"depends_on": list(parents)})
    return answer.status, "" if answer.status == 200 else answer.body["errors"][0]["message"]


async def test_a_circle_is_refused_and_named_also_through_groups(server: Server) -> None:
    await make(server, "chain-a")
    await make(server, "chain-b", "chain-a")
    await make(server, "chain-c", "chain-b")
    status, said = await depend(server, "chain-a", "chain-c")
    assert (status, said) == (
        422,
        "nothing may depend on itself: chain-a needs chain-c needs chain-b needs chain-a",
    )
    await make(server, "ring", kind="group")
    await make(server, "ring-member", "chain-a", group="ring")
    status, said = await depend(server, "chain-a", "group:ring")
    assert status == 422
    assert "group ring" in said


async def test_a_circle_over_a_page_that_may_not_be_read_is_refused_and_does_not_name_it(
    server: Server,
) -> None:
    await make(server, "near")
    await make(server, "hidden", "shop/near", page="blog")
    await make(server, "next", "blog/hidden")
    answer = await server.call("PATCH", "/api/v1/beats/near", {"depends_on": ["next"]}, who="editor")
    assert answer.status == 422
    assert answer.body["errors"][0]["message"] == (
        "nothing may depend on itself: near needs next needs something on a page you may not read needs near"
    )


async def test_two_requests_at_once_make_no_circle(server: Server) -> None:
    for n in range(10):
        one, other = f"left-{n}", f"right-{n}"
        await make(server, one)
        await make(server, other)
        answers = await asyncio.gather(depend(server, one, other), depend(server, other, one))
        assert sorted(status for status, _ in answers) == [200, 422]


async def test_what_others_depend_on_is_not_taken_away(server: Server) -> None:
    await make(server, "kept")
    await make(server, "keeper", "kept")
    answer = await server.call("DELETE", "/api/v1/beats/kept?page=shop")
    assert answer.status == 409
    assert "keeper" in answer.body["detail"]


async def test_a_suspended_region_says_since_when_and_why(server: Server) -> None:
    async with transaction(server.services.pool) as connection:
        region = (await objects.listing(connection, "region"))[0].slug
        count = Count(8, 1, 7, frozenset("abc"))
        assert await regions.keep_effect(connection, RegionSuspended(1_800_000_000.0, region, count))
    path = f"/api/v1/regions/{region}"
    shown = await server.call("GET", path)
    assert shown.body["sick"] == {
        "since": "2027-01-15T08:00:00Z",
        "why": "7 of 8 beats are bad there and nowhere else",
    }
    again = await server.call("PUT", path, shown.body)  # what is shown may be sent back
    assert again.status == 200
    page = await server.call("GET", "/console/regions")
    assert "7 of 8 beats were bad there" in page.body
    async with transaction(server.services.pool) as connection:
        assert await regions.keep_effect(connection, RegionReturned(1_800_000_600.0, region, "well"))
    assert (await server.call("GET", path)).body["sick"] is None
    listed = await server.call("GET", "/api/v1/regions")
    assert [item["sick"] for item in listed.body["items"]] == [None] * len(listed.body["items"])


async def test_a_window_of_another_page_is_not_named_to_who_may_not_read_that_page(server: Server) -> None:
    await make(server, "fed", components={"blog/site": {}})
    declared = {
        "slug": "secret-move",
        "page": "blog",
        "start": "2026-01-01T00:00:00Z",
        "components": ["site"],
    }
    window = await server.call("POST", "/api/v1/maintenances", declared | {"duration": "365d"})
    assert window.status == 201, window.body
    async with transaction(server.services.pool) as connection:
        fed = await objects.find(connection, "beat", "fed")
        moved = await objects.find(connection, "maintenance", "secret-move")
        state = State(stage=Stage.CRITICAL, suppressed_by=(f"maintenance:{moved.id}",))
        bound = Bound(regions=("eu",), windows=(Window(0.0, 4e9, str(moved.id)),))
        await states.save_bounds(connection, {fed.id: bound})
        query = "UPDATE states SET state = $2, stage = 'critical' WHERE subject_id = $1"
        await connection.execute(query, fed.id, to_builtins(state))
        turned = Transition(fed.id, 1.8e9, Stage.OK, Stage.CRITICAL, {}, state.suppressed_by)
        await states.record_transitions(connection, [turned])
    for path in (
        "api/v1/beats/fed",
        "api/v1/beats/fed/explain",
        "api/v1/beats/fed/transitions",
        "console/beats/fed",
    ):
        assert "secret-move" in str((await server.call("GET", f"/{path}?page=shop")).body), path
        seen = await server.call("GET", f"/{path}?page=shop", who="viewer")
        assert seen.status == 200
        assert "secret-move" not in str(seen.body), path
    shown = await server.call("GET", "/api/v1/beats/fed", who="viewer")
    assert shown.body["suppressed_by"] == [{"kind": "maintenance", "id": None, "slug": None}]
