"""One attempt of a probe: its deadline, its phases, and what ended it. Knows no retries and judges nothing."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

from engine.probes.context import Context
from engine.probes.trouble import TroubleError, of_os_error, timed_out
from evaluators.model import Failure, Timings
from evaluators.observation import Observation

MESSAGE_MAX: Final = 500  # characters


Mark = tuple[float, dict[str, float]]


class Watch:
    """Seconds per phase. Phases never overlap; a phase entered again, after a redirect, adds up."""

    __slots__ = ("_began", "_clock", "_since", "_spent", "ends_s", "phase", "speaks")

    def __init__(self, clock: Callable[[], float], timeout_s: float = math.inf) -> None:
        self._clock = clock
        self._began = self._since = clock()
        self._spent: dict[str, float] = {}
        self.ends_s = self._began + timeout_s  # by the clock: when the attempt is cut
        self.phase = ""
        self.speaks = "http"  # or tcp, icmp: whose error types a failure gets once connected

    def enter(self, phase: str) -> None:
        """The phase before ends here; what follows is no phase where `phase` is empty."""
        now = self._clock()
        if self.phase:
            self._spent[self.phase] = self._spent.get(self.phase, 0.0) + now - self._since
        self.phase, self._since = phase, now

    def put(self, phase: str, spent_s: float) -> None:
        """Say what a phase took that was measured by other means."""
        self._spent[phase] = spent_s

    def mark(self) -> Mark:
        """Now, for `since`. Hops and steps are measured so, as they are parts of one attempt."""
        self.enter(self.phase)
        return self._since, dict(self._spent)

    def since(self, mark: Mark | None) -> Timings:
        """What was spent since `mark`, or since the begin."""
        began, before = mark or (self._began, {})
        self.enter(self.phase)
        spent = {
            phase: s - before.get(phase, 0.0) for phase, s in self._spent.items() if s != before.get(phase)
        }
        return Timings(**spent, total=self._since - began)

    def leave_out(self) -> float:
        """End a phase that is not the target's and counts in nothing, not even in the total; its seconds."""
        now = self._clock()
        spent = now - self._since
        self._began += spent
        self.phase, self._since = "", now
        return spent

    def count_only(self, total_s: float) -> None:
        """What it took is known better than by its begin and end: it is `total_s` so far."""
        self.enter("")
        self._began = max(self._began, self._since - total_s)

    def stop(self) -> Timings:
        """End the last phase. `total` includes what lies between phases."""
        if self.phase == "auth":
            self.leave_out()
        self.enter(self.phase)
        return Timings(**self._spent, total=self._since - self._began)


Probe = Callable[[Any, Context, Watch, Observation], Awaitable[None]]
"""Fills in the observation. Raises `TroubleError`, `OSError` in a phase, or cancellation."""


async def attempt(probe: Probe, check: Any, context: Context, timeout_s: float) -> Observation:
    """Run `probe` for at most `timeout_s` seconds. Raises nothing but cancellation and bugs."""
    seen, watch, limit = Observation(), Watch(context.clock, timeout_s), asyncio.timeout(timeout_s)
    try:
        async with limit:
            await probe(check, context, watch, seen)
    except TroubleError as trouble:
        seen.failure = failure_of(trouble)
    except OSError as failure:  # TimeoutError is one, and ETIMEDOUT is a TimeoutError
        phase = watch.phase
        seen.failure = failure_of(
            timed_out(phase, timeout_s, watch.speaks)
            if limit.expired()
            else of_os_error(phase, failure, watch.speaks)
        )
    seen.timings = watch.stop()
    return seen


def failure_of(trouble: TroubleError) -> Failure:
    """What is told of it, cut."""
    return Failure(trouble.kind, str(trouble)[:MESSAGE_MAX])
