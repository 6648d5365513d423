"""Confines a worker and its browser: bubblewrap where it can be had, else what the system allows. Knows no journey.

The caller speaks to it through `engine.browser.wire`, and its way to the network is the one socket it is given.
"""

import asyncio
import atexit
import contextlib
import fcntl
import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import engine
from engine.browser.find import Chromium
from engine.browser.limits import FOLDER_BYTES, PROCESSES, Member, end_all, members, program
from engine.tasks import end

Level = Literal["bubblewrap", "process"]
MEMORY_BYTES: Final = 2 << 30
"""Of a worker, its browser and its files together."""

_LOOK_S: Final = 0.2
_LOOK_MAX_S: Final = 1.0  # where there is much to look at
_TRY_S: Final = 60.0
_END_S: Final = 15.0
_STDERR_BYTES: Final = 65_536
_HEAR_S: Final = 0.02
_SAID: Final = 300  # characters of it
_PIECE_BYTES: Final = 1 << 20
_UNKNOWN, _ENDED = -1, -2  # for a handle
FOLDER: Final = "upbeat-browser-"
"""What names of private folders begin with; those of processes that are gone are swept."""
_NOBODY: Final = 65534
_USERS: Final = range(0x7E000000, 0x7F000000)
"""Of sandboxes that root starts: one each, so that none can touch another, and all of one can be found."""
_GATE: Final = "/run/gate"
_TMP, _SHM = Path("/tmp"), Path("/dev/shm")  # noqa: S108 - the sandbox's own
_ENVIRONMENT: Final = {"HOME": str(_TMP), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
_ROOT: Final = Path(engine.__file__).parents[1]
_PACKAGES: Final = ("engine/__init__.py", "engine/browser", "evaluators", "rules")  # what the worker imports
_USR: Final = ("bin", "lib", "lib32", "lib64", "libexec", "share", "local/bin", "local/lib", "local/share")
_MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64")  # links into /usr, or folders
_ETC: Final = (
    *("alternatives", "chromium", "chromium.d", "fonts", "ld.so.cache"),
    *("ssl/certs", "ssl/openssl.cnf", "pki/tls/certs"),
)
_FILES: Final = {
    "/etc/passwd": "nobody:x:{user}:{user}::/tmp:/bin/false\n",
    "/etc/group": "nogroup:x:{user}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
_ENTER: Final = """
import json, sys
given = json.loads(sys.argv[1])
sys.path[:] = given["path"]
from engine.browser.limits import enter
enter(given)
sys.argv[1:] = [json.dumps(given["worker"])]
"""
_WORKER: Final = (
    "import runpy; runpy.run_module('engine.browser.inside', run_name='__main__', alter_sys=True)"
)
_TRIAL: Final = """
import json, subprocess, sys
given, said = json.loads(sys.argv[1]), []
def run(*options):
    command = [given["chromium"], "--headless", "--disable-gpu", *options]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
for more in [], ["--no-sandbox"]:
    ran = run("--dump-dom", *more, "about:blank")
    said.append("" if "<html" in ran.stdout else ran.stderr[:4000].strip() or f"it ends with {ran.returncode}")
    if not said[-1]:
        break
print(json.dumps([run("--version").stdout.strip(), *said]))
"""


@dataclass(frozen=True, slots=True)
class Confinement:
    """How workers are confined on this machine, and why not better."""

    level: Level
    has_browser_sandbox: bool  # Chromium's own
    version: str = ""  # Chromium's, as it says
    lacks: tuple[str, ...] = ()  # in words, for `upbeat doctor`

    @property
    def runs_scripts(self) -> bool:
        """Whether what operators program may run in it."""
        return self.level == "bubblewrap" and self.has_browser_sandbox


_places: dict[str, Path] = {}
_known: dict[Path, Confinement] = {}
_numbers = itertools.count()


def place() -> Path:
    """The folder of this process's own ones, locked while it lives: numbers of processes say nothing in other namespaces."""
    where = tempfile.gettempdir()
    while not (made := _places.get(where)) or not made.exists():
        made = Path(tempfile.mkdtemp(prefix=FOLDER))
        handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY)  # open, and locked, until the process ends
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            made.chmod(0o711)  # what is in it is of its user
        except OSError:  # another process takes it for a dead one's, and removes it
            os.close(handle)
        else:
            _places[where] = made
            atexit.register(_remove, made)
    return made


async def confinement(chromium: Chromium) -> Confinement:
    """What can be had here: tried, not guessed; remembered for the process. Raises `OSError` where Chromium does not start."""
    if chromium.path not in _known:
        _known[chromium.path] = await _tried(chromium)
    return _known[chromium.path]


async def _tried(chromium: Chromium) -> Confinement:
    await asyncio.to_thread(_sweep)
    lacks = []
    if sys.platform != "linux":
        lacks.append("bubblewrap is for Linux only")
    elif shutil.which("bwrap") is None:
        lacks.append("no bubblewrap: `apt-get install bubblewrap`")
    else:
        try:
            return await _tried_at("bubblewrap", chromium, lacks)
        except TimeoutError:  # a machine that is busy now has no lower walls for it later
            raise
        except OSError as trouble:
            lacks += [f"bubblewrap does not start it: {trouble}", *_obstacles()]
    try:
        return await _tried_at("process", chromium, lacks)
    except OSError as trouble:
        raise OSError("; ".join([*lacks, str(trouble)])) from None


async def _tried_at(level: Level, chromium: Chromium, lacks: list[str]) -> Confinement:
    """Starts Chromium in it once, with its own sandbox, and without where that fails."""
    wanted = Confinement(level, has_browser_sandbox=True)
    with tempfile.TemporaryDirectory(dir=place()) as folder:
        gate = Path(folder, "none")
        gate.touch()
        sandbox = await start(chromium, wanted, gate, is_script=False, code=_TRIAL)
        try:
            async with asyncio.timeout(_TRY_S):
                said = await sandbox.reader.read()
        except TimeoutError:
            raise TimeoutError(f"{chromium.path} does not answer in {_TRY_S:g} s") from None
        finally:
            await sandbox.kill()
    if not said:
        raise OSError(sandbox.ended or "it says nothing")
    version, with_its_own, *without = json.loads(said)
    if any(without):
        raise OSError(f"{chromium.path} does not start: {_last(without[0])}")
    if without:
        lacks += [f"Chromium's own sandbox does not start: {_last(with_its_own)}", *_obstacles()]
    return Confinement(level, not without, version, tuple(dict.fromkeys(lacks)))


def _obstacles() -> Iterator[str]:
    """What is known to stand in the way of user namespaces."""
    for name, bad in (
        ("kernel/unprivileged_userns_clone", 0),
        ("kernel/apparmor_restrict_unprivileged_userns", 1),
        ("user/max_user_namespaces", 0),
    ):
        with contextlib.suppress(OSError, ValueError):
            if int(Path("/proc/sys", name).read_text("ascii")) == bad:
                yield f"user namespaces are off: sysctl {name.replace('/', '.')} is {bad}"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        yield "in a container: start it with docker/seccomp-browser.json (docs/how-to/run-browser-beats.md)"


class Sandbox:
    """One worker with its browser. Everything in it ends with `kill`, and nothing of it stays."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        level: Level,
        user: int | None,
        folder: Path | None,
        memory_bytes: int,
    ) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self.reader, self.writer = process.stdout, process.stdin
        self._process, self._level, self._folder = process, level, folder
        self._user = user if user in _USERS else None  # not what is nobody's
        self._memory_bytes = memory_bytes
        self._init, self._pidfd, self._looking = 0, _UNKNOWN, threading.Lock()
        self._used = (0.0, 0)
        self._ended, self._stderr = "", b""
        self._watching = asyncio.create_task(self._watch())
        self._listening = asyncio.create_task(self._listen())

    def usage(self) -> tuple[float, int]:
        """CPU seconds so far, and bytes of memory, of everything in it; as of the last look."""
        return self._used

    @property
    def ended(self) -> str:
        """Why it ended by itself or by a limit, for people; empty while it lives."""
        code = self._process.returncode
        if self._ended or code is None:
            return self._ended
        last = _last(self._stderr.decode("utf-8", "replace"))
        return f"the worker ended with {code}" + (f": {last}" if last else "")

    async def kill(self) -> None:
        """End every process in it at once and remove its files. Never raises; may be called twice."""
        if asyncio.current_task() is not self._watching:
            await end([self._watching])
        await asyncio.shield(asyncio.to_thread(self._end))
        self.writer.close()  # a worker whose bubblewrap was ended as it began hears of it by this alone
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await asyncio.gather(self._process.wait(), self._listening)
                with contextlib.suppress(RuntimeError):  # somebody else still hears it
                    while await self.reader.read(_PIECE_BYTES):  # or its pipe stays open
                        pass
        if self._folder:
            await asyncio.to_thread(_remove, self._folder)

    def _look(self) -> float:
        """How many seconds it took: what runs in it says how many processes there are."""
        began_s = time.monotonic()
        with contextlib.suppress(OSError):
            if found := self._members():
                self._used = max(self._used[0], sum(one.cpu_s for one in found)), self._memory(found)
        return time.monotonic() - began_s

    def _end(self) -> None:
        self._look()
        with self._looking:
            pidfd, self._init, self._pidfd = self._pidfd, 0, _ENDED
        pid = 0 if self._process.returncode is not None else self._process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._level == "process":
                end_all("/proc", pid, self._user, spared=pid)
            elif pidfd >= 0:  # with it all of its namespace end, and it is gone only when they are
                try:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    ended = select.poll()  # `select` knows no handle above 1024
                    ended.register(pidfd, select.POLLIN)
                    ended.poll(_END_S * 1000)
                finally:
                    os.close(pidfd)
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def _members(self) -> list[Member]:
        if self._level == "process":
            return members("/proc", self._process.pid, self._user)
        with self._looking:
            if self._pidfd == _UNKNOWN and self._process.returncode is None:
                # Bubblewrap's child is the first of its PID namespace. It exists a moment after the start.
                found = [one.pid for one in members("/proc", self._process.pid)]
                self._init = next((pid for pid in found if pid != self._process.pid), 0)
                self._pidfd = os.pidfd_open(self._init) if self._init else _UNKNOWN
            if not self._init or Path(f"/proc/{self._init}/root").samefile("/"):
                return []  # at first its files are the machine's, whose memory is not its own
            return members(f"/proc/{self._init}/root/proc", 1)

    def _memory(self, found: Iterable[Member]) -> int:
        total = sum(one.memory_bytes for one in found)
        for folder in (_TMP, _SHM) if self._init else ():
            stat = os.statvfs(f"/proc/{self._init}/root{folder}")
            total += (stat.f_blocks - stat.f_bfree) * stat.f_frsize
        return total

    async def _watch(self) -> None:
        while self._process.returncode is None:
            took_s = await asyncio.to_thread(self._look)
            if self._used[1] > self._memory_bytes:
                self._ended = f"more than {self._memory_bytes >> 20} MiB of memory were used"
                break
            await asyncio.sleep(max(_LOOK_S, min(4 * took_s, _LOOK_MAX_S)))
        await self.kill()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while said := await self._process.stderr.read(_STDERR_BYTES):
            self._stderr = (self._stderr + said)[-_STDERR_BYTES:]
            await asyncio.sleep(_HEAR_S)  # who says more waits, not we


async def start(
    chromium: Chromium,
    confined: Confinement,
    gate: Path,
    *,
    is_script: bool,
    environment: Mapping[str, str] | None = None,
    memory_bytes: int = MEMORY_BYTES,
    code: str = _WORKER,
) -> Sandbox:
    """A worker whose only network is the Unix socket `gate`. Raises `OSError` where it cannot be started.

    `environment` is for a browser that shows itself to who started it, as whom it then runs. `code` is what runs.
    """
    user = _new_user() if os.geteuid() == 0 and environment is None else None
    is_apart = confined.level == "bubblewrap"
    real = chromium.path.resolve()
    worker = {
        "chromium": str(real),
        "has_sandbox": confined.has_browser_sandbox,
        "gate": _GATE if is_apart else str(gate),
        "is_script": is_script,
        "is_headed": environment is not None,
    }
    given = {
        "path": [*_paths(), str(_ROOT)],
        "user": user,
        "processes": PROCESSES if is_apart or user else None,
        "is_init": not is_apart,
        "parent": os.getpid(),
        "worker": worker,
    }
    command = [os.path.realpath(sys.executable), "-I", "-S", "-c", _ENTER + code, json.dumps(given)]
    folder, files = None, list[int]()
    variables = {**_ENVIRONMENT, **(environment or {})}
    try:
        if is_apart:
            command = [*_bubblewrap(real, gate, user, files), "--", *command]
        else:
            folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=place()))
            variables |= {"HOME": str(folder), "TMPDIR": str(folder)}
        if user is not None:
            for path in (gate,) if folder is None else (gate, gate.parent, folder):
                os.chown(path, user, user)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=variables,
            cwd="/",
            start_new_session=True,
            pass_fds=files,
        )
    except BaseException:
        if folder is not None:
            _remove(folder)
        raise
    finally:
        for file in files:
            os.close(file)
    return Sandbox(process, confined.level, user, folder, memory_bytes)


def _last(said: str) -> str:
    """Of what a program said before it ended, the line that says why; for people."""
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.match(r"[\w.]+: |.*:FATAL:", line)
    ]  # Python's, bubblewrap's; Chromium's
    return (telling or lines or [""])[-1].strip()[:_SAID]


def _new_user() -> int | None:
    """One of its own for each sandbox; `nobody` or ourselves where a container knows no other users."""
    unique = _USERS[(os.getpid() << 9 | next(_numbers) & 0x1FF) % len(_USERS)]
    mapped = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    ranges = [range(int(first), int(first) + int(count)) for first, _, count in mapped]
    return next((one for one in (unique, _NOBODY) if any(one in some for some in ranges)), None)


def _sweep() -> None:
    """Others may have made folders of this name: only our own are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError):  # it is alive, or not ours
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(handle).st_uid == os.geteuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(left)
            finally:
                os.close(handle)


def _remove(folder: Path) -> None:
    """However deep it is: Python's own stops at 1000 folders."""
    subprocess.run(["/bin/rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)


def _paths() -> list[str]:
    """Where Python finds its library, and packages that are installed."""
    return [
        path
        for path in sys.path
        if Path(path).name in {"site-packages", "dist-packages"} or Path(path).is_relative_to(sys.base_prefix)
    ]


def _shown(chromium: Path) -> Iterator[Path]:
    """What a worker may read: programs and libraries, and none of what people keep."""
    yield from (Path("/usr", name) for name in _USR)
    yield from (Path("/etc", name) for name in _ETC)
    yield from (Path("/", name) for name in _MERGED if not Path("/", name).is_symlink())
    for prefix in (Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parents[1]):
        yield from (prefix / name for name in ("bin", "lib", "lib64", "pyvenv.cfg"))
    yield from map(Path, _paths())
    yield from (_ROOT / package for package in _PACKAGES)
    yield chromium.parent if (chromium.parent / "icudtl.dat").exists() else chromium


def _bubblewrap(chromium: Path, gate: Path, user: int | None, files: list[int]) -> list[str]:
    """The command. What synthetic files hold is read from handles, which are added to `files`."""
    command = [
        "bwrap",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-net",
        "--unshare-cgroup-try",
    ]
    command += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--cap-drop", "ALL"]
    if user is None:
        command += ["--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY)]
    else:
        for needed in ("SETUID", "SETGID", "SETPCAP"):
            command += ["--cap-add", f"CAP_{needed}"]
    for name in _MERGED:
        if (link := Path("/", name)).is_symlink():
            command += ["--symlink", str(link.readlink()), str(link)]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for folder in (_TMP, _SHM):
        command += ["--perms", "1777", "--size", str(FOLDER_BYTES), "--tmpfs", str(folder)]
    made, bound = {Path("/"), _TMP}, set[Path]()

    def put(option: str, source: str, path: Path) -> None:
        for parent in reversed([one for one in path.parents if one not in made]):
            made.add(parent)
            command.extend(("--perms", "0755", "--dir", str(parent)))
        command.extend((option, source, str(path)))

    for path in _shown(chromium):
        if path.exists() and bound.isdisjoint((path, *path.parents)):
            put("--ro-bind", str(path), path)
            bound.add(path)
    put("--ro-bind", str(gate), Path(_GATE))

    def handle(content: bytes) -> str:
        files.append(os.memfd_create("sandbox"))
        os.write(files[-1], content)
        os.lseek(files[-1], 0, os.SEEK_SET)
        return str(files[-1])

    for name, text in _FILES.items():
        put("--ro-bind-data", handle(text.format(user=user or _NOBODY).encode()), Path(name))
    if filtered := program():
        command += ["--seccomp", handle(filtered)]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/"]
