"""Judging one attempt against what its check expects: verdict, outcomes, failure. Measures nothing and waits for nothing.

A run earns `ok`; failure is where it starts. What is missing fails every operator but those that ask for absence
(`exists: false`, `empty: true`, `count: 0`), negated or not.

Where a subject has several values: a path that selects several values holds only if *every* one does; record sets
have no order and are often mixed (TXT), so `record` holds if *one* record does, and `ne` or a negated operator if
every one does. Headers of the same name are joined by ", " (RFC 9110, 5.3).
"""

import math
from typing import Any, Final

import msgspec

from evaluators.certificate import tls_failures
from evaluators.model import Failure, Outcome, Verdict
from evaluators.observation import Observation
from evaluators.operators import TESTS, hold_together, is_empty, kind_of, why_not
from evaluators.subjects import Documents, missing, read
from rules.assertion import in_words
from rules.check import Check
from rules.expectation import Expectation
from rules.kinds.dns import DnsCheck
from rules.kinds.http import HttpCheck
from rules.kinds.tls import TlsCheck
from rules.secret import REDACTED, cut
from rules.selection import BudgetError, UnreadableError, expect_searchable

ACTUAL_MAX: Final = 200  # characters of an actual value that are kept
NOT_REACHED: Final = "not reached"
_OVER_BUDGET: Final = "over budget: "  # every other message begins with its subject

_RCODE_TYPES: Final = {"NXDOMAIN": "dns.nxdomain", "REFUSED": "dns.refused"}

Assessment = tuple[Verdict, tuple[Outcome, ...], Failure | None]


def assess(check: Check, observation: Observation) -> Assessment:
    """Judge `observation`. Total: every observation has a verdict, and nothing raises.

    A failure to reach an answer is `critical`, or `error` where its type says the probe's own trouble (`probe.`).
    Otherwise the worst failing thing decides the verdict, and the first of the worst names the failure.
    """
    if observation.failure is not None:
        own = observation.failure.type.startswith("probe.")
        verdict = Verdict.ERROR if own else Verdict.CRITICAL
        return verdict, (*_of_steps(observation), *_unreached(check, observation)), observation.failure
    slow = _degraded(check, observation)
    earned = _unearned(check, observation)
    if isinstance(check, TlsCheck) and observation.tls is not None:
        earned, expiring = tls_failures(check, observation.tls)
        slow = expiring or slow
    documents: Documents = {}
    judged = [_judge(expectation, observation, documents) for expectation in check.expectations]
    outcomes = (*_of_steps(observation), *judged)
    if earned is not None:
        return Verdict.CRITICAL, outcomes, earned
    for severity, verdict in (("critical", Verdict.CRITICAL), ("warning", Verdict.WARNING)):
        for outcome in outcomes:
            if not outcome.ok and outcome.severity == severity:
                kind = "budget" if outcome.message.startswith(_OVER_BUDGET) else outcome.of
                where = f"step {outcome.step}: " if outcome.step else ""
                return verdict, outcomes, Failure(f"assertion.{kind}", where + outcome.message)
    return (Verdict.WARNING if slow else Verdict.OK), outcomes, slow


def _of_steps(seen: Observation) -> tuple[Outcome, ...]:
    """What the steps of the run were judged to be, each on its own."""
    return tuple(outcome for step in seen.steps for outcome in step.outcomes)


def _unreached(check: Check, seen: Observation) -> tuple[Outcome, ...]:
    said = "not judged: a step failed" if seen.steps else NOT_REACHED
    return tuple(Outcome(e.of, False, None, said, e.severity, key=named(e)) for e in check.expectations)


def _degraded(check: Check, seen: Observation) -> Failure | None:
    if not check.pace.degraded_after:
        return None
    steps_s = {f"step {step.name}": step.timings.total for step in seen.steps}
    took = [
        (phase, steps_s.get(phase) or getattr(seen.timings, phase, None), limit_s)
        for phase, limit_s in check.pace.degraded_after
    ]
    slow = [
        f"{'' if phase == 'total' else f'{phase} '}took {took_s:.3g} s; degraded after {limit_s:g} s"
        for phase, took_s, limit_s in took
        if took_s is not None and took_s > limit_s
    ]
    return Failure("degraded", ", ".join(slow)) if slow else None


def _unearned(check: Check, seen: Observation) -> Failure | None:
    """Why the run is not ok whatever its assertions say, where they leave it open."""
    if isinstance(check, HttpCheck):
        if check.steps:
            return None  # each of them has earned it
        if (seen.status is not None and 200 <= seen.status <= 299) or _asserts(check, "status"):
            return None
        reason = f" {cut(seen.reason, 80)}" if seen.reason else ""
        return Failure("status", f"HTTP {seen.status}{reason}; 200 to 299 is expected")
    if isinstance(check, DnsCheck) and not _asserts(check, "rcode"):
        if seen.rcode != "NOERROR":
            kind = _RCODE_TYPES.get(seen.rcode or "", "dns.servfail")
            return Failure(kind, f"{check.host} {check.record}: {seen.rcode} from {seen.address}")
        absent = any(
            e.of == "record" and e.operator not in TESTS and hold_together([], e) for e in check.expectations
        )
        if not absent and all(record.type != check.record for record in seen.records):
            return Failure("dns.no_record", f"{check.host} has no {check.record} record")
    return None


def _asserts(check: Check, subject: str) -> bool:
    return any(expectation.of == subject for expectation in check.expectations)


def _judge(expectation: Expectation, seen: Observation, documents: Documents) -> Outcome:
    shown: Any = None
    try:
        values = read(expectation, seen, documents)
        shown = _shown(expectation, values)
        wrong = _refutation(expectation, values, seen)
    except UnreadableError as unreadable:
        wrong = f"{_subject(expectation)} is not there: {unreadable}"
    except BudgetError as over:
        wrong = f"{_OVER_BUDGET}{_subject(expectation)}: {over}"
    if not wrong and expectation.of == "body":
        shown = None  # an excerpt helps only where it explains something
    return Outcome(expectation.of, not wrong, shown, wrong, expectation.severity, key=named(expectation))


def _refutation(e: Expectation, values: list[Any], seen: Observation) -> str:
    """Why the values do not hold; empty when they do."""
    test = TESTS.get(e.operator)
    if test is None or not values:
        return _refuted_as_a_whole(e, values)
    if e.pattern is not None:
        expect_searchable(e.pattern, sum(len(value) for value in values if isinstance(value, str)))
    if seen.is_truncated and e.of == "size":
        beyond = _holds_beyond(e, seen.size_bytes)
        return "" if beyond else f"size is more than the {seen.size_bytes} bytes that are read"
    refuted = [
        value
        for value in values
        if test(value, e) is not e.wanted or (e.is_number and isinstance(value, str))
    ]
    some = e.of == "record" and e.wanted and e.operator != "ne"
    if not refuted or (some and len(refuted) < len(values)):
        return ""
    told = _told(e, values if some and len(values) > 1 else refuted[0])
    why = "" if e.operator == "schema" and e.is_secret else why_not(refuted[0], e)
    return f"{_subject(e)} is {told}{why}; expected {_wanted(e)}"


def _refuted_as_a_whole(e: Expectation, values: list[Any]) -> str:
    """The same for no value, and for what is asked of all values together."""
    if e.operator not in TESTS and hold_together(values, e):
        return ""
    if e.operator == "count" and (values or e.is_plural):
        if not e.is_plural and not isinstance(values[0], list | dict):
            return f"{_subject(e)} is {_told(e, values[0])}, {kind_of(values[0])} and nothing to count"
        return f"{_subject(e)} has {len(values if e.is_plural else values[0])}; expected {_wanted(e)}"
    if not values:
        return f"{_subject(e)} {missing(e)}"
    if e.operator == "exists":
        return f"{_subject(e)} exists"
    wrong = next(value for value in values if is_empty(value) is not e.expected)
    return f"{_subject(e)} is {_told(e, wrong)}; expected {_wanted(e)}"


def _holds_beyond(expectation: Expectation, read_bytes: int) -> bool:
    """Whether every size above `read_bytes` holds; how much was left unread is not known."""
    if expectation.operator not in ("gt", "ge") or not expectation.wanted:
        return False
    least: float = expectation.expected - (expectation.operator == "ge")
    return read_bytes >= least


def named(expectation: Expectation) -> str:
    """Which of its kind the subject is: a path, a name, a type of record; empty where there is one only."""
    return str(_cut(expectation.key or ""))


def _subject(expectation: Expectation) -> str:
    return f"{expectation.of} {named(expectation)}".rstrip()


def _hides(e: Expectation, value: Any) -> bool:
    """Whether `value` is not to be shown: a number and true or false give no secret away."""
    return e.is_secret and value is not None and not isinstance(value, bool | int | float)


def _told(e: Expectation, value: Any) -> str:
    return in_words(e.of, value) or repr(REDACTED if _hides(e, value) else _cut(value))


def _wanted(e: Expectation) -> str:
    said = e.operator if e.wanted else f"not {e.operator}"
    if e.operator == "count":
        return f"{said} {e.expected[0]} {e.expected[1]}"
    if e.operator == "schema":
        return said
    if _hides(e, e.expected):
        return f"{said} {REDACTED}"
    if isinstance(e.expected, list | tuple):
        return f"{said} [{', '.join(in_words(e.of, one) or repr(_cut(one)) for one in e.expected)}]"
    return f"{said} {in_words(e.of, e.expected) or repr(_cut(e.expected))}"


def _shown(e: Expectation, values: list[Any]) -> Any:
    if not values:
        return None
    if e.operator == "count" and e.is_plural:
        return len(values)
    value = values[0] if len(values) == 1 or e.limit else values
    return REDACTED if e.is_secret and _hides(e, value) else _cut(value)


def _cut(value: Any) -> Any:
    """`value` if it is short and JSON and PostgreSQL keep it as it is, otherwise the beginning of its text."""
    if isinstance(value, str):
        text = value if len(value) <= ACTUAL_MAX else value[: ACTUAL_MAX - 1] + "…"
        kept = text.isascii() and "\x00" not in text
        return text if kept else text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    if isinstance(value, list | dict):
        try:
            text = msgspec.json.encode(value).decode()
        except (RecursionError, OverflowError, ValueError):  # too deep, or with numbers beyond 64 bits
            return f"{kind_of(value)} that cannot be shown"
        return value if len(text) <= ACTUAL_MAX and "\\u0000" not in text else _cut(text)
    if isinstance(value, int) and abs(value) >= 2**63:
        # No store or reader keeps it exactly as a number, and beyond 4300 digits Python writes none.
        return _cut(str(value)) if value.bit_length() < 10_000 else "a number of thousands of digits"
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
