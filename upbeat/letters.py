"""Which exporter serves which kind of subscriber, with the installation's relay and egress policy as they are now."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

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
        self._closers = AsyncExitStack()

    async def send(self, envelope: Envelope) -> Outcome:
        """Deliver it once."""
        if envelope.kind != "email":
            return await self._web_exporter().export(envelope)
        if (rule := self._mail()) is None:
            return Retry("the installation has no `mail`", UNSET_S)
        sources, policy = self._secrets.of(None), self._policy()
        try:
            username, password = (
                expand(one, sources) if one else None for one in (rule.username, rule.password)
            )
        except UnsetReferenceError as unset:
            return Retry(str(unset), UNSET_S)
        relay = Relay(rule.host, rule.sender, rule.port, rule.tls, username, password)
        made_of = relay, rule.connections, policy
        if self._mailer is None or self._mailer[0] != made_of:
            self._mailer = (
                made_of,
                MailExporter(partial(connect, policy, "relay"), relay, connections=rule.connections),
            )
            self._closers.callback(self._mailer[1].close)
        return await self._mailer[1].export(envelope)

    def _web_exporter(self) -> WebExporter:
        policy = self._policy()
        if self._web is None or self._web[0] is not policy:
            # Strangers gave these URLs: no address is reached that a channel may not reach.
            session = open_session(policy, "channel", timeout_s=TIMEOUT_S)
            self._closers.push_async_callback(session.close)
            self._web = policy, WebExporter(session)
        return self._web[1]

    async def close(self) -> None:
        """Hang up everywhere."""
        await self._closers.aclose()
