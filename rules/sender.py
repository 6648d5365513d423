"""Presets of well-known senders, as data in `rules/senders/*.yaml`: how an event of theirs is told, and a draft of a trigger. Telling is `evaluators.guess`."""

from functools import cache
from importlib.resources import files
from typing import Any, Final, Self

from pydantic import Field, model_validator

from rules.condition import Conditions
from rules.node import read
from rules.shape import Rule, Slug
from rules.signature import Preset
from rules.trigger import Target, Trigger

SURE: Final = 10
"""What all clues of a sender weigh together where they leave no doubt."""


class Clue(Rule):
    """Something that speaks for a sender."""

    weight: int = Field(ge=1, le=SURE, description="How much; all clues of a sender have ten at most.")
    when: Conditions = Field(description="What an event of it has.")


class Sender(Rule):
    """A system that is known to post events, and what to make of them."""

    slug: Slug = Field(description="Its name; that of its file.")
    title: str = Field(min_length=1, max_length=80, description="What people call it.")
    docs: str = Field(pattern=r"^https://\S+$", description="Where its maker says what it posts.")
    help: str = Field(min_length=1, max_length=500, description="Where the URL or the token is pasted there.")
    body: str = Field(
        default="", max_length=2000, description="What is pasted where it lets one write the body."
    )
    signature: Preset | None = Field(default=None, description="How it signs, where it does.")
    detect: list[Clue] = Field(min_length=1, max_length=10)
    trigger: dict[str, Any] = Field(description="A trigger, but for slug, inbox and target.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if sum(clue.weight for clue in self.detect) > SURE:
            raise ValueError(f"the clues weigh more than {SURE} together")
        trigger_of(self, slug="draft", inbox="inbox", target=Target(external="draft"))
        return self


def trigger_of(sender: Sender, *, slug: str, inbox: str, target: Target) -> Trigger:
    """The preset's trigger. It is not enabled, and all that it proposes is drafts."""
    about = {"slug": slug, "inbox": inbox, "target": target.model_dump(exclude_none=True)}
    return Trigger.model_validate({**sender.trigger, **about})


@cache
def senders() -> tuple[Sender, ...]:
    """Every preset, by title. The first call reads the files, for about 0.2 s: not on the event loop."""
    found = [
        Sender.model_validate(
            {"slug": name.removesuffix(".yaml"), **read(file.read_text("utf-8"), name)[0].plain()}
        )
        for file in files("rules").joinpath("senders").iterdir()
        if (name := file.name).endswith(".yaml")
    ]
    return tuple(sorted(found, key=lambda sender: sender.title.lower()))
