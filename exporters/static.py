"""How a page is kept as files at any place: what changed is written, what vanished is taken away, the page itself last.

The place is a `Shelf`, one module each in `exporters.publishers`; what the files are is handed in. A manifest beside them says
which are ours, so that nothing else is ever touched.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol
from weakref import WeakValueDictionary

from evaluators.model import Post, Refresh
from exporters.outcome import FIRST, Call, Delivered, Memory, Outcome, Rejected, Report, Retry
from exporters.publishing import TroubleError

MANIFEST: Final = ".upbeat-manifest.json"
MOST_MANIFEST: Final = 16 << 20
BATCH: Final = 250
MOST_SHOWN: Final = 20
_OURS: Final = re.compile(r"(?!\.)[A-Za-z0-9._~-]+(/(?!\.)[A-Za-z0-9._~-]+)*", re.ASCII)
File = tuple[str, bytes, str]
Digests = Mapping[str, str]
"""Files by their path, each with the digest of what is in it; "" while that is being written."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page at one moment: `state` says which, `files` are made as they are asked for."""

    page: str  # slug
    state: str
    files: Iterator[File]


Render = Callable[[], Awaitable[Rendered | Rejected]]
_LOCKS: Final[MutableMapping[str, asyncio.Lock]] = WeakValueDictionary()
"""Of places that this process writes to."""


class Shelf(Protocol):
    """A place for files. Methods raise `TroubleError`."""

    called: str

    async def manifest(self) -> bytes | None:
        """What is kept there; None where there is nothing at all. Refused is a place that has what is not ours."""
        ...

    async def put(self, files: Sequence[File]) -> None:
        """Write these: each is there whole, or as it was before."""
        ...

    async def remove(self, paths: Collection[str]) -> None:
        """Take these away, which may be gone already."""
        ...


@dataclass(slots=True)
class StaticPublisher:
    """Writes the page for whatever it is told: each time is the whole of it."""

    shelf: Shelf
    render: Render
    lock: asyncio.Lock = field(init=False)
    begun: int = 0
    last: Outcome | None = None

    def __post_init__(self) -> None:
        """Who was edited has another exporter, but not another place."""
        self.lock = _LOCKS.setdefault(self.shelf.called, asyncio.Lock())

    async def export(self, item: Post | Refresh, _: Memory = FIRST) -> Outcome:
        """Write it. What is remembered of an incident is where it is."""
        outcome = await self.write()
        if isinstance(outcome, Delivered) and isinstance(item, Post):
            return Delivered({**(outcome.remote or {}), "id": f"incidents/{item.incident}"})
        return outcome

    async def write(self) -> Outcome:
        """Write it once for all who asked before that began."""
        asked = self.begun
        async with self.lock:
            if self.last is None or self.begun == asked or not isinstance(self.last, Delivered):
                self.begun, self.last = self.begun + 1, None  # if this breaks, nobody is told of one before
                self.last = await self._write([])
            return self.last

    async def rehearse(self, _: Post, __: Memory = FIRST) -> Report:
        """Which files would be written and taken away."""
        calls: list[Call] = []
        outcome = await self._write(calls, is_dry=True)
        more = f", of which {MOST_SHOWN} are shown" if len(calls) > MOST_SHOWN else ""
        said = f"{len(calls)} files would be written or taken away{more}"
        return Report(outcome, (said,), calls=tuple(calls[:MOST_SHOWN]))

    async def check(self) -> Report:
        """The place can be read, and is empty or ours."""
        try:
            known = await asyncio.to_thread(_read, await self.shelf.manifest())
        except TroubleError as trouble:
            return Report(trouble.outcome)
        return Report(Delivered(), (f"{self.shelf.called}: {len(known)} files",))

    async def differences(self, _: Post, __: Memory) -> Report:
        """Nothing: the next time writes whatever is otherwise."""
        return Report((await self.check()).outcome)

    async def _write(self, calls: list[Call], *, is_dry: bool = False) -> Outcome:
        rendered = await self.render()
        if isinstance(rendered, Rejected):
            return rendered
        try:
            await self._written(rendered, calls, is_dry=is_dry)
        except TroubleError as trouble:
            return trouble.outcome
        return Delivered({"state": rendered.state})

    async def _written(self, rendered: Rendered, calls: list[Call], *, is_dry: bool) -> None:
        before = await asyncio.to_thread(_read, await self.shelf.manifest(), rendered.page)
        kept, now, kept_body = before, dict[str, str](), b""
        while batch := await asyncio.to_thread(_digested, rendered.files):
            changed = [file for file, digest in batch if before.get(file[0]) != digest]
            now |= {path: digest for (path, _, __), digest in batch}
            calls += (Call("PUT", path, None) for path, _, __ in changed)
            if is_dry or not changed:
                continue
            # Whenever this is ended: what is ours is known, and what may be half done is done again.
            kept = {**before, **now, **dict.fromkeys((path for path, _, __ in changed), "")}
            kept_body = await self._keep(rendered.page, kept)
            for late in (False, True):
                if some := [file for file in changed if _leads(file[0]) == late]:
                    await self.shelf.put(some)
        gone = sorted(before.keys() - now.keys())
        calls += (Call("DELETE", path, None) for path in gone)
        if is_dry:
            return
        if gone:
            kept = {**now, **dict.fromkeys(gone, "")}
            kept_body = await self._keep(rendered.page, kept)
            await self.shelf.remove(gone)
        if now == kept:
            return
        if (found := await self.shelf.manifest()) != kept_body:  # whose word was the last, nobody knows
            theirs = await asyncio.to_thread(_read, found, rendered.page)
            await self._keep(rendered.page, dict.fromkeys((*theirs, *now), ""))
            raise TroubleError(Retry("another process writes there, too"))
        await self._keep(rendered.page, now)

    async def _keep(self, page: str, digests: Digests) -> bytes:
        body = await asyncio.to_thread(lambda: json.dumps({"page": page, "files": digests}).encode())
        await self.shelf.put([(MANIFEST, body, "application/json")])
        return body


def _digested(files: Iterator[File]) -> list[tuple[File, str]]:
    return [(file, hashlib.sha256(file[1]).hexdigest()[:32]) for file in islice(files, BATCH)]


def _leads(path: str) -> bool:
    """Whether it is the page itself, in any language: what it leads to has to be there first."""
    return path == "index.html" or (path.endswith("/index.html") and path.count("/") == 1)


def _read(manifest: bytes | None, page: str | None = None) -> Digests:
    """The files of a manifest, which may have been meddled with; of this page, where one is named."""
    try:
        known = json.loads(manifest or b'{"files": {}}')
        files = {path: str(said) for path, said in known["files"].items() if _OURS.fullmatch(path)}
        if page in (None, known.get("page", page)):
            return files
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise TroubleError(Rejected(f"{MANIFEST} there is not Upbeat's: empty the place")) from None
    raise TroubleError(Rejected("another page is there: each needs a place of its own"))
