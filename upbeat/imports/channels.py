"""Which channel a notification of another monitor becomes, and which of its keys go where. E-mail is each importer's own."""

import re
from collections.abc import Mapping
from typing import Any, Final

from rules.channels.channel import SECRET_FIELDS
from upbeat.imports.draft import Draft
from upbeat.imports.source import Fields

Table = Mapping[str, Mapping[str, str]]
"""By the kind there: the channel's fields; `{key}` is what stands at that key."""

GATUS: Final[Table] = {
    "discord": {"type": "discord", "url": "{webhook-url}"},
    "googlechat": {"type": "apprise", "urls": "{webhook-url}"},
    "opsgenie": {"type": "opsgenie", "key": "{api-key}"},
    "pagerduty": {"type": "pagerduty", "key": "{integration-key}"},
    "pushover": {"type": "apprise", "urls": "pover://{user-key}@{application-token}"},
    "slack": {"type": "slack", "url": "{webhook-url}"},
    "teams-workflows": {"type": "teams", "url": "{webhook-url}"},
    "telegram": {"type": "apprise", "urls": "tgram://{token}/{id}"},
}
KUMA: Final[Table] = {
    "GoogleChat": {"type": "apprise", "urls": "{googleChatWebhookURL}"},
    "GrafanaOncall": {"type": "grafana_oncall", "url": "{GrafanaOncallURL}"},
    "Opsgenie": {"type": "opsgenie", "key": "{opsgenieApiKey}", "region": "{opsgenieRegion}"},
    "PagerDuty": {"type": "pagerduty", "key": "{pagerdutyIntegrationKey}"},
    "apprise": {"type": "apprise", "urls": "{appriseURL}"},
    "discord": {"type": "discord", "url": "{discordWebhookUrl}"},
    "pushover": {"type": "apprise", "urls": "pover://{pushoveruserkey}@{pushoverapptoken}"},
    "slack": {"type": "slack", "url": "{slackwebhookURL}"},
    "teams": {"type": "teams", "url": "{webhookUrl}"},
    "telegram": {"type": "apprise", "urls": "tgram://{telegramBotToken}/{telegramChatID}"},
    "webhook": {"type": "webhook", "url": "{webhookURL}"},
}
_KEY: Final = re.compile(r"\{([^}]+)\}")


def channel_of(table: Table, kind: str, given: Fields, draft: Draft, hint: str) -> dict[str, Any] | None:
    """The channel; None where there is none of its kind, or a key of it is missing."""
    if (fields := table.get(kind)) is None:
        return None
    spec: dict[str, Any] = {}
    for name, template in fields.items():
        text = template
        keys = _KEY.findall(template)
        if name in SECRET_FIELDS and not all(map(given.has, keys)):
            return None
        for key in keys:
            value = given.text(key)
            if name in SECRET_FIELDS:
                value = draft.secret(given.at(key), value, hint, key if len(keys) > 1 else name)
            text = text.replace(f"{{{key}}}", value)
        if text:
            spec[name] = [text] if name == "urls" else text
    return spec
