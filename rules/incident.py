"""Incident policy: what Upbeat may say in public by itself, step by step; and how people review the rest."""

from typing import Literal

from pydantic import Field

from rules.duration import Duration
from rules.quorum import DurationOrOff
from rules.shape import Rule

Step = Literal["open", "update", "resolve"]
Mode = Literal["off", "draft", "auto"]


class IncidentPolicy(Rule):
    """`incidents:` of a beat: `off` says nothing, `draft` waits for a person, `auto` is approved by policy."""

    open: Mode = Field(default="draft", description="A new incident.")
    update: Mode = Field(default="draft", description="A change of severity or components.")
    resolve: Mode = Field(default="auto", description="The end, after recovery.")


class Review(Rule):
    """`review:` of a page: who must say yes to what customers are told, and what comes of drafts that nobody decides."""

    approvals: Literal[1, 2] = Field(
        default=1,
        description="How many people must approve the same revision, of drafts and of incidents by hand. Who wrote or edited it may be one of two.",
    )
    escalate_after: DurationOrOff = Field(
        default=900.0,
        ge=60,
        description="Once a draft waits for so long, its channels are told again, then after twice as long and so on; `off` never.",
    )
    expire_after: Duration = Field(
        default=86400.0,
        ge=60,
        le=366 * 86400.0,
        description="So long a draft waits whose episode is over, or that has none. While its episode is open it waits.",
    )
