"""The Discord channel: embeds by a webhook. An episode's first message is kept as it stands now; in a forum the rest are its replies.

Limits and codes are those of https://discord.com/developers/docs/resources/webhook and .../topics/opcodes-and-status-codes.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import aiohttp

from evaluators.model import Notice
from exporters.answer import JSON, Answer, encoded, exchange, judge
from exporters.channels.words import body, facts, fitted, heading, level, link, packed
from exporters.outcome import FIRST, Delivered, Memory, Outcome, Rejected

MAX_TITLE, MAX_TEXT, MAX_VALUE, MAX_THREAD = 256, 3500, 300, 100
"""Of a text 4096 are allowed; of all texts together 6000."""
_COLOURS: Final = {"ok": 0x2E9E5B, "warning": 0xE0A100, "critical": 0xD43C3C}
_GONE_WEBHOOK, _GONE = 10015, (10003, 10008)  # unknown webhook; unknown channel and message
_STANDS: Final = ("open", "change", "recovery", "unknown", "flapping", "acknowledged")
_LINKABLE: Final = re.compile(r"https?://[^/?#:]+\.")  # a message with a link to localhost is refused
_MARKUP: Final = re.compile(r"([\\*_~`|<>\[\]()#\-])")


class DiscordExporter:
    """Tells the Discord channel behind one webhook URL."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        forum: bool = False,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._session, self._url, self._forum, self._now_s = session, url, forum, now_s

    async def export(self, notice: Notice, memory: Memory = FIRST) -> Outcome:
        """Say how the episode stands where it began, then tell `notice`. A lost answer means a second message."""
        story = notice.episode or notice.incident
        kept = memory.remote if story and memory.remote.get("story") == story else {}
        message, thread = kept.get("message"), kept.get("thread")
        document = payload(notice)
        if message and notice.told in _STANDS:
            outcome, code, _ = await self._ask("PATCH", document, f"/messages/{message}", thread_id=thread)
            if code in _GONE:  # removed there by hand: what follows begins anew
                message = thread = None
            elif not isinstance(outcome, Delivered):
                return outcome
        name = {"thread_name": fitted(heading(notice), MAX_THREAD)} if self._forum else {}
        outcome, code, made = await self._ask(
            "POST", document | ({} if thread else name), wait="true", thread_id=thread
        )
        if code in _GONE and thread:
            message = thread = None
            outcome, _, made = await self._ask("POST", document | name, wait="true")
        if not (isinstance(outcome, Delivered) and story and (first := message or made.get("id"))):
            return outcome
        there = thread or (made.get("channel_id") if self._forum else None)
        return Delivered({"story": story, "message": first, "thread": there})

    async def _ask(
        self, method: str, document: Any, path: str = "", **query: str | None
    ) -> tuple[Outcome, int | None, Mapping[str, Any]]:
        """What came of it, Discord's code of an error, and the message that is answered."""
        base, _, fixed = self._url.partition("?")
        asked = urlencode({**dict(parse_qsl(fixed)), **{key: one for key, one in query.items() if one}})
        url = f"{base.rstrip('/')}{path}?{asked}"
        answer = await exchange(self._session, method, url, encoded(document), JSON, most_bytes=1 << 16)
        if not isinstance(answer, Answer):
            return answer, None, {}
        said = answer.json()
        code = said.get("code") if answer.status >= 400 and isinstance(said.get("code"), int) else None
        wait = said.get("retry_after") if answer.status == 429 else None
        wait = str(wait) if isinstance(wait, int | float) else answer.retry_after
        outcome = judge(answer.status, wait, now_s=self._now_s(), code=f"code {code}" if code else "")
        if code == _GONE_WEBHOOK and isinstance(outcome, Rejected):
            outcome = Rejected(f"{outcome.reason}: the webhook is gone for good", for_good=True)
        return outcome, code, said


def payload(notice: Notice) -> dict[str, Any]:
    """The message of a notice. Nothing in it can mention anybody, link or format: all data is escaped."""
    embed: dict[str, Any] = {
        "title": fitted(_escaped(heading(notice)), MAX_TITLE),
        "description": "\n".join(packed(map(_escaped, body(notice)), MAX_TEXT)),
        "color": _COLOURS.get(level(notice), 0x808080),
        "fields": [
            {"name": name, "value": fitted(_escaped(value), MAX_VALUE), "inline": True}
            for name, value in facts(notice)
        ],
    }
    if (where := link(notice)) and _LINKABLE.match(where):
        embed["url"] = where
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text).replace("@", "@\u200b").replace("://", ":\u200b//")
