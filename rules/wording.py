"""What operators write of words in public: templates per step, or the name of a preset. Compiling them is `rules.template`.

Presets are data, in `rules/presets.yaml`.
"""

from collections.abc import Collection, Iterator
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo

from rules.node import read
from rules.problem import nearest, show
from rules.shape import WRITTEN, Name, Rule, Slug
from rules.template import check

Format = Literal["plain", "markdown"]
Variant = Literal["open", "update", "reopened", "member", "resolve"]
"""A step, or a kind of update."""
VARIANTS: Final[tuple[Variant, ...]] = ("open", "update", "reopened", "member", "resolve")

MAX_PUBLISHED: Final = 200
"""Characters of a value from elsewhere that customers may be shown."""


def _template(source: str, info: ValidationInfo) -> str:
    if info.context == WRITTEN:
        check(source)
    return source


Template = Annotated[str, StringConstraints(min_length=1, max_length=8192), AfterValidator(_template)]


class Preset(Rule):
    """Words that are there to be taken."""

    slug: Slug
    name: Name = Field(description="What people call it.")
    use: Variant = Field(description="The step that it is for.")
    title: Template | None = None
    text: Template


@cache
def presets() -> dict[str, Preset]:
    """Every preset by its slug, in the order of the file."""
    written = read(files("rules").joinpath("presets.yaml").read_text("utf-8"), "presets.yaml")[0].plain()
    return {slug: Preset.model_validate({"slug": slug, **words}) for slug, words in written.items()}


def _preset(slug: str, info: ValidationInfo) -> str:
    if info.context == WRITTEN and slug not in presets():
        raise ValueError(
            f"{show(slug)} is no preset{nearest(slug, presets())}; there are: {', '.join(presets())}"
        )
    return slug


class Words(Rule):
    """What is said in one step. Variables and filters: docs/reference/templates.md."""

    preset: Annotated[str, AfterValidator(_preset)] | None = Field(
        default=None, description="Words that are there to be taken; what stands beside it goes before it."
    )
    title: Template | None = Field(
        default=None, description="Jinja2, one line of at most 200 characters: the incident is called so."
    )
    text: Template | None = Field(default=None, description="Jinja2: what customers read.")
    format: Format = Field(default="plain", description="Whether the text is Markdown.")

    @property
    def templates(self) -> tuple[str | None, str | None]:
        """Of title and text, those of the preset where it has none of its own."""
        preset = presets().get(self.preset) if self.preset else None
        if preset is None:
            return self.title, self.text
        return self.title or preset.title, self.text or preset.text


def _named(value: object) -> object:
    return {"preset": value} if isinstance(value, str) else value


_Words = Annotated[Words | None, BeforeValidator(_named, json_schema_input_type=str | Words | None)]


class Templates(Rule):
    """`templates:` of a page, beat, group or trigger: words per step, each the name of a preset or written here."""

    open: _Words = Field(
        default=None, description="A new incident; its title is that of every step without one."
    )
    update: _Words = Field(default=None, description="An update of any kind.")
    reopened: _Words = Field(default=None, description="Instead of `update`: it is bad again.")
    member: _Words = Field(default=None, description="Instead of `update`: another member of a group is bad.")
    resolve: _Words = Field(default=None, description="The end.")

    def of(self, variant: Variant) -> Iterator[Words]:
        """What is written of it, the nearest first."""
        wanted = (variant, "update") if variant in ("reopened", "member") else (variant,)
        yield from (words for name in wanted if (words := getattr(self, name)) is not None)

    def captures(self) -> frozenset[str]:
        """Names of the captures that are asked for."""
        from rules.template import check

        written = [words.templates for variant in VARIANTS for words in self.of(variant)]
        return frozenset(name for pair in written for source in pair if source for name in check(source))


def expect_among(where: str, names: Collection[str], known: Collection[str], called: str) -> None:
    """Raises `ValueError` for the first of `names` that is not `known`."""
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise ValueError(f"{where}: {name} is no {called}{nearest(name, known)}; there are: {there}")
