"""Pictures of pages, and links into them, as the API shows them. Values only."""

from msgspec import Struct

from rules.page import PictureUse


class ShownPicture(Struct):
    """A picture as it is served now: made anew of what was uploaded."""

    name: PictureUse
    file: str
    media_type: str
    size_bytes: int


class ShownLink(Struct):
    """A link into a page that is not public."""

    link: str
