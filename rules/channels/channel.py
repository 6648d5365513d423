"""What every channel has: a name, a page, and what it is told. Where that goes is each kind's."""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field, StringConstraints

from rules.secret import REFERENCE
from rules.shape import Name, Rule, Slug

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
HttpUrl = Annotated[
    str, StringConstraints(pattern=rf"^(https?://[^\s/?#]+\S*|{REFERENCE}\S*)$", max_length=2000)
]
Mailbox = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,;\r\n]+@[^\s@<>,;\r\n]+$", max_length=254)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""A key or password of an outside system, best as `${env:NAME}`."""

SECRET_FIELDS: Final = frozenset({"url", "urls", "secret", "password", "key", "token"})
"""Fields of a channel or publisher that only who may edit it is shown."""


class ChannelRule(Rule):
    """A channel of any kind."""

    slug: Slug = Field(description="Its name in references; unique per page.")
    name: Name | None = Field(default=None, description="Shown to people; the slug when not given.")
    page: Slug | None = Field(
        default=None, description="Slug of its home page; optional while there is one page."
    )
    enabled: bool = Field(default=True, description="Whether it is told anything.")
    on: list[Told] = Field(default=list(TOLD_AT_FIRST), description="Which news it is told.")
