"""Which exporter serves which channel: the one map a new channel is added to, and the sender the delivery loop is given."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiohttp

from engine.egress import connect, open_session
from evaluators.model import Notice
from exporters.outcome import Outcome, Rejected
from exporters.slack import SlackExporter
from exporters.smtp import Relay, SmtpExporter
from exporters.webhook import WebhookExporter
from rules.address import EgressPolicy
from rules.channel import CHANNEL, SlackChannel, SmtpChannel, WebhookChannel
from rules.secret import UnsetReferenceError, expand
from rules.shape import Rule

TIMEOUT_S = 15.0


class Exporter(Protocol):
    """What every channel's exporter does."""

    async def export(self, notice: Notice) -> Outcome:
        """Deliver once."""
        ...


class Channels:
    """Sends notices to channels by their specs. Exporters are kept: an smtp one remembers who already has a notice."""

    def __init__(self, policy: EgressPolicy, environment: Mapping[str, str]) -> None:
        self._policy, self._environment = policy, environment
        self._session: aiohttp.ClientSession | None = None
        self._retired: list[aiohttp.ClientSession] = []  # a delivery may still be under way
        self._exporters: dict[str, Exporter] = {}
        self._builders: dict[type[Rule], Callable[[Any], Exporter]] = {
            WebhookChannel: self._webhook,
            SlackChannel: self._slack,
            SmtpChannel: self._smtp,
        }

    def judge_by(self, policy: EgressPolicy) -> None:
        """Send under another policy from now on."""
        self._policy = policy
        self._exporters.clear()
        if self._session is not None:
            self._retired.append(self._session)
            self._session = None

    async def send(self, spec: Mapping[str, Any], notice: Notice) -> Outcome:
        """Deliver `notice` to the channel with this spec, once."""
        key = repr(sorted(spec.items()))
        try:
            exporter = self._exporters.get(key)
            if exporter is None:
                channel = CHANNEL.validate_python(dict(spec))
                exporter = self._exporters[key] = self._builders[type(channel)](channel)
        except (UnsetReferenceError, ValueError) as wrong:
            return Rejected(str(wrong))
        return await exporter.export(notice)

    async def close(self) -> None:
        """Close the sessions that all share."""
        for session in (*self._retired, self._session):
            if session is not None:
                await session.close()

    def _web(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self._policy, "channel", timeout_s=TIMEOUT_S)
        return self._session

    def _expand(self, text: str) -> str:
        return expand(text, self._environment)

    def _webhook(self, channel: WebhookChannel) -> Exporter:
        secret = self._expand(channel.secret) if channel.secret else None
        return WebhookExporter(self._web(), self._expand(channel.url), secret)

    def _slack(self, channel: SlackChannel) -> Exporter:
        return SlackExporter(self._web(), self._expand(channel.url))

    def _smtp(self, channel: SmtpChannel) -> Exporter:
        async def connector(host: str, port: int, timeout_s: float) -> Any:
            return await connect(self._policy, "relay", host, port, timeout_s)

        relay = Relay(
            host=channel.host,
            sender=channel.sender,
            to=tuple(channel.to),
            port=channel.port,
            tls=channel.tls,
            username=self._expand(channel.username) if channel.username else None,
            password=self._expand(channel.password) if channel.password else None,
        )
        return SmtpExporter(connector, relay)
