"""Which element of a page is meant: Playwright's locators as operators write them. Finding it is the browser's part."""

from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from rules.shape import Rule, expect_one

BY: Final = ("role", "label", "text", "test_id", "placeholder", "alt", "title", "css")

Words = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class Locator(Rule):
    """One way to find an element, as a person would where that is possible; it must be exactly one, or `nth` says which."""

    role: Annotated[str, StringConstraints(pattern=r"^[a-z]{3,20}$")] | None = Field(
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
    nth: int | None = Field(
        default=None, ge=-1000, le=1000, description="Which of several, from 0; -1 is the last."
    )
    inside: "At | None" = Field(default=None, description="Only in the element that this finds.")
    frame: Words | None = Field(default=None, description="CSS selector of the iframe that it is in.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        expect_one("a locator", BY, [by for by in BY if getattr(self, by) is not None])
        if self.name is not None and self.role is None:
            raise ValueError("name belongs to `role`; write label, text or title for others")
        if self.exact and (self.css or self.test_id):
            raise ValueError("exact is of texts; css and test_id are exact anyway")
        return self

    def __str__(self) -> str:
        """As people read it: `button "Buy now"`."""
        by = next(by for by in BY if getattr(self, by) is not None)
        what = (
            f'{self.role} "{self.name}"'
            if self.role and self.name
            else self.role or f'{by} "{getattr(self, by)}"'
        )
        which = "" if self.nth is None else f" number {self.nth}"
        where = f" inside {self.inside}" if self.inside else f" in frame {self.frame}" if self.frame else ""
        return what.replace("test_id", "test id") + which + where


def by_text(given: Any) -> Any:
    """Text alone, which is short for a locator of what shows it."""
    return {"text": given} if isinstance(given, str) else given


At = Annotated[Locator, BeforeValidator(by_text, json_schema_input_type=Words | Locator)]
"""A locator; text alone is short for `text`."""
Locator.model_rebuild()
