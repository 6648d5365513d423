"""PagerDuty's Events API v2: the episode is the `dedup_key`. It has no notes.

Limits are those of https://developer.pagerduty.com/docs/send-alert-event.
"""

from typing import Any, Final

from evaluators.model import Notice
from exporters.channels.alerting import alert_of
from exporters.channels.words import body, facts, fitted, level, line, link, packed, time_of

MAX_SUMMARY, MAX_KEY, MAX_BYTES = 1024, 255, 512_000
MAX_DETAILS: Final = 60_000
HOSTS: Final = {"us": "https://events.pagerduty.com", "eu": "https://events.eu.pagerduty.com"}
_SEVERITIES: Final = {"ok": "info", "warning": "warning", "critical": "critical", "unknown": "error"}


def events(notice: Notice, url: str, key: str) -> list[tuple[str, dict[str, Any]]]:
    """What it is told of a notice."""
    if (found := alert_of(notice)) is None or found[0] == "note":
        return []
    event: dict[str, Any] = {"routing_key": key, "event_action": found[0], "dedup_key": found[1][:MAX_KEY]}
    if found[0] != "trigger":
        return [(url, event)]
    details: dict[str, Any] = {name.lower(): value for name, value in facts(notice)}
    opened = event | {
        "client": "Upbeat",
        "payload": {
            "summary": fitted(line(notice.title), MAX_SUMMARY),
            "source": notice.beat or notice.group or notice.page or "upbeat",
            "severity": _SEVERITIES[level(notice)],
            "timestamp": time_of(notice.at),
            "component": notice.beat,
            "group": notice.group,
            "class": notice.told,
            "custom_details": details | {"why": packed(body(notice), MAX_DETAILS), "tags": list(notice.tags)},
        },
    }
    if where := link(notice):
        opened |= {"client_url": where, "links": [{"href": where, "text": "Open in Upbeat"}]}
    return [(url, opened)] + [(url, event | {"event_action": "resolve"})] * (notice.told == "test")
