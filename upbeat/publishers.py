"""Which exporter serves which kind of publisher: a new one is a line here, by the alphabet.

A `Site` is `wired.site(TheSite, rule, "https://its.api/v1", {"Authorization": f"Bearer {wired.expanded(rule.key)}"})`.
"""

from typing import Final

from exporters.publishers.cachet import Cachet2, Cachet3
from exporters.publishers.statusapi import StatusApi
from exporters.publishers.statuspage import Statuspage
from exporters.publishers.webhook import WebhookPublisher
from rules.publishers.cachet import CachetPublisher
from rules.publishers.statusapi import StatusApiPublisher
from rules.publishers.statuspage import StatuspagePublisher
from rules.publishers.webhook import WebhookPublisher as WebhookRule
from upbeat.wiring import Builders, Exporter, Wiring

STATUSPAGE_S = 1.0
"""Seconds between two requests of one key: that is its limit."""


def _cachet(rule: CachetPublisher, wired: Wiring) -> Exporter:
    key = wired.expanded(rule.key)
    if rule.version == 2:
        return wired.site(Cachet2, rule, rule.url, {"X-Cachet-Token": key})
    return wired.site(
        Cachet3, rule, rule.url, {"Authorization": f"Bearer {key}", "Accept": "application/json"}
    )


PUBLISHERS: Final[Builders] = {
    CachetPublisher: _cachet,
    StatusApiPublisher: lambda rule, wired: wired.site(
        StatusApi, rule, rule.url, {"Authorization": f"Bearer {wired.expanded(rule.key)}"}
    ),
    StatuspagePublisher: lambda rule, wired: wired.site(
        Statuspage,
        rule,
        rule.url,
        {"Authorization": f"OAuth {wired.expanded(rule.key)}"},
        every_s=STATUSPAGE_S,
    ),
    WebhookRule: lambda rule, wired: WebhookPublisher(
        wired.session, wired.expanded(rule.url), wired.given(rule.secret), public_url=wired.public_url
    ),
}
