"""What is said between the probe and the worker in a sandbox: length-prefixed MessagePack over its stdin and stdout.

The worker is not trusted once a page or a script has run in it: whatever it says is bounded, and is no more than data.
"""

import asyncio
from typing import Any, Final

import msgspec
from msgspec import Struct

from evaluators.model import Failure
from evaluators.observation import Artifact, Document, StepDone

MOST_BYTES: Final = 16 << 20
"""Of one message."""
SAID_BYTES: Final = 2 << 20
"""Of one message that is no file."""
MOST_TOTAL_BYTES: Final = 48 << 20
"""Of all that is said about one run."""
ARTIFACT_BYTES: Final = 8 << 20
"""Of one artifact; a larger one is left out, and the report says so."""


class Order(Struct, frozen=True, tag="order"):
    """Do a journey now."""

    journey: dict[str, Any]  # a `rules.journey.Journey`, references replaced
    steps_s: float  # for the steps, from now
    teardown_s: float  # for the teardown, after them
    keeps: bool = False  # whether a good run is to show something too
    keeps_nothing: bool = False
    records: bool = False  # trace, HAR and a picture of each step
    secrets: tuple[str, ...] = ()  # what no picture may show
    traceparent: str = ""  # sent to the origins of the journey
    is_stepped: bool = (
        False  # do what `Go` says instead of its steps, until it says nothing; then the teardown
    )


class Go(Struct, frozen=True, tag="go"):
    """Do this step now, whether or not it is the next of the order; without one, no more of them."""

    step: dict[str, Any] | None = None  # a `rules.journey.JourneyStep`, references replaced
    name: str = ""


class Ready(Struct, frozen=True, tag="ready"):
    """The browser runs, and waits for orders."""

    browser: str  # Chromium 156.0.8078.79


class Stepped(Struct, frozen=True, tag="stepped"):
    """A step was done; what is left of the journey may never be heard of."""

    step: StepDone
    waits: bool = False  # for `Go`
    failure: Failure | None = None  # of the journey, by this step


class Alive(Struct, frozen=True, tag="alive"):
    """Said every second while a journey is done: a page that hangs does not stop this."""


class Kept(Struct, frozen=True, tag="kept"):
    """A file for people, as it was made: secrets and all."""

    artifact: Artifact


class Report(Struct, frozen=True, tag="report"):
    """The journey is over. All that was done, also what was said to be `Stepped` before."""

    steps: tuple[StepDone, ...] = ()
    documents: tuple[Document, ...] = ()
    console: tuple[str, ...] = ()
    console_errors: int = 0
    failures: tuple[str, ...] = ()
    failed_requests: int = 0
    requests: int = 0
    captured: dict[str, str] = {}
    secrets: tuple[str, ...] = ()  # captured, to be hidden
    failure: Failure | None = (
        None  # why the journey is not ok; type `probe.browser` where that is our own trouble
    )
    notes: tuple[str, ...] = ()  # what is missing of the evidence, and why
    is_spent: bool = False  # the worker takes no more orders


Said = Ready | Stepped | Alive | Kept | Report
Asked = Order | Go

_encode = msgspec.msgpack.Encoder().encode
_said: Final[msgspec.msgpack.Decoder[Said]] = msgspec.msgpack.Decoder(Said)
_asked: Final[msgspec.msgpack.Decoder[Asked]] = msgspec.msgpack.Decoder(Asked)


class WireError(Exception):
    """What came is no message, or too long, or the other side is gone."""


def packed(message: Said | Asked) -> bytes:
    """A message as it is sent."""
    body = _encode(message)
    return len(body).to_bytes(4, "big") + body


async def hear(reader: asyncio.StreamReader) -> Said:
    """What the worker says next. Raises `WireError`."""
    return (await heard(reader))[0]


async def heard(reader: asyncio.StreamReader, most: int = MOST_BYTES) -> tuple[Said, int]:
    """The same, of at most so many bytes, and how many it has."""
    body = await _frame(reader, most)
    if len(body) > SAID_BYTES and b"kept" not in body[:16]:
        raise WireError(f"a message of {len(body)} bytes that is no file")
    return _said_by(body), len(body)


async def asked(reader: asyncio.StreamReader) -> Asked:
    """What the probe asks for next. Raises `WireError`."""
    return _asked.decode(await _frame(reader))


def _said_by(body: bytes) -> Said:
    try:
        return _said.decode(body)
    except (msgspec.MsgspecError, RecursionError) as wrong:
        raise WireError(f"the worker said what is no message: {wrong}") from None


async def _frame(reader: asyncio.StreamReader, most: int = MOST_BYTES) -> bytes:
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > most:
            raise WireError(f"a message of {size} bytes; at most {most} are taken")
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError):
        raise WireError("the other side is gone") from None
