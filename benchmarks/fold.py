"""Results folded per core-second: decoded from the wire and decided, beside a loop that only decodes them.

300 beats in 3 regions, default policy, 0.5 % bad runs. No database and no bus: what is counted is `engine.fold`.
"""

import time
from collections.abc import Mapping
from uuid import UUID, uuid4

from benchmarks.bench import line
from benchmarks.results import results
from engine.bus import decode, encode
from engine.fold import Fold
from engine.store.ids import uuid_of
from engine.store.states import Held
from engine.subject import Subject
from evaluators.model import Batch
from evaluators.policy import Bound, compile_policy
from evaluators.state import State
from rules.beat import BEAT

BEATS, REGIONS, ROUNDS, PER_BATCH = 300, ["eu", "us", "ap"], 60, 200
BOUND = Bound(regions=tuple(REGIONS))


def folded(encoded: list[bytes], subjects: Mapping[UUID, Subject]) -> float:
    """CPU seconds of decoding and folding all of it, a Fold for each batch as in a transaction."""
    held = {beat_id: Held(beat_id, 0, 1, "m", 0, State()) for beat_id in subjects}
    before = time.process_time()
    for data in encoded:
        batch = decode(data)
        fold = Fold(held, subjects.get, 0.0)
        for result in batch.results:
            fold.result(uuid_of(result.beat_id), result, batch.boot_id, result.at, result.at)
        held.update(fold.changed)
    return time.process_time() - before


def decoded(encoded: list[bytes]) -> float:
    """CPU seconds of only decoding it."""
    before = time.process_time()
    for data in encoded:
        decode(data)
    return time.process_time() - before


def main() -> None:
    beats = [uuid4() for _ in range(BEATS)]
    rule = BEAT.validate_python({"type": "tcp", "slug": "b", "host": "h", "port": 1, "interval": "30s"})
    policy = compile_policy(rule, BOUND)
    subjects = {beat: Subject(beat, uuid4(), "b", "tcp", 1, "m", BOUND, policy, 0.0, False) for beat in beats}
    made = list(results([str(b) for b in beats], REGIONS, ROUNDS, began=1.8e9, interval_s=30.0, bad=0.005))
    boot = str(uuid4())
    encoded = [
        encode(Batch(boot, number, 0, 1.8e9, tuple(made[first : first + PER_BATCH])))
        for number, first in enumerate(range(0, len(made), PER_BATCH))
    ]
    runs = [(folded(encoded, subjects), decoded(encoded)) for _ in range(3)]
    figure, baseline = (len(made) / min(run[place] for run in runs) for place in (0, 1))
    line(
        "fold",
        figure,
        unit="results per core-second",
        baseline=baseline,
        target=">= 100,000/s",
        is_met=figure >= 100_000,
        higher_is_better=True,
        ran=f"{len(made)} results of {BEATS} beats in 3 regions, batches of {PER_BATCH}, best of 3; baseline decodes only",
    )


if __name__ == "__main__":
    main()
