"""Recurrence rules: RFC 5545's own examples, python-dateutil as a second opinion, and rules that want to cost time."""

import random
from datetime import date, datetime, timedelta
from itertools import takewhile

import pytest
from dateutil.rrule import rrulestr

from rules.recurrence import recurrence

WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


def comes(rule: str, start: str, count: int = 6) -> list[str]:
    begin = datetime.fromisoformat(start)
    days = recurrence(rule, begin, "America/New_York").days(begin.date(), date(2100, 1, 1))
    return [day.isoformat() for day, _ in zip(days, range(count), strict=False)]


@pytest.mark.parametrize(
    ("rule", "start", "expected"),
    [
        pytest.param(
            "FREQ=MONTHLY;BYDAY=-1FR",
            "1997-09-02T09:00",
            ["1997-09-26", "1997-10-31", "1997-11-28", "1997-12-26"],
            id="the last Friday of a month",
        ),
        pytest.param(
            "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=TU,TH;COUNT=8",
            "1997-09-02T09:00",
            [
                "1997-09-02",
                "1997-09-04",
                "1997-09-16",
                "1997-09-18",
                "1997-09-30",
                "1997-10-02",
                "1997-10-14",
                "1997-10-16",
            ],
            id="two days of every other week",
        ),
        pytest.param(
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
            "1997-08-05T09:00",
            ["1997-08-05", "1997-08-10", "1997-08-19", "1997-08-24"],
            id="a week that begins on Monday",
        ),
        pytest.param(
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
            "1997-08-05T09:00",
            ["1997-08-05", "1997-08-17", "1997-08-19", "1997-08-31"],
            id="and one that begins on Sunday",
        ),
        pytest.param(
            "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
            "1997-09-04T09:00",
            ["1997-09-04", "1997-10-07", "1997-11-06"],
            id="the third of some days",
        ),
        pytest.param(
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
            "1997-09-29T09:00",
            ["1997-09-29", "1997-10-30", "1997-11-27", "1997-12-30"],
            id="the second to last weekday of a month",
        ),
        pytest.param(
            "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
            "1997-09-02T09:00",
            ["1998-02-13", "1998-03-13", "1998-11-13", "1999-08-13"],
            id="every Friday the 13th",
        ),
        pytest.param(
            "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
            "1996-11-05T09:00",
            ["1996-11-05", "2000-11-07", "2004-11-02"],
            id="a president's election",
        ),
        pytest.param(
            "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
            "1997-05-12T09:00",
            ["1997-05-12", "1998-05-11", "1999-05-17"],
            id="the Monday of week 20",
        ),
        pytest.param(
            "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
            "1997-01-01T09:00",
            ["1997-01-01", "1997-04-10", "1997-07-19", "2000-01-01", "2000-04-09", "2000-07-18"],
            id="three days of every third year",
        ),
        pytest.param(
            "FREQ=MONTHLY",
            "2026-01-31T03:00",
            ["2026-01-31", "2026-03-31", "2026-05-31"],
            id="a month without a 31st is left out",
        ),
        pytest.param(
            "FREQ=YEARLY", "2024-02-29T03:00", ["2024-02-29", "2028-02-29"], id="so is a year without the day"
        ),
        pytest.param(
            "RRULE:FREQ=DAILY;UNTIL=19970904T130000Z",
            "1997-09-02T09:00",
            ["1997-09-02", "1997-09-03", "1997-09-04"],
            id="until a time of UTC, inclusive",
        ),
        pytest.param(
            "FREQ=DAILY;UNTIL=19970904T125959Z",
            "1997-09-02T09:00",
            ["1997-09-02", "1997-09-03"],
            id="a second before it begins is before it",
        ),
        pytest.param(
            "FREQ=WEEKLY;BYDAY=SU;COUNT=2",
            "2026-11-20T02:00",
            ["2026-11-22", "2026-11-29"],
            id="a day that is none of its own does not count",
        ),
    ],
)
def test_a_rule_comes_on_the_days_that_the_standard_says(rule: str, start: str, expected: list[str]) -> None:
    assert comes(rule, start, len(expected) + ("COUNT" in rule or "UNTIL" in rule)) == (
        expected if "COUNT=10" not in rule else [*expected, "2003-01-01"]
    )


def _drawn(draw: random.Random) -> tuple[str, datetime]:
    """A rule that two implementations may be asked about."""
    period = draw.choice(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"])

    def numbers(most: int, *, back: bool = True) -> str:
        return ",".join(
            str(draw.choice((1, -1) if back else (1,)) * draw.randint(1, most))
            for _ in range(draw.randint(1, 3))
        )

    parts = [f"FREQ={period}", f"INTERVAL={draw.randint(1, 4)}"]
    if draw.random() < 0.3:
        parts.append(f"BYMONTH={numbers(12, back=False)}")
    if period != "WEEKLY" and draw.random() < 0.3:
        parts.append(f"BYMONTHDAY={numbers(31)}")
    if period == "YEARLY" and draw.random() < 0.2:
        parts.append(f"BYYEARDAY={numbers(366)}")
    if draw.random() < 0.5:
        nth = period in ("MONTHLY", "YEARLY") and draw.random() < 0.5
        days = draw.sample(WEEKDAYS, draw.randint(1, 3))
        parts.append(
            "BYDAY=" + ",".join(f"{numbers(5).split(',')[0] if nth else ''}{weekday}" for weekday in days)
        )
    start = datetime(draw.randint(1995, 2030), draw.randint(1, 12), draw.randint(1, 28), 3, 30)
    week_start = draw.choice(WEEKDAYS)
    parts.append(f"WKST={week_start}")
    if period != "DAILY" and any(part.startswith("BY") for part in parts) and draw.random() < 0.3:
        parts.append(f"BYSETPOS={numbers(3)}")
        if period == "WEEKLY":  # dateutil's first week is cut at DTSTART, and its positions with it
            start -= timedelta((start.weekday() - WEEKDAYS.index(week_start)) % 7)
    if draw.random() < 0.2:
        parts.append(f"COUNT={draw.randint(1, 30)}")
    return ";".join(parts), start


def test_rules_come_when_dateutil_says() -> None:
    draw, seen = random.Random(5545), 0
    for _ in range(150):
        rule, start = _drawn(draw)
        end = start + timedelta(366 * 6)
        try:
            mine = [*recurrence(rule, start, "UTC").days(start.date(), end.date())]
        except ValueError as never:
            assert "never comes" in str(never) or "not over within" in str(never), rule  # noqa: PT017
            continue
        theirs = [at.date() for at in takewhile(lambda at: at <= end, rrulestr(rule, dtstart=start))]  # noqa: B023
        assert mine == theirs, (rule, start)
        seen += 1
    assert seen > 100


def test_where_one_looks_from_does_not_matter() -> None:
    draw, checked = random.Random(7), 0
    for _ in range(120):
        rule, start = _drawn(draw)
        try:
            made = recurrence(rule, start, "UTC")
        except ValueError:
            continue
        whole = [*made.days(start.date(), start.date() + timedelta(3000))]
        since = start.date() + timedelta(draw.randint(0, 2000))
        until = since + timedelta(draw.randint(0, 400))
        assert [*made.days(since, until)] == [day for day in whole if since <= day <= until], rule
        checked += 1
    assert checked > 80


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;INTERVAL=7;BYDAY=MO",
        "FREQ=YEARLY;BYYEARDAY=366;BYMONTH=6",
        "FREQ=YEARLY;BYDAY=53MO;BYSETPOS=366",
        "FREQ=YEARLY;INTERVAL=1000;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYDAY=1MO;BYMONTHDAY=8",
        "FREQ=DAILY;UNTIL=19991231",
    ],
)
def test_what_never_comes_is_refused_before_it_costs_anything(rule: str) -> None:
    with pytest.raises(ValueError, match="never comes"):
        recurrence(rule, datetime(2026, 11, 20, 3), "UTC")


def test_a_rule_as_old_as_unix_costs_no_more_than_one_of_today() -> None:
    made = recurrence("FREQ=DAILY;COUNT=10000", datetime(1970, 1, 1), "UTC")
    assert made.last == date(1997, 5, 18)
    old = recurrence("FREQ=DAILY", datetime(1970, 1, 1), "UTC")
    periods = [*old._periods(date(2026, 11, 1), date(2026, 12, 10))]
    assert len(periods) == 40


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_an_end_at_either_end_of_the_calendar_is_told_by_every_clock(zone: str) -> None:
    start = datetime(2026, 11, 20, 3)
    for year in ("99991231T235959Z", "99991231T235959", "99991231"):
        assert recurrence(f"FREQ=DAILY;UNTIL={year}", start, zone).last.year >= 8000
    for year in ("00010101T000000Z", "00010101T000000", "00010101"):
        with pytest.raises(ValueError, match="never comes"):
            recurrence(f"FREQ=DAILY;UNTIL={year}", start, zone)


def test_a_count_that_nobody_lives_to_see_is_refused_rather_than_forgotten() -> None:
    assert recurrence("FREQ=YEARLY;COUNT=40", datetime(1970, 1, 1), "UTC").last == date(2009, 1, 1)
    with pytest.raises(ValueError, match="COUNT=45 is not over within 40 years; write UNTIL"):
        recurrence("FREQ=YEARLY;COUNT=45", datetime(1970, 1, 1), "UTC")
