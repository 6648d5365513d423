"""Metering on a real bus, and destinations that do not wait for each other."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import msgspec
import pytest

from engine import metering
from engine.bus import LIVE, Bus
from engine.metering import Exports, Metering
from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import Pool, transaction
from engine.store.ids import new_id
from evaluators.model import Batch, Kind, Result, Timings, Verdict
from exporters.outcome import Delivered, Outcome, Retry
from tests.engine.conftest import Running, Until

ACTOR = Actor("test", "api")


async def test_a_batch_that_cannot_be_counted_is_passed_over(
    pool: Pool, bus: Bus, until: Until, running: Running
) -> None:
    counted: list[str] = []

    def observe(results: Sequence[Result]) -> None:
        if results[0].beat_id == "no id":
            raise ValueError("badly formed hexadecimal UUID string")
        counted.extend(result.beat_id for result in results)

    counting = Metering(pool, bus, observe=observe, stand=lambda *_: None)
    await bus.fetch("otlp", 0, 1, 0.1)  # its consumer begins with what comes from now on
    running(counting.run())
    for seq, beat_id in enumerate(("no id", "one"), 1):
        result = Result(
            str(new_id()), beat_id, "eu", Kind.SCHEDULED, Verdict.OK, 1.0, 1.0, seq, 1, Timings(total=0.1)
        )
        await bus.publish(Batch(str(uuid4()), 1, 0, 1.0, (result,)))
    await until(lambda: counted == ["one"])


async def test_what_stands_beside_a_stage_is_told_at_the_start_and_with_every_change(
    pool: Pool, bus: Bus, until: Until, running: Running
) -> None:
    async with transaction(pool) as connection:
        page = await objects.create(connection, ACTOR, "page", None, {"slug": "p", "name": "P"})
        group = await objects.create(connection, ACTOR, "group", page.id, {"slug": "g"})
        state = {"flapping": True, "suppressed_by": ["asking"]}
        await connection.execute("UPDATE states SET stage = 'critical', state = $1", state)
    told: list[tuple[str, str, bool, bool]] = []
    running(Metering(pool, bus, observe=lambda _: None, stand=lambda *said: told.append(said)).run())
    await until(lambda: told == [(str(group.id), "critical", True, True)])
    news = {"event": "stage", "subject_id": "other", "stage": "ok", "flapping": False, "suppressed": False}
    await bus.announce(LIVE, msgspec.json.encode([news]))
    await until(lambda: told[1:] == [("other", "ok", False, False)])


class Place:
    """A destination that counts its flushes. `outcome` None: it never answers."""

    interval_s = 0.01

    def __init__(self, name: str, outcome: Outcome | None) -> None:
        self.name, self.outcome = name, outcome
        self.flushes = 0
        self.is_closed = False

    async def flush(self) -> Outcome:
        self.flushes += 1
        if self.outcome is None:
            await asyncio.Event().wait()
        assert self.outcome is not None
        if self.name == "a bug":
            raise RuntimeError("what must not be")
        return self.outcome

    async def close(self) -> None:
        self.is_closed = True


async def test_a_destination_that_hangs_waits_or_fails_keeps_no_other_from_its_measurements(
    until: Until, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "LOOK_S", 0.01)
    places = {
        name: Place(name, outcome)
        for name, outcome in (
            ("hangs", None),
            ("asks to wait", Retry("HTTP 503", 3600.0)),
            ("a bug", Delivered()),
            ("well", Delivered()),
        )
    }

    def open_(name: str) -> Place:
        if name == "no certificate":
            raise ValueError("that is none")
        return places[name]

    wanted = {*places, "no certificate"}
    exports: Exports[str, Place] = Exports(lambda: wanted, open_)
    task = running(exports.run())
    await until(lambda: places["well"].flushes > 20 and places["a bug"].flushes > 2)
    assert (places["hangs"].flushes, places["asks to wait"].flushes) == (1, 1)

    wanted = {"well"}
    await until(lambda: all(place.is_closed for name, place in places.items() if name != "well"))
    assert [place.name for place in exports.destinations] == ["well"]
    task.cancel()
    await until(lambda: places["well"].is_closed)


async def test_failures_that_follow_each_other_lead_to_longer_pauses(
    until: Until, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    slept = asyncio.sleep

    async def sleep(delay_s: float) -> None:
        if delay_s != metering.LOOK_S:
            waits.append(delay_s)
        await slept(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    place = Place("away", Retry("Connection refused"))
    place.interval_s = 15.0
    exports: Exports[str, Place] = Exports(lambda: {"away"}, lambda _: place)
    running(exports.run())
    async with asyncio.timeout(10):
        while len(waits) < 6:
            await slept(0)
    assert waits[1:6] == [15.0, 30.0, 60.0, 60.0, 60.0]
