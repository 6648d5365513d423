"""`status.json`: the page for programs, in Upbeat's own words, and `badge.json`, as shields.io reads it. Statuspage's words are another module's."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from api.status.badge import colour, said_of
from api.status.document import Document, Incident, past
from api.status.view import OPEN, Place, Rendition, View, view
from rules.markdown import one_line


def _incident(page: Document, one: Incident) -> dict[str, Any]:
    names = page.named(one)
    return {
        "id": one.id,
        "title": one.title,
        "status": one.status,
        "impact": one.impact,
        "created_at": one.created_at,
        "resolved_at": one.resolved_at,
        "components": names,
        "updates": [
            {"status": said.status, "text": said.text, "is_markdown": said.is_markdown, "at": said.at}
            for said in one.updates
        ],
        "report": {"text": one.report.text, "at": one.report.at} if one.report else None,
    }


def _maintenance(page: Document, one: Incident) -> dict[str, Any]:
    shown = _incident(page, one)
    return {
        **{key: shown[key] for key in ("id", "title", "status", "components", "updates")},
        "starts_at": one.starts_at,
        "ends_at": one.ends_at,
    }


def _status_json(page: Document, _: Place, __: Mapping[str, str]) -> Rendition:
    said = {
        "as_of": page.stale_since or page.at,
        "is_stale": page.stale_since is not None,
        "page": {key: getattr(page.rule, key) for key in ("slug", "name", "description", "homepage")},
        "status": page.status,
        "components": [
            {
                "slug": shown.slug,
                "name": shown.name,
                "description": shown.description,
                "group": shown.group,
                "status": shown.status,
                "uptime": shown.uptime,
                "uptime_by": shown.uptime_by,
                "bars": shown.days,
                "latency": [
                    {
                        **msgspec.structs.asdict(one),
                        "since": datetime.fromtimestamp(one.since, UTC),
                    }
                    for one in shown.latency
                ],
            }
            for shown in page.components
        ],
        "open": [_incident(page, one) for one in page.open],
        "maintenances": [_maintenance(page, one) for one in page.ahead],
        "days": [
            {"date": date, "incidents": [_incident(page, one) for one in over]} for date, over in past(page)
        ],
    }
    return Rendition(msgspec.json.encode(said), "application/json", OPEN)


def _badge(page: Document, place: Place, given: Mapping[str, str]) -> Rendition | None:
    found = said_of(page, place, given.get("component"))
    if found is None:
        return None
    name, status, state = found
    said = {"schemaVersion": 1, "label": one_line(name), "message": state, "color": colour(page, status)}
    return Rendition(msgspec.json.encode(said), "application/json", OPEN)


VIEWS: Final[tuple[View, ...]] = (
    view(r"status\.json", _status_json, paths=["status.json"]),
    view(
        r"badge(?:/(?P<component>[a-z0-9-]{1,63}))?\.json",  # as shields.io reads it
        _badge,
        paths=lambda page: ["badge.json", *(f"badge/{one.slug}.json" for one in page.components)],
        is_spoken=True,
    ),
)
