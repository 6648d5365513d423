"""The webhook channel: JSON by POST, signed by Standard Webhooks. It follows no redirect and shows no answer's text."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any, Literal

import aiohttp
import msgspec

from evaluators.model import Notice
from exporters.answer import encoded, send
from exporters.channels.payloads import betterstack, openstatus
from exporters.channels.words import time_of
from exporters.outcome import FIRST, Delivered, Memory, Outcome
from rules.channels.webhook import signing_key


class WebhookExporter:
    """Tells one URL. `secret` is a `whsec_` one; without it the same headers are sent, unsigned."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        secret: str | None = None,
        *,
        form: Literal["upbeat", "openstatus", "betterstack"] = "upbeat",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._session, self._url, self._form, self._now_s = session, url, form, now_s
        self._key = signing_key(secret) if secret else None

    async def export(self, notice: Notice, memory: Memory = FIRST) -> Outcome:
        """POST `notice` once. The id and body of every try are the same, its timestamp and signature are not."""
        document = self._document(notice, memory)
        if document is None:
            return Delivered()
        now_s, body = self._now_s(), encoded(document)
        headers = signed(self._key, notice.id, int(now_s), body)
        outcome = await send(self._session, self._url, body, headers, now_s=now_s)
        if self._form == "betterstack" and notice.told == "recovery" and isinstance(outcome, Delivered):
            return Delivered({"resolved": notice.episode})  # what comes of it again is reopened
        return outcome

    def _document(self, notice: Notice, memory: Memory) -> dict[str, Any] | None:
        if self._form == "openstatus":
            return openstatus(notice)
        return (
            betterstack(notice, memory.remote.get("resolved"))
            if self._form == "betterstack"
            else payload(notice)
        )


def payload(notice: Notice) -> dict[str, Any]:
    """The JSON of a notice: every field always there, absent ones null, times RFC 3339 in UTC."""
    fields = {name: getattr(notice, name) for name in notice.__struct_fields__}
    lists = {"why": list(notice.why), "tags": list(notice.tags)}
    times = {"at": time_of(notice.at), "since": time_of(notice.since)}
    data: dict[str, Any] = msgspec.to_builtins(fields) | lists | times
    kind = "group" if notice.group and not notice.beat else "beat"
    return {"type": f"{kind}.{notice.told}", "timestamp": data["at"], "data": data}


def signed(key: bytes | None, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The Standard Webhooks headers of `body`: HMAC-SHA256 over `id.timestamp.body`, when there is a key."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s)}
    if key is not None:
        digest = hmac.digest(key, f"{message_id}.{timestamp_s}.".encode() + body, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers
