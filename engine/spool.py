"""Finished results on their way: kept in bounded memory until they are committed, published again where they are not.

A PubAck is not the end of it, a commit is: the evaluator's watermark (`engine.store.watermarks`) is read once a
second. Batches that are not below it after REPEAT_S are looked into:

- One that was *overtaken* (a later one of its partition is committed) got lost: it is sent again, twice under its own
  id, which the stream refuses if it still has it, then under new ones. Evaluators know results by their run ids.
- If nothing was overtaken, perhaps nobody is evaluating. Sending all of it again would only heap up copies, so just
  the oldest of each partition is, under its own id. If the stream takes that as new, its data was wiped (or has aged
  past the duplicate window), and everything of that partition is sent again.

What is dropped for want of memory is the oldest, so that one number per partition says it all: the watermark is
moved past it as soon as the database is there, for a gap would hold it up for ever.
"""

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import Raw

from engine.bus import Bus, BusError, Sealed
from engine.clock import Clock
from engine.store.database import DATABASE_AWAY, Pool
from engine.store.watermarks import committed, pass_over
from engine.tasks import end
from evaluators.model import Kind, Result, Verdict

MOST: Final = 100_000  # results
MOST_BYTES: Final = 256 << 20  # of them: those of failed runs bring evidence, some 10 KB at the most
BATCH: Final = 200
BATCH_BYTES: Final = 512 * 1024  # a NATS server takes 1 MiB unless told otherwise
FLUSH_S: Final = 0.1
CALM_FLUSH_S: Final = (
    0.5  # while all is well: a message costs the bus and the database more than a result in it
)
SLOW_FLUSH_S: Final = 1.0  # while nobody takes them: fewer, larger batches
POLL_S: Final = 1.0
REPEAT_S: Final = 5.0
REPEAT_FACTOR: Final = 12  # repeats slow down to one in REPEAT_S times so much
SAME_ID: Final = 2  # repeats under the batch's own id
RETRY_S: Final = 0.5
QUERY_TIMEOUT_S: Final = 5.0
IN_FLIGHT: Final = 32
DRAIN_S: Final = 5.0
_CROWD: Final = 2000  # batches not committed

_log = logging.getLogger(__name__)
_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class _Open:
    since_s: float
    results: list[bytes] = field(default_factory=list)
    size_bytes: int = 0


@dataclass(slots=True, eq=False)
class _Held:
    partition: int
    seq: int
    count: int
    size_bytes: int  # of the results
    data: bytes  # a JSON array
    since_s: float  # when its first result was finished
    is_published: bool = False
    is_moving: bool = False  # in the queue, or on its way
    sent_s: float = 0.0
    repeats: int = 0  # since it was overtaken


@dataclass(slots=True)
class _Lane:
    """One partition."""

    seq: int = 0
    given_up: int = 0  # up to here everything is committed or dropped
    open: _Open | None = None
    held: dict[int, _Held] = field(default_factory=dict)  # by seq, in order


class Spool:
    """All uncommitted results of one probe process, which is one boot."""

    def __init__(
        self,
        bus: Bus,
        pool: Pool,
        boot_id: str,
        *,
        clock: Clock,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
        poll_s: float = POLL_S,
        repeat_s: float = REPEAT_S,
    ) -> None:
        self.held = 0  # results not known to be committed
        self.dropped = 0  # results lost for want of memory
        self.repeated = 0  # batches sent again
        self._bus, self._pool, self._boot_id, self._clock = bus, pool, boot_id, clock
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        self._poll_s, self._repeat_s = poll_s, repeat_s
        self._lanes: dict[int, _Lane] = {}
        self._order: deque[_Held] = deque()  # as sealed; those committed since linger for a while
        self._queue: deque[_Held] = deque()  # to be published, the first one next
        self._sending: set[asyncio.Task[None]] = set()
        self._filled, self._urgent = asyncio.Event(), asyncio.Event()
        self._is_told = False

    @property
    def oldest_uncommitted_s(self) -> float:
        """For how long the oldest result has been waiting to be committed; 0 when none does."""
        since_s = [lane.open.since_s for lane in self._lanes.values() if lane.open]
        since_s += [next(iter(lane.held.values())).since_s for lane in self._lanes.values() if lane.held]
        return max(self._clock.monotonic_s() - min(since_s), 0.0) if since_s else 0.0

    def add(self, partition: int, result: Result) -> None:
        """Take in a finished result. When memory is full the oldest results are dropped and counted."""
        lane = self._lanes.setdefault(partition, _Lane())
        if lane.open is None:
            lane.open = _Open(self._clock.monotonic_s())
            self._filled.set()
        if result.verdict is not Verdict.OK or result.kind is not Kind.SCHEDULED:
            self._urgent.set()  # somebody decides by it, or waits for it
        data = _encoder.encode(result)
        lane.open.results.append(data)
        lane.open.size_bytes += len(data)
        self.held += 1
        self._bytes += len(data)
        if len(lane.open.results) >= BATCH or lane.open.size_bytes >= BATCH_BYTES:
            self._seal(partition, lane)
        while (self.held > self._most or self._bytes > self._most_bytes) and self._drop_oldest():
            pass

    async def run(self) -> None:
        """Flush, publish and watch the watermark until cancelled; `drain` is then the caller's last word."""
        self._bus.on_connect.append(self._pump)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._flush())
                group.create_task(self._watch())
        finally:
            self._bus.on_connect.remove(self._pump)

    async def drain(self, within_s: float = DRAIN_S) -> bool:
        """Publish what there is and wait until it is committed, `within_s` seconds at most. Whether all of it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while any(lane.open or lane.held for lane in self._lanes.values()):
                    self._seal_all()
                    self._pump()
                    await asyncio.sleep(FLUSH_S)
                    await self._tend()
        await end(self._sending)
        if self.held:
            _log.warning("%d results were not committed in time", self.held)
        return not self.held

    # ---- out

    async def _flush(self) -> None:
        while True:
            await self._filled.wait()
            if not self._bus.connected or len(self._order) > _CROWD:
                await asyncio.sleep(SLOW_FLUSH_S)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CALM_FLUSH_S - FLUSH_S):
                        await self._urgent.wait()
                await asyncio.sleep(FLUSH_S)
            self._seal_all()

    def _seal_all(self) -> None:
        self._filled.clear()
        self._urgent.clear()
        for partition, lane in self._lanes.items():
            self._seal(partition, lane)

    def _seal(self, partition: int, lane: _Lane) -> None:
        if (filled := lane.open) is None:
            return
        lane.open = None
        lane.seq += 1
        data = b"[" + b",".join(filled.results) + b"]"
        held = _Held(partition, lane.seq, len(filled.results), filled.size_bytes, data, filled.since_s)
        lane.held[lane.seq] = held
        self._order.append(held)
        self._send(held)

    def _drop_oldest(self) -> bool:
        while self._order:
            held = self._order.popleft()
            if self._is_held(held):
                lane = self._lanes[held.partition]
                self._forget(lane.held.pop(held.seq))
                lane.given_up = held.seq
                self.dropped += held.count
                if len(self._queue) > 100 + 2 * len(self._order):
                    self._queue = deque(held for held in self._queue if self._is_held(held))
                return True
        return False

    def _forget(self, held: _Held) -> None:
        self.held -= held.count
        self._bytes -= held.size_bytes

    def _is_held(self, held: _Held) -> bool:
        return self._lanes[held.partition].held.get(held.seq) is held

    def _send(self, held: _Held) -> None:
        if not held.is_moving:
            held.is_moving = True
            self._queue.append(held)
            self._pump()

    def _pump(self) -> None:
        while self._queue and len(self._sending) < IN_FLIGHT and self._bus.connected:
            held = self._queue.popleft()
            if self._is_held(held):
                task = asyncio.get_running_loop().create_task(self._publish(held))
                self._sending.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._pump()

    async def _publish(self, held: _Held) -> None:
        sealed = Sealed(self._boot_id, held.seq, held.partition, self._clock.epoch_s(), Raw(held.data))
        try:
            is_new = await self._bus.publish(sealed, repeat=max(held.repeats - SAME_ID, 0))
        except BusError as failure:
            if not self._is_told:
                self._is_told = True
                _log.warning("results are kept and tried again: %s", failure)
            await asyncio.sleep(RETRY_S)
            self._queue.appendleft(held)
            return
        was_published, held.is_published = held.is_published, True
        self._is_told = held.is_moving = False
        held.sent_s = self._clock.monotonic_s()
        if was_published and is_new and not held.repeats:
            self._resend_with(held)

    def _resend_with(self, canary: _Held) -> None:
        """The stream no longer knew `canary`: what was published with it is gone as well."""
        for held in self._lanes[canary.partition].held.values():
            if held is not canary and held.is_published:
                self.repeated += 1
                self._send(held)

    # ---- committed

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self._tend()

    async def _tend(self) -> None:
        """Forget what is committed, look into what is not."""
        if not any(lane.held for lane in self._lanes.values()):
            return
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S), self._pool.acquire() as connection:
                marks = await committed(connection, self._boot_id)
                for partition, lane in self._lanes.items():
                    if marks.get(partition, (0, ()))[0] < lane.given_up:
                        await pass_over(
                            connection, self._boot_id, partition, lane.given_up, self._clock.epoch_s()
                        )
        except DATABASE_AWAY:
            return  # without the database nothing is committed either; whoever renews leases says so
        for partition, lane in self._lanes.items():
            seq, ahead = marks.get(partition, (0, frozenset[int]()))
            for done in [n for n in lane.held if n <= seq or n in ahead]:
                self._forget(lane.held.pop(done))
            self._look_into(lane, max(ahead, default=seq))
        if len(self._order) > 100 + 2 * sum(len(lane.held) for lane in self._lanes.values()):
            self._order = deque(held for held in self._order if self._is_held(held))

    def _look_into(self, lane: _Lane, newest: int) -> None:
        now_s = self._clock.monotonic_s()
        late = [
            held
            for held in lane.held.values()
            if held.is_published
            and not held.is_moving
            and now_s - held.sent_s >= self._repeat_s * min(2**held.repeats, REPEAT_FACTOR)
        ]
        overtaken = [held for held in late if held.seq < newest]
        for held in overtaken:
            held.repeats += 1
        for held in overtaken or late[:1]:
            self.repeated += 1
            self._send(held)
