"""Which exporter serves which kind of channel: a new one is a line here, by the alphabet."""

from typing import Final

from exporters.channels.slack import SlackExporter
from exporters.channels.slack_bot import SlackBotExporter
from exporters.channels.smtp import Relay, SmtpExporter
from exporters.channels.webhook import WebhookExporter
from exporters.slack import Web, bearer
from rules.channels.slack import SlackChannel
from rules.channels.slack_bot import SlackBotChannel, bot_token
from rules.channels.smtp import SmtpChannel
from rules.channels.webhook import WebhookChannel
from upbeat.wiring import Builders, Exporter, Wiring


def _smtp(rule: SmtpChannel, wired: Wiring) -> Exporter:
    relay = Relay(
        host=rule.host,
        sender=rule.sender,
        to=tuple(rule.to),
        port=rule.port,
        tls=rule.tls,
        username=wired.given(rule.username),
        password=wired.given(rule.password),
    )
    return SmtpExporter(wired.connect, relay)


def _slack_bot(rule: SlackBotChannel, wired: Wiring) -> Exporter:
    token = bearer(wired.expanded(bot_token({"type": rule.type, "workspace": rule.workspace})))
    return SlackBotExporter(Web(wired.session, wired.slack_api, token), rule.channel)


CHANNELS: Final[Builders] = {
    SlackBotChannel: _slack_bot,
    SlackChannel: lambda rule, wired: SlackExporter(wired.session, wired.expanded(rule.url)),
    SmtpChannel: _smtp,
    WebhookChannel: lambda rule, wired: WebhookExporter(
        wired.session, wired.expanded(rule.url), wired.given(rule.secret)
    ),
}
