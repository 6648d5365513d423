"""Statuspage's public API as we speak it: field by field what theirs has, and read by a client of theirs that knows nothing of us."""

import asyncio
import json
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace as changed

from api.status.document import Document
from api.status.kept import Kept
from tests.api.status.test_status_attacks import hostile
from tests.api.status.test_status_hostile import ATTACKS
from tests.api.status.told import (
    AHEAD,
    APP,
    FAILED,
    LASTS,
    NOW,
    PAY,
    RUNS,
    TAKEN_BACK,
    WEB,
    body,
    component,
    page,
)

if TYPE_CHECKING:
    from tests.api.conftest import Server

# As Statuspage's documentation and the pages that it serves have them.
PAGE = {"id", "name", "url", "time_zone", "updated_at"}
COMPONENT = {
    "id", "name", "status", "created_at", "updated_at", "position", "description", "showcase", "start_date", "group_id",
    "page_id", "group", "only_show_if_degraded",
}  # fmt: skip
INCIDENT = {
    "id", "name", "status", "created_at", "updated_at", "monitoring_at", "resolved_at", "impact", "shortlink", "started_at",
    "page_id", "incident_updates", "components",
}  # fmt: skip
MAINTENANCE = INCIDENT | {"scheduled_for", "scheduled_until"}
UPDATE = {
    "id", "status", "body", "incident_id", "created_at", "updated_at", "display_at", "affected_components",
    "deliver_notifications", "custom_tweet", "tweet_id",
}  # fmt: skip
AFFECTED = {"code", "name", "old_status", "new_status"}
ADDRESSES = {
    "summary": {"page", "components", "incidents", "scheduled_maintenances", "status"},
    "status": {"page", "status"},
    "components": {"page", "components"},
    "incidents": {"page", "incidents"},
    "incidents/unresolved": {"page", "incidents"},
    "scheduled-maintenances": {"page", "scheduled_maintenances"},
    "scheduled-maintenances/upcoming": {"page", "scheduled_maintenances"},
    "scheduled-maintenances/active": {"page", "scheduled_maintenances"},
}
SCRIPT = """
const { Statuspage } = require('statuspage.io');
const client = new Statuspage('anything');
client.setApiUrl(process.argv[2]);
(async () => {
  const { getComponents, getStatus, getSummary, incidents, scheduledMaintenances } = client.api;
  console.log(JSON.stringify({
    components: await getComponents(), status: await getStatus(), summary: await getSummary(),
    incidents: await incidents.getAll(), unresolved: await incidents.getUnresolved(),
    upcoming: await scheduledMaintenances.getUpcoming(),
  }));
})();
"""


def read(asked: str, document: Document | None = None) -> Any:
    return json.loads(body(f"api/v2/{asked}.json", document))


@pytest.mark.parametrize("asked", ADDRESSES)
def test_fields_are_those_of_statuspage(asked: str) -> None:
    said = read(asked)
    assert said.keys() == ADDRESSES[asked]
    assert said["page"].keys() == PAGE
    for one in said.get("components", []):
        assert one.keys() == COMPONENT | ({"components"} if one["group"] else set())
    for key, fields in (("incidents", INCIDENT), ("scheduled_maintenances", MAINTENANCE)):
        for one in said.get(key, []):
            assert one.keys() == fields
            assert all(update.keys() == UPDATE for update in one["incident_updates"])
            assert all(
                a.keys() == AFFECTED for u in one["incident_updates"] for a in u["affected_components"]
            )
            assert all(about.keys() == COMPONENT for about in one["components"])


def test_moments_are_written_as_theirs() -> None:
    made = body("api/v2/summary.json").decode()
    moments = re.findall(r'"\w+_(?:at|for|until)":("[^"]+"|null)', made)
    assert len(moments) > 20
    assert all(m == "null" or re.fullmatch(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"', m) for m in moments)


def test_a_group_is_a_component_before_its_own() -> None:
    money, pay, app, web = read("components")["components"]
    assert (money["group"], money["components"], money["status"]) == (True, [PAY, APP], "partial_outage")
    assert pay["group_id"] == app["group_id"] == money["id"]
    assert [one["position"] for one in (money, pay, app, web)] == [1, 1, 2, 2]
    assert (web["group_id"], web["showcase"], web["start_date"]) == (None, True, "2026-10-21")


def test_lists_have_what_their_names_say() -> None:
    def ids(asked: str, key: str) -> list[str]:
        return [one["id"] for one in read(asked)[key]]

    assert ids("incidents", "incidents") == [LASTS.id, FAILED.id]
    assert ids("incidents/unresolved", "incidents") == ids("summary", "incidents") == [LASTS.id]
    maintenances = "scheduled_maintenances"
    assert ids("scheduled-maintenances", maintenances) == [AHEAD.id, RUNS.id, TAKEN_BACK.id]
    assert ids("scheduled-maintenances/upcoming", maintenances) == [AHEAD.id]
    assert ids("scheduled-maintenances/active", maintenances) == [RUNS.id]
    assert ids("summary", maintenances) == [RUNS.id, AHEAD.id]


def test_no_list_is_longer_than_theirs() -> None:
    many = page(
        incidents=[changed(LASTS, id=f"inc_{n:032x}") for n in range(60)],
        maintenances=[changed(AHEAD, id=f"inc_{n:032x}") for n in range(60)],
    )
    for asked, fields in ADDRESSES.items():
        said = read(asked, many)
        assert all(len(said[key]) in (0, 50) for key in fields & {"incidents", "scheduled_maintenances"})


def test_an_incident_with_a_report_is_a_postmortem_that_says_what_each_update_changed() -> None:
    over = read("incidents")["incidents"][1]
    assert (over["status"], over["impact"], over["shortlink"]) == (
        "postmortem",
        "major",
        f"https://up.example/p/shop/incidents/{FAILED.id}",
    )
    assert [update["status"] for update in over["incident_updates"]] == [
        "postmortem",
        "resolved",
        "monitoring",
        "investigating",
    ]
    assert [update["body"] for update in over["incident_updates"]] == [
        "Why\n\nA disk.",
        "It is over.",
        "Mended.",
        "We look.",
    ]
    first, second = over["incident_updates"][-1], over["incident_updates"][-2]
    assert first["affected_components"] == [
        {"code": PAY, "name": "Pay", "old_status": "operational", "new_status": "major_outage"}
    ]
    assert second["affected_components"][0]["old_status"] == "major_outage"
    assert (over["monitoring_at"], over["resolved_at"]) == (
        "2026-11-20T10:01:00.000Z",
        "2026-11-20T10:02:00.000Z",
    )


def test_what_was_cancelled_is_completed_in_their_words() -> None:
    cancelled = read("scheduled-maintenances")["scheduled_maintenances"][2]
    assert (cancelled["status"], cancelled["incident_updates"][0]["status"]) == ("completed", "completed")
    assert cancelled["impact"] == "maintenance"


@pytest.mark.parametrize(
    ("status", "impact", "indicator"),
    [
        ("operational", None, "none"),
        ("under_maintenance", None, "maintenance"),
        ("degraded_performance", None, "minor"),
        ("partial_outage", None, "major"),
        ("major_outage", None, "critical"),
        ("operational", "minor", "minor"),
        ("degraded_performance", "critical", "critical"),
        ("under_maintenance", "none", "maintenance"),
        ("major_outage", "minor", "critical"),
    ],
)
def test_the_indicator_is_the_worst_of_components_and_open_incidents(
    status: str, impact: str | None, indicator: str
) -> None:
    incidents = [changed(LASTS, impact=impact)] if impact else []
    document = page(status=status, components=[component(3, "web", status)], incidents=incidents)
    said = read("status", document)["status"]
    assert said["indicator"] == indicator
    assert said["description"] == {
        "none": "All Systems Operational",
        "maintenance": "Service Under Maintenance",
        "minor": "Partially Degraded Service",
        "major": "Partial System Outage",
        "critical": "Major Service Outage",
    }[indicator]  # fmt: skip


def test_what_is_of_a_component_that_is_not_listed_is_left_out() -> None:
    only = page(components=[component(3, "web")])
    for asked in ADDRESSES:
        assert f'"{PAY}"' not in body(f"api/v2/{asked}.json", only).decode()
    assert WEB in body("api/v2/summary.json", only).decode()


def test_the_page_is_as_new_as_the_newest_of_it() -> None:
    assert read("status")["page"] == {
        "id": f"page_{7:032x}",
        "name": "The Shop & Co.",
        "url": "https://up.example/p/shop",
        "time_zone": "Etc/UTC",
        "updated_at": "2026-11-20T11:00:00.000Z",
    }
    empty = page(components=[], incidents=[], maintenances=[])
    assert datetime.fromisoformat(read("status", empty)["page"]["updated_at"]) == NOW


def test_two_hundred_attacks_are_text() -> None:
    document = hostile(1, ATTACKS[:200])
    assert {one["name"] for one in read("components", document)["components"] if not one["group"]} == {
        *ATTACKS[:200]
    }
    assert {one["name"] for one in read("summary", document)["incidents"]} == {
        one.title for one in document.open[:50]
    }


async def _run(*command: str, within_s: float = 120.0) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), within_s)
    except TimeoutError:
        process.kill()
        await process.communicate()
        return -1, "", f"not done after {within_s:g} s"
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_client_of_statuspage_reads_a_page_unmodified(server: "Server", tmp_path: Path) -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no node or no npm here")
    install = (
        "npm",
        "install",
        "--prefix",
        str(tmp_path),
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=0",
    )
    code, _, why = await _run(*install, "statuspage.io@3.3.8")
    if code != 0:
        pytest.skip(f"npm cannot install the client: {why[-300:]}")

    async def kept(_: str) -> Document | None:
        return page()

    server.app.state.status_pages = Kept(kept)
    try:
        script = tmp_path / "read.js"
        script.write_text(SCRIPT)
        code, out, err = await _run("node", str(script), f"{server.url}/p/shop")
    finally:
        server.app.state.status_pages = None
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["status"]["status"] == {"indicator": "major", "description": "Partial System Outage"}
    assert [one["id"] for one in found["components"]["components"]][1:] == [PAY, APP, WEB]
    assert [one["id"] for one in found["incidents"]["incidents"]] == [LASTS.id, FAILED.id]
    assert [one["id"] for one in found["unresolved"]["incidents"]] == [LASTS.id]
    assert [one["id"] for one in found["upcoming"]["scheduled_maintenances"]] == [AHEAD.id]
    assert found["summary"].keys() == ADDRESSES["summary"]


async def test_other_sites_may_read_what_is_public(server: "Server") -> None:
    async def kept(_: str) -> Document | None:
        return page()

    server.app.state.status_pages = Kept(kept)
    try:
        for path in (
            "api/v2/summary.json",
            "feed.rss",
            "feed.atom",
            "feed.json",
            "calendar.ics",
            "badge.json",
        ):
            answer = await server.call("GET", f"/p/shop/{path}", who=None)
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")
            assert answer.headers["ETag"]
            again = {"If-None-Match": answer.headers["ETag"]}
            assert (await server.call("GET", f"/p/shop/{path}", who=None, headers=again)).status == 304
    finally:
        server.app.state.status_pages = None
