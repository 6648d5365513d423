"""What `write-a-trigger.md` says of an event is what the rule beside it makes of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evaluators.event import Event, read
from evaluators.matching import Item, Matcher
from rules.config import Known, parse
from rules.trigger import Trigger

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-trigger.md"
RECEIVED_AT = 1_900_000_000.0
_PIECE = re.compile(r"^```(yaml|http)\n(.*?)^```$|^→ ([^\n]+)$", re.MULTILINE | re.DOTALL)
_SAID = re.compile(r"(critical|warning|recovery|ignored: \w+|error)(?:: )?(?: ?`([^`]+)`)?")


@dataclass(frozen=True, slots=True)
class Example:
    """An event, the trigger above it, and what the page says of it."""

    line: int
    trigger: Trigger
    posted: str
    said: str


def examples() -> Iterator[Example]:
    """Of several triggers in one block, each has its own arrow, in their order."""
    text, triggers, posted, nth = PAGE.read_text("utf-8"), list[Trigger](), "", 0
    for piece in _PIECE.finditer(text):
        line = text.count("\n", 0, piece.start()) + 1
        if piece[1] == "yaml":
            declared = parse(piece[2], f"{PAGE.name}:{line}", {}, Known())
            triggers = [one.spec for one in declared.objects if isinstance(one.spec, Trigger)]
        elif piece[1] == "http":
            posted, nth = piece[2], 0
        else:
            yield Example(line, triggers[nth], posted, piece[3])
            nth += 1


def items_of(example: Example) -> tuple[Item, ...]:
    head, _, body = example.posted.partition("\n\n")
    if head.startswith("{"):
        head, body = "Content-Type: application/json", example.posted
    headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in head.splitlines()))
    document = read(Event("evt_1", RECEIVED_AT, headers, "", body.strip().encode()))
    matched = Matcher(example.trigger).match(document, RECEIVED_AT, lambda _: {"$.position": "10"})
    assert matched.error == ""
    return matched.items


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: f"line {example.line}")
def test_what_the_page_says_of_an_event_is_so(example: Example) -> None:
    said = [_SAID.fullmatch(part) for part in example.said.split("; ")]
    items = items_of(example)
    assert len(items) == len(said)
    for item, found in zip(items, said, strict=True):
        assert found is not None, f"not understood: {example.said}"
        what, about = found[1], found[2]
        if what == "error":
            assert item.error.startswith(about)
        elif what.startswith("ignored: "):
            assert item.ignored == what.removeprefix("ignored: ")
        else:
            assert (item.says, item.fingerprint) == (what, about)
            if example.trigger.time is not None and "Z" in example.posted:
                assert item.at < RECEIVED_AT, "its time was not read"


def test_every_event_on_the_page_has_something_said_of_it() -> None:
    assert len(list(examples())) >= len(re.findall(r"^```http$", PAGE.read_text("utf-8"), re.MULTILINE)) > 20
