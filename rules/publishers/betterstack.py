"""The betterstack publisher as operators write it."""

from typing import Literal

from pydantic import Field

from rules.channels.channel import HttpUrl, Secret
from rules.publishers.publisher import PublisherRule, RemoteId


class BetterStackPublisher(PublisherRule):
    """A status page of Better Stack."""

    type: Literal["betterstack"] = Field(description="The kind of publisher.")
    key: Secret = Field(description="A token of the team; best `${env:NAME}`.")
    page_id: RemoteId = Field(description="The id of the page there.")
    url: HttpUrl = Field(
        default="https://uptime.betterstack.com/api/v2", description="The API, where it is another one."
    )
