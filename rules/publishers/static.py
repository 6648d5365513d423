"""What publishers of a page as static files have in common: where it is read, and how often it is written anew."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from rules.duration import Duration
from rules.publishers.publisher import PublisherRule

EVERY_S: Final = 300.0
_ORIGIN: Final = r"https?://[^\s/?#@]+"
Origin = Annotated[str, StringConstraints(pattern=rf"^{_ORIGIN}$", max_length=300)]
NoOrigin = Annotated[str, StringConstraints(pattern=rf"^({_ORIGIN})?$", max_length=300)]
"""An `Origin`, or empty."""
Base = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._~-]+)*$", max_length=300)]


class StaticPublisher(PublisherRule):
    """Keeps the whole page, as files, where any web server shows it."""

    takes_all: ClassVar[bool] = True

    origin: Origin = Field(
        description="Scheme and host that it is read at, such as `https://status.example.com`: feeds carry it."
    )
    base: Base = Field(default="", description="The path there that leads to it, such as `/status`.")
    index: bool = Field(
        default=False,
        description="Whether links name `index.html`, for hosts that do not look for it in a folder.",
    )
    every: Duration = Field(
        default=EVERY_S,
        ge=30,
        le=86400,
        description="It is written anew at least so often; a change within seconds.",
    )
    public: bool = Field(
        default=False,
        description="Write a page that is not public all the same: whoever finds the files reads it.",
    )
    notify: Literal[False] = Field(default=False, description="Nobody is told by files.")
    maintenance: Literal[True] = Field(default=True, description="The page has it.")
    components: dict[str, list[str]] = Field(
        default={}, max_length=0, description="Nothing: they are what they are on the page."
    )
