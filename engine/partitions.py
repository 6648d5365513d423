"""The partitions of a kind of work that this process holds, each worked by a task of its own. What the work is, its kind knows."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import asyncpg

from engine.bus import Bus
from engine.leases import Leases
from engine.store.database import DATABASE_AWAY, POISON, Pool
from engine.store.ids import PARTITIONS
from engine.store.states import ConflictError

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Health:
    """What /readyz and /metrics want to know of this process's part."""

    conflicts: int = 0
    dead_letters: int = 0
    troubles: dict[int, str] = field(default_factory=dict)  # by partition

    @property
    def trouble(self) -> str | None:
        """What keeps a partition from its work, if anything does."""
        return next(iter(self.troubles.values()), None)


class Partition(ABC):
    """One partition of the work that is called `kind`."""

    task: asyncio.Task[None]

    def __init__(self, kind: str, number: int, health: Health) -> None:
        self._name, self._number, self._health = f"partition {number} of {kind}", number, health

    @abstractmethod
    async def turn(self) -> None:
        """One look at what there is to do, and the wait for it."""

    @abstractmethod
    def forget(self) -> None:
        """What is in memory is not what is stored: load it anew."""

    async def run(self) -> None:
        """Work until cancelled. The database's trouble is waited out; anything else is a bug of one piece of work, or of one look."""
        pause_s = 0.1
        while True:
            try:
                await self.turn()
            except ConflictError:
                self._health.conflicts += 1
                self.forget()
            except DATABASE_AWAY as away:
                self.forget()
                self._say(f"{self._name} waits for the database: {str(away) or type(away).__name__}")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 2.0)
            except Exception as bug:  # of this look; the other partitions and roles go on
                self.forget()
                _log.exception("%s", self._name)
                self._say(f"{self._name} cannot go on: {type(bug).__name__}: {bug}")
                await asyncio.sleep(2.0)
            else:
                pause_s = 0.1
                self._say(None)

    def _say(self, trouble: str | None) -> None:
        troubles = self._health.troubles
        if trouble is None:
            troubles.pop(self._number, None)
            return
        if not troubles:
            _log.warning("%s", trouble)
        troubles[self._number] = trouble


P = TypeVar("P", bound=Partition)


class Partitions(ABC, Generic[P]):
    """Those that this process, as `holder`, holds of a `kind`. On the bus they are told on `subject` that there is something to do."""

    health: Health

    def __init__(self, pool: Pool, bus: Bus, *, kind: str, subject: str, holder: str) -> None:
        self._partitions: dict[int, P] = {}
        self.leases = Leases(
            pool, kind, [str(number) for number in range(PARTITIONS)], holder, on_change=self._share
        )
        self._pool, self._bus, self._subject = pool, bus, subject
        self._group: asyncio.TaskGroup | None = None

    @abstractmethod
    def made(self, number: int, gap_s: float | None) -> P:
        """One that is this process's now. Nobody may have held it for `gap_s` seconds; None: nobody ever did."""

    @abstractmethod
    def heard(self, number: int, partition: P) -> None:
        """There is something to do."""

    async def run(self) -> None:
        """Work until cancelled, then give the partitions back."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                listening = await self._bus.listen(f"{self._subject}.*", self._told)
                try:
                    await self.leases.run()
                finally:
                    await listening.stop()
        finally:
            self._group = None
            await self.leases.release()

    async def _told(self, number: bytes) -> None:
        if (partition := self._partitions.get(int(number))) is not None:
            self.heard(int(number), partition)

    def _share(self, gained: Mapping[str, float | None], lost: frozenset[str]) -> None:
        for number in map(int, lost):
            if partition := self._partitions.pop(number, None):
                partition.task.cancel()
            self.health.troubles.pop(number, None)
        if self._group is not None:
            for unit, gap_s in gained.items():
                partition = self._partitions[int(unit)] = self.made(int(unit), gap_s)
                partition.task = self._group.create_task(partition.run())


def is_passing(failure: Exception) -> bool:
    """Whether to try again is all there is to do: it says nothing of what was folded."""
    if isinstance(failure, asyncpg.CheckViolationError) and failure.constraint_name is None:
        return True  # its day's table was made while it was on its way into `_rest`
    return isinstance(failure, (ConflictError, *DATABASE_AWAY)) and not isinstance(failure, POISON)
