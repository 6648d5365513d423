"""What all channels say of a notice, and how text is made to fit: plain words, in no service's markup."""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from evaluators.model import Notice

MARKS: Final = {"open": "🔴", "change": "🟠", "recovery": "🟢", "unknown": "⚪", "draft": "📝"}
MORE: Final = "… and more: see Upbeat"
MOST: Final = 30_000
"""Characters of a text that are looked at: nobody takes more."""
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_MARKS_OF_OTHERS: Final = re.compile(r"@(?=\w)|<(?=[!@#/A-Za-z])|\](?=[(\[])")
Cost = Callable[[str], int]


def line(text: str) -> str:
    """`text` on one line, without control characters: nothing a header, a line or its direction could be broken with."""
    return " ".join(_CONTROLS.sub(" ", text[:MOST]).split())


def inert(text: str) -> str:
    """`text` in which a service that reads marks of its own finds nobody to mention, no tag and no link."""
    return _MARKS_OF_OTHERS.sub("\\g<0>\u200b", text)


def heading(notice: Notice) -> str:
    """The title, marked by what is told."""
    return f"{MARKS.get(notice.told, '🔔')} {line(notice.title)}"


def facts(notice: Notice) -> list[tuple[str, str]]:
    """What it is about: names and values."""
    change = f"{notice.was} → {notice.stage}" if notice.was and notice.stage else str(notice.stage or "")
    beat, group = notice.beat_title or notice.beat, notice.group_title or notice.group
    found = (("Beat", beat), ("Group", group), ("Page", notice.page), ("Stage", change), ("By", notice.by))
    return [(name, line(value)) for name, value in found if value]


def link(notice: Notice) -> str | None:
    """Where to look, when that is a web address."""
    is_web = notice.link and notice.link.startswith(("https://", "http://")) and len(notice.link) < 2000
    return line(notice.link).replace(" ", "%20") if notice.link and is_web else None


def level(notice: Notice) -> str:
    """How bad it is: ok, warning, critical or unknown."""
    is_over = notice.told in ("recovery", "test") or notice.stage == "ok"
    return "ok" if is_over else str(notice.severity or notice.stage or "unknown")


def utf16(text: str) -> int:
    """UTF-16 units: who counts otherwise counts fewer."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def json_bytes(text: str) -> int:
    """Bytes in a JSON document in UTF-8, without quotes."""
    return len(json.dumps(text, ensure_ascii=False).encode(errors="replace")) - 2


def fitted(text: str, limit: int, cost: Cost = utf16) -> str:
    """As much of `text` as costs at most `limit`, marked where it was cut."""
    if len(text) <= limit and cost(text) <= limit:
        return text
    most = bisect_right(range(len(text) + 1), limit - cost("…"), key=lambda size: cost(text[:size])) - 1
    return text[: max(most, 0)].rstrip("\\") + "…"


def packed(lines: Iterable[str], limit: int, cost: Cost = utf16, each: int = 2) -> list[str]:
    """Those lines that cost at most `limit` together and `each` for itself; the last says when more were left out."""
    kept: list[str] = []
    left = limit - cost(MORE) - 2 * each
    for one in filter(None, lines):
        if cost(one) > left:
            return [*kept, *([fitted(one, left, cost)] if left > 0 else []), MORE]
        kept.append(one)
        left -= cost(one) + each
    return kept


def body(notice: Notice) -> list[str]:
    """Why, a line each."""
    return [text for why in notice.why for part in why.splitlines() if (text := line(part))]


def time_of(epoch_s: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if epoch_s is None:
        return None
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
