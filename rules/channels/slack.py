"""The slack channel as operators write it."""

from typing import Literal

from pydantic import Field

from rules.channels.channel import ChannelRule, HttpUrl


class SlackChannel(ChannelRule):
    """A Slack incoming webhook."""

    type: Literal["slack"] = Field(description="The kind of channel.")
    url: HttpUrl = Field(description="The incoming webhook's URL; may be `${env:NAME}`.")
