"""How an inbox verifies that a delivery is its sender's: an HMAC over the raw body, by preset or spelt out. Verifying is `api.ingest`'s."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rules.duration import Duration
from rules.shape import Rule

Preset = Literal["github", "stripe", "slack", "pagerduty", "sentry", "grafana", "standard-webhooks"]


class Signature(Rule):
    """`signature:` of an inbox: deliveries without a valid one are refused."""

    preset: Preset | None = Field(
        default=None, description="Of a known sender; else `header` and what follows."
    )
    secrets: list[Annotated[str, StringConstraints(min_length=1, max_length=500)]] = Field(
        min_length=1,
        max_length=5,
        description="Keys of which one must fit, best as `${env:NAME}` or `${secret:NAME}`.",
    )
    tolerance: Duration = Field(
        default=300.0, ge=1, le=86400, description="How old or new a signed time may be, where there is one."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.preset is None:
            raise ValueError("signature needs a preset")
        return self
