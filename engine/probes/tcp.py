"""The `tcp` probe: a connection that is made and closed. Sends nothing."""

from engine.probes.attempt import Watch
from engine.probes.connect import connect
from engine.probes.context import Context
from evaluators.observation import Observation
from rules.kinds.tcp import TcpCheck


async def probe(check: TcpCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """Connect once. Raises `TroubleError` or `OSError`."""
    (await connect(context, watch, seen, check.host, check.port)).close()
