"""The grafana_oncall channel as operators write it."""

from typing import ClassVar, Literal

from pydantic import Field

from rules.channels.channel import ChannelRule, HttpUrl


class GrafanaOncallChannel(ChannelRule):
    """An integration of the type Formatted Webhook of Grafana OnCall or IRM."""

    pairs: ClassVar[bool] = True

    type: Literal["grafana_oncall"] = Field(description="The kind of channel.")
    url: HttpUrl = Field(description="The integration's URL; may be `${env:NAME}`.")
