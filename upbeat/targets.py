"""Which exporter serves which channel or publisher: the one map a new one is added to, and the sender the delivery loop is given."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import aiohttp

from engine.delivery import Target
from engine.egress import connect, open_session
from engine.secrets import Secrets
from evaluators.model import Item
from exporters.channels.slack import SlackExporter
from exporters.channels.smtp import Relay, SmtpExporter
from exporters.channels.webhook import WebhookExporter
from exporters.outcome import FIRST, Memory, Outcome, Rejected
from exporters.publishers.webhook import WebhookPublisher
from rules.address import EgressPolicy
from rules.channel import CHANNEL
from rules.channels.slack import SlackChannel
from rules.channels.smtp import SmtpChannel
from rules.channels.webhook import WebhookChannel
from rules.publisher import PUBLISHER
from rules.publishers.webhook import WebhookPublisher as WebhookPublisherRule
from rules.secret import UnsetReferenceError, expand, references, value_of
from rules.shape import Rule

TIMEOUT_S = 15.0
KEPT = 500
"""Exporters, by the specs of their targets: an edited one has another exporter, the old one goes in its time."""
Expand = Callable[[str], str]


class Exporter(Protocol):
    """What every target's exporter does."""

    async def export(self, item: Any, memory: Memory) -> Outcome:
        """Deliver once."""
        ...


@dataclass(slots=True, eq=False)
class _Era:
    """What is shared under one policy, until its last delivery has ended."""

    policy: EgressPolicy
    exporters: OrderedDict[str, Exporter] = field(default_factory=OrderedDict)
    session: aiohttp.ClientSession | None = None
    deliveries: int = 0  # under way

    async def close(self) -> None:
        if self.session is not None:
            await self.session.close()


class Targets:
    """Delivers to channels and publishers by their specs. Exporters are kept: an smtp one remembers who already has a notice."""

    def __init__(self, policy: EgressPolicy, secrets: Secrets, public_url: Callable[[], str] = str) -> None:
        self._secrets, self._public_url = secrets, public_url
        self._era = _Era(policy)
        self._retired: set[_Era] = set()
        self._builders: dict[type[Rule], Callable[[Any, Expand], Exporter]] = {
            WebhookChannel: self._webhook,
            SlackChannel: self._slack,
            SmtpChannel: self._smtp,
            WebhookPublisherRule: self._webhook_publisher,
        }

    async def judge_by(self, policy: EgressPolicy) -> None:
        """Send under another policy from now on; what is under way is brought to its end."""
        old, self._era = self._era, _Era(policy)
        if old.deliveries:
            self._retired.add(old)
        else:
            await old.close()

    async def send(self, target: Target, item: Item, memory: Memory = FIRST) -> Outcome:
        """Deliver `item` to this target, once."""
        era = self._era
        try:
            exporter = self._exporter(era, target)
        except (UnsetReferenceError, ValueError) as wrong:
            return Rejected(str(wrong))
        era.deliveries += 1
        try:
            return await exporter.export(item, memory)
        finally:
            era.deliveries -= 1
            if era in self._retired and not era.deliveries:
                self._retired.discard(era)
                await era.close()

    def _exporter(self, era: _Era, target: Target) -> Exporter:
        sources = self._secrets.of(target.page_id)
        # With what its references stand for now: a secret that changed makes another exporter.
        values = [value_of(reference, sources) for reference in references(target.spec)]
        key = repr((target.kind, sorted(target.spec.items()), values))
        if key not in era.exporters:
            model: Any = CHANNEL if target.kind == "channel" else PUBLISHER
            rule = model.validate_python(dict(target.spec))
            era.exporters[key] = self._builders[type(rule)](rule, partial(expand, sources=sources))
        era.exporters.move_to_end(key)
        if len(era.exporters) > KEPT:
            era.exporters.popitem(last=False)
        return era.exporters[key]

    async def close(self) -> None:
        """Close the sessions that all share."""
        for era in (*self._retired, self._era):
            await era.close()

    def _web(self) -> aiohttp.ClientSession:
        if self._era.session is None:
            self._era.session = open_session(self._era.policy, "channel", timeout_s=TIMEOUT_S)
        return self._era.session

    def _webhook(self, channel: WebhookChannel, expanded: Expand) -> Exporter:
        secret = expanded(channel.secret) if channel.secret else None
        return WebhookExporter(self._web(), expanded(channel.url), secret)

    def _webhook_publisher(self, publisher: WebhookPublisherRule, expanded: Expand) -> Exporter:
        secret = expanded(publisher.secret) if publisher.secret else None
        url = expanded(publisher.url)
        return WebhookPublisher(self._web(), url, secret, public_url=self._public_url())

    def _slack(self, channel: SlackChannel, expanded: Expand) -> Exporter:
        return SlackExporter(self._web(), expanded(channel.url))

    def _smtp(self, channel: SmtpChannel, expanded: Expand) -> Exporter:
        async def connector(host: str, port: int, timeout_s: float) -> Any:
            return await connect(self._era.policy, "relay", host, port, timeout_s)

        relay = Relay(
            host=channel.host,
            sender=channel.sender,
            to=tuple(channel.to),
            port=channel.port,
            tls=channel.tls,
            username=expanded(channel.username) if channel.username else None,
            password=expanded(channel.password) if channel.password else None,
        )
        return SmtpExporter(connector, relay)
