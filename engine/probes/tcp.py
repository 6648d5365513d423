"""The `tcp` probe: a connection, TLS where it is asked for, and what is said over it. Knows no service by name."""

from engine.probes.attempt import Watch
from engine.probes.connect import connect
from engine.probes.context import Context
from engine.probes.dialogue import Dialogue
from evaluators.observation import Observation
from rules.kinds.tcp import TcpCheck


async def probe(check: TcpCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """Connect, say and hear. Raises `TroubleError` or `OSError`."""
    watch.speaks = "tcp"
    with await connect(context, watch, seen, check.host, check.port, check.ip) as wire:
        dialogue = Dialogue(wire, watch, check.host)
        try:
            if check.tls is not None:
                await dialogue.start_tls(context, seen, check.tls, check.host, check.starttls)
            await dialogue.hold(check.exchanges)
        finally:
            seen.body, seen.size_bytes = bytes(dialogue.heard), len(dialogue.heard)
            seen.secrets, seen.captured = dialogue.secrets, dialogue.public
