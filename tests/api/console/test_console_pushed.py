"""Console pages of what others push: a heartbeat's URL and pings, external beats, open signals."""

import html
import re
from typing import TYPE_CHECKING

import pytest

from engine.store import objects, pings, pushed, signals
from engine.store.database import transaction
from engine.store.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn


async def test_a_heartbeat_is_added_and_shows_its_url(
    server: "Server", admin: "Person", sign_in: "SignIn"
) -> None:
    slug = f"job-{new_id().hex[-6:]}"
    assert "/console/beats/new/heartbeat" in (await admin.get("/console/beats/new")).html
    await admin.get("/console/beats/new/heartbeat")
    sent = {"slug": slug, "cron": "30 2 * * *", "timezone": "Europe/Berlin", "grace": "10m", "page": "shop"}
    page = await admin.post("/console/beats/new/heartbeat", sent)
    assert (page.status, "It waits for the first ping of its URL." in page.html) == (200, True)
    assert "waits for the first ping" in page.html
    assert "a ping at 30 2 * * * (Europe/Berlin)" in page.html
    assert "Run now" not in page.html
    found = re.search(r"<code>(\S*/ping/[\w-]{32})</code>", page.html)
    assert found
    assert (
        f"30 2 * * * /path/to/job; curl -fsS -m 10 --retry 5 --retry-connrefused -o /dev/null {found[1]}/$?"
        in html.unescape(page.html)
    )
    fact = pushed.Ping("fail", "POST", "192.0.2.1", "", "run-1", 3)
    async with transaction(server.services.pool) as db:
        beat = await objects.find(db, "beat", slug)
        one = pushed.Pushed(1, beat.id, server.services.clock.epoch_s(), fact, b"<b>token=abcdef</b>")
        await pings.keep(db, [(one, False)])
    page = await admin.get(f"/console/beats/{slug}?page=shop")
    assert "fail, exit code 3" in page.html
    assert "paused, not counted" in page.html
    assert "token=***" in page.html
    assert "abcdef" not in page.html
    viewer = await (await sign_in("viewer@shop")).get(f"/console/beats/{slug}?page=shop")
    assert (viewer.status, found[1] in viewer.html) == (200, False)
    page = await admin.post(f"/console/beats/{slug}/ping-key/rotate?page=shop")
    assert "has another URL" in page.html
    assert found[1] not in page.html


async def test_an_external_beat_shows_its_signals(server: "Server", admin: "Person") -> None:
    slug = f"supplier-{new_id().hex[-6:]}"
    await admin.get("/console/beats/new/external")
    page = await admin.post("/console/beats/new/external", {"slug": slug, "page": "shop"})
    assert "it is ok until somebody reports otherwise" in page.html
    assert f"upbeat report {slug} --ok" in page.html
    assert f"/api/v1/beats/{slug}/report" in page.html
    async with transaction(server.services.pool) as db:
        beat = await objects.find(db, "beat", slug)
        at = server.services.clock.epoch_s()
        report = pushed.Report("report", "orders", "critical", "orders are <refused>", at, "ops")
        await signals.keep(db, beat.id, report, at)
    page = await admin.get(f"/console/beats/{slug}?page=shop")
    assert "orders are &lt;refused&gt;" in page.html


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"slug": "x", "every": "often"}, "is not a duration"),
        ({"slug": "x", "every": "5m", "cron": "* * * * *"}, "either every"),
        ({"slug": "x", "cron": "* *"}, "has five fields"),
        ({"slug": "home", "every": "5m"}, "there is a beat"),
    ],
)
async def test_a_mistake_is_shown_where_it_is(admin: "Person", sent: dict[str, str], said: str) -> None:
    await admin.get("/console/beats/new/heartbeat")
    page = await admin.post("/console/beats/new/heartbeat", sent | {"page": "shop"})
    assert page.status in (409, 422)
    assert said in html.unescape(page.html)
