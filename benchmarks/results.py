"""Made-up results for benchmarks of what comes after measuring: steady, with the given part of bad ones and evidence."""

import random
from collections.abc import Iterator

from engine.store.ids import new_id
from evaluators.model import Failure, Kind, Outcome, Result, Timings, Verdict

OUTCOMES = (Outcome("status", True, 200), Outcome("json", True, "ok"), Outcome("timing.ttfb", True, 0.0123))
BAD = (Outcome("status", False, 503, "503 is not 200"),)
EVIDENCE = {
    "status": 503,
    "address": "192.0.2.17",
    "headers": {"content-type": "text/html", "server": "bench", "retry-after": "30"},
    "body": "<html><body><h1>503 Service Unavailable</h1>" + "x" * 400 + "</body></html>",
}


def results(
    beats: list[str], regions: list[str], rounds: int, *, began: float, interval_s: float, bad: float
) -> Iterator[Result]:
    """`rounds` runs of every beat in every region; a part `bad` of them critical, with evidence."""
    chance, seq = random.Random(7), 0
    for number in range(rounds):
        for beat in beats:
            for place, region in enumerate(regions):
                seq += 1
                due = began + number * interval_s + place * interval_s / len(regions)
                is_bad = chance.random() < bad
                yield Result(
                    run_id=str(new_id()),
                    beat_id=beat,
                    region=region,
                    kind=Kind.SCHEDULED,
                    verdict=Verdict.CRITICAL if is_bad else Verdict.OK,
                    scheduled_at=due,
                    at=due + 0.02,
                    seq=seq,
                    attempts=1,
                    timings=Timings(0.001, 0.002, 0.006, 0.009, 0.001, 0.019),
                    outcomes=BAD if is_bad else OUTCOMES,
                    failure=Failure("status", "503 is not 200 to 299") if is_bad else None,
                    evidence=EVIDENCE if is_bad else None,
                    check_version=1,
                )
