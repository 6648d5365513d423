"""One DNS question to a list of servers: UDP, then TCP where the answer was cut. Keeps no cache and follows no search list."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from engine.probes.trouble import TroubleError, of_os_error
from engine.probes.wire import Poller, Wire

TRY_S: Final = 2.0  # then the datagram counts as lost, and the next server is asked
_GO_ON: Final = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP})

Server = tuple[str, int]


def parse_name(text: str) -> dns.name.Name:
    """`text` as an absolute name. Raises `TroubleError` for what no name server could know."""
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as wrong:
        raise TroubleError("dns.malformed", f"{text[:100]!r} is not a domain name: {wrong}") from None


async def ask(
    poller: Poller, servers: Sequence[Server], name: dns.name.Name, kind: str
) -> tuple[dns.message.Message, str]:
    """The first usable answer, and the address of who gave it.

    A server that is silent, unreachable or unwilling is passed over; when all were silent they are asked again, until
    the caller's time is up. Raises `TroubleError` when none answered and one of them failed outright.
    """
    while True:
        unwilling, trouble = None, None
        for server in servers:
            try:
                async with asyncio.timeout(TRY_S):
                    message = await _exchange(poller, server, name, kind)
            except TimeoutError:
                continue
            except OSError as failure:
                trouble = of_os_error("dns", failure)
            except TroubleError as failure:
                trouble = failure
            else:
                if message.rcode() not in _GO_ON:
                    return message, server[0]
                unwilling = message, server[0]
        if unwilling is not None:
            return unwilling
        if trouble is not None:
            raise trouble


async def _exchange(poller: Poller, server: Server, name: dns.name.Name, kind: str) -> dns.message.Message:
    query = dns.message.make_query(name, dns.rdatatype.from_text(kind))
    wired = query.to_wire()
    with _wire(poller, server, socket.SOCK_DGRAM) as wire:
        await wire.connect(*server)
        await wire.send(wired)
        data = await wire.receive()
        while (
            data[:2] != wired[:2]
        ):  # a stray datagram; whoever guesses the number still has to match the question
            data = await wire.receive_more()
    if len(data) > 2 and data[2] & 0x02:  # TC
        data = await _exchange_tcp(poller, server, wired)
    return _parse(query, data)


async def _exchange_tcp(poller: Poller, server: Server, wired: bytes) -> bytes:
    with _wire(poller, server, socket.SOCK_STREAM) as wire:
        await wire.connect(*server)
        await wire.send(len(wired).to_bytes(2, "big") + wired)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            piece = await wire.receive_more()
            if not piece:
                raise TroubleError("dns.malformed", f"{server[0]} closed before its answer was whole")
            data += piece
    return data[2:]


def _wire(poller: Poller, server: Server, kind: int) -> Wire:
    return Wire(poller, socket.AF_INET6 if ":" in server[0] else socket.AF_INET, kind)


def _parse(query: dns.message.Message, data: bytes) -> dns.message.Message:
    try:
        message = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError) as wrong:
        raise TroubleError("dns.malformed", f"the answer cannot be read: {wrong}") from None
    if not query.is_response(message):
        raise TroubleError("dns.malformed", "the answer is to another question")
    return message
