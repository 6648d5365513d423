"""The webhook publisher: every step of an incident as JSON by POST, signed by Standard Webhooks. At least once, with a stable id."""

import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from msgspec.structs import replace

from evaluators.model import Post
from exporters.answer import send
from exporters.channels.webhook import signed
from exporters.channels.words import time_of
from exporters.outcome import FIRST, Call, Delivered, Memory, Outcome, Report
from rules.channels.webhook import signing_key


class WebhookPublisher:
    """Tells one URL. `secret` is a `whsec_` one; without it the same headers are sent, unsigned."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        secret: str | None = None,
        *,
        public_url: str = "",
        notify: bool = True,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._session, self._url, self._now_s = session, url, now_s
        self._public_url, self._notify = public_url, notify
        self._key = signing_key(secret) if secret else None

    async def export(self, post: Post, _: Memory = FIRST) -> Outcome:
        """POST this step once. The id and body of every try are the same, its timestamp and signature are not."""
        now_s = self._now_s()
        body = json.dumps(self._payload(post), separators=(",", ":")).encode()
        headers = signed(self._key, post.id, int(now_s), body)
        return await send(self._session, self._url, body, headers, now_s=now_s)

    async def rehearse(self, post: Post, _: Memory = FIRST) -> Report:
        """The one request of this step."""
        return Report(Delivered(), (), post.title, post.text, (Call("POST", "", self._payload(post)),))

    async def check(self) -> Report:
        """Nothing can be asked there."""
        return Report(Delivered(), ("a webhook can only be told; nothing was sent",))

    async def differences(self, _: Post, __: Memory) -> Report:
        """Nothing can be asked there."""
        return await self.check()

    def _payload(self, post: Post) -> dict[str, Any]:
        return payload(replace(post, notify=post.notify and self._notify), self._public_url)


def payload(post: Post, public_url: str = "") -> dict[str, Any]:
    """The JSON of a step: every field always there, absent ones null, times RFC 3339 in UTC."""
    names = [name for name in post.__struct_fields__ if name != "others"]
    data: dict[str, Any] = msgspec.to_builtins({name: getattr(post, name) for name in names})
    times = {name: time_of(data[name]) for name in ("at", "began_at", "starts_at", "ends_at")}
    url = f"{public_url}/p/{post.page}" if public_url else None
    return {
        "type": f"{post.kind}.{post.step}",
        "timestamp": times["at"],
        "data": data | times | {"url": url},
    }
