"""Incidents that Slack hears of: from the database through the outbox and the real exporter to a local Slack."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from engine import delivery
from engine.clock import SystemClock
from engine.delivery import Delivery, Target
from engine.secrets import Secrets
from engine.store import drafts, incidents, objects, outbox, reviews, slack, telling
from engine.store.audit import Actor
from engine.store.database import Pool, transaction
from engine.store.ids import derived_id, show
from engine.store.incidents import Said
from engine.store.secrets import Keyring
from evaluators.facts import EpisodeOpened, StepProposed
from exporters.outcome import Delivered, Memory, Outcome
from rules.address import EgressPolicy
from tests.rig.slack import TEAM, TOKEN, LocalSlack, local_slack
from upbeat.targets import Targets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from evaluators.model import Item
    from rules.incident import Step

ACTOR = Actor("ada", "api")
OWN, OTHER = "C0ANNOUNCE", "C0OTHER"


class Later(SystemClock):
    """So much later that what a dead process had begun is nobody's any more."""

    def epoch_s(self) -> float:
        return super().epoch_s() + 2 * outbox.HOLD_S


@dataclass
class Desk:
    """A page that says what Slack hears, and a connected workspace."""

    pool: Pool
    local: LocalSlack
    targets: Targets
    page: objects.Stored
    now: float
    held: asyncio.Event = field(default_factory=asyncio.Event)
    holds: bool = False

    async def say(self, step: Step, text: str, *, notify: bool = True, name: str = "one") -> UUID:
        incident = derived_id("test", name)
        status = {"open": "investigating", "update": None, "resolve": "resolved"}[step]
        async with transaction(self.pool) as db:
            said = Said(step, status, f"Incident {name}", text, {}, self.now, "ada", notify=notify)
            if step == "open":
                await incidents.begin(db, incident, self.page.id, said)
            else:
                await incidents.say(db, incident, said)
        return incident

    async def set(self, **slack_: Any) -> None:
        async with transaction(self.pool) as db:
            spec = self.page.spec | {"slack": {"channel": "ops", **slack_}}
            self.page = await objects.replace(db, ACTOR, self.page, spec)

    async def send(self, target: Target, item: Item, memory: Memory) -> Outcome:
        outcome = await self.targets.send(target, item, memory)
        if self.holds and isinstance(outcome, Delivered):
            self.held.set()
            await asyncio.Event().wait()  # Slack has it, and nobody will write that down
        return outcome

    @contextlib.asynccontextmanager
    async def delivering(self, holder: str, clock: SystemClock) -> AsyncIterator[None]:
        one = Delivery(self.pool, self.send, holder=holder, clock=clock, public_url=lambda: "https://up")
        task = asyncio.create_task(one.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def drain(self, clock: SystemClock | None = None) -> None:
        async with self.delivering("another", clock or SystemClock()), asyncio.timeout(30):
            while await self.pool.fetchval("SELECT count(*) FROM outbox WHERE status = 'pending'"):
                await asyncio.sleep(0.02)

    def said(self, channel: str) -> list[str]:
        return [one["text"] for one in self.local.channels[channel]["messages"]]


@pytest.fixture
async def desk(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(outbox, "SCHEDULE_S", (0.01, 0.01))
    monkeypatch.setattr(delivery, "IDLE_S", 0.02)
    keyring = Keyring([bytes(32)])
    secrets = Secrets({}, keyring)
    async with local_slack() as local:
        local.add(OWN)
        local.add(OTHER)
        async with transaction(pool) as db:
            spec = {"slug": "shop", "name": "Shop", "slack": {"channel": "ops"}}
            page = await objects.create(db, ACTOR, "page", None, spec)
            bot = {"slug": "ops", "type": "slack_bot", "workspace": TEAM, "channel": OWN}
            await objects.create(db, ACTOR, "channel", page.id, bot)
            await slack.connect(db, ACTOR, keyring, TEAM, "Acme", TOKEN)
            await secrets.refresh(db)
        targets = Targets(EgressPolicy(["127.0.0.0/8"]), secrets)
        targets.slack_api = f"{local.url}/api/"
        yield Desk(pool, local, targets, page, SystemClock().epoch_s())
        await targets.close()


async def test_an_incident_is_announced_as_a_thread_that_follows_it(desk: Desk) -> None:
    await desk.say("open", "We look.")
    await desk.say(
        "update", "Found.", notify=False
    )  # customers are not notified: nobody is, the picture changes
    await desk.say("resolve", "Fixed.")
    await desk.drain()
    assert desk.said(OWN) == ["🟢 Incident one", "Resolved: Incident one"]


async def test_a_linked_channel_hears_what_it_is_set_to(desk: Desk) -> None:
    await desk.set(announce=False, channels={OTHER: {"on": ["resolve"]}})
    incident = await desk.say("open", "We look.")
    async with transaction(desk.pool) as db:
        await slack.speak_of(db, incident, TEAM, OTHER)
        await slack.speak_of(db, incident, TEAM, OWN)
    await desk.say("update", "Found.")
    await desk.say("resolve", "Fixed.")
    await desk.drain()
    assert desk.said(OTHER) == ["🟢 Incident one"]
    assert desk.said(OWN) == ["🟢 Incident one", "Resolved: Incident one"]


async def test_a_death_between_slacks_answer_and_our_commit_leaves_one_message(desk: Desk) -> None:
    await desk.say("open", "We look.")
    desk.holds = True
    async with desk.delivering("one", SystemClock()), asyncio.timeout(30):
        await desk.held.wait()
    desk.holds = False
    await desk.say("resolve", "Fixed.")
    await desk.drain(Later())
    assert desk.said(OWN) == ["🟢 Incident one", "Resolved: Incident one"]
    assert "conversations.history" in desk.local.calls


async def test_a_draft_that_is_decided_elsewhere_says_so_in_slack(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        spec = {"slug": "home", "type": "http", "url": "https://shop.example/", "channels": ["ops"]}
        beat = await objects.create(db, ACTOR, "beat", desk.page.id, spec)
        await reviews.open_episodes(db, [(beat, EpisodeOpened(desk.now, 1, "critical"))])
        (action,) = await reviews.propose(
            db, [reviews.Proposal(beat.id, 1, StepProposed(desk.now, "open", "critical"))]
        )
        row = await reviews.one(db, action)
        await telling.tell_all(db, [drafts.waiting(row, desk.now, "https://up.example")])
    await desk.drain()
    (offer,) = desk.local.channels[OWN]["messages"]
    assert offer["blocks"][-1]["elements"][0]["value"] == f"{show('action', action)}:1"

    async with transaction(desk.pool) as db:
        await reviews.edit(db, ACTOR, action, 1, desk.now, text="Other words.")
    await desk.drain()
    assert offer["blocks"][-1]["elements"][0]["value"] == f"{show('action', action)}:2"
    async with transaction(desk.pool) as db:
        await reviews.approve(db, ACTOR, action, 2, desk.now)
    await desk.drain()
    assert offer["text"].startswith("📝 Approved by ada: ")
    assert all(block["type"] != "actions" for block in offer["blocks"])
    assert desk.said(OWN)[1:] == ["🔴 Outage: home"]  # what customers read now, as a thread of its own


async def test_a_draft_that_is_withdrawn_loses_its_buttons_and_nobody_is_told_again(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        spec = {"slug": "home", "type": "http", "url": "https://shop.example/", "channels": ["ops"]}
        beat = await objects.create(db, ACTOR, "beat", desk.page.id, spec)
        await reviews.open_episodes(db, [(beat, EpisodeOpened(desk.now, 1, "critical"))])
        (action,) = await reviews.propose(
            db, [reviews.Proposal(beat.id, 1, StepProposed(desk.now, "open", "critical"))]
        )
        waits = drafts.waiting(await reviews.one(db, action), desk.now, "https://up.example")
        await telling.tell_all(db, [waits])
    await desk.drain()
    async with transaction(desk.pool) as db:
        await reviews.stop_speaking(db, reviews.episode_id(beat.id, 1), desk.now, "it is over")
    for _ in range(2):
        async with transaction(desk.pool) as db:
            await slack.withdraw(db, desk.now, "https://up.example")
        await desk.drain()
    (offer,) = desk.local.channels[OWN]["messages"]
    assert offer["text"].startswith("📝 Withdrawn: ")
    assert all(block["type"] != "actions" for block in offer["blocks"])


async def test_many_announcements_at_once_are_in_no_digest(desk: Desk) -> None:
    for n in range(15):
        await desk.say("open", "We look.", name=f"no-{n}")
    await desk.drain()
    assert sorted(desk.said(OWN)) == sorted(f"🔴 Incident no-{n}" for n in range(15))


async def test_channels_are_reminded_of_an_incident_without_news_once_for_each_interval(desk: Desk) -> None:
    await desk.set(reminder="30m", channels={OTHER: {"reminder": "2h"}})
    incident = await desk.say("open", "We look.")
    async with transaction(desk.pool) as db:
        await slack.speak_of(db, incident, TEAM, OTHER)
    for minutes in (29, 31, 32, 59, 61, 121):
        async with transaction(desk.pool) as db:
            await slack.remind(db, desk.now + minutes * 60, "https://up.example")
    await desk.drain()
    assert desk.said(OWN)[1:] == [f"🔔 No update for {said}: Incident one" for said in ("30m", "1h", "2h")]
    assert desk.said(OTHER) == ["🔔 No update for 2h: Incident one"]
    reminder = desk.local.channels[OWN]["messages"][-1]
    assert reminder["blocks"][-1]["elements"][0]["value"] == show("incident", incident)


async def test_a_channel_that_was_archived_holds_up_nothing_that_follows(desk: Desk) -> None:
    await desk.say("open", "We look.")
    await desk.drain()
    desk.local.channels[OWN]["archived"] = True
    await desk.say("update", "Found.")
    await desk.drain()
    desk.local.channels[OWN]["archived"] = False
    await desk.say("resolve", "Fixed.")
    await desk.drain()
    assert desk.said(OWN) == ["🟢 Incident one", "Resolved: Incident one"]


async def test_a_workspace_that_was_disconnected_is_a_dead_letter_that_says_so(desk: Desk) -> None:
    async with transaction(desk.pool) as db:
        await slack.disconnect(db, ACTOR, TEAM)
        await desk.targets._secrets.refresh(db)
    await desk.say("open", "We look.")
    await desk.drain()
    row = await desk.pool.fetchrow("SELECT status, last_error FROM outbox WHERE item->>'type' = 'post'")
    assert row
    assert row["status"] == "dead"
    assert "connect" in row["last_error"]
