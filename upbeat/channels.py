"""Which exporter serves which kind of channel: a new one is a line here, by the alphabet."""

from functools import partial
from typing import Final

from exporters.channels import grafana_oncall, opsgenie, pagerduty, slack, teams
from exporters.channels.apprise import AppriseExporter
from exporters.channels.discord import DiscordExporter
from exporters.channels.sending import SendingExporter
from exporters.channels.slack_bot import SlackBotExporter
from exporters.channels.smtp import Relay, SmtpExporter
from exporters.channels.webhook import WebhookExporter
from exporters.slack import Web, bearer
from rules.channels.apprise import AppriseChannel
from rules.channels.discord import DiscordChannel
from rules.channels.grafana_oncall import GrafanaOncallChannel
from rules.channels.opsgenie import OpsgenieChannel
from rules.channels.pagerduty import PagerdutyChannel
from rules.channels.slack import SlackChannel
from rules.channels.slack_bot import BOT_TOKEN, SlackBotChannel
from rules.channels.smtp import SmtpChannel
from rules.channels.teams import TeamsChannel
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


def _slack(rule: SlackChannel, wired: Wiring) -> Exporter:
    url = wired.expanded(rule.url)
    return SendingExporter(wired.session, lambda notice: [(url, slack.payload(notice))], codes=slack.CODES)


def _teams(rule: TeamsChannel, wired: Wiring) -> Exporter:
    url = wired.expanded(rule.url)
    return SendingExporter(wired.session, lambda notice: [(url, teams.payload(notice))])


def _slack_bot(rule: SlackBotChannel, wired: Wiring) -> Exporter:
    token = bearer(wired.expanded(BOT_TOKEN.format(rule.workspace)))
    return SlackBotExporter(Web(wired.session, wired.slack_api, token), rule.channel)


def _pagerduty(rule: PagerdutyChannel, wired: Wiring) -> Exporter:
    url = wired.given(rule.url) or f"{pagerduty.HOSTS[rule.region]}/v2/enqueue"
    return SendingExporter(wired.session, partial(pagerduty.events, url=url, key=wired.expanded(rule.key)))


def _opsgenie(rule: OpsgenieChannel, wired: Wiring) -> Exporter:
    base = wired.given(rule.url) or opsgenie.HOSTS[rule.region]
    headers = {"Authorization": f"GenieKey {wired.expanded(rule.key)}"}
    return SendingExporter(wired.session, partial(opsgenie.requests, base=base), headers)


CHANNELS: Final[Builders] = {
    AppriseChannel: lambda rule, wired: AppriseExporter(wired.policy, [*map(wired.expanded, rule.urls)]),
    DiscordChannel: lambda rule, wired: DiscordExporter(
        wired.session, wired.expanded(rule.url), forum=rule.forum
    ),
    GrafanaOncallChannel: lambda rule, wired: SendingExporter(
        wired.session, partial(grafana_oncall.alerts, url=wired.expanded(rule.url))
    ),
    OpsgenieChannel: _opsgenie,
    PagerdutyChannel: _pagerduty,
    SlackBotChannel: _slack_bot,
    SlackChannel: _slack,
    SmtpChannel: _smtp,
    TeamsChannel: _teams,
    WebhookChannel: lambda rule, wired: WebhookExporter(
        wired.session, wired.expanded(rule.url), wired.given(rule.secret), form=rule.payload
    ),
}
