"""The shapes of templates in JSON."""

from typing import Literal

from msgspec import Struct

from api.shown_actions import ShownSaying
from rules.wording import Variant


class ShownVariables(Struct):
    """What templates may name, and the filters there are, each with what it is."""

    variables: dict[str, str]
    filters: dict[str, str]


class ShownPreset(Struct):
    """Words that are there to be taken; `use`: the step that they are for."""

    slug: str
    name: str
    use: Variant
    title: str | None
    text: str


class ShownWords(Struct):
    """A step in words. `title_of`, `text_of`: whose template says so (`trigger`, `beat`, `group`, `page`), or `default`."""

    step: Variant
    title: str
    text: str
    html: str  # safe to be shown
    is_markdown: bool
    title_of: str
    text_of: str
    warnings: list[str]
    targets: list[ShownSaying]


class ShownRendering(Struct):
    """Every step in words, of what was last seen; `is_sample`: nothing was, so that evidence and time are made up."""

    is_sample: bool
    owner: str
    owner_kind: Literal["beat", "group"]
    episode: str | None
    severity: Literal["warning", "critical"]
    steps: list[ShownWords]
