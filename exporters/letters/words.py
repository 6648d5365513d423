"""What a letter says to people, in their language: shared by mail and Slack. How it looks there is theirs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from evaluators.model import Envelope
from exporters.channels.words import line
from rules import markdown
from rules.language import Language, language


def speech(envelope: Envelope) -> Language:
    """The language it is in."""
    return language(envelope.language)


def status(envelope: Envelope) -> str:
    """What an update said of its incident: a word, or nothing."""
    return speech(envelope).say(f"said_{said}") if (said := envelope.letter.status) else ""


def heading(envelope: Envelope) -> str:
    """What it is about, on one line."""
    say, letter = speech(envelope).say, envelope.letter
    if letter.kind in ("confirm", "entrance"):
        return say(f"letter_{letter.kind}", page=line(envelope.page))
    return line(letter.title)


def text(envelope: Envelope) -> str:
    """Its words as plain text, each line without control characters."""
    say, letter = speech(envelope).say, envelope.letter
    if letter.kind in ("confirm", "entrance"):
        said = say(f"letter_{letter.kind}_text", page=line(envelope.page))
    else:
        said = markdown.plain(letter.text) if letter.is_markdown else letter.text
    return "\n".join(map(line, said.splitlines()))


def facts(envelope: Envelope) -> Iterator[str]:
    """When maintenance is, and how each component is, a line each."""
    speaks, letter = speech(envelope), envelope.letter
    if letter.starts_at is not None and letter.ends_at is not None:
        start, end = (moment(envelope, at) for at in (letter.starts_at, letter.ends_at))
        yield speaks.say("letter_window", start=start, end=end)
    for name, how in letter.components.items():
        yield f"{line(name)}: {speaks.say(f'status_{how}')}"


def moment(envelope: Envelope, at: float) -> str:
    """`at` (seconds since the epoch) in the page's time zone."""
    return speech(envelope).moment(datetime.fromtimestamp(at, UTC), ZoneInfo(envelope.timezone))


def leads(envelope: Envelope) -> str:
    """What its link is called."""
    kind = envelope.letter.kind
    return speech(envelope).say("letter_open" if kind in ("update", "message") else f"letter_{kind}_open")
