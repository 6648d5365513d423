"""The one shape of everything an operator writes: frozen, unknown keys refused."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Rule(BaseModel):
    """A frozen model that refuses unknown keys, so that a typing mistake is an error and never a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, serialize_by_alias=True)


WRITTEN: Final = "written"
"""The context of a validation of what is just being written. What is stored was, and stays readable, whatever was allowed then."""

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""Lower-case letters, digits and inner hyphens, 1 to 63 characters: usable as a DNS label and in a URL."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(max_length=4000)]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,62}$")]


class Named(Rule):
    """What has a name in references, another for people, and a page that it is at home on."""

    slug: Slug = Field(description="Its name in URLs, metrics and references; unique per page.")
    name: Name | None = Field(default=None, description="Shown to people; the slug when not given.")
    page: Slug | None = Field(
        default=None, description="Slug of its home page; optional while there is one page."
    )
    description: Text = Field(default="", description="For operators.")

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.slug


def expect_one(called: str, of: Iterable[str], given: Sequence[str]) -> str:
    """The one key that is `given`. Raises `ValueError` for none and for several."""
    if len(given) != 1:
        said = f"{called} has exactly one of {', '.join(of)}"
        raise ValueError(f"{said}; this one has {', '.join(given) or 'none'}")
    return given[0]


def written(rule: BaseModel) -> dict[str, Any]:
    """`rule` as JSON without what is its default: how objects are stored, exported and compared."""
    spec: dict[str, Any] = rule.model_dump(mode="json", exclude_defaults=True)
    return spec


def spec_of(rule: BaseModel) -> dict[str, Any]:
    """What is stored of an object: as `written`, but without its page, which is a column."""
    spec = written(rule)
    spec.pop("page", None)
    return spec
