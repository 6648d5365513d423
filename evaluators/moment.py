"""When something happened, as other systems write it. It knows no clock: what is later than now, its caller knows."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

AUTO: Final = "auto"
_EARLIEST: Final = 631_152_000.0  # 1990
_LATEST: Final = 7_258_118_400.0  # 2200
_LONGEST: Final = 100
_NUMBER: Final = re.compile(r"[+-]?\d{1,20}(\.\d{1,20})?", re.ASCII)
_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d[\d:.]*) ?(?:([+-]\d\d(?::?\d\d)?)(?: [A-Z]{1,5})?|(Z|z|UTC|GMT))?", re.ASCII
)
_UNITS: Final = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))  # seconds, ms, us, ns by magnitude


def moment_of(value: Any, format_: str, zone: ZoneInfo) -> float | None:
    """Seconds since the epoch; None for null, empty text, 0, -1 and the year 1, which say that there is none.

    `auto` reads RFC 3339 with any number of digits, RFC 2822, and seconds, ms, us or ns since the epoch; else `format_`
    is one of strptime. `zone` is of times that do not say theirs. Raises `ValueError`, also for what is before
    1990 or after 2200.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("it is not a time")  # noqa: TRY004 - one kind of trouble
    text = " ".join(value.split()) if isinstance(value, str) else str(value)
    if text in ("", "0", "0.0", "-1"):
        return None
    if len(text) > _LONGEST:
        raise ValueError(f"it has {len(text)} characters and is not a time")
    seconds = _read(text, format_, zone)
    if seconds is not None and seconds < _EARLIEST:
        raise ValueError("it is before 1990")
    if seconds is not None and seconds > _LATEST:
        raise ValueError(f"{value!r} is not a time before 2200")
    return seconds


def _read(text: str, format_: str, zone: ZoneInfo) -> float | None:
    if format_ == AUTO and _NUMBER.fullmatch(text):
        number = float(text)
        return number / next(unit for most, unit in _UNITS if abs(number) <= most)
    try:
        moment = datetime.strptime(text, format_) if format_ != AUTO else _auto(text)  # noqa: DTZ007
        if moment.year == 1:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        raise ValueError(f"{text!r} is not a time") from None


def _auto(text: str) -> datetime:
    if found := _ISO.fullmatch(text):
        return datetime.fromisoformat(found[1] + (found[2] or ("+00:00" if found[3] else "")))
    return parsedate_to_datetime(text)
