"""Which element of a page is meant: Playwright's locators as operators write them. Finding it is the browser's part."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from rules.problem import nearest
from rules.shape import Rule, expect_one

BY: Final = ("role", "label", "text", "test_id", "placeholder", "alt", "title", "css")
_ARIA_ROLES: Final = (  # WAI-ARIA 1.2
    "alert alertdialog application article banner blockquote button caption cell checkbox code columnheader combobox "
    "complementary contentinfo definition deletion dialog directory document emphasis feed figure form generic grid "
    "gridcell group heading img insertion link list listbox listitem log main marquee math menu menubar menuitem "
    "menuitemcheckbox menuitemradio meter navigation none note option paragraph presentation progressbar radio "
    "radiogroup region row rowgroup rowheader scrollbar search searchbox separator slider spinbutton status strong "
    "subscript superscript switch tab table tablist tabpanel term textbox time timer toolbar tooltip tree treegrid "
    "treeitem"
)
ROLES: Final = frozenset(_ARIA_ROLES.split())

Words = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


def _role(role: str) -> str:
    if role not in ROLES:
        raise ValueError(
            f"{role!r} is no ARIA role{nearest(role, ROLES) or '; write button, link, textbox, ...'}"
        )
    return role


class Locator(Rule):
    """One way to find an element, as a person would where that is possible; it must be exactly one, or `nth` says which."""

    role: Annotated[str, AfterValidator(_role)] | None = Field(
        default=None, description="ARIA role, such as button, link or textbox."
    )
    name: Words | None = Field(default=None, description="Accessible name of the element of that `role`.")
    label: Words | None = Field(default=None, description="Text of the form field's label.")
    text: Words | None = Field(default=None, description="Text that it shows.")
    test_id: Words | None = Field(default=None, description="Value of its `test_id_attribute`.")
    placeholder: Words | None = Field(default=None, description="Placeholder of the form field.")
    alt: Words | None = Field(default=None, description="Text instead of the picture.")
    title: Words | None = Field(default=None, description="Its title.")
    css: Words | None = Field(default=None, description="CSS selector; it reaches into open shadow roots.")
    exact: bool = Field(default=False, description="Whole text in its case; else a part of it in any case.")
    has_text: Words | None = Field(
        default=None, description="Only where this text is somewhere in it, in any case."
    )
    nth: int | None = Field(
        default=None, ge=-1000, le=1000, description="Which of several, from 0; -1 is the last."
    )
    inside: "At | None" = Field(default=None, description="Only in the element that this finds.")
    frame: Words | None = Field(
        default=None,
        description="CSS selector of the iframe that it is in; that one is `inside`, where both are.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        expect_one("a locator", BY, [by for by in BY if getattr(self, by) is not None])
        if self.name is not None and self.role is None:
            raise ValueError("name belongs to `role`; write label, text or title for others")
        if self.exact and (self.css or self.test_id or (self.role and not self.name)):
            raise ValueError("exact is of a text: name, label, text, placeholder, alt or title")
        return self

    def words(self) -> Iterator[str]:
        """What it is called."""
        yield from filter(None, (self.name, *(getattr(self, by) for by in BY)))

    def __str__(self) -> str:
        """As people read it: `button "Buy now"`."""
        by = next(by for by in BY if getattr(self, by) is not None)
        what = self.role or f'{by.replace("_", " ")} "{getattr(self, by)}"'
        return "".join(
            (
                f'{what} "{self.name}"' if self.name else what,
                f' with "{self.has_text}"' if self.has_text else "",
                "" if self.nth is None else f" number {self.nth}",
                f" in frame {self.frame}" if self.frame else "",
                f" inside {self.inside}" if self.inside else "",
            )
        )


def short_for(key: str) -> Callable[[Any], Any]:
    """Reads a bare text or number as a mapping with it at `key`."""
    return lambda given: {key: given} if isinstance(given, str | int | float) else given


At = Annotated[Locator, BeforeValidator(short_for("text"), json_schema_input_type=Words | Locator)]
"""A locator; text alone is short for `text`."""
Locator.model_rebuild()
