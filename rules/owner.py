"""What beats and groups have in common: a name and a page, who is told, what customers are shown, what it depends on."""

from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from rules.component import Impact
from rules.episode import Episodes
from rules.incident import IncidentPolicy
from rules.shape import Named, Rule, Slug, Tag
from rules.wording import Templates

_SLUG: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
ComponentPath = Annotated[str, StringConstraints(pattern=rf"^({_SLUG}/)?{_SLUG}$")]
"""A component's slug, or page/slug for one of another page."""
ParentPath = Annotated[str, StringConstraints(pattern=rf"^(group:)?({_SLUG}/)?{_SLUG}$")]
"""A beat's slug, or group:slug; page/slug and group:page/slug for those of another page."""


class ComponentImpact(Rule):
    """What a component is shown as while an approved incident of its owner is open."""

    warning: Impact = Field(default="degraded_performance", description="While it is a warning.")
    critical: Impact = Field(default="major_outage", description="While it is critical.")


def _impacts(value: object) -> object:
    if isinstance(value, list):
        for item in value:
            if not isinstance(item, str):
                said = f"{item!r} is not a component; write its slug, or page/slug"
                raise ValueError(said)  # noqa: TRY004  # pydantic reports no TypeError
        return {item: {} for item in value}
    return value


def _once(paths: list[str]) -> list[str]:
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"depends_on names {path!r} twice")
    return paths


class OwnerRule(Named):
    """What may own episodes: a beat or a group."""

    slug: Slug = Field(description="Its name in URLs, metrics and references; unique per page and kind.")
    enabled: bool = Field(default=True, description="Whether it runs; false pauses it.")
    tags: list[Tag] = Field(default=[], max_length=50, description="For filters and metrics.")
    incidents: IncidentPolicy = Field(
        default=IncidentPolicy(), description="What may be said in public by itself."
    )
    components: Annotated[
        dict[ComponentPath, ComponentImpact],
        BeforeValidator(
            _impacts, json_schema_input_type=dict[ComponentPath, ComponentImpact] | list[ComponentPath]
        ),
    ] = Field(
        default={},
        max_length=100,
        description="What it feeds: slugs (page/slug of another page), alone or with what they are shown as.",
    )
    templates: Templates = Field(
        default=Templates(),
        description="What customers read, instead of what the page says, or the default words.",
    )
    channels: list[Slug] = Field(
        default=[], max_length=50, description="Slugs of the channels of its page that are told."
    )
    episodes: Episodes = Field(default=Episodes(), description="Hold times and flap control of its episodes.")
    depends_on: Annotated[list[ParentPath], AfterValidator(_once)] = Field(
        default=[],
        max_length=20,
        description="Beats, and groups as group:slug, without which it cannot work: while one is critical, nothing opens here.",
    )
