"""The installation's Slack app for the ways in: what it is set to, and calls of Slack through the guarded connector."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from engine.egress import open_session
from engine.secrets import Secrets
from exporters.answer import send
from exporters.outcome import Rejected, Retry
from exporters.publishing import TroubleError
from exporters.slack import Web, bearer
from rules.address import EgressPolicy
from rules.channels.slack_bot import BOT_TOKEN
from rules.secret import Sources, UnsetReferenceError, expand
from rules.slack import SLACK_API, SlackApp

TIMEOUT_S = 5.0
Answered = dict[str, Any] | Retry | Rejected
Settings = Callable[[], SlackApp | None]


class Slack:
    """What `api.context.Slack` asks for; a session per call, as there are few."""

    def __init__(self, settings: Settings, policy: Callable[[], EgressPolicy], secrets: Secrets) -> None:
        self._settings, self._policy, self._secrets = settings, policy, secrets

    @property
    def api(self) -> str:
        """Where Slack's methods are."""
        app = self._settings()
        return app.api if app else SLACK_API

    def app(self) -> SlackApp | None:
        """The app with its secrets in place; None: there is none, or one of them is not there."""
        if (app := self._settings()) is None:
            return None
        try:
            told = {key: expand(value, self._secrets.of(None)) for key, value in app.model_dump().items()}
        except UnsetReferenceError:
            return None
        # Not validated anew: what is wrong with a secret is not said with the secret. With an empty one anybody could sign.
        return app.model_copy(update=told) if all(told.values()) else None

    async def call(self, team: str | None, method: str, body: Mapping[str, Any]) -> Answered:
        """What a method answers to the bot of this workspace; None: to the app itself."""
        try:
            if team is not None:
                headers = bearer(token_of(team, self._secrets.of(None)))
            elif app := self.app():
                login = base64.b64encode(f"{app.client_id}:{app.client_secret}".encode()).decode()
                headers = {"Authorization": f"Basic {login}"}
            else:
                return Rejected("no Slack app is set")
            async with open_session(self._policy(), "channel", timeout_s=TIMEOUT_S) as session:
                return await Web(session, self.api, headers).call(method, body)
        except UnsetReferenceError as unset:
            return Rejected(str(unset))
        except TroubleError as trouble:
            return trouble.outcome

    async def respond(self, url: str, body: Mapping[str, Any]) -> None:
        """Answer an interaction at the URL that came with it, which the caller has judged."""
        async with open_session(self._policy(), "channel", timeout_s=TIMEOUT_S) as session:
            await send(session, url, dict(body), now_s=0.0)


def token_of(workspace: str, sources: Sources) -> str:
    """The token of a workspace's bot. Raises `UnsetReferenceError`."""
    try:
        return expand(BOT_TOKEN.format(workspace), sources)
    except UnsetReferenceError as unset:
        said = f"is the token of the Slack workspace {workspace}: connect it on /console/slack"
        raise UnsetReferenceError(unset.reference, said) from None
