"""An HTTP exchange on a wire within bounds: a request, then headers, body, and the ways they can be wrong. Judges no status.

Whatever a server sends, at most 64 KiB of headers, 1 MiB of body and 8 MiB in all are read, then the socket is closed.
`Reply` is what every version of HTTP fills in; `Reply1` parses HTTP/1.1, which refuses what smuggles requests.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import httptools

from engine.probes.attempt import Watch
from engine.probes.encoding import BODY_MAX_BYTES
from engine.probes.eventstream import MEDIA_TYPE, EventStream
from engine.probes.request import REDIRECTS, Request, encode
from engine.probes.trouble import TroubleError
from engine.probes.wire import READ_BYTES, Wire
from rules.kinds.http import Proxy
from rules.secret import cut

HEAD_MAX_BYTES: Final = 65_536  # of all heads of a response, interim ones included
HEADERS_MAX: Final = 200
INTERIM_MAX: Final = 20
EXCERPT_BYTES: Final = 2048  # kept of a body that nothing asserts
RECEIVED_MAX_BYTES: Final = 8 * BODY_MAX_BYTES  # one-byte chunks are 6 bytes each
_BODILESS: Final = (204, 304)
_VERSIONS: Final = {"1.1": "HTTP/1.1", "1.0": "HTTP/1.0"}


class Reply:
    """A response as it comes, small because it runs per header and per chunk."""

    __slots__ = (
        "_keep_bytes",
        "_kept",
        "_rpc_id",
        "_skips_body",
        "_skips_redirects",
        "_wanted",
        "fields",
        "has_head",
        "headers",
        "is_done",
        "is_truncated",
        "protocol",
        "reason",
        "size_bytes",
        "status",
        "stream",
        "wrong",
    )

    def __init__(
        self,
        keeps_body: bool = False,
        skips_body: bool = False,
        skips_redirects: bool = False,
        events: int = 1,
        rpc_id: int | None = None,
    ) -> None:
        self._keep_bytes = BODY_MAX_BYTES if keeps_body else EXCERPT_BYTES
        self._skips_body, self._skips_redirects = skips_body, skips_redirects
        self._wanted, self._rpc_id = events, rpc_id
        self.wrong: TroubleError | None = None  # found where nothing may be raised
        self.has_head = self.is_done = self.is_truncated = False
        self.size_bytes = 0
        self._kept = bytearray()  # a list of a million one-byte chunks would take 40 times the room
        self.headers: list[tuple[str, str]] = []
        self.fields: dict[str, str] = {}  # of the head, the last of a name
        self.status: int | None = None
        self.reason = ""
        self.protocol: str | None = None
        self.stream: EventStream | None = None

    @property
    def body(self) -> bytes:
        """What was kept of it, as received."""
        return bytes(self._kept)

    def on_head(self, status: int, protocol: str) -> None:
        """The head is whole, and no interim one."""
        self.status, self.protocol, self.has_head = status, protocol, True
        self.fields = fields = dict(self.headers)
        if self._skips_body or (self._skips_redirects and status in REDIRECTS and "location" in fields):
            self.is_done = True
        elif fields.get("content-type", "").lower().startswith(MEDIA_TYPE) and status not in _BODILESS:
            self.stream = EventStream(self._wanted, self._rpc_id)
            if fields.get("content-encoding", "identity").lower() != "identity":
                self.wrong = TroubleError(
                    "body.decode", "an event stream with a content encoding is not read"
                )

    def on_body(self, data: bytes) -> None:
        """More of the body, which may come with what was enough: then it is nobody's."""
        if self.is_done:
            return
        self.size_bytes += len(data)
        if len(self._kept) < self._keep_bytes:
            self._kept += data[: self._keep_bytes - len(self._kept)]
        if self.stream is not None and self.stream.feed(data):
            self.is_done = True
        elif self.size_bytes > BODY_MAX_BYTES:
            self.size_bytes, self.is_truncated, self.is_done = BODY_MAX_BYTES, True, True


class Reply1(Reply):
    """HTTP/1.1: the callbacks of httptools."""

    __slots__ = ("_heads", "_is_framed", "_parser", "_received_bytes")

    def on_message_begin(self) -> None:
        if not self.is_done:  # what follows the answer in the same piece is none to us
            self.headers, self.reason, self.has_head = [], "", False
            self._heads += 1

    def on_status(self, reason: bytes) -> None:
        if not self.is_done:
            self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come after the head and are no headers: a sender could take back what it said.
        if not self.has_head and len(self.headers) <= HEADERS_MAX:
            self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.is_done:
            return
        status = self._parser.get_status_code()
        protocol = _VERSIONS.get(self._parser.get_http_version())
        if status < 100 or protocol is None:
            version = self._parser.get_http_version()
            self.wrong = TroubleError(
                "http.protocol", f"no HTTP/1 response: version {version}, status {status:03}"
            )
        elif status < 200 and status != 101:
            return  # interim: the response proper follows
        self.on_head(status, protocol or "")
        coding = self.fields.get("transfer-encoding")
        self._is_framed = coding is not None or "content-length" in self.fields
        if coding is not None and coding.lower() != "chunked":
            self.wrong = TroubleError(
                "http.protocol", f"the transfer encoding {cut(coding, 80)!r} was not asked for"
            )

    def on_message_complete(self) -> None:
        if self.has_head:
            self.is_done = True

    def feed(self, data: bytes) -> None:
        """Take what was received; nothing means the end. Raises `TroubleError`."""
        if not data:
            self._end()
            return
        self._received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.is_done = True
        except httptools.HttpParserError as wrong:
            if not self.is_done:
                raise TroubleError("http.protocol", f"not an HTTP/1 response: {wrong}") from None
        if self.wrong is not None:
            raise self.wrong
        if self.is_done:
            return
        if len(self.headers) > HEADERS_MAX:
            raise TroubleError("http.headers", f"more than {HEADERS_MAX} headers")
        if self._heads > INTERIM_MAX:
            raise TroubleError("http.flood", f"more than {INTERIM_MAX} interim answers")
        if not self.has_head and self._received_bytes > HEAD_MAX_BYTES:
            raise TroubleError("http.headers", f"headers of more than {HEAD_MAX_BYTES} bytes")
        if self._received_bytes > RECEIVED_MAX_BYTES:
            raise TroubleError("http.flood", f"{self._received_bytes} bytes for a body of {self.size_bytes}")

    def exchange(
        self, wire: Wire, watch: Watch, request: Request, proxy: Proxy | None
    ) -> Coroutine[Any, Any, None]:
        """Send `request` and read the answer to it. Raises `TroubleError` or `OSError`."""
        if proxy is None or request.target.scheme != "http":
            return self.speak(wire, watch, encode(request))
        return self.speak(wire, watch, encode(request, proxy.authorization, is_proxied=True))

    async def speak(self, wire: Wire, watch: Watch | None, sent: bytes) -> None:
        """Send, and read until the answer is done. Raises `TroubleError` or `OSError`."""
        with suppress(ConnectionError):  # who answers early and hangs up is still heard below
            await wire.send(sent)
        data = await wire.receive()
        if data and watch is not None:
            watch.enter("transfer")
        self._parser: Any = httptools.HttpResponseParser(self)
        self._is_framed = False
        self._received_bytes = self._heads = 0
        try:
            while True:
                self.feed(data)
                if self.is_done:
                    return
                if len(data) == READ_BYTES:
                    await asyncio.sleep(0)  # a fast sender must not keep the other checks waiting
                data = await wire.receive_more()
        finally:
            self._parser = None  # it refers back: otherwise every run is garbage for the cycle collector

    def _end(self) -> None:
        if not self._received_bytes:
            raise TroubleError("http.closed", "closed without an answer")
        if not self.has_head:
            raise TroubleError("http.closed", "closed within the headers")
        if self._is_framed:
            raise TroubleError(
                "http.closed", f"closed after {self.size_bytes} bytes of the body, before its end"
            )
        self.is_done = True
