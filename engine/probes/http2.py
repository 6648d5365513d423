"""HTTP/2 on a wire: one request, one stream, by the library h2 within bounds. Pushes, priorities and reuse are not ours.

Frames are counted before h2 sees them, so that no flood of them costs more than a moment: of SETTINGS, PING, RST_STREAM,
CONTINUATION, empty DATA. What the frames say is h2's to judge.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, InformationalResponseReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import DenialOfServiceError, ProtocolError
from h2.settings import SettingCodes, Settings

from engine.probes.attempt import Watch
from engine.probes.encoding import BODY_MAX_BYTES
from engine.probes.reply import HEAD_MAX_BYTES, HEADERS_MAX, INTERIM_MAX, RECEIVED_MAX_BYTES, Reply
from engine.probes.request import Request
from engine.probes.trouble import TroubleError
from engine.probes.wire import Wire
from rules.kinds.http import Proxy

CONTROL_MAX: Final = 200  # frames that are no DATA
DATA_MAX: Final = 10_000  # frames of DATA
_AT_ONCE: Final = 64  # frames between two turns of the loop
_HEAD_BYTES: Final = 9  # of a frame
_FRAME_MAX: Final = 16_384
_WINDOW: Final = 2 * BODY_MAX_BYTES  # more than is read, so that it never has to be opened further
_DATA, _HEADERS, _GOAWAY, _CONTINUATION = 0, 1, 7, 9
_CONFIG: Final = H2Configuration(client_side=True, header_encoding=None)
_NOT_SENT: Final = frozenset({"host", "connection", "keep-alive", "proxy-connection", "upgrade", "te"})


class Reply2(Reply):
    """A response over HTTP/2."""

    __slots__ = ("_buffer", "_connection", "_controls", "_data", "_head_bytes", "_heads", "_received_bytes")

    def __init__(self, *options: Any) -> None:
        super().__init__(*options)
        self._buffer = bytearray()
        self._controls = self._data = self._heads = self._head_bytes = self._received_bytes = 0
        connection: Any = H2Connection(_CONFIG)
        connection.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: HEAD_MAX_BYTES,
            },
        )
        self._connection = connection

    async def exchange(self, wire: Wire, watch: Watch, request: Request, proxy: Proxy | None) -> None:
        """Send `request` and read the answer to it. Raises `TroubleError` or `OSError`."""
        connection, body = self._connection, memoryview(request.body)
        self._controls = -(len(body) // 1024)  # who takes it in says so, often in small pieces
        connection.initiate_connection()
        connection.increment_flow_control_window(_WINDOW)
        connection.send_headers(1, _headers(request), end_stream=not body)
        frames = 0
        while True:
            if body and (
                room := min(connection.local_flow_control_window(1), connection.max_outbound_frame_size)
            ):
                part, body = body[:room], body[room:]
                connection.send_data(1, bytes(part), end_stream=not body)
            if out := connection.data_to_send():
                await wire.send(out)
                if body:
                    continue
            data = await wire.receive_more()
            if not data:
                raise TroubleError("http.closed", "closed before the end of the answer")
            for frame in self._frames(data):
                self._take(frame)
                if self.has_head and watch.phase == "ttfb":
                    watch.enter("transfer")
                if self.wrong is not None:
                    raise self.wrong
                if self.is_done:
                    return
                frames += 1
                if frames % _AT_ONCE == 0:
                    await asyncio.sleep(0)  # a fast sender must not keep the other checks waiting

    def _frames(self, data: bytes) -> Iterator[bytes]:
        """The whole frames that are here, counted. Raises `TroubleError` where they are too many or too large."""
        self._received_bytes += len(data)
        if self._received_bytes > RECEIVED_MAX_BYTES:
            raise TroubleError("http.flood", f"{self._received_bytes} bytes for a body of {self.size_bytes}")
        buffer, begin = self._buffer, 0
        buffer += data
        while len(buffer) - begin >= _HEAD_BYTES:
            length, kind = int.from_bytes(buffer[begin : begin + 3]), buffer[begin + 3]
            if length > _FRAME_MAX:
                raise TroubleError("http.protocol", f"no HTTP/2, or a frame of {length} bytes")
            end = begin + _HEAD_BYTES + length
            if kind in (_HEADERS, _CONTINUATION):
                self._head_bytes += length
            self._expect_few(kind)
            if len(buffer) < end:
                break
            if kind == _DATA:
                self._data += 1
            else:
                self._controls += 1
            if kind != _GOAWAY or self._ends_us(bytes(buffer[begin + _HEAD_BYTES : end])):
                yield bytes(buffer[begin:end])
            begin = end
        del buffer[:begin]

    def _expect_few(self, kind: int) -> None:
        if self._head_bytes > HEAD_MAX_BYTES:
            raise TroubleError("http.headers", f"headers of more than {HEAD_MAX_BYTES} bytes")
        if self._controls >= CONTROL_MAX or self._data >= DATA_MAX:
            raise TroubleError("http.flood", f"{self._controls} frames of control and {self._data} of data")

    def _ends_us(self, goaway: bytes) -> bool:
        """Whether a GOAWAY is about our stream; one that is only polite is passed over."""
        return len(goaway) < 8 or int.from_bytes(goaway[:4]) & 0x7FFFFFFF < 1 or any(goaway[4:8])

    def _take(self, frame: bytes) -> None:
        if frame[3] == _GOAWAY:
            code = int.from_bytes(frame[13:17]) if len(frame) >= 17 else -1
            raise TroubleError("http.reset", f"the server went away (HTTP/2 error {code})")
        try:
            events = self._connection.receive_data(frame)
        except DenialOfServiceError as refused:
            raise TroubleError("http.headers", f"HTTP/2: {refused}") from None
        except (ProtocolError, ValueError) as wrong:
            raise TroubleError(
                "http.protocol", f"HTTP/2: {str(wrong)[:200] or type(wrong).__name__}"
            ) from None
        for event in events:
            self._on(event)

    def _on(self, event: Any) -> None:
        if isinstance(event, ResponseReceived):
            self.headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in event.headers
                if not name.startswith(b":")
            ]
            status = dict(event.headers).get(b":status", b"")
            if len(self.headers) > HEADERS_MAX:
                raise TroubleError("http.headers", f"more than {HEADERS_MAX} headers")
            if len(status) != 3 or not status.isdigit() or status < b"100":
                raise TroubleError("http.protocol", f"HTTP/2: the status {status.decode('latin-1')[:20]!r}")
            self.on_head(int(status), "h2")
        elif isinstance(event, DataReceived):
            self.on_body(event.data)
        elif isinstance(event, StreamEnded):
            self.is_done = True
        elif isinstance(event, StreamReset) and not self.is_done:
            raise TroubleError(
                "http.reset", f"the server reset the stream (HTTP/2 error {int(event.error_code)})"
            )
        elif isinstance(event, InformationalResponseReceived):
            self._heads += 1
            if self._heads > INTERIM_MAX:
                raise TroubleError("http.flood", f"more than {INTERIM_MAX} interim answers")


def _headers(request: Request) -> list[tuple[str, str]]:
    target = request.target
    host = next((value for name, value in request.headers if name.lower() == "host"), target.authority)
    headers = [
        (":method", request.method),
        (":scheme", target.scheme),
        (":authority", host),
        (":path", target.path),
        *((name.lower(), value) for name, value in request.headers if name.lower() not in _NOT_SENT),
    ]
    if request.body:
        headers.append(("content-length", str(len(request.body))))
    return headers
