"""What people copy to show a page's state elsewhere: badges, a frame, feeds. Texts; nothing is shown here."""

from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from api.status.previews import FEEDS, keyed
from api.status.view import Place

_BADGE: Final = Markup('<a href="{}"><img src="{}" alt="{}" height="20"></a>')
_FRAME: Final = Markup(
    '<iframe src="{}" title="{}" width="100%" height="{}" loading="lazy" style="border:0"></iframe>'
)


@dataclass(frozen=True, slots=True)
class Snippet:
    """One text to copy."""

    slug: str
    name: str
    text: str


def snippets(place: Place, name: str) -> list[Snippet]:
    """Those of the page called `name`. Where it is not public they carry its proof."""
    badge, said = keyed(place, place.url("badge.svg")), f"Status of {name}"
    mark = said.replace("[", "(").replace("]", ")")  # ends no link
    return [
        Snippet("widget", "Badge that leads to the page, HTML", str(_BADGE.format(place.url(), badge, said))),
        Snippet("readme", "Badge for a README, Markdown", f"[![{mark}]({badge})]({place.url()})"),
        Snippet("png", "Badge as PNG, where no SVG is shown", keyed(place, place.url("badge.png"))),
        Snippet("embed", "The page in a frame", _framed(place, "embed", said, 420)),
        Snippet("line", "One line in a frame", _framed(place, "widget", said, 40)),
        *(Snippet(path.replace(".", "-"), title, keyed(place, place.url(path))) for path, _, title in FEEDS),
    ]


def _framed(place: Place, path: str, title: str, height: int) -> str:
    return str(_FRAME.format(keyed(place, place.url(path)), title, height))
