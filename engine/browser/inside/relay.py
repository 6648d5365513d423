"""The sandbox's way out: a TCP port on its loopback, each connection passed on to the gate. Judges nothing: the gate does."""

import asyncio
from contextlib import suppress

from engine.browser.pipe import Pipe


class _Arrived(Pipe):
    """A connection of the browser's."""

    def __init__(self, gate: str) -> None:
        super().__init__()
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._dialing = asyncio.ensure_future(self._dial())

    async def _dial(self) -> None:
        out = None
        with suppress(OSError):  # the gate is shut
            _, out = await asyncio.get_running_loop().create_unix_connection(Pipe, self._gate)
        if out is None:
            self.transport.abort()
        else:
            self.join(out)


async def relay(gate: str) -> asyncio.Server:
    """Listens on a free port of 127.0.0.1 and passes on to the Unix socket `gate`, until closed."""
    return await asyncio.get_running_loop().create_server(lambda: _Arrived(gate), "127.0.0.1", 0, backlog=256)
