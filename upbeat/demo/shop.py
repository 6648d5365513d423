"""The demo's upbeat.yaml: what a newcomer may copy from."""

from typing import Final

from rules.duration import format_duration
from upbeat.demo.targets import HOST, SHOP_ADDRESS, Targets

GROUP: Final = "ordering"
"""The group of checkout and database, which fail together: one outage."""

JOURNEY: Final = "buy"
"""The beat that buys a mug in a browser: it alone sees a button that does nothing."""

INBOX: Final = "parcels"
"""Where the shop's parcel service posts what it knows; the trigger over it moves the beat `delivery`."""
BEFORE: Final = (
    {"message": "This is a test of your webhook."},
    {"depot": "north", "state": "on time", "text": "all vans are out"},
    {"depot": "south", "state": "on time", "text": "all vans are out"},
)
"""What it posted before the story: nothing of it opens anything, and each event says why."""
LATE: Final = {"depot": "north", "state": "late", "text": "vans wait for an hour"}
ON_TIME: Final = {"depot": "north", "state": "on time", "text": "the vans go again"}


_BUYING: Final = f"""\
  - slug: {JOURNEY}
    name: Buying a mug
    group: {GROUP}
    type: browser
    url: "http://{HOST}:{{port}}/"
    interval: 10s
    timeout: 10s
    steps:
      - goto: /
      - click: Coffee mug
      - click: Put into basket
      - click: To the checkout
      - fill: {{{{label: E-mail, value: ada@shop.example}}}}
      - {{{{name: pay, click: {{{{role: button, name: Pay}}}}}}}}
      - {{{{name: order-number, expect: {{{{at: {{{{test_id: order}}}}, of: text, matches: "[0-9]+"}}}}, timeout: 2s}}}}
"""


def config_text(targets: Targets, interval_s: float, *, has_browser: bool = False) -> str:
    """The document that watches `targets`, every `interval_s` seconds from three regions."""
    http, interval = f"http://{HOST}:{targets.http_port}", format_duration(interval_s)
    buying = _BUYING.format(port=targets.http_port) if has_browser else ""
    return f"""\
version: 1
pages:
  - slug: shop
    name: Shop
    description: A small shop that fails on cue.
    languages: [en, de, fr, tr]
    look: {{accent: "#0f766e"}}
components:
  - {{slug: storefront, name: Storefront, group: Shopping, position: 1}}
  - {{slug: search, name: Search, group: Shopping, position: 2}}
  - {{slug: checkout, name: Checkout, group: Shopping, position: 3}}
  - {{slug: delivery, name: Delivery, group: Shopping, position: 4}}
  - {{slug: partners, name: Partner API, group: Partners, position: 5, description: "Fed by nothing: set by hand."}}
regions:
  - {{slug: eu-west, name: Western Europe}}
  - {{slug: us-east, name: Eastern United States}}
  - {{slug: ap-south, name: Southern Asia}}
defaults: {{interval: {interval}, timeout: {format_duration(min(2.0, interval_s))}, retries: 0, channels: [ops]}}
egress: {{allow: [{HOST}/32]}}
channels:
  - {{slug: ops, name: Operators, type: webhook, url: "{http}/hook"}}
groups:
  - slug: {GROUP}
    name: Ordering
    description: One outage, whichever of its members fail.
    channels: [ops]
    components: {{checkout: {{warning: degraded_performance, critical: major_outage}}}}
beats:
  - slug: checkout
    name: Checkout
    group: {GROUP}
    type: http
    url: {http}/checkout/health
    degraded_after: 300ms
    assertions:
      - {{of: status, eq: 200}}
      - {{of: header, name: content-type, contains: json}}
      - {{of: json, path: "$.status", eq: ok}}
  - slug: search
    name: Search
    type: http
    url: {http}/search
    degraded_after: 300ms
    incidents: {{open: "off"}}
  - {{slug: storefront, name: Storefront, type: http, url: "{http}/", components: [storefront], public: true}}
  - {{slug: db, name: Database, group: {GROUP}, type: tcp, host: {HOST}, port: {targets.db_port}}}
  - slug: dns
    name: DNS
    type: dns
    host: shop.example
    resolver: {HOST}:{targets.dns_port}
    assertions: [{{of: record, type: A, contains: {SHOP_ADDRESS}}}]
  - {{slug: delivery, name: Delivery, type: external, components: [delivery]}}
{buying}inboxes:
  - {{slug: {INBOX}, name: Parcel service}}
triggers:
  - slug: delays
    name: Delays of the parcel service
    inbox: {INBOX}
    enabled: true
    critical: {{value: $.state, eq: stopped}}
    warning: {{value: $.state, eq: late}}
    recovery: {{value: $.state, eq: on time}}
    fingerprint: "{{$.depot}}"
    message: "Depot {{$.depot}}: {{$.text}}"
    target: {{external: delivery}}
"""
