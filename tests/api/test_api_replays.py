"""Replays over REST: asked for, followed, cancelled; who may, and what is refused. What they find is tests/engine/test_replay.py."""

from typing import Any
from uuid import UUID

import msgspec

from engine.replay import join, work
from engine.store import jobs, replays
from engine.store.database import transaction
from engine.store.ids import read
from tests.api.conftest import Server

PATH = "/api/v1/replays"
POLICY: dict[str, Any] = {"quorum": {"critical": "any"}}


async def beat(server: Server, slug: str, **spec: Any) -> None:
    body = {"slug": slug, "type": "tcp", "host": "h.example", "port": 443, "page": "shop", **spec}
    made = await server.call("POST", "/api/v1/beats", body)
    assert made.status == 201, made.body


async def ran(server: Server, replay: str) -> None:
    """As a worker would."""
    replay_id = read("replay", replay)
    assert replay_id is not None
    async with server.services.pool.acquire() as connection:
        plan = replays.decode_plan(await jobs.plan_of(connection, replay_id))
        found = await work(connection, plan, 0, 1, lambda *_: None)
        await jobs.finish(connection, replay_id, join([msgspec.json.encode(found)]), found.rows)


async def cleared(server: Server) -> None:
    async with transaction(server.services.pool) as connection:
        await connection.execute("DELETE FROM jobs")


async def test_a_replay_is_asked_for_followed_and_read(server: Server) -> None:
    await cleared(server)
    await beat(server, "tried")
    asked = await server.call("POST", PATH, {"beats": ["tried"], "since": "2h", "policy": POLICY})
    assert (asked.status, asked.body["status"]) == (202, "waiting")
    assert asked.headers["Location"] == f"{PATH}/{asked.body['id']}"
    await ran(server, asked.body["id"])
    done = await server.call("GET", f"{PATH}/{asked.body['id']}")
    assert (done.status, done.body["status"]) == (200, "done")
    (one,) = done.body["replayed"]
    assert one["slug"] == "tried"
    assert one["old"]["episodes"] == one["new"]["episodes"] == []
    assert len(done.body["digest"]) == 64


async def test_what_is_exact_needs_no_policy(server: Server) -> None:
    await cleared(server)
    asked = await server.call("POST", PATH, {"page": "shop", "exact": True})
    assert asked.status == 202, asked.body
    await ran(server, asked.body["id"])
    done = await server.call("GET", f"{PATH}/{asked.body['id']}")
    assert {one["reason"] for one in done.body["retraced"]} == {"nothing was folded yet"}


async def test_a_replay_is_its_readers_and_cancelled_it_stays_so(server: Server) -> None:
    await cleared(server)
    await beat(server, "private")
    asked = await server.call("POST", PATH, {"beats": ["private"], "policy": POLICY}, who="viewer")
    assert asked.status == 202, asked.body
    path = f"{PATH}/{asked.body['id']}"
    assert (await server.call("GET", path, who="other")).status == 404
    assert (await server.call("DELETE", path, who="reviewer")).status == 403
    assert (await server.call("DELETE", path, who="viewer")).status == 204
    assert (await server.call("GET", path)).body["status"] == "cancelled"
    assert (await server.call("GET", f"{PATH}/rpl_{UUID(int=7).hex}")).status == 404


async def test_too_many_at_once_are_refused(server: Server) -> None:
    await cleared(server)
    await beat(server, "busy")
    statuses = [
        (await server.call("POST", PATH, {"beats": ["busy"], "policy": POLICY})).status
        for _ in range(jobs.MOST_OF_ONE + 1)
    ]
    assert statuses == [202] * jobs.MOST_OF_ONE + [429]
    await cleared(server)


async def test_mistakes_are_named_where_they_are(server: Server) -> None:
    await cleared(server)
    await beat(server, "wrong")

    async def refused(**body: Any) -> Any:
        answer = await server.call("POST", PATH, {"beats": ["wrong"], **body})
        assert answer.status == 422, answer.body
        return answer.body["errors"]

    assert (await refused(policy={"quorum": {"critical": 9}}))[0]["pointer"] == "/policy/quorum"
    assert (await refused(policy={"quorum": {"consecutive": {"open": 0}}}))[0][
        "pointer"
    ] == "/policy/quorum/consecutive/open"
    assert "no part of a policy" in (await refused(policy={"interval": "5s"}))[0]["message"]
    file = {"beats": [{"slug": "another", "quorum": {}}]}
    assert "nothing of what is replayed: beat wrong" in (await refused(policy=file))[0]["message"]
    wrong = {"beats": [{"slug": "wrong", "episodes": {"resolve_delay": "1 week"}}]}
    assert (await refused(policy=wrong))[0]["pointer"].startswith("/policy/beats/0/episodes")
    assert (await refused(policy=POLICY, exact=True))[0]["pointer"] == "/policy"
    assert (await refused(policy=POLICY, since="1h", until="2h"))[0]["pointer"] == "/since"


async def planned(server: Server, replay: str) -> dict[str, Any]:
    """The spec each beat is to have under the new policy."""
    replay_id = read("replay", replay)
    assert replay_id is not None
    async with server.services.pool.acquire() as connection:
        plan = replays.decode_plan(await jobs.plan_of(connection, replay_id))
    return {one.slug: one.specs[1] for component in plan.components for one in component}


async def test_the_defaults_of_a_file_are_those_of_its_beats(server: Server) -> None:
    await cleared(server)
    await beat(server, "plain", quorum={"critical": "all"})
    await beat(server, "own", quorum={"critical": "all"})
    job = {"slug": "job", "type": "heartbeat", "every": "1h", "page": "shop"}
    assert (await server.call("POST", "/api/v1/beats", job)).status == 201
    file = {
        "defaults": {"quorum": {"critical": "any", "min_voters": 1}, "interval": "5s"},
        "beats": [
            {"slug": "plain"},
            {"slug": "own", "page": "shop", "quorum": {"critical": 2}},
            {"slug": "job"},
            {"slug": "own", "page": "another", "quorum": {"critical": 1}},
        ],
    }
    asked = await server.call("POST", PATH, {"beats": ["plain", "own", "job"], "policy": file})
    assert asked.status == 202, asked.body
    tried = await planned(server, asked.body["id"])
    assert tried["plain"]["quorum"] == {"critical": {"open": "any"}, "min_voters": 1}
    assert tried["own"]["quorum"] == {"critical": {"open": 2}, "min_voters": 1}
    assert "quorum" not in tried["job"]
    assert "interval" not in tried["plain"]


async def test_a_replay_ends_now_at_the_latest(server: Server) -> None:
    await cleared(server)
    await beat(server, "early")
    body = {"beats": ["early"], "policy": POLICY, "until": "2100-01-01T00:00:00Z"}
    asked = await server.call("POST", PATH, body)
    assert asked.body["asked"]["until"] < "2099"
