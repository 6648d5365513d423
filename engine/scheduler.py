"""Starts what is due, so many at a time, and says how late: the loop around `engine.schedule`. Knows no check.

At most `slots` runs are in progress. When all are, what is due waits its turn, the longest-due first. Runs out of
schedule (`run_extra`) may take a fifth of the slots, at least one, on top of a full house: an outage that fills the slots
with hanging targets is when they are wanted.
"""

import asyncio
import bisect
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from engine.clock import Clock
from engine.schedule import Schedule
from engine.tasks import end

SLOTS: Final = 1000
EXTRA_SHARE: Final = 5  # one slot in so many
STOOD_STILL_S: Final = 2.0  # a sleep that ends so much too late means that the process did not run
_AT_ONCE: Final = 16  # runs started before sockets are looked at again
_BOUNDS_S: Final = tuple(10 ** (n / 20 - 4) for n in range(121))  # 0.1 ms to 100 s, a step is 12 %

K = TypeVar("K", bound=Hashable)
_log = logging.getLogger(__name__)


class Lateness:
    """A histogram of seconds between due and begun."""

    def __init__(self) -> None:
        self.count, self.max_s = 0, 0.0
        self._counts = [0] * (len(_BOUNDS_S) + 1)

    def record(self, late_s: float) -> None:
        self.count += 1
        self.max_s = max(self.max_s, late_s)
        self._counts[bisect.bisect_left(_BOUNDS_S, late_s)] += 1

    def quantile_s(self, q: float) -> float:
        """Seconds that a part `q` of the runs did not exceed, at most 12 % too high; 0 when there were none."""
        left = q * self.count
        for bound_s, count in zip(_BOUNDS_S, self._counts, strict=False):
            left -= count
            if left <= 0:
                return min(bound_s, self.max_s)
        return self.max_s


class Scheduler(Generic[K]):
    """Awaits `run_one(key, scheduled_at)` in a task of its own for everything that is due.

    `scheduled_at` is in seconds since the epoch by the wall clock of now.
    """

    def __init__(
        self,
        clock: Clock,
        run_one: Callable[[K, float], Awaitable[None]],
        *,
        slots: int = SLOTS,
    ) -> None:
        self.entries: Schedule[K] = Schedule(clock)
        self.lateness = Lateness()
        self.started = self.delayed = self.refused = (
            0  # runs; runs that waited for a slot; extra runs refused
        )
        self._clock, self._run_one, self._slots = clock, run_one, slots
        self._regular: set[asyncio.Task[None]] = set()
        self._extra: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._freed_s = float("-inf")  # when there last was a slot after there was none

    @property
    def in_progress(self) -> int:
        """Runs now, extra ones included."""
        return len(self._regular) + len(self._extra)

    @property
    def overdue_s(self) -> float:
        """For how long the longest-due entry has been due; 0 when none is."""
        due_s = self.entries.next_due_s()
        return 0.0 if due_s is None else max(self._clock.monotonic_s() - due_s, 0.0)

    def wake(self) -> None:
        """Entries were changed: look again when the next one is due."""
        self._wake.set()

    def run_extra(self, run: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Run something now, out of schedule. False, and counted, when those take their share of slots already."""
        if len(self._extra) >= max(1, self._slots // EXTRA_SHARE):
            self.refused += 1
            return False
        self._task(run(), self._extra)
        return True

    async def run(self) -> None:
        """Start what is due until cancelled; then runs in progress are cancelled too."""
        try:
            while True:
                self._wake.clear()
                self._fire()
                await self._sleep()
        finally:
            await end((*self._regular, *self._extra))

    def _fire(self) -> None:
        """Start a few of those that are due; `_sleep` comes back at once while there are more."""
        for _ in range(_AT_ONCE):
            if len(self._regular) + len(self._extra) >= self._slots:
                return
            if (taken := self.entries.take()) is None:
                return
            self.started += 1
            self.delayed += taken[1] <= self._freed_s
            self._task(self._timed(*taken), self._regular)

    async def _sleep(self) -> None:
        """Until the next is due, entries change, or a slot is free: one timer."""
        due_s, now_s = self.entries.next_due_s(), self._clock.monotonic_s()
        is_full = len(self._regular) + len(self._extra) >= self._slots
        if due_s is not None and due_s <= now_s and not is_full:
            await asyncio.sleep(0)
            return
        timer = None
        if due_s is not None and not is_full:
            timer = asyncio.get_running_loop().call_later(_whole_ms(due_s - now_s), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()
        if is_full:
            self._freed_s = self._clock.monotonic_s()
        if timer is not None and due_s is not None and self._clock.monotonic_s() - due_s > STOOD_STILL_S:
            count = self.entries.stood_still()
            _log.warning("the process stood still; %d late runs are spread", count)

    async def _timed(self, key: K, due_s: float) -> None:
        now_s = self._clock.monotonic_s()
        self.lateness.record(now_s - due_s)
        await self._run_one(key, due_s + self._clock.epoch_s() - now_s)

    def _task(self, run: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(run)
        among.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        was_full = len(self._regular) + len(self._extra) >= self._slots
        self._regular.discard(task)
        self._extra.discard(task)
        if was_full:
            self._wake.set()
        if not task.cancelled() and (failure := task.exception()) is not None:
            _log.error("a run failed in a way it must not", exc_info=failure)


def _whole_ms(delay_s: float) -> float:
    """Loops count in milliseconds; one that rounds down would wake us again and again until the moment has come."""
    return math.ceil(delay_s * 1000) / 1000
