"""Channels as operators write them: the kinds there are. A new kind is a module in `rules.channels` and a line here and in `upbeat.channels`."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from rules.channels.apprise import AppriseChannel
from rules.channels.discord import DiscordChannel
from rules.channels.grafana_oncall import GrafanaOncallChannel
from rules.channels.opsgenie import OpsgenieChannel
from rules.channels.pagerduty import PagerdutyChannel
from rules.channels.slack import SlackChannel
from rules.channels.slack_bot import SlackBotChannel
from rules.channels.smtp import SmtpChannel
from rules.channels.teams import TeamsChannel
from rules.channels.webhook import WebhookChannel

AnyChannel = (
    WebhookChannel
    | SlackChannel
    | SlackBotChannel
    | SmtpChannel
    | DiscordChannel
    | TeamsChannel
    | PagerdutyChannel
    | OpsgenieChannel
    | GrafanaOncallChannel
    | AppriseChannel
)
Channel = Annotated[AnyChannel, Field(discriminator="type")]
CHANNEL: TypeAdapter[AnyChannel] = TypeAdapter(Channel)
