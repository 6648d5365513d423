"""The instatus publisher as operators write it."""

from typing import ClassVar, Literal

from pydantic import Field

from rules.channels.channel import HttpUrl, Secret
from rules.publishers.publisher import PublisherRule, RemoteId


class InstatusPublisher(PublisherRule):
    """A page of Instatus."""

    shows_markdown: ClassVar[bool] = True

    type: Literal["instatus"] = Field(description="The kind of publisher.")
    key: Secret = Field(description="An API key of a user who may edit the page; best `${env:NAME}`.")
    page_id: RemoteId = Field(description="The id of the page there.")
    url: HttpUrl = Field(default="https://api.instatus.com", description="The API, where it is another one.")
