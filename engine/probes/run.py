"""One run of one check: attempts with back-off under an enforced deadline. Knows no schedule, region or bus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.probes.context import Context
from evaluators.model import Failure, Outcome, Timings, Verdict
from rules.check import Check


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run found. The caller adds who ran what, where and when."""

    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    failure: Failure | None  # None exactly when the verdict is ok
    timings: Timings  # of the last attempt, seconds
    attempts: int
    evidence: dict[str, Any] | None  # of bad runs only, JSON-like and small


async def run(check: Check, context: Context, *, reference: Sequence[tuple[str, int]] = ()) -> RunOutcome:
    """Run `check` once, with its retries, within `check.pace.deadline_s` seconds.

    After a failed network run the region's `reference` targets (host, port) are tried for at most 2 s more;
    when all fail, the verdict is `error`. Raises nothing but cancellation.
    """
    raise NotImplementedError


def troubled(kind: str, message: str) -> RunOutcome:
    """The outcome of a run that was not made for the probe's own trouble, e.g. `probe.config` or `probe.dropped`."""
    return RunOutcome(Verdict.ERROR, (), Failure(kind, message), Timings(), 0, None)
