"""A real Prometheus Alertmanager, and two of a cluster, post into a running Upbeat whose trigger is the preset."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rules.sender import senders, trigger_of
from rules.trigger import Target
from tests.rig.alertmanager import Alertmanager, UnavailableError, program
from tests.rig.process import Upbeat, fresh_folder, until, upbeat

PATIENCE_S = 60.0
CONFIG = """\
version: 1
page: {slug: shop, name: Shop}
components: [{slug: checkout, name: Checkout}]
beats:
  - {slug: alone, type: external, components: [checkout]}
  - {slug: clustered, type: external, components: [checkout]}
  - {slug: cut-off, type: external, components: [checkout]}
"""


@pytest.fixture(scope="module")
def alertmanager() -> Path:
    try:
        return program()
    except UnavailableError as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
async def running(alertmanager: Path) -> AsyncIterator[Upbeat]:
    with fresh_folder() as folder:
        async with upbeat(folder, CONFIG) as running:
            yield running


async def listening(running: Upbeat, slug: str) -> str:
    """The URL of a new inbox, and an enabled trigger of the preset over it that moves the beat of the same name."""
    preset = next(sender for sender in senders() if sender.slug == "alertmanager")
    rule = trigger_of(preset, slug=slug, inbox=slug, target=Target(external=slug))
    status, made = await running.call("POST", "/inboxes", {"slug": slug, "page": "shop"})
    assert status == 201, made
    spec = rule.model_dump(mode="json", by_alias=True, exclude_unset=True)
    status, said = await running.call("POST", "/triggers", {**spec, "page": "shop", "enabled": True})
    assert status == 201, said
    return f"http://127.0.0.1:{running.port}/api/v1/external-events/ingest/{made['token']}"


async def becomes(running: Upbeat, slug: str, stage: str, signals: int) -> dict[str, Any]:
    async def is_so() -> Any:
        beat = await running.get(f"/beats/{slug}")
        return beat if (beat["stage"], len(beat["signals"])) == (stage, signals) else None

    found: dict[str, Any] = await until(is_so, f"{slug} is {stage} by {signals} signals", PATIENCE_S)
    return found


async def judged(running: Upbeat, slug: str, count: int) -> list[dict[str, Any]]:
    """The events of an inbox, once there are so many."""

    async def is_so() -> Any:
        events = await running.items(f"/inboxes/{slug}/events")
        return events if len(events) >= count and all(e["verdict"] != "waiting" for e in events) else None

    found: list[dict[str, Any]] = await until(is_so, f"{count} events of {slug} are judged", PATIENCE_S)
    return found


async def openings(running: Upbeat, slug: str) -> list[str]:
    """What became of the drafts of an incident of this beat."""
    actions = await running.items("/actions")
    return [action["status"] for action in actions if (action["step"], action["owner"]) == ("open", slug)]


async def test_what_it_says_is_a_signal_an_episode_and_a_draft_until_it_is_over(
    running: Upbeat, alertmanager: Path, tmp_path: Path
) -> None:
    url = await listening(running, "alone")
    async with Alertmanager(alertmanager, tmp_path / "one", url) as one:
        await one.tell("HighLatency", "web-1", "critical")
        beat = await becomes(running, "alone", "critical", 1)
        assert beat["signals"][0]["message"] == "HighLatency: web-1 is in trouble"
        await one.tell("HighLatency", "web-2", "warning")  # the same group: the next body has both
        await becomes(running, "alone", "critical", 2)
        assert await openings(running, "alone") == ["pending"]
        await one.tell("HighLatency", "web-1", "critical", is_over=True)
        await becomes(running, "alone", "warning", 1)
        await one.tell("HighLatency", "web-2", "warning", is_over=True)
        await becomes(running, "alone", "ok", 0)
        assert await openings(running, "alone") == ["withdrawn"], "nobody had approved it"
    assert {event["verdict"] for event in await judged(running, "alone", 4)} == {"matched"}


@pytest.mark.parametrize(
    "slug",
    [
        pytest.param("clustered", id="which say it once"),
        pytest.param("cut-off", id="cut off from one another, which both say it"),
    ],
)
async def test_two_of_them_are_one_incident(
    running: Upbeat, alertmanager: Path, tmp_path: Path, slug: str
) -> None:
    url = await listening(running, slug)
    async with Alertmanager(alertmanager, tmp_path / "one", url) as one:
        peers = [one.cluster] if slug == "clustered" else []
        async with Alertmanager(alertmanager, tmp_path / "two", url, peers) as two:
            for each in (one, two):  # as Prometheus does
                await each.tell("HighLatency", "web-1", "critical")
            await becomes(running, slug, "critical", 1)
            for each in (one, two):
                await each.tell("HighLatency", "web-1", "critical", is_over=True)
            events = await judged(running, slug, 2 if slug == "clustered" else 4)
            await becomes(running, slug, "ok", 0)
    assert slug == "clustered" or len(events) == 4
    assert await openings(running, slug) == ["withdrawn"]
    episodes = await running.items("/episodes?limit=100")
    assert len([episode for episode in episodes if episode["owner"] == slug]) == 1
