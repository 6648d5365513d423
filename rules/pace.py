"""When and how long a check runs: interval, attempts and the deadline they have together."""

from dataclasses import dataclass

from rules.kinds.kind import ProbedRule

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """When and how long a check runs; everything in seconds."""

    interval_s: float
    timeout_s: float  # per attempt
    retries: int
    deadline_s: float  # all attempts and back-off, never more than the interval
    degraded_after: tuple[tuple[str, float], ...]  # phase or `step NAME`, and limit
    retries_any: bool = True  # False: only what the network did to an attempt is worth another


def run_deadline_s(interval_s: float, timeout_s: float, retries: int) -> float:
    """All attempts and the back-off between them, cut at the interval."""
    backoff_s: float = sum(min(BACKOFF_FIRST_S * 2**n, BACKOFF_MAX_S) for n in range(retries))
    return min(timeout_s * (retries + 1) + backoff_s, interval_s)


def compile_pace(beat: ProbedRule) -> Pace:
    """The pace of `beat`."""
    return Pace(
        beat.interval,
        beat.timeout,
        beat.retries,
        run_deadline_s(beat.interval, beat.timeout, beat.retries),
        beat.degraded_after.limits_s,
        beat.retry_on == "failure",
    )
