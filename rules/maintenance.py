"""Maintenance windows: when something is worked on, once or again and again. What a window suppresses is `evaluators`' to say."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from rules.duration import Duration, format_duration
from rules.owner import ComponentPath
from rules.problem import show
from rules.quorum import DurationOrOff
from rules.recurrence import LOOK_YEARS, Recurrence, recurrence
from rules.shape import Name, Rule, Slug, Text
from rules.zone import zone_name

DAY_S: Final = 86400.0
MOST_S: Final = 366 * DAY_S
Span = tuple[float, float]
"""Start and end; seconds since the epoch."""
Key = tuple[str, str, str]
"""Kind, page and slug."""


def _written(moment: object) -> object:
    if not isinstance(moment, str | datetime) or len(str(moment)) < len("2026-12-24T22:00"):
        raise ValueError(
            f"{show(moment)} is not a time; write one such as 2026-12-24T22:00 or 2026-12-24T22:00Z"
        )
    return moment


def _near(moment: datetime) -> datetime:
    if not 1970 <= moment.year < 2200:
        raise ValueError(f"{moment} lies before 1970 or after 2199")
    return moment


Moment = Annotated[datetime, BeforeValidator(_written), AfterValidator(_near)]


class Announce(Rule):
    """`announce:` of a maintenance window: customers are told of each time it takes place."""

    title: Name | None = Field(default=None, description="Its title; the window's name when not given.")
    text: Annotated[str, StringConstraints(min_length=1, max_length=4000)] | None = Field(
        default=None, description="What is said when it is announced; when and what of when not given."
    )
    before: Duration = Field(
        default=DAY_S, le=90 * DAY_S, description="So long before it begins it is announced."
    )
    remind: DurationOrOff = Field(
        default=3600.0, le=30 * DAY_S, description="So long before it begins it is said again; `off` never."
    )
    start: Literal["auto", "off"] = Field(
        default="auto", description="Whether it is said by itself that it has begun."
    )
    complete: Literal["auto", "off"] = Field(
        default="auto", description="Whether it is said by itself that it is over."
    )
    notify: bool = Field(default=True, description="Whether subscribers are told.")


class Extended(Rule):
    """One time of a window that lasts longer than planned."""

    start: Moment = Field(description="When that time of it begins.")
    end: Moment = Field(description="When it ends instead.")


class Maintenance(Rule):
    """A maintenance window of a page, or of some of its components, groups and beats."""

    slug: Slug = Field(description="Its name in references; unique per page.")
    name: Name | None = Field(default=None, description="What people call it; the slug when not given.")
    page: Slug | None = Field(
        default=None, description="Slug of its home page; optional while there is one page."
    )
    description: Text = Field(default="", description="What is done.")
    start: Moment = Field(
        description="When it begins (RFC 3339); without an offset, the time of the clocks in `timezone`. By API, now when not given."
    )
    end: Moment | None = Field(default=None, description="When it ends; this or `duration`.")
    duration: Duration | None = Field(
        default=None, gt=0, le=MOST_S, description="How long it lasts, however clocks change; this or `end`."
    )
    timezone: Annotated[str, AfterValidator(zone_name)] = Field(
        default="UTC", description="Of times without an offset, and of the recurrence, such as Europe/Berlin."
    )
    rrule: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        default=None,
        description="When it comes again: an RFC 5545 recurrence rule by the day, such as FREQ=WEEKLY;BYDAY=SU, by the clocks of `timezone`.",
    )
    except_: list[date] = Field(
        default=[],
        alias="except",
        max_length=500,
        description="Days in `timezone` on which it does not come, though `rrule` says so.",
    )
    ended: list[Moment] = Field(
        default=[],
        max_length=500,
        description="When it was ended early: the time of it that ran then was over.",
    )
    extended: list[Extended] = Field(
        default=[], max_length=500, description="Times of it that last longer than planned."
    )
    announce: Announce | None = Field(
        default=None,
        description="How customers are told of it; not given, they are not. `{}` is the defaults.",
    )
    beats: list[Slug] = Field(default=[], max_length=500, description="Beats of its page it is about.")
    groups: list[Slug] = Field(
        default=[], max_length=500, description="Groups of its page, with their members."
    )
    components: list[ComponentPath] = Field(
        default=[], max_length=500, description="Components, and whatever feeds them."
    )

    @model_validator(mode="after")
    def _has_one_end(self) -> Self:
        if (self.end is None) == (self.duration is None):
            raise ValueError("a maintenance window has either end: or duration:")
        if self.end is not None and not 0 < self.length_s <= MOST_S:
            raise ValueError(f"end {self.end} is not after start {self.start}, by a year at most")
        return self

    @model_validator(mode="after")
    def _comes(self) -> Self:
        if self.rrule is None:
            if self.except_:
                raise ValueError("except: leaves days out of an rrule:, and there is none")
            return self
        try:
            again = self._recurrence
        except ValueError as wrong:
            raise ValueError(f"rrule: {wrong}") from None
        if self.length_s > DAY_S:  # else none can reach the next
            soon = again.days(again.start, again.start + timedelta(4 * 366))
            gap = min((after - day for day, after in pairwise(soon)), default=timedelta.max)
            if self.length_s > gap / timedelta(seconds=1):
                raise ValueError(
                    f"rrule: it lasts {format_duration(self.length_s)} and comes again after {gap.days}d, before it is over"
                )
        return self

    @model_validator(mode="after")
    def _lasts_longer(self) -> Self:
        for one in self.extended:
            start, end = self.at(one.start), self.at(one.end)
            if not start < end <= start + MOST_S:
                said = f"extended: end {one.end} is not after start {one.start}, by a year at most"
                raise ValueError(said)
        return self

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.slug

    @property
    def is_of_page(self) -> bool:
        """Whether it is about everything on its page."""
        return not (self.beats or self.groups or self.components)

    @property
    def length_s(self) -> float:
        """How long it lasts each time."""
        if self.duration is not None:
            return self.duration
        assert self.end is not None
        return self.at(self.end) - self.at(self.start)

    def at(self, moment: datetime) -> float:
        """`moment` in seconds since the epoch; without an offset it is in `timezone`.

        Of a time that comes twice it is the first; one that the clocks skip is as long after the gap.
        """
        return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(self.timezone))).timestamp()

    def about(self, home: str) -> set[Key]:
        """What it covers as a window of the page `home`: whatever has one of these `keys`."""
        if self.is_of_page:
            return {("page", home, "")}
        named = ("beat", self.beats), ("group", self.groups), ("component", self.components)
        return {(kind, *_parted(path, home)) for kind, paths in named for path in paths}

    def spans(self, since: float, until: float) -> list[Span]:
        """(start, end) of each time it takes place that touches `since` to `until`, in order, none touching another."""
        return [*self._spans(since, until)]

    def next(self, now: float) -> Span | None:
        """The time of it that runs at `now`, else the next; None if it is over for good."""
        soon = max(now, self.at(self.start)) + 1
        for until in (soon, soon + 366 * LOOK_YEARS * DAY_S):
            if found := next(self._spans(now, until), None):
                return found
        return None

    def _spans(self, since: float, until: float) -> Iterator[Span]:
        held: Span | None = None
        length_s, ended = self.length_s, sorted(self.at(moment) for moment in self.ended)
        longer = {self.at(one.start): self.at(one.end) for one in self.extended}
        most_s = max((length_s, *(end - start for start, end in longer.items())))
        for start in self._starts(since - most_s, until):
            cut = bisect_left(ended, start)
            end = min((max(longer.get(start, start), start + length_s), *ended[cut : cut + 1]))
            if held and start <= held[1]:  # by a day that the clocks make shorter
                held = (held[0], max(end, held[1]))
            elif start < min(end, until) and end > since:
                if held:
                    yield held
                held = (start, end)
        if held:
            yield held

    def _starts(self, since: float, until: float) -> Iterator[float]:
        begin = self.at(self.start)
        if self.rrule is None:
            yield begin
            return
        first = self._local
        clock = first.time().replace(fold=0)  # of a start in the second of two hours: only that one is
        a, b = (datetime.fromtimestamp(at, first.tzinfo).date() for at in (since, until))
        for day in self._recurrence.days(a - timedelta(1), b + timedelta(1)):
            if day not in self.except_:
                yield max(begin, self.at(datetime.combine(day, clock)))

    @property
    def _local(self) -> datetime:
        """`start` by the clocks of `timezone`."""
        zone = ZoneInfo(self.timezone)
        return self.start.astimezone(zone) if self.start.tzinfo else self.start.replace(tzinfo=zone)

    @property
    def _recurrence(self) -> Recurrence:
        assert self.rrule is not None
        return recurrence(self.rrule, self._local.replace(tzinfo=None), self.timezone)


def keys(kind: str, page: str, slug: str, group: str | None, components: Iterable[str]) -> set[Key]:
    """By what a window may be about this object of `page`; `components` are what it feeds."""
    found: set[Key] = {("page", page, ""), (kind, page, slug)}
    if kind == "beat" and group is not None:
        found.add(("group", page, group))
    return found | {("component", *_parted(path, page)) for path in components}


def _parted(path: str, page: str) -> tuple[str, str]:
    """Page and slug of what something of `page` names."""
    home, _, slug = path.rpartition("/")
    return home or page, slug
