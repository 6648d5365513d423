"""The slack_bot channel as operators write it."""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from rules.channels.channel import ChannelRule
from rules.slack import ChannelId

BOT_TOKEN: Final = "${{secret:/slack.{}}}"  # noqa: S105 - a reference
"""The reference to the token of a workspace's bot."""


class SlackBotChannel(ChannelRule):
    """A Slack channel through the installation's app: threads, messages that stay true, buttons."""

    type: Literal["slack_bot"] = Field(description="The kind of channel.")
    workspace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,79}$")] = Field(
        description="A connected workspace: its id such as T0123ABCD, or its name in small letters with hyphens."
    )
    channel: ChannelId = Field(description="Its id, such as C0123ABCD; the bot is invited to it.")
