"""The `browser` probe: a journey done by the browser whose turn it is. How browsers are kept is `engine.browser`."""

from engine.probes.attempt import Watch
from engine.probes.context import Context
from engine.probes.trouble import TroubleError
from evaluators.observation import Observation
from rules.kinds.browser import BrowserCheck


async def probe(check: BrowserCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """Do it once. Raises `TroubleError`."""
    if context.turn is None:
        raise TroubleError("probe.browser", "this probe runs no browser")
    await context.turn.do(check, context, watch, seen)
