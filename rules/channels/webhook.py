"""The webhook channel as operators write it."""

import base64
import binascii
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rules.channels.channel import ChannelRule, HttpUrl
from rules.secret import references


class WebhookChannel(ChannelRule):
    """POSTs JSON, signed by Standard Webhooks when it has a secret."""

    type: Literal["webhook"] = Field(description="The kind of channel.")
    digest_over: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="More news than that within a minute leave together, as one message; programs get each by itself.",
    )
    url: HttpUrl = Field(description="Where JSON is posted; may be `${env:NAME}`.")
    secret: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="`whsec_` and base64 of 24 to 64 bytes, or `${env:NAME}`."
    )
    payload: Literal["upbeat", "openstatus", "betterstack"] = Field(
        default="upbeat", description="Whose JSON is sent; the others leave out what theirs cannot say."
    )

    @model_validator(mode="after")
    def _secret_is_one(self) -> Self:
        if self.secret and not any(references(self.secret)):
            signing_key(self.secret)
        return self


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
