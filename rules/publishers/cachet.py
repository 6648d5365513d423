"""The cachet publisher as operators write it: both APIs there are."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rules.channels.channel import HttpUrl, Secret
from rules.publishers.publisher import PublisherRule
from rules.zone import zone_name


class CachetPublisher(PublisherRule):
    """A Cachet."""

    title_limit: ClassVar[int] = 255
    shows_markdown: ClassVar[bool] = True

    type: Literal["cachet"] = Field(description="The kind of publisher.")
    url: HttpUrl = Field(description="Where it is reached, without `/api`.")
    key: Secret = Field(description="An API token; best `${env:NAME}`.")
    version: Literal[2, 3] = Field(default=3, description="Its major version: 2 (2.4) or 3.")
    timezone: Annotated[str, AfterValidator(zone_name)] = Field(
        default="UTC", description="What it is set to: its API says times without one."
    )

    @model_validator(mode="after")
    def _ids_are_numbers(self) -> Self:
        for path, ids in self.components.items():
            if wrong := [one for one in ids if not one.isascii() or not one.isdigit()]:
                raise ValueError(
                    f"components: {path}: {wrong[0]!r} is no component of a Cachet: those are numbers"
                )
        return self
