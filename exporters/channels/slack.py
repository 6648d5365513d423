"""The Slack channel: Block Kit through an incoming webhook, which can neither edit nor thread what it posted.

Limits and error words are those of https://api.slack.com/messaging/webhooks and https://api.slack.com/reference/block-kit/blocks.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp

from evaluators.model import Notice
from exporters.answer import post
from exporters.outcome import FIRST, Memory, Outcome

MAX_BLOCKS = 50
MAX_HEADER = 150
MAX_SECTION = 3000
_MARKS = {"open": "🔴", "change": "🟠", "recovery": "🟢", "unknown": "⚪", "draft": "📝"}
_CODES = frozenset(
    (
        "action_prohibited",
        "channel_is_archived",
        "channel_not_found",
        "invalid_blocks",
        "invalid_payload",
        "invalid_token",
        "no_service",
        "no_team",
        "no_text",
        "rollup_error",
        "team_disabled",
        "user_not_found",
    )
)


class SlackExporter:
    """Tells the Slack channel behind one incoming webhook URL."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, now_s: Callable[[], float] = time.time
    ) -> None:
        self._session, self._url, self._now_s = session, url, now_s

    async def export(self, notice: Notice, _: Memory = FIRST) -> Outcome:
        """POST `notice` once. Slack has no idempotency key: a lost answer means a second message."""
        body = json.dumps(payload(notice)).encode()
        headers = {"Content-Type": "application/json"}
        return await post(self._session, self._url, body, headers, now_s=self._now_s(), codes=_CODES)


def payload(notice: Notice, buttons: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The message of a notice. Nothing in it can mention anybody: all data is escaped and taken literally."""
    title = f"{_MARKS.get(notice.told, '🔔')} {notice.title}"
    heading = fitted(" ".join(title.split()), MAX_HEADER, {})
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": heading, "emoji": False}}
    ]
    blocks += [_section(text) for text in _sections(notice.why, MAX_BLOCKS - 2 - bool(buttons))]
    if about := _about(notice):
        blocks.append({"type": "context", "elements": [mrkdwn(about)]})
    if buttons:
        blocks.append({"type": "actions", "elements": list(buttons)})
    return {
        "text": escaped(title, MAX_SECTION),
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _about(notice: Notice) -> str:
    """The line under the message: beat, group, page, stage and a link."""
    change = f"{notice.was} → {notice.stage}" if notice.was and notice.stage else notice.stage
    who = (notice.beat_title or notice.beat, notice.group_title or notice.group, notice.page)
    said = [escaped(str(word), 200) for word in (*who, change) if word]
    if notice.link and notice.link.startswith(("https://", "http://")) and len(notice.link) < 2000:
        target = notice.link.replace("|", "%7C").replace(" ", "%20")
        said.append(f"<{escaped(target, MAX_SECTION)}|Open in Upbeat>")
    return " · ".join(said)


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": mrkdwn(text)}


def mrkdwn(text: str) -> dict[str, Any]:
    """A text object of what is escaped already."""
    # verbatim: Slack turns no name, channel or address in the data into a mention or a link
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _sections(lines: Iterable[str], limit: int) -> list[str]:
    """Escaped lines packed into at most `limit` texts of `MAX_SECTION` characters; the last says when more were left out."""
    packed: list[str] = []
    for line in lines:
        text = escaped(line, MAX_SECTION)
        if not text:
            continue
        if packed and len(packed[-1]) + 1 + len(text) <= MAX_SECTION:
            packed[-1] += "\n" + text
        else:
            packed.append(text)
    return packed if len(packed) <= limit else [*packed[: limit - 1], "… and more: see Upbeat"]


def escaped(text: str, limit: int) -> str:
    """`text` with & < > as Slack asks, in at most `limit` characters, never cut inside an entity."""
    return fitted(text.strip(), limit, {"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def fitted(text: str, limit: int, entities: Mapping[str, str]) -> str:
    """`text` in at most `limit` UTF-16 units, with some characters replaced."""
    fitted: list[str] = []
    size = 0
    for character in text:
        piece = entities.get(character, character)
        size += len(piece) + (character > "\uffff")  # UTF-16 units: whoever counts otherwise counts fewer
        if size > limit - 1:
            return "".join(fitted) + "…"
        fitted.append(piece)
    return "".join(fitted)
