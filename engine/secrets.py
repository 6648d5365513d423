"""What references stand for in this process: variables, files as they are now, stored secrets as last read. It keeps none."""

import asyncio
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from engine.store import secrets
from engine.store.database import Connection, Pool, follow
from engine.store.secrets import Keyring, LockedError, Sealed
from rules.secret import Sources, UnknownHereError, UnsetReferenceError
from rules.settings import Lending

FILE_MOST_BYTES: Final = 64 << 10
LOOK_S: Final = 2.0
"""How often files are looked at for a change, and the stored secrets without being told of one."""

Stamp = tuple[int, int, int] | None


class Secrets:
    """One per process. `lending` says what people may refer to by API and console; a file may refer to all.

    Without a `keyring` (a command, not a server) stored secrets are not known. `on_change` is called after a file or
    stored secret changed: whoever compiled a value in compiles again.
    """

    def __init__(self, environment: Mapping[str, str], keyring: Keyring | None = None) -> None:
        self.lending, self.keyring = Lending(), keyring
        self.on_change: list[Callable[[], None]] = []
        self._environment = environment
        self._files: dict[str, tuple[Stamp, str | None]] = {}  # those that were asked for, by path
        self._stored: dict[tuple[UUID | None, str], Sealed] = {}

    def of(self, page_id: UUID | None) -> Sources:
        """For an object of this home page; None: for settings, and where no page is known."""
        return _Lent(self, page_id)

    async def run(self, pool: Pool) -> None:
        """Follow what changes until cancelled; while the database is away, with what is known."""

        async def look(connection: Connection) -> float:
            await self.refresh(connection)
            return LOOK_S

        await follow(pool, [secrets.CHANGED], look)

    async def refresh(self, connection: Connection) -> None:
        """Look now, and tell `on_change` of a change."""
        stored = await secrets.read(connection)
        watched = {path: stamp for path, (stamp, _) in self._files.items()}
        now = await asyncio.to_thread(lambda: {path: _stamp(path) for path in watched})
        if stored == self._stored and now == watched:
            return
        self._stored = stored
        self._files.clear()  # what is still used is asked for again
        for tell in self.on_change:
            tell()

    def variable(self, name: str) -> str:
        """An environment variable, but none of Upbeat's own."""
        if name.startswith("UPBEAT_"):
            raise UnsetReferenceError(f"env:{name}", "is Upbeat's own: UPBEAT_* are lent to nobody")
        if name not in self._environment:
            raise UnsetReferenceError(f"env:{name}")
        return self._environment[name]

    def file(self, path: str) -> str:
        """The text of a file without one newline at its end, as it was last looked at."""
        if path in self._files and (known := self._files[path][1]) is not None:
            return known
        stamp, value = _stamp(path), None
        try:
            value = _read(path)
        finally:
            self._files[path] = (stamp, value)
        return value

    def stored(self, page_id: UUID | None, name: str) -> str:
        """A stored secret: of the page, or with a slash before its name of the installation."""
        if self.keyring is None:
            raise UnknownHereError(f"secret:{name}", "is known to a running server only")
        home, bare = (None, name[1:]) if name.startswith("/") else (page_id, name)
        if (home, bare) not in self._stored:
            raise UnsetReferenceError(f"secret:{name}")
        try:
            return self.keyring.open(home, bare, self._stored[home, bare])
        except LockedError as locked:
            raise UnsetReferenceError(f"secret:{name}", str(locked)) from None


@dataclass(frozen=True, slots=True)
class _Lent:
    """What the objects of one page may use."""

    secrets: Secrets
    page_id: UUID | None

    def __getitem__(self, reference: str, /) -> str:
        source, _, name = reference.partition(":")
        if source == "env":
            return self.secrets.variable(name)
        if source == "file":
            return self.secrets.file(name)
        return self.secrets.stored(self.page_id, name)


def refusal(reference: str, lending: Lending) -> str | None:
    """Why nobody but the operator may make `reference` by API or console; None when others may. What to do is said.

    `folder:/path` is one to write to.
    """
    source, _, name = reference.partition(":")
    if source == "env":
        if any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in lending.env):
            return None
        listed = f"{{env: [{name}]}}"
    elif source in ("file", "folder"):
        real = Path(os.path.realpath(name))
        lent = lending.files if source == "file" else lending.folders
        if any(real.is_relative_to(os.path.realpath(folder)) for folder in lent):
            return None
        listed = f"{{files: [{Path(name).parent}]}}" if source == "file" else f"{{folders: [{name}]}}"
    else:
        return None
    said = f"is not lent to API and console: list it in upbeat.yaml as `secrets: {listed}`"
    if source == "folder":
        return f"{said}, or declare the object there"
    return f"{said}, declare the object there, or store the value as a secret and write ${{secret:NAME}}"


def _stamp(path: str) -> Stamp:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: str) -> str:
    reference = f"file:{path}"
    try:
        # Not blocking: to open a pipe would wait for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnsetReferenceError(reference, "is no ordinary file")
            raw = file.read(FILE_MOST_BYTES + 1)
    except OSError as failure:
        said = f"cannot be read ({failure.strerror or failure}); make it a file that Upbeat may read"
        raise UnsetReferenceError(reference, said) from None
    if len(raw) > FILE_MOST_BYTES:
        raise UnsetReferenceError(
            reference, f"has more than {FILE_MOST_BYTES >> 10} KiB; a secret is shorter"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise UnsetReferenceError(reference, "is not UTF-8 text; encode it, such as in base64") from None
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
