"""What every channel has: a name, a page, and what it is told. Where that goes is each kind's."""

import re
from typing import Annotated, ClassVar, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from rules.duration import Duration
from rules.secret import REFERENCE
from rules.shape import Name, Rule, Slug, Tag
from rules.zone import zone_name

Told = Literal[
    "open",
    "change",
    "recovery",
    "unknown",
    "flapping",
    "advisory",
    "region",
    "draft",
    "acknowledged",
    "comment",
    "assigned",
    "snoozed",
    "reminder",
    "escalation",
    "incident",
    "silence",
    "delivery",
    "beat",
]
"""
open, change, recovery, unknown, flapping, advisory, region: what beats, groups and regions do. draft: something waits for review.
acknowledged, comment, assigned, snoozed, escalation: what people do with an episode. reminder: nobody took it yet.
incident: customers were told something. silence: they were not, for too long. delivery: a target has not got something.
beat: one was created, changed, paused, resumed or deleted.
"""
ALL_TOLD: tuple[Told, ...] = get_args(Told)
TOLD_AT_FIRST: tuple[Told, ...] = tuple(told for told in ALL_TOLD if told != "beat")
DIGEST_OVER: Final = 10
HttpUrl = Annotated[
    str, StringConstraints(pattern=rf"^(https?://[^\s/?#]+\S*|{REFERENCE}\S*)$", max_length=2000)
]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""A key or password of an outside system, best as `${env:NAME}`."""

SECRET_FIELDS: Final = frozenset({"url", "urls", "secret", "password", "key", "token"})
"""Fields of a channel or publisher that only who may edit it is shown."""


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)


def _clock(text: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError(f"{text!r} is no time of day; write one from 00:00 to 23:59")
    return text


Clock = Annotated[str, AfterValidator(_clock)]


class Hours(Rule):
    """When a channel may be told: from a time of day until another, which is the next day's where it is not later."""

    timezone: Annotated[str, AfterValidator(zone_name)] = Field(
        default="UTC", description="Whose clocks count, such as Europe/Berlin."
    )
    days: list[Day] = Field(default=list(DAYS), min_length=1, description="On which it begins.")
    from_: Clock = Field(alias="from", description="When it begins, such as `08:00`.")
    to: Clock = Field(description="When it ends.")
    outside: Literal["hold", "drop"] = Field(
        default="hold",
        description="What comes of news at other times: told when the hours begin, unless it is over by then, or never told.",
    )

    @model_validator(mode="after")
    def _is_no_whole_week(self) -> Self:
        if self.from_ == self.to and set(self.days) == set(DAYS):
            raise ValueError(f"from {self.from_} to {self.to} on every day is always; leave hours: out")
        return self


class ChannelRule(Rule):
    """A channel of any kind."""

    pairs: ClassVar[bool] = False
    """Whether an alert opened there must be ended there: of those in a digest only that one is."""

    slug: Slug = Field(description="Its name in references; unique per page.")
    name: Name | None = Field(default=None, description="Shown to people; the slug when not given.")
    page: Slug | None = Field(
        default=None, description="Slug of its home page; optional while there is one page."
    )
    enabled: bool = Field(default=True, description="Whether it is told anything.")
    on: list[Told] = Field(default=list(TOLD_AT_FIRST), description="Which news it is told.")
    everything: bool = Field(
        default=False, description="Whether it is told of everything on its page, named by it or not."
    )
    severities: list[Literal["warning", "critical"]] = Field(
        default=["warning", "critical"], min_length=1, description="How bad it must be."
    )
    beats: list[Slug] = Field(
        default=[], max_length=500, description="Only news of these beats of its page, or of what follows."
    )
    groups: list[Slug] = Field(
        default=[], max_length=500, description="Only news of these groups and their members."
    )
    tags: list[Tag] = Field(default=[], max_length=50, description="Only news of what has one of these tags.")
    hours: Hours | None = Field(default=None, description="When it may be told; always when not given.")
    after: Duration | None = Field(
        default=None,
        gt=0,
        le=86400.0,
        description="Escalation: it is told of an opening when nobody acknowledged it for so long.",
    )
    remind: Duration | None = Field(
        default=None,
        ge=60.0,
        le=7 * 86400.0,
        description="How often it is told again while nobody acknowledges it.",
    )
    digest_over: int | None = Field(
        default=DIGEST_OVER,
        ge=1,
        le=1000,
        description="More news than that within a minute leave together, as one message; null: each by itself.",
    )

    @property
    def is_particular(self) -> bool:
        """Whether what it is told of an episode depends on whether it was told that it began."""
        return bool(self.after or self.hours or set(self.severities) != {"warning", "critical"})
