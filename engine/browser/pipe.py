"""Bytes passed from one connection to another, no faster than they are taken. Understands none of them."""

import asyncio
from typing import cast


class Pipe(asyncio.Protocol):
    """One end; what comes in goes out at `other`. One that has finished sending may still receive."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport  # once it is connected
        self.other: Pipe | None = None
        self.early = bytearray()  # came before there was another end: one piece
        self.has_ended = False
        self._is_connected = self._is_over = self._is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._is_connected = True
        if self._is_over:
            self.transport.abort()

    def abort(self) -> None:
        """Hang up at once, or as soon as it is connected."""
        self._is_over = True
        if self._is_connected:
            self.transport.abort()

    def join(self, other: "Pipe") -> None:
        """Pass on to `other` from now on, and back."""
        self.other, other.other = other, self
        for end, far in ((self, other), (other, self)):
            if end.transport.is_closing():
                far.transport.abort()
                continue
            if end.early:
                end.data_received(bytes(end.early))
                end.early.clear()
            if end.has_ended:
                far.transport.write_eof()
            elif not far._is_full:  # what came early may be more than it takes
                end.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data
            self.transport.pause_reading()
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        self._is_full = True
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        if self.other is not None:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.has_ended = True
        if self.other is None:
            return True
        if self.other.has_ended or self.other.transport.is_closing():
            return False
        self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            if exc is None:
                self.other.transport.close()  # once it has all
            else:
                self.other.transport.abort()
