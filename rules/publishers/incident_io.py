"""The incident_io publisher as operators write it."""

from typing import ClassVar, Literal

from pydantic import Field

from rules.channels.channel import HttpUrl, Secret
from rules.publishers.publisher import PublisherRule, RemoteId


class IncidentIoPublisher(PublisherRule):
    """A status page of incident.io."""

    text_limit: ClassVar[int] = 4096
    shows_markdown: ClassVar[bool] = True

    type: Literal["incident_io"] = Field(description="The kind of publisher.")
    key: Secret = Field(
        description="An API key that may create status page incidents, maintenance windows and publish updates; best `${env:NAME}`."
    )
    page_id: RemoteId = Field(description="The id of the page there.")
    url: HttpUrl = Field(default="https://api.incident.io", description="The API, where it is another one.")
