"""Confines a worker and its browser: bubblewrap where it can be had, else what the system allows. Knows no journey.

The caller speaks to it through `engine.browser.wire`, and its way to the network is the one socket it is given.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from engine.browser.find import Chromium

Level = Literal["bubblewrap", "process"]
MEMORY_BYTES: Final = 2 << 30
"""Of a worker, its browser and its files together."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """How workers are confined on this machine, and why not better."""

    level: Level
    has_browser_sandbox: bool  # Chromium's own
    memory: Literal["cgroup", "watchdog"]
    lacks: tuple[str, ...] = ()  # in words, for `upbeat doctor`

    @property
    def runs_scripts(self) -> bool:
        """Whether what operators program may run in it."""
        return self.level == "bubblewrap" and self.has_browser_sandbox


async def confinement(chromium: Chromium) -> Confinement:
    """What can be had here: tried, not guessed; remembered for the process."""
    raise NotImplementedError


class Sandbox:
    """One worker with its browser. Everything in it ends with `kill`, and nothing of it stays."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def usage(self) -> tuple[float, int]:
        """CPU seconds so far, and bytes of memory now, of everything in it."""
        raise NotImplementedError

    @property
    def ended(self) -> str:
        """Why it ended by itself or by a limit, for people; empty while it lives."""
        raise NotImplementedError

    async def kill(self) -> None:
        """End every process in it at once and remove its files. Never raises; may be called twice."""
        raise NotImplementedError


async def start(
    chromium: Chromium,
    confined: Confinement,
    gate: Path,
    *,
    is_script: bool,
    environment: Mapping[str, str] | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Sandbox:
    """A worker whose only network is the Unix socket `gate`. Raises `OSError` where it cannot be started."""
    raise NotImplementedError
