"""The folder publisher as operators write it."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from rules.publishers.static import StaticPublisher

Folder = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*[^\x00/]$", max_length=1000)]


class FolderPublisher(StaticPublisher):
    """The page as files in a folder of the machine that has the exporter role."""

    type: Literal["folder"] = Field(description="The kind of publisher.")
    folder: Folder = Field(
        description="Its absolute path. It is made where it is not there, and has to be empty before the first time."
    )
