"""An HTTP/1.1 response read from a wire within bounds: headers, body, and the ways it can be wrong. Judges no status.

Whatever a server sends, at most 64 KiB of headers, 1 MiB of body and 8 MiB in all are read, then the socket is closed.
"""

import asyncio
import zlib
from typing import Any, Final

import httptools

from engine.probes.request import REDIRECTS
from engine.probes.trouble import TroubleError
from engine.probes.wire import READ_BYTES, Wire

BODY_MAX_BYTES: Final = 1_048_576  # as received, and again when decoded
HEAD_MAX_BYTES: Final = 65_536  # of all heads of a response, interim ones included
HEADERS_MAX: Final = 200
EXCERPT_BYTES: Final = 2048  # kept of a body that nothing asserts
_RECEIVED_MAX_BYTES: Final = 8 * BODY_MAX_BYTES  # one-byte chunks are 6 bytes each
_GZIP_OR_ZLIB: Final = 47  # zlib's window bits for "whichever it is"


class Reply:
    """A response being parsed: the callbacks of httptools, kept small because they run per header and per chunk."""

    __slots__ = (
        "_has_head",
        "_is_framed",
        "_keep_bytes",
        "_kept",
        "_parser",
        "_received_bytes",
        "_skips_body",
        "_skips_redirects",
        "headers",
        "is_done",
        "is_truncated",
        "reason",
        "size_bytes",
        "status",
    )

    def __init__(self, *, keeps_body: bool, skips_body: bool, skips_redirects: bool) -> None:
        self._keep_bytes = BODY_MAX_BYTES if keeps_body else EXCERPT_BYTES
        self._skips_body, self._skips_redirects = skips_body, skips_redirects
        self._parser: Any = httptools.HttpResponseParser(self)
        self._has_head = self._is_framed = self.is_done = self.is_truncated = False
        self._received_bytes = self.size_bytes = 0
        self._kept = bytearray()  # a list of a million one-byte chunks would take 40 times the room
        self.headers: list[tuple[str, str]] = []
        self.status: int | None = None
        self.reason = ""

    @property
    def body(self) -> bytes:
        """What was kept of it, as received."""
        return bytes(self._kept)

    def on_message_begin(self) -> None:
        self.headers, self.reason, self._has_head = [], "", False

    def on_status(self, reason: bytes) -> None:
        self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_done and len(self.headers) <= HEADERS_MAX:
            self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            return  # interim: the response proper follows
        self.status, self._has_head = status, True
        names = {name for name, _ in self.headers}
        if self._skips_body or (self._skips_redirects and status in REDIRECTS and "location" in names):
            self.is_done = True
        self._is_framed = "content-length" in names or "transfer-encoding" in names

    def on_body(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if len(self._kept) < self._keep_bytes:
            self._kept += data[: self._keep_bytes - len(self._kept)]
        if self.size_bytes > BODY_MAX_BYTES:
            self.size_bytes, self.is_truncated, self.is_done = BODY_MAX_BYTES, True, True

    def on_message_complete(self) -> None:
        if self._has_head:
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
        if self.is_done:
            return
        if len(self.headers) > HEADERS_MAX:
            raise TroubleError("http.protocol", f"more than {HEADERS_MAX} headers")
        if not self._has_head and self._received_bytes > HEAD_MAX_BYTES:
            raise TroubleError("http.protocol", f"headers of more than {HEAD_MAX_BYTES} bytes")
        if self._received_bytes > _RECEIVED_MAX_BYTES:
            raise TroubleError(
                "http.protocol", f"{self._received_bytes} bytes for a body of {self.size_bytes}"
            )

    def _end(self) -> None:
        if not self._received_bytes:
            raise TroubleError("http.closed", "closed without an answer")
        if not self._has_head:
            raise TroubleError("http.closed", "closed within the headers")
        if self._is_framed:
            raise TroubleError(
                "http.closed", f"closed after {self.size_bytes} bytes of the body, before its end"
            )
        self.is_done = True

    def release(self) -> None:
        """Let go of the parser, which refers back: otherwise every run is garbage for the cycle collector."""
        self._parser = None


async def read(wire: Wire, reply: Reply, first: bytes) -> None:
    """Read until `reply` is done, starting with `first`. Raises `TroubleError` or `OSError`."""
    data = first
    while True:
        reply.feed(data)
        if reply.is_done:
            return
        if len(data) == READ_BYTES:
            await asyncio.sleep(0)  # a fast sender must not keep the other checks waiting
        data = await wire.receive_more()


def decode(body: bytes, encoding: str) -> bytes:
    """`body` without its content encoding. Raises `TroubleError`, also when it grows beyond the limit."""
    if encoding.strip().lower() in ("", "identity"):
        return body
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise TroubleError("body.decode", f"the content encoding {encoding[:80]!r} was not asked for")
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        decoded = inflater.decompress(body, BODY_MAX_BYTES + 1)
    except zlib.error as wrong:
        raise TroubleError("body.decode", f"{encoding}: {wrong}") from None
    if len(decoded) > BODY_MAX_BYTES:
        raise too_large()
    if not inflater.eof or inflater.unused_data:
        raise TroubleError(
            "body.decode", f"{encoding}: {'data after its end' if inflater.eof else 'cut off'}"
        )
    return decoded


def too_large() -> TroubleError:
    """The body is longer than what an assertion may read."""
    return TroubleError("body.too_large", f"the body is larger than the {BODY_MAX_BYTES} bytes that are read")
