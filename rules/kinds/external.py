"""The `external` beat: no schedule and no probe; other systems say what it is, by reports and triggers."""

from typing import Literal

from pydantic import Field

from rules.kinds.kind import BeatRule


class ExternalBeat(BeatRule):
    """What is known from elsewhere: ok until somebody reports otherwise."""

    waits_for = "reports about it"

    type: Literal["external"] = Field(description="The kind of beat.")

    @property
    def target(self) -> str:
        """What is awaited."""
        return "reports of others"
