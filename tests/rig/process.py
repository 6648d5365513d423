"""Real Upbeat processes, the servers they leave behind, and their API. Nothing here knows what a test is about."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

TOKEN = "the admin token of the rig"
REPO = Path(__file__).parents[2]


class NotInTimeError(AssertionError):
    """What was waited for did not come; the message says what was seen last."""


async def until(claim: Callable[[], Awaitable[Any]], what: str, within_s: float = 20.0) -> Any:
    """Poll until `claim()` is true, and return it. Connection trouble counts as not yet."""
    last: Any = None
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if last := await claim():
                return last
        except (aiohttp.ClientError, OSError, TimeoutError) as away:
            last = repr(away)
        await asyncio.sleep(0.05)
    raise NotInTimeError(f"{what}: not within {within_s:g} s, last seen {last!r}")


def roomy() -> Path:
    """Where data folders are made: in memory if there is room."""
    memory = Path("/dev/shm")
    if memory.exists() and shutil.disk_usage(memory).free > 2 << 30:
        return memory
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def fresh_folder(place: Path | None = None) -> Iterator[Path]:
    """A new folder that nothing outlives: servers started for it are killed, then it is removed."""
    folder = Path(tempfile.mkdtemp(prefix="upbeat-rig-", dir=place or roomy()))
    folder.chmod(0o755)  # the servers' user has to enter it when we are root
    try:
        yield folder
    finally:
        for pid in servers_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    """A tmpfs of this size. Raises `OSError` where we may not mount."""
    place = Path(tempfile.mkdtemp(prefix="upbeat-disk-"))
    place.chmod(0o755)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        place.rmdir()
        raise OSError(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
        place.rmdir()


def servers_of(folder: Path) -> dict[int, str]:
    """Pid to name (`postgres`, `nats`) of every server started for `folder`, now."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if f" {folder}/" in line and ("postgres -D" in line or "nats-server --config" in line):
                    found[int(entry.name)] = "postgres" if "postgres -D" in line else "nats"
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Upbeat:
    """One `upbeat serve`, started and ended at will; its API is asked with the admin token."""

    data: Path
    config: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    prefix: Sequence[
        str
    ] = ()  # a program that starts it in some way: `ip netns exec NAME`, `faketime -f +1h`
    host: str = "127.0.0.1"
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    _session: aiohttp.ClientSession | None = None

    def __post_init__(self) -> None:
        self.port = self.port or free_port()

    @property
    def log(self) -> Path:
        """Everything it says."""
        return self.data.with_name(f"{self.data.name}-{self.port}.log")

    @property
    def command(self) -> list[str]:
        """What is run."""
        given = ["--data", str(self.data), "--host", self.host, "--port", str(self.port), *self.arguments]
        if self.config is not None:
            given += ["--config", str(self.config)]
        return [*self.prefix, sys.executable, "-m", "upbeat.cli", "serve", *given]

    def launch(self) -> "subprocess.Popen[bytes]":
        """Start the process without waiting for it."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("UPBEAT_")}
        told = {
            "UPBEAT_ADMIN_TOKEN": TOKEN,
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            **self.environment,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**mine, **told},
                cwd=REPO,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    async def start(self, within_s: float = 30.0) -> "Upbeat":
        """Start, and wait until its API answers from the database."""
        self.launch()
        await self.serving(within_s)
        return self

    async def serving(self, within_s: float = 30.0) -> float:
        """Seconds until it answers a request that needs the database. Its early death is told with its last words."""
        began = time.monotonic()

        async def answers() -> bool:
            assert self.process is not None
            if (code := self.process.poll()) is not None:
                raise AssertionError(f"upbeat ended with {code}: {self.last_words()}")
            return (await self.call("GET", "/pages"))[0] == 200

        await until(answers, "upbeat serves", within_s)
        return time.monotonic() - began

    def last_words(self, count: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-count:])

    def kill(self) -> None:
        """SIGKILL, this process alone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def stop(self, within_s: float = 20.0) -> int:
        """SIGTERM and its exit code."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, within_s)

    def reload(self) -> None:
        """SIGHUP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    async def call(
        self, method: str, path: str, body: Any = None, *, timeout_s: float = 10.0
    ) -> tuple[int, Any]:
        """(status, decoded JSON) of a request to /api/v1, or to a path that begins with `//` elsewhere."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {TOKEN}"}, connector=aiohttp.TCPConnector(force_close=True)
            )
        where = path[1:] if path.startswith("//") else f"/api/v1{path}"
        url, limit = f"http://{self.host}:{self.port}{where}", aiohttp.ClientTimeout(total=timeout_s)
        async with self._session.request(method, url, json=body, timeout=limit) as answer:
            said = (
                await answer.json(content_type=None) if "json" in answer.content_type else await answer.text()
            )
            return answer.status, said

    async def get(self, path: str) -> Any:
        """The document at `path`, which has to be there."""
        status, said = await self.call("GET", path)
        if status != 200:
            raise aiohttp.ClientError(f"{path} answered {status}: {said}")
        return said

    async def items(self, path: str) -> list[dict[str, Any]]:
        """A listing's first items."""
        found: list[dict[str, Any]] = (await self.get(path))["items"]
        return found

    async def close(self) -> None:
        """End it, gently if it lives, and what belongs to this object."""
        if self._session is not None:
            await self._session.close()
        if self.process is not None and self.process.poll() is None:
            try:
                await self.stop()
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGABRT)  # faulthandler writes where every thread is
                self.process.wait()
                raise AssertionError(f"upbeat does not stop: {self.last_words(400)}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@contextlib.asynccontextmanager
async def upbeat(folder: Path, config: str, **options: Any) -> AsyncIterator[Upbeat]:
    """A serving Upbeat with `config`, in `folder`."""
    path = folder / "upbeat.yaml"
    path.write_text(config, "utf-8")
    async with Upbeat(folder / "data", path, **options) as running:
        yield await running.start()
