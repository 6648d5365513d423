"""One DNS question to a list of servers: UDP, then TCP where the answer was cut. Keeps no cache and follows no search list."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import dns.rcode

from engine.probes import message
from engine.probes.message import Answer, Question
from engine.probes.trouble import TroubleError, of_os_error
from engine.probes.wire import Poller, Wire

TRY_S: Final = 2.0  # then the datagram counts as lost, and the next server is asked
_GO_ON: Final = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP})

Server = tuple[str, int]


async def ask(
    poller: Poller, servers: Sequence[Server], question: Question, *, tcp: bool = False
) -> tuple[Answer, Server]:
    """The first usable answer, and who gave it; `tcp` asks by nothing else.

    A server that is silent, unreachable or unwilling is passed over; when all were silent they are asked again, until
    the caller's time is up. Raises `TroubleError` when none answered and one of them failed outright.
    """
    while True:
        unwilling, trouble = None, None
        for server in servers:
            try:
                async with asyncio.timeout(TRY_S):
                    answer = await (_by_tcp if tcp else _by_udp)(poller, server, question)
            except TimeoutError:
                continue
            except OSError as failure:
                trouble = of_os_error("dns", failure)
            except TroubleError as failure:
                trouble = failure
            else:
                if answer.rcode not in _GO_ON:
                    return answer, server
                unwilling = answer, server
        if unwilling is not None:
            return unwilling
        if trouble is not None:
            raise trouble


async def _by_udp(poller: Poller, server: Server, question: Question) -> Answer:
    wired = question.wire
    with _wire(poller, server, socket.SOCK_DGRAM) as wire:
        await wire.connect(*server)
        await wire.send(wired)
        data = await wire.receive()
        while (
            data[:2] != wired[:2]
        ):  # a stray datagram; whoever guesses the number still has to match the question
            await asyncio.sleep(0)  # a flood of them must not keep the other checks waiting
            data = await wire.receive_more()
    answer = message.read(question, data)
    if "tc" not in answer.flags:
        return answer
    try:
        whole = await _by_tcp(poller, server, question)
    except ConnectionError as failure:
        said = f"{server[0]} cuts its answer and cannot be asked by TCP: {failure.strerror}"
        raise TroubleError("dns.truncated", said) from None
    whole.flags += ("tc",)
    return whole


async def _by_tcp(poller: Poller, server: Server, question: Question) -> Answer:
    wired = question.wire
    with _wire(poller, server, socket.SOCK_STREAM) as wire:
        await wire.connect(*server)
        await wire.send(len(wired).to_bytes(2, "big") + wired)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            piece = await wire.receive_more()
            if not piece:
                raise TroubleError("dns.malformed", f"{server[0]} closed before its answer was whole")
            data += piece
    answer = message.read(question, data[2:])
    if "tc" in answer.flags:
        raise TroubleError("dns.truncated", f"{server[0]} cuts its answer even by TCP")
    return answer


def _wire(poller: Poller, server: Server, kind: int) -> Wire:
    return Wire(poller, socket.AF_INET6 if ":" in server[0] else socket.AF_INET, kind)
