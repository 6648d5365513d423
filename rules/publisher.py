"""Publishers as operators write them: the kinds there are. A new kind is a module in `rules.publishers` and a line here and in `upbeat.publishers`."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from rules.publishers.statuspage import StatuspagePublisher
from rules.publishers.webhook import WebhookPublisher

AnyPublisher = (
    StatuspagePublisher  # one a line, by the alphabet
    | WebhookPublisher
)
Publisher = Annotated[AnyPublisher, Field(discriminator="type")]
PUBLISHER: TypeAdapter[AnyPublisher] = TypeAdapter(Publisher)
