"""One run of one check: attempts with back-off under an enforced deadline. Knows no schedule, region or bus."""

import asyncio
import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs

from engine.probes import browser, dns, http, icmp, tcp, tls
from engine.probes.attempt import MESSAGE_MAX, Probe, Watch, attempt
from engine.probes.connect import connect
from engine.probes.context import Context
from engine.probes.evidence import course, evidence, standing
from engine.probes.trouble import TroubleError
from engine.tasks import end
from evaluators.assess import Assessment, assess
from evaluators.model import Failure, Outcome, Timings, Tried, Verdict
from evaluators.observation import Artifact, Observation
from rules.check import Check
from rules.kinds.browser import BrowserCheck
from rules.kinds.dns import DnsCheck
from rules.kinds.http import HttpCheck
from rules.kinds.icmp import IcmpCheck
from rules.kinds.tcp import TcpCheck
from rules.kinds.tls import TlsCheck
from rules.pace import BACKOFF_FIRST_S, BACKOFF_MAX_S
from rules.secret import hide

log: Final = logging.getLogger(__name__)
REFERENCE_S: Final = 2.0
PATIENCE_S: Final = 10.0
"""A journey waits so long for its turn even where its deadline leaves no time for that."""
PROBES: Final[dict[type, Probe]] = {
    HttpCheck: http.probe,
    TcpCheck: tcp.probe,
    TlsCheck: tls.probe,
    DnsCheck: dns.probe,
    IcmpCheck: icmp.probe,
    BrowserCheck: browser.probe,
}
# Failures that a dead network of our own could explain.
_NETWORK: Final = (
    "dns.",
    "connect.",
    "tls.handshake",
    "tls.timeout",
    "tls.protocol",
    "http.",
    "icmp.",
    "body.timeout",
    "tcp.timeout",
    "tcp.closed",
    "tcp.reset",
)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run found. The caller adds who ran what, where and when."""

    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    failure: Failure | None  # None exactly when the verdict is ok
    timings: Timings  # of the last attempt, seconds
    attempts: int
    evidence: dict[str, Any] | None  # JSON-like and small
    trace_id: str | None = None  # of the last attempt
    certificate_days: float | None = None
    tried: tuple[Tried, ...] = ()  # the attempts before the last one
    artifacts: tuple[Artifact, ...] = ()  # of the last attempt
    standing: int | None = None  # of a good run whose evidence is there only where this has changed


async def run(
    check: Check,
    context: Context,
    *,
    reference: Sequence[tuple[str, int]] = (),
    keeps_all: bool = False,
    known: int | None = None,
    key: Hashable = "",
    records: bool = False,
) -> RunOutcome:
    """Run `check` once, with its retries, within `check.pace.deadline_s` seconds.

    An attempt is cut at the deadline, and one that could not begin before it, or after a warning end, is not begun; the
    last attempt counts. A journey is done again only where there is time for the whole of it.
    After a failed network run the region's `reference` targets (host, port) are tried for at most 2 s more, and not
    beyond the interval; when all fail, the verdict is `error`. One cut short by the interval has not failed.
    A good run has evidence only with `keeps_all`, of its steps, and where certificates or records are what it is about
    and their `standing` is not the `known` one.
    A journey waits for its turn first, fairly among those of other `key`s; `records`: it is to be looked at closely.
    Raises nothing but cancellation; a bug is logged and is an `error` too.
    """
    try:
        if not isinstance(check, BrowserCheck):
            return await _run(check, context, reference, keeps_all=keeps_all, known=known)
        if context.browsers is None:
            return troubled("probe.browser", "this probe runs no browser")
        # A scheduled run is over before the next is due; one out of schedule is one of many, and is in nobody's way.
        patience_s = max(check.pace.interval_s - (0.0 if records else check.pace.deadline_s), PATIENCE_S)
        turn = context.browsers.turn(check, key, patience_s, keeps_all=keeps_all, records=records)
        async with turn as held:
            return await _run(check, context.in_turn(held), reference, keeps_all=keeps_all, known=known)
    except TroubleError as trouble:  # there was no turn
        return troubled(trouble.kind, str(trouble)[:MESSAGE_MAX])
    except Exception as bug:
        log.exception("a run failed; this is a bug in Upbeat")
        failure = Failure("probe.internal", f"{type(bug).__name__}: {bug}"[:MESSAGE_MAX])
        return RunOutcome(Verdict.ERROR, (), failure, Timings(), 1, None)


async def _run(
    check: Check,
    context: Context,
    reference: Sequence[tuple[str, int]],
    *,
    keeps_all: bool,
    known: int | None,
) -> RunOutcome:
    clock, pace, probe = context.clock, check.pace, PROBES[type(check)]
    began_s, backoff_s = clock(), BACKOFF_FIRST_S
    ends_s, left_s, after_s = began_s + pace.deadline_s, pace.deadline_s, 0.0
    tried: list[Tried] = []
    while True:
        seen = await attempt(probe, check, context, min(pace.timeout_s, left_s))
        verdict, outcomes, failure = _without_secrets(check.secrets + seen.secrets, *assess(check, seen))
        is_network = seen.failure is not None and seen.failure.type.startswith(_NETWORK)
        if failure is None or len(tried) >= pace.retries or not (pace.retries_any or is_network):
            break
        # A warning is not made a failure, nor a journey's failure another one, by an attempt that is cut short.
        whole_s = pace.timeout_s if verdict is Verdict.WARNING or isinstance(check, BrowserCheck) else 0.0
        if clock() + backoff_s + whole_s >= ends_s:
            break
        await asyncio.sleep(backoff_s)
        left_s = ends_s - clock()
        if left_s <= 0:  # it slept too long
            break
        tried.append(Tried(after_s, seen.timings, failure))
        after_s, backoff_s = clock() - began_s, min(backoff_s * 2, BACKOFF_MAX_S)
    if context.turn is not None:
        await context.turn.show(seen, check.secrets + seen.secrets)
    spare_s = min(REFERENCE_S, began_s + pace.interval_s - clock())
    if (
        failure
        and (is_network or failure.type == "step.timeout")
        and reference
        and await _all_fail(context, reference, spare_s)
    ):
        verdict = Verdict.ERROR
        failure = Failure("probe.no_network", f"no reference target answers; {failure.message}")
    is_whole = failure is not None or keeps_all
    stands = standing(seen) if not is_whole and isinstance(check, TlsCheck | DnsCheck) else None
    is_news = stands is not None and stands != known
    return RunOutcome(
        verdict,
        outcomes,
        failure,
        seen.timings,
        len(tried) + 1,
        evidence(check, seen) if is_whole or is_news else course(check, seen) if seen.steps else None,
        seen.trace_id,
        seen.tls.days_left if seen.tls else None,
        tuple(tried),
        seen.artifacts,
        stands,
    )


def _without_secrets(
    secrets: tuple[str, ...], verdict: Verdict, outcomes: Sequence[Outcome], failure: Failure | None
) -> Assessment:
    """What was judged, to be kept and told: a target may repeat what it was sent."""
    if secrets:
        outcomes = [
            structs.replace(one, actual=hide(one.actual, secrets), message=hide(one.message, secrets))
            for one in outcomes
        ]
        failure = failure and structs.replace(failure, message=hide(failure.message, secrets))
    return verdict, tuple(outcomes), failure


def troubled(kind: str, message: str) -> RunOutcome:
    """The outcome of a run that was not made for the probe's own trouble, e.g. `probe.config` or `probe.dropped`."""
    return RunOutcome(Verdict.ERROR, (), Failure(kind, message), Timings(), 0, None)


async def _all_fail(context: Context, reference: Sequence[tuple[str, int]], within_s: float) -> bool:
    if within_s <= 0:
        return False
    tries = [asyncio.ensure_future(_fails(context, host, port, within_s)) for host, port in reference]
    try:
        for failed in asyncio.as_completed(tries):
            if not await failed:
                return False
        return True
    finally:
        await end(tries)


async def _fails(context: Context, host: str, port: int, within_s: float) -> bool:
    limit = asyncio.timeout(within_s)
    try:
        async with limit:
            (await connect(context, Watch(context.clock), Observation(), host, port)).close()
    except (OSError, TroubleError) as failure:
        if isinstance(failure, TroubleError) and failure.kind == "egress.refused":
            return False  # our own policy says nothing of our network
        return within_s >= REFERENCE_S or not limit.expired()
    return False
