"""The folder publisher: a page as files of this machine, each replaced at once. It never leaves its folder, nor what is not its own in it."""

import asyncio
import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from exporters.outcome import Rejected, Retry
from exporters.publishing import TroubleError
from exporters.static import MANIFEST, MOST_MANIFEST, File

_HALF: Final = ".upbeat-half"
"""Ends the name of a file that is being written."""


class Folder:
    """A folder; it is made where it is not there."""

    def __init__(self, folder: str) -> None:
        self.called, self._root = folder, Path(folder)

    async def manifest(self) -> bytes | None:
        """What is kept there."""
        return await asyncio.to_thread(self._manifest)

    async def put(self, files: Sequence[File]) -> None:
        """Write these one after the other, and see them on the disk."""
        await asyncio.to_thread(self._put, files)

    async def remove(self, paths: Collection[str]) -> None:
        """Take these away, and folders that are empty without them."""
        await asyncio.to_thread(self._remove, paths)

    def _manifest(self) -> bytes | None:
        with _understood(self._root):
            try:
                found = {path.name for path in self._root.iterdir() if not path.name.endswith(_HALF)}
            except FileNotFoundError:
                return None
            if MANIFEST in found and not (path := self._root / MANIFEST).is_symlink():
                with path.open("rb") as file:
                    return file.read(MOST_MANIFEST)
        if found:
            raise TroubleError(
                Rejected(f"{self._root} has files that are not Upbeat's: name an empty folder")
            )
        return None

    def _put(self, files: Sequence[File]) -> None:
        with _understood(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            for path, body, _ in files:
                target = self._root / path
                self._stay(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                half = target.with_name(target.name + _HALF)
                half.unlink(missing_ok=True)  # of a process that was ended
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(half, flags, 0o644), "wb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                half.replace(target)
            for folder in {(self._root / path).parent for path, _, _ in files}:
                _sync(folder)

    def _remove(self, paths: Collection[str]) -> None:
        with _understood(self._root):
            for path in paths:
                target = self._root / path
                self._stay(target)
                if target.parent.is_dir():
                    for found in (target, target.with_name(target.name + _HALF)):
                        found.unlink(missing_ok=True)
            folders = {parent for path in paths for parent in (self._root / path).parents}
            for folder in sorted(folders, reverse=True):  # what is in another one first
                if folder.is_relative_to(self._root) and folder != self._root:
                    with contextlib.suppress(OSError):  # something is in it
                        folder.rmdir()

    def _stay(self, target: Path) -> None:
        """Refuse a way through a link that somebody put there."""
        if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(self._root)):
            raise TroubleError(Rejected(f"{target.parent} leads out of {self._root}"))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _understood(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise TroubleError(Retry(f"{failure.filename or folder}: {failure.strerror or failure}")) from None
