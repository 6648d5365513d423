"""The statuspage publisher as operators write it."""

from typing import ClassVar, Literal

from pydantic import Field

from rules.channels.channel import HttpUrl, Secret
from rules.publishers.publisher import PublisherRule, RemoteId


class StatuspagePublisher(PublisherRule):
    """A page of Atlassian Statuspage."""

    title_limit: ClassVar[int] = 255

    type: Literal["statuspage"] = Field(description="The kind of publisher.")
    key: Secret = Field(description="An API key of the organisation; best `${env:NAME}`.")
    page_id: RemoteId = Field(description="The id of the page there.")
    url: HttpUrl = Field(
        default="https://api.statuspage.io/v1", description="The API, where it is another one."
    )
