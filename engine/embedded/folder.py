"""The private data folder of one Upbeat: its lock, its format, and who may enter it. It runs no server."""

import contextlib
import errno
import fcntl
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
_ROOM_NEW_BYTES = 200 << 20  # an empty cluster with its first WAL segments is 40 MB
_ROOM_OLD_BYTES = 32 << 20  # two WAL segments: with less, PostgreSQL dies while it starts
_SOCKET_LIMIT_BYTES = 103  # sun_path holds 107 on Linux and 103 on macOS


class FolderError(Exception):
    """The data folder cannot be used. The message says what happened, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user the servers run as; ``None`` everywhere means ourselves. Handed to ``subprocess`` as it is."""

    name: str
    uid: int | None = None
    gid: int | None = None
    extra_groups: tuple[int, ...] | None = None

    @classmethod
    def current(cls) -> "Account":
        """Ourselves, or ``nobody`` when we are root: PostgreSQL refuses root, NATS has no need of it."""
        if os.geteuid() != 0:
            return cls(_user_name())
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise FolderError(
                "PostgreSQL does not run as root and this system has no user 'nobody' to run it as. "
                "Start Upbeat as an ordinary user, or name a PostgreSQL of your own with UPBEAT_DATABASE_URL."
            ) from None
        return cls("nobody", nobody.pw_uid, nobody.pw_gid, ())

    def own(self, path: Path) -> None:
        """Give ``path`` to this user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def can_enter(self, path: Path) -> bool:
        """Whether this user may enter ``path``: asked of the kernel, since mode bits do not show ACLs."""
        if self.uid is None:
            return os.access(path, os.X_OK)
        return self.runs("/bin/sh", "-c", 'cd "$0"', str(path))

    def runs(self, *command: str) -> bool:
        """Whether ``command`` succeeds as this user."""
        try:
            answer = subprocess.run(
                command,
                cwd="/",
                user=self.uid,
                group=self.gid,
                extra_groups=self.extra_groups,
                capture_output=True,
                check=False,
            )
        except PermissionError:
            return False
        return answer.returncode == 0


@dataclass(frozen=True, slots=True)
class Folder:
    """A claimed data folder; only one process at a time holds it, until ``release`` or its death."""

    path: Path
    account: Account
    lock_fd: int

    @classmethod
    def claim(cls, path: Path, *, postgres_major: int) -> "Folder":
        """Create or open ``path``, take its lock, and check that this Upbeat may use what is in it.

        Raises ``FolderError`` when another Upbeat holds it, when it is not a data folder, was written by another
        format or PostgreSQL major, cannot be written, or has no room.
        """
        path = path.absolute()
        account = Account.current()
        with _explained(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = path.resolve()  # one name only: it identifies our processes
            _refuse_foreign(path)
            lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with _explained(path):
                _lock(path, lock_fd)
                with contextlib.suppress(PermissionError):  # a volume that is ours by its group only
                    path.chmod(0o700 if account.uid is None else 0o711)
                _refuse_unreachable(path, account)
                _check_format(path, postgres_major)
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, account, lock_fd)

    def release(self) -> None:
        """Give up the lock; the file stays, so that nobody can hold a lock on a deleted one."""
        os.ftruncate(self.lock_fd, 0)  # whoever is refused next must not read our name in it
        os.close(self.lock_fd)

    def subfolder(self, name: str, *, ours: bool = False) -> Path:
        """The folder ``name``, mode 0700, made if absent; it belongs to the servers' account unless ``ours``."""
        path = self.path / name
        with _explained(path):
            path.mkdir(mode=0o700, exist_ok=True)
            if not ours:
                self.account.own(path)
        return path

    def write(self, path: Path, text: str) -> Path:
        """Replace the file ``path`` by ``text``: whole or not at all, mode 0600, owned by the servers' account."""
        with _explained(path):
            _replace(path, text, self.account)
        return path

    def socket_folder(self) -> Path:
        """Where the PostgreSQL socket lives: ``run``, or a recorded private folder in /tmp.

        That is for paths the kernel finds too long, and for those with a comma, which clients take for two hosts.
        """
        inside = self.subfolder("run")
        if len(os.fsencode(inside / ".s.PGSQL.5432")) <= _SOCKET_LIMIT_BYTES and "," not in str(inside):
            return inside
        record = self.path / "socket-folder"
        owner = self.account.uid if self.account.uid is not None else os.geteuid()
        if record.exists():
            known = Path(record.read_text("utf-8"))
            with contextlib.suppress(FileNotFoundError):
                seen = known.lstat()
                if (seen.st_uid, seen.st_mode) == (owner, 0o40700):
                    return known
        with _explained(Path("/tmp")):  # noqa: S108 - $TMPDIR is itself long on macOS; mkdtemp is private
            made = Path(tempfile.mkdtemp(prefix="upbeat-", dir="/tmp"))
            self.account.own(made)
        self.write(record, str(made))
        return made

    def runnable(self, program: Path, version: str, root: Path, parts: tuple[Path, ...]) -> Path:
        """``program``, or its copy in this folder when the servers' account may not run it where it is.

        A virtualenv in a closed home is the usual reason. ``parts`` are what must be copied, each keeping its place
        below ``root``: libraries are found by relative paths.
        """
        if self.account.uid is None or self.account.runs(str(program), "--version"):
            return program
        kept = self.path / "bin" / version
        with _explained(kept):
            if not kept.exists():
                kept.parent.mkdir(mode=0o711, exist_ok=True)
                fresh = kept.with_name(f"{version}.new")
                shutil.rmtree(fresh, ignore_errors=True)
                for part in parts:
                    place = fresh / part.relative_to(root)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copytree(part, place) if part.is_dir() else shutil.copy(part, place)
                for item in (fresh, *fresh.rglob("*")):  # the umask of the installation does not hold here
                    item.chmod(0o755 if item.is_dir() or os.access(item, os.X_OK) else 0o644)
                fresh.rename(kept)
        return kept / program.relative_to(root)

    def size_bytes(self, name: str) -> int:
        """What the files under ``name`` take on disk; files that vanish meanwhile do not count."""
        total = 0
        for parent, _, files in os.walk(self.path / name):
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(parent, file)).st_blocks * 512  # noqa: PTH118 - hot
        return total


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's numeric user has no entry
        return f"uid {os.geteuid()}"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        if failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            what = f"The data folder {path} cannot be written by user {_user_name()!r}"
            todo = "Give that user the folder, or choose another data folder."
        elif failure.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"The disk of the data folder {path} is full"
            todo = "Free some space, or choose a data folder on another disk."
        else:
            what, todo = f"The data folder {path} cannot be used", "Choose another data folder."
        raise FolderError(f"{what} ({failure.strerror or failure}). {todo}") from failure


def _refuse_foreign(path: Path) -> None:
    known = {"lock", "format.json", "format.json.new", "lost+found"}
    others = {item.name for item in path.iterdir() if not item.name.startswith("node-")} - known
    if not (path / "format.json").exists() and others:
        raise FolderError(
            f"{path} holds other files (such as {min(others)!r}) and was not made by Upbeat. "
            "Choose an empty or a new folder as data folder."
        )


def _lock(path: Path, lock_fd: int) -> None:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder, todo = "another Upbeat", "Stop that one first"
        for _ in range(50):  # it may not have written its name yet
            with contextlib.suppress(ValueError, KeyError):
                known = json.loads(os.pread(lock_fd, 4096, 0))
                if _is_alive(known["pid"]):
                    holder = f"the Upbeat with pid {known['pid']}, running since {known['started']}"
                    todo = f"Stop that one first (kill {known['pid']})"
                    break
            time.sleep(0.01)
        raise FolderError(
            f"The data folder {path} is in use by {holder}. {todo}, or give this one a data folder of its own."
        ) from None
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, json.dumps({"pid": os.getpid(), "started": started}).encode(), 0)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _refuse_unreachable(path: Path, account: Account) -> None:
    if not account.can_enter(path):
        closed = next(
            (parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001), path
        )
        raise FolderError(
            f"Upbeat runs as root, PostgreSQL as the user {account.name!r}, who cannot enter the data folder {path} "
            f"because {closed} is closed. Choose a data folder elsewhere, such as /var/lib/upbeat, "
            "or run Upbeat as an ordinary user."
        )


def _check_format(path: Path, postgres_major: int) -> None:
    record = path / "format.json"
    known = json.loads(record.read_text("utf-8")) if record.exists() else {}
    free, room = shutil.disk_usage(path).free, _ROOM_OLD_BYTES if known else _ROOM_NEW_BYTES
    if free < room:
        raise FolderError(
            f"The disk of the data folder {path} has {free >> 20} MB free; Upbeat needs {room >> 20} MB to start. "
            "Free some space, or choose a data folder on another disk."
        )
    if known and known["format"] != FORMAT:
        raise FolderError(
            f"The data folder {path} has format {known['format']}, this Upbeat reads format {FORMAT}. "
            "Start the Upbeat that wrote it, or choose another data folder."
        )
    if known and known["postgres"] != postgres_major:
        raise FolderError(
            f"The data folder {path} was written by PostgreSQL {known['postgres']}, this Upbeat runs PostgreSQL "
            f"{postgres_major}, which cannot read it. Back it up with the Upbeat that wrote it (`upbeat backup`), "
            "and restore that file into a new data folder."
        )
    if not known:
        _replace(record, json.dumps({"format": FORMAT, "postgres": postgres_major}), None)


def _replace(path: Path, text: str, owner: Account | None) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with os.fdopen(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if owner:
        owner.own(fresh)
    fresh.rename(path)
