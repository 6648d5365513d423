"""The public API of Atlassian's Statuspage, v2: what reads those pages reads ours unmodified. Its words are theirs; ours are `status.json`."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import msgspec

from api.status.document import Document, Incident, Shown
from api.status.view import OPEN, Place, Rendition, View, view
from engine.store.ids import derived_id, show
from evaluators.public import overall_status
from rules.markdown import plain

MOST: Final = 50
"""Incidents, and maintenances, of a list."""
_INDICATORS: Final = ("none", "maintenance", "minor", "major", "critical")
_INDICATOR: Final = {
    "operational": "none",
    "under_maintenance": "maintenance",
    "degraded_performance": "minor",
    "partial_outage": "major",
    "major_outage": "critical",
}
_DESCRIPTION: Final = {
    "none": "All Systems Operational",
    "maintenance": "Service Under Maintenance",
    "minor": "Partially Degraded Service",
    "major": "Partial System Outage",
    "critical": "Major Service Outage",
}


def _page(page: Document, place: Place) -> dict[str, Any]:
    dated = [one.updated_at for one in page.components]
    dated += [one.updated_at for one in (*page.incidents, *page.maintenances)]
    return {
        "id": page.id,
        "name": page.rule.name,
        "url": place.url(),
        "time_zone": "Etc/UTC" if page.rule.timezone == "UTC" else page.rule.timezone,
        "updated_at": _moment(max(dated, default=page.at)),
    }


def _status(page: Document) -> dict[str, str]:
    told = [_INDICATOR[page.status], *(incident.impact for incident in page.open)]
    indicator = max(told, key=_INDICATORS.index)
    return {"indicator": indicator, "description": _DESCRIPTION[indicator]}


def _group_id(page: Document, name: str) -> str:
    return show("component", derived_id("group", page.id, name))


def _component(page: Document, one: Shown, position: int) -> dict[str, Any]:
    told = [known.updated_at for known in (*page.open, *page.ahead) if one.id in known.components]
    return {
        "id": one.id,
        "name": one.name,
        "status": one.status,
        "created_at": _moment(one.created_at),
        "updated_at": _moment(max([one.updated_at, *told])),
        "position": position,
        "description": one.description or None,
        "showcase": one.shows_uptime,
        "start_date": one.created_at.astimezone(UTC).date() if one.shows_uptime else None,
        "group_id": _group_id(page, one.group) if one.group else None,
        "page_id": page.id,
        "group": False,
        "only_show_if_degraded": False,
    }


def _components(page: Document) -> list[dict[str, Any]]:
    """In the page's order; a group comes before its own. Positions count within a group, and among what is in none."""
    grouped: dict[str, list[Shown]] = {}
    for one in page.components:
        grouped.setdefault(one.group or one.id, []).append(one)
    listed: list[dict[str, Any]] = []
    for position, members in enumerate(grouped.values(), 1):
        name = members[0].group
        if not name:
            listed.append(_component(page, members[0], position))
            continue
        shown = [_component(page, one, place) for place, one in enumerate(members, 1)]
        listed.append(
            shown[0]
            | {
                "id": _group_id(page, name),
                "name": name,
                "status": overall_status(one.status for one in members),
                "created_at": min(one["created_at"] for one in shown),
                "updated_at": max(one["updated_at"] for one in shown),
                "position": position,
                "description": None,
                "showcase": False,
                "start_date": None,
                "group_id": None,
                "group": True,
                "components": [one["id"] for one in shown],
            }
        )
        listed += shown
    return listed


def _incidents(page: Document, place: Place, incidents: Iterable[Incident]) -> list[dict[str, Any]]:
    components = {one["id"]: one for one in _components(page)}
    return [_incident(page, place, one, components) for one in islice(incidents, MOST)]


def _incident(
    page: Document, place: Place, one: Incident, components: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    updates, was = list[dict[str, Any]](), dict[str, str]()
    for said in reversed(one.updates):
        affected = [
            {
                "code": key,
                "name": components[key]["name"],
                "old_status": was.get(key, "operational"),
                "new_status": status,
            }
            for key, status in said.components.items()
            if key in components
        ]
        was |= said.components
        text = said.plain
        updates.append(_update(one.id, said.id, _said(said.status), text, said.at, affected))
    if one.report:
        key = show("update", derived_id("report", one.id))
        updates.append(_update(one.id, key, "postmortem", plain(one.report.text), one.report.at, []))
    watched = [said.at for said in one.updates if said.status in ("monitoring", "verifying")]
    shown = {
        "id": one.id,
        "name": one.title,
        "status": "postmortem" if one.report else _said(one.status),
        "created_at": _moment(one.created_at),
        "updated_at": updates[-1]["updated_at"] if updates else _moment(one.updated_at),
        "monitoring_at": _moment(watched[0]) if watched else None,
        "resolved_at": _moment(one.resolved_at) if one.resolved_at else None,
        "impact": "maintenance" if one.kind == "maintenance" else one.impact,
        "shortlink": place.url(f"incidents/{one.id}"),
        "started_at": _moment(one.created_at),
        "page_id": page.id,
        "incident_updates": updates[::-1],
        "components": [components[key] for key in one.components if key in components],
    }
    if one.starts_at and one.ends_at:
        shown |= {"scheduled_for": _moment(one.starts_at), "scheduled_until": _moment(one.ends_at)}
    return shown


def _update(
    incident: str, key: str, status: str, text: str, at: datetime, affected: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "id": key,
        "status": status,
        "body": text,
        "incident_id": incident,
        "created_at": _moment(at),
        "updated_at": _moment(at),
        "display_at": _moment(at),
        "affected_components": affected,
        "deliver_notifications": True,
        "custom_tweet": None,
        "tweet_id": None,
    }


def _said(status: str) -> str:
    return "completed" if status == "cancelled" else status  # for which they have no word


def _moment(at: datetime) -> str:
    """With milliseconds, as they write it: some readers know no other form."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _newest(incidents: Iterable[Incident]) -> list[Incident]:
    return sorted(incidents, key=lambda one: one.created_at, reverse=True)


def _of(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
    asked = given["asked"]
    said: dict[str, Any] = {"page": _page(page, place)}
    if asked in ("summary", "components"):
        said["components"] = _components(page)
    told = {
        "summary": page.open,
        "incidents": _newest(page.incidents),
        "incidents/unresolved": page.open,
    }.get(asked)
    if told is not None:
        said["incidents"] = _incidents(page, place, told)
    planned = {
        "summary": page.ahead,
        "scheduled-maintenances": _newest(page.maintenances),
        "scheduled-maintenances/upcoming": [one for one in page.ahead if one.status == "scheduled"],
        "scheduled-maintenances/active": [one for one in page.ahead if one.status != "scheduled"],
    }.get(asked)
    if planned is not None:
        said["scheduled_maintenances"] = _incidents(page, place, planned)
    if asked in ("summary", "status"):
        said["status"] = _status(page)
    return Rendition(msgspec.json.encode(said), "application/json; charset=utf-8", OPEN)


_ASKED: Final = (
    "summary",
    "status",
    "components",
    "incidents",
    "incidents/unresolved",
    "scheduled-maintenances",
    "scheduled-maintenances/upcoming",
    "scheduled-maintenances/active",
)
VIEWS: Final[tuple[View, ...]] = (
    view(rf"api/v2/(?P<asked>{'|'.join(_ASKED)})\.json", _of, paths=[f"api/v2/{one}.json" for one in _ASKED]),
)
