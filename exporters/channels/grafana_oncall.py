"""Grafana OnCall's Formatted Webhook: alert groups begin with `alerting` and end with `ok`. It has no notes."""

from typing import Any

from evaluators.model import Notice
from exporters.channels.alerting import alert_of
from exporters.channels.words import body, fitted, inert, line, link, packed

MAX_TITLE, MAX_MESSAGE = 1000, 10_000


def alerts(notice: Notice, url: str) -> list[tuple[str, dict[str, Any]]]:
    """What it is told of a notice."""
    found = alert_of(notice)
    if found is None or found[0] not in ("trigger", "resolve"):
        return []
    alert = {
        "alert_uid": found[1],
        "title": fitted(inert(line(notice.title)), MAX_TITLE),
        "message": "\n".join(packed(map(inert, body(notice)), MAX_MESSAGE)),
        "link_to_upstream_details": link(notice),
        "state": "alerting" if found[0] == "trigger" else "ok",
    }
    return [(url, alert)] + [(url, alert | {"state": "ok"})] * (notice.told == "test")
