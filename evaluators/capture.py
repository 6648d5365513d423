"""Taking captured values from what was seen. Puts them nowhere."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from evaluators.model import Failure
from evaluators.observation import Observation
from rules.capture import CAPTURED_MAX_BYTES, Taking


def capture(takings: Iterable[Taking], seen: Observation) -> tuple[Mapping[str, str], Failure | None]:
    """The values there are, and why the first that is not there is not (`capture.missing`, `capture.refused`)."""
    found: dict[str, str] = {}
    failure: Failure | None = None
    for taking in takings:
        value = _value(taking, seen)
        if value is None or len(value.encode("utf-8", "surrogatepass")) > CAPTURED_MAX_BYTES:
            missing = Failure("capture.missing", f"capture {taking.name} found nothing")
            large = f"capture {taking.name} found more than {CAPTURED_MAX_BYTES} bytes"
            failure = failure or (missing if value is None else Failure("capture.refused", large))
        else:
            found[taking.name] = value
    return found, failure


def _value(taking: Taking, seen: Observation) -> str | None:
    if taking.header is not None:
        return seen.header(taking.header)
    if taking.cookie is not None:
        return seen.cookies.get(taking.cookie)
    if taking.select is not None:
        return _selected(taking, seen)
    match = taking.pattern.search(seen.text())
    return None if match is None else match.group(1)


def _selected(taking: Taking, seen: Observation) -> str | None:
    assert taking.select is not None
    try:
        values = taking.select(msgspec.json.decode(seen.body.removeprefix(b"\xef\xbb\xbf")))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return _text(values[0]) if values else None


def _text(value: Any) -> str | None:
    """Text as it is, null as nothing, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
