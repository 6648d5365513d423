"""What every publisher has: a name, a page, and what its components are called elsewhere. Where incidents are posted is each kind's."""

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, StringConstraints

from rules.owner import ComponentPath
from rules.shape import Name, Rule, Slug

RemoteId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s/?#]+$")]
"""What another system calls something of its own."""


def _listed(value: object) -> object:
    return (
        {path: [ids] if isinstance(ids, str) else ids for path, ids in value.items()}
        if isinstance(value, dict)
        else value
    )


class PublisherRule(Rule):
    """Where the incidents of its page are posted, besides the page itself."""

    title_limit: ClassVar[int] = 200
    text_limit: ClassVar[int] = 25_000
    """Characters that it takes; more are cut."""
    shows_markdown: ClassVar[bool] = False
    """Else it is sent plain text."""
    is_always_told: ClassVar[bool] = False
    """Whether its subscribers are told of everything: nobody can be left out, so what is entered afterwards is not posted."""
    takes_all: ClassVar[bool] = False
    """Whether it is told everything as it is: no limits, and no ids of its own."""

    slug: Slug = Field(description="Its name in references; unique per page.")
    name: Name | None = Field(default=None, description="Shown to people; the slug when not given.")
    page: Slug | None = Field(
        default=None, description="Slug of its home page; optional while there is one page."
    )
    enabled: bool = Field(default=True, description="Whether anything is posted there.")
    components: Annotated[
        dict[ComponentPath, list[RemoteId]],
        BeforeValidator(_listed, json_schema_input_type=dict[ComponentPath, RemoteId | list[RemoteId]]),
    ] = Field(
        default={},
        max_length=500,
        description="Components of the page, and what each is called there: one id or several. Others are left out there.",
    )
    notify: bool = Field(
        default=True, description="Whether subscribers there are told what subscribers here are."
    )
    maintenance: bool = Field(default=True, description="Whether maintenance is posted there, too.")

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.slug
