"""The opsgenie channel as operators write it."""

from typing import ClassVar, Literal

from pydantic import Field

from rules.channels.channel import ChannelRule, HttpUrl, Secret


class OpsgenieChannel(ChannelRule):
    """An API integration of Opsgenie, or of Jira Service Management, which speaks the same."""

    pairs: ClassVar[bool] = True

    type: Literal["opsgenie"] = Field(description="The kind of channel.")
    key: Secret = Field(description="The integration's API key, best as `${env:NAME}`.")
    region: Literal["us", "eu"] = Field(default="us", description="Where the account is.")
    url: HttpUrl | None = Field(
        default=None,
        description="Where `/v2/alerts` is, for Jira Service Management; Opsgenie's own when not given.",
    )
