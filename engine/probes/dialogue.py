"""What `rules.dialogue` writes, said over a wire and heard within bounds. Knows no service by name.

At most 64 KiB in 2,000 pieces are heard of one answer: it is searched anew after each piece.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from engine.probes.attempt import Watch
from engine.probes.context import Context
from engine.probes.handshake import start_tls
from engine.probes.trouble import TroubleError
from engine.probes.wire import READ_BYTES, Wire
from evaluators.capture import capture
from evaluators.observation import Observation
from rules.capture import fill
from rules.dialogue import STARTTLS, Exchange, StartTls
from rules.secret import cut, hidden_forms
from rules.tls import TlsOptions

HEARD_MAX_BYTES: Final = 65_536
_PIECES_MAX: Final = 2000
_TOLD_MAX: Final = 100  # characters of what was said instead


class Dialogue:
    """One conversation; `heard` is everything that came, at most the first 64 KiB of it."""

    def __init__(self, wire: Wire, watch: Watch, host: str) -> None:
        self.heard = bytearray()
        self.secrets: tuple[str, ...] = ()  # captured
        self.public: dict[str, str] = {}  # captured, for customers
        self._wire, self._watch = wire, watch
        self._captured = {"host": host}
        self._left = b""  # came behind an answer, and may be the next one

    async def hold(self, exchanges: Iterable[Exchange]) -> None:
        """Say and hear `exchanges`, in their order. Raises `TroubleError` or `OSError`."""
        for number, exchange in enumerate(exchanges, 1):
            await self._say(exchange)
            if exchange.answers is not None:
                await self._hear(exchange, "tcp.unexpected", number)

    async def start_tls(
        self,
        context: Context,
        seen: Observation,
        options: TlsOptions,
        host: str,
        protocol: StartTls | None,
        *,
        lenient: bool = False,
    ) -> None:
        """Go on in TLS, asked for as `protocol` asks, or at once. Raises `TroubleError` or `OSError`."""
        for exchange in STARTTLS[protocol] if protocol else ():
            await self._say(exchange)
            asks = exchange.send or exchange.draft
            after = await self._hear(exchange, "tls.not_offered" if asks else "tcp.unexpected", 0)
            if asks and after:  # whoever sits in between could have sent it
                raise TroubleError("tls.protocol", f"{protocol} said more before TLS: {_told(after)}")
        await start_tls(context, self._watch, self._wire, seen, options, host, lenient=lenient)

    async def _say(self, exchange: Exchange) -> None:
        said = exchange.send
        if exchange.draft is not None:
            said = fill(exchange.draft, self._captured).encode()
        if said or exchange.answers is not None:
            self._watch.enter("ttfb")
        if said:
            self._left = b""  # said before it was asked
            with suppress(ConnectionError):  # who answers and hangs up is still heard
                await self._wire.send(said)

    async def _hear(self, exchange: Exchange, otherwise: str, number: int) -> str:
        """What came behind the answer. Raises `TroubleError` of the kind `otherwise` where another came."""
        fresh, text, left = bytearray(), "", self._left
        for _ in range(_PIECES_MAX):
            data = left or await self._wire.receive_more()
            if not fresh:
                self._watch.enter("transfer")
            if not data:
                said = f"closed after {_told(text)}" if fresh else "closed without a word"
                raise TroubleError("tcp.closed", said)
            fresh += data
            if not left:
                self.heard += data[: HEARD_MAX_BYTES - len(self.heard)]
            left = b""
            text = fresh.decode("utf-8", "replace")
            if exchange.busy is not None and exchange.busy.search(text):
                raise TroubleError("tcp.not_ready", f"the service says {_told(text)}")
            if match := exchange.answers.search(text):
                self._take(exchange, fresh)
                self._left = _behind(bytes(fresh), match.end())
                return text[match.end() :]
            if len(fresh) > HEARD_MAX_BYTES or (exchange.ends is not None and exchange.ends.search(text)):
                break
            if len(data) == READ_BYTES:
                await asyncio.sleep(0)  # a fast sender must not keep the other checks waiting
        wanted = f"; step {number} waits for {exchange.wanted!r}" if exchange.wanted else ""
        raise TroubleError(otherwise, f"it said {_told(text)}{wanted}")

    def _take(self, exchange: Exchange, fresh: bytearray) -> None:
        found, lacking = capture(exchange.takings, Observation(body=bytes(fresh)))
        if lacking is not None:
            raise TroubleError(lacking.type, lacking.message)
        self._captured |= found
        self.public |= {taking.name: found[taking.name] for taking in exchange.takings if taking.is_public}
        self.secrets += hidden_forms(found[taking.name] for taking in exchange.takings if taking.is_secret)


def _behind(data: bytes, characters: int) -> bytes:
    """`data` without what its first `characters` stand for as text, of which a broken one may be several bytes."""
    end = bisect_left(range(len(data)), characters, key=lambda n: len(data[:n].decode("utf-8", "replace")))
    return data[end:]


def _told(text: str) -> str:
    return repr(cut(text, _TOLD_MAX))
