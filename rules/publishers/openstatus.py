"""The openstatus publisher as operators write it."""

from typing import ClassVar, Literal

from pydantic import Field

from rules.channels.channel import HttpUrl, Secret
from rules.publishers.publisher import PublisherRule, RemoteId


class OpenStatusPublisher(PublisherRule):
    """A status page of OpenStatus."""

    title_limit: ClassVar[int] = 256
    shows_markdown: ClassVar[bool] = True

    type: Literal["openstatus"] = Field(description="The kind of publisher.")
    key: Secret = Field(description="An API key with the scope `write`; best `${env:NAME}`.")
    page_id: RemoteId = Field(description="The id of the page there.")
    url: HttpUrl = Field(
        default="https://api.openstatus.dev/rpc", description="The API, where it is another one."
    )
