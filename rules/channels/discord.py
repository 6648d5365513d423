"""The discord channel as operators write it."""

from typing import Literal

from pydantic import Field

from rules.channels.channel import ChannelRule, HttpUrl


class DiscordChannel(ChannelRule):
    """A webhook of a Discord channel."""

    type: Literal["discord"] = Field(description="The kind of channel.")
    url: HttpUrl = Field(description="The webhook's URL; may be `${env:NAME}`.")
    forum: bool = Field(
        default=False,
        description="Whether it is of a forum: an episode is then a post there, and what follows its replies.",
    )
