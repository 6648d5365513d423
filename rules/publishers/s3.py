"""The s3 publisher as operators write it."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from rules.channels.channel import HttpUrl, Secret
from rules.publishers.static import StaticPublisher

Bucket = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$")]
Prefix = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)*$", max_length=300)]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]


class S3Publisher(StaticPublisher):
    """The page as objects of a bucket: Amazon S3, or what speaks as it does."""

    type: Literal["s3"] = Field(description="The kind of publisher.")
    bucket: Bucket = Field(description="Its name.")
    prefix: Prefix = Field(
        default="", description="What keys begin with, such as `status/`. Nothing else may be there."
    )
    region: Region = Field(default="us-east-1", description="Of the bucket.")
    endpoint: HttpUrl | None = Field(
        default=None,
        description="The service, where it is not Amazon's, such as `https://minio.example:9000`.",
    )
    style: Literal["host", "path"] | None = Field(
        default=None,
        description="Where requests name the bucket; when not given in the host name at Amazon, elsewhere in the path.",
    )
    key_id: Secret = Field(description="The id of the access key.")
    secret: Secret = Field(description="The secret of the access key; best `${env:NAME}`.")
    index: bool = Field(
        default=True,
        description="Whether links name `index.html`; buckets that are served as a website do not need it.",
    )
