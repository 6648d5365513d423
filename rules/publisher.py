"""Publishers as operators write them: the kinds there are. A new kind is a module in `rules.publishers` and a line here and in `upbeat.publishers`."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from rules.publishers.betterstack import BetterStackPublisher
from rules.publishers.cachet import CachetPublisher
from rules.publishers.folder import FolderPublisher
from rules.publishers.incident_io import IncidentIoPublisher
from rules.publishers.instatus import InstatusPublisher
from rules.publishers.openstatus import OpenStatusPublisher
from rules.publishers.s3 import S3Publisher
from rules.publishers.statusapi import StatusApiPublisher
from rules.publishers.statuspage import StatuspagePublisher
from rules.publishers.webhook import WebhookPublisher

AnyPublisher = (
    BetterStackPublisher  # one a line, by the alphabet
    | CachetPublisher
    | FolderPublisher
    | IncidentIoPublisher
    | InstatusPublisher
    | OpenStatusPublisher
    | S3Publisher
    | StatusApiPublisher
    | StatuspagePublisher
    | WebhookPublisher
)
Publisher = Annotated[AnyPublisher, Field(discriminator="type")]
PUBLISHER: TypeAdapter[AnyPublisher] = TypeAdapter(Publisher)
