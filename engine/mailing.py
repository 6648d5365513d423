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
from functools import partial
from typing import Final, NoReturn
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from engine.clock import Clock, SystemClock
from engine.delivery import JITTER
from engine.leases import Leases
from engine.store import broadcasts, letters, subscribers
from engine.store.database import DATABASE_AWAY, Pool, Row
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
PER_HOST: Final = 4
"""Requests to one host."""
TRY_S: Final = 25.0
"""Less than `HOLD_S`: nobody else takes up what is still on its way."""
IDLE_S = 0.5
NOTE_S: Final = 0.1
EXPIRE_S: Final = 60.0
AWAY_S = 2.0
LEAVE_S: Final = 5.0
"""How long what is on its way may take when this process ends."""

Send = Callable[[Envelope], Awaitable[Outcome]]
"""Deliver this; never raises."""

_COUNTED: Final = {"done": "sent", "pending": "retried", "dead": "failed"}
_chance = random.random  # of when
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Way:
    """What is on its way of one kind."""

    kind: SubscriberKind
    freed: asyncio.Event = field(default_factory=asyncio.Event)  # or more waits
    taken: int = 0
    busy: Counter[str] = field(default_factory=Counter)  # by host
    rests: dict[str, float] = field(default_factory=dict)  # a host asked to be left alone until then
    allowed: float = 1.0  # mails that may leave now, where the relay has a limit
    looked_s: float = 0.0
    half: int = 0  # so few on their way that more are begun: a look at the database for each would cost more than to send it


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
    ) -> None:
        self.counts = Counter[tuple[str, str]]()  # for /metrics: letters `sent`, `retried`, `failed`, by kind
        self.lease = Leases(pool, "mailing", ["0"], holder)
        self._pool, self._send, self._clock = pool, send, clock or SystemClock()
        self._base_url, self._mail = base_url, mail
        self._ways = [_Way("email"), _Way("webhook"), _Way("slack")]
        self._sending: set[asyncio.Task[None]] = set()
        self._here: set[int] = set()  # begun, and not written down yet what came of it
        self._came: list[tuple[Row, Fate, Outcome | None]] = []
        self._expired_s = 0.0
        self._key = b""

    async def run(self) -> None:
        """Mail until cancelled. What is on its way then is brought to its end, if that is soon."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.lease.run())
                group.create_task(_again(self._prepare))
                group.create_task(_again(self._note))
                for way in self._ways:
                    group.create_task(_again(partial(self._work, way)))
        finally:
            if self._sending:
                await asyncio.wait(self._sending, timeout=LEAVE_S)
            for task in self._sending:
                task.cancel()
            with contextlib.suppress(*DATABASE_AWAY):
                await self._note(0.0)
            await self.lease.release()

    async def _prepare(self) -> None:
        """Write letters, finish broadcasts, give up what is old, and see what waits."""
        written = 0
        if self.lease.held:
            async with letters.working(self._pool) as connection:
                written = await broadcasts.spread(connection)
                await broadcasts.finish(connection)
                if self._clock.monotonic_s() - self._expired_s > EXPIRE_S:
                    self._expired_s = self._clock.monotonic_s()
                    await letters.expire(connection)
                kinds = await letters.kinds(connection)
            for way in self._ways:
                if way.kind in kinds:
                    way.freed.set()
        if not written:
            await asyncio.sleep(IDLE_S)

    async def _work(self, way: _Way) -> None:
        await way.freed.wait()
        way.freed.clear()
        if self.lease.held and (room := self._room(way)) > 0:
            await self._start_due(way, room)

    def _room(self, way: _Way) -> int:
        """How many more may be on their way, given what the relay takes at once and in a minute, and whether it rests."""
        mail, now = self._mail(), self._clock.monotonic_s()
        if way.kind != "email":
            return PLACES - way.taken
        if mail is None or way.rests.get("", 0.0) > self._clock.epoch_s():
            return 0
        room = 2 * mail.connections - way.taken
        if mail.per_minute is not None:
            each_s = 60.0 / mail.per_minute
            so_far = max(way.allowed, 0.0) + (now - way.looked_s) / each_s
            way.allowed, way.looked_s = min(so_far, max(2 * IDLE_S / each_s, 1.0)), now
            room = min(room, int(way.allowed))
        return room

    async def _start_due(self, way: _Way, room: int) -> None:
        now = self._clock.epoch_s()
        way.rests = {host: until for host, until in way.rests.items() if until > now}
        async with letters.working(self._pool) as connection:
            rows = await letters.claim(connection, way.kind, room, now)
            if not rows:
                return
            pages = await letters.pages(connection, {row["page_id"] for row in rows})
            told = await letters.told(connection, {(row["broadcast_id"], row["page_id"]) for row in rows})
            self._key = self._key or await signing_key(connection)
        for row in rows:
            if row["id"] in self._here:  # the database was away since before it was sent
                continue
            page, said = pages.get(row["page_id"]), told.get((row["broadcast_id"], row["page_id"]))
            host = "" if way.kind == "email" else _host(way.kind, row["address"])
            if page is None or (why := _dropped(row, said)):
                fate = Fate(row["id"], "dropped", "the page was removed" if page is None else why)
            elif host and (way.busy[host] >= PER_HOST or host in way.rests):
                until = max(way.rests.get(host, 0.0), now + IDLE_S)
                fate = Fate(row["id"], "pending", "its host is busy", until, counts=False)
            else:
                way.taken += 1
                way.allowed -= 1
                way.busy[host] += 1
                task = asyncio.create_task(self._deliver(way, row, host, page, said))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
                self._here.add(row["id"])
                continue
            self._came.append((row, fate, None))
        way.half = way.taken // 2

    def _envelope(self, row: Row, page: Row, said: Row | None) -> Envelope:
        rule, item = Page.model_validate(page["spec"]), row["item"]
        wanted = item["language"] if item else row["language"]
        code = wanted if wanted in rule.languages else rule.languages[0]
        base = f"https://{page['host']}" if page["host"] else f"{self._base_url()}/p/{page['slug']}"
        base += "" if code == rule.languages[0] else f"/{code}"
        is_signed = row["subscriber_id"] and row["kind"] == "webhook"
        letter = letters.worded(said) if said else msgspec.convert(item["letter"], Letter)
        about = f"{base}/incidents/{letter.incident}" if letter.incident else base
        return Envelope(
            letter,
            to=row["address"],
            kind=row["kind"],
            key=f"{letter.id}.{show('subscriber', row['subscriber_id']) if said else row['id']}",
            page=rule.name,
            page_url=base,
            language=code,
            timezone=rule.timezone,
            link=about if said else item["link"],
            manage_url=f"{base}/manage/{row['token']}" if said else "",
            unsubscribe_url=f"{base}/unsubscribe/{row['token']}" if said else "",
            sender=rule.subscribers.sender,
            reply_to=rule.subscribers.reply_to,
            accent=rule.look.accent,
            secret=webhook_key(self._key, row["subscriber_id"]) if is_signed else b"",
        )

    async def _deliver(self, way: _Way, row: Row, host: str, page: Row, said: Row | None) -> None:
        outcome: Outcome
        try:
            async with asyncio.timeout(TRY_S):
                outcome = await self._send(self._envelope(row, page, said))
        except TimeoutError:
            outcome = Retry("no answer in time")
        except Exception as bug:  # one bad letter must not stop the others
            _log.exception("letter %d", row["id"])
            outcome = Retry(f"a bug in Upbeat: {type(bug).__name__}")
        finally:
            way.taken -= 1
            way.busy -= Counter([host])  # which forgets what is none
            if way.taken <= way.half:
                way.freed.set()
        if isinstance(outcome, Retry) and outcome.after_s is not None:
            if way.kind == "email" and host not in way.rests:
                _log.warning("mails wait for %.0f s: %s", outcome.after_s, outcome.reason)
            way.rests[host] = self._clock.epoch_s() + outcome.after_s
        self._came.append((row, self._fate(row, outcome), outcome))

    def _fate(self, row: Row, outcome: Outcome) -> Fate:
        if isinstance(outcome, Delivered):
            return Fate(row["id"], "done")
        reason = one_line(outcome.reason)[:500]
        if isinstance(outcome, Retry):
            # a relay that is away is no fault of the mail
            counts = row["kind"] != "email" or outcome.after_s is None
            if not counts or row["attempts"] < len(SCHEDULE_S):
                own_s = SCHEDULE_S[row["attempts"]] * (1.0 + JITTER * _chance()) if counts else 0.0
                due_at = self._clock.epoch_s() + max(own_s, outcome.after_s or 0.0)
                return Fate(row["id"], "pending", reason, due_at, counts)
        return Fate(row["id"], "dead", reason)

    async def _note(self, after_s: float = NOTE_S) -> None:
        """Write down what came of letters. Sent is sent: what cannot be written yet is kept until it can.

        Who got something is well; who refused for good, or a URL that never answered, is nearer to being left alone.
        """
        await asyncio.sleep(after_s)
        came, self._came = self._came, []
        if not came:
            return
        well, ill = set[UUID](), dict[UUID, tuple[str, bool]]()
        for row, fate, outcome in came:
            if (subscriber := row["subscriber_id"]) and fate.status == "done":
                well.add(subscriber)
            elif subscriber and fate.status == "dead":
                is_gone = isinstance(outcome, Rejected) and outcome.for_good
                if isinstance(outcome, Rejected) or row["kind"] != "email":
                    ill[subscriber] = fate.reason or "", is_gone
        try:
            async with letters.working(self._pool) as connection:
                await letters.settle(connection, [fate for _, fate, _ in came])
                await subscribers.delivered(connection, list(well))
                await subscribers.bounced(connection, ill)
        except (asyncio.CancelledError, *DATABASE_AWAY):
            self._came = came + self._came
            raise
        self._here.difference_update(fate.id for _, fate, _ in came)
        self.counts.update((_COUNTED[fate.status], row["kind"]) for row, fate, outcome in came if outcome)


async def _again(work: Callable[[], Awaitable[None]]) -> NoReturn:
    while True:
        try:
            await work()
        except DATABASE_AWAY as away:
            _log.warning("letters wait for the database: %s", away)
            await asyncio.sleep(AWAY_S)


def _dropped(row: Row, said: Row | None) -> str | None:
    """Why it is not sent at all."""
    if row["broadcast_id"] is None:
        return None
    if said is None:
        return "what it says was removed"
    return None if row["status"] == "active" else f"the subscriber is {row['status']}"


def _host(kind: str, url: str) -> str:
    """What a slow answer holds up: a host, at Slack the one hook."""
    return url if kind == "slack" else urlsplit(url).hostname or url
