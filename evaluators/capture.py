"""Taking captured values from what was seen. Puts them nowhere."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from evaluators.model import Failure
from evaluators.observation import Observation
from evaluators.subjects import read_json
from rules.capture import CAPTURED_MAX_BYTES, Taking
from rules.selection import BudgetError, UnreadableError, expect_searchable, expect_within_budget


def capture(takings: Iterable[Taking], seen: Observation) -> tuple[Mapping[str, str], Failure | None]:
    """The values there are, and why the first that is not there is not (`capture.missing`, `capture.refused`)."""
    found: dict[str, str] = {}
    failure: Failure | None = None
    for taking in takings:
        kind, said = "capture.refused", ""
        try:
            value = _value(taking, seen)
        except BudgetError as over:
            said = f"is not sought: {over}"
        else:
            if value is None:
                kind, said = "capture.missing", "found nothing"
            elif len(value.encode()) > CAPTURED_MAX_BYTES:
                said = f"found more than {CAPTURED_MAX_BYTES} bytes"
            else:
                found[taking.name] = value
        if said:
            failure = failure or Failure(kind, f"capture {taking.name} {said}")
    return found, failure


def _value(taking: Taking, seen: Observation) -> str | None:
    if taking.header is not None:
        return seen.header(taking.header)
    if taking.cookie is not None:
        return seen.cookies.get(taking.cookie)
    if taking.select is not None:
        return _selected(taking, seen)
    text = seen.text()
    expect_searchable(taking.pattern, len(text))
    match = taking.pattern.search(text)
    return None if match is None else match.group(1)


def _selected(taking: Taking, seen: Observation) -> str | None:
    assert taking.select is not None
    expect_within_budget(seen.body, is_searched=taking.is_searched)
    try:
        values = taking.select(read_json(seen))
    except UnreadableError:
        return None
    return _text(values[0]) if values else None


def _text(value: Any) -> str | None:
    """Text as it is, null as nothing, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
