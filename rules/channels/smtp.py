"""The smtp channel as operators write it."""

from typing import Literal

from pydantic import Field

from rules.channels.channel import ChannelRule
from rules.mail import Mailbox, RelayRule


class SmtpChannel(ChannelRule, RelayRule):
    """E-mail through a relay."""

    type: Literal["smtp"] = Field(description="The kind of channel.")
    to: list[Mailbox] = Field(min_length=1, max_length=50, description="Who is told.")
