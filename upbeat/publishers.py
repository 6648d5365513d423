"""Which exporter serves which kind of publisher: a new one is a line here, by the alphabet.

A `Site` is `wired.site(TheSite, rule, "https://its.api/v1", {"Authorization": f"Bearer {wired.expanded(rule.key)}"})`.
"""

from typing import Final

from exporters.publishers.betterstack import BetterStack
from exporters.publishers.cachet import Cachet2, Cachet3
from exporters.publishers.incident_io import IncidentIo
from exporters.publishers.instatus import Instatus
from exporters.publishers.openstatus import OpenStatus
from exporters.publishers.statusapi import StatusApi
from exporters.publishers.statuspage import Statuspage
from exporters.publishers.webhook import WebhookPublisher
from rules.publishers.betterstack import BetterStackPublisher
from rules.publishers.cachet import CachetPublisher
from rules.publishers.incident_io import IncidentIoPublisher
from rules.publishers.instatus import InstatusPublisher
from rules.publishers.openstatus import OpenStatusPublisher
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
    BetterStackPublisher: lambda rule, wired: wired.site(
        BetterStack, rule, rule.url, {"Authorization": f"Bearer {wired.expanded(rule.key)}"}
    ),
    CachetPublisher: _cachet,
    IncidentIoPublisher: lambda rule, wired: wired.site(
        IncidentIo, rule, rule.url, {"Authorization": f"Bearer {wired.expanded(rule.key)}"}
    ),
    InstatusPublisher: lambda rule, wired: wired.site(
        Instatus, rule, rule.url, {"Authorization": f"Bearer {wired.expanded(rule.key)}"}
    ),
    OpenStatusPublisher: lambda rule, wired: wired.site(
        OpenStatus, rule, rule.url, {"x-openstatus-key": wired.expanded(rule.key)}
    ),
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
