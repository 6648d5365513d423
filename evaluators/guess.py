"""Which sender an event is from, by the clues of `rules.sender`. A guess is shown to people and decides nothing."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from msgspec import Struct

from evaluators.event import Document
from evaluators.matching import Matcher
from rules.sender import SURE, Sender, senders
from rules.trigger import Trigger

LEAST: Final = 0.5
"""The share of a sender's clues that must hold for it to be guessed."""
_NOTHING: Final[Mapping[str, str]] = {}


class Guess(Struct, frozen=True):
    """A sender, and how sure that is, up to 1."""

    sender: str
    title: str
    score: float


def guesses(document: Document) -> list[Guess]:
    """The senders that `document` may be from, the likeliest first."""
    found = []
    for sender, clues in _clues():
        held = sum(weight for weight, matcher in clues if _holds(matcher, document))
        share = held / sum(weight for weight, _ in clues)
        if share >= LEAST:
            found.append((share * held, Guess(sender.slug, sender.title, held / SURE)))
    return [guess for _, guess in sorted(found, key=lambda one: (-one[0], one[1].sender))]


def _holds(matcher: Matcher, document: Document) -> bool:
    items = matcher.match(document, 0.0, lambda _: _NOTHING).items
    return bool(items) and items[0].says is not None


@cache
def _clues() -> tuple[tuple[Sender, tuple[tuple[int, Matcher], ...]], ...]:
    return tuple(
        (sender, tuple((clue.weight, _matcher(sender, clue.when)) for clue in sender.detect))
        for sender in senders()
    )


def _matcher(sender: Sender, when: Any) -> Matcher:
    """A trigger that is critical where the clue holds: conditions are judged in one place only."""
    unwrap = sender.trigger.get("unwrap", [])
    about = {"slug": "clue", "inbox": "inbox", "target": {"external": "clue"}, "fingerprint": "single"}
    return Matcher(Trigger.model_validate({**about, "unwrap": unwrap, "critical": when, "expires": 60}))
