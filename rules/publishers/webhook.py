"""The webhook publisher as operators write it."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rules.channels.channel import HttpUrl
from rules.channels.webhook import signing_key
from rules.publishers.publisher import PublisherRule
from rules.secret import references


class WebhookPublisher(PublisherRule):
    """POSTs every step of an incident as JSON, signed by Standard Webhooks when it has a secret."""

    takes_all: ClassVar[bool] = True

    type: Literal["webhook"] = Field(description="The kind of publisher.")
    url: HttpUrl = Field(description="Where JSON is posted; may be `${env:NAME}`.")
    secret: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="`whsec_` and base64 of 24 to 64 bytes, or `${env:NAME}`."
    )

    @model_validator(mode="after")
    def _secret_is_one(self) -> Self:
        if self.secret and not any(references(self.secret)):
            signing_key(self.secret)
        return self
