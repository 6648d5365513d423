"""The console's page that tries a policy: without JavaScript, for who may only read."""

import re
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from engine.store import jobs
from engine.store.ids import show
from engine.store.replays import Found, Plan, Replayed
from evaluators.model import Stage
from evaluators.replay import Episode, Outcome, compare
from tests.api.console.conftest import Live, SignIn
from tests.api.test_api_replays import cleared, ran

if TYPE_CHECKING:
    from tests.api.conftest import Server

REGIONS = ("ap", "eu", "us")


async def test_a_viewer_tries_a_policy_follows_it_and_sees_both_drawn(
    server: "Server", sign_in: SignIn, live: Live
) -> None:
    await cleared(server)
    made = {"slug": "drawn", "type": "tcp", "host": "h.example", "port": 443, "page": "shop"}
    assert (await server.call("POST", "/api/v1/beats", made)).status == 201
    await server.services.pool.execute(
        "UPDATE objects SET created_at = now() - interval '1 day' WHERE slug = 'drawn'"
    )
    outage = [(3600.0 - 20.0 * n, REGIONS[n % 3], "critical" if 30 <= n < 60 else "ok") for n in range(90)]
    await live("drawn", outage)
    viewer = await sign_in("viewer@shop")
    editor = await viewer.get("/console/beats/drawn/replay")
    assert "flapping:" in editor.html
    assert "critical:" in editor.html
    wrong = await viewer.post("/console/beats/drawn/replay", {"text": "quorum: {critical: 9}", "since": "1d"})
    assert wrong.status == 422
    assert "runs in 3 region(s)" in wrong.html
    wrong = await viewer.post("/console/beats/drawn/replay", {"text": "quorum: [", "since": "1d"})
    assert (wrong.status, "line 1" in wrong.html) == (422, True)
    policy = "quorum: {consecutive: {open: 20}, confirm: off}"
    running = await viewer.post("/console/beats/drawn/replay", {"text": policy, "since": "1d"})
    assert (running.status, running.headers["Refresh"]) == (200, "2")
    assert "Waits for its turn" in running.html
    (replay,) = re.findall(r"/console/replays/(rpl_\w+)$", running.url)
    await ran(server, replay)
    done = await viewer.get(f"/console/replays/{replay}")
    assert "Refresh" not in done.headers
    assert "Missed by the new one" in done.html
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="timeline"' in done.html
    assert 'aria-label="beat drawn: old policy 1 opened' in done.html
    assert "style=" not in done.html


async def test_a_replay_is_cancelled_from_its_page(server: "Server", sign_in: SignIn) -> None:
    await cleared(server)
    viewer = await sign_in("viewer@shop")
    running = await viewer.post("/console/groups/together/replay", {"text": "quorum: {critical: all}"})
    assert running.status == 200, running.html
    gone = await viewer.post(f"{running.url.removeprefix(server.url)}/cancel")
    assert "was cancelled" in gone.html


async def test_of_many_those_that_change_come_first(server: "Server", sign_in: SignIn) -> None:
    await cleared(server)
    turns = [(1.0, Stage.OK)]
    same, other = Outcome([], turns=turns), Outcome([Episode(1.0, 2.0, "critical")], opened=1, turns=turns)
    found = [
        Replayed(show("beat", UUID(int=n)), f"beat-{n}", "beat", old, same, compare(old, same))
        for n, old in enumerate([*[same] * 59, other])
    ]
    async with server.services.pool.acquire() as connection:
        plan = Plan(0.0, 10.0, exact=False, components=[])
        asked = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
        made = await jobs.create(connection, "replay", "somebody", [], asked, plan, 1)
        assert made is not None
        await jobs.finish(connection, made, msgspec.json.encode(Found(found)))
    viewer = await sign_in("viewer@shop")
    page = await viewer.get(f"/console/replays/{show('replay', made)}")
    assert re.findall(r'<section class="card" aria-label="beat (.*?)"', page.html)[:2] == [
        "beat-59",
        "beat-0",
    ]
    assert "And 10 more" in page.html
