"""The egress proxy of sandboxes: HTTP CONNECT and plain HTTP on a Unix socket, every address judged. Holds no credential.

One `Gate` per sandbox, open for one run at a time; what was connected in a run is cut when it ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.probes.context import Context
from evaluators.model import Failure

MOST_BYTES: Final = 200 << 20
"""Received in one run; then every connection is cut, and the run fails."""


@dataclass(slots=True)
class Traffic:
    """What went through in one run."""

    received_bytes: int = 0
    sent_bytes: int = 0
    connections: int = 0
    is_cut: bool = False  # more than was allowed
    failures: dict[str, Failure] | None = None  # why `host:port` could not be reached, the last of each
    blocked: int = 0  # by `block`


class Gate:
    """Listens on `path` until closed."""

    path: Path

    async def open(self, context: Context, *, block: Sequence[str] = (), site: Sequence[str] = ()) -> Traffic:
        """A run begins: judged by `context`'s policy, without the hosts of `block`; `site` are the journey's own hosts."""
        raise NotImplementedError

    async def shut(self) -> None:
        """The run is over: every connection is cut, none is taken."""
        raise NotImplementedError

    async def close(self) -> None:
        """Listen no more."""
        raise NotImplementedError


async def gate(folder: Path) -> Gate:
    """One that listens in `folder`, shut."""
    raise NotImplementedError
