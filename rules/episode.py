"""How long an outage must last, or be over, before an episode says so: hold times, flap control. Not who decides that it is one."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from rules.duration import Duration
from rules.quorum import DurationOrOff, off
from rules.shape import Rule

Hold = Annotated[Duration, Field(le=7 * 86400.0)]


class Flapping(Rule):
    """Flap control: so many changes of the stage within so long are one notice, until it is quiet again."""

    changes: int = Field(
        default=6, ge=3, le=50, description="Changes between ok, warning and critical that begin it."
    )
    within: Duration = Field(default=3600.0, gt=0, le=7 * 86400.0, description="The time they come in.")
    quiet: Duration = Field(
        default=900.0,
        gt=0,
        le=7 * 86400.0,
        description="So long without a change ends it, wherever the stage is then.",
    )


class Episodes(Rule):
    """`episodes:` of a beat or group: hold times of what operators and customers are told. Measuring never waits."""

    worse_after: Hold = Field(
        default=0.0, description="So long critical before an open warning becomes critical."
    )
    better_after: Hold = Field(
        default=120.0, description="So long only warning before an open critical becomes a warning."
    )
    resolve_delay: Hold = Field(default=0.0, description="So long ok before the episode ends.")
    reopen_window: Hold = Field(
        default=0.0, description="Bad again so soon after its recovery, the same episode goes on."
    )
    inactivity: DurationOrOff = Field(
        default=None,
        gt=0,
        description="So long `unknown`, the episode ends as inactive, never as recovered; `off` waits for ever.",
    )
    flapping: Annotated[
        Flapping | None, BeforeValidator(off, json_schema_input_type=Flapping | Literal["off", False] | None)
    ] = Field(default=Flapping(), description="Flap control, or `off`.")
