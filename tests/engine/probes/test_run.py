"""A run: attempts, back-off, the enforced deadline, and whose trouble a failure is."""

import asyncio
import resource
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from engine.probes import run as runs
from engine.probes.context import Context
from engine.probes.run import RunOutcome, run, troubled
from evaluators.model import Verdict
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import Check, compile_check

OnLoop = Callable[[Coroutine[Any, Any, Any]], Any]


def tcp(host: str, port: int, **pace: Any) -> Check:
    check = compile_check(BEAT.validate_python({"type": "tcp", "slug": "t", "host": host, "port": port}), {})
    given = {"timeout_s": 5.0, "deadline_s": 10.0, "retries": 0, **pace}
    return replace(check, pace=replace(check.pace, **given))


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def open_port() -> Any:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield listening.getsockname()[1]


@pytest.fixture
def black_hole() -> Any:
    """A port that drops what asks to connect: its queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address[1]
        for filler in fillers:
            filler.close()


def play(on_loop: OnLoop, check: Check, allow: tuple[str, ...] = (), **options: Any) -> RunOutcome:
    async def played() -> RunOutcome:
        context = Context(EgressPolicy(allow))
        try:
            outcome = await run(check, context, **options)
            assert not context.poller._edges, "a socket was left open"
            return outcome
        finally:
            context.close()

    outcome = on_loop(played())
    assert isinstance(outcome, RunOutcome)
    return outcome


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def test_a_connection_earns_ok(on_loop: OnLoop, open_port: int) -> None:
    outcome = play(on_loop, tcp("127.0.0.1", open_port))
    assert (outcome.verdict, outcome.failure, outcome.attempts) == (Verdict.OK, None, 1)
    assert outcome.timings.connect is not None


def test_a_refused_connection_is_critical(on_loop: OnLoop, closed_port: int) -> None:
    outcome = play(on_loop, tcp("127.0.0.1", closed_port))
    assert (outcome.verdict, kind(outcome)) == (Verdict.CRITICAL, "connect.refused")


def test_a_connection_that_is_never_made_times_out(on_loop: OnLoop, black_hole: int) -> None:
    outcome = play(on_loop, tcp("127.0.0.1", black_hole, timeout_s=0.15))
    assert (outcome.verdict, kind(outcome)) == (Verdict.CRITICAL, "connect.timeout")
    assert (outcome.timings.connect or 0) >= 0.14


def test_an_attempt_is_cut_at_the_deadline(on_loop: OnLoop, black_hole: int) -> None:
    began_s = time.monotonic()
    outcome = play(on_loop, tcp("127.0.0.1", black_hole, deadline_s=0.15, retries=3))
    assert (kind(outcome), outcome.attempts) == ("connect.timeout", 1)
    assert time.monotonic() - began_s < 1.0


def test_an_attempt_that_could_not_begin_in_time_is_not_begun(on_loop: OnLoop, closed_port: int) -> None:
    began_s = time.monotonic()
    outcome = play(on_loop, tcp("127.0.0.1", closed_port, deadline_s=0.4, retries=3))
    assert outcome.attempts == 1
    assert time.monotonic() - began_s < 0.4


def test_a_warning_is_not_repeated_where_another_attempt_would_be_cut(
    on_loop: OnLoop, open_port: int
) -> None:
    slow = {"timeout_s": 5.0, "deadline_s": 5.0, "retries": 1, "degraded_after": (("total", 0.0),)}
    outcome = play(on_loop, tcp("127.0.0.1", open_port, **slow))
    assert (outcome.verdict, outcome.attempts) == (Verdict.WARNING, 1)


def test_a_warning_is_repeated_where_there_is_time(on_loop: OnLoop, open_port: int) -> None:
    slow = {"timeout_s": 5.0, "deadline_s": 10.5, "retries": 1, "degraded_after": (("total", 0.0),)}
    outcome = play(on_loop, tcp("127.0.0.1", open_port, **slow))
    assert (outcome.verdict, outcome.attempts) == (Verdict.WARNING, 2)


def test_a_failed_attempt_is_repeated_after_a_pause(on_loop: OnLoop, closed_port: int) -> None:
    async def opening_late() -> RunOutcome:
        context = Context(EgressPolicy())
        running = asyncio.create_task(run(tcp("127.0.0.1", closed_port, retries=1), context))
        await asyncio.sleep(0.1)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", closed_port))
            listening.listen(5)
            outcome = await running
        context.close()
        return outcome

    outcome = on_loop(opening_late())
    assert (outcome.verdict, outcome.attempts) == (Verdict.OK, 2)
    assert outcome.timings.total < 0.4  # the last attempt's own


def test_no_local_route_is_the_probes_own_trouble(on_loop: OnLoop) -> None:
    outcome = play(on_loop, tcp("224.0.0.1", 80), allow=("224.0.0.0/4",))
    assert (outcome.verdict, kind(outcome)) == (Verdict.ERROR, "probe.no_route")


def test_a_refused_address_is_not_connected_to(on_loop: OnLoop) -> None:
    outcome = play(on_loop, tcp("169.254.169.254", 80))
    assert (outcome.verdict, kind(outcome)) == (Verdict.CRITICAL, "egress.refused")
    assert outcome.timings.connect is None


def test_no_file_handles_is_the_probes_own_trouble(on_loop: OnLoop, open_port: int) -> None:
    async def starved() -> RunOutcome:
        context = Context(EgressPolicy())
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno(), limits[1]))
            try:
                return await run(tcp("127.0.0.1", open_port), context)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                context.close()

    outcome = on_loop(starved())
    assert (outcome.verdict, kind(outcome)) == (Verdict.ERROR, "probe.no_files")


def test_a_bug_is_logged_and_is_the_probes_own_trouble(
    on_loop: OnLoop, open_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("made for the test")

    check = tcp("127.0.0.1", open_port)
    monkeypatch.setitem(runs.PROBES, type(check), broken)
    outcome = play(on_loop, check)
    assert (outcome.verdict, kind(outcome)) == (Verdict.ERROR, "probe.internal")
    assert "made for the test" in caplog.text


def test_when_no_reference_answers_it_is_the_probes_own_trouble(on_loop: OnLoop, closed_port: int) -> None:
    outcome = play(on_loop, tcp("127.0.0.1", closed_port), reference=[("127.0.0.1", closed_port)] * 2)
    assert (outcome.verdict, kind(outcome)) == (Verdict.ERROR, "probe.no_network")


def test_when_one_reference_answers_the_target_is_down(
    on_loop: OnLoop, closed_port: int, open_port: int
) -> None:
    reference = [("127.0.0.1", closed_port), ("127.0.0.1", open_port)]
    outcome = play(on_loop, tcp("127.0.0.1", closed_port), reference=reference)
    assert (outcome.verdict, kind(outcome)) == (Verdict.CRITICAL, "connect.refused")


def test_references_are_cut_at_the_interval_and_say_nothing_then(on_loop: OnLoop, black_hole: int) -> None:
    began_s = time.monotonic()
    check = tcp("127.0.0.1", black_hole, interval_s=0.4, timeout_s=0.2, deadline_s=0.2)
    outcome = play(on_loop, check, reference=[("127.0.0.1", black_hole)])
    assert (outcome.verdict, kind(outcome)) == (Verdict.CRITICAL, "connect.timeout")
    assert time.monotonic() - began_s < 1.0


def test_a_run_that_took_the_whole_interval_is_no_trouble_of_the_probe(
    on_loop: OnLoop, black_hole: int, closed_port: int
) -> None:
    check = tcp("127.0.0.1", black_hole, interval_s=0.2, timeout_s=0.2, deadline_s=0.2)
    outcome = play(on_loop, check, reference=[("127.0.0.1", closed_port)])
    assert outcome.verdict is Verdict.CRITICAL


def test_a_good_run_asks_no_reference(on_loop: OnLoop, closed_port: int, open_port: int) -> None:
    outcome = play(on_loop, tcp("127.0.0.1", open_port), reference=[("127.0.0.1", closed_port)])
    assert outcome.verdict is Verdict.OK


def test_cancellation_passes_and_closes_the_socket(on_loop: OnLoop, black_hole: int) -> None:
    async def cancelled() -> dict[int, Any]:
        context = Context(EgressPolicy())
        running = asyncio.create_task(run(tcp("127.0.0.1", black_hole), context))
        await asyncio.sleep(0.05)
        assert context.poller._edges
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        left = dict(context.poller._edges)
        context.close()
        return left

    assert on_loop(cancelled()) == {}


def test_where_there_is_no_epoll_the_loops_own_readers_do(
    on_loop: OnLoop, open_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("select.epoll")
    assert play(on_loop, tcp("127.0.0.1", open_port)).verdict is Verdict.OK


def test_a_run_that_was_not_made_is_an_error_without_attempts() -> None:
    outcome = troubled("probe.config", "${env:X} is not set")
    assert (outcome.verdict, kind(outcome), outcome.attempts) == (Verdict.ERROR, "probe.config", 0)
