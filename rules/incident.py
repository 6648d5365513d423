"""Incident policy: what Upbeat may say in public by itself, step by step."""

from typing import Literal

from pydantic import Field

from rules.shape import Rule

Step = Literal["open", "update", "resolve"]
Mode = Literal["off", "draft", "auto"]


class IncidentPolicy(Rule):
    """`incidents:` of a beat: `off` says nothing, `draft` waits for a person, `auto` is approved by policy."""

    open: Mode = Field(default="draft", description="A new incident.")
    update: Mode = Field(default="draft", description="A change of severity or components.")
    resolve: Mode = Field(default="auto", description="The end, after recovery.")
