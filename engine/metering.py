"""Measuring for others: hands every result of the bus and every stage to who counts them, and has destinations flushed."""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from engine.bus import LIVE, OTLP, Bus, decode
from engine.store.database import DATABASE_AWAY, Pool
from evaluators.model import Result, Stage
from exporters.outcome import Delivered, Outcome, Retry

AT_ONCE = 256
WAIT_S = 1.0
FIRST_S = 10.0
LOOK_S = 1.0
"""How often it is looked which destinations there are."""
BACK_OFF_S = 60.0
"""The longest pause that repeated failures lead to by themselves."""
FAREWELL_S = 5.0

K = TypeVar("K", bound=Hashable)
D = TypeVar("D", bound="Destination")
_log = logging.getLogger(__name__)


class Destination(Protocol):
    """Where measurements go."""

    interval_s: float

    async def flush(self) -> Outcome:
        """Send what there is; never raises."""
        ...

    async def close(self) -> None:
        """Send what is left, and hang up."""
        ...


class Metering:
    """`observe` takes what is new, and `stand` the stage of a subject, and whether it flaps and is suppressed."""

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        *,
        observe: Callable[[Sequence[Result]], None],
        stand: Callable[[str, Stage, bool, bool], None],
    ) -> None:
        self._pool, self._bus = pool, bus
        self._observe, self._stand = observe, stand

    async def run(self) -> None:
        """Measure until cancelled."""
        listening = await self._bus.listen(LIVE, self._heard)
        try:
            await self._read_stages()
            await self._count()
        finally:
            await listening.stop()

    async def _read_stages(self) -> None:
        while True:
            try:
                async with self._pool.acquire() as connection:
                    rows = await connection.fetch(
                        "SELECT subject_id, stage, coalesce((state->>'flapping')::bool, false) AS flapping, "
                        "json_array_length(coalesce(state->'suppressed_by', '[]')) > 0 AS suppressed FROM states"
                    )
            except DATABASE_AWAY:
                await asyncio.sleep(1.0)  # who renews leases says that the database is away
                continue
            for row in rows:
                self._tell(row)
            return

    async def _count(self) -> None:
        while True:
            deliveries = await self._bus.fetch(OTLP, 0, AT_ONCE, WAIT_S)
            for delivery in deliveries:
                try:
                    self._observe(decode(delivery.data).results)
                except msgspec.DecodeError:
                    continue  # the evaluator makes it a dead letter
                except Exception:  # of one batch: what is counted must not end what is decided
                    _log.exception("a batch is not in the metrics")
            if deliveries:
                # What is counted is in the totals, and those are sent until a destination has them.
                await deliveries[-1].ack()

    async def _heard(self, payload: bytes) -> None:
        for news in json.loads(payload):
            if news["event"] == "stage":
                self._tell(news)

    def _tell(self, said: Mapping[str, Any]) -> None:
        self._stand(str(said["subject_id"]), Stage(said["stage"]), said["flapping"], said["suppressed"])


class Exports(Generic[K, D]):
    """Keeps a destination for each of `wanted()`, each flushed in a task of its own: none waits for another."""

    def __init__(self, wanted: Callable[[], Iterable[K]], open_: Callable[[K], D]) -> None:
        self._wanted, self._open = wanted, open_
        self._tasks: dict[K, tuple[asyncio.Task[None], D]] = {}
        self._bad: set[K] = set()

    @property
    def destinations(self) -> list[D]:
        """Those there are."""
        return [destination for _, destination in self._tasks.values()]

    async def run(self) -> None:
        """Export until cancelled; what is not sent then is sent once more before the end."""
        try:
            while True:
                wanted = frozenset(self._wanted())
                await self._close([key for key in self._tasks if key not in wanted])
                self._bad &= wanted
                for key in wanted - self._tasks.keys() - self._bad:
                    self._start(key)
                await asyncio.sleep(LOOK_S)
        finally:
            await self._close(list(self._tasks))

    def _start(self, key: K) -> None:
        try:
            destination = self._open(key)
        except ValueError as wrong:
            self._bad.add(key)
            _log.error("nothing is exported there: %s", wrong)
            return
        self._tasks[key] = (asyncio.create_task(_export(destination)), destination)

    async def _close(self, keys: Sequence[K]) -> None:
        closing = [self._tasks.pop(key) for key in keys]
        for task, _ in closing:
            task.cancel()
        await asyncio.gather(*(_farewell(task, destination) for task, destination in closing))


async def _export(destination: Destination) -> None:
    """The first flush comes soon, and at random, so that many destinations are not due at once."""
    interval_s = destination.interval_s
    wait_s, failures = random.uniform(0.1, 1.0) * min(interval_s, FIRST_S), 0  # noqa: S311  # nothing to guess
    while True:
        await asyncio.sleep(wait_s)
        wait_s = interval_s
        try:
            outcome = await destination.flush()
        except Exception:  # a bug, of one destination
            _log.exception("an export failed in a way it must not")
            continue
        failures = 0 if isinstance(outcome, Delivered) else failures + 1
        if isinstance(outcome, Retry):
            wait_s = max(
                outcome.after_s or 0.0, interval_s, min(interval_s * 2.0 ** (failures - 1), BACK_OFF_S)
            )


async def _farewell(task: asyncio.Task[None], destination: Destination) -> None:
    await asyncio.wait([task])
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL_S):
            await destination.close()
