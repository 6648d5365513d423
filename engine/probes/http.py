"""The `http` probe: a fresh connection per request, every phase measured. One request with its redirects, or steps.

Our own client because no other measures every phase, connects to the judged address, bounds what it reads and costs
this little (research: a quarter of aiohttp's CPU).
"""

from collections.abc import Awaitable
from typing import Any

from engine.probes.attempt import Watch
from engine.probes.context import Context
from engine.probes.exchange import Visit, ask
from engine.probes.request import first_request
from engine.probes.steps import walk
from engine.probes.token import forget_refused, token_for
from evaluators.observation import Observation
from rules.kinds.http import HttpCheck


def probe(check: HttpCheck, context: Context, watch: Watch, seen: Observation) -> Awaitable[Any]:
    """One request and its redirects, or several. Raises `TroubleError` or `OSError`."""
    traceparent = context.traceparent()
    seen.trace_id = traceparent[3:35]
    visit = Visit(traceparent, check.secrets)
    if check.steps or check.way.token is not None:
        return _visit(check, context, watch, seen, visit)
    return ask(check, context, watch, seen, visit, first_request(check, traceparent))


async def _visit(check: HttpCheck, context: Context, watch: Watch, seen: Observation, visit: Visit) -> None:
    try:
        token = await token_for(check, context, watch, seen, visit)
        if check.steps:
            await walk(check, context, watch, seen, visit, token)
        else:
            await ask(check, context, watch, seen, visit, first_request(check, visit.traceparent, token))
    finally:
        seen.secrets = visit.secrets[len(check.secrets) :]
        forget_refused(check, context, seen)
