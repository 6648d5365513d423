"""The slack_bot channel as operators write it."""

from typing import Final, Literal

from pydantic import Field

from rules.channels.channel import ChannelRule
from rules.slack import ChannelId, TeamId

BOT_TOKEN: Final = "${{secret:/slack.{}}}"  # noqa: S105 - a reference
"""The reference to the token of a workspace's bot."""


class SlackBotChannel(ChannelRule):
    """A Slack channel through the installation's app: threads, messages that stay true, buttons."""

    type: Literal["slack_bot"] = Field(description="The kind of channel.")
    workspace: TeamId = Field(description="The id of a connected workspace, such as T0123ABCD.")
    channel: ChannelId = Field(description="Its id, such as C0123ABCD; the bot is invited to it.")
