"""Previews over REST: asked for, followed, traced, cancelled; who may, and what is refused. What they find is tests/engine/test_preview.py."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

from api.shown_preview import ShownPreview
from engine.jobs import Jobs
from engine.store import jobs
from engine.store.database import transaction

if TYPE_CHECKING:
    from engine.embedded.supervisor import Embedded
    from tests.api.conftest import Server

PATH = "/api/v1/previews"
RULE: dict[str, Any] = {
    "slug": "tried",
    "inbox": "pasted",
    "page": "shop",
    "critical": {"value": "$.status", "eq": "firing"},
    "recovery": {"value": "$.status", "eq": "resolved"},
    "fingerprint": "{$.host}",
    "target": {"beat": "home"},
}


@pytest.fixture(scope="module", autouse=True)
async def running(server: "Server", servers: "Embedded") -> AsyncIterator[None]:
    """An inbox, and jobs that run."""
    made = await server.call(
        "POST", "/api/v1/inboxes", {"slug": "pasted", "page": "shop", "redact": ["$.who"]}
    )
    assert made.status == 201, made.body
    name = await server.services.pool.fetchval("SELECT current_database()")
    running = Jobs(server.services.pool, lambda: servers.database_url.replace("/upbeat?", f"/{name}?"))
    server.services.start_job = running.start
    yield
    server.services.start_job = lambda *_: None
    await running.close()


async def previewed(server: "Server", body: Any, who: str = "viewer") -> Any:
    """What it found in the end."""
    asked = await server.call("POST", PATH, body, who=who)
    assert asked.status == 202, asked.body
    path = asked.headers["Location"]
    assert path == f"{PATH}/{asked.body['id']}"
    while True:
        answer = await server.call("GET", path, who=who)
        assert answer.status == 200, answer.body
        if answer.body["status"] not in ("waiting", "running"):
            msgspec.convert(answer.body, ShownPreview)
            return answer.body
        await asyncio.sleep(0.02)


def samples(*bodies: Any) -> dict[str, Any]:
    return {"stored": False, "samples": [{"body": body} for body in bodies]}


async def test_a_rule_is_tried_on_what_was_pasted(server: "Server") -> None:
    firing, resolved = {"status": "firing", "host": "a"}, '{"status": "resolved", "host": "a"}'
    done = await previewed(server, {"rule": RULE, **samples(firing, resolved, "what?")})
    assert (done["status"], done["is_cut"], done["rows"]) == ("done", False, 3)
    found = done["findings"]
    assert [line["id"] for line in found["lines"]] == ["sample 1", "sample 2", "sample 3"]
    assert [line["outcomes"][0]["kind"] for line in found["lines"][:2]] == ["opened", "resolved"]
    assert found["lines"][0]["at"].endswith("Z")
    assert found["drafts"][0]["text"].startswith("home is currently unavailable")
    assert done["asked"]["samples"] == 3
    again = await previewed(server, {"rule": RULE, **samples(firing)})
    assert again["id"] != done["id"]


async def test_a_line_is_explained_without_what_people_are_not_shown(server: "Server") -> None:
    rule = RULE | {"when": {"value": "$.who", "eq": "cnry-somebody"}, "message": "{$.who}"}
    done = await previewed(
        server, {"rule": rule, **samples({"status": "firing", "host": "a", "who": "cnry-somebody"})}
    )
    path = f"{PATH}/{done['id']}/trace?event="
    traced = await server.call("GET", path + "sample 1", who="viewer")
    assert traced.status == 200, traced.body
    (item,) = traced.body["items"]
    assert (item["says"], item["fingerprint"], item["message"]) == ("critical", "a", "***")
    steps = {step["part"]: (step["holds"], step["actual"]) for step in item["trace"]}
    assert (steps["when"], steps["critical"]) == ((True, "***"), (True, "firing"))
    for other in ("sample 2", "sample 0", f"evt_{UUID(int=3).hex}", "nothing"):
        assert (await server.call("GET", path + other)).status == 404


async def test_versions_of_a_trigger_and_rules_are_compared(server: "Server") -> None:
    made = await server.call("POST", "/api/v1/triggers", RULE)
    assert made.status == 201, made.body
    edited = await server.call(
        "PATCH", "/api/v1/triggers/tried", {"critical": {"value": "$.status", "eq": "down"}}
    )
    assert edited.status == 200, edited.body
    pasted = samples({"status": "firing", "host": "a"}, {"status": "down", "host": "b"})
    old = made.body["revision"]
    by_revision = await previewed(server, {"trigger": "tried", "against": {"revision": old}, **pasted})
    counts = {"only_old": 1, "only_new": 1}
    assert by_revision["difference"]["counts"] == counts
    assert by_revision["findings"] is None
    assert by_revision["difference"]["episodes"]["moved"][0]["old"] == 1
    saved = await previewed(server, {"rule": RULE, "against": "saved", **pasted})
    assert [saved["difference"][name][0]["id"] for name in counts] == ["sample 2", "sample 1"]
    other = RULE | {"critical": {"value": "$.status", "in": ["firing", "down"]}}
    rules = await previewed(server, {"rule": other, "against": {"rule": RULE}, **pasted})
    assert rules["difference"]["counts"] == {"only_new": 1}
    first = await previewed(server, {"trigger": "tried", "revision": old, **pasted})
    assert first["findings"]["opened"] == 1


async def test_a_preview_is_its_readers(server: "Server") -> None:
    assert (await server.call("POST", PATH, {"rule": RULE, **samples("x")}, who="other")).status == 422
    assert (await server.call("POST", PATH, {"trigger": "tried"}, who="other")).status == 404
    made = await server.call("POST", PATH, {"rule": RULE, **samples("x")}, who="viewer")
    path = f"{PATH}/{made.body['id']}"
    assert (await server.call("GET", path, who="other")).status == 404
    assert (await server.call("DELETE", path, who="reviewer")).status == 403
    assert (await server.call("DELETE", path, who="viewer")).status == 204
    assert (await server.call("GET", f"/api/v1/replays/{made.body['id']}")).status == 404


async def test_what_is_stored_is_asked_by_rules_that_are_saved_or_by_an_editor(server: "Server") -> None:
    bodies = (
        {"rule": RULE},
        {"trigger": "tried", "against": {"rule": RULE}},
        {"trigger": "tried", "inbox": "pasted"},  # which may ask of another inbox what its own has not
        {"trigger": "tried"},
    )
    for who, statuses in (("reviewer", [403, 403, 403, 202]), ("editor", [202, 202, 202, 202])):
        for body, status in zip(bodies, statuses, strict=True):
            made = await server.call("POST", PATH, body, who=who)
            assert made.status == status
            if status == 202:
                await server.call("DELETE", f"{PATH}/{made.body['id']}", who=who)


async def test_mistakes_are_named_where_they_are(server: "Server") -> None:
    async def refused(**body: Any) -> Any:
        answer = await server.call("POST", PATH, {"rule": RULE, **body})
        assert answer.status == 422, answer.body
        return answer.body["errors"][0]["pointer"]

    assert await refused(rule=RULE | {"critical": {"value": "$.x["}}) == "/rule/critical/value"
    assert await refused(rule=RULE | {"inbox": "none"}) == "/rule/inbox"
    assert await refused(rule=RULE | {"fingerprint": "fixed"}) == "/rule/fingerprint"
    assert await refused(against={"rule": RULE | {"slug": "NO"}}) == "/against/rule/slug"
    assert await refused(against={}) == "/against"
    assert await refused(trigger="tried") == "/rule"
    assert await refused(rule=None, trigger="tried", revision=10**6) == "/revision"
    assert await refused(stored=False) == "/samples"
    assert await refused(samples=[{"body": ""}] * 51) == "/samples"
    assert await refused(samples=[{"at": "soon"}]) == "/samples/0/at"
    assert await refused(since="1h", until="2h") == "/since"
    assert await refused(budget="1d") == "/budget"


async def test_too_many_at_once_are_refused(server: "Server") -> None:
    start, server.services.start_job = server.services.start_job, lambda *_: None
    body = {"rule": RULE, **samples("x")}

    async def asked(who: str) -> list[int]:
        most = range(jobs.MOST_OF_ONE + 1)
        return [(await server.call("POST", PATH, body, who=who)).status for _ in most]

    async with transaction(server.services.pool) as connection:
        await connection.execute("DELETE FROM jobs")
    assert jobs.MOST_AT_ONCE == 2 * jobs.MOST_OF_ONE
    assert await asked("viewer") == [202, 202, 429]
    assert await asked("editor") == [202, 202, 429]
    assert await asked("reviewer") == [429, 429, 429]
    async with transaction(server.services.pool) as connection:
        await connection.execute("DELETE FROM jobs")
    server.services.start_job = start
