"""The `tls` probe: a handshake that takes whatever the server has, so as to tell what that is. Says nothing in it."""

from engine.probes.attempt import Watch
from engine.probes.connect import connect
from engine.probes.context import Context
from engine.probes.dialogue import Dialogue
from evaluators.observation import Observation
from rules.kinds.tls import TlsCheck


async def probe(check: TlsCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """Shake hands once. Raises `TroubleError` or `OSError`."""
    watch.speaks = "tcp"
    with await connect(context, watch, seen, check.host, check.port, check.ip) as wire:
        dialogue = Dialogue(wire, watch, check.host)
        await dialogue.start_tls(context, seen, check.tls, check.host, check.starttls, lenient=True)
