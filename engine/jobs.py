"""Runs the jobs that were asked for, each in worker processes that can be killed. What they find is kept in the store."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from engine.replay import join
from engine.store import jobs
from engine.store.database import DATABASE_AWAY, Pool
from engine.store.jobs import MOST_AT_ONCE, JobKind
from engine.tasks import end
from engine.worker import Line, Order

LOOK_S: Final = 0.4
IDLE_S: Final = 300.0
"""So long a worker stays that somebody may soon need again."""
MOST_JOBS: Final = 200
"""What one worker does before another takes its place."""
_LINE_BYTES: Final = 1 << 28
_SAID_MOST: Final = 2000
_LINES: Final = msgspec.json.Decoder(Line)

_log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """How jobs of a kind are done. Without `join` by one worker, and what it found counts though its time was over."""

    module: str
    join: Callable[[Sequence[bytes]], bytes] | None = None
    is_warm: bool = False  # starting a worker takes longer than the work
    at_once: int = 2  # in this process; the others wait


KINDS: Final[Mapping[JobKind, Kind]] = {
    "replay": Kind("engine.replay", join),
    "preview": Kind("engine.preview", is_warm=True, at_once=MOST_AT_ONCE),  # somebody waits for each
}


class WorkerError(Exception):
    """A worker ended without an answer; the message is the last it said."""


class Worker:
    """A process that does jobs of one kind, one after the other."""

    def __init__(self, process: asyncio.subprocess.Process, database_url: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.database_url, self.done, self._process = database_url, 0, process
        self._input, self._output = process.stdin, process.stdout
        self._wrong = asyncio.create_task(process.stderr.read())

    @classmethod
    async def start(cls, module: str, database_url: str) -> "Worker":
        """Started, and not asked for anything yet."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module, str(os.getpid())),
            env={**os.environ, "UPBEAT_DATABASE_URL": database_url},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )
        return cls(process, database_url)

    def may_serve(self, database_url: str) -> bool:
        """Whether it can be asked for another job."""
        is_alive = self._process.returncode is None
        return is_alive and self.done < MOST_JOBS and self.database_url == database_url

    async def work(self, order: Order, hear: Callable[[Line], None]) -> None:
        """Have it do something. Raises `WorkerError` when it ends before it is done."""
        with contextlib.suppress(ConnectionError):  # it is gone: its output says so too
            self._input.write(msgspec.json.encode(order) + b"\n")
            await self._input.drain()
        while text := await self._output.readline():
            line = _LINES.decode(text)
            hear(line)
            if line.is_last:
                self.done += 1
                return
        await self._process.wait()
        said = (await self._wrong).decode(errors="replace").strip()
        _log.error("a job's worker ended with %s: %s", self._process.returncode, said[-_SAID_MOST:])
        raise WorkerError(f"its worker ended: {(said.splitlines() or ['it was killed'])[-1]}")

    async def end(self) -> None:
        """Kill it, whatever it does."""
        self._wrong.cancel()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class Jobs:
    """The jobs of one process: so many of a kind run at a time, the others wait."""

    def __init__(self, pool: Pool, database_url: Callable[[], str]) -> None:
        self._pool, self._database_url = pool, database_url
        self._slots = {name: asyncio.Semaphore(kind.at_once) for name, kind in KINDS.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._spares: dict[str, tuple[Worker, asyncio.TimerHandle]] = {}

    def start(self, kind: JobKind, job_id: UUID, workers: int, budget_s: float) -> None:
        """Run a stored job as soon as there is a slot, in no more processes than there are cores."""
        self._spawn(self._run(kind, job_id, min(workers, os.cpu_count() or 1), budget_s))

    async def close(self) -> None:
        """End all of them."""
        while self._tasks:
            await end(self._tasks)
        for module in list(self._spares):
            await self._dismiss(module)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, kind: JobKind, job_id: UUID, workers: int, budget_s: float) -> None:
        lines = [Line() for _ in range(workers)]
        following = asyncio.create_task(self._follow(job_id, lines))
        try:
            async with self._slots[kind]:
                working = asyncio.create_task(self._work(KINDS[kind], job_id, lines))
                try:
                    await asyncio.wait(
                        (following, working), return_when=asyncio.FIRST_COMPLETED, timeout=budget_s
                    )
                finally:  # cancelled, or too long: its processes are killed
                    await end([working])
            found: bytes | None = None
            error, is_cut = None, working.cancelled() and KINDS[kind].join is None
            try:
                if is_cut:
                    found = lines[0].said
                elif working.cancelled():
                    error = f"it took longer than {budget_s / 60:.0f} minutes"
                else:
                    found = working.result()
            except* WorkerError as failures:
                error = str(failures.exceptions[0])
            except* Exception as bugs:
                _log.exception("%s %s", kind, job_id)
                error = f"it failed: {bugs.exceptions[0]}"
            rows = sum(line.rows for line in lines)
            with contextlib.suppress(*DATABASE_AWAY):
                async with self._pool.acquire() as connection:
                    await jobs.finish(connection, job_id, found, rows, error, is_cut=is_cut)
        finally:
            following.cancel()

    async def _follow(self, job_id: UUID, lines: list[Line]) -> None:
        """Say how far it is, and what it found by now, until nobody wants to know."""
        told: bytes | None = None
        while True:
            done, rows = sum(line.done for line in lines) / len(lines), sum(line.rows for line in lines)
            found = lines[0].said if len(lines) == 1 else None
            with contextlib.suppress(*DATABASE_AWAY):
                async with self._pool.acquire() as connection:
                    runs, news = any(line.done for line in lines), None if found == told else found
                    if not await jobs.progress(connection, job_id, done, rows, news, runs=runs):
                        return
                    told = found
            await asyncio.sleep(LOOK_S)

    async def _work(self, kind: Kind, job_id: UUID, lines: list[Line]) -> bytes:
        async with asyncio.TaskGroup() as group:
            for share in range(len(lines)):
                group.create_task(self._share(kind, Order(job_id, share, len(lines)), lines))
        found = [line.said for line in lines if line.said is not None]
        return kind.join(found) if kind.join is not None else found[0]

    async def _share(self, kind: Kind, order: Order, lines: list[Line]) -> None:
        def hear(line: Line) -> None:
            if line.said is None:
                line.found = lines[order.share].found
            lines[order.share] = line

        worker = await self._hire(kind)
        try:
            await worker.work(order, hear)
        except BaseException:
            await worker.end()
            if kind.is_warm:
                self._spawn(self._replace(kind))
            raise
        await self._keep(kind, worker)

    # ---- workers that wait to be asked again

    async def _hire(self, kind: Kind) -> Worker:
        database_url = self._database_url()
        if (spare := self._spares.pop(kind.module, None)) is not None:
            worker, timer = spare
            timer.cancel()
            if worker.may_serve(database_url):
                return worker
            await worker.end()
        return await Worker.start(kind.module, database_url)

    async def _replace(self, kind: Kind) -> None:
        await self._keep(kind, await Worker.start(kind.module, self._database_url()))

    async def _keep(self, kind: Kind, worker: Worker) -> None:
        if not kind.is_warm or kind.module in self._spares or not worker.may_serve(self._database_url()):
            await worker.end()
            return
        later = asyncio.get_running_loop().call_later
        self._spares[kind.module] = worker, later(IDLE_S, lambda: self._spawn(self._dismiss(kind.module)))

    async def _dismiss(self, module: str) -> None:
        if (spare := self._spares.pop(module, None)) is not None:  # else it was hired just now
            spare[1].cancel()
            await spare[0].end()
