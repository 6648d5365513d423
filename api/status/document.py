"""What a public page says, as one JSON-like document: from components, approved incidents, manual settings, and measured
days of components that are set so. Pure.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from api.uptime import DAY_S, first_day, whole
from engine.store.database import Row
from engine.store.ids import show
from engine.store.objects import Stored
from evaluators.public import component_status, overall_status
from evaluators.uptime import INCIDENTS_DOWN, Bar, bars, edges, incident_line, of_incidents
from rules.component import Component

PAST_DAYS: Final = 14
_SHARED: Final = ("id", "components", "updates")
_OF_STAGE: Final = {"ok": "operational", "warning": "degraded_performance", "critical": "major_outage"}


def days(now: float) -> list[float]:
    """The edges of the days, UTC, whose bars are shown."""
    return edges(first_day(now), now, DAY_S)


def _midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def document(
    page: Stored,
    components: Sequence[Stored],
    incidents: Sequence[Row],
    updates: Mapping[UUID, Sequence[Row]],
    measured: Mapping[UUID, Sequence[Bar]],
    maintained: Collection[UUID],
    announced: Sequence[Row],
    now: datetime,
) -> dict[str, Any]:
    """The page at `now`; `incidents` newest first, their `updates` newest first; `measured`: days of those that are.

    `maintained` are the components that a maintenance window of them, or of their page, covers now; `announced` is
    maintenance that is not over.
    """
    running = {key for row in announced if row["status"] != "scheduled" for key in row["components"]}
    listed = public(components)
    names = {str(stored.id): stored.spec["name"] for stored in listed}
    shown = [
        _component(
            stored,
            incidents,
            measured.get(stored.id) or _told(stored, incidents, updates, now),
            is_maintained=stored.id in maintained or str(stored.id) in running,
        )
        for stored in listed
    ]
    open_now = [row for row in incidents if row["status"] != "resolved"]
    return {
        "page": {key: page.spec.get(key, "") for key in ("slug", "name", "description", "homepage")},
        "status": overall_status(component["status"] for component in shown),
        "components": shown,
        "open": [_incident(row, updates[row["id"]], names) for row in open_now],
        "maintenances": [
            {key: row[key] for key in ("title", "status", "starts_at", "ends_at")}
            | {key: said for key, said in _incident(row, updates[row["id"]], names).items() if key in _SHARED}
            for row in announced
        ],
        "days": _past(incidents, updates, names, now),
    }


def public(components: Iterable[Stored]) -> list[Stored]:
    """Those that the page shows, in its order."""
    listed = [stored for stored in components if stored.spec.get("listed", True)]
    return sorted(listed, key=lambda stored: (stored.spec.get("position", 0), stored.spec["name"].lower()))


def _component(
    stored: Stored, incidents: Sequence[Row], daily: Sequence[Bar], *, is_maintained: bool
) -> dict[str, Any]:
    rule = Component.model_validate(stored.spec)
    key = str(stored.id)
    current = [
        row["components"][key]
        for row in incidents
        if row["status"] != "resolved" and key in row["components"]
    ]
    if is_maintained:
        current.append("under_maintenance")
    return {
        "slug": rule.slug,
        "name": rule.name,
        "description": rule.description,
        "group": rule.group,
        "status": component_status(rule.status, current),
        "uptime": whole(daily).uptime,
        "uptime_by": rule.uptime.by,
        "bars": [
            {"date": _date(bar.start), "status": _status(bar), "uptime": bar.parts.uptime} for bar in daily
        ],
    }


def _status(bar: Bar) -> str | None:
    if bar.worst is None:
        return "under_maintenance" if bar.parts.maintenance else None
    return _OF_STAGE.get(bar.worst, bar.worst)


def _date(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).date().isoformat()


def _told(
    stored: Stored, incidents: Sequence[Row], updates: Mapping[UUID, Sequence[Row]], now: datetime
) -> list[Bar]:
    """Its days by what approved updates said of it."""
    key, said = str(stored.id), list[tuple[UUID, float, str | None]]()
    for row in incidents:
        spoken = updates[row["id"]][::-1]
        for first in spoken[:1]:  # what was entered after the fact began before that
            said.append((row["id"], row["created_at"].timestamp(), first["components"].get(key)))
        for one in spoken:
            status = None if one["status"] == "resolved" else one["components"].get(key)
            said.append((row["id"], one["at"].timestamp(), status))
    now_s, born = now.timestamp(), stored.created_at.timestamp()
    return bars(incident_line(of_incidents(said, now_s), born, now_s), days(now_s), INCIDENTS_DOWN)


def _incident(row: Row, updates: Sequence[Row], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": show("incident", row["id"]),
        "title": row["title"],
        "status": row["status"],
        "impact": overall_status(row["components"].values()),
        "created_at": row["created_at"],
        "resolved_at": row["resolved_at"],
        "components": [names[key] for key in row["components"] if key in names],
        "updates": [{key: u[key] for key in ("status", "text", "is_markdown", "at")} for u in updates],
        "report": {"text": row["report"], "at": row["report_at"]}
        if row["report_status"] == "published" and row["status"] == "resolved"
        else None,
    }


def _past(
    incidents: Sequence[Row],
    updates: Mapping[UUID, Sequence[Row]],
    names: Mapping[str, str],
    now: datetime,
) -> list[dict[str, Any]]:
    """The last `PAST_DAYS` days, newest first, with the resolved incidents that began there."""
    today, days = _midnight(now), []
    for back in range(PAST_DAYS):
        day = (today - timedelta(days=back)).date()
        began = [
            _incident(row, updates[row["id"]], names)
            for row in incidents
            if row["status"] == "resolved" and row["created_at"].astimezone(UTC).date() == day
        ]
        days.append({"date": day.isoformat(), "incidents": began})
    return days
