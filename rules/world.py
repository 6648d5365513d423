"""The world that `upbeat simulate` makes up: how often targets and regions fail, for how long, how slow answers are. It draws nothing."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rules.duration import Duration
from rules.shape import Rule

MOST_BEATS = 100
MONTH_S = 30 * 86400.0
Positive = Annotated[Duration, Field(gt=0, le=366 * 86400.0)]


class Spread(Rule):
    """A log-normal duration. One value alone is always that long."""

    median: Positive = Field(description="Half of them are shorter.")
    p95: Positive = Field(description="One in twenty is longer.")

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.p95 < self.median:
            raise ValueError("p95 is less than the median")
        return self


def _spread(value: object) -> object:
    return value if isinstance(value, dict | Spread) else {"median": value, "p95": value}


SpreadRule = Annotated[Spread, BeforeValidator(_spread, json_schema_input_type=Duration | Spread)]
Rate = Annotated[float, Field(gt=0, le=100_000)]


class Outage(Rule):
    """Something goes wrong, over and over."""

    per_month: Rate = Field(
        description="How many in 30 days, on average: of each beat, group or region, or all beats."
    )
    lasts: SpreadRule = Field(default=Spread(median=600.0, p95=3600.0), description="How long each lasts.")
    kind: Literal["refused", "error", "hanging", "silent"] = Field(
        default="error",
        description="The target refuses, answers with an error, or not at all; or there are no results.",
    )
    of: Literal["beat", "group", "all", "region"] = Field(
        default="beat",
        description="What fails together, and what depends on it with it. `region`: nothing is wrong with the targets, "
        "but runs in one region fail.",
    )
    share: float = Field(default=1.0, gt=0, le=1, description="Of the beats, those a fault of a region hits.")
    where: Literal["all", "one"] = Field(
        default="all", description="Seen from all regions, or from one, drawn for each outage."
    )


class World(Rule):
    """What is simulated, beside the policy. The same seed gives the same world to every policy."""

    time: Duration = Field(default=90 * 86400.0, ge=3600.0, le=3660 * 86400.0, description="Virtual time.")
    beats: int = Field(default=20, ge=1, le=MOST_BEATS, description="Beats, where the policy declares none.")
    regions: int = Field(default=3, ge=1, le=20, description="Regions, where the policy declares none.")
    failures: float = Field(
        default=0.005,
        ge=0,
        le=0.5,
        description="Share of runs that fail, after retries, though nothing is wrong.",
    )
    latency: SpreadRule = Field(default=Spread(median=0.2, p95=1.0), description="How long an answer takes.")
    outages: list[Outage] = Field(default=[Outage(per_month=1)], max_length=20, description="What fails.")
    seed: int = Field(default=1, description="Of all that is drawn.")
