"""Runs the replays that were asked for, each in worker processes that can be killed. What they find is kept in the store."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Final
from uuid import UUID

import msgspec

from engine.replay import digest_of
from engine.store import replays
from engine.store.database import DATABASE_AWAY, Pool
from engine.store.replays import Found

AT_ONCE: Final = 2
LOOK_S: Final = 0.5
MOST_S: Final = 3600.0
_LINE_BYTES: Final = 1 << 28
_SAID_MOST: Final = 2000

_log = logging.getLogger(__name__)


class _Line(msgspec.Struct):
    """What a worker prints."""

    done: float
    rows: int
    found: Found | None = None


class WorkerError(Exception):
    """A worker ended without an answer; the message is the last it said."""


class Replays:
    """The replays of one process: at most `AT_ONCE` run at a time, the others wait."""

    def __init__(self, pool: Pool, database_url: Callable[[], str]) -> None:
        self._pool, self._database_url = pool, database_url
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, replay_id: UUID, workers: int) -> None:
        """Run a stored replay as soon as there is a slot, in no more processes than there are cores."""
        workers = min(workers, os.cpu_count() or 1)
        task = asyncio.get_running_loop().create_task(self._run(replay_id, workers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, replay_id: UUID, workers: int) -> None:
        lines = [_Line(0.0, 0) for _ in range(workers)]
        following = asyncio.create_task(self._follow(replay_id, lines))
        try:
            async with self._slots:
                working = asyncio.create_task(self._work(replay_id, lines))
                await asyncio.wait((following, working), return_when=asyncio.FIRST_COMPLETED, timeout=MOST_S)
                if not working.done():  # cancelled, or too long: its processes are killed
                    working.cancel()
                    await asyncio.gather(working, return_exceptions=True)
                    await self._finish(replay_id, None, f"it took longer than {MOST_S / 60:.0f} minutes")
                    return
            try:
                await self._finish(replay_id, working.result(), None)
            except* WorkerError as failures:
                await self._finish(replay_id, None, str(failures.exceptions[0]))
            except* Exception as bugs:
                _log.exception("replay %s", replay_id)
                await self._finish(replay_id, None, f"it failed: {bugs.exceptions[0]}")
        finally:
            following.cancel()

    async def _follow(self, replay_id: UUID, lines: list[_Line]) -> None:
        """Say how far it is, until nobody wants to know."""
        while True:
            done, rows = sum(line.done for line in lines) / len(lines), sum(line.rows for line in lines)
            with contextlib.suppress(*DATABASE_AWAY):
                async with self._pool.acquire() as connection:
                    runs = any(line.done for line in lines)
                    if not await replays.progress(connection, replay_id, done, rows, runs=runs):
                        return
            await asyncio.sleep(LOOK_S)

    async def _work(self, replay_id: UUID, lines: list[_Line]) -> Found:
        async with asyncio.TaskGroup() as group:
            shares = [group.create_task(self._share(replay_id, share, lines)) for share in range(len(lines))]
        whole = Found()
        for found in (share.result() for share in shares):
            whole.replayed += found.replayed
            whole.retraced += found.retraced
            whole.rows += found.rows
        whole.replayed.sort(key=lambda one: (one.kind, one.slug, one.id))
        whole.retraced.sort(key=lambda one: (one.kind, one.slug, one.id))
        whole.digest = digest_of(whole)
        return whole

    async def _share(self, replay_id: UUID, share: int, lines: list[_Line]) -> Found:
        command = [sys.executable, "-P", "-m", "engine.replay", str(replay_id), str(share), str(len(lines))]
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "UPBEAT_DATABASE_URL": self._database_url()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        wrong = asyncio.create_task(process.stderr.read())
        try:
            while text := await process.stdout.readline():
                lines[share] = msgspec.json.decode(text, type=_Line)
            await process.wait()
            found = lines[share].found
            if found is None:
                said = (await wrong).decode(errors="replace").strip()
                _log.error("a replay's worker ended with %s: %s", process.returncode, said[-_SAID_MOST:])
                raise WorkerError(f"its worker ended: {(said.splitlines() or ['it was killed'])[-1]}")
            return found
        finally:
            wrong.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _finish(self, replay_id: UUID, found: Found | None, error: str | None) -> None:
        with contextlib.suppress(*DATABASE_AWAY):
            async with self._pool.acquire() as connection:
                await replays.finish(connection, replay_id, found, error)
