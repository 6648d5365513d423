"""Channels: where operators are told."""

import base64
import binascii
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from rules.secret import REFERENCE, references
from rules.shape import Name, Rule, Slug

Told = Literal["open", "change", "recovery", "unknown", "flapping", "advisory", "region", "draft"]
ALL_TOLD: tuple[Told, ...] = get_args(Told)
HttpUrl = Annotated[
    str, StringConstraints(pattern=rf"^(https?://[^\s/?#]+\S*|{REFERENCE}\S*)$", max_length=2000)
]
Mailbox = Annotated[str, StringConstraints(pattern=r"^[^\s@<>,;\r\n]+@[^\s@<>,;\r\n]+$", max_length=254)]


class _Channel(Rule):
    slug: Slug = Field(description="Its name in references; unique per page.")
    name: Name | None = Field(default=None, description="Shown to people; the slug when not given.")
    page: Slug | None = Field(
        default=None, description="Slug of its home page; optional while there is one page."
    )
    enabled: bool = Field(default=True, description="Whether it is told anything.")
    on: list[Told] = Field(default=list(ALL_TOLD), description="Which news it is told.")


class WebhookChannel(_Channel):
    """POSTs JSON, signed by Standard Webhooks when it has a secret."""

    type: Literal["webhook"] = Field(description="The kind of channel.")
    url: HttpUrl = Field(description="Where JSON is posted; may be `${env:NAME}`.")
    secret: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="`whsec_` and base64 of 24 to 64 bytes, or `${env:NAME}`."
    )

    @model_validator(mode="after")
    def _secret_is_one(self) -> Self:
        if self.secret and not any(references(self.secret)):
            signing_key(self.secret)
        return self


class SlackChannel(_Channel):
    """A Slack incoming webhook."""

    type: Literal["slack"] = Field(description="The kind of channel.")
    url: HttpUrl = Field(description="The incoming webhook's URL; may be `${env:NAME}`.")


class SmtpChannel(_Channel):
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


Channel = Annotated[WebhookChannel | SlackChannel | SmtpChannel, Field(discriminator="type")]
CHANNEL: TypeAdapter[WebhookChannel | SlackChannel | SmtpChannel] = TypeAdapter(Channel)

SECRET_FIELDS = frozenset({"url", "secret", "password"})
"""Fields of a channel that only who may edit it is shown."""


def signing_key(secret: str) -> bytes:
    """The key bytes of a Standard Webhooks secret. Raises `ValueError` for anything else.

    Source: https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("a webhook secret is `whsec_` followed by base64 of 24 to 64 bytes")
    return key
