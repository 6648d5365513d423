"""Maintenance windows: when something is worked on, once or again and again. What a window suppresses is `evaluators`' to say."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from rules.duration import Duration
from rules.owner import ComponentPath
from rules.shape import Name, Rule, Slug, Text
from rules.zone import zone_name


class Maintenance(Rule):
    """A maintenance window of a page, or of some of its components, groups and beats."""

    slug: Slug = Field(description="Its name in references; unique per page.")
    name: Name | None = Field(default=None, description="What people call it; the slug when not given.")
    page: Slug | None = Field(
        default=None, description="Slug of its home page; optional while there is one page."
    )
    description: Text = Field(default="", description="What is done.")
    start: datetime = Field(
        description="When it begins (RFC 3339); without an offset, the time of the clocks in `timezone`."
    )
    end: datetime | None = Field(default=None, description="When it ends; this or `duration`.")
    duration: Duration | None = Field(
        default=None, gt=0, le=31 * 86400.0, description="How long it lasts; this or `end`."
    )
    timezone: Annotated[str, AfterValidator(zone_name)] = Field(
        default="UTC", description="Of times without an offset, and of the recurrence, such as Europe/Berlin."
    )
    rrule: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        default=None,
        description="When it comes again: an RFC 5545 recurrence rule such as FREQ=WEEKLY;BYDAY=SU, by the clocks of `timezone`.",
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
        if self.end is not None and self.at(self.end) <= self.at(self.start):
            raise ValueError(f"end {self.end} is not after start {self.start}")
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
        """`moment` in seconds since the epoch; without an offset it is in `timezone`."""
        return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(self.timezone))).timestamp()

    def covers(
        self, home: str, kind: str, page: str, slug: str, group: str | None, components: Iterable[str]
    ) -> bool:
        """Whether this window of the page `home` is about that object of `page`, which feeds (or is) these components."""
        if home == page:
            named = {"beat": self.beats, "group": self.groups}.get(kind, [])
            if self.is_of_page or slug in named or group in self.groups:
                return True
        fed = {_full(path, page) for path in components}
        return any(_full(path, home) in fed for path in self.components)

    def spans(self, since: float, until: float) -> list[tuple[float, float]]:
        """(start, end) of each time it takes place that touches `since` to `until`, in order; seconds since the epoch."""
        start = self.at(self.start)
        return [(start, start + self.length_s)] if start < until and start + self.length_s > since else []


def _full(path: str, page: str) -> str:
    return path if "/" in path else f"{page}/{path}"
