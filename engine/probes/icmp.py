"""The `icmp` probe: echo requests and what comes back of them. Starts no program and needs no root where the system allows it.

A socket per attempt, connected to the judged address: Linux' ping socket (`net.ipv4.ping_group_range`) or macOS' like
it, else a raw one (root, CAP_NET_RAW). An answer counts where its number, its sequence and the attempt's random token
match what was sent to that address, so that nobody who does not see the packets can forge one. The kernel says when an
answer came (SO_TIMESTAMPNS), so that a busy event loop adds nothing to a round trip.
"""

import asyncio
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from engine.probes.attempt import Watch
from engine.probes.connect import by_family, resolve
from engine.probes.context import Context
from engine.probes.trouble import NO_ROUTE, OUT_OF_FILES, TroubleError, no_route
from engine.probes.wire import Poller, Wire
from evaluators.observation import Observation
from rules.kinds.icmp import IcmpCheck

TOKEN_BYTES: Final = 16
_HEADER: Final = struct.Struct("!BBHHH")
_TO_END_S: Final = 0.05  # so that what is lost is told, and not that time was up
_ROUNDS: Final = 64  # packets read before others have their turn
_IS_LINUX: Final = sys.platform == "linux"
# Of the Linux kernel; Python's socket module has few of them.
_TIMESTAMP: Final = 35  # SO_TIMESTAMPNS and its SCM
_TIME: Final = struct.Struct("@ll")
_ERROR: Final = struct.Struct("@IBBBxII")  # sock_extended_err
_ERRORS: Final = {  # (level, IP_RECVERR)
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
_FILTERS: Final = {  # level, ICMP_FILTER, and all types but the answer as blocked
    socket.AF_INET: (255, 1, struct.pack("@I", 0xFFFFFFFF ^ 1 << 0)),
    socket.AF_INET6: (
        58,
        1,
        struct.pack("@8I", *(0xFFFFFFFF ^ (1 << 1 if word == 4 else 0) for word in range(8))),
    ),
}
_PROTOCOLS: Final = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_REQUESTS: Final = {socket.AF_INET: 8, socket.AF_INET6: 128}
_ANSWERS: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}


async def probe(check: IcmpCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """Send the packets and wait for their answers. Raises `TroubleError`, also where none is answered."""

    async def one(family: socket.AddressFamily) -> "Echo":
        address = await resolve(context, watch, seen, check.host, family)
        watch.enter("")
        watch.speaks = "icmp"
        return await opened(context.poller, family, address)

    with await by_family(check.ip, one) as echo:
        row = Row(echo, context, check, watch.ends_s)
        try:
            await row.run()
        finally:
            seen.packets = tuple(row.took)
        answered = [took for took in row.took if took is not None]
        if not answered:
            raise row.trouble or TroubleError(
                "icmp.no_reply", f"{check.packets} packets to {seen.address}, and no answer"
            )
        watch.put("ttfb", sum(answered) / len(answered))


class Echo(Wire):
    """A socket for echo requests."""

    __slots__ = ("family", "has_header", "number")

    def __init__(self, poller: Poller, family: socket.AddressFamily, kind: socket.SocketKind) -> None:
        super().__init__(poller, family, kind, _PROTOCOLS[family])
        self.family = family
        self.has_header = family == socket.AF_INET and (kind == socket.SOCK_RAW or not _IS_LINUX)
        self.number = int.from_bytes(os.urandom(2), "big")
        if _IS_LINUX:
            self.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
            self.socket.setsockopt(*_ERRORS[family], 1)
            if kind == socket.SOCK_RAW:
                self.socket.setsockopt(*_FILTERS[family])

    async def open(self, address: str) -> None:
        """Aim at `address`. Raises `OSError` and `TroubleError`."""
        await self.connect(address, 0)
        if _IS_LINUX and self.socket.type == socket.SOCK_DGRAM:
            self.number = self.socket.getsockname()[1]  # the kernel's choice, and it sorts the answers by it

    def packet(self, sequence: int, data: bytes) -> bytes:
        """An echo request."""
        kind = _REQUESTS[self.family]
        whole = _HEADER.pack(kind, 0, 0, self.number, sequence) + data
        if self.family == socket.AF_INET6:  # the kernel adds that checksum, which is over addresses too
            return whole
        return _HEADER.pack(kind, 0, checksum(whole), self.number, sequence) + data

    async def send_one(self, data: bytes, clock: Callable[[], float]) -> float:
        """Send once the socket's buffer has room, and say when that was. Raises `OSError`."""
        while True:
            sent = clock()
            try:
                self.socket.send(data)
            except BlockingIOError:
                await self._ready(write=True)
            else:
                return sent

    async def ready(self, within_s: float) -> None:
        """Wait until there may be something to read, at most `within_s`. Others have their turn in any case."""
        if self._early:
            self._early = False
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ready()

    def answers(self) -> Iterator[tuple[int, bytes, float]]:
        """Answers that are here: sequence, data, and for how many seconds it lay here."""
        for _ in range(_ROUNDS):
            try:
                data, found, _, _ = self.socket.recvmsg(65_535, 64)
            except BlockingIOError:
                return
            except OSError:  # said once of an error that `errors` tells more of
                continue
            if self.has_header and data:
                data = data[(data[0] & 0x0F) * 4 :]
            if len(data) < _HEADER.size:
                continue
            kind, code, _, number, sequence = _HEADER.unpack_from(data)
            if (kind, code, number) == (_ANSWERS[self.family], 0, self.number):
                yield sequence, data[_HEADER.size :], _lain_s(found)
        self._early = True  # there may be more

    def errors(self) -> Iterator[tuple[int, bytes, TroubleError]]:
        """What routers and hosts said of our packets: sequence, the beginning of the data, and the trouble."""
        for _ in range(_ROUNDS if _IS_LINUX else 0):
            try:
                packet, found, _, _ = self.socket.recvmsg(2048, 256, socket.MSG_ERRQUEUE)
            except OSError:
                return
            if len(packet) < _HEADER.size:
                continue
            *_, number, sequence = _HEADER.unpack_from(packet)
            for level, kind, said in found:
                if (level, kind, number) == (*_ERRORS[self.family], self.number):
                    yield sequence, packet[_HEADER.size :], _trouble(said)
        self._early = True


class Row:
    """The packets of one attempt. `took` holds the round trips, None where none came back."""

    def __init__(self, echo: Echo, context: Context, check: IcmpCheck, ends_s: float) -> None:
        self._echo, self._check, self._clock, self._ends_s = echo, check, context.clock, ends_s
        self._data = os.urandom(TOKEN_BYTES) + bytes(check.size_bytes - TOKEN_BYTES)
        self._sent: dict[int, float] = {}  # when, of those not answered yet
        self.took: list[float | None] = []
        self.trouble: TroubleError | None = None

    async def run(self) -> None:
        """Send all and wait for what comes back. Raises nothing; `trouble` is the last that was met."""
        check, began = self._check, self._clock()
        for sequence in range(check.packets):
            if sequence:
                await self._collect(began + sequence * check.spacing_s)
            await self._send(sequence)
        await self._collect(min(self._clock() + check.wait_s, self._ends_s - _TO_END_S), is_last=True)

    async def _send(self, sequence: int) -> None:
        packet = self._echo.packet(sequence, self._data)
        self.took.append(None)
        for _ in range(2):  # an error of a packet before is told once, instead of sending
            try:
                self._sent[sequence] = await self._echo.send_one(packet, self._clock)
            except OSError as failure:
                if not self._take_errors():
                    self.trouble = _of_own(failure, self._check.host)
                    return
            else:
                return

    async def _collect(self, until: float, *, is_last: bool = False) -> None:
        while True:
            is_over = self._clock() >= until  # what came before counts, however late we look
            self._take_errors()
            for sequence, data, lain_s in self._echo.answers():
                if sequence in self._sent and data == self._data:
                    took_s = self._clock() - self._sent.pop(sequence)
                    self.took[sequence] = took_s - lain_s if lain_s < took_s else took_s  # a clock may step
            if is_over or (is_last and not self._sent):
                return
            await self._echo.ready(until - self._clock())

    def _take_errors(self) -> bool:
        found = False
        for sequence, data, trouble in self._echo.errors():
            found = True
            if sequence in self._sent and self._data.startswith(data[:TOKEN_BYTES]):  # routers quote little
                del self._sent[sequence]
                self.trouble = trouble
        return found


async def opened(poller: Poller, family: socket.AddressFamily, address: str) -> Echo:
    """A socket aimed at `address`, which the caller closes. Raises `TroubleError`."""
    echo = Echo(poller, family, allowed_kind(family))
    try:
        if _IS_LINUX and not poller.kept:
            # Linux begins to stamp a while after the first socket asked for it, and ends with the last one.
            keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            poller.kept.append(keeper)
            keeper.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        await echo.open(address)
    except OSError as failure:
        echo.close()
        raise _of_own(failure, address) from None
    except BaseException:
        echo.close()
        raise
    return echo


def allowed_kind(family: socket.AddressFamily) -> socket.SocketKind:
    """The kind of socket this machine lets us have. Raises `TroubleError` where it is none, which says what to set."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(family, kind, _PROTOCOLS[family]).close()
        except OSError as failure:
            if failure.errno == errno.EAFNOSUPPORT:
                raise TroubleError("probe.no_route", "this machine has no such addresses") from None
            if failure.errno not in (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT):
                raise _of_own(failure, "it") from None
        else:
            return kind
    raise TroubleError("probe.no_icmp", _how_to_allow())


def _of_own(failure: OSError, host: str) -> TroubleError:
    """What this machine says of a packet for `host` that it does not send."""
    said = failure.strerror or str(failure)
    if failure.errno in NO_ROUTE:
        return no_route(host, failure)
    if failure.errno in OUT_OF_FILES:
        return TroubleError("probe.no_files", f"this probe is out of sockets: {said}")
    return TroubleError("icmp.too_big" if failure.errno == errno.EMSGSIZE else "icmp.unreachable", said)


def _how_to_allow() -> str:
    """What an operator has to set."""
    if not _IS_LINUX:
        return "this machine allows this user no ICMP sockets; run Upbeat as root"
    return (
        f"this machine allows group {os.getegid()} no ICMP sockets; set the sysctl net.ipv4.ping_group_range "
        f'to hold it, such as "0 2147483647", or give Upbeat CAP_NET_RAW'
    )


def checksum(data: bytes) -> int:
    """RFC 1071."""
    words: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) & 1:
        words += data[-1] << 8
    while words > 0xFFFF:
        words = (words & 0xFFFF) + (words >> 16)
    return ~words & 0xFFFF


def _lain_s(found: Iterable[tuple[int, int, bytes]]) -> float:
    """For how long a packet lay in the kernel, where it says when it came."""
    for level, kind, data in found:
        if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMP) and len(data) >= _TIME.size:
            seconds, nanoseconds = map(int, _TIME.unpack_from(data))
            return max(time.time() - seconds - nanoseconds / 1e9, 0.0)
    return 0.0


_SAID: Final = {  # (origin, type, code) of sock_extended_err; origin 2 is ICMP, 3 ICMPv6
    (2, 3, 4): ("icmp.too_big", "the packet is too big for a network on the way"),
    (2, 3, 9): ("icmp.prohibited", "the network is closed to us"),
    (2, 3, 10): ("icmp.prohibited", "the host is closed to us"),
    (2, 3, 13): ("icmp.prohibited", "a filter on the way forbids it"),
    (2, 3, 0): ("icmp.unreachable", "no way to the network"),
    (2, 3, 1): ("icmp.unreachable", "the host does not answer on its network"),
    (3, 1, 0): ("icmp.unreachable", "no way to the network"),
    (3, 1, 1): ("icmp.prohibited", "a filter on the way forbids it"),
    (3, 1, 3): ("icmp.unreachable", "the host does not answer on its network"),
    (3, 1, 5): ("icmp.prohibited", "a filter on the way forbids it"),
    (3, 1, 6): ("icmp.prohibited", "the network is closed to us"),
    (3, 2, 0): ("icmp.too_big", "the packet is too big for a network on the way"),
    (2, 11, 0): ("icmp.time_exceeded", "the packet went in circles"),
    (3, 3, 0): ("icmp.time_exceeded", "the packet went in circles"),
}


def _trouble(said: bytes) -> TroubleError:
    number, origin, kind, code, _, _ = _ERROR.unpack_from(said)
    trouble, words = _SAID.get((origin, kind, code), ("icmp.unreachable", os.strerror(number)))
    at = _ERROR.size
    family = int.from_bytes(said[at : at + 2], sys.byteorder)
    who = ""
    if family == socket.AF_INET:
        who = socket.inet_ntop(socket.AF_INET, said[at + 4 : at + 8])
    elif family == socket.AF_INET6:
        who = socket.inet_ntop(socket.AF_INET6, said[at + 8 : at + 24])
    return TroubleError(trouble, f"{words}, says {who}" if who else words)
