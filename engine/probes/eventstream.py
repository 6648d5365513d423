"""A `text/event-stream` read until enough of it is here (WHATWG HTML, server-sent events). Reconnects never.

Such a stream need not end, so it is read up to the first `wanted` events, or up to the JSON-RPC response of one id.
"""

from typing import Any

import msgspec

MEDIA_TYPE = "text/event-stream"


class EventStream:
    """Feed it what comes; its size is bounded by who feeds it."""

    __slots__ = ("_after_cr", "_data", "_fields", "_rest", "_rpc_id", "_wanted", "events", "response")

    def __init__(self, wanted: int, rpc_id: int | None) -> None:
        self._wanted, self._rpc_id = wanted, rpc_id
        self._rest = bytearray()  # of a line whose end has not come
        self._data: list[str] = []
        self._fields: dict[str, Any] = {}
        self._after_cr = False
        self.events: list[dict[str, Any]] = []
        self.response: bytes | None = None  # the JSON-RPC message that was waited for

    def feed(self, data: bytes) -> bool:
        """Whether enough is here."""
        is_rest = self._after_cr and data.startswith(b"\n")  # of a line's end that was cut in two
        self._after_cr = data.endswith(b"\r") if data else self._after_cr
        data = data[is_rest:]
        first, *others = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest += first
        for following in others:
            line, self._rest = self._rest, bytearray(following)
            if self._take(line.decode("utf-8", "replace")):
                return True
        return False

    def _take(self, line: str) -> bool:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name in ("event", "id"):
                self._fields[name] = value
            return False
        fields, data, self._fields, self._data = self._fields, self._data, {}, []
        return bool(data) and self._dispatch({"event": "message", **fields, "data": "\n".join(data)})

    def _dispatch(self, event: dict[str, Any]) -> bool:
        try:
            message = msgspec.json.decode(event["data"])
        except (msgspec.MsgspecError, RecursionError):
            message = None
        if self._rpc_id is not None:
            if is_response(message, self._rpc_id):
                self.response = event["data"].encode()
            return self.response is not None
        self.events.append(event if message is None else {**event, "json": message})
        return len(self.events) >= self._wanted

    @property
    def lacks(self) -> int:
        """How many of the wanted events have not come; a JSON-RPC response is missed elsewhere."""
        return self._wanted - len(self.events) if self._rpc_id is None else 0

    @property
    def body(self) -> bytes:
        """What is asserted of it: the JSON-RPC response, or a JSON list of the events."""
        return msgspec.json.encode(self.events) if self.response is None else self.response


def is_response(message: Any, rpc_id: int) -> bool:
    """Whether `message` is the JSON-RPC 2.0 response to our call."""
    return (
        isinstance(message, dict)
        and message.get("id") == rpc_id
        and ("result" in message or "error" in message)
    )
