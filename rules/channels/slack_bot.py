"""The slack_bot channel as operators write it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from rules.channels.channel import ChannelRule
from rules.slack import ChannelId


class SlackBotChannel(ChannelRule):
    """A Slack channel through the installation's app: threads, messages that stay true, buttons."""

    type: Literal["slack_bot"] = Field(description="The kind of channel.")
    workspace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,79}$")] = Field(
        description="A connected workspace: its id such as T0123ABCD, or its name in small letters with hyphens."
    )
    channel: ChannelId = Field(description="Its id, such as C0123ABCD; the bot is invited to it.")


def bot_token(spec: Mapping[str, Any]) -> str:
    """The reference to the token with which a slack_bot channel is told; nothing for others."""
    return f"${{secret:/slack.{spec['workspace']}}}" if spec.get("type") == "slack_bot" else ""
