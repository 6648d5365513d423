"""Publishers as operators write them: the kinds there are. A new kind is a module in `rules.publishers` and a line here and in `upbeat.targets`."""

from pydantic import TypeAdapter

from rules.publishers.webhook import WebhookPublisher

AnyPublisher = WebhookPublisher
Publisher = AnyPublisher
PUBLISHER: TypeAdapter[AnyPublisher] = TypeAdapter(Publisher)
