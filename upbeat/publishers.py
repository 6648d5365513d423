"""Which exporter serves which kind of publisher: a new one is a line here, by the alphabet.

A `Site` is `wired.site(TheSite, rule, "https://its.api/v1", {"Authorization": f"Bearer {wired.expanded(rule.key)}"})`.
"""

from typing import Final

from exporters.publishers.statuspage import Statuspage
from exporters.publishers.webhook import WebhookPublisher
from rules.publishers.statuspage import StatuspagePublisher
from rules.publishers.webhook import WebhookPublisher as WebhookRule
from upbeat.wiring import Builders

PUBLISHERS: Final[Builders] = {
    StatuspagePublisher: lambda rule, wired: wired.site(
        Statuspage, rule, rule.url, {"Authorization": f"OAuth {wired.expanded(rule.key)}"}, every_s=1.0
    ),
    WebhookRule: lambda rule, wired: WebhookPublisher(
        wired.session, wired.expanded(rule.url), wired.given(rule.secret), public_url=wired.public_url
    ),
}
