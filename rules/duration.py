"""Durations as operators write them (`800ms`, `30s`, `5m`, `2h`, `1d`), kept as seconds."""

import math
import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"


def parse_duration_s(text: object) -> float:
    """Seconds of `text`: a number of seconds or parts with units, largest first by convention (`1h30m`).

    Raises `ValueError` that says what is allowed.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        seconds = float(text)
    elif isinstance(text, str) and re.match(PATTERN, text.strip()):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    else:
        raise ValueError(
            f"{text!r} is not a duration; write a number with a unit, such as 800ms, 30s, 5m, 2h or 1d"
        )
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{text!r} is not a duration; it must be zero or more")
    return seconds


def format_duration(seconds: float) -> str:
    """A short text that `parse_duration_s` reads back to exactly the same value: 90.0 -> `90s`, 0.8 -> `800ms`."""
    for unit, size_s in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= size_s and seconds % size_s == 0:
            return f"{seconds / size_s:.0f}{unit}"
    if 0 < seconds < 1:
        short = f"{_plain(round(seconds * 1000, 9))}ms"
        if parse_duration_s(short) == seconds:
            return short
    return f"{_plain(seconds)}s"


def _plain(number: float) -> str:
    """All digits of `number`, never an exponent."""
    digits = f"{Decimal(repr(number)):f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


Duration = Annotated[
    float,
    BeforeValidator(parse_duration_s),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": PATTERN}, {"type": "number", "minimum": 0}]}),
]
"""Seconds in Python, text with a unit in YAML and JSON."""
