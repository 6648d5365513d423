"""Maintenance as calendars: read by an independent library, to the letter of RFC 5545, whatever its texts have in them."""

from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any
from uuid import UUID

import icalendar
import pytest
from msgspec.structs import replace as changed

from api.status.document import Document, Update
from tests.api.status.test_status_attacks import hostile
from tests.api.status.test_status_hostile import ATTACKS
from tests.api.status.told import AHEAD, FAILED, NOW, RUNS, TAKEN_BACK, body, page, place


def events(path: str = "calendar.ics", *args: Any, **asked: Any) -> dict[str, Any]:
    """By UID."""
    calendar = icalendar.Calendar.from_ical(body(path, *args, **asked))
    assert calendar.errors == []
    assert all(event.errors == [] for event in calendar.events)
    return {str(event["UID"]): event for event in calendar.events}


def uid(of: Any) -> str:
    return str(UUID(of.id.removeprefix("inc_")))


def test_maintenance_ahead_under_way_and_cancelled_is_in_it() -> None:
    found = events()
    assert {key: str(event["STATUS"]) for key, event in found.items()} == {
        uid(RUNS): "CONFIRMED",
        uid(AHEAD): "CONFIRMED",
        uid(TAKEN_BACK): "CANCELLED",
    }
    event = found[uid(AHEAD)]
    assert (event.start, event.end) == (NOW + timedelta(hours=5), NOW + timedelta(hours=7))
    assert event["LAST-MODIFIED"].dt == event["DTSTAMP"].dt == AHEAD.updated_at
    assert (event["SUMMARY"], event["URL"]) == ("A move", f"https://up.example/p/shop/incidents/{AHEAD.id}")
    assert event["DESCRIPTION"] == "Scheduled · Nov 20, 2026, 09:00 UTC\nWe move, slowly; all of it."
    assert event["CATEGORIES"].cats == ["Web"]
    assert event["SEQUENCE"] == 0


def test_a_calendar_says_how_often_to_come_back() -> None:
    calendar: Any = icalendar.Calendar.from_ical(body("calendar.ics"))
    assert (calendar["VERSION"], calendar["METHOD"]) == ("2.0", "PUBLISH")
    assert calendar["REFRESH-INTERVAL"].dt == timedelta(minutes=15)
    assert calendar["NAME"] == calendar["X-WR-CALNAME"] == "The Shop & Co."


def test_each_update_raises_the_sequence_and_nothing_changes_the_uid() -> None:
    said = Update(f"upd_{999:032x}", "scheduled", "An hour later.", True, NOW)
    moved = changed(
        AHEAD,
        starts_at=NOW + timedelta(hours=6),
        updates=[said, *AHEAD.updates],
        updated_at=NOW,
        title="Another move",
    )
    before, after = events()[uid(AHEAD)], events("calendar.ics", page(maintenances=[moved]))[uid(AHEAD)]
    assert (before["SEQUENCE"], after["SEQUENCE"]) == (0, 1)
    assert after["LAST-MODIFIED"].dt == NOW
    assert (
        events("calendar.ics", page(), place(base="", origin="https://status.shop.example")).keys()
        == events().keys()
    )


def test_one_time_is_a_file_of_its_own() -> None:
    assert [*events(f"incidents/{AHEAD.id}.ics")] == [uid(AHEAD)]
    assert body(f"incidents/{FAILED.id}.ics") == b""
    assert body(f"incidents/inc_{999:032x}.ics") == b""


def test_a_calendar_may_be_of_some_components() -> None:
    assert [*events(components="web")] == [uid(AHEAD)]
    assert [*events(components="pay,web,nosuch")] == [uid(RUNS), uid(AHEAD)]


def test_where_a_page_needs_a_proof_the_links_carry_it() -> None:
    document = replace(page(rule={"access": {"password": "x"}}), proof="k")
    found = events("calendar.ics", document, place(key="k"))
    assert all(str(event["URL"]).endswith("?key=k") for event in found.values())


def _of(text: str, *, is_markdown: bool = False) -> Document:
    told = changed(
        AHEAD, title=text, updates=[Update(AHEAD.updates[0].id, "scheduled", text, is_markdown, NOW)]
    )
    return page(maintenances=[told])


@pytest.mark.parametrize(
    "text",
    ["a, b; c\\d", "END:VEVENT\r\nBEGIN:VEVENT", "a\nDTSTART:20200101T000000Z", "é" * 200, "🙂" * 99, '"quoted": x', "\0\x07\x1f\x7fa\x85b\u2028c"],
    ids=repr,
)  # fmt: skip
def test_text_stays_text(text: str) -> None:
    (event,) = events("calendar.ics", _of(text)).values()
    assert event["SUMMARY"].split() == "".join(one if one.isprintable() else " " for one in text).split()
    assert event.start == AHEAD.starts_at


def test_two_hundred_attacks_break_no_line() -> None:
    for number in range(0, len(ATTACKS), 60):
        made = body("calendar.ics", hostile(number, ATTACKS[number : number + 60]))
        lines = made.split(b"\r\n")
        assert lines.pop() == b""
        assert not any(b"\r" in line or b"\n" in line or len(line) > 75 for line in lines)
        assert all(line.decode() and line[0] != ord("\t") for line in lines)
        assert len(events("calendar.ics", hostile(number, ATTACKS[number : number + 60]))) == len(
            ATTACKS[number : number + 60]
        )


def test_moments_are_utc() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=9)))
    (event,) = events("calendar.ics", page(maintenances=[changed(AHEAD, starts_at=east)])).values()
    assert event.start == NOW
    assert event.start.utcoffset() == timedelta(0)
