"""What a public page says, as one JSON-like document: from components, approved incidents and manual settings. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from engine.store.database import Row
from engine.store.ids import show
from engine.store.objects import Stored
from evaluators.public import PRECEDENCE, Bar, Span, bars, component_status, overall_status
from rules.component import Component

DAYS: Final = 90
PAST_DAYS: Final = 14
DAY_S: Final = 86400.0
_DOWN: Final = frozenset({"partial_outage", "major_outage"})


def first_day(now: datetime) -> datetime:
    """Midnight, UTC, of the first of `DAYS` days that end today."""
    return _midnight(now) - timedelta(days=DAYS - 1)


def _midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def document(
    page: Stored,
    components: Sequence[Stored],
    incidents: Sequence[Row],
    updates: Mapping[UUID, Sequence[Row]],
    now: datetime,
) -> dict[str, Any]:
    """The page at `now`; `incidents` newest first, their `updates` newest first."""
    impacts = _impacts(incidents, updates)
    listed = _listed(components)
    names = {str(stored.id): stored.spec["name"] for stored in listed}
    shown = [_component(stored, incidents, impacts, now) for stored in listed]
    open_now = [row for row in incidents if row["status"] != "resolved"]
    return {
        "page": {key: page.spec.get(key, "") for key in ("slug", "name", "description", "homepage")},
        "status": overall_status(component["status"] for component in shown),
        "components": shown,
        "open": [_incident(row, updates[row["id"]], names) for row in open_now],
        "days": _past(incidents, updates, names, now),
    }


def _listed(components: Iterable[Stored]) -> list[Stored]:
    listed = [stored for stored in components if stored.spec.get("listed", True)]
    return sorted(listed, key=lambda stored: (stored.spec.get("position", 0), stored.spec["name"].lower()))


def _component(
    stored: Stored, incidents: Sequence[Row], impacts: Mapping[str, Sequence[Span]], now: datetime
) -> dict[str, Any]:
    rule = Component.model_validate(stored.spec)
    key = str(stored.id)
    now_s, start_s = now.timestamp(), first_day(now).timestamp()
    spans = disjoint(impacts.get(key, ()), stored.created_at.timestamp(), now_s)

    def cut(step_s: float, count: int) -> tuple[Bar, ...]:
        return bars(spans, start=start_s, step_s=step_s, count=count, now=now_s, down=_DOWN, rank=PRECEDENCE)

    daily, (whole,) = cut(DAY_S, DAYS), cut(DAY_S * DAYS, 1)
    current = [
        row["components"][key]
        for row in incidents
        if row["status"] != "resolved" and key in row["components"]
    ]
    return {
        "slug": rule.slug,
        "name": rule.name,
        "description": rule.description,
        "group": rule.group,
        "status": component_status(rule.status, current),
        "uptime": whole.up_ratio,
        "bars": [{"date": _date(bar.start), "status": bar.value, "uptime": bar.up_ratio} for bar in daily],
    }


def _date(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).date().isoformat()


def _impacts(incidents: Sequence[Row], updates: Mapping[UUID, Sequence[Row]]) -> dict[str, list[Span]]:
    """Per component id, when approved updates said what of it; an end of None lasts."""
    found: dict[str, list[Span]] = {}
    for incident in incidents:
        oldest_first = updates[incident["id"]][::-1]
        ends = [update["at"].timestamp() for update in oldest_first[1:]]
        for update, end in zip(oldest_first, [*ends, None], strict=True):
            if update["status"] == "resolved":
                continue
            for component, status in update["components"].items():
                found.setdefault(component, []).append(Span(update["at"].timestamp(), end, status))
    return found


def disjoint(impacts: Sequence[Span], begins: float, now: float) -> list[Span]:
    """The time from `begins` to `now` cut where anything changes: the worst of `impacts` in each piece, else operational."""
    edges = {begins, now}
    for span in impacts:
        edges |= {
            min(max(edge, begins), now) for edge in (span.start, span.end if span.end is not None else now)
        }
    points = sorted(edges)
    pieces = []
    for left, right in pairwise(points):
        there = [s.value for s in impacts if s.start <= left and (s.end is None or s.end >= right)]
        pieces.append(Span(left, right, component_status(None, there)))
    return pieces


def _incident(row: Row, updates: Sequence[Row], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": show("incident", row["id"]),
        "title": row["title"],
        "status": row["status"],
        "impact": overall_status(row["components"].values()),
        "created_at": row["created_at"],
        "resolved_at": row["resolved_at"],
        "components": [names[key] for key in row["components"] if key in names],
        "updates": [{"status": u["status"], "text": u["text"], "at": u["at"]} for u in updates],
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
