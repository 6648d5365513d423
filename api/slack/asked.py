"""What somebody asks for in Slack: who they are here, REST in their name, and what they are answered. Not what they may ask for."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from fastapi import FastAPI
from starlette.types import Message, Scope

from api.auth import ACTING, Permission, Principal
from api.context import Services
from api.problems import ProblemError
from api.slack import forms
from engine.store import objects, slack
from rules.slack import PageSlack

MOST_TEXT: Final = 2900
LINK_FIRST: Final = (
    "Slack does not say who you are in Upbeat. Sign in there, take a code on its page *Slack*, and write `/upbeat link CODE`: "
    "a code works once, for ten minutes, and in the command only"
)
Blocks = Sequence[dict[str, Any]]


@dataclass(slots=True)
class Asked:
    """One request of Slack's, signed by it. `key` is the same when it is sent again."""

    app: FastAPI
    key: str
    team: str
    user: str
    channel: str
    trigger: str = ""
    response_url: str = ""
    who: Principal | None = None
    is_late: bool = False  # its form is closed: what was wrong is said instead

    @property
    def services(self) -> Services:
        """Those of the app."""
        services: Services = self.app.state.services
        return services

    async def begin(self) -> bool:
        """Find out who asks; whether their workspace is connected at all."""
        async with self.services.pool.acquire() as db:
            person = await slack.person(db, self.team, self.user)
            if person is not None:
                self.who = Principal(person.email, "slack", None, person.grants, person.id)
            return await slack.is_connected(db, self.team)

    def known(self) -> Principal:
        """Who asks. Raises 403 with what to do."""
        if self.who is None:
            raise ProblemError(403, "forbidden", LINK_FIRST)
        return self.who

    async def rest(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """What REST answers them; what is posted is done once, however often Slack sends it. Raises `ProblemError`."""
        key = hashlib.sha256(f"{self.key} {method} {path}".encode()).hexdigest()
        headers = [(b"content-type", b"application/json")]
        headers += [(b"idempotency-key", f"slack-{key}".encode())] if method == "POST" else []
        scope: Scope = {"type": "http", "method": method, "scheme": "http", "path": f"/api/v1{path}"}
        scope.update(query_string=urlencode(query).encode(), headers=headers, server=("slack", 80))
        scope[ACTING] = self.known()
        status, parts = 500, []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode()}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await self.app(scope, receive, send)
        answer = json.loads(b"".join(parts) or b"null")
        if status >= 400:
            errors = [(error["pointer"], error["message"]) for error in answer.get("errors", ())]
            name = answer["type"].rpartition("#")[2]
            raise ProblemError(status, name, answer["detail"], errors=errors)
        return answer

    async def settings(self, page: str) -> PageSlack | None:
        """What a page says of Slack, to who may do something there. Raises 403, 404."""
        async with self.services.pool.acquire() as db:
            home = await objects.find(db, "page", page)
        self.known().require(Permission.REVIEW, home.id)
        return PageSlack.model_validate(home.spec["slack"]) if home.spec.get("slack") else None

    async def say(self, text: str, more: Blocks = ()) -> None:
        """Tell only them. Data in `text` is `plain`."""
        section = {"type": "section", "text": {"type": "mrkdwn", "text": text[:MOST_TEXT], "verbatim": True}}
        body = {"text": text[:MOST_TEXT], "blocks": [section, *more], "response_type": "ephemeral"}
        if is_slacks(self.response_url, self.services.slack.api):
            await self.services.slack.respond(self.response_url, body | {"replace_original": False})
        elif self.channel:
            whom = {"channel": self.channel, "user": self.user}
            await self.services.slack.call(self.team, "chat.postEphemeral", body | whom)

    async def open(self, called: str, title: str, submit: str, blocks: Blocks, **about: str) -> None:
        """Show them a form, which comes back with `about`. Raises `ProblemError` where Slack does not."""
        view = forms.form(called, title, submit, {"channel": self.channel, **about}, blocks)
        sent = {"trigger_id": self.trigger, "view": view}
        said = await self.services.slack.call(self.team, "views.open", sent)
        if not isinstance(said, dict):
            raise ProblemError(502, "slack", f"the form does not open: {said.reason}")


def plain(text: object) -> str:
    """Data in what is said: it can neither mention nor link."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def is_slacks(url: str, api: str) -> bool:
    """Whether a response URL is Slack's own: that of `hooks.` beside the API, or of the very host where one was set by address."""
    ours = urlsplit(api)
    host = ours.netloc if ours.netloc[:1].isdigit() else f"hooks.{ours.netloc}"
    return url.startswith(f"{ours.scheme}://{host}/")
