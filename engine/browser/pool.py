"""Browsers kept warm, and whose turn it is: a fair queue across beats. Lateness is counted here, apart from the schedule's."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from engine.probes.attempt import Watch
from engine.probes.context import Context
from evaluators.observation import Observation
from rules.kinds.browser import BrowserCheck


class Turn:
    """A slot that is held for one run, its retries included."""

    async def do(self, check: BrowserCheck, context: Context, watch: Watch, seen: Observation) -> None:
        """One attempt. Raises `TroubleError`; `probe.browser` where browser, sandbox or worker broke, which is never the target's."""
        raise NotImplementedError


class Browsers:
    """The pool of a process."""

    @asynccontextmanager
    async def turn(self, key: Hashable, within_s: float) -> AsyncIterator[Turn]:
        """Wait for a slot, then hold it. Raises `TroubleError` `probe.busy` after `within_s` seconds."""
        yield Turn()

    async def close(self) -> None:
        """End every browser."""
