"""Which exporter serves which kind of subscriber, with the installation's relay and egress policy as they are now."""

from collections.abc import Callable
from functools import partial

import aiohttp

from engine.egress import connect, open_session
from engine.secrets import Secrets
from evaluators.model import Envelope
from exporters.letters.mail import MailExporter
from exporters.letters.web import WebExporter
from exporters.mail import Relay
from exporters.outcome import Outcome, Retry
from rules.address import EgressPolicy
from rules.mail import Mail
from rules.secret import UnsetReferenceError, expand

TIMEOUT_S = 10.0
UNSET_S = 60.0


class Letters:
    """Sends letters. What is under way when settings change is brought to its end as it was begun."""

    def __init__(
        self, mail: Callable[[], Mail | None], policy: Callable[[], EgressPolicy], secrets: Secrets
    ) -> None:
        self._mail, self._policy, self._secrets = mail, policy, secrets
        self._mailer: tuple[object, MailExporter] | None = None
        self._web: tuple[EgressPolicy, WebExporter] | None = None
        self._mailers: list[MailExporter] = []
        self._sessions: list[aiohttp.ClientSession] = []

    async def send(self, envelope: Envelope) -> Outcome:
        """Deliver it once."""
        if envelope.kind != "email":
            return await self._web_exporter().export(envelope)
        rule = self._mail()
        if rule is None:
            return Retry("the installation has no `mail`", UNSET_S)
        try:
            mailer = self._mail_exporter(rule)
        except UnsetReferenceError as unset:
            return Retry(str(unset), UNSET_S)
        return await mailer.export(envelope)

    def _web_exporter(self) -> WebExporter:
        policy = self._policy()
        if self._web is None or self._web[0] is not policy:
            # Strangers gave these URLs: no address is reached that a channel may not reach.
            self._sessions.append(open_session(policy, "channel", timeout_s=TIMEOUT_S))
            self._web = policy, WebExporter(self._sessions[-1])
        return self._web[1]

    def _mail_exporter(self, rule: Mail) -> MailExporter:
        sources, policy = self._secrets.of(None), self._policy()
        relay = Relay(
            host=rule.host,
            sender=rule.sender,
            port=rule.port,
            tls=rule.tls,
            username=expand(rule.username, sources) if rule.username else None,
            password=expand(rule.password, sources) if rule.password else None,
        )
        made_of = relay, rule.connections, policy
        if self._mailer is None or self._mailer[0] != made_of:
            connector = partial(connect, policy, "relay")
            self._mailers.append(MailExporter(connector, relay, connections=rule.connections))
            self._mailer = made_of, self._mailers[-1]
        return self._mailer[1]

    async def close(self) -> None:
        """Hang up everywhere."""
        for mailer in self._mailers:
            mailer.close()
        for session in self._sessions:
            await session.close()
