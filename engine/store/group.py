"""Group commit: many who wait for one transaction at a time. What comes while one is under way goes with the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from engine.store.database import POISON

T = TypeVar("T")
R = TypeVar("R")


class CrowdedError(Exception):
    """So many wait already that one more would wait too long."""


class GroupCommit(Generic[T, R]):
    """`write` commits a batch and answers each of its items, in their order. At most `most` items go together.

    Nobody waits for longer than `within_s` seconds; what nobody waits for any more by its turn is not written.

    Where the database refuses a batch for what is in it, each of its items is written alone: one that it will never
    take is no trouble of the others.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        most: int = 500,
        most_waiting: int = 20_000,
        within_s: float = 10.0,
    ) -> None:
        self._write, self._most, self._most_waiting, self._within_s = write, most, most_waiting, within_s
        self._waiting: dict[asyncio.Future[R], T] = {}
        self._writing: asyncio.Task[None] | None = None

    async def add(self, item: T) -> R:
        """The answer to `item` once it is committed. Raises `CrowdedError`, `TimeoutError`, and what writing it raised."""
        if len(self._waiting) >= self._most_waiting:
            raise CrowdedError
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()
        self._waiting[done] = item
        if self._writing is None:
            self._writing = loop.create_task(self._work())
        ends = loop.call_later(self._within_s, _end, done)
        try:
            return await done
        finally:
            ends.cancel()
            self._waiting.pop(done, None)  # what nobody waits for any more is not held either

    async def _work(self) -> None:
        try:
            while batch := self._next():
                await self._settle(batch)
        finally:
            self._writing = None

    def _next(self) -> list[tuple[T, asyncio.Future[R]]]:
        first = list(islice((done for done in self._waiting if not done.done()), self._most))
        return [(self._waiting.pop(done), done) for done in first]

    async def _settle(self, batch: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        try:
            async with asyncio.timeout(self._within_s):
                answers = await self._write([item for item, _ in batch])
        except POISON as refused:
            if len(batch) > 1:
                for one in batch:
                    await self._settle([one])
                return
            _fail(batch, refused)
        except Exception as failure:  # theirs who wait: each of them is told
            _fail(batch, failure)
        except BaseException:
            _fail(batch, ConnectionError("given up while it was being written"))
            raise
        else:
            for (_, done), answer in zip(batch, answers, strict=True):
                if not done.done():  # else nobody waits for it any more
                    done.set_result(answer)


def _end(done: "asyncio.Future[R]") -> None:
    if not done.done():
        done.set_exception(TimeoutError())


def _fail(batch: Sequence[tuple[T, "asyncio.Future[R]"]], failure: Exception) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(failure)
