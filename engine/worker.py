"""A job's worker as a program: told what to do on stdin, a job a line; it prints how far it is and what it found. May be killed any time."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from engine.store.database import Connection, open_pool

TELL_S: Final = 0.4
_TELL_SHARE: Final = 10
"""So much longer than it takes to say something nothing is said."""
_LOOK_S: Final = 0.5


class Order(msgspec.Struct):
    """Do this share, of so many, of a stored job."""

    job: UUID
    share: int
    of: int


class Line(msgspec.Struct):
    """What a worker prints: the share that is done, 0 to 1, how many rows were read, what was found by now if that is said."""

    done: float = 0.0
    rows: int = 0
    found: msgspec.Raw = msgspec.Raw(b"null")
    is_last: bool = False

    @property
    def said(self) -> bytes | None:
        """What was found, as JSON; None where it does not say."""
        found = bytes(self.found)
        return None if found == b"null" else found


class Tell(Protocol):
    """Hears of the share that is done, 0 to 1, and of how many rows were read; `found` is asked for what was found by then."""

    def __call__(self, done: float, rows: int, found: Callable[[], Any] | None = None) -> None:
        """Print it, if it is time."""


Work = Callable[[Connection, Order, Tell], Awaitable[tuple[int, Any]]]
"""Does an order; how many rows were read, and what was found."""


def run(work: Work) -> None:
    """Do what comes on stdin until it ends, or whoever started it does: that is named by its only argument."""
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    os.nice(10)  # probes and evaluators go first
    asyncio.run(_run(work))


async def _run(work: Work) -> None:
    pool = await open_pool(os.environ["UPBEAT_DATABASE_URL"], size=1)
    while text := await asyncio.to_thread(sys.stdin.readline):
        next_at = time.monotonic() + TELL_S

        def tell(done: float, rows: int, found: Callable[[], Any] | None = None) -> None:
            nonlocal next_at
            if (began_at := time.monotonic()) >= next_at:
                _print(done, rows, found and found())
                took_s = time.monotonic() - began_at
                next_at = began_at + took_s + max(TELL_S, _TELL_SHARE * took_s)

        async with pool.acquire() as connection:
            rows, found = await work(connection, msgspec.json.decode(text, type=Order), tell)
        _print(1.0, rows, found, is_last=True)
    await pool.close()


def _print(done: float, rows: int, found: Any, *, is_last: bool = False) -> None:
    line = Line(done, rows, msgspec.Raw(msgspec.json.encode(found)), is_last)
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _end_with(parent: int) -> None:
    """Whoever wanted to know may be killed; what is at work here then may be a rule that never ends."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
