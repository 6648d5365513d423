"""The values an assertion looks at, read out of an `Observation`. Whether they are as expected is `evaluators.operators`.

A subject has no value where it is missing; a document that cannot be read (`UnreadableError`) or would take too long
(`BudgetError`) is not missing: it fails even what asks for absence.
"""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from operator import attrgetter
from statistics import fmean
from typing import Any, Final

import msgspec

from evaluators.model import PHASES
from evaluators.observation import Certificate, Journeyed, Observation, TlsSeen
from rules.expectation import Expectation
from rules.selection import BudgetError, UnreadableError, expect_within_budget

_NUMBER: Final = re.compile(r"[+-]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)


Documents = dict[str, Any]
"""The body taken as JSON, XML and HTML, as far as an assertion has asked: what was wrong with it is kept as well."""


def read_json(seen: Observation) -> Any:
    """The body as JSON. Raises `UnreadableError`."""
    try:
        return msgspec.json.decode(seen.body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as wrong:
        raise UnreadableError(f"the body is not JSON ({str(wrong)[:120]})") from None


def _xml(seen: Observation) -> Any:
    from rules.markup import parse_xml  # lxml is loaded where an assertion of XML was compiled

    return parse_xml(seen.body)


_PARSERS: Final[dict[str, Callable[[Observation], Any]]] = {
    "json": read_json,
    "xml": _xml,
    "html": Observation.text,
}


def read(expectation: Expectation, seen: Observation, documents: Documents) -> list[Any]:
    """The values of its subject; empty where it is missing. Raises `UnreadableError`, `BudgetError`."""
    of = expectation.of
    if (plain := _PLAIN.get(of)) is not None:
        value = plain(seen)
        values = [] if value is None else [value]
    elif expectation.select is None:
        values = _NAMED[of](seen, expectation.key or "")
    elif of == "json":
        expect_within_budget(seen.body, is_searched=expectation.is_plural)
        values = expectation.select(_document(of, seen, documents))
    else:
        values = expectation.select(_document(of, seen, documents), expectation.limit)
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            raise UnreadableError("what is found is not a number")
    return [number_of(value) for value in values] if expectation.is_number else values


def _document(of: str, seen: Observation, documents: Documents) -> Any:
    if of not in documents:
        try:
            documents[of] = _PARSERS[of](seen)
        except (UnreadableError, BudgetError) as wrong:
            documents[of] = wrong
    document = documents[of]
    if isinstance(document, UnreadableError | BudgetError):
        raise document
    return document


def missing(expectation: Expectation) -> str:
    """What to say of a subject that has no value."""
    if expectation.select is not None:
        return "selects nothing"
    return "did not happen" if expectation.of.startswith(("timing.", "rtt", "step")) else "is missing"


def number_of(value: Any) -> Any:
    """The number a text declares, or the text where it is none."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value.strip()):
        return value
    number = float(value)
    return number if math.isfinite(number) else value


def _tls(read_tls: Callable[[TlsSeen], Any]) -> Callable[[Observation], Any]:
    return lambda seen: seen.tls and read_tls(seen.tls)


def _leaf(read_leaf: Callable[[Certificate], Any]) -> Callable[[Observation], Any]:
    return _tls(lambda tls: read_leaf(tls.certificates[0]) if tls.certificates else None)


def _journey(read_journey: Callable[[Journeyed], int]) -> Callable[[Observation], Any]:
    return lambda seen: seen.journey and read_journey(seen.journey)


def _vital(name: str) -> Callable[[Observation, str], list[Any]]:
    """The worst of the pages that were first seen in a step, or of all where none is named."""

    def read_vital(seen: Observation, step: str) -> list[Any]:
        pages = seen.journey.documents if seen.journey else ()
        found = [getattr(page, name) for page in pages if step in ("", page.step)]
        measured = [value for value in found if value is not None]
        return [max(measured)] if measured else []

    return read_vital


def _round_trip(summary: Callable[[list[float]], float], least: int = 1) -> Callable[[Observation], Any]:
    def read_packets(seen: Observation) -> float | None:
        came = [packet for packet in seen.packets if packet is not None]
        return summary(came) if len(came) >= least else None

    return read_packets


def jitter_s(trips_s: list[float]) -> float:
    """The mean difference between one round trip and the next, of two at least."""
    return sum(abs(after - before) for before, after in pairwise(trips_s)) / (len(trips_s) - 1)


_PLAIN: Final[dict[str, Callable[[Observation], Any]]] = {
    "status": attrgetter("status"),
    "body": Observation.text,
    "size": attrgetter("size_bytes"),
    "redirects": lambda seen: len(seen.hops),
    "protocol": lambda seen: seen.protocol or (seen.tls and seen.tls.version),
    **{f"timing.{phase}": attrgetter(f"timings.{phase}") for phase in PHASES},
    "certificate.leaf_days_left": _tls(
        lambda tls: (tls.certificates[0].not_after - tls.at) / 86_400 if tls.certificates else None
    ),
    "certificate.names": _leaf(lambda leaf: list(leaf.names)),
    **{
        f"certificate.{of}": _leaf(attrgetter(of))
        for of in ("subject", "issuer", "sha256", "key", "signature")
    },
    **{f"certificate.{of}": _tls(attrgetter(of)) for of in ("days_left", "cipher", "version", "ocsp")},
    "rcode": attrgetter("rcode"),
    "flags": lambda seen: None if seen.rcode is None else list(seen.flags),
    "rtt": _round_trip(fmean),
    "rtt.min": _round_trip(min),
    "rtt.max": _round_trip(max),
    "rtt.jitter": _round_trip(jitter_s, least=2),
    "console_errors": _journey(lambda journey: journey.console_errors),
    "failed_requests": _journey(lambda journey: journey.failed_requests),
    "requests": _journey(lambda journey: journey.requests),
    "weight": _journey(lambda journey: journey.weight_bytes),
    "loss": lambda seen: 100.0 * seen.packets.count(None) / len(seen.packets) if seen.packets else None,
}
"""Subjects of one value: None where it is missing."""

_NAMED: Final[dict[str, Callable[[Observation, str], list[Any]]]] = {
    "header": lambda seen, name: [] if (value := seen.header(name)) is None else [value],
    "cookie": lambda seen, name: [seen.cookies[name]] if name in seen.cookies else [],
    "step": lambda seen, name: [
        one.timings.total for one in seen.steps if one.name == name and one.timings.total is not None
    ],
    **{f"vital.{name}": _vital(name) for name in ("ttfb", "fcp", "lcp", "cls")},
    "record": lambda seen, type_: [one.text for one in seen.records if one.type == type_],
    "ttl": lambda seen, type_: [
        one.ttl_s for one in seen.records if one.type == type_ and one.ttl_s is not None
    ],
}
"""Subjects that are looked up."""
