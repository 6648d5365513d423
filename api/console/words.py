"""Values as people read them: moments, durations, addresses. Pure; templates call these as filters."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from rules.assertion import in_words
from rules.known import plural


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(moment: datetime) -> str:
    """A moment for people, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def lasting(seconds: float) -> str:
    """A duration for people: its two largest units."""
    left, parts = int(max(seconds, 0)), []
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size_s)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"


def spelled(name: str) -> str:
    """`major_outage` as people read it."""
    return name.replace("_", " ")


def plain(value: Any) -> str:
    """Any JSON value as text; a text is itself."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def cut(text: str, most: int = 300) -> str:
    """The begin of a long text, and how much is left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def found(value: Any) -> str:
    """What a condition found: nothing, or a value as JSON."""
    return "nothing" if value == [] else json.dumps(value, ensure_ascii=False, default=str)


def days_left(days: float) -> str:
    """Of a certificate, in whole days: `89 days left`, `expired 1 day ago`."""
    whole = math.floor(days)
    number = f"{abs(whole)} {'day' if abs(whole) == 1 else 'days'}"
    return f"{number} left" if whole >= 0 else f"expired {number} ago"


def seen(value: Any, of: str) -> str:
    """What an assertion saw, with its unit where it has one."""
    return in_words(of, value) or plain(value)


def pairs(items: Sequence[Any]) -> list[tuple[Any, Any]]:
    """A list's items with their names: headers come as pairs, the rest has its number."""
    return [
        (*item,) if isinstance(item, list) and len(item) == 2 else (n, item)
        for n, item in enumerate(items, 1)
    ]


def address(kind: str, slug: str, page: str | None = None, *more: str, **query: object) -> str:
    """Where an object's page is: `/console/beats/api?page=shop`."""
    path = "/".join(quote(part, safe="") for part in (plural(kind), slug, *more))
    asked = urlencode({name: value for name, value in ({"page": page} | query).items() if value is not None})
    return f"/console/{path}" + (f"?{asked}" if asked else "")
