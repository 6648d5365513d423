"""Announced maintenance as calendars (RFC 5545, with the refreshing of RFC 7986): all of a page, or one time to put into one's own."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Final
from uuid import UUID

from api.status.document import Document, Incident
from api.status.feeds import chosen
from api.status.previews import keyed
from api.status.view import OPEN, Place, Rendition, View, view
from rules.markdown import one_line

MOST_EVENTS: Final = 200
MOST_TEXT: Final = 5_000
"""Characters of what was said of one: calendars show little of it."""
_LINE: Final = 75  # octets, its end not counted


def _all(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
    page = chosen(page, given)
    return _calendar(page, place, page.maintenances)


def _one(page: Document, place: Place, given: Mapping[str, str]) -> Rendition | None:
    found = [one for one in page.maintenances if one.id == given["incident"]]
    return _calendar(page, place, found) if found else None


def _calendar(page: Document, place: Place, events: Iterable[Incident]) -> Rendition:
    name = _text(page.rule.name)
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Upbeat//Status page//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        f"NAME:{name}",
        f"X-WR-CALNAME:{name}",
        "REFRESH-INTERVAL;VALUE=DURATION:PT15M",
        "X-PUBLISHED-TTL:PT15M",
        *(line for event in islice(events, MOST_EVENTS) for line in _event(page, place, event)),
        "END:VCALENDAR",
    ]
    body = b"".join(_folded(line) + b"\r\n" for line in lines)
    return Rendition(body, "text/calendar; charset=utf-8", OPEN)


def _event(page: Document, place: Place, event: Incident) -> list[str]:
    assert event.starts_at is not None
    assert event.ends_at is not None
    say, url = place.language.say, keyed(place, place.url(f"incidents/{event.id}"))
    spoken = "\n\n".join(
        f"{say(f'said_{said.status}')} · {place.language.moment(said.at, page.rule.zone)}\n{said.plain}"
        for said in event.updates[:5]
    )
    return [
        "BEGIN:VEVENT",
        f"UID:{UUID(event.id.rpartition('_')[2])}",
        f"DTSTAMP:{_moment(event.updated_at)}",
        f"CREATED:{_moment(event.created_at)}",
        f"LAST-MODIFIED:{_moment(event.updated_at)}",
        f"SEQUENCE:{max(len(event.updates) - 1, 0)}",
        f"DTSTART:{_moment(event.starts_at)}",
        f"DTEND:{_moment(event.ends_at)}",
        f"SUMMARY:{_text(event.title)}",
        f"DESCRIPTION:{_text(spoken[:MOST_TEXT])}",
        f"URL:{url}",
        *([f"CATEGORIES:{','.join(map(_text, page.named(event)))}"] if event.components else []),
        f"STATUS:{'CANCELLED' if event.status == 'cancelled' else 'CONFIRMED'}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
    ]


def _text(text: str) -> str:
    """A TEXT value: no control character but the line ends that are written out."""
    lines = "\n".join(map(one_line, text.splitlines()))
    return lines.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,").replace("\n", "\\n")


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _folded(line: str) -> bytes:
    raw, parts = line.encode(), list[bytes]()
    while len(raw) > _LINE:
        cut = _LINE
        while raw[cut] & 0xC0 == 0x80:  # within a character
            cut -= 1
        parts.append(raw[:cut])
        raw = b" " + raw[cut:]
    return b"\r\n".join([*parts, raw])


VIEWS: Final[tuple[View, ...]] = (
    view(
        r"(?:calendar|history)\.ics",  # as feeds: Statuspage's name leads there, too
        _all,
        paths=["calendar.ics"],
        is_spoken=True,
        options=["components"],
    ),
    view(
        r"incidents/(?P<incident>inc_[0-9a-f]{32})\.ics",
        _one,
        paths=lambda page: [f"incidents/{one.id}.ics" for one in page.maintenances],
        is_spoken=True,
    ),
)
