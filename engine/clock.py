"""The one place that reads clocks; everything that needs time is handed a `Clock`."""

import time
from typing import Protocol

JUMP_S = 5.0


class Clock(Protocol):
    """Time as the engine sees it; tests hand in one they move by hand."""

    def monotonic_s(self) -> float:
        """Seconds that never go back, for intervals and deadlines."""
        ...

    def epoch_s(self) -> float:
        """Seconds since the epoch, UTC; never goes back within a process by more than a second."""
        ...


class SystemClock:
    """The machine's clocks, with the wall clock kept from stepping back.

    Small corrections are followed. A jump forward (a machine that slept, a clock that was set) is followed and
    counted in `jumps`; after a jump back time goes on from where it was until the wall clock has caught up.
    """

    __slots__ = ("_base_s", "jumps")

    def __init__(self) -> None:
        self._base_s = time.time() - time.monotonic()
        self.jumps = 0

    def monotonic_s(self) -> float:
        """`time.monotonic`."""
        return time.monotonic()

    def epoch_s(self) -> float:
        """`time.time`, steadied."""
        monotonic_s = time.monotonic()
        base_s = time.time() - monotonic_s
        ahead_s = base_s - self._base_s
        if ahead_s > -1.0:
            self._base_s = base_s
            self.jumps += ahead_s > JUMP_S
        return self._base_s + monotonic_s
