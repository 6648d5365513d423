"""Which exporter serves which kind of publisher: a new one is a line here, by the alphabet."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from exporters.publishers.betterstack import BetterStack
from exporters.publishers.cachet import Cachet2, Cachet3
from exporters.publishers.folder import Folder
from exporters.publishers.incident_io import IncidentIo
from exporters.publishers.instatus import Instatus
from exporters.publishers.openstatus import OpenStatus
from exporters.publishers.s3 import Bucket
from exporters.publishers.statusapi import StatusApi
from exporters.publishers.statuspage import Statuspage
from exporters.publishers.webhook import WebhookPublisher
from exporters.publishing import Api, Site
from exporters.static import StaticPublisher
from rules.publishers.betterstack import BetterStackPublisher
from rules.publishers.cachet import CachetPublisher
from rules.publishers.folder import FolderPublisher
from rules.publishers.incident_io import IncidentIoPublisher
from rules.publishers.instatus import InstatusPublisher
from rules.publishers.openstatus import OpenStatusPublisher
from rules.publishers.s3 import S3Publisher
from rules.publishers.statusapi import StatusApiPublisher
from rules.publishers.statuspage import StatuspagePublisher
from rules.publishers.webhook import WebhookPublisher as WebhookRule
from upbeat.wiring import Builders, Exporter, Wiring

Builder = Callable[[Any, Wiring], Exporter]
STATUSPAGE_S = 1.0
"""Seconds between two requests of one key: that is its limit."""


def _keyed(site: Callable[[Api, Any], Site], sent: str = "Authorization: Bearer ") -> Builder:
    """What is reached at its `url` with its `key`, sent so."""
    name, _, scheme = sent.partition(": ")

    def build(rule: Any, wired: Wiring) -> Exporter:
        headers = {name: scheme + wired.expanded(rule.key), "Accept": "application/json"}
        return wired.site(site, rule, rule.url, headers, STATUSPAGE_S if site is Statuspage else 0.0)

    return build


def _bucket(rule: S3Publisher, wired: Wiring) -> Bucket:
    endpoint = wired.given(rule.endpoint) or f"https://s3.{rule.region}.amazonaws.com"
    return Bucket(wired.session, rule, endpoint, (wired.expanded(rule.key_id), wired.expanded(rule.secret)))


CACHETS: Final = {2: _keyed(Cachet2, "X-Cachet-Token: "), 3: _keyed(Cachet3)}

PUBLISHERS: Final[Builders] = {
    BetterStackPublisher: _keyed(BetterStack),
    CachetPublisher: lambda rule, wired: CACHETS[rule.version](rule, wired),
    FolderPublisher: lambda rule, wired: StaticPublisher(Folder(rule.folder), partial(wired.render, rule)),
    IncidentIoPublisher: _keyed(IncidentIo),
    InstatusPublisher: _keyed(Instatus),
    OpenStatusPublisher: _keyed(OpenStatus, "x-openstatus-key: "),
    S3Publisher: lambda rule, wired: StaticPublisher(_bucket(rule, wired), partial(wired.render, rule)),
    StatusApiPublisher: _keyed(StatusApi),
    StatuspagePublisher: _keyed(Statuspage, "Authorization: OAuth "),
    WebhookRule: lambda rule, wired: WebhookPublisher(
        wired.session,
        wired.expanded(rule.url),
        wired.given(rule.secret),
        public_url=wired.public_url,
        notify=rule.notify,
    ),
}
