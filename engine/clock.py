"""The one place that reads clocks; everything that needs time is handed a `Clock`."""

import time
from typing import Protocol


class Clock(Protocol):
    """Time as the engine sees it; tests hand in one they move by hand."""

    def monotonic_s(self) -> float:
        """Seconds that never go back, for intervals and deadlines."""
        ...

    def epoch_s(self) -> float:
        """Seconds since the epoch, UTC; may jump."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def monotonic_s(self) -> float:
        """`time.monotonic`."""
        return time.monotonic()

    def epoch_s(self) -> float:
        """`time.time`."""
        return time.time()
