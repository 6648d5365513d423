"""Inboxes: where other systems post what they know. A token opens one; tokens are no part of what is declared."""

from pydantic import Field

from rules.assertion import HeaderName
from rules.component import Network
from rules.duration import Duration
from rules.shape import Named, Tag
from rules.signature import Signature
from rules.size import Size
from rules.trigger import Path


class Inbox(Named):
    """An ingest endpoint: everything that is posted with its token is kept, whatever it is."""

    enabled: bool = Field(default=True, description="Whether it takes anything; false answers 403.")
    tags: list[Tag] = Field(default=[], max_length=50, description="For filters.")
    signature: Signature | None = Field(
        default=None, description="Deliveries without a valid one are refused."
    )
    allow: list[Network] = Field(
        default=[],
        max_length=200,
        description="Addresses and networks it takes from; all when there are none.",
    )
    max_size: Size = Field(default=256_000, ge=1000, le=1_000_000, description="Of one body.")
    rate_limit: int = Field(
        default=6000, ge=1, le=10_000_000, description="Deliveries a minute; more are answered 429."
    )
    delivery_id: list[HeaderName] = Field(
        default=[],
        max_length=5,
        description="Headers that name a delivery, besides the well-known ones; the same name and body again is a repeat.",
    )
    same_body: Duration | None = Field(
        default=None,
        ge=1,
        le=86400,
        description="The same body again within this is a repeat too: no event, but seen as far as silence and absence go.",
    )
    redact: list[Path] = Field(
        default=[],
        max_length=50,
        description="JSONPaths of the body that people are never shown, besides what looks secret.",
    )
