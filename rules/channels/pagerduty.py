"""The pagerduty channel as operators write it."""

from typing import ClassVar, Literal

from pydantic import Field

from rules.channels.channel import ChannelRule, HttpUrl, Secret


class PagerdutyChannel(ChannelRule):
    """A service of PagerDuty, by its Events API v2."""

    pairs: ClassVar[bool] = True

    type: Literal["pagerduty"] = Field(description="The kind of channel.")
    key: Secret = Field(description="The integration (routing) key, best as `${env:NAME}`.")
    region: Literal["us", "eu"] = Field(default="us", description="Where the account is.")
    url: HttpUrl | None = Field(
        default=None,
        description="Of another system that speaks the Events API v2; PagerDuty's own when not given.",
    )
