"""One server process of a data folder: adopted or launched, watched, stopped. It knows neither PostgreSQL nor NATS.

A server inherits an open, locked file, ``NAME.alive``, and so do its children. The kernel drops that lock when the
last of them is gone, whatever happened to us. So *lock free* means that nothing of this server lives, and only then
is it launched: there are never two on one folder, a recycled pid cannot mislead us, and an Upbeat that died by
kill -9 finds its servers again. Pids come from the files the servers write and are checked against the command line
before any signal is sent.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from engine.embedded.folder import Folder
from engine.tasks import end

_LOOK_S = 0.2  # how soon a death is noticed
_ADOPT_S = 30.0  # how long a living server of ours may stay silent before it is replaced
_START_S = 600.0  # PostgreSQL may have much to replay after a crash
_PATIENCE_S = 10.0  # how often a long start is spoken of
_BACK_OFF_S = (
    0.0,
    0.2,
    0.5,
    1.0,
    2.0,
)  # a crash loop at one try in 2 s harms nobody, a server that waits longer does
_HEALTHY_S = 5.0  # after which earlier deaths are forgotten: whatever kills it now and then is no crash loop
_LOG_BYTES = 10 << 20


class ServerError(Exception):
    """A server cannot be found, started or stopped. The message says what happened, where, and what to do."""


class Server(ABC):
    """What one kind of server must say of itself to be run by ``Process``."""

    name: str
    stop_signals: tuple[tuple[signal.Signals, float], ...]  # each with the seconds it is given
    durable_means: str

    def __init__(self, folder: Folder, *, data: Path, version: str, durable: bool) -> None:
        self.folder, self.data, self.version, self.durable = folder, data, version, durable

    @property
    @abstractmethod
    def command(self) -> list[str]:
        """Program and arguments; among them one that names this data folder."""

    @property
    @abstractmethod
    def settings(self) -> str:
        """Everything a running server must agree with to be adopted."""

    @abstractmethod
    async def prepare(self, alive_fd: int) -> None:
        """Make what a launch needs. Nothing of this server lives; children started here inherit ``alive_fd``."""

    @abstractmethod
    def pid(self) -> int | None:
        """The pid the server last wrote down, which may be stale; ``None`` before it has."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether it answers a client of ours now. Never raises for a server that is not there yet."""

    @abstractmethod
    def tidy(self) -> None:
        """Remove what a clean stop leaves outside the data folder."""


class Process:
    """Keeps one ``Server`` running until ``stop``; what it does on its own is told to ``on_event``."""

    def __init__(self, server: Server, on_event: Callable[[str], None]) -> None:
        self.server = server
        self.pid = 0
        self.adopted = False
        self.restarts = 0
        self.log = server.folder.subfolder("log", ours=True) / f"{server.name}.log"
        self._on_event = on_event
        self._alive = server.folder.path / f"{server.name}.alive"
        self._child: subprocess.Popen[bytes] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Adopt the server that an Upbeat before us left running, or launch one, and return when it answers.

        A server left with other settings, or that stays silent for 30 s, is stopped and replaced. Raises
        ``ServerError``, with the end of its log, when none can be brought up.
        """
        if not await self._adopt():
            await self._launch()
        self._watching = asyncio.create_task(self._watch(), name=f"watch {self.server.name}")

    def bounce(self) -> None:
        """Ask the server to end; whoever watches it starts it again."""
        if pid := self._known_pid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.server.stop_signals[0][0])

    async def stop(self) -> None:
        """End the server and wait until nothing of it lives. Raises ``ServerError`` if it survives every signal."""
        if self._watching:
            await end([self._watching])
            self._watching = None
        await self._end()
        self.server.tidy()

    async def _adopt(self) -> bool:
        server, settings = self.server, self._settings()
        deadline = time.monotonic() + _ADOPT_S
        while not self._is_free():
            pid = self._known_pid()
            if pid and settings != server.settings:
                self._on_event(f"{server.name} (pid {pid}) runs with other settings; replacing it")
                break
            if pid and await server.is_ready():
                self.pid, self.adopted = pid, True
                return True
            if time.monotonic() > deadline:
                self._on_event(
                    f"{server.name} (pid {pid}) of an earlier Upbeat does not answer; replacing it"
                )
                break
            await asyncio.sleep(0.02)
        await self._end()
        return False

    async def _launch(self) -> None:
        server, folder = self.server, self.server.folder
        if not await self._until_free(5.0):
            raise ServerError(
                f"A process of an earlier {server.name} still holds {self._alive}. Find it with "
                f"`lsof {self._alive}`, end it, and start Upbeat again."
            )
        alive_fd = self._lock()
        if alive_fd is None:
            raise ServerError(
                f"{self._alive} was taken while {server.name} was being started. Start Upbeat again."
            )
        try:
            await server.prepare(alive_fd)
            folder.write(self._settings_file, server.settings)
            with self.log.open("ab", buffering=0) as log:
                self._child = spawn(server.command, folder, alive_fd, log.fileno())
        finally:
            os.close(alive_fd)
        self.pid, self.adopted = self._child.pid, False
        began = spoke = time.monotonic()
        while not await server.is_ready():
            now = time.monotonic()
            if self._child.poll() is not None or now - began > _START_S:
                ended = "does not answer" if self._child.returncode is None else "ended"
                await self._end()
                raise ServerError(
                    f"{server.name} {ended} while starting. Its log {self.log} ends:\n{self._tail(5)}"
                )
            if now - spoke > _PATIENCE_S:
                self._on_event(
                    f"{server.name} is starting since {now - began:.0f} s. It said: {self._tail(1)}"
                )
                spoke = now
            await asyncio.sleep(0.01)

    async def _watch(self) -> None:
        failures, began = 0, time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                self._cap_log()
                if self._is_alive():
                    continue
            except OSError as failure:  # no handles or no disk is not a death
                self._on_event(f"{self.server.name} cannot be watched: {failure}")
                await asyncio.sleep(_PATIENCE_S)
                continue
            if time.monotonic() - began > _HEALTHY_S:
                failures = 0
            status = f"status {self._child.returncode}" if self._child else "adopted"
            self._on_event(
                f"{self.server.name} (pid {self.pid}, {status}) died; starting it again. Last in its log: {self._tail(1)}"
            )
            while True:
                await asyncio.sleep(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)])
                failures += 1
                try:
                    await self._launch()
                    break
                except (
                    Exception
                ) as failure:  # full disk, no memory, no pids: any may pass, and giving up is no answer
                    self._on_event(f"{self.server.name} could not be started again: {failure}")
            self.restarts, began = self.restarts + 1, time.monotonic()
            self._on_event(f"{self.server.name} is back with pid {self.pid}")

    async def _end(self) -> None:
        for kind, limit_s in self.server.stop_signals:
            if self._is_free():
                break
            if pid := self._known_pid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, kind)
            await self._until_free(limit_s)
        if self._child:
            with contextlib.suppress(subprocess.TimeoutExpired):  # the lock went a moment before the process
                self._child.wait(5.0)
            self._child = None
        if not self._is_free():
            raise ServerError(f"{self.server.name} (pid {self._known_pid()}) does not stop. See {self.log}.")

    def _known_pid(self) -> int | None:
        """The pid to signal: our child's, or the written one if that process is really this server."""
        if self._child:
            return self._child.pid if self._child.poll() is None else None
        pid = self.server.pid()
        return pid if pid and str(self.server.folder.path) in arguments(pid) else None

    def _is_alive(self) -> bool:
        return self._child.poll() is None if self._child else not self._is_free()

    def _is_free(self) -> bool:
        try:
            alive_fd = self._lock()
        except FileNotFoundError:  # somebody deleted the data folder; our child is still to be ended
            return not self._child or self._child.poll() is not None
        if alive_fd is not None:
            os.close(alive_fd)
        return alive_fd is not None

    def _lock(self) -> int | None:
        alive_fd = os.open(self._alive, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(alive_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(alive_fd)
            return None
        return alive_fd

    async def _until_free(self, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while not self._is_free():
            if time.monotonic() > deadline:
                return False
            if self._child:
                self._child.poll()
            await asyncio.sleep(0.01)
        return True

    @property
    def _settings_file(self) -> Path:
        return self.server.folder.path / f"{self.server.name}.settings"

    def _settings(self) -> str:
        return self._settings_file.read_text("utf-8") if self._settings_file.exists() else ""

    def _tail(self, lines: int) -> str:
        if not self.log.exists():
            return "(nothing)"
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4096))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:]) or "(nothing)"

    def _cap_log(self) -> None:
        """Keep at most two logs of 10 MB. The server appends to the file it was given, so it is emptied in place."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
            os.truncate(self.log, 0)


def spawn(command: list[str], folder: Folder, alive_fd: int, log_fd: int) -> subprocess.Popen[bytes]:
    """Start ``command`` as the servers' account, in a session of its own so that Ctrl-C reaches only Upbeat.

    It sees none of our environment: neither secrets nor ``PG*`` variables. Raises ``ServerError`` if it cannot run.
    """
    account = folder.account
    try:
        return subprocess.Popen(
            command,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(alive_fd,),
            start_new_session=True,
            umask=0o077,
            user=account.uid,
            group=account.gid,
            extra_groups=account.extra_groups,
        )
    except OSError as failure:
        raise ServerError(f"User {account.name!r} cannot run {command[0]}: {failure.strerror}.") from failure


def arguments(pid: int) -> str:
    """The command line of a process; empty if there is none, or only its zombie."""
    if os.path.isdir("/proc/self"):  # noqa: PTH112
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
