"""What others push to a running Upbeat: pings and their silence, reports, and what is left of both after kill -9."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from tests.rig.process import Upbeat, fresh_folder, until, upbeat

CONFIG = """\
version: 1
page: {slug: shop, name: Shop}
defaults: {channels: [ops], interval: 5s, timeout: 1s}
channels:
  - {slug: ops, type: webhook, url: "http://127.0.0.1:9/"}
beats:
  - {slug: job, type: heartbeat, every: 1s, grace: 0s}
  - {slug: patient, type: heartbeat, every: 1h}
  - {slug: supplier, type: external}
"""


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Upbeat]:
    with fresh_folder() as folder:
        async with upbeat(folder, CONFIG) as running:
            yield running


async def ping(running: Upbeat, slug: str, more: str = "", method: str = "GET") -> int:
    url = (await running.get(f"/beats/{slug}"))["ping"]["url"]
    status, _ = await running.call(method, "//" + url.split("/", 3)[3] + more)
    return status


async def becomes(running: Upbeat, slug: str, stage: str, within_s: float = 30.0) -> dict[str, Any]:
    async def is_so() -> Any:
        beat = await running.get(f"/beats/{slug}")
        return beat if beat["stage"] == stage else None

    found: dict[str, Any] = await until(is_so, f"{slug} is {stage}", within_s)
    return found


async def errors(running: Upbeat, slug: str) -> list[str]:
    """Of its results, oldest first: what they failed with, or their verdicts."""
    rows = await running.items(f"/beats/{slug}/results")
    return [row["error"]["type"] if row["error"] else row["verdict"] for row in reversed(rows)]


async def test_pings_silence_and_reports_survive_a_kill(running: Upbeat) -> None:
    assert (await running.get("/beats/job"))["stage"] == "unknown"
    assert (await becomes(running, "supplier", "ok"))["votes"] == []
    assert await ping(running, "job") == 200
    beat = await becomes(running, "job", "ok")
    assert [vote["region"] for vote in beat["votes"]] == ["server"]
    said = {"verdict": "warning", "message": "slow"}
    status, answer = await running.call("POST", "/beats/supplier/report", said)
    assert (status, answer["stage"], answer["decided"]) == (200, "warning", True)
    assert await ping(running, "patient", "/3?rid=n1", "POST") == 200
    await becomes(running, "patient", "critical")
    assert (await becomes(running, "job", "critical"))["ping"]["missed"] is True
    assert await errors(running, "job") == ["ok", "heartbeat.missed"]

    # What is acknowledged right before a kill counts after it, once.
    assert await ping(running, "job") == 200
    assert await ping(running, "patient", "/0?rid=n2") == 200
    running.kill()
    await asyncio.sleep(3)  # longer than the job's period and grace: nobody could hear it
    await running.start()
    await becomes(running, "patient", "ok")
    assert await errors(running, "patient") == ["heartbeat.failed", "ok"]
    assert [(p["code"], p["run"]) for p in await running.items("/beats/patient/pings")] == [
        (0, "n2"),
        (3, "n1"),
    ]
    assert (await running.get("/beats/supplier"))["signals"][0]["message"] == "slow"
    status, answer = await running.call("POST", "/beats/supplier/report", {"verdict": "ok"})
    assert (answer["stage"], answer["signals"]) == ("ok", [])
    episodes = await running.items("/episodes")
    assert [e["cause"] for e in episodes if e["owner"] != "job"] == ["recovered", "recovered"]

    # The job's ping may have been sent to nobody: only one that could be heard is missed.
    await becomes(running, "job", "critical")
    ends = ["heartbeat.unheard", "heartbeat.missed"]
    assert await errors(running, "job") == ["ok", "heartbeat.missed", "ok", *ends]


async def test_nothing_of_a_ping_is_left_over(running: Upbeat) -> None:
    socket = running.data / "run"
    connection = await asyncpg.connect(f"postgresql://upbeat@/upbeat?host={socket}&port=5432")
    try:
        await until(lambda: _is_empty(connection), "everything pushed is folded")
        key = (await running.get("/beats/job"))["ping"]["url"].rsplit("/", 1)[1]
        assert key not in running.log.read_text()
        for table in ("audit", "results", "transitions", "outbox", "idempotency"):
            rows = await connection.fetch(f"SELECT t::text FROM {table} t")
            assert not [row for row in rows if key in row[0]]
        spans = [row["at"] for row in await connection.fetch("SELECT at FROM pings ORDER BY id")]
        assert spans == sorted(spans)
        assert isinstance(spans[0], datetime)
    finally:
        await connection.close()


async def _is_empty(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    return not await connection.fetchval("SELECT count(*) FROM pushed")
