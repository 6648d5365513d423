"""The mailing loop: writes the letters of what subscribers are told, hands each to its exporter, writes down what came of it.

At least once, in order per (subscriber, incident), in turn of each page. How it looks by mail, webhook or Slack is
`exporters.letters`'. A process that is killed leaves letters that it had begun: after `HOLD_S` they are sent again, each with
the same Message-ID or webhook-id, as nobody knows whether they arrived.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from engine.clock import Clock, SystemClock
from engine.delivery import JITTER
from engine.leases import Leases
from engine.store import broadcasts, letters, subscribers
from engine.store.database import DATABASE_AWAY, Connection, Pool, Row, transaction
from engine.store.ids import show
from engine.store.letters import Fate
from engine.store.outbox import SCHEDULE_S
from engine.store.signing import signing_key, webhook_key
from evaluators.model import Envelope, Letter
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.mail import Mail
from rules.markdown import one_line
from rules.page import Page, SubscriberKind

PLACES: Final = 64
"""Requests of one kind that are on their way at once. Of mails two for each connection: one waits while one is sent."""
PER_PAGE: Final = 32
"""Requests for subscribers of one page, which is no limit of mails: those all go to one relay."""
PER_HOST: Final = 4
"""Requests to one host."""
TRY_S: Final = 25.0
"""Less than `HOLD_S`: nobody else takes up what is still on its way."""
IDLE_S: Final = 0.5
NOTE_S: Final = 0.1
EXPIRE_S: Final = 60.0
LEAVE_S: Final = 5.0
"""How long what is on its way may take when this process ends."""
MOST_RESTING: Final = 10_000

Send = Callable[[Envelope], Awaitable[Outcome]]
"""Deliver this; never raises."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Health:
    """Counts for /metrics, by kind of subscriber."""

    sent: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Way:
    """What is on its way of one kind."""

    kind: SubscriberKind
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    taken: Counter[UUID] = field(default_factory=Counter)  # by page
    busy: Counter[str] = field(default_factory=Counter)  # by host
    rests: dict[str, float] = field(default_factory=dict)  # a host asked to be left alone until then
    allowed: float = 1.0  # mails that may leave now, where the relay has a limit
    looked_s: float = 0.0

    def leave(self, page_id: UUID, host: str) -> None:
        self.taken -= Counter([page_id])  # which forgets what is none
        self.busy -= Counter([host])
        self.freed.set()

    def rest(self, host: str, until: float, now: float) -> None:
        if len(self.rests) >= MOST_RESTING:
            self.rests = {known: at for known, at in self.rests.items() if at > now}
        self.rests[host] = max(until, self.rests.get(host, 0.0))


class Mailing:
    """The exporter role's letters. One process at a time holds the lease; a second one waits to take over.

    `mail` is how the installation mails now; None: mails wait. `base_url` is where pages are without a host of their own.
    """

    def __init__(
        self,
        pool: Pool,
        send: Send,
        *,
        holder: str,
        base_url: Callable[[], str],
        mail: Callable[[], Mail | None],
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.health = Health()
        self.lease = Leases(pool, "mailing", ["0"], holder)
        self._pool, self._send, self._clock = pool, send, clock or SystemClock()
        self._base_url, self._mail, self._chance = base_url, mail, chance
        self._ways = [_Way("email"), _Way("webhook"), _Way("slack")]
        self._sending: set[asyncio.Task[None]] = set()
        self._came: list[tuple[Row, Outcome]] = []
        self._key = b""

    async def run(self) -> None:
        """Mail until cancelled. What is on its way then is brought to its end, if that is soon."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.lease.run())
                group.create_task(self._prepare())
                group.create_task(self._note_all())
                for way in self._ways:
                    group.create_task(self._work(way))
        finally:
            if self._sending:
                await asyncio.wait(self._sending, timeout=LEAVE_S)
            for task in self._sending:
                task.cancel()
            with contextlib.suppress(*DATABASE_AWAY):
                await self._note()
            await self.lease.release()

    async def _prepare(self) -> None:
        """Write letters, finish broadcasts, give up what is old."""
        looked_s = 0.0
        while True:
            await asyncio.sleep(IDLE_S)
            if not self.lease.held:
                continue
            try:
                while await self._spread():
                    for way in self._ways:
                        way.freed.set()
                async with self._pool.acquire() as connection:
                    if self._clock.monotonic_s() - looked_s > EXPIRE_S:
                        looked_s = self._clock.monotonic_s()
                        await letters.expire(connection)
                    await broadcasts.finish(connection)
            except DATABASE_AWAY as away:
                _log.warning("letters wait for the database: %s", away)
                await asyncio.sleep(2.0)

    async def _spread(self) -> int:
        async with transaction(self._pool) as connection:
            return await broadcasts.spread(connection)

    async def _work(self, way: _Way) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    # Some at once: a look at the database for each would cost more than to send it.
                    while self._places(way) < self._most(way) // 2 or not way.freed.is_set():
                        way.freed.clear()
                        await way.freed.wait()
            way.freed.clear()
            try:
                if self.lease.held and (places := min(self._places(way), self._allowance(way))) > 0:
                    await self._start_due(way, places)
            except DATABASE_AWAY as away:
                _log.warning("letters wait for the database: %s", away)
                await asyncio.sleep(2.0)

    def _most(self, way: _Way) -> int:
        mail = self._mail()
        if way.kind != "email":
            return PLACES
        return 2 * mail.connections if mail else 0

    def _places(self, way: _Way) -> int:
        return self._most(way) - way.taken.total()

    def _allowance(self, way: _Way) -> int:
        """How many may leave now, given what the relay takes in a minute, and whether it rests."""
        now, mail = self._clock.epoch_s(), self._mail()
        if way.kind != "email" or mail is None or mail.per_minute is None:
            return 0 if way.rests.get("", 0.0) > now else PLACES * 2
        each_s = 60.0 / mail.per_minute
        way.allowed = min(way.allowed + max(now - way.looked_s, 0.0) / each_s, max(2 * IDLE_S / each_s, 1.0))
        way.looked_s = now
        return 0 if way.rests.get("", 0.0) > now else int(way.allowed)

    async def _start_due(self, way: _Way, places: int) -> None:
        now = self._clock.epoch_s()
        per_page = PLACES * 2 if way.kind == "email" else PER_PAGE
        async with self._pool.acquire() as connection:
            rows = await letters.claim(connection, way.kind, places, now, per_page=per_page, taken=way.taken)
            if not rows:
                return
            pages = await letters.pages(connection, {row["page_id"] for row in rows})
            shared = {(row["broadcast_id"], row["page_id"]) for row in rows if row["broadcast_id"]}
            told = await letters.told(connection, shared) if shared else {}
            self._key = self._key or await signing_key(connection)
        way.allowed -= len(rows)
        rules = {key: Page.model_validate(page["spec"]) for key, page in pages.items()}
        fates: list[Fate] = []
        for row in rows:
            page, letter = pages.get(row["page_id"]), told.get((row["broadcast_id"], row["page_id"]))
            why = _dropped(row, page, letter)
            host = "" if why or way.kind == "email" else _host(way.kind, row["address"])
            if why or page is None:
                fates.append(Fate(row["id"], "dropped", why, counts=False))
            elif host and (way.busy[host] >= PER_HOST or way.rests.get(host, 0.0) > now):
                until = max(way.rests.get(host, 0.0), now + IDLE_S)
                fates.append(Fate(row["id"], "pending", "its host is busy", until, counts=False))
            else:
                envelope = self._envelope(row, page, rules[row["page_id"]], letter)
                way.taken[row["page_id"]] += 1
                way.busy[host] += 1
                task = asyncio.create_task(self._deliver(way, row, host, envelope))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
        if fates:
            async with self._pool.acquire() as connection:
                await letters.settle(connection, fates)

    def _envelope(self, row: Row, page: Row, rule: Page, letter: Letter | None) -> Envelope:
        item = row["item"]
        wanted = item["language"] if item else row["language"]
        code = wanted if wanted in rule.languages else rule.languages[0]
        base = f"https://{page['host']}" if page["host"] else f"{self._base_url()}/p/{page['slug']}"
        base += "" if code == rule.languages[0] else f"/{code}"
        common: dict[str, Any] = {
            "to": row["address"],
            "kind": row["kind"],
            "page": rule.name,
            "page_url": base,
            "language": code,
            "timezone": rule.timezone,
            "sender": rule.subscribers.sender,
            "reply_to": rule.subscribers.reply_to,
            "accent": rule.look.accent,
        }
        if row["subscriber_id"] and row["kind"] == "webhook":
            common["secret"] = webhook_key(self._key, row["subscriber_id"])
        if letter is None:
            alone = msgspec.convert(item["letter"], Letter)
            return Envelope(alone, key=f"{alone.id}.{row['id']}", link=item["link"], **common)
        return Envelope(
            letter,
            key=f"{letter.id}.{show('subscriber', row['subscriber_id'])}",
            link=f"{base}/incidents/{letter.incident}" if letter.incident else base,
            manage_url=f"{base}/manage/{row['token']}",
            unsubscribe_url=f"{base}/unsubscribe/{row['token']}",
            **common,
        )

    async def _deliver(self, way: _Way, row: Row, host: str, envelope: Envelope) -> None:
        try:
            async with asyncio.timeout(TRY_S):
                outcome = await self._send(envelope)
        except TimeoutError:
            outcome = Retry("no answer in time")
        except Exception as bug:  # one bad letter must not stop the others
            _log.exception("letter %d", row["id"])
            outcome = Retry(f"a bug in Upbeat: {type(bug).__name__}")
        finally:
            way.leave(row["page_id"], host)
        if isinstance(outcome, Retry) and outcome.after_s is not None:
            now = self._clock.epoch_s()
            if way.kind == "email" and way.rests.get("", 0.0) <= now:
                _log.warning("mails wait for %.0f s: %s", outcome.after_s, outcome.reason)
            way.rest(host, now + outcome.after_s, now)
        self._came.append((row, outcome))

    async def _note_all(self) -> None:
        while True:
            await asyncio.sleep(NOTE_S)
            try:
                await self._note()
            except DATABASE_AWAY as away:
                _log.warning("what came of letters could not be written yet: %s", away)
                await asyncio.sleep(2.0)

    async def _note(self) -> None:
        """Write down what came of letters. Sent is sent: what cannot be written yet is kept until it can."""
        came, self._came = self._came, []
        if not came:
            return
        fates = [self._fate(row, outcome) for row, outcome in came]
        try:
            async with transaction(self._pool) as connection:
                await letters.settle(connection, fates)
                await self._judge(connection, came, fates)
        except (asyncio.CancelledError, *DATABASE_AWAY):
            self._came = came + self._came
            raise
        for (row, _), fate in zip(came, fates, strict=True):
            count = {"done": self.health.sent, "dead": self.health.failed}.get(
                fate.status, self.health.retried
            )
            count[row["kind"]] += 1

    def _fate(self, row: Row, outcome: Outcome) -> Fate:
        if isinstance(outcome, Delivered):
            return Fate(row["id"], "done")
        reason = one_line(outcome.reason)[:500]
        if isinstance(outcome, Retry):
            asked_s = outcome.after_s or 0.0
            counts = (
                row["kind"] != "email" or outcome.after_s is None
            )  # a relay that is away is no fault of the mail
            if not counts or row["attempts"] < len(SCHEDULE_S):
                own_s = SCHEDULE_S[row["attempts"]] if counts else 0.0
                wait_s = max(own_s * (1.0 + JITTER * self._chance()), asked_s)
                return Fate(row["id"], "pending", reason, self._clock.epoch_s() + wait_s, counts)
        return Fate(row["id"], "dead", reason)

    async def _judge(
        self, connection: Connection, came: list[tuple[Row, Outcome]], fates: list[Fate]
    ) -> None:
        """Who got something is well; who refused for good, or a URL that never answered, is nearer to being left alone."""
        well, ill = set[UUID](), dict[UUID, tuple[str, bool]]()
        for (row, outcome), fate in zip(came, fates, strict=True):
            if (subscriber := row["subscriber_id"]) is None:
                continue
            if fate.status == "done":
                well.add(subscriber)
            elif fate.status == "dead" and (isinstance(outcome, Rejected) or row["kind"] != "email"):
                is_gone = isinstance(outcome, Rejected) and outcome.for_good
                ill[subscriber] = outcome.reason or "", is_gone
        await subscribers.delivered(connection, list(well))
        await subscribers.bounced(connection, ill)


def _dropped(row: Row, page: Row | None, letter: Letter | None) -> str | None:
    """Why it is not sent at all."""
    if page is None:
        return "the page was removed"
    if row["broadcast_id"] is None:
        return None
    if letter is None:
        return "what it says was removed"
    return None if row["status"] == "active" else f"the subscriber is {row['status']}"


def _host(kind: str, url: str) -> str:
    """What a slow answer holds up: a host, at Slack the one hook."""
    return url if kind == "slack" else urlsplit(url).hostname or url
