"""From an outbox to real receivers in virtual time: a day of silence, limits, storms, escalation, reminders, and nobody delayed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from engine import delivery
from engine.delivery import Delivery, Target
from engine.store import digests, episodes, objects, outbox, reviews, targets, telling
from engine.store.audit import Actor
from engine.store.database import Pool, transaction
from engine.store.episodes import By
from engine.store.ids import show
from evaluators.facts import EpisodeClosed, EpisodeOpened
from evaluators.model import Item, Notice
from exporters.channels.webhook import WebhookExporter
from exporters.outcome import Memory, Outcome
from rules.channels.webhook import WebhookChannel
from rules.models import TYPED
from tests.rig.virtual import Time

ACTOR = Actor("ada@shop.example", "api")
HOUR = 3600.0


@dataclass
class Receiver:
    """Answers every POST as it is told; what it took."""

    took: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hangs: asyncio.Event | None = None
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.hangs is not None:
            await self.hangs.wait()
        if self.status < 300:
            self.took.append((await request.json())["data"])
        return web.Response(status=self.status, headers=self.headers)

    @property
    def told(self) -> list[str]:
        return [one["told"] for one in self.took]


@dataclass
class Desk:
    """A page with receivers as its channels, and beats whose episodes begin and end."""

    pool: Pool
    page: UUID
    session: aiohttp.ClientSession
    time: Time = field(default_factory=Time)
    receivers: dict[str, Receiver] = field(default_factory=dict)
    channels: dict[str, UUID] = field(default_factory=dict)
    runners: list[web.AppRunner] = field(default_factory=list)

    async def channel(self, slug: str, **spec: Any) -> Receiver:
        receiver = self.receivers[slug] = Receiver()
        app = web.Application()
        app.router.add_post("/", receiver.answer)
        self.runners.append(runner := web.AppRunner(app))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        document = {"slug": slug, "type": "webhook", "url": receiver.url, "everything": True} | spec
        async with transaction(self.pool) as db:
            self.channels[slug] = (await objects.create(db, ACTOR, "channel", self.page, document)).id
        return receiver

    async def send(self, target: Target, item: Item, memory: Memory) -> Outcome:
        assert isinstance(item, Notice)
        return await WebhookExporter(self.session, str(target.spec["url"])).export(item, memory)

    async def tell(self, *notices: Notice, ends: bool = False) -> None:
        async with transaction(self.pool) as db:
            told = [
                telling.Telling(self.page, None, n.episode or n.id, n, ends=ends and n.told == "recovery")
                for n in notices
            ]
            await telling.tell_all(db, told)

    def notice(self, told: Any, episode: str, severity: Any = "critical") -> Notice:
        at = self.time.now
        return Notice(
            f"{told}-{episode}-{at}", told, f"{episode} {told}", at, episode=episode, severity=severity
        )

    async def beat(self, slug: str) -> objects.Stored:
        async with transaction(self.pool) as db:
            spec = {"slug": slug, "type": "tcp", "host": "x.example", "port": 1}
            return await objects.create(db, ACTOR, "beat", self.page, spec)

    async def begin(self, beat: objects.Stored, severity: Any = "critical") -> UUID:
        """An episode of `beat` opens, and channels are told."""
        episode = reviews.episode_id(beat.id, 1)
        async with transaction(self.pool) as db:
            await reviews.open_episodes(db, [(beat, EpisodeOpened(self.time.now, 1, severity))])
            await db.execute("UPDATE states SET stage = $2 WHERE subject_id = $1", beat.id, severity)
        await self.tell(self.notice("open", show("episode", episode), severity))
        return episode

    async def over(self, beat: objects.Stored) -> None:
        async with transaction(self.pool) as db:
            await reviews.close_episode(db, beat.id, EpisodeClosed(self.time.now, 1, "recovered"))
        episode = show("episode", reviews.episode_id(beat.id, 1))
        await self.tell(self.notice("recovery", episode, None), ends=True)

    @property
    def by(self) -> By:
        return By(ACTOR, self.time.now, "http://upbeat.test")

    async def look(self) -> None:
        async with transaction(self.pool) as db:
            await episodes.remind(db, self.time.now, "http://upbeat.test")
            await digests.end(db, self.time.now, "http://upbeat.test")

    async def rows(self) -> list[tuple[str, str, str | None]]:
        rows = await self.pool.fetch(
            "SELECT item->>'told' AS told, status, last_error FROM outbox ORDER BY id"
        )
        return [(row["told"], row["status"], row["last_error"]) for row in rows]

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[Delivery]:
        working = Delivery(
            self.pool,
            self.send,
            holder="one",
            clock=self.time,
            chance=lambda: 0.5,
            public_url=lambda: "http://u",
        )
        task = asyncio.create_task(working.run())
        try:
            yield working
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                await asyncio.sleep(0.02)

    async def noted(self, tries: int) -> None:
        """What came of so many tries is written down."""
        async with asyncio.timeout(30):
            while await self.pool.fetchval("SELECT sum(attempts) FROM outbox") < tries:
                await asyncio.sleep(0.02)

    async def settled(self) -> None:
        """Nothing is due any more."""
        async with asyncio.timeout(30):
            while await self.pool.fetchval(
                "SELECT count(*) FROM outbox WHERE status = 'pending' AND due_at <= to_timestamp($1)",
                self.time.now,
            ):
                await asyncio.sleep(0.02)


@pytest.fixture
async def desk(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(delivery, "IDLE_S", 0.02)
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "shop", "name": "Shop"})
    async with aiohttp.ClientSession() as session:
        made = Desk(pool, page.id, session)
        made.time.now += 600.0  # ahead of the database, whose clock says when a notice was queued
        yield made
        for runner in made.runners:
            await runner.cleanup()


async def test_a_receiver_that_is_down_for_a_day_loses_nothing(desk: Desk) -> None:
    ops = await desk.channel("ops", on=["open", "recovery"])
    ops.status = 503
    await desk.tell(desk.notice("open", "a"), desk.notice("recovery", "a", None))
    tries: list[float] = []
    async with desk.delivering():
        for wait_s in (0.0, *outbox.SCHEDULE_S[:-1]):
            desk.time.now += wait_s * (1 + delivery.JITTER)
            await desk.until(lambda: ops.asked > len(tries))
            tries.append(desk.time.now)
            await desk.noted(len(tries))
        assert ops.asked == 7  # the one behind it was never tried before it
        assert tries[-1] - tries[0] < 24 * HOUR < sum(outbox.SCHEDULE_S)
        ops.status = 204
        desk.time.now += outbox.SCHEDULE_S[-1] * (1 + delivery.JITTER)
        await desk.until(lambda: len(ops.took) == 2)
    assert ops.told == ["open", "recovery"]
    assert desk.time.now - tries[0] > 24 * HOUR


async def test_a_wait_that_was_asked_for_is_kept_for_all_that_goes_there(desk: Desk) -> None:
    ops = await desk.channel("ops")
    ops.status, ops.headers = 429, {"Retry-After": "120"}
    await desk.tell(desk.notice("open", "a"))
    async with desk.delivering():
        await desk.until(lambda: ops.asked == 1)
        await desk.settled()
        await desk.tell(desk.notice("open", "b"))
        desk.time.now += 119.0
        await asyncio.sleep(0.3)
        assert ops.asked == 1
        ops.status, ops.headers = 204, {}
        desk.time.now += 2.0
        await desk.until(lambda: len(ops.took) == 2)
    assert sorted(one["episode"] for one in ops.took) == ["a", "b"]


async def test_to_be_asked_to_come_later_is_no_failed_try_for_a_day(desk: Desk) -> None:
    ops, others = await desk.channel("ops", on=["open"]), await desk.channel("others", on=["delivery"])
    ops.status, ops.headers = 429, {"Retry-After": "3600"}
    await desk.tell(desk.notice("open", "a"))

    async def noted(tries: int) -> None:
        await desk.until(lambda: ops.asked == tries)
        await desk.settled()
        while (
            await desk.pool.fetchval(
                "SELECT failures FROM targets t JOIN objects o ON o.id = t.target_id WHERE slug = 'ops'"
            )
            < tries
        ):
            await asyncio.sleep(0.02)

    async with desk.delivering():
        for hour in range(24):
            await noted(hour + 1)
            desk.time.now += HOUR
        await noted(25)
        assert await desk.pool.fetchval("SELECT max(attempts) FROM outbox") == 1
        ops.status, ops.headers = 204, {}
        desk.time.now += HOUR
        await desk.until(lambda: len(ops.took) == 1)
    assert set(others.told) == {"delivery"}


async def test_a_slow_target_with_many_lines_delays_no_other(desk: Desk) -> None:
    slow, quick = await desk.channel("slow"), await desk.channel("quick")
    slow.hangs = asyncio.Event()
    await desk.tell(*(desk.notice("open", str(n)) for n in range(60)))
    async with desk.delivering():
        await desk.until(lambda: len(quick.took) == 60)
        assert slow.asked <= delivery.PER_TARGET
        slow.hangs.set()
        await desk.until(lambda: len(slow.took) == 60)


async def test_a_redirect_is_not_followed_and_others_are_told_of_the_dead_letter(desk: Desk) -> None:
    ops, others = await desk.channel("ops", on=["open"]), await desk.channel("others", on=["delivery"])
    ops.status, ops.headers = 302, {"Location": others.url}
    await desk.tell(desk.notice("open", "a"), desk.notice("open", "b"))
    async with desk.delivering():
        await desk.until(lambda: bool(others.took) and ops.asked == 2)
        await desk.settled()
    assert others.told == ["delivery"]  # once an hour, however much is dead
    assert "ops did not get something, and will not: HTTP 302" in others.took[0]["title"]


async def test_one_that_is_gone_is_not_asked_again_until_it_is_edited_and_gets_its_dead_letters(
    desk: Desk,
) -> None:
    ops = await desk.channel("ops", on=["open"])
    ops.status = 410
    await desk.tell(desk.notice("open", "a"))
    async with desk.delivering():
        await desk.until(lambda: ops.asked == 1)
        await desk.settled()
        await desk.tell(desk.notice("open", "b"))
        await desk.settled()
        assert ops.asked == 1
        async with desk.pool.acquire() as db:
            (row,) = await targets.health(db, None)
        assert (row["slug"], row["failures"], row["dead"], row["error"]) == (
            "ops",
            1,
            2,
            "HTTP 410: gone for good",
        )
        assert row["stopped_at"] is not None
        ops.status = 204
        async with transaction(desk.pool) as db:
            stored = await objects.find(db, "channel", "ops")
            await objects.replace(db, ACTOR, stored, stored.spec | {"name": "Ops"})
            assert await outbox.retry(db, ACTOR, None, target_id=stored.id) == 2
        await desk.until(lambda: len(ops.took) == 2)
        await desk.settled()
        async with desk.pool.acquire() as db:
            (row,) = await targets.health(db, None)
    assert (row["failures"], row["dead"], row["stopped_at"]) == (0, 0, None)
    assert sorted(one["episode"] for one in ops.took) == ["a", "b"]


async def test_an_escalation_is_told_only_of_what_nobody_took(desk: Desk) -> None:
    boss = await desk.channel("boss", after="15m")
    taken, left = await desk.beat("taken"), await desk.beat("left")
    mine, _ = await desk.begin(taken), await desk.begin(left)
    async with transaction(desk.pool) as db:
        await episodes.acknowledge(db, desk.by, mine)
    async with desk.delivering():
        desk.time.now += 16 * 60
        await desk.until(lambda: len(boss.took) == 1)
        await desk.over(taken)
        await desk.over(left)
        await desk.until(lambda: len(boss.took) == 2)
        await desk.settled()
    assert [(one["told"], one["episode"] == show("episode", mine)) for one in boss.took] == [
        ("open", False),
        ("recovery", False),
    ]
    assert await desk.rows() == [
        ("open", "dropped", "ada@shop.example acknowledged it before"),
        ("open", "done", None),
        ("acknowledged", "dropped", "ada@shop.example acknowledged it before"),
        ("recovery", "done", None),
    ]


async def test_what_is_over_before_anybody_may_be_told_is_dropped_and_says_so(desk: Desk) -> None:
    await desk.channel("boss", after="15m")
    beat = await desk.beat("b")
    await desk.begin(beat)
    await desk.over(beat)
    why = "it was over before its opening was told"
    assert await desk.rows() == [("open", "dropped", why), ("recovery", "dropped", why)]


async def test_they_are_reminded_until_somebody_acknowledges_and_not_while_it_is_snoozed(desk: Desk) -> None:
    ops = await desk.channel("ops", remind="30m", on=["open", "reminder", "acknowledged"])
    episode = await desk.begin(await desk.beat("b"))
    async with desk.delivering():
        await desk.until(lambda: len(ops.took) == 1)
        await desk.settled()
        for minutes, told in ((29, 1), (2, 2), (5, 2), (31, 3)):
            desk.time.now += minutes * 60
            await desk.look()
            await desk.settled()
            assert len(ops.took) == told
        async with transaction(desk.pool) as db:
            await episodes.snooze(db, desk.by, episode, 2 * HOUR)
        desk.time.now += 119 * 60
        await desk.look()
        desk.time.now += 61
        await desk.look()
        await desk.until(lambda: len(ops.took) == 4)
        async with transaction(desk.pool) as db:
            await episodes.acknowledge(db, desk.by, episode)
        await desk.until(lambda: len(ops.took) == 5)
        desk.time.now += 5 * HOUR
        await desk.look()
        await desk.settled()
    assert ops.told == ["open", "reminder", "reminder", "reminder", "acknowledged"]
    assert ops.took[2]["title"] == "b is still critical after 67m, and nobody acknowledged it"


async def test_reminders_leave_nothing_behind_where_they_cannot_be_told(desk: Desk) -> None:
    night = {"from": "00:00", "to": "00:01", "outside": "drop", "days": ["mon"]}
    ops = await desk.channel("ops", remind="1m", on=["open", "reminder"])
    await desk.begin(await desk.beat("b"))
    async with desk.delivering():
        await desk.until(lambda: len(ops.took) == 1)
        await desk.settled()
        ops.status = 410
        for _ in range(5):  # what is given up at once is not tried again at every look
            desk.time.now += 30.0
            await desk.look()
            await desk.settled()
        rows = await desk.rows()
        assert [row[:2] for row in rows[1:]] == [("reminder", "dead")] * 2
        async with transaction(desk.pool) as db:
            stored = await objects.find(db, "channel", "ops")
            await objects.replace(db, ACTOR, stored, stored.spec | {"hours": night})
        for _ in range(5):
            desk.time.now += 600.0
            await desk.look()
        assert await desk.rows() == rows


async def test_what_waits_leaves_once_its_channel_has_nothing_to_wait_for(desk: Desk) -> None:
    boss = await desk.channel("boss", after="15m")
    episode = await desk.begin(await desk.beat("b"))
    async with desk.delivering():
        await desk.settled()
        assert not boss.took
        async with transaction(desk.pool) as db:
            stored = await objects.find(db, "channel", "boss")
            await objects.replace(db, ACTOR, stored, stored.spec | {"after": None})
            await episodes.acknowledge(db, desk.by, episode)
        await desk.until(lambda: len(boss.took) == 2)
    assert boss.told == ["open", "acknowledged"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE episodes SET flapping = true", "flapping"),
        ("UPDATE states SET stage = 'unknown'", "unknown"),
    ],
)
async def test_a_reminder_says_what_it_is_now(desk: Desk, change: str, said: str) -> None:
    ops = await desk.channel("ops", remind="30m", on=["open", "reminder"])
    await desk.begin(await desk.beat("b"))
    await desk.pool.execute(change)
    async with desk.delivering():
        await desk.until(lambda: len(ops.took) == 1)
        await desk.settled()
        desk.time.now += 1800
        await desk.look()
        await desk.until(lambda: len(ops.took) == 2)
    assert ops.took[1]["title"] == f"b is still {said} after 30m, and nobody acknowledged it"


async def test_a_storm_is_a_digest_that_says_all_of_it_and_drops_nothing(desk: Desk) -> None:
    ops, wide = await desk.channel("ops", digest_over=10), await desk.channel("wide")
    for part in range(5):
        await desk.tell(*(desk.notice("open", f"{part}-{n}") for n in range(100)))
    async with desk.delivering() as working:
        await desk.until(lambda: len(wide.took) == 500 and bool(ops.took))
        desk.time.now += 11.0
        await desk.settled()
    assert ops.told == ["digest"]
    assert ops.took[0]["title"] == "500 news at once: 500 open"
    assert len(ops.took[0]["why"]) == 21
    digest = await desk.pool.fetchrow("SELECT id FROM outbox WHERE item->>'told' = 'digest'")
    assert digest is not None
    said = await desk.pool.fetchval("SELECT count(*) FROM outbox WHERE digest_id = $1", digest["id"])
    assert (said, working.health.digested) == (500, 500)


async def test_a_channel_whose_json_has_no_word_for_a_digest_is_told_one_by_one(desk: Desk) -> None:
    bridge = await desk.channel("bridge", digest_over=2, payload="betterstack")
    await desk.tell(*(desk.notice("open", str(n)) for n in range(5)))
    async with desk.delivering():
        await desk.until(lambda: len(bridge.took) >= 5 or "digest" in bridge.told)
    assert bridge.told == ["open"] * 5


async def test_in_a_storm_that_goes_on_a_digest_leaves_every_ten_seconds_and_one_alone_as_it_is(
    desk: Desk,
) -> None:
    ops = await desk.channel("ops", digest_over=2)
    async with desk.delivering():
        await desk.tell(*(desk.notice("open", str(n)) for n in range(5)))
        await desk.until(lambda: len(ops.took) == 1)
        await desk.tell(*(desk.notice("recovery", str(n), None) for n in range(5)))
        await asyncio.sleep(0.3)
        assert len(ops.took) == 1
        desk.time.now += 10.0
        await desk.until(lambda: len(ops.took) == 2)
        desk.time.now += 10.0
        await desk.tell(desk.notice("open", "6"))
        await desk.until(lambda: len(ops.took) == 3)
    assert ops.told == ["digest", "digest", "open"]


async def test_where_alerts_are_ended_a_digest_is_one_alert_that_ends_when_all_of_it_has(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Paired(WebhookChannel):
        pairs: ClassVar[bool] = True

    monkeypatch.setitem(TYPED["channel"], "webhook", Paired)
    pager = await desk.channel("pager", digest_over=2)
    beats = [await desk.beat(f"b{n}") for n in range(5)]
    async with desk.delivering():
        await desk.begin(beats[0])
        await desk.until(lambda: pager.told == ["open"])
        await desk.settled()
    for beat in beats[1:]:
        await desk.begin(beat)
    async with desk.delivering():
        await desk.until(lambda: len(pager.took) > 1)
        desk.time.now += 10.0
        await desk.settled()
        alone = pager.told.count("open")
        for beat in beats[:-1]:
            await desk.over(beat)
        desk.time.now += 61.0
        await desk.settled()
        await desk.look()
        assert pager.told.count("recovery") == alone
        await desk.over(beats[-1])
        await desk.settled()
        await desk.look()
        await desk.settled()
    opened = [one["episode"] for one in pager.took if one["told"] in ("open", "digest")]
    ended = [one["episode"] for one in pager.took if one["told"] == "recovery"]
    assert sorted(opened) == sorted(ended)
    assert len(opened) < 5


async def test_recoveries_of_what_a_digest_told_open_no_alert(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Paired(WebhookChannel):
        pairs: ClassVar[bool] = True

    monkeypatch.setitem(TYPED["channel"], "webhook", Paired)
    pager = await desk.channel("pager", digest_over=2)
    beats = [await desk.beat(f"b{n}") for n in range(30)]
    for beat in beats:
        await desk.begin(beat)
    async with desk.delivering():
        await desk.until(lambda: len(pager.took) == 1)
        await desk.settled()
        desk.time.now += 10.0
        async with transaction(desk.pool) as db:
            await db.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")  # all of it is found in one look
            for beat in beats:
                await reviews.close_episode(db, beat.id, EpisodeClosed(desk.time.now, 1, "recovered"))
                episode = show("episode", reviews.episode_id(beat.id, 1))
                notice = desk.notice("recovery", episode, None)
                await telling.tell_all(db, [telling.Telling(desk.page, None, episode, notice, ends=True)])
        await desk.settled()
        await desk.look()
        await desk.until(lambda: len(pager.took) > 1)
        await desk.settled()
    assert pager.told == ["digest", "recovery"]
