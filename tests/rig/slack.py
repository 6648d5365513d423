"""A Slack of our own: the methods that Upbeat and slack-sdk use, with Slack's own rules of tokens, channels, blocks and pace."""

import base64
import json
import re
import time
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN, TEAM, BOT = "xoxb-1-a-token-of-a-bot", "T0123ABCD", "U0BOT"
CLIENT = ("client.id", "client-secret")
READS = {
    "conversations.history",
    "conversations.replies",
    "users.info",
    "oauth.v2.access",
    "auth.revoke",
    "auth.test",
}
LIMITS = {"header": 150, "section": 3000, "button": 75}


class RefusedError(Exception):
    """`ok: false` with this word."""


@dataclass(slots=True)
class LocalSlack:
    """What is there, and what was asked."""

    url: str = ""
    tokens: dict[str, str] = field(default_factory=lambda: {TOKEN: TEAM})
    codes: dict[str, str] = field(default_factory=dict)  # code -> redirect_uri
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    triggers: set[str] = field(default_factory=set)
    said: list[dict[str, Any]] = field(default_factory=list)  # ephemeral, and at response URLs
    calls: list[str] = field(default_factory=list)
    refusals: list[tuple[str, Any]] = field(
        default_factory=list
    )  # (method, a word or seconds to wait), once each
    lost: int = 0  # so many answers of chat.postMessage get lost after it was posted
    _ts: int = field(default_factory=lambda: time.time_ns() // 1000)

    def add(self, channel: str, **about: Any) -> list[dict[str, Any]]:
        """A channel the bot is in; its messages."""
        self.channels[channel] = {"messages": [], "archived": False, "member": True} | about
        messages: list[dict[str, Any]] = self.channels[channel]["messages"]
        return messages

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One call of a method."""
        method = request.match_info["method"]
        self.calls.append(method)
        sent = await _arguments(request)
        for at, (named, how) in enumerate(self.refusals):
            if named == method:
                del self.refusals[at]
                if isinstance(how, int):
                    body = {"ok": False, "error": "ratelimited"}
                    return web.json_response(body, status=429, headers={"Retry-After": str(how)})
                return web.json_response({"ok": False, "error": how})
        if request.method == "GET" and method not in READS:
            return web.json_response({"ok": False, "error": "method_not_supported_for_channel_type"})
        try:
            handler = getattr(self, "_" + method.replace(".", "_").lower(), None)
            if handler is None:
                raise RefusedError("unknown_method")
            if method != "oauth.v2.access" and (token := _token(request, sent)) not in self.tokens:
                raise RefusedError("token_revoked" if token else "not_authed")
            found = handler(sent, request)
        except RefusedError as refused:
            return web.json_response({"ok": False, "error": str(refused)})
        if method == "chat.postMessage" and self.lost:
            self.lost -= 1
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"ok": True, **found})

    async def authorize(self, request: web.Request) -> web.Response:
        """Where an admin allows the app; this one does so at once."""
        query = request.query
        if query["client_id"] != CLIENT[0] or "chat:write" not in query["scope"].split(","):
            return web.Response(status=400)
        code = f"code-{len(self.calls)}"
        self.codes[code] = query["redirect_uri"]
        back = urllib.parse.urlencode({"code": code, "state": query["state"]})
        return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}?{back}"})

    async def hook(self, request: web.Request) -> web.Response:
        """A response URL."""
        self.said.append(await request.json())
        return web.Response(text="ok")

    def _auth_test(self, sent: dict[str, Any], request: web.Request) -> dict[str, Any]:
        return {"team_id": self.tokens[_token(request, sent)], "user_id": BOT}

    def _auth_revoke(self, sent: dict[str, Any], request: web.Request) -> dict[str, Any]:
        del self.tokens[_token(request, sent)]
        return {"revoked": True}

    def _oauth_v2_access(self, sent: dict[str, Any], request: web.Request) -> dict[str, Any]:
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        pair = tuple(base64.b64decode(given).decode().split(":", 1)) if given else None
        if (pair or (sent.get("client_id"), sent.get("client_secret"))) != CLIENT:
            raise RefusedError("bad_client_secret")
        if self.codes.pop(sent.get("code", ""), None) != sent.get("redirect_uri"):
            raise RefusedError("invalid_code")
        self.tokens[TOKEN] = TEAM
        team = {"id": TEAM, "name": "Acme & Sons"}
        return {
            "access_token": TOKEN,
            "token_type": "bot",
            "bot_user_id": BOT,
            "team": team,
            "enterprise": None,
        }

    def _chat_postmessage(self, sent: dict[str, Any], _: web.Request) -> dict[str, Any]:
        channel = self._channel(sent)
        _check(sent)
        thread = sent.get("thread_ts")
        if thread and all(one["ts"] != thread for one in channel["messages"]):
            raise RefusedError("thread_not_found")
        self._ts += 1
        message = {
            "ts": f"{self._ts // 10**6}.{self._ts % 10**6:06d}",
            "bot_id": "B0",
            "user": BOT,
            **_kept(sent),
        }
        channel["messages"].append(message)
        return {"channel": sent["channel"], "ts": message["ts"], "message": message}

    def _chat_update(self, sent: dict[str, Any], _: web.Request) -> dict[str, Any]:
        channel = self._channel(sent)
        _check(sent)
        for message in channel["messages"]:
            if message["ts"] == sent.get("ts"):
                message |= {name: sent[name] for name in ("text", "blocks") if name in sent}
                return {"channel": sent["channel"], "ts": message["ts"], "text": message["text"]}
        raise RefusedError("message_not_found")

    def _chat_postephemeral(self, sent: dict[str, Any], _: web.Request) -> dict[str, Any]:
        self._channel(sent)
        _check(sent)
        self.said.append(sent)
        return {"message_ts": "1.0"}

    def _views_open(self, sent: dict[str, Any], _: web.Request) -> dict[str, Any]:
        if sent.get("trigger_id") not in self.triggers:
            raise RefusedError("expired_trigger_id")
        self.triggers.discard(sent["trigger_id"])
        view = sent["view"]
        _check_view(view)
        self.views.append(view)
        return {"view": view | {"id": f"V{len(self.views)}"}}

    def _users_info(self, sent: dict[str, Any], _: web.Request) -> dict[str, Any]:
        return {"user": {"id": sent["user"], "name": "ada", "real_name": "Ada <Lovelace>"}}

    def _conversations_history(self, sent: dict[str, Any], _: web.Request) -> dict[str, Any]:
        roots = [one for one in self._channel(sent)["messages"] if one.get("thread_ts") in (None, one["ts"])]
        found = [one for one in reversed(roots) if float(one["ts"]) >= float(sent.get("oldest", 0))]
        return _paged(found, sent)

    def _conversations_replies(self, sent: dict[str, Any], _: web.Request) -> dict[str, Any]:
        ts = sent.get("ts")
        found = [one for one in self._channel(sent)["messages"] if ts in (one["ts"], one.get("thread_ts"))]
        if not found:
            raise RefusedError("thread_not_found")
        # Slack gives the parent whatever is asked for.
        return _paged(
            [one for one in found if one["ts"] == ts or float(one["ts"]) >= float(sent.get("oldest", 0))],
            sent,
        )

    def _channel(self, sent: dict[str, Any]) -> dict[str, Any]:
        channel = self.channels.get(sent.get("channel", ""))
        if channel is None:
            raise RefusedError("channel_not_found")
        if channel["archived"]:
            raise RefusedError("is_archived")
        if not channel["member"]:
            raise RefusedError("not_in_channel")
        return channel


async def _arguments(request: web.Request) -> dict[str, Any]:
    sent: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        if request.match_info["method"] in READS:  # of which Slack reads no JSON
            return sent
        return sent | (await request.json() if request.can_read_body else {})
    form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    for name in ("blocks", "metadata", "view"):
        if name in form:
            form[name] = json.loads(form[name])
    return sent | form


def _token(request: web.Request, sent: dict[str, Any]) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ") or str(sent.get("token", ""))


def _kept(sent: dict[str, Any]) -> dict[str, Any]:
    return {name: sent[name] for name in ("text", "blocks", "metadata", "thread_ts") if name in sent}


def _paged(found: list[dict[str, Any]], sent: dict[str, Any]) -> dict[str, Any]:
    begin, limit = int(sent.get("cursor") or 0), min(int(sent.get("limit", 100)), 999)
    after = str(begin + limit) if begin + limit < len(found) else ""
    shown = [dict(one) for one in found[begin : begin + limit]]
    if str(sent.get("include_all_metadata", "")).lower() not in ("true", "1"):
        for one in shown:
            one.pop("metadata", None)
    return {"messages": shown, "has_more": bool(after), "response_metadata": {"next_cursor": after}}


def _check(sent: dict[str, Any]) -> None:
    if not sent.get("text") and not sent.get("blocks"):
        raise RefusedError("no_text")
    if len(sent.get("text", "")) > 40_000:
        raise RefusedError("msg_too_long")
    blocks = sent.get("blocks", [])
    if len(blocks) > 50:
        raise RefusedError("invalid_blocks")
    for block in blocks:
        _check_block(block)
    metadata = sent.get("metadata")
    if metadata is not None and not re.fullmatch(r"[A-Za-z0-9_.:-]{1,255}", metadata["event_type"]):
        raise RefusedError("invalid_metadata_format")


def _check_block(block: dict[str, Any]) -> None:
    kind = block.get("type")
    if kind not in ("header", "section", "context", "actions", "input", "divider"):
        raise RefusedError("invalid_blocks")
    text = block.get("text")
    if text is not None and not 1 <= _units(text["text"]) <= LIMITS[kind]:
        raise RefusedError("invalid_blocks")
    elements = block.get("elements", [])
    if len(elements) > 25 or (kind in ("actions", "context") and not elements):
        raise RefusedError("invalid_blocks")
    names = [one["action_id"] for one in elements if "action_id" in one]
    if len(names) != len(set(names)):
        raise RefusedError("invalid_blocks")
    for one in elements:
        if one["type"] == "button" and not one.get("url", "http:").startswith(("http:", "https:")):
            raise RefusedError("invalid_blocks")
        if one["type"] == "button" and (len(one["value"]) > 2000 or len(one["text"]["text"]) > 75):
            raise RefusedError("invalid_blocks")
    if kind == "input":
        _check_input(block)


def _check_input(block: dict[str, Any]) -> None:
    element = block["element"]
    groups = element.get("option_groups")
    options = [one for group in groups for one in group["options"]] if groups else element.get("options")
    if options is not None:
        if not options or len(element.get("options", ())) > 100 or len(groups or ()) > 100:
            raise RefusedError("invalid_arguments")
        if any(
            not 1 <= len(one["value"]) <= 150 or not 1 <= len(one["text"]["text"]) <= 75 for one in options
        ):
            raise RefusedError("invalid_arguments")
        initial = element.get("initial_option")
        if initial is not None and initial not in options:
            raise RefusedError("invalid_arguments")


def _check_view(view: dict[str, Any]) -> None:
    titles = [view[name]["text"] for name in ("title", "submit", "close")]
    if view["type"] != "modal" or any(not 1 <= len(text) <= 24 for text in titles):
        raise RefusedError("invalid_arguments")
    if len(view["blocks"]) > 100 or len(view["private_metadata"]) > 3000 or len(view["callback_id"]) > 255:
        raise RefusedError("invalid_arguments")
    names = [block["block_id"] for block in view["blocks"] if "block_id" in block]
    if len(names) != len(set(names)):
        raise RefusedError("invalid_arguments")
    for block in view["blocks"]:
        _check_block(block)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@asynccontextmanager
async def local_slack() -> AsyncIterator[LocalSlack]:
    """One that listens."""
    found = LocalSlack()
    app = web.Application()
    app.router.add_route("*", "/api/{method}", found.answer)
    app.router.add_post("/respond", found.hook)
    app.router.add_get("/oauth/v2/authorize", found.authorize)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


def form(**fields: Any) -> bytes:
    """A body as Slack sends it."""
    return urllib.parse.urlencode(
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
    ).encode()
