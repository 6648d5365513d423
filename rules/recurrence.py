"""Recurrence rules (RFC 5545 RRULE) by the day: on which days something comes again. At what time and by which clocks is not its.

Written by strangers, so that every question is answered within milliseconds: days before the one asked for are skipped,
never counted through, and what has not come in `LOOK_YEARS` never does. docs/decisions/0022 says why no library does it.
"""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from rules.problem import nearest

LOOK_YEARS: Final = 40
_PERIODS: Final = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_MOST: Final = {"INTERVAL": 1000, "COUNT": 10_000}
_LISTS: Final = {"BYMONTH": 12, "BYMONTHDAY": 31, "BYYEARDAY": 366, "BYWEEKNO": 53, "BYSETPOS": 366}
"""Keys that take numbers, with the highest; all but the first count from the end, too."""
_KEYS: Final = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_LISTS)
_ONLY: Final = {
    "BYYEARDAY": ("YEARLY",),
    "BYWEEKNO": ("YEARLY",),
    "BYMONTHDAY": ("DAILY", "MONTHLY", "YEARLY"),
    "BYSETPOS": ("WEEKLY", "MONTHLY", "YEARLY"),
}
"""With which FREQ a key means something (RFC 5545, 3.3.10)."""

Numbers = frozenset[int]


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Days from `start` on: of every `interval`-th period those that fit. What is empty fits every day."""

    period: str
    start: date
    interval: int = 1
    week_start: int = 0
    months: Numbers = frozenset()
    month_days: Numbers = frozenset()
    year_days: Numbers = frozenset()
    weeks: Numbers = frozenset()
    weekdays: frozenset[tuple[int, int]] = frozenset()  # which one of its month or year (0: each), weekday
    positions: Numbers = frozenset()
    last: date = date.max

    def days(self, since: date, until: date) -> Iterator[date]:
        """Those from `since` to `until`, both included, in order."""
        since, until = max(since, self.start), min(until, self.last)
        for period in self._periods(since, until) if since <= until else ():
            found = [day for day in period if self._fits(day)]
            if self.positions:
                places = enumerate(found)
                found = [
                    day for at, day in places if not self.positions.isdisjoint(_both_ways(at + 1, len(found)))
                ]
            yield from (day for day in found if since <= day <= until)

    def _periods(self, since: date, until: date) -> Iterator[list[date]]:
        """The days of each period, from that of `since` or the one after it."""
        if self.period in ("DAILY", "WEEKLY"):
            size = 1 if self.period == "DAILY" else 7
            begin = self.start - timedelta((self.start.weekday() - self.week_start) % size)
            step = size * self.interval
            at = begin.toordinal() + (since - begin).days // step * step
            for number in range(at, until.toordinal() + 1, step):
                yield [date.fromordinal(number + n) for n in range(size)]
            return
        size = 1 if self.period == "MONTHLY" else 12
        month = _month_of(self.start) // size * size
        step = size * self.interval
        month += (_month_of(since) - month) // step * step
        while (first := _first_of(month)) <= until:
            yield [date.fromordinal(n) for n in range(first.toordinal(), _first_of(month + size).toordinal())]
            month += step

    def _fits(self, day: date) -> bool:
        if self.months and day.month not in self.months:
            return False
        if self.month_days and self.month_days.isdisjoint(_in_month(day)):
            return False
        if self.year_days and self.year_days.isdisjoint(_in_year(day)):
            return False
        if self.weeks and self.weeks.isdisjoint(self._week(day)):
            return False
        if not self.weekdays:
            return True
        which = {n for n, weekday in self.weekdays if weekday == day.weekday()}
        if not which or 0 in which:
            return bool(which)
        nth, back = _in_month(day) if self.period == "MONTHLY" or self.months else _in_year(day)
        return not which.isdisjoint(((nth - 1) // 7 + 1, -((-back - 1) // 7 + 1)))

    def _week(self, day: date) -> tuple[int, int]:
        """The number of its week: the first has four days or more in its year, so that a week is of its fourth day's year."""
        fourth = day + timedelta(3 - (day.weekday() - self.week_start) % 7)
        nth, back = _in_year(fourth)
        week = (nth - 1) // 7 + 1
        return _both_ways(week, week + (-back - 1) // 7)


@lru_cache(maxsize=2000)
def recurrence(text: str, start: datetime, zone: str) -> Recurrence:
    """The rule that `text` is, from `start` by the clocks of `zone`. Raises `ValueError` that says what is allowed."""
    given = _parts(text)
    period = given["FREQ"]
    lists = {key: _numbers(key, given[key], most) for key, most in _LISTS.items() if key in given}
    for key in lists:
        if period not in _ONLY.get(key, _PERIODS):
            raise ValueError(f"{key} goes with FREQ={' or '.join(_ONLY[key])}, not with {period}")
    written = given["BYDAY"].split(",") if "BYDAY" in given else ()
    weekdays = frozenset(_weekday(item, period, given) for item in written)
    if "BYSETPOS" in lists and len(lists) + bool(weekdays) == 1:
        raise ValueError("BYSETPOS chooses among what another BY... makes, such as BYDAY")
    none = Numbers()
    made = Recurrence(
        period,
        start.date(),
        interval=_number("INTERVAL", given.get("INTERVAL", "1"), _MOST["INTERVAL"]),
        week_start=_WEEKDAYS.index(_choice("WKST", given.get("WKST", "MO"), _WEEKDAYS)),
        months=lists.get("BYMONTH", none),
        month_days=lists.get("BYMONTHDAY", none),
        year_days=lists.get("BYYEARDAY", none),
        weeks=lists.get("BYWEEKNO", none),
        weekdays=weekdays,
        positions=lists.get("BYSETPOS", none),
    )
    made = _bounded(_as_start(made), given, start, zone)
    if next(made.days(made.start, _horizon(made)), None) is None:
        raise ValueError(f"{text} never comes, or not within {LOOK_YEARS} years")
    return made


def _parts(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.strip().upper().removeprefix("RRULE:").rstrip(";").split(";"):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise ValueError(f"{part!r} is not KEY=VALUE; a rule reads like FREQ=WEEKLY;BYDAY=SU")
        if key in ("BYHOUR", "BYMINUTE", "BYSECOND"):
            raise ValueError(f"{key} is not supported: the time of day is that of start")
        if key not in _KEYS:
            raise ValueError(
                f"{key!r} is no part of a rule{nearest(key, _KEYS) or ';'} one of {', '.join(_KEYS)}"
            )
        if key in found:
            raise ValueError(f"{key} is there twice")
        found[key] = value
    if "FREQ" not in found:
        raise ValueError("FREQ is missing; a rule reads like FREQ=WEEKLY;BYDAY=SU")
    _choice("FREQ", found["FREQ"], _PERIODS)
    if "COUNT" in found and "UNTIL" in found:
        raise ValueError("COUNT or UNTIL, not both")
    return found


def _as_start(rule: Recurrence) -> Recurrence:
    """What the rule leaves open is as it is on the day it starts."""
    if rule.month_days or rule.year_days or rule.weekdays or rule.period == "DAILY":
        return rule
    if rule.period == "WEEKLY" or rule.weeks:
        return replace(rule, weekdays=frozenset({(0, rule.start.weekday())}))
    months = rule.months if rule.months or rule.period == "MONTHLY" else frozenset({rule.start.month})
    return replace(rule, months=months, month_days=frozenset({rule.start.day}))


def _bounded(rule: Recurrence, given: dict[str, str], start: datetime, zone: str) -> Recurrence:
    if "UNTIL" in given:
        return replace(rule, last=_until(given["UNTIL"], start, zone))
    if "COUNT" in given:
        count = _number("COUNT", given["COUNT"], _MOST["COUNT"])
        found = [*islice(rule.days(rule.start, _horizon(rule)), count)]
        if found and len(found) < count:
            raise ValueError(f"COUNT={count} is not over within {LOOK_YEARS} years; write UNTIL, or neither")
        return replace(rule, last=found[-1]) if found else rule
    return rule


def _until(text: str, start: datetime, zone: str) -> date:
    """The last day on which the time of day of `start` is not after it."""
    form = {8: "%Y%m%d", 15: "%Y%m%dT%H%M%S", 16: "%Y%m%dT%H%M%SZ"}.get(len(text), "")
    try:
        until = datetime.strptime(text, form)  # noqa: DTZ007  # of no zone, or of UTC, as is seen to below
    except ValueError:
        raise ValueError(f"UNTIL={text} is no day or time such as 20261231 or 20261231T215900Z") from None
    # Any zone can tell a time between these; both are leap years.
    until = until.replace(year=min(max(until.year, 1600), 8000))
    if text.endswith("Z"):
        until = until.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    is_before = "T" in text and until.time() < start.time()
    return until.date() - timedelta(is_before)


def _horizon(rule: Recurrence) -> date:
    return rule.start + timedelta(366 * LOOK_YEARS)


def _weekday(item: str, period: str, given: dict[str, str]) -> tuple[int, int]:
    number, name = item[:-2], item[-2:]
    weekday = _WEEKDAYS.index(_choice("BYDAY", name, _WEEKDAYS, item))
    if not number:
        return 0, weekday
    if period not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in given:
        raise ValueError(f"BYDAY={item}: a number goes with FREQ=MONTHLY or YEARLY, and without BYWEEKNO")
    return _number("BYDAY", number, 53, back=True), weekday


def _numbers(key: str, value: str, most: int) -> Numbers:
    return frozenset(_number(key, item, most, back=key != "BYMONTH") for item in value.split(","))


def _number(key: str, text: str, most: int, *, back: bool = False) -> int:
    digits = text[1:] if text[:1] in ("+", "-") and back else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= most):
        counted = f"1 to {most}, or -1 to -{most} from the end" if back else f"1 to {most}"
        raise ValueError(f"{key}={text} is not allowed; {counted}")
    return int(text)


def _choice(key: str, value: str, allowed: tuple[str, ...], shown: str = "") -> str:
    if value not in allowed:
        raise ValueError(f"{key}={shown or value} is not allowed; one of {', '.join(allowed)}")
    return value


def _both_ways(number: int, size: int) -> tuple[int, int]:
    """The `number`-th of `size`, from the beginning and from the end."""
    return number, number - size - 1


def _in_month(day: date) -> tuple[int, int]:
    return _both_ways(day.day, calendar.monthrange(day.year, day.month)[1])


def _in_year(day: date) -> tuple[int, int]:
    return _both_ways(day.timetuple().tm_yday, 365 + calendar.isleap(day.year))


def _month_of(day: date) -> int:
    return day.year * 12 + day.month - 1


def _first_of(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)
