"""Both servers of one data folder, started and stopped together: the embedded default of ``upbeat serve``."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.embedded.folder import Folder
from engine.embedded.nats import Nats, Program
from engine.embedded.postgres import Postgres, Programs
from engine.embedded.process import Process

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What doctor says of one embedded server."""

    name: str
    version: str
    pid: int
    adopted: bool  # it was left running by an Upbeat before this one
    restarts: int  # by this Upbeat, since it started
    data: Path
    log: Path
    runs_as: str
    durability: str
    size_bytes: int


class Embedded:
    """A running PostgreSQL and NATS; made by ``start``."""

    def __init__(
        self, folder: Folder, postgres: Postgres, nats: Nats, on_event: Callable[[str], None]
    ) -> None:
        self._folder, self._postgres, self._nats = folder, postgres, nats
        self._processes = (Process(postgres, on_event), Process(nats, on_event))

    @property
    def database_url(self) -> str:
        """A DSN for asyncpg and libpq: a unix socket, no password, the database ``upbeat``."""
        return self._postgres.url

    @property
    def nats_url(self) -> str:
        """The address of NATS, with its token: a secret. It changes when NATS is restarted and its port was lost."""
        return self._nats.url

    def facts(self) -> tuple[Facts, ...]:
        """One for PostgreSQL, one for NATS. Walks the data folder: a matter of milliseconds, not for every request."""
        return tuple(
            Facts(
                name=(server := process.server).name,
                version=server.version,
                pid=process.pid,
                adopted=process.adopted,
                restarts=process.restarts,
                data=server.data,
                log=process.log,
                runs_as=self._folder.account.name,
                durability=server.durable_means if server.durable else "none: started with durable=False",
                size_bytes=self._folder.size_bytes(server.data.name),
            )
            for process in self._processes
        )

    async def run(self) -> None:
        """Bring both up; called once, by ``start``."""
        await _all(process.start() for process in self._processes)

    def restart_nats(self) -> None:
        """Have NATS started again, with its data: the only cure for one that once could not write to its disk."""
        self._processes[1].bounce()

    async def stop(self) -> None:
        """End both servers and release the folder. Raises ``ServerError`` if one does not end."""
        try:
            await _all(process.stop() for process in self._processes)
        finally:
            self._folder.release()


async def start(
    path: Path,
    *,
    durable: bool = True,
    connections: int = 60,
    store_limit_bytes: int = 2 << 30,
    on_event: Callable[[str], None] = _log.warning,
) -> Embedded:
    """Claim the data folder ``path`` and return when its PostgreSQL and NATS answer: adopted, or started.

    About a second for a new folder, a fraction of that later. ``durable=False`` never syncs to disk: for tests.
    ``connections`` is how many PostgreSQL takes, ``store_limit_bytes`` what NATS keeps on disk. ``on_event`` hears, in a sentence, whatever is done
    unasked: a restart, a replacement. Raises ``FolderError`` or ``ServerError``; then, and when cancelled,
    nothing is left running and the folder is free.
    """
    programs, program = await asyncio.gather(
        asyncio.to_thread(Programs.find), asyncio.to_thread(Program.find)
    )
    folder = await asyncio.to_thread(Folder.claim, path, postgres_major=programs.major)
    try:
        postgres = Postgres(folder, programs, durable=durable, connections=connections)
        nats = Nats(folder, program, durable=durable, store_limit_bytes=store_limit_bytes)
        embedded = Embedded(folder, postgres, nats, on_event)
    except BaseException:
        folder.release()
        raise
    try:
        await embedded.run()
    except BaseException:
        await asyncio.shield(embedded.stop())
        raise
    return embedded


async def _all(jobs: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all at once to their ends, then raise the first failure."""
    for ended in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
