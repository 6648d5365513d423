"""Measuring for others: hands every result of the bus and every stage to the totals, and has them flushed now and then."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from engine.bus import LIVE, OTLP, Bus, decode
from engine.store.database import DATABASE_AWAY, Pool
from evaluators.model import Result, Stage
from exporters.outcome import Delivered, Outcome

AT_ONCE = 256
WAIT_S = 1.0

_log = logging.getLogger(__name__)


class Metering:
    """`observe` and `stage` take what is new; `flush` sends it, every `interval_s` seconds (None: nobody is sent anything)."""

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        *,
        observe: Callable[[Sequence[Result]], None],
        stage: Callable[[str, Stage], None],
        flush: Callable[[], Awaitable[Outcome]] | None,
        interval_s: float,
    ) -> None:
        self.trouble: str | None = None
        self._pool, self._bus = pool, bus
        self._observe, self._stage, self._flush, self._interval_s = observe, stage, flush, interval_s

    async def run(self) -> None:
        """Measure until cancelled; what is not sent then is sent once more before the end."""
        listening = await self._bus.listen(LIVE, self._heard)
        try:
            await self._read_stages()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._count())
                if self._flush is not None:
                    group.create_task(self._send())
        finally:
            await listening.stop()
            if self._flush is not None:
                await self._flush_once()

    async def _read_stages(self) -> None:
        while True:
            try:
                async with self._pool.acquire() as connection:
                    rows = await connection.fetch("SELECT beat_id, stage FROM beat_states")
            except DATABASE_AWAY:
                await asyncio.sleep(1.0)  # who renews leases says that the database is away
                continue
            for row in rows:
                self._stage(str(row["beat_id"]), Stage(row["stage"]))
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
                # Totals are cumulative: once counted, a result leaves with every export from now on.
                await deliveries[-1].ack()

    async def _heard(self, payload: bytes) -> None:
        for news in json.loads(payload):
            if news["event"] == "stage":
                self._stage(news["beat_id"], Stage(news["stage"]))

    async def _send(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._flush_once()

    async def _flush_once(self) -> None:
        assert self._flush is not None
        outcome = await self._flush()
        trouble = None if isinstance(outcome, Delivered) else outcome.reason
        if trouble and not self.trouble:
            _log.warning("metrics are not exported, and will be with the next export: %s", trouble)
        self.trouble = trouble
