"""The evaluator role: results in, decisions out, everything a decision causes committed in one transaction.

Each partition is worked by one task: fetch, fold, commit, acknowledge. Correctness rests on the compare-and-swap of
`engine.store.states`; the lease only keeps two evaluators from doing the same work. What decides is `evaluators`.
"""

import asyncio
import contextlib
import heapq
import itertools
import logging
import math
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
from msgspec.structs import replace

from engine import consequences, partitions
from engine.bus import EVALUATOR, LIVE, LIVE_RESULTS, Bus, BusError, Delivery, decode, encode
from engine.clock import SystemClock
from engine.fold import Fold, Server
from engine.sickness import RegionCounts
from engine.store import (
    dead_letters,
    facts,
    objects,
    pings,
    pushed,
    results,
    signals,
    states,
    uptime,
    watermarks,
)
from engine.store.database import Connection, Pool, transaction
from engine.store.ids import new_id, partition_of, uuid_of
from engine.store.states import ConflictError, Held
from engine.subject import Subject, compile_subject
from evaluators import heartbeat, quorum
from evaluators.model import Batch, Result
from evaluators.policy import Bound

MESSAGES_AT_ONCE = 64
PUSHED_AT_ONCE = 1000
ROUNDS = 20  # of so many; then results have their turn, however fast more is pushed
LOOK_S = 5.0  # how often it is looked for what was pushed, in case nobody said so
LOOKS_APART_S = 0.2  # else each of very many pings would cost a transaction of its own
WAIT_S = 1.0  # longest fetch
SOONEST_S = (
    0.1  # shortest fetch: with many beats a deadline is always near, and each look costs the bus a request
)
LOOKED_AWAY_S = 5.0  # longer than this without a look is an absence: see `quorum.Returned`
BLIND_S = 60.0  # the bus away for longer than this is no data, and said so
TRIES = 3
SKEW_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Health(partitions.Health):
    """Results too."""

    results: int = 0
    duplicates: int = 0
    skewed_boots: int = 0


class Evaluator(partitions.Partitions["Partition"]):
    """All partitions this process holds. `subjects` is the catalog's live view of the declared beats."""

    health: Health

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        clock: SystemClock,
        subjects: Mapping[UUID, Subject],
        *,
        holder: str,
        refresh: Callable[["Connection | None"], Awaitable[object]],
        public_url: Callable[[], str],
        children: Callable[[UUID], Sequence[UUID]],
    ) -> None:
        super().__init__(pool, bus, kind="evaluator", subject=pushed.SUBJECT, holder=holder)
        self.health = Health()
        self._clock, self._subjects = clock, subjects
        self._refresh, self._public_url, self._children = refresh, public_url, children

    def changed(self, subject_id: UUID) -> None:
        """The catalog has another view of this beat."""
        partition = self._partitions.get(number := partition_of(subject_id))
        if partition is None:
            return
        if not partition.dirty:  # a pause may be shorter than the wait for what comes
            self._bus.wake(EVALUATOR, number)
        partition.dirty.add(subject_id)

    def heard(self, number: int, partition: "Partition") -> None:
        if partition.look_soon():
            self._bus.wake(EVALUATOR, number)

    def made(self, number: int, gap_s: float | None) -> "Partition":
        partition = Partition(
            number,
            self._pool,
            self._bus,
            self._clock,
            self._subjects,
            self.health,
            refresh=self._refresh,
            public_url=self._public_url,
            children=self._children,
        )
        if gap_s is not None and gap_s > LOOKED_AWAY_S:
            partition.returned(gap_s)
        return partition


class Partition(partitions.Partition):
    """One partition's states, deadlines and work."""

    _health: Health

    def __init__(
        self,
        number: int,
        pool: Pool,
        bus: Bus,
        clock: SystemClock,
        subjects: Mapping[UUID, Subject],
        health: Health,
        *,
        refresh: Callable[["Connection | None"], Awaitable[object]],
        public_url: Callable[[], str],
        children: Callable[[UUID], Sequence[UUID]],
    ) -> None:
        super().__init__("beats", number, health)
        self.dirty: set[UUID] = set()
        self.returned_at = 0.0
        self._is_loaded = False
        self._absences: list[tuple[float, float]] = []  # that nobody has written down yet
        self._look_at_s, self._last_look_s = 0.0, float("-inf")  # for what was pushed; monotonic
        self._boot_id, self._batches, self._results = str(new_id()), itertools.count(1), itertools.count(1)
        self._pool, self._bus, self._clock, self._subjects = pool, bus, clock, subjects
        self._refresh, self._public_url, self._children = refresh, public_url, children
        self._held: dict[UUID, Held] = {}
        self._regions = RegionCounts()
        self._deadlines: list[tuple[float, UUID]] = []
        self._standing: dict[UUID, float] = {}
        self._looked_s = clock.monotonic_s()
        self._jumps, self._now = clock.jumps, clock.epoch_s()
        self._skipped = (0.0, 0.0)  # from when to when the clock was set
        self._failures: Counter[str] = Counter()
        self._skewed: set[str] = set()

    async def turn(self) -> None:
        """One look: what came, what is due, what was changed."""
        if not self._is_loaded:
            await self._load()
            self._is_loaded = True
        await self._turn()

    def forget(self) -> None:
        """Load all states anew."""
        self._is_loaded = False

    async def _load(self) -> None:
        async with self._pool.acquire() as connection:
            loaded = await states.load(connection, partition=self._number)
        self._held = {held.subject_id: held for held in loaded}
        self._deadlines, self._standing, self._regions = [], {}, RegionCounts()
        for subject_id, held in self._held.items():
            self._schedule(subject_id)
            self._regions.put(self._subjects.get(subject_id), subject_id, held.state)
        # Whatever changed while nobody held this partition is found by looking at every beat once.
        self.dirty.update(self._held)

    def look_soon(self) -> bool:
        """Something was pushed. Whether that is to be looked at sooner than was meant."""
        at_s = self._last_look_s + LOOKS_APART_S
        is_sooner, self._look_at_s = at_s < self._look_at_s, min(at_s, self._look_at_s)
        return is_sooner

    async def _turn(self) -> None:
        if not self._bus.connected:
            await self._blind()
            return
        self._notice_absence()
        if self._absences:
            async with self._pool.acquire() as connection:
                await uptime.keep_absences(connection, self._number, self._absences)
            self._absences.clear()
        now = self._clock.epoch_s()
        wait_s = WAIT_S if not self._deadlines else min(WAIT_S, max(SOONEST_S, self._deadlines[0][0] - now))
        wait_s = 0.02 if self.dirty else min(wait_s, max(0.02, self._look_at_s - self._clock.monotonic_s()))
        deliveries = await self._bus.fetch(EVALUATOR, self._number, MESSAGES_AT_ONCE, wait_s)
        self._notice_jump()
        batches = [(delivery, batch) for delivery in deliveries if (batch := await self._decode(delivery))]
        dirty, due = self._upkeep(caught_up=len(deliveries) < MESSAGES_AT_ONCE)
        silent = self._pushed_to(due)
        await self._settle(batches, dirty, due - silent)
        await self._take_pushed(silent)
        await self._regions.tell(self._pool, self._number, self._clock.monotonic_s())
        self._looked_s = self._clock.monotonic_s()

    async def _blind(self) -> None:
        """The bus is away: wait a while before saying that there is no data. What is pushed needs no bus."""
        await asyncio.sleep(0.2)
        self._notice_jump()
        if self._clock.monotonic_s() - self._looked_s > BLIND_S:
            await self._settle([], *self._upkeep(caught_up=True))
        changed = self._pushed_to(self.dirty)
        self.dirty -= changed
        await self._settle([], changed, set())
        due = self._due(self._clock.epoch_s())
        silent = self._pushed_to(due)
        for subject_id in due - silent:
            self._schedule(subject_id)
        await self._take_pushed(silent)

    def _pushed_to(self, beats: set[UUID]) -> set[UUID]:
        """Those that no probe runs."""
        return {
            subject_id for subject_id in beats if (s := self._subjects.get(subject_id)) and s.policy.is_pushed
        }

    async def _take_pushed(self, silent: set[UUID]) -> None:
        """Fold what was pushed, then what heartbeats there are of which nothing was heard in time."""
        if not silent and self._clock.monotonic_s() < self._look_at_s:
            return
        self._last_look_s = self._clock.monotonic_s()
        self._look_at_s = self._last_look_s + LOOK_S
        most = PUSHED_AT_ONCE
        for _ in range(ROUNDS):
            try:
                taken = await self._commit([], set(), silent, most=most)
            except Exception as bug:
                self._look_at_s = 0.0
                if partitions.is_passing(bug):
                    raise
                _log.exception("what was pushed to partition %d cannot be folded", self._number)
                if most == 1:
                    await self._discard()
                    silent = set()
                most = 1
                continue
            if taken < most:
                return
        self._look_at_s = 0.0
        for subject_id in silent:
            self._schedule(subject_id)

    async def _discard(self) -> None:
        """The oldest that was pushed is a dead letter now."""
        async with transaction(self._pool) as connection:
            data = await pushed.discard(connection, self._number)
            if data is not None:
                source = f"{pushed.SUBJECT}.{self._number}"
                await dead_letters.put(connection, source, data, traceback.format_exc())
                self._health.dead_letters += 1

    def _notice_absence(self) -> None:
        away_s = self._clock.monotonic_s() - self._looked_s
        if away_s > LOOKED_AWAY_S:
            self.returned(away_s)
        self._notice_jump()

    def returned(self, away_s: float) -> None:
        """Nobody looked for so long, until now."""
        self.returned_at = self._clock.epoch_s()
        self._absences.append((self.returned_at - away_s, self.returned_at))

    def _notice_jump(self) -> None:
        """Where the clock was set forward, nothing could be pushed in the time it left out."""
        before, self._now = self._now, self._clock.epoch_s()
        if self._clock.jumps != self._jumps:
            self._jumps, self._skipped = self._clock.jumps, (before, self._now)
            self.returned_at = self._now
            self._absences.append((before, self._now))

    async def _decode(self, delivery: Delivery) -> Batch | None:
        try:
            batch = decode(delivery.data)
            if batch.boot_id != self._boot_id:
                return batch
            await delivery.ack()  # committed before it was published
        except msgspec.DecodeError:
            await self._bury(delivery.data, traceback.format_exc())
            await delivery.ack()
        return None

    def _upkeep(self, *, caught_up: bool) -> tuple[set[UUID], set[UUID]]:
        """Beats that were changed, and beats with a deadline behind them: silence is none while messages wait."""
        dirty, self.dirty = self.dirty, set()
        return dirty, self._due(self._clock.epoch_s()) if caught_up else set()

    async def _settle(
        self, batches: Sequence[tuple[Delivery, Batch]], dirty: set[UUID], due: set[UUID]
    ) -> None:
        """Commit all of it together, or, when a part of it is poison, each part alone."""
        try:
            await self._commit(batches, dirty, due)
        except Exception as failure:
            if not partitions.is_passing(failure):
                await self._isolate(batches, dirty, due, failure)
                return
            for delivery, _ in batches:  # all beats are loaded, and looked at, anew
                await delivery.nak(0.0 if isinstance(failure, ConflictError) else 1.0)
            raise

    async def _isolate(
        self,
        batches: Sequence[tuple[Delivery, Batch]],
        dirty: set[UUID],
        due: set[UUID],
        failure: Exception,
    ) -> None:
        """A batch that fails alone is a dead letter after TRIES; a beat that does is left as it is until it changes."""
        beats = dirty | due
        if len(batches) + len(beats) > 1:
            for subject_id in beats:
                await self._settle([], {subject_id} & dirty, {subject_id} & due)
            for one in batches:
                await self._settle([one], set(), set())
            return
        if not batches:
            _log.error("beat %s cannot be judged", *beats, exc_info=failure)
            return
        delivery, batch = batches[0]
        key = f"{batch.boot_id}:{batch.seq}"
        self._failures[key] += 1
        _log.error("batch %s cannot be evaluated", key, exc_info=failure)
        if self._failures[key] < TRIES:
            await delivery.nak(0.5)
            return
        del self._failures[key]
        await self._pick_apart(delivery, batch)

    async def _pick_apart(self, delivery: Delivery, batch: Batch) -> None:
        """Commit a poisoned batch result by result: only those that fail alone are dead letters."""
        for result in batch.results:
            alone = replace(batch, results=(result,))
            try:
                await self._commit([(delivery, alone)], set(), set(), is_whole=False)
            except Exception as failure:
                if partitions.is_passing(failure):
                    raise  # it comes again, and what is committed by then is committed once
                await self._bury(encode(alone), traceback.format_exc())
        async with transaction(self._pool) as connection:
            await watermarks.advance(
                connection, batch.boot_id, self._number, [batch.seq], self._clock.epoch_s()
            )
        await delivery.ack()

    async def _bury(self, data: bytes, error: str) -> None:
        """Put what nobody can use where a person finds it, and go on."""
        async with transaction(self._pool) as connection:
            await dead_letters.put(connection, f"results.{self._number}", data, error)
        self._health.dead_letters += 1
        _log.error("a message of partition %d is a dead letter now: %s", self._number, error)

    async def _commit(
        self,
        batches: Sequence[tuple[Delivery, Batch]],
        dirty: set[UUID],
        due: set[UUID],
        *,
        is_whole: bool = True,
        most: int = 0,
    ) -> int:
        """The one transaction: rows, states, and everything they cause. Then acknowledge, order and announce.

        `is_whole` False: these are parts of batches, which are not dealt with yet. With `most`, as many of what was
        pushed are folded as well; heartbeats that are `due` only when no more wait. Returns how many were.
        """
        if not batches and not dirty and not due and not most:
            return 0
        now = round(self._clock.epoch_s(), 6)  # as it is stored: the same facts make the same state again
        arrived = [item for delivery, batch in batches for item in self._in_server_time(delivery, batch, now)]
        dirty = dirty | await self._catch_up([result for _, _, result in arrived], dirty | due)
        async with transaction(self._pool) as connection:
            taken = await pushed.take(connection, self._number, most) if most else []
            if most and not taken and not due:
                return 0
            if unknown := {one.subject_id for one in taken} - self._subjects.keys():
                await self._refresh(connection)
                dirty = dirty | unknown
            due = due if not most or len(taken) < most else set()
            await self._meet(
                connection,
                {uuid_of(r.beat_id) for _, _, r in arrived} | {one.subject_id for one in taken} | dirty,
            )
            gone = await self._gone(connection, dirty)
            fold = Fold(
                self._held,
                lambda subject_id: self._subjects.get(subject_id) or gone.get(subject_id),
                self.returned_at,
                await self._server(connection) if most else None,
            )
            for subject_id in dirty | due:
                fold.reconcile(subject_id, now)
            for result in {result.beat_id: result for _, _, result in arrived}.values():
                fold.catch_up(uuid_of(result.beat_id), now)
            # Facts and results are numbered in the order in which they are folded, so that they can be folded again.
            await self._log(connection, fold, now)
            new = await results.insert(connection, [item for item in arrived if item[2].stored], now)
            fresh = _once(arrived, new)
            for boot_id, at, result in fresh:
                fold.result(uuid_of(result.beat_id), result, boot_id, at, now)
            for one in taken:
                fold.pushed(one, now)
            for subject_id in due:
                fold.tick(subject_id, now)
            # The compare-and-swap comes first: who folded a stale state must not get as far as opening an episode twice.
            await states.save(connection, list(fold.changed.values()))
            bounds = {one: held.bound for one, held in fold.changed.items()}
            await states.save_bounds(
                connection, {one: b for one, b in bounds.items() if b != self._held[one].bound}
            )
            await self._log(connection, fold, now)
            made = [(self._boot_id, result.at, result) for result in fold.made]
            await pings.keep(connection, fold.pinged)
            for one, report in fold.signalled:
                await signals.keep(connection, one.subject_id, report, one.at)
            orders, news = await consequences.record(connection, fold, self._public_url())
            spoken = consequences.said(fold.consequences, self._children)
            told = await pushed.relay(connection, spoken, now)
            for boot_id, seqs in _sequences(batches).items() if is_whole else ():
                await watermarks.advance(connection, boot_id, self._number, seqs, now)
        self._remember(fold, due)
        self._health.results += len(new) + len(made)
        self._health.duplicates += len(arrived) - len(fresh)
        for delivery, _ in batches if is_whole else ():
            await delivery.ack()
        for order in orders:
            for region in order.regions:
                await self._bus.order(region, self._number, order.order)
        if made:  # for those who measure the results of all probes; a copy that comes back here is known
            batch = Batch(self._boot_id, next(self._batches), self._number, now, tuple(fold.made))
            with contextlib.suppress(BusError):
                await self._bus.publish(batch)
        news += self._pushed_news([*(one for one, _ in fold.pinged), *(one for one, _ in fold.signalled)])
        await self._bus.announce_each(pushed.SUBJECT, told)
        await self._announce(news, [*fresh, *made])
        return len(taken)

    async def _log(self, connection: Connection, fold: Fold, now: float) -> None:
        for piece in fold.take_log():
            await facts.keep(connection, piece.facts)
            await results.insert(connection, [(self._boot_id, made.at, made) for made in piece.made], now)

    async def _server(self, connection: Connection) -> Server:
        deaf = max(await pings.deafness(connection), self._skipped, key=lambda span: span[1])
        return Server(self._boot_id, lambda: next(self._results), deaf)

    def _pushed_news(self, folded: Sequence[pushed.Pushed]) -> list[dict[str, object]]:
        told = {(one.subject_id, "ping" if isinstance(one.fact, pushed.Ping) else "signal") for one in folded}
        found = [(self._subjects.get(subject_id), event) for subject_id, event in told]
        return [{"event": event, "page": str(s.page_id), "beat": s.slug} for s, event in found if s]

    async def _catch_up(self, arrived: Sequence[Result], looked_at: set[UUID]) -> set[UUID]:
        """A probe, or who evaluated it before, may have heard of a beat, or of its change, before this process has: these."""
        behind = {
            subject_id
            for result in arrived
            if (subject := self._subjects.get(subject_id := uuid_of(result.beat_id))) is None
            or subject.revision < result.check_version
        }
        for subject_id in looked_at:
            held, subject = self._held.get(subject_id), self._subjects.get(subject_id)
            if held is not None and subject is not None and subject.revision < held.revision:
                behind.add(subject_id)
        if behind:
            await self._refresh(None)
        return behind

    async def _meet(self, connection: Connection, beats: set[UUID]) -> None:
        """Load the states of beats that were declared after this partition was loaded."""
        if unknown := [subject_id for subject_id in beats if subject_id not in self._held]:
            for held in await states.load(connection, beats=unknown):
                self._held[held.subject_id] = held

    async def _gone(self, connection: Connection, beats: set[UUID]) -> dict[UUID, Subject]:
        """Removed beats are in no catalog; their episodes have to be ended all the same."""
        gone = {}
        for subject_id in beats:
            if subject_id in self._held and subject_id not in self._subjects:
                stored = await objects.get(connection, subject_id)
                if stored is not None and stored.removed_at is not None:
                    gone[subject_id] = compile_subject(stored, Bound(regions=("-",)))
        return gone

    def _remember(self, fold: Fold, due: set[UUID]) -> None:
        for subject_id, held in fold.changed.items():
            self._held[subject_id] = replace(held, version=held.version + 1)
            self._regions.put(self._subjects.get(subject_id), subject_id, held.state)
        for subject_id in fold.changed.keys() | due:
            self._schedule(subject_id)

    def _schedule(self, subject_id: UUID) -> None:
        """Look at this beat again at its next deadline. A deadline that moves away leaves its entry: it is early, once."""
        deadline, standing = self._deadline(subject_id), self._standing.get(subject_id)
        if deadline is not None and (standing is None or deadline < standing):
            self._standing[subject_id] = deadline
            heapq.heappush(self._deadlines, (deadline, subject_id))

    def _deadline(self, subject_id: UUID) -> float | None:
        held, subject = self._held.get(subject_id), self._subjects.get(subject_id)
        if held is None or subject is None:
            return None
        if held.state.suspended:
            return subject.paused_until_s if subject.paused_until_s < math.inf else None
        soonest = quorum.next_deadline(subject.policy, held.state)
        if (plan := subject.policy.heartbeat) is not None:
            silent = heartbeat.next_deadline(plan, held.state.heartbeat)
            return min((at for at in (soonest, silent) if at is not None), default=None)
        return soonest

    def _due(self, now: float) -> set[UUID]:
        """Beats with a deadline behind them."""
        due: set[UUID] = set()
        while self._deadlines and self._deadlines[0][0] <= now:
            standing, subject_id = heapq.heappop(self._deadlines)
            if self._standing.get(subject_id) != standing:
                continue
            del self._standing[subject_id]
            deadline = self._deadline(subject_id)
            if deadline is not None and deadline <= now:
                due.add(subject_id)
            else:
                self._schedule(subject_id)
        return due

    def _in_server_time(
        self, delivery: Delivery, batch: Batch, now: float
    ) -> list[tuple[str, float, Result]]:
        """A batch that is late by our clock and by the bus's was sent by a clock that is wrong; else it only waited."""
        skew_s = delivery.stored_at - batch.sent_at
        if abs(now - batch.sent_at) <= SKEW_S or abs(skew_s) <= SKEW_S:
            skew_s = 0.0
        elif batch.boot_id not in self._skewed:
            self._skewed.add(batch.boot_id)
            self._health.skewed_boots += 1
            _log.warning("the clock of probe boot %s is %.1f s apart from ours", batch.boot_id, -skew_s)
        return [(batch.boot_id, round(min(result.at + skew_s, now), 6), result) for result in batch.results]

    async def _announce(
        self, news: list[dict[str, object]], fresh: Sequence[tuple[str, float, Result]]
    ) -> None:
        runs = list[dict[str, object]]()
        for _, at, result in fresh:
            subject = self._subjects.get(uuid_of(result.beat_id))
            if subject is not None and result.stored:
                runs.append(
                    {
                        "event": "result",
                        "page": subject.page_id,
                        "beat": subject.slug,
                        "region": result.region,
                        "verdict": result.verdict,
                        "kind": result.kind,
                        "at": at,
                        "total": result.timings.total,
                    }
                )
        for about, items in ((LIVE, news), (LIVE_RESULTS, runs)):
            if items:
                await self._bus.announce(about, msgspec.json.encode(items))


def _once(arrived: Sequence[tuple[str, float, Result]], new: set[str]) -> list[tuple[str, float, Result]]:
    """Those that were written now, each once (a batch and its repeat may be fetched together); answers that are no runs last."""
    left = set(new)
    fresh, dropped = [], []
    for item in arrived:
        if not item[2].stored:
            dropped.append(item)  # they are logged as facts, and so behind the results
        elif item[2].run_id in left:
            left.discard(item[2].run_id)
            fresh.append(item)
    return [*fresh, *dropped]


def _sequences(batches: Sequence[tuple[Delivery, Batch]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for _, batch in batches:
        found.setdefault(batch.boot_id, []).append(batch.seq)
    return found
