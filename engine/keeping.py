"""Files of runs on their way to the database: in bounded memory, tried again while it is away. No run waits for them."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from engine.store import artifacts
from engine.store.database import DATABASE_AWAY, POISON, Pool, unless_cancelled
from evaluators.observation import Artifact

MOST_BYTES: Final = 64 << 20
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 30.0
DRAIN_S: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    run_id: UUID
    beat_id: UUID
    scheduled_at: float
    files: Sequence[Artifact]
    size_bytes: int


class Keeping:
    """Of one process. When memory is full the files of the oldest run are dropped and counted."""

    def __init__(self, pool: Pool, *, most_bytes: int = MOST_BYTES) -> None:
        self.held_bytes = 0
        self.dropped = 0  # files
        self._pool, self._most_bytes = pool, most_bytes
        self._queue: deque[_Held] = deque()
        self._filled = asyncio.Event()

    def keep(self, run_id: str, beat_id: UUID, scheduled_at: float, files: Sequence[Artifact]) -> None:
        """Take in what was kept of a run; it is stored soon, and this waits for nothing."""
        if files:
            held = _Held(UUID(run_id), beat_id, scheduled_at, files, sum(len(one.data) for one in files))
            self.held_bytes += held.size_bytes
            self._queue.append(held)
            self._filled.set()
        while self.held_bytes > self._most_bytes and self._queue:
            self._drop(self._queue.popleft(), "there is no more memory for them")

    async def run(self) -> None:
        """Store them until cancelled; `drain` is then the caller's last word."""
        while True:
            await self._filled.wait()
            await self._store_all()

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Store what there is, within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._store_all()
        while self._queue:
            self._drop(self._queue.popleft(), "they were not stored in time")

    async def _store_all(self) -> None:
        wait_s = RETRY_FIRST_S
        while self._queue:
            if await self._store(self._queue.popleft()):
                wait_s = RETRY_FIRST_S
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MAX_S)
        self._filled.clear()

    async def _store(self, held: _Held) -> bool:
        """Whether it is over with these; if not they are the next again."""
        is_over = False
        try:
            async with unless_cancelled(self._pool) as connection:
                await artifacts.keep(connection, held.run_id, held.beat_id, held.scheduled_at, held.files)
            is_over = True
            self.held_bytes -= held.size_bytes
        except (*POISON, ValueError) as wrong:
            is_over = True
            self._drop(held, str(wrong))
        except DATABASE_AWAY as failure:
            _log.warning(
                "the files of a run will be stored later: %s", str(failure) or type(failure).__name__
            )
        finally:
            if not is_over:
                self._queue.appendleft(held)
        return is_over

    def _drop(self, held: _Held, why: str) -> None:
        self.held_bytes -= held.size_bytes
        self.dropped += len(held.files)
        _log.warning("%d files of the run %s are lost: %s", len(held.files), held.run_id, why)
