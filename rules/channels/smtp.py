"""The smtp channel as operators write it."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from rules.channels.channel import ChannelRule, Mailbox


class SmtpChannel(ChannelRule):
    """E-mail through a relay."""

    type: Literal["smtp"] = Field(description="The kind of channel.")
    host: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^\S+$")] = Field(
        description="The relay."
    )
    port: int = Field(default=587, ge=1, le=65535, description="Of the relay.")
    tls: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="`starttls` refuses to go on without it; `none` is for a relay on this host.",
    )
    username: str | None = Field(default=None, max_length=200, description="For the relay, with `password`.")
    password: str | None = Field(default=None, max_length=500, description="Best as `${env:NAME}`.")
    sender: Mailbox = Field(description="The From address.")
    to: list[Mailbox] = Field(min_length=1, max_length=50, description="Who is told.")
