"""The teams channel as operators write it."""

from typing import Literal

from pydantic import Field

from rules.channels.channel import ChannelRule, HttpUrl


class TeamsChannel(ChannelRule):
    """A workflow of Microsoft Teams that posts what a webhook receives."""

    type: Literal["teams"] = Field(description="The kind of channel.")
    url: HttpUrl = Field(description="The workflow's URL; may be `${env:NAME}`.")
