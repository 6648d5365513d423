"""The Slack channel: Block Kit through an incoming webhook, which can neither edit nor thread what it posted.

Limits and error words are those of https://api.slack.com/messaging/webhooks and https://api.slack.com/reference/block-kit/blocks.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from evaluators.model import Notice
from exporters.channels.words import MORE, body, facts, fitted, heading, link, utf16

MAX_BLOCKS = 50
MAX_HEADER = 150
MAX_SECTION = 3000
CODES: Final = re.compile(
    r"action_prohibited|channel_is_archived|channel_not_found|invalid_blocks|invalid_payload|invalid_token|no_service"
    r"|no_team|no_text|rollup_error|team_disabled|user_not_found"
)
"""What it says is wrong."""


def payload(notice: Notice, buttons: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The message of a notice. Nothing in it can mention anybody: all data is escaped and taken literally."""
    blocks = [header(heading(notice))]
    blocks += [
        {"type": "section", "text": mrkdwn(text)}
        for text in _sections(body(notice), MAX_BLOCKS - 2 - bool(buttons))
    ]
    about = [escaped(value, 200) for _, value in facts(notice)]
    if where := link(notice):
        about.append(f"<{escape(where.replace('|', '%7C'), quote=False)}|Open in Upbeat>")
    if about:
        blocks.append({"type": "context", "elements": [mrkdwn(" · ".join(about))]})
    if buttons:
        blocks.append({"type": "actions", "elements": list(buttons)})
    return of_blocks(escaped(heading(notice), MAX_SECTION), blocks)


def header(text: str) -> dict[str, Any]:
    """The block on top, of plain text."""
    said = fitted(text, MAX_HEADER)
    return {"type": "header", "text": {"type": "plain_text", "text": said, "emoji": False}}


def mrkdwn(text: str) -> dict[str, Any]:
    """A text object of what is escaped already."""
    # verbatim: Slack turns no name, channel or address in the data into a mention or a link
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def of_blocks(text: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Blocks, and what is shown where they are not."""
    return {"text": text, "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def _sections(lines: Iterable[str], most: int) -> list[str]:
    """Escaped lines packed into at most `most` texts of `MAX_SECTION`; the last says when more were left out."""
    packed: list[str] = []
    for text in (escaped(line, MAX_SECTION) for line in lines):
        if packed and utf16(packed[-1]) + 1 + utf16(text) <= MAX_SECTION:
            packed[-1] += "\n" + text
        elif len(packed) == most:
            return [*packed[:-1], MORE]
        else:
            packed.append(text)
    return packed


def escaped(text: str, limit: int) -> str:
    """`text` with & < > as Slack asks, in at most `limit` UTF-16 units, never cut inside an entity."""
    return escape(fitted(text.strip(), limit, _cost), quote=False)


def _cost(text: str) -> int:
    return utf16(text) + 4 * text.count("&") + 3 * (text.count("<") + text.count(">"))
