"""Metering on a real bus: what cannot be counted ends nothing."""

from collections.abc import Sequence
from uuid import uuid4

from engine.bus import Bus
from engine.metering import Metering
from engine.store.database import Pool
from engine.store.ids import new_id
from evaluators.model import Batch, Kind, Result, Timings, Verdict
from tests.engine.conftest import Running, Until


async def test_a_batch_that_cannot_be_counted_is_passed_over(
    pool: Pool, bus: Bus, until: Until, running: Running
) -> None:
    counted: list[str] = []

    def observe(results: Sequence[Result]) -> None:
        if results[0].beat_id == "no id":
            raise ValueError("badly formed hexadecimal UUID string")
        counted.extend(result.beat_id for result in results)

    metering = Metering(pool, bus, observe=observe, stage=lambda *_: None, flush=None, interval_s=60.0)
    await bus.fetch("otlp", 0, 1, 0.1)  # its consumer begins with what comes from now on
    running(metering.run())
    for seq, beat_id in enumerate(("no id", "one"), 1):
        result = Result(
            str(new_id()), beat_id, "eu", Kind.SCHEDULED, Verdict.OK, 1.0, 1.0, seq, 1, Timings(total=0.1)
        )
        await bus.publish(Batch(str(uuid4()), 1, 0, 1.0, (result,)))
    await until(lambda: counted == ["one"])
