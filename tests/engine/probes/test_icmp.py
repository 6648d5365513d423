"""The icmp probe on real sockets, in a network of its own where a test needs one that is hurt."""

import asyncio
import ctypes
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from engine.probes import icmp
from engine.probes.context import Context
from engine.probes.icmp import checksum
from engine.probes.run import RunOutcome, run
from evaluators.model import Verdict
from rules.address import EgressPolicy
from rules.kinds.icmp import IcmpBeat, compile_icmp
from tests.rig.network import apart, put

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux'")


async def ping(policy: EgressPolicy | None = None, **beat: Any) -> RunOutcome:
    given = {"type": "icmp", "slug": "p", "host": "127.0.0.1", "spacing": "10ms", "retries": 0, **beat}
    context = Context(policy or EgressPolicy())
    try:
        outcome = await run(compile_icmp(IcmpBeat.model_validate(given), {}), context)
        assert not context.poller._edges, "a socket was left open"
        return outcome
    finally:
        context.close()


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def packets(outcome: RunOutcome) -> list[float | None]:
    assert outcome.evidence is not None
    return list(outcome.evidence["packets"])


@needs_linux
@pytest.mark.parametrize("allowed", ["0 2147483647", "1 0"], ids=["ping socket", "raw socket"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_every_packet_that_is_answered_has_its_round_trip(
    on_loop: Callable[[Coroutine[Any, Any, Any]], Any], allowed: str, host: str
) -> None:
    def work() -> RunOutcome:
        put("ping_group_range", allowed)
        wanted = [{"of": "timing.total", "gt": "1h"}]  # so that there is evidence
        outcome = on_loop(ping(host=host, packets=3, size=1000, assertions=wanted))
        assert isinstance(outcome, RunOutcome)
        return outcome

    outcome = apart(work)
    assert kind(outcome) == "assertion.timing.total"
    took = [one for one in packets(outcome) if one is not None]
    assert len(took) == 3
    assert outcome.timings.ttfb == pytest.approx(sum(took) / 3)
    assert all(0 < one < outcome.timings.total for one in took)


@needs_linux
def test_without_any_answer_the_run_is_critical(on_loop: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    def work() -> RunOutcome:
        put("icmp_echo_ignore_all", "1")
        outcome = on_loop(ping(packets=2, wait="50ms"))
        assert isinstance(outcome, RunOutcome)
        return outcome

    outcome = apart(work)
    assert (kind(outcome), outcome.verdict, packets(outcome)) == (
        "icmp.no_reply",
        Verdict.CRITICAL,
        [None, None],
    )


@needs_linux
def test_a_timeout_keeps_what_had_been_answered(on_loop: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    def work() -> RunOutcome:
        async def cut() -> RunOutcome:
            given = {"type": "icmp", "slug": "p", "host": "127.0.0.1", "packets": 2, "spacing": "9s"}
            check = compile_icmp(IcmpBeat.model_validate(given), {})
            context = Context(EgressPolicy())
            outcome = await run(replace(check, pace=replace(check.pace, timeout_s=0.5, retries=0)), context)
            context.close()
            return outcome

        outcome = on_loop(cut())
        assert isinstance(outcome, RunOutcome)
        return outcome

    outcome = apart(work)
    assert kind(outcome) == "icmp.timeout"
    assert len(packets(outcome)) == 1
    assert packets(outcome)[0] is not None


class Liar:
    """Sees each echo request on loopback and answers it with what `lie` makes of it."""

    def __init__(self, lie: Callable[[bytes], list[bytes]]) -> None:
        self._lie = lie
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._sock.setblocking(False)

    def __enter__(self) -> None:
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    def _read(self) -> None:
        packet = self._sock.recv(65_535)
        if packet[20] == 8:  # an echo request
            for lie in self._lie(packet):
                self._sock.sendto(lie, ("127.0.0.1", 0))


def icmp_packet(kind_of: int, code: int, rest: int, data: bytes) -> bytes:
    whole = struct.pack("!BBHI", kind_of, code, 0, rest) + data
    return struct.pack("!BBHI", kind_of, code, checksum(whole), rest) + data


def answered(packet: bytes, data: bytes | None = None, shift: int = 0, sequence: int = 0) -> bytes:
    """The answer to an echo request, or one that lies about its data, number or sequence."""
    number, asked = struct.unpack_from("!HH", packet, 24)
    rest = ((number + shift) & 0xFFFF) << 16 | (asked + sequence)
    return icmp_packet(0, 0, rest, packet[28:] if data is None else data)


def lied_to(on_loop: Callable[[Coroutine[Any, Any, Any]], Any], allowed: str, lie: Any, **beat: Any) -> Any:
    async def told() -> RunOutcome:
        with Liar(lie):
            return await ping(**{"packets": 2, "wait": "100ms", **beat})

    def work() -> Any:
        put("ping_group_range", allowed)
        put("icmp_echo_ignore_all", "1")
        return on_loop(told())

    return apart(work)


SOCKETS = pytest.mark.parametrize("allowed", ["0 2147483647", "1 0"], ids=["ping socket", "raw socket"])


@needs_linux
def test_a_packet_that_is_lost_is_lost_though_the_timeout_comes_first(on_loop: Any) -> None:
    def first_only(packet: bytes) -> list[bytes]:
        return [] if packet[26:28] == b"\0\1" else [answered(packet)]

    lost = [{"of": "loss", "eq": 50}]
    outcome = lied_to(on_loop, "0 2147483647", first_only, timeout="1s", wait="20s", assertions=lost)
    assert outcome.verdict is Verdict.OK, outcome


@needs_linux
@SOCKETS
@pytest.mark.parametrize(
    ("kind_of", "code", "quoted", "expected"),
    [
        pytest.param(3, 1, 1000, "icmp.unreachable", id="host unreachable"),
        pytest.param(3, 0, 28, "icmp.unreachable", id="network unreachable, said with the least there is"),
        pytest.param(3, 13, 1000, "icmp.prohibited", id="a filter"),
        pytest.param(11, 0, 1000, "icmp.time_exceeded", id="in circles"),
    ],
)
def test_what_routers_say_has_its_own_error_type(
    on_loop: Any, allowed: str, kind_of: int, code: int, quoted: int, expected: str
) -> None:
    outcome = lied_to(
        on_loop, allowed, lambda packet: [icmp_packet(kind_of, code, 0, packet[:quoted])], wait="20s"
    )
    assert (kind(outcome), outcome.verdict) == (expected, Verdict.CRITICAL)
    assert outcome.failure.message.endswith("says 127.0.0.1")
    assert outcome.timings.total < 10, "nothing is waited for any more"


@needs_linux
@SOCKETS
def test_answers_that_do_not_match_what_was_sent_count_for_nothing(on_loop: Any, allowed: str) -> None:
    def lie(packet: bytes) -> list[bytes]:
        data = packet[28:]
        return [
            answered(packet, bytes(len(data))),
            answered(packet, data[:-1]),
            answered(packet, data + b"x"),
            answered(packet, b""),
            answered(packet, shift=1),
            answered(packet, sequence=7),
            answered(packet)[:6],
            icmp_packet(3, 1, 0, packet[:28] + bytes(16)),
            icmp_packet(3, 1, 0, bytes([69]) + packet[1:26] + b"\0\x09" + packet[28:]),
        ]

    outcome = lied_to(on_loop, allowed, lie)
    assert (kind(outcome), packets(outcome)) == ("icmp.no_reply", [None, None])


@needs_linux
@SOCKETS
def test_an_answer_counts_once(on_loop: Any, allowed: str) -> None:
    def lie(packet: bytes) -> list[bytes]:
        is_first = packet[26:28] == b"\0\0"
        return [answered(packet)] * 200 if is_first else []

    wanted = [{"of": "timing.total", "gt": "1h"}]
    outcome = lied_to(on_loop, allowed, lie, assertions=wanted)
    first, second = packets(outcome)
    assert first is not None
    assert second is None


def test_an_address_that_is_denied_is_sent_nothing(on_loop: Any) -> None:
    assert kind(on_loop(ping(host="169.254.169.254"))) == "egress.refused"


@needs_linux
def test_this_machine_without_a_way_there_is_the_probes_own_trouble(on_loop: Any) -> None:
    outcome = apart(lambda: on_loop(ping(host="192.0.2.1")))
    assert (kind(outcome), outcome.verdict) == ("probe.no_route", Verdict.ERROR)


@needs_linux
def test_who_may_have_no_icmp_socket_is_told_what_to_set(on_loop: Any) -> None:
    def work() -> RunOutcome:
        put("ping_group_range", "1 0")
        nothing = struct.pack("6I", *(0,) * 6)
        assert ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), nothing) == 0, "of this thread only"
        outcome = on_loop(ping())
        assert isinstance(outcome, RunOutcome)
        return outcome

    outcome = apart(work)
    assert (kind(outcome), outcome.verdict) == ("probe.no_icmp", Verdict.ERROR)
    assert outcome.failure is not None
    assert "set the sysctl net.ipv4.ping_group_range" in outcome.failure.message
    assert f"group {os.getegid()}" in outcome.failure.message


@needs_linux
def test_a_busy_event_loop_adds_nothing_to_a_round_trip(on_loop: Any) -> None:
    """The answer lies there while the loop is blocked, and the kernel says for how long."""

    async def blocked() -> bool:
        context = Context(EgressPolicy())
        is_known = False
        with await icmp.opened(context.poller, socket.AF_INET, "127.0.0.1") as echo:
            for sequence in range(200):  # the kernel takes its time to begin with stamps
                await echo.send_one(echo.packet(sequence, bytes(16)), context.clock)
                await echo.ready(10)
                time.sleep(0.05)  # noqa: ASYNC251 - this is the blocking
                ((came, data, lain_s),) = echo.answers()
                assert (came, data) == (sequence, bytes(16))
                if is_known := lain_s >= 0.04:
                    break
        context.close()
        return is_known

    assert apart(lambda: on_loop(blocked()))
