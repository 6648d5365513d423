"""Notices in the JSON of other systems' webhooks, for what was made to read theirs. What they have no word for is None."""

import hashlib
from typing import Any, Final

from evaluators.model import Notice
from exporters.channels.words import body, level, line, link, time_of

OPENSTATUS: Final = {
    "open": {"warning": "degraded", "critical": "error"},
    "change": {"warning": "degraded", "critical": "error"},
    "recovery": {"ok": "recovered"},
    "test": {"ok": "recovered"},
}
"""OpenStatus' statuses, by what is told and how bad it is."""
BETTERSTACK: Final = {
    "open": "started",
    "test": "started",
    "acknowledged": "acknowledged",
    "recovery": "resolved",
    "comment": "commented",
}
"""Better Stack's events of incidents; one that was resolved is `reopened`. Those of monitors are the words of `beat`."""


def openstatus(notice: Notice) -> dict[str, Any] | None:
    """`{monitor, cronTimestamp, status, errorMessage}`; the monitor's number is made of page and slug."""
    status = OPENSTATUS.get(notice.told, {}).get(level(notice))
    if status is None:
        return None
    slug = f"{notice.page}/{notice.beat or notice.group}"
    number = int.from_bytes(hashlib.sha256(slug.encode()).digest()[:6])  # JavaScript's are exact to 53 bits
    monitor = {"id": number, "name": _name(notice), "url": link(notice) or ""}
    said = {"monitor": monitor, "cronTimestamp": round(notice.at * 1000), "status": status}
    return said if status == "recovered" else said | {"errorMessage": "\n".join(body(notice))}


def betterstack(notice: Notice, resolved: str | None) -> dict[str, Any] | None:
    """`{event, data}` of an incident or a monitor; `resolved`: which episode was told to be."""
    at, monitor = time_of(notice.at), f"{notice.page}/{notice.beat or notice.group}"
    if notice.told == "beat":
        verb = notice.why[0] if notice.why else "updated"
        attributes = {
            "pronounceable_name": _name(notice),
            "url": link(notice),
            "paused_at": at if verb == "paused" else None,
            "updated_at": at,
        }
        return {"event": verb, "data": {"id": monitor, "type": "monitor", "attributes": attributes}}
    event, episode = BETTERSTACK.get(notice.told), notice.id if notice.told == "test" else notice.episode
    if event is None or episode is None:
        return None
    event = "reopened" if event == "started" and resolved == episode else event
    attributes = {
        "name": _name(notice),
        "url": link(notice),
        "cause": "\n".join(body(notice)) or line(notice.title),
        "status": {"acknowledged": "Acknowledged", "resolved": "Resolved"}.get(event, "Started"),
        "started_at": time_of(notice.since) or at,
        "acknowledged_at": at if event == "acknowledged" else None,
        "acknowledged_by": notice.by if event == "acknowledged" else None,
        "resolved_at": at if event == "resolved" else None,
        "resolved_by": notice.by if event == "resolved" else None,
    }
    about = {"monitor": {"data": {"id": monitor, "type": "monitor"}}}
    data = {"id": episode, "type": "incident", "attributes": attributes, "relationships": about}
    said = {"event": event, "data": data}
    if event == "commented":
        said["comment"] = {"content": "\n".join(body(notice)), "author": notice.by}
    return said


def _name(notice: Notice) -> str:
    return line(notice.beat_title or notice.group_title or notice.beat or notice.group or notice.title)
