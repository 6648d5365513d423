"""A mail relay as operators write it: of an smtp channel, or of the installation for what subscribers are sent."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from rules.shape import Rule

Mailbox = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,;\r\n]+@[^\s@<>,;\r\n]+$", max_length=254)]
Subject = Annotated[
    str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=200, strip_whitespace=True)
]


class RelayRule(Rule):
    """Where mail is handed over, and from whom it is."""

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


class Mail(RelayRule):
    """`mail:` of the installation: how subscribers of pages are mailed, and links that let in."""

    connections: int = Field(default=8, ge=1, le=64, description="To the relay at once.")
    per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Mails a minute at most, where the relay has a limit."
    )
