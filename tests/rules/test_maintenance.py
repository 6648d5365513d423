"""When maintenance takes place: over clock changes, with days left out, ended early, and what it is about."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rules.maintenance import Maintenance, keys
from rules.shape import written

DAY_S = 86400.0


def window(**given: Any) -> Maintenance:
    return Maintenance.model_validate({"slug": "m", "duration": "1h"} | given)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def times(rule: Maintenance, since: str, until: str) -> list[str]:
    return [
        " ".join(f"{datetime.fromtimestamp(moment, UTC):%d %H:%M}" for moment in span)
        for span in rule.spans(at(since), at(until))
    ]


BERLIN = {"timezone": "Europe/Berlin", "rrule": "FREQ=WEEKLY;BYDAY=SU"}
NEW_YORK = {"timezone": "America/New_York", "rrule": "FREQ=WEEKLY;BYDAY=SU"}


@pytest.mark.parametrize(
    ("given", "since", "until", "expected"),
    [
        pytest.param(
            BERLIN | {"start": "2026-01-04T03:00"},
            "2026-03-20",
            "2026-04-06",
            ["22 02:00 22 03:00", "29 01:00 29 02:00", "05 01:00 05 02:00"],
            id="the clocks on the wall say when, in Berlin in spring",
        ),
        pytest.param(
            BERLIN | {"start": "2026-01-04T02:30"},
            "2026-03-28",
            "2026-03-30",
            ["29 01:30 29 02:30"],
            id="02:30 that the clocks skip is 03:30 that day",
        ),
        pytest.param(
            BERLIN | {"start": "2026-01-04T02:30"},
            "2026-10-24",
            "2026-10-26",
            ["25 00:30 25 01:30"],
            id="02:30 that comes twice is the first one only",
        ),
        pytest.param(
            BERLIN | {"start": "2026-01-04T01:00", "duration": "4h"},
            "2026-10-24",
            "2026-10-26",
            ["24 23:00 25 03:00"],
            id="four hours are four, also in the longest night",
        ),
        pytest.param(
            NEW_YORK | {"start": "2026-01-04T02:30"},
            "2026-03-07",
            "2026-03-16",
            ["08 07:30 08 08:30", "15 06:30 15 07:30"],
            id="a time that New York skips moves after the gap",
        ),
        pytest.param(
            NEW_YORK | {"start": "2026-01-04T01:30"},
            "2026-10-31",
            "2026-11-09",
            ["01 05:30 01 06:30", "08 06:30 08 07:30"],
            id="and one that it has twice counts once",
        ),
        pytest.param(
            BERLIN | {"start": "2026-10-25T02:30+01:00", "rrule": "FREQ=DAILY;INTERVAL=154"},
            "2026-10-24",
            "2027-03-29",
            ["25 01:30 25 02:30", "28 01:30 28 02:30"],
            id="a start in the second of two hours is there, and says nothing of other days",
        ),
        pytest.param(
            {"start": "2026-12-24T22:00+02:00", "timezone": "America/New_York"},
            "2026-12-01",
            "2027-01-01",
            ["24 20:00 24 21:00"],
            id="an offset says what the time zone would",
        ),
        pytest.param(
            {"start": "2026-12-24T22:00", "timezone": "America/New_York"},
            "2026-12-01",
            "2027-01-01",
            ["25 03:00 25 04:00"],
            id="without one the time zone does",
        ),
        pytest.param(
            {"start": "2026-11-20T22:00", "rrule": "FREQ=DAILY", "duration": "8h"},
            "2026-11-21T05:59",
            "2026-11-21T22:00",
            ["20 22:00 21 06:00"],
            id="one that began before still runs, one that begins at the end does not",
        ),
        pytest.param(
            {"start": "2026-11-20T22:00", "rrule": "FREQ=DAILY", "except": ["2026-11-21"]},
            "2026-11-20",
            "2026-11-23",
            ["20 22:00 20 23:00", "22 22:00 22 23:00"],
            id="a day is left out",
        ),
        pytest.param(
            {"start": "2026-11-20T22:00", "rrule": "FREQ=DAILY", "ended": ["2026-11-21T22:20"]},
            "2026-11-20",
            "2026-11-23",
            ["20 22:00 20 23:00", "21 22:00 21 22:20", "22 22:00 22 23:00"],
            id="one time was ended early, the others are as long as ever",
        ),
        pytest.param(
            {"start": "2026-10-24T00:00", "rrule": "FREQ=DAILY;COUNT=3", "duration": "24h"}
            | {"timezone": "Europe/Berlin"},
            "2026-10-20",
            "2026-10-30",
            ["23 22:00 25 22:00", "25 23:00 26 23:00"],
            id="a day of 25 hours is not all maintenance",
        ),
        pytest.param(
            {"start": "2026-03-28T00:00", "rrule": "FREQ=DAILY;COUNT=3", "duration": "24h"}
            | {"timezone": "Europe/Berlin"},
            "2026-03-20",
            "2026-04-02",
            ["27 23:00 30 22:00"],
            id="what touches is one",
        ),
    ],
)
def test_it_takes_place_at(given: dict[str, Any], since: str, until: str, expected: list[str]) -> None:
    assert times(window(**given), since, until) == expected


def test_the_next_one_is_found_however_far_away_or_there_is_none() -> None:
    rare = window(start="2026-01-01T00:00", rrule="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29")
    assert rare.next(at("2026-11-20")) == (at("2028-02-29"), at("2028-02-29T01:00"))
    assert rare.next(at("2028-02-29T00:30")) == rare.next(at("2026-11-20"))
    assert window(start="2026-01-01T00:00").next(at("2026-01-01T01:00")) is None
    assert window(start="2026-01-01T00:00", rrule="FREQ=DAILY;COUNT=2").next(at("2026-01-03")) is None
    assert window(start="2030-01-01T00:00").next(at("2026-01-01")) is not None


def test_every_quarter_of_a_year_says_the_same_as_the_whole() -> None:
    rule = window(start="1970-01-01T02:30", duration="3h", **{**BERLIN, "rrule": "FREQ=DAILY"})
    begin = at("2026-01-01")
    whole = rule.spans(begin, begin + 400 * DAY_S)
    parts = [
        span for n in range(4) for span in rule.spans(begin + n * 100 * DAY_S, begin + (n + 1) * 100 * DAY_S)
    ]
    assert list(dict.fromkeys(parts)) == whole
    zone = ZoneInfo("Europe/Berlin")
    local = {f"{datetime.fromtimestamp(start, zone):%H:%M}" for start, _ in whole}
    assert local == {"02:30", "03:30"}


@pytest.mark.parametrize(
    ("given", "subject", "covered"),
    [
        pytest.param({}, ("beat", "shop", "a", None, ()), True, id="a page, whatever is on it"),
        pytest.param({}, ("beat", "pay", "a", None, ("shop/site",)), False, id="and nothing of another"),
        pytest.param({"beats": ["a"]}, ("beat", "shop", "a", None, ()), True, id="a beat"),
        pytest.param(
            {"beats": ["a"]}, ("group", "shop", "a", None, ()), False, id="not the group of its name"
        ),
        pytest.param({"beats": ["a"]}, ("beat", "pay", "a", None, ()), False, id="nor one of another page"),
        pytest.param({"groups": ["g"]}, ("group", "shop", "g", None, ()), True, id="a group"),
        pytest.param({"groups": ["g"]}, ("beat", "shop", "a", "g", ()), True, id="and its members"),
        pytest.param({"groups": ["g"]}, ("beat", "pay", "a", "g", ()), False, id="not another page's group"),
        pytest.param({"components": ["site"]}, ("beat", "shop", "a", None, ("site",)), True, id="what feeds"),
        pytest.param(
            {"components": ["site"]}, ("beat", "pay", "a", None, ("shop/site",)), True, id="from anywhere"
        ),
        pytest.param(
            {"components": ["pay/site"]},
            ("beat", "pay", "a", None, ("site",)),
            True,
            id="another page's component",
        ),
        pytest.param(
            {"components": ["site"]}, ("beat", "pay", "a", None, ("site",)), False, id="not its namesake"
        ),
        pytest.param(
            {"groups": ["g"]}, ("component", "shop", "site", "g", ()), False, id="nor is a heading a group"
        ),
    ],
)
def test_it_is_about(given: dict[str, Any], subject: Any, covered: bool) -> None:
    about = window(start="2026-01-01T00:00", **given).about("shop")
    assert (not about.isdisjoint(keys(*subject))) is covered


def test_what_is_kept_reads_back_as_it_was() -> None:
    rule = window(start="2026-01-01T00:00", rrule="FREQ=DAILY", **{"except": ["2026-01-02"]})
    assert written(rule)["except"] == ["2026-01-02"]
    assert Maintenance.model_validate(written(rule)) == rule
