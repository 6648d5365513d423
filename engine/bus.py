"""The bus: results through a NATS JetStream stream, orders and live news through plain NATS. A transport, no record.

What must not be lost is in PostgreSQL, or with the probe that measured it until it is: a wiped stream is made anew
when it is missed, and publishers repeat what was not committed.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import nats.errors
from msgspec import DecodeError, Raw, Struct, structs
from msgspec import json as wire
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError

from engine.store.ids import PARTITIONS
from evaluators.model import Batch, ConfirmOrder

STREAM: Final = "RESULTS"
LIVE: Final = "upbeat.live.news"
"""Subject of what happens to beats and drafts."""
LIVE_RESULTS: Final = "upbeat.live.results"
"""And of every run, which only a console wants to hear: where none does, the server drops it."""
LIVE_ALL: Final = "upbeat.live.>"
EVALUATOR: Final = "evaluator"
OTLP: Final = "otlp"

DUPLICATE_WINDOW_S: Final = 600.0
ACK_WAIT_S: Final = 5.0  # a message whose evaluator and bus died together comes again after this long
RECONNECT_S: Final = 0.25
ANSWER_S: Final = 2.0  # how long the server may take to acknowledge; what it did not is sent again
MAKING_S: Final = 5.0  # and to make a stream
OPENING_S: Final = 10.0  # and to take a new connection, before it is asked anew where it is
PAUSE_S: Final = 0.2  # least time a fetch takes while there is nothing to fetch from
_NAME_IN_USE: Final = 10058  # JetStream's error code for a stream of another shape
_NOT_STORED: Final = 10077  # and for a message that could not be written to disk

_log = logging.getLogger(__name__)
_batches = wire.Decoder(Batch)
_orders = wire.Decoder(ConfirmOrder)
_encoder = wire.Encoder()

Handler = Callable[[bytes], Awaitable[None]]
P = ParamSpec("P")
R = TypeVar("R")


def _obedient(work: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Be cancelled when told so. nats-py is not always: one that comes at the moment of an answer is lost in it.

    It waits in `asyncio.wait_for` (which before Python 3.12 then returns the answer), or takes it for the end of a flush.
    """

    @wraps(work)
    async def obeying(*given: P.args, **named: P.kwargs) -> R:
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            return await work(*given, **named)
        finally:
            if task.cancelling() > before:
                raise asyncio.CancelledError

    return obeying


class BusError(Exception):
    """The bus cannot be reached, or does not do what it is asked."""


class Sealed(Struct, frozen=True):
    """A `Batch` whose results are encoded already; the same on the wire."""

    boot_id: str
    seq: int
    partition: int
    sent_at: float
    results: Raw  # a JSON array


@dataclass(frozen=True, slots=True)
class Settings:
    """The shape of the stream."""

    max_age_s: float = 3600.0
    max_bytes: int = 1 << 30
    replicas: int = 1


@dataclass(slots=True)
class Delivery:
    """One message of the stream, in hand for ACK_WAIT_S seconds."""

    data: bytes
    partition: int
    deliveries: int  # this one included
    stored_at: float  # by the bus server's clock, seconds since the epoch
    _msg: Msg

    async def ack(self) -> None:
        """It is dealt with. An acknowledgement that is lost means another delivery, nothing worse."""
        with contextlib.suppress(nats.errors.Error):
            await self._msg.ack()

    async def nak(self, delay_s: float) -> None:
        """Give it back, to come again after `delay_s` seconds."""
        with contextlib.suppress(nats.errors.Error):
            await self._msg.nak(delay_s)


def encode(batch: Batch | Sealed) -> bytes:
    """`batch` as it goes over the wire: JSON."""
    return _encoder.encode(batch)


def decode(data: bytes) -> Batch:
    """The batch in a message. Raises `msgspec.DecodeError` (of which `ValidationError` is one)."""
    return _batches.decode(data)


class Bus:
    """One connection to NATS. It reconnects for ever; `connected` says whether it is there now."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.on_connect: list[Callable[[], None]] = []
        self.on_disconnect: list[Callable[[], None]] = []
        self._settings = settings or Settings()
        self._client = Client()
        self._options: dict[str, Any] = {}
        self._where: Callable[[], str] | None = None
        self._url = ""  # as asked last
        self._pulls: dict[str, _Pull] = {}
        self._listening: list[Listening] = []
        self._making = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_error = ""
        self._is_closing = self._is_opening = False
        self._refusing_since_s: float | None = None

    @property
    def refusing_s(self) -> float:
        """For how long the server has not been able to write to its disk; 0 when it is. It stays so until it is restarted."""
        since_s = self._refusing_since_s
        return asyncio.get_running_loop().time() - since_s if since_s is not None else 0.0

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client.is_connected

    async def connect(self, url: str | Callable[[], str], *, name: str, within_s: float = OPENING_S) -> None:
        """Connect and see to the stream. Raises `BusError` if that takes more than `within_s` seconds.

        A `url` that is a function is asked again while there is no connection: the server may come back elsewhere.
        """
        self._where = url if callable(url) else lambda: url
        self._options = {
            "name": name,
            "error_cb": self._erred,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._closed,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_S,
            "connect_timeout": 2,
            "ping_interval": 5,
            "max_outstanding_pings": 2,
        }
        try:
            async with asyncio.timeout(within_s):
                await self._dial()
                await self.ensure()
        except (OSError, TimeoutError, nats.errors.Error, BusError) as failure:
            await self.close()
            raise BusError(
                f"no NATS to work with: {self._last_error or str(failure) or 'no answer'}"
            ) from None
        for tell in self.on_connect:
            tell()

    @_obedient
    async def close(self) -> None:
        """Send what is still buffered and hang up."""
        self._is_closing, self._where = True, None
        for task in tuple(self._tasks):
            task.cancel()
        with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
            if self._client.is_connected:
                await self._client.flush(timeout=1)
        await _hang_up(self._client)

    # ---- results

    @_obedient
    async def ensure(self) -> None:
        """Make the stream and its consumers where they are missing. Raises `BusError`."""
        async with self._making:
            js = self._client.jetstream(timeout=MAKING_S)
            try:
                try:
                    await js.add_stream(_stream(self._settings))
                except BadRequestError as refused:
                    if refused.err_code != _NAME_IN_USE:
                        raise
                    await js.update_stream(_stream(self._settings))
                wanted = {consumer(EVALUATOR, partition) for partition in range(PARTITIONS)} | {*self._pulls}
                have = {info.name for info in await js.consumers_info(STREAM)}
                for missing in sorted(wanted - have):
                    await js.add_consumer(STREAM, _consumer(missing))
            except (OSError, TimeoutError, nats.errors.Error) as failure:
                raise BusError(f"the stream {STREAM} cannot be made: {failure}") from failure

    @_obedient
    async def publish(self, batch: Batch | Sealed, *, repeat: int = 0) -> bool:
        """Hand `batch` to the stream; it is stored there when this returns. Raises `BusError`.

        The stream takes the same (boot, partition, seq, repeat) only once within DUPLICATE_WINDOW_S: False says that
        it had it already.
        """
        if not self.connected:
            raise BusError("the bus is away")
        key = f"{batch.boot_id}:{batch.partition}:{batch.seq}" + (f":{repeat}" if repeat else "")
        subject, data, headers = f"upbeat.results.{batch.partition}", encode(batch), {"Nats-Msg-Id": key}
        js = self._client.jetstream(timeout=ANSWER_S)
        try:
            try:
                stored = await js.publish(subject, data, headers=headers)
            except NoStreamResponseError:
                await self.ensure()
                stored = await js.publish(subject, data, headers=headers)
        except (OSError, TimeoutError, nats.errors.Error) as failure:
            if self._refusing_since_s is None and await self._is_refusal(failure):
                self._refusing_since_s = asyncio.get_running_loop().time()
            raise BusError(f"not published: {str(failure) or type(failure).__name__}") from failure
        self._refusing_since_s = None
        return not stored.duplicate

    @_obedient
    async def pending(self) -> int:
        """Messages that evaluators have still to commit. Raises `BusError`."""
        js = self._client.jetstream(timeout=ANSWER_S)
        try:
            infos = await js.consumers_info(STREAM)
        except (OSError, TimeoutError, nats.errors.Error) as failure:
            raise BusError(f"the stream {STREAM} is not there: {failure}") from failure
        waiting = (info for info in infos if info.name.startswith(f"{EVALUATOR}-"))
        return sum((info.num_pending or 0) + (info.num_ack_pending or 0) for info in waiting)

    async def _is_refusal(self, failure: Exception) -> bool:
        """Whether the server is there and does not store. Of a message it could not write it says nothing at all."""
        if isinstance(failure, APIError):
            return bool(failure.err_code == _NOT_STORED)
        if isinstance(failure, TimeoutError):
            with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
                await self._client.flush(timeout=1)
                return True
        return False

    @_obedient
    async def fetch(self, group: str, partition: int, most: int, wait_s: float) -> list[Delivery]:
        """What waits for `group` in `partition`: at most `most`, as soon as there is any, [] after `wait_s` seconds.

        While the bus is away it is [] too. The group `otlp` has one consumer over all partitions (whichever is named)
        and acknowledges up to and including a message.
        """
        name = consumer(group, partition)
        pull = self._pulls.get(name)
        if pull is None:
            pull = self._pulls[name] = _Pull(name)
        began = asyncio.get_running_loop().time()
        try:
            msgs, missing = await pull.fetch(self._client, most, wait_s)
            if missing:
                await self.ensure()
        except (OSError, TimeoutError, nats.errors.Error, BusError) as failure:
            self._say(f"nothing to fetch from: {failure}")
            msgs = []
        if not msgs and (rest_s := began + min(PAUSE_S, wait_s) - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(rest_s)
        return [_delivery(msg) for msg in msgs]

    def wake(self, group: str, partition: int) -> None:
        """End the wait of this process's `fetch` there, if it waits."""
        if pull := self._pulls.get(consumer(group, partition)):
            pull.wake()

    # ---- orders and news: whoever is there hears them

    async def order(self, region: str, partition: int, order: ConfirmOrder) -> bool:
        """Ask the probe of `region` for runs now. False if it could not be sent: a late order is worth nothing."""
        sent = structs.replace(order, at=order.at or time.time())
        return await self.announce(f"upbeat.orders.{region}.{partition}", _encoder.encode(sent))

    async def orders(
        self, region: str, partition: int, handler: Callable[[ConfirmOrder], Awaitable[None]]
    ) -> "Listening":
        """Call `handler` with every order for `region` and `partition`."""

        async def ordered(data: bytes) -> None:
            try:
                order = _orders.decode(data)
            except DecodeError as wrong:
                _log.warning("an order for %s that is none: %s", region, wrong)
                return
            await handler(order)

        return await self.listen(f"upbeat.orders.{region}.{partition}", ordered)

    @_obedient
    async def announce(self, subject: str, payload: bytes) -> bool:
        """Tell whoever listens now. False if it could not be sent."""
        if not self.connected:
            return False
        try:
            await self._client.publish(subject, payload)
        except (OSError, nats.errors.Error):
            return False
        return True

    async def announce_each(self, subject: str, partitions: Iterable[int]) -> None:
        """Tell whoever serves each of `partitions` that there is something on `subject` there."""
        for partition in partitions:
            await self.announce(f"{subject}.{partition}", str(partition).encode())

    async def listen(self, subject: str, handler: Handler) -> "Listening":
        """Call `handler` with every payload told on `subject` (wildcards allowed), one after the other."""
        listening = Listening(subject, handler, self._listening)
        self._listening.append(listening)
        await listening.start(self._client)
        return listening

    # ---- the connection

    async def _erred(self, failure: Exception) -> None:
        self._say(str(failure) or type(failure).__name__)

    def _say(self, failure: str) -> None:
        """Once for each run of equal failures: a bus that is away fails many times a second."""
        if failure != self._last_error and not self._is_closing:
            self._last_error = failure
            _log.warning("bus: %s", failure)

    async def _disconnected(self) -> None:
        for pull in self._pulls.values():
            pull.wake()
        for tell in self.on_disconnect:
            tell()
        self._start(self._follow(self._client))

    async def _reconnected(self) -> None:
        self._last_error = ""
        self._start(self._restore())

    async def _restore(self) -> None:
        """After a reconnect: the server may have lost its data meanwhile."""
        try:
            await self.ensure()
        except BusError as failure:
            self._say(str(failure))  # fetch and publish see to it again when they miss it
        for tell in self.on_connect:
            tell()

    async def _closed(self) -> None:
        """The client gave up for good (the server refused it): begin anew with another one."""
        if self._where is not None:
            self._start(self._reopen())

    async def _follow(self, client: Client) -> None:
        """Its client knows only where the server was: once it is elsewhere, begin anew there."""
        while self._where is not None and client is self._client and not client.is_connected:
            if self._where() != self._url:
                await self._reopen()
                return
            await asyncio.sleep(RECONNECT_S)

    async def _reopen(self) -> None:
        if self._is_closing or self._is_opening:
            return
        self._is_opening = True
        try:
            while not self._client.is_connected:
                await _hang_up(self._client)
                await asyncio.sleep(RECONNECT_S)
                self._client = Client()
                for pull in self._pulls.values():
                    pull.forget()
                with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
                    async with asyncio.timeout(OPENING_S):
                        await self._dial()
        finally:
            self._is_opening = False
        for listening in tuple(self._listening):
            await listening.start(self._client)
        await self._reconnected()

    @_obedient
    async def _dial(self) -> None:
        assert self._where is not None
        self._url = self._where()
        await self._client.connect(self._url.split(","), **self._options)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _hang_up(client: Client) -> None:
    """What it still had to send goes with it. uvloop says RuntimeError of a connection that is gone."""
    with contextlib.suppress(OSError, TimeoutError, RuntimeError, nats.errors.Error):
        await client.close()


class Listening:
    """A subscription that outlives reconnects."""

    def __init__(self, subject: str, handler: Handler, among: list["Listening"]) -> None:
        self._subject, self._handler, self._among = subject, handler, among
        self._subscription: Subscription | None = None

    async def start(self, client: Client) -> None:
        with contextlib.suppress(
            nats.errors.ConnectionClosedError
        ):  # the client after this one starts it again
            self._subscription = await client.subscribe(self._subject, cb=self._heard)

    async def stop(self) -> None:
        """Hear nothing more."""
        if self in self._among:
            self._among.remove(self)
        with contextlib.suppress(OSError, nats.errors.Error):
            if self._subscription is not None:
                await self._subscription.unsubscribe()

    async def _heard(self, msg: Msg) -> None:
        try:
            await self._handler(msg.data)
        except Exception:
            _log.exception("a message on %s could not be handled", self._subject)


class _Pull:
    """A pull consumer's inbox. nats-py's own `fetch` starts a task for each message and hides why it got none."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0
        self._inbox: str | None = None
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()

    def wake(self) -> None:
        """Wait no longer: the connection is lost and the request with it, or there is something else to do."""
        self._arrived.put_nowait(None)

    def forget(self) -> None:
        """The client that subscribed is gone."""
        self._inbox = None

    async def fetch(self, client: Client, most: int, wait_s: float) -> tuple[list[Msg], bool]:
        """What came, and whether the consumer is missing."""
        if self._inbox is None:
            self._inbox = client.new_inbox()
            await client.subscribe(f"{self._inbox}.*", cb=self._receive)
        got = self._left_over(most)
        if got or not client.is_connected:
            return got, False
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        # no_wait with expires: wait for the first one, then end the request with what there is.
        request = {"batch": most, "expires": int(wait_s * 1e9), "no_wait": True}
        await client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._name}", json.dumps(request).encode(), reply
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s + 1.0):
                while len(got) < most:
                    msg = await self._arrived.get()
                    if msg is None:
                        break
                    if msg.reply:  # a message says where to acknowledge it; a status says nothing
                        got.append(msg)
                    elif msg.subject == reply:
                        return got, _says_missing(msg)
        return got, False

    async def _receive(self, msg: Msg) -> None:
        self._arrived.put_nowait(msg)

    def _left_over(self, most: int) -> list[Msg]:
        """Messages that came after a fetch was cancelled or ran out of patience."""
        got: list[Msg] = []
        while len(got) < most and not self._arrived.empty():
            msg = self._arrived.get_nowait()
            if msg is not None and msg.reply:
                got.append(msg)
        return got


def _says_missing(status: Msg) -> bool:
    """503: nobody answers for such a consumer; 409 Consumer Deleted. 404 and 408 only say that there is no more."""
    headers = status.headers or {}
    return headers.get("Status") == "503" or "deleted" in headers.get("Description", "").lower()


def consumer(group: str, partition: int) -> str:
    """The name of a group's consumer."""
    return OTLP if group == OTLP else f"{group}-{partition}"


def _stream(settings: Settings) -> StreamConfig:
    return StreamConfig(
        name=STREAM,
        subjects=["upbeat.results.*"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=settings.max_age_s,
        max_bytes=settings.max_bytes,
        duplicate_window=min(DUPLICATE_WINDOW_S, settings.max_age_s),
        num_replicas=settings.replicas,
    )


def _consumer(name: str) -> ConsumerConfig:
    if name == OTLP:  # from now on: measurements of an hour ago are no news to an observability stack
        return ConsumerConfig(
            durable_name=name,
            ack_policy=AckPolicy.ALL,
            ack_wait=ACK_WAIT_S,
            deliver_policy=DeliverPolicy.NEW,
            max_deliver=-1,
        )
    return ConsumerConfig(
        durable_name=name,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        deliver_policy=DeliverPolicy.ALL,
        max_deliver=-1,
        max_ack_pending=1000,
        filter_subject=f"upbeat.results.{name.rpartition('-')[2]}",
    )


def _delivery(msg: Msg) -> Delivery:
    told = msg.metadata
    partition = int(msg.subject.rpartition(".")[2])
    return Delivery(msg.data, partition, told.num_delivered, told.timestamp.timestamp(), msg)
