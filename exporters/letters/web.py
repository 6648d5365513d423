"""Letters by HTTP: JSON for a subscriber's webhook, signed by Standard Webhooks, or a message for a Slack incoming webhook."""

import time
from collections.abc import Callable
from html import escape
from typing import Any, Final

import aiohttp
from msgspec import to_builtins

from evaluators.model import Envelope
from exporters.answer import encoded, send
from exporters.channels.slack import CODES, MAX_SECTION, escaped, header, mrkdwn, of_blocks
from exporters.channels.webhook import signed
from exporters.channels.words import time_of
from exporters.letters.words import facts, heading, leads, speech, status, text
from exporters.outcome import Outcome

VERSION: Final = 1
_TYPES: Final = {"message": "message", "confirm": "subscription.confirm"}
_FIELDS: Final = ("id", "title", "text", "is_markdown", "incident", "impact", "components")


class WebExporter:
    """Tells one URL at a time, each its own; follows no redirect and reads no answer."""

    def __init__(self, session: aiohttp.ClientSession, now_s: Callable[[], float] = time.time) -> None:
        self._session, self._now_s = session, now_s

    async def export(self, envelope: Envelope) -> Outcome:
        """POST it once. Id and body of every try are the same, timestamp and signature are not."""
        now_s = self._now_s()
        if envelope.kind == "slack":
            return await send(self._session, envelope.to, message(envelope), now_s=now_s, codes=CODES)
        body = encoded(payload(envelope))
        headers = signed(envelope.secret or None, envelope.key, int(now_s), body)
        return await send(self._session, envelope.to, body, headers, now_s=now_s)


def payload(envelope: Envelope) -> dict[str, Any]:
    """The JSON of a letter: every field always there, times RFC 3339 in UTC."""
    letter = envelope.letter
    data = {name: to_builtins(getattr(letter, name)) for name in _FIELDS}
    data |= {name: time_of(getattr(letter, name)) for name in ("at", "began_at", "starts_at", "ends_at")}
    data |= {
        "status": letter.status or None,
        "page": {"name": envelope.page, "url": envelope.page_url},
        "url": envelope.link,
        "manage_url": envelope.manage_url,
        "unsubscribe_url": envelope.unsubscribe_url,
    }
    kind = _TYPES.get(letter.kind, f"{letter.of}.update")
    return {"version": VERSION, "type": kind, "timestamp": data["at"], "data": data}


def message(envelope: Envelope) -> dict[str, Any]:
    """The Slack message: nothing in it can mention anybody, all data is escaped and taken literally."""
    say, said = speech(envelope).say, status(envelope)
    title = f"{heading(envelope)}: {said}" if said else heading(envelope)
    blocks = [header(title)]
    for words in (text(envelope), "\n".join(facts(envelope))):
        blocks += [{"type": "section", "text": mrkdwn(escaped(words, MAX_SECTION))}] if words.strip() else []
    ends = [(envelope.link, leads(envelope)), (envelope.manage_url, say("letter_manage"))]
    links = [
        f"<{escape(url.replace('|', '%7C'), quote=False)}|{escaped(name, 100)}>" for url, name in ends if url
    ]
    about = [escaped(envelope.page, 200), *links]
    blocks.append({"type": "context", "elements": [mrkdwn(" · ".join(about))]})
    return of_blocks(escaped(f"{envelope.page}: {title}", MAX_SECTION), blocks)
