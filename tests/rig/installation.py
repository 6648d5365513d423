"""Installations that can be hurt: one process with its own servers, or roles split over processes. It knows no oracle."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from engine.embedded.supervisor import start
from tests.rig.process import Upbeat, servers_of, until

ROLES: dict[str, Sequence[str]] = {
    "front": ("--roles", "api,exporter"),
    "evaluator-1": ("--roles", "evaluator"),
    "evaluator-2": ("--roles", "evaluator"),
    "probe-eu": ("--roles", "probe", "--regions", "eu"),
    "probe-rest": ("--roles", "probe", "--regions", "us,ap"),
}


def family(pid: int) -> list[int]:
    """`pid` and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = (entry / "stat").read_text().rpartition(") ")[2].split()
                parents.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, ())
    return found


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Signal those that still live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass
class Installation:
    """Upbeat processes by name, one of them (`front`) with the API, and the servers of one data folder."""

    servers: Path
    database_url: str
    processes: dict[str, Upbeat]

    @property
    def front(self) -> Upbeat:
        """Who answers the API."""
        return self.processes["front"]

    def victims(self) -> list[str]:
        """All that can be killed, by name."""
        return [*self.processes, "postgres", "backend", "nats"]

    def server(self, name: str) -> int:
        """The pid of `postgres` or `nats`; 0 while there is none."""
        return next((pid for pid, known in servers_of(self.servers).items() if known == name), 0)

    def kill(self, victim: str) -> bool:
        """SIGKILL. An Upbeat process is started again at once, as a service manager would; servers are Upbeat's to restart."""
        if victim in self.processes:
            self.processes[victim].kill()
            self.processes[victim].launch()
            return True
        pid = self.server("nats" if victim == "nats" else "postgres")
        if victim == "backend" and pid:
            pid = max(family(pid))
        if not pid:
            return False
        send([pid], signal.SIGKILL)
        return True

    def revive(self) -> list[str]:
        """Start again what ended by itself; the names of those."""
        ended = [
            name
            for name, process in self.processes.items()
            if process.process is not None and process.process.poll() is not None
        ]
        for name in ended:
            self.processes[name].launch()
        return ended

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """`postgres` or `nats` stands still."""
        pids = family(self.server(name))
        send(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            send(pids, signal.SIGCONT)

    async def well(self, within_s: float = 60.0) -> None:
        """Wait until the API answers from the database and every role of the front process is ready."""

        async def ready() -> bool:
            self.revive()
            return (await self.front.call("GET", "/pages", timeout_s=2))[0] == 200 and (
                await self.front.call("GET", "//readyz", timeout_s=2)
            )[0] == 200

        await until(ready, "the installation is well", within_s)


@contextlib.asynccontextmanager
async def whole(
    folder: Path, config: str, *, environment: dict[str, str] | None = None
) -> AsyncIterator[Installation]:
    """`upbeat serve` and nothing else."""
    path = folder / "upbeat.yaml"
    path.write_text(config, "utf-8")
    async with Upbeat(folder / "data", path, environment=environment or {}) as front:
        await front.start()
        socket = folder / "data" / "run"
        yield Installation(
            folder / "data", f"postgresql://upbeat@/upbeat?host={socket}&port=5432", {"front": front}
        )


@contextlib.asynccontextmanager
async def split(folder: Path, config: str) -> AsyncIterator[Installation]:
    """Five processes sharing the roles and regions against one PostgreSQL and NATS, which this process restarts."""
    path = folder / "upbeat.yaml"
    path.write_text(config, "utf-8")
    (folder / "data").mkdir(mode=0o755)
    servers = await start(folder / "data" / "servers", on_event=lambda _: None)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(servers.stop)
        given = {"UPBEAT_DATABASE_URL": servers.database_url, "UPBEAT_NATS_URL": servers.nats_url}
        processes = {}
        for name, arguments in ROLES.items():
            process = Upbeat(
                folder / name,
                path if name == "front" else None,
                environment=given,
                arguments=arguments,
            )
            processes[name] = await stack.enter_async_context(process)
            if name == "front":
                await process.start()
            else:
                process.launch()
        yield Installation(folder / "data" / "servers", servers.database_url, processes)


async def connect(installation: Installation) -> "asyncpg.Connection[asyncpg.Record]":
    """Straight to the database, for the oracle."""
    return await asyncpg.connect(installation.database_url)
