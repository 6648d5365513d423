"""Services that operators are told by, each on port 0 with the documented rules of the real one: what is wrong is refused as there."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import web


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Service:
    """What was asked, and what is answered instead of the rules' answer, once each."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    instead: list[web.Response] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            return web.Response(status=400, text="no JSON")
        self.asked.append(
            Asked(request.method, request.path, dict(request.query), dict(request.headers), body)
        )
        if request.content_type != "application/json":
            return web.Response(status=415)
        if self.instead:
            return self.instead.pop(0)
        return self.judge(self.asked[-1], len(raw))

    def judge(self, asked: Asked, size: int) -> web.Response:
        return web.Response(text="ok")


S = TypeVar("S", bound=Service)


@asynccontextmanager
async def served(service: S, tls: ssl.SSLContext | None = None) -> AsyncIterator[S]:
    app = web.Application(client_max_size=32 << 20)
    app.router.add_route("*", "/{path:.*}", service.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    service.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@dataclass
class Discord(Service):
    """Webhooks: POST with `wait`, `thread_id` or `thread_name`, PATCH of a message. `messages`: id -> (thread, embed)."""

    is_forum: bool = False
    messages: dict[str, tuple[str | None, Any]] = field(default_factory=dict)
    is_deleted: bool = False

    def judge(self, asked: Asked, size: int) -> web.Response:
        if self.is_deleted:
            return self._error(404, 10015, "Unknown Webhook")
        if (wrong := self._wrong(asked.body)) is not None:
            return self._error(400, 50035, wrong)
        thread, name = asked.query.get("thread_id"), asked.body.get("thread_name")
        if asked.method == "PATCH":
            message = asked.path.rsplit("/", 1)[1]
            if message not in self.messages or self.messages[message][0] != thread:
                return self._error(404, 10008, "Unknown Message")
            self.messages[message] = (thread, asked.body["embeds"][0])
            return web.json_response({"id": message, "channel_id": thread or "7"})
        if self.is_forum and not (thread or name):
            return self._error(
                400, 220001, "Webhooks posted to forum channels must have a thread_name or thread_id"
            )
        if name and not self.is_forum:
            return self._error(400, 220003, "Webhooks can only create threads in forum channels")
        if thread and thread not in {held for held, _ in self.messages.values()}:
            return self._error(404, 10003, "Unknown Channel")
        made = str(1000 + len(self.messages) + len(self.asked))
        thread = made if name else thread
        self.messages[made] = (thread, asked.body["embeds"][0])
        if asked.query.get("wait") != "true":
            return web.Response(status=204)
        return web.json_response({"id": made, "channel_id": thread or "7"})

    def _wrong(self, body: Any) -> str | None:
        embeds = body.get("embeds", [])
        if not (body.get("content") or embeds) or len(embeds) > 10 or units(body.get("content", "")) > 2000:
            return "content"
        total = 0
        for embed in embeds:
            texts = [(embed.get("title", ""), 256), (embed.get("description", ""), 4096)]
            for one in embed.get("fields", []):
                texts += [(one["name"], 256), (one["value"], 1024)]
                if not one["name"] or not one["value"]:
                    return "BASE_TYPE_REQUIRED"
            if len(embed.get("fields", [])) > 25 or any(units(text) > most for text, most in texts):
                return "BASE_TYPE_MAX_LENGTH"
            if "." not in (urlsplit(embed.get("url", "https://a.example")).hostname or ""):
                return "URL_TYPE_INVALID_URL"
            total += sum(units(text) for text, _ in texts)
        name = body.get("thread_name")
        return "length" if total > 6000 or (name is not None and not 1 <= units(name) <= 100) else None

    def _error(self, status: int, code: int, message: str) -> web.Response:
        return web.json_response({"message": message, "code": code}, status=status)


@dataclass
class Teams(Service):
    """A workflow that posts Adaptive Cards."""

    cards: list[Any] = field(default_factory=list)

    def judge(self, asked: Asked, size: int) -> web.Response:
        if asked.query.get("sig") != "signed":
            return web.json_response({"error": {"code": "DirectApiAuthorizationRequired"}}, status=401)
        attached = asked.body["attachments"][0]
        card = attached["content"]
        kinds = {"RichTextBlock", "TextBlock", "FactSet"}
        if (
            asked.body["type"] != "message"
            or attached["contentType"] != "application/vnd.microsoft.card.adaptive"
            or (card["type"], card["version"]) != ("AdaptiveCard", "1.4")
            or not {element["type"] for element in card["body"]} <= kinds
            or any(action["type"] != "Action.OpenUrl" for action in card.get("actions", []))
        ):
            return web.json_response({"error": {"code": "InvalidRequestContent"}}, status=400)
        if size > 28 * 1024:
            return web.json_response({"error": {"code": "RequestEntityTooLarge"}}, status=413)
        self.cards.append(card)
        return web.Response(status=202)


@dataclass
class PagerDuty(Service):
    """Events API v2. `alerts`: dedup_key -> its state and how often it was triggered."""

    alerts: dict[str, list[Any]] = field(default_factory=dict)

    def judge(self, asked: Asked, size: int) -> web.Response:
        event = asked.body
        errors = []
        if asked.path != "/v2/enqueue":
            return web.Response(status=404)
        if size > 512 * 1024:
            return web.Response(status=413)
        if not re.fullmatch(r"[0-9a-zA-Z]{32}", event.get("routing_key", "")):
            errors.append("Invalid routing key")
        if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            errors.append("'event_action' is invalid")
        if not 1 <= len(event.get("dedup_key") or "") <= 255:
            errors.append("'dedup_key' is invalid")
        if event.get("event_action") == "trigger":
            payload = event.get("payload", {})
            if not payload.get("summary") or len(payload["summary"]) > 1024 or not payload.get("source"):
                errors.append("'payload.summary' or 'payload.source' is missing or too long")
            if payload.get("severity") not in ("critical", "warning", "error", "info"):
                errors.append("'payload.severity' is invalid (must be one of the following: critical, ...)")
            datetime.fromisoformat(payload["timestamp"])
            if any(not link.get("href", "").startswith("http") for link in event.get("links", [])):
                errors.append("'links' is invalid")
        if errors:
            said = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
            return web.json_response(said, status=400)
        self._fold(event)
        said = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
        return web.json_response(said, status=202)

    def _fold(self, event: dict[str, Any]) -> None:
        key, does = event["dedup_key"], event["event_action"]
        held = self.alerts.get(key)
        if does == "trigger" and (held is None or held[0] == "resolved"):
            self.alerts[key] = ["triggered", 1]
        elif does == "trigger" and held is not None:
            held[1] += 1
        elif held is not None and held[0] != "resolved":  # else dropped in silence
            held[0] = {"acknowledge": "acknowledged", "resolve": "resolved"}[does]


@dataclass
class Opsgenie(Service):
    """Alerts by alias, worked off later. `alerts`: alias -> state, priority and notes."""

    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def judge(self, asked: Asked, size: int) -> web.Response:
        if asked.headers.get("Authorization") != "GenieKey key-1":
            return web.json_response({"message": "Key format is not valid!", "took": 0.0}, status=401)
        body = asked.body
        limits = {
            "message": 130,
            "alias": 512,
            "description": 15_000,
            "source": 100,
            "entity": 512,
            "user": 100,
        }
        limits["note"] = 25_000
        if (
            any(units(body.get(name) or "") > most for name, most in limits.items())
            or len(body.get("tags", [])) > 20
        ):
            return web.json_response({"message": "Request body is not processable."}, status=422)
        taken = web.json_response(
            {"result": "Request will be processed", "took": 0.3, "requestId": "r"}, status=202
        )
        if asked.path == "/v2/alerts":
            if not body.get("message") or body.get("priority") not in ("P1", "P2", "P3", "P4", "P5"):
                return web.json_response({"message": "Request body is not processable."}, status=422)
            held = self.alerts.get(body["alias"])
            if held is None or held["state"] == "closed":
                self.alerts[body["alias"]] = {
                    "state": "open",
                    "priority": body["priority"],
                    "notes": [],
                    "count": 1,
                }
            else:
                held["count"] += 1
            return taken
        changed = asked.path.rpartition("/")[2] if asked.method == "PUT" else ""
        found = re.fullmatch(rf"/v2/alerts/([^/]+)/({changed or 'close|acknowledge|notes'})", asked.path)
        if found is None or asked.query != {"identifierType": "alias"}:
            return web.json_response({"message": "Not found"}, status=404)
        if changed:
            assert changed in ("priority", "message")
            assert [*body] == [changed]
            self.alerts[found[1]][changed] = body[changed]
            return taken
        if (held := self.alerts.get(found[1])) is not None:
            held["notes"] += [body["note"]] if body.get("note") else []
            if found[2] != "notes":
                held["state"] = {"close": "closed", "acknowledge": "acknowledged"}[found[2]]
        return taken


@dataclass
class OnCall(Service):
    """A Formatted Webhook. `groups`: alert_uid -> its states, in order."""

    groups: dict[str, list[str]] = field(default_factory=dict)

    def judge(self, asked: Asked, size: int) -> web.Response:
        if asked.path != "/integrations/v1/formatted_webhook/tok/":
            return web.Response(status=403, text="Integration key was not found. Permission denied.")
        known = {"alert_uid", "title", "image_url", "state", "link_to_upstream_details", "message"}
        if (
            not asked.body.keys() <= known
            or asked.body["state"] not in ("alerting", "ok")
            or not asked.body["title"]
        ):
            return web.Response(status=400)
        self.groups.setdefault(asked.body["alert_uid"], []).append(asked.body["state"])
        return web.Response(text="Ok.")
