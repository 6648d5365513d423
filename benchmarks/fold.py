"""Results folded per core-second: decoded from the wire and decided, beside a loop that only decodes them.

300 beats in 3 regions and groups of 10, default policy, 0.5 % bad runs, and an outage of one group in five. What members
say is folded at their groups. No database and no bus: what is counted is `engine.fold`.
"""

import itertools
import time
from collections.abc import Mapping
from uuid import UUID, uuid4

from msgspec.structs import replace

from benchmarks.bench import line
from benchmarks.results import results
from engine import consequences
from engine.bus import decode, encode
from engine.fold import Fold
from engine.store.ids import uuid_of
from engine.store.pushed import Pushed
from engine.store.states import Held
from engine.subject import Subject
from evaluators.facts import EpisodeOpened
from evaluators.model import Batch, Verdict
from evaluators.policy import Bound, compile_policy
from evaluators.state import State
from rules.beat import BEAT
from rules.group import Group

BEATS, REGIONS, ROUNDS, PER_BATCH = 300, ["eu", "us", "ap"], 60, 200
PER_GROUP, OUTAGE = 10, range(20, 26)


def folded(encoded: list[bytes], subjects: Mapping[UUID, Subject]) -> tuple[float, int]:
    """CPU seconds of decoding and folding all of it, a Fold for each batch as in a transaction; episodes that opened."""
    held = {
        subject_id: Held(subject_id, 0, 1, "m", 0, State(group=subject.bound.group), subject.bound)
        for subject_id, subject in subjects.items()
    }
    numbers, opened = itertools.count(1), 0
    before = time.process_time()
    for data in encoded:
        batch = decode(data)
        fold = Fold(held, subjects.get, 0.0)
        for result in batch.results:
            fold.result(uuid_of(result.beat_id), result, batch.boot_id, result.at, result.at)
        for to, said in consequences.said(fold.consequences, lambda _: ()):
            fold.pushed(Pushed(next(numbers), to, said.fact.at, said, None), said.fact.at)
        held.update(fold.changed)
        opened += sum(isinstance(c.effect, EpisodeOpened) for c in fold.consequences)
    return time.process_time() - before, opened


def decoded(encoded: list[bytes]) -> float:
    """CPU seconds of only decoding it."""
    before = time.process_time()
    for data in encoded:
        decode(data)
    return time.process_time() - before


def main() -> None:
    beats, groups = [uuid4() for _ in range(BEATS)], [uuid4() for _ in range(BEATS // PER_GROUP)]
    rule = BEAT.validate_python({"type": "tcp", "slug": "b", "host": "h", "port": 1, "interval": "30s"})
    group_policy = compile_policy(Group(slug="g"), Bound())
    subjects = {
        g: Subject(g, uuid4(), "g", "group", 1, "m", Bound(), group_policy, 0.0, False) for g in groups
    }
    for place, beat in enumerate(beats):
        bound = Bound(regions=tuple(REGIONS), group=str(groups[place // PER_GROUP]))
        subjects[beat] = Subject(
            beat, uuid4(), "b", "tcp", 1, "m", bound, compile_policy(rule, bound), 0.0, False
        )
    down = {str(beat) for place, beat in enumerate(beats) if place // PER_GROUP % 5 == 0}
    made = [
        replace(run, verdict=Verdict.CRITICAL)
        if number // (BEATS * len(REGIONS)) in OUTAGE and run.beat_id in down
        else run
        for number, run in enumerate(
            results([str(b) for b in beats], REGIONS, ROUNDS, began=1.8e9, interval_s=30.0, bad=0.005)
        )
    ]
    boot = str(uuid4())
    encoded = [
        encode(Batch(boot, number, 0, 1.8e9, tuple(made[first : first + PER_BATCH])))
        for number, first in enumerate(range(0, len(made), PER_BATCH))
    ]
    runs = [(folded(encoded, subjects), decoded(encoded)) for _ in range(3)]
    figure = len(made) / min(seconds for (seconds, _), _ in runs)
    baseline = len(made) / min(seconds for _, seconds in runs)
    assert all(opened == len(down) // PER_GROUP for (_, opened), _ in runs), (
        "one episode for each group that was down"
    )
    line(
        "fold",
        figure,
        unit="results per core-second",
        baseline=baseline,
        target=">= 100,000/s",
        is_met=figure >= 100_000,
        higher_is_better=True,
        ran=f"{len(made)} results of {BEATS} beats in 3 regions and groups of {PER_GROUP}, batches of {PER_BATCH}, best of 3; baseline decodes only",
    )


if __name__ == "__main__":
    main()
