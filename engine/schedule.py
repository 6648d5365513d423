"""When each entry is due: a heap over the monotonic clock, in step with a wall-clock grid. Starts nothing, never waits.

Every entry has a place on a grid that all processes agree on: (k + fraction) x interval since the epoch. The wall
clock is only ever used to know the grid; what waits is monotonic. So:

- A run's next one is the grid point nearest to one interval later: no drift, however late the run itself began.
- When the wall clock is set, by an hour or by drift, entries follow by at most a tenth of an interval a run:
  neighbouring runs stay 0.9 to 1.1 intervals apart, and the installation never sees a burst or a hole.
- New entries first run within min(interval, 2 s + n/500 s), one after the other, and fall into their place with their
  second run, half an interval later at the earliest and one and a half at the latest.
- Whoever is late by an interval or more runs once, not once for each missed turn. Entries that came due while the
  whole process stood still are new again: one catch-up run each, spread in the same way.
"""

import heapq
import zlib
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from uuid import UUID

from engine.clock import Clock

SPREAD_S: Final = 2.0
SPREAD_PER_S: Final = 500.0  # first runs a second, beyond SPREAD_S
FOLLOW: Final = 0.1  # of an interval, the most a run moves to follow the wall clock

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Turn(Generic[K]):
    """One entry's next run. Changed entries get another one; the old one is left in the heap, dead."""

    key: K
    interval_s: float
    fraction: float  # of the interval, its place on the grid
    is_first: bool
    is_alive: bool = True


def fraction_of(beat_id: UUID, index: int = 0, of: int = 1) -> float:
    """The place of a beat on the grid in the `index`-th `of` its regions: somebody looks every interval/`of`."""
    return (zlib.crc32(beat_id.bytes) / 2**32 + index / max(of, 1)) % 1.0


class Schedule(Generic[K]):
    """All entries by key, and which are due."""

    def __init__(self, clock: Clock) -> None:
        self.missed = 0  # turns that were never run, their entry being an interval or more behind
        self._clock = clock
        self._turns: dict[K, Turn[K]] = {}
        self._heap: list[tuple[float, int, Turn[K]]] = []
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, key: K) -> bool:
        return key in self._turns

    def __iter__(self) -> Iterator[K]:
        return iter(self._turns)

    def put(self, entries: Iterable[tuple[K, float, float]]) -> None:
        """Take up (key, interval_s, fraction) entries, together. What is known and unchanged keeps its turn."""
        now_s, new = self._clock.monotonic_s(), list[Turn[K]]()
        for key, interval_s, fraction in entries:
            known = self._turns.get(key)
            if known is not None and (known.interval_s, known.fraction) == (interval_s, fraction):
                continue
            turn = Turn(key, interval_s, fraction, is_first=known is None)
            if known is None:
                new.append(turn)
            else:  # the grid spreads those whose pace changed
                known.is_alive = False
                self._push(turn, self._after(turn, now_s))
            self._turns[key] = turn
        self._spread(new, now_s)

    def drop(self, key: K) -> None:
        """Forget an entry."""
        if (turn := self._turns.pop(key, None)) is not None:
            turn.is_alive = False
        if len(self._heap) > 2 * len(self._turns) + 64:
            self._heap = [item for item in self._heap if item[2].is_alive]
            heapq.heapify(self._heap)

    def next_due_s(self) -> float | None:
        """When the next entry is due (monotonic seconds), or None when there is none."""
        while self._heap and not self._heap[0][2].is_alive:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self) -> tuple[K, float] | None:
        """The entry that is due longest and when it was (monotonic seconds), or None. Its next turn is set."""
        due_s, now_s = self.next_due_s(), self._clock.monotonic_s()
        if due_s is None or due_s > now_s:
            return None
        turn = heapq.heappop(self._heap)[2]
        following_s = self._following(turn, due_s)
        if following_s <= now_s:
            following_s = self._grid(turn, now_s + turn.interval_s)
            self.missed += int((now_s - due_s) / turn.interval_s)
        turn.is_first = False
        self._push(turn, following_s)
        return turn.key, due_s

    def stood_still(self) -> int:
        """The process did not run for a while: spread what came due meanwhile. Returns how many that were."""
        now_s, late = self._clock.monotonic_s(), list[Turn[K]]()
        while (due_s := self.next_due_s()) is not None and due_s <= now_s:
            turn = heapq.heappop(self._heap)[2]
            self.missed += int((now_s - due_s) / turn.interval_s)
            turn.is_first = True
            late.append(turn)
        self._spread(late, now_s)
        return len(late)

    def _spread(self, turns: list[Turn[K]], now_s: float) -> None:
        window_s = SPREAD_S + len(turns) / SPREAD_PER_S
        for n, turn in enumerate(turns):
            self._push(turn, now_s + min(turn.interval_s, window_s) * n / len(turns))

    def _following(self, turn: Turn[K], due_s: float) -> float:
        """One interval after `due_s`, moved towards the grid: all the way after a first run, else a little."""
        target_s = due_s + turn.interval_s
        away_s = self._grid(turn, target_s) - target_s
        most_s = turn.interval_s * (0.5 if turn.is_first else FOLLOW)
        return target_s + min(max(away_s, -most_s), most_s)

    def _after(self, turn: Turn[K], now_s: float) -> float:
        """The first grid point after `now_s`."""
        point_s = self._grid(turn, now_s)
        return point_s if point_s > now_s else point_s + turn.interval_s

    def _grid(self, turn: Turn[K], near_s: float) -> float:
        """The grid point nearest to `near_s`, both monotonic."""
        offset_s = self._clock.epoch_s() - self._clock.monotonic_s()
        steps = round((near_s + offset_s) / turn.interval_s - turn.fraction)
        return (steps + turn.fraction) * turn.interval_s - offset_s

    def _push(self, turn: Turn[K], due_s: float) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (due_s, self._pushed, turn))
