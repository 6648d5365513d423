"""Judging one attempt against what its check expects: verdict, outcomes, failure. Measures nothing and waits for nothing.

A run earns `ok`; failure is where it starts. Types are never guessed: `True` is not 1 and `"1"` is not 1, while whole
and broken numbers compare as numbers. What is missing fails every operator but `exists: false`.

Where a subject has several values: a JSONPath that selects several values holds only if *every* one does; record sets
have no order and are often mixed (TXT), so `record` holds if *one* record does, and `ne` if every one does. Headers
of the same name are joined by ", " (RFC 9110, 5.3).
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from evaluators.certificate import tls_failures
from evaluators.model import Failure, Outcome, Verdict
from evaluators.observation import Observation
from rules.check import Check
from rules.expectation import Expectation
from rules.kinds.dns import DnsCheck
from rules.kinds.http import HttpCheck
from rules.kinds.tls import TlsCheck
from rules.secret import REDACTED, is_secret_name

ACTUAL_MAX: Final = 200  # characters of an actual value that are kept
NOT_REACHED: Final = "not reached"

_RCODE_TYPES: Final = {"NXDOMAIN": "dns.nxdomain", "REFUSED": "dns.refused"}
_OK: Final = (Verdict.OK, (), None)

Assessment = tuple[Verdict, tuple[Outcome, ...], Failure | None]


def assess(check: Check, observation: Observation) -> Assessment:
    """Judge `observation`. Total: every observation has a verdict, and nothing raises.

    A failure to reach an answer is `critical`, or `error` where its type says the probe's own trouble (`probe.`).
    Otherwise the worst failing thing decides the verdict, and the first of the worst names the failure.
    """
    if observation.failure is not None:
        own = observation.failure.type.startswith("probe.")
        verdict = Verdict.ERROR if own else Verdict.CRITICAL
        return verdict, (*_of_steps(observation), *_unreached(check.expectations)), observation.failure
    slow = _degraded(check, observation)
    earned = _unearned(check, observation)
    if isinstance(check, TlsCheck) and observation.tls is not None:
        earned, expiring = tls_failures(check, observation.tls)
        slow = expiring or slow
    if not check.expectations and slow is None and earned is None and not observation.steps:
        return _OK
    outcomes = (*_of_steps(observation), *_judge_all(check.expectations, observation))
    if earned is not None:
        return Verdict.CRITICAL, outcomes, earned
    for severity, verdict in (("critical", Verdict.CRITICAL), ("warning", Verdict.WARNING)):
        for outcome in outcomes:
            if not outcome.ok and outcome.severity == severity:
                where = f"step {outcome.step}: " if outcome.step else ""
                return verdict, outcomes, Failure(f"assertion.{outcome.of}", where + outcome.message)
    return (Verdict.WARNING if slow else Verdict.OK), outcomes, slow


def _of_steps(seen: Observation) -> tuple[Outcome, ...]:
    """What the steps of the run were judged to be, each on its own."""
    return tuple(outcome for step in seen.steps for outcome in step.outcomes)


def _unreached(expectations: tuple[Expectation, ...]) -> tuple[Outcome, ...]:
    return tuple(Outcome(e.of, False, None, NOT_REACHED, _severity(e)) for e in expectations)


def _severity(expectation: Expectation) -> Any:
    return expectation.severity  # a Literal in the model, a plain str in the compiled check


def _degraded(check: Check, seen: Observation) -> Failure | None:
    limit_s, total_s = check.pace.degraded_after_s, seen.timings.total
    if limit_s is None or total_s is None or total_s <= limit_s:
        return None
    return Failure("degraded", f"took {total_s:.3g} s; degraded after {limit_s:g} s")


def _unearned(check: Check, seen: Observation) -> Failure | None:
    """Why the run is not ok whatever its assertions say, where they leave it open."""
    if isinstance(check, HttpCheck):
        if check.steps:
            return None  # each of them has earned it
        if (seen.status is not None and 200 <= seen.status <= 299) or _asserts(check, "status"):
            return None
        reason = f" {seen.reason[:80]}" if seen.reason else ""
        return Failure("status", f"HTTP {seen.status}{reason}; 200 to 299 is expected")
    if isinstance(check, DnsCheck) and not _asserts(check, "rcode"):
        if seen.rcode != "NOERROR":
            kind = _RCODE_TYPES.get(seen.rcode or "", "dns.servfail")
            return Failure(kind, f"{check.host} {check.record}: {seen.rcode} from {seen.address}")
        absent = any(
            e.of == "record" and e.operator == "exists" and not e.expected for e in check.expectations
        )
        if not absent and all(record.type != check.record for record in seen.records):
            return Failure("dns.no_record", f"{check.host} has no {check.record} record")
    return None


def _asserts(check: Check, subject: str) -> bool:
    return any(expectation.of == subject for expectation in check.expectations)


def _judge_all(expectations: tuple[Expectation, ...], seen: Observation) -> tuple[Outcome, ...]:
    parsed: list[Any] = []  # the JSON document, parsed for the first assertion that asks
    return tuple(_judge(expectation, seen, parsed) for expectation in expectations)


def _judge(expectation: Expectation, seen: Observation, parsed: list[Any]) -> Outcome:
    values, missing = _values(expectation, seen, parsed)
    shown = _shown(expectation, values)
    if expectation.operator == "exists":
        ok = bool(values) is expectation.expected
        wrong = "" if ok else f"{_subject(expectation)} {'exists' if values else missing}"
    elif not values:
        wrong = f"{_subject(expectation)} {missing}"
    elif seen.is_truncated and expectation.of == "size":
        beyond = _holds_beyond(expectation, seen.size_bytes)
        wrong = "" if beyond else f"size is more than the {seen.size_bytes} bytes that are read"
    else:
        wrong = _refutation(expectation, values, shown)
    if not wrong and expectation.of == "body":
        shown = None  # an excerpt helps only where it explains something
    return Outcome(expectation.of, not wrong, shown, wrong, _severity(expectation))


def _holds_beyond(expectation: Expectation, read_bytes: int) -> bool:
    """Whether every size above `read_bytes` holds; how much was left unread is not known."""
    if expectation.operator not in ("gt", "ge"):
        return False
    least: float = expectation.expected - (expectation.operator == "ge")
    return read_bytes >= least


def _values(expectation: Expectation, seen: Observation, parsed: list[Any]) -> tuple[list[Any], str]:
    """The values of the subject, and what to say where there is none."""
    of = expectation.of
    if of == "json":
        return _selected(expectation, seen, parsed)
    if of == "header":
        value = seen.header(expectation.key or "")
        return ([] if value is None else [value]), "is missing"
    if of == "record":
        return [record.text for record in seen.records if record.type == expectation.key], "is missing"
    if of == "body":
        return [seen.text()], ""
    if of.startswith("timing."):
        phase = of.removeprefix("timing.")
        took = getattr(seen.timings, phase)
        return ([] if took is None else [took]), "did not happen"
    plain: dict[str, Any] = {"status": seen.status, "size": seen.size_bytes, "rcode": seen.rcode}
    return ([] if plain[of] is None else [plain[of]]), "is missing"


def _selected(expectation: Expectation, seen: Observation, parsed: list[Any]) -> tuple[list[Any], str]:
    if not parsed:
        try:
            parsed += [msgspec.json.decode(seen.body.removeprefix(b"\xef\xbb\xbf")), ""]
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as wrong:
            parsed += [None, f"is not there: the body is not JSON ({str(wrong)[:120]})"]
    document, broken = parsed
    if broken or expectation.select is None:
        return [], broken
    return expectation.select(document), "selects nothing"


def _subject(expectation: Expectation) -> str:
    return f"{expectation.of} {expectation.key}" if expectation.key else expectation.of


def _refutation(expectation: Expectation, values: list[Any], shown: Any) -> str:
    """Why the values do not hold; empty when they do."""
    test = _TESTS[expectation.operator]
    some = expectation.of == "record" and expectation.operator != "ne"
    refuted = [value for value in values if not test(value, expectation)]
    if not refuted or (some and len(refuted) < len(values)):
        return ""
    subject, actual = _subject(expectation), shown
    if len(values) > 1 and not some:
        actual = _cut(refuted[0])
    return f"{subject} is {actual!r}{_why(refuted[0], expectation)}; expected {_wanted(expectation)}"


def _why(value: Any, expectation: Expectation) -> str:
    if expectation.operator in _ORDER and not _is_number(value):
        return f", {_kind(value)} and not a number"
    if expectation.operator in ("starts", "ends", "matches") and not isinstance(value, str):
        return f", {_kind(value)} and not text"
    expected = expectation.expected
    if expectation.operator == "eq" and _kind(value) != _kind(expected):
        return f", {_kind(value)} and not {_kind(expected)}"
    return ""


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower() if value is not None else "null"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]


def _wanted(expectation: Expectation) -> str:
    unit = " s" if expectation.of.startswith("timing.") else ""
    if expectation.of == "header" and is_secret_name(expectation.key or ""):
        return f"{expectation.operator} {REDACTED}"
    return f"{expectation.operator} {_cut(expectation.expected)!r}{unit}"


def _shown(expectation: Expectation, values: list[Any]) -> Any:
    if not values:
        return None
    if expectation.of == "header" and is_secret_name(expectation.key or ""):
        return REDACTED
    return _cut(values[0] if len(values) == 1 else values)


def _cut(value: Any) -> Any:
    """`value` if it is short, otherwise the beginning of its text."""
    if isinstance(value, str):
        return value if len(value) <= ACTUAL_MAX else value[: ACTUAL_MAX - 1] + "…"
    if isinstance(value, list | dict):
        text = msgspec.json.encode(value).decode()
        return value if len(text) <= ACTUAL_MAX else _cut(text)
    if isinstance(value, int) and abs(value) >= 2**63:
        return _cut(str(value))  # no store or reader keeps it exactly as a number
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(left: Any, right: Any) -> bool:
    """Equality without guessing types, at any depth."""
    if _is_number(left) and _is_number(right):
        return bool(left == right)
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    return bool(left == right)


def _contains(value: Any, expectation: Expectation) -> bool:
    if isinstance(value, list):
        return any(_same(item, expectation.expected) for item in value)
    return isinstance(value, str) and expectation.expected in value


_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "lt": lambda value, limit: value < limit,
    "le": lambda value, limit: value <= limit,
    "gt": lambda value, limit: value > limit,
    "ge": lambda value, limit: value >= limit,
}


def _ordered(value: Any, expectation: Expectation) -> bool:
    return _is_number(value) and _ORDER[expectation.operator](value, expectation.expected)


_TESTS: Final[dict[str, Callable[[Any, Expectation], bool]]] = {
    "eq": lambda value, e: _same(value, e.expected),
    "ne": lambda value, e: not _same(value, e.expected),
    **dict.fromkeys(_ORDER, _ordered),
    "in": lambda value, e: any(_same(value, item) for item in e.expected),
    "contains": _contains,
    "starts": lambda value, e: isinstance(value, str) and value.startswith(e.expected),
    "ends": lambda value, e: isinstance(value, str) and value.endswith(e.expected),
    "matches": lambda value, e: isinstance(value, str) and e.pattern.search(value) is not None,
}
