"""The statusapi publisher as operators write it."""

from typing import ClassVar, Literal

from pydantic import Field

from rules.channels.channel import HttpUrl, Secret
from rules.publishers.publisher import PublisherRule


class StatusApiPublisher(PublisherRule):
    """A status page with the small API `/api/v1/incidents`, `/incidents/updates`, `/incidents/resolve` and `/components/status`."""

    title_limit: ClassVar[int] = 120
    is_always_told: ClassVar[bool] = True

    type: Literal["statusapi"] = Field(description="The kind of publisher.")
    url: HttpUrl = Field(description="The API's base URL, without `/api/v1`.")
    key: Secret = Field(description="An API key of the page; best `${env:NAME}`.")
