"""What a public page says: components, incidents and maintenance, made of what was approved, of manual settings, and of measured
days where components are set so. Values and how they are made; no view of them. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal
from uuid import UUID

from msgspec import Struct

from api.uptime import DAY_S, first_day, whole
from engine.store.database import Row
from engine.store.ids import show
from engine.store.objects import Stored
from evaluators.lifecycle import ENDED, impact_of
from evaluators.model import Impact
from evaluators.public import component_status, overall_status
from evaluators.uptime import INCIDENTS_DOWN, Bar, bars, edges, incident_line, of_incidents, told_since
from rules import markdown
from rules.component import Component
from rules.page import Page

PAST_DAYS: Final = 14
REDRAWN_S: Final = 60.0
"""How old days by what was said may be while nothing is said."""
_OF_STAGE: Final = {"ok": "operational", "warning": "degraded_performance", "critical": "major_outage"}


class Day(Struct, frozen=True):
    """One bar of a component: UTC."""

    date: str  # 2026-11-21
    status: str | None  # None: nothing is known of it
    uptime: float | None


class Series(Struct, frozen=True):
    """What a public beat took, hour by hour."""

    name: str
    since: float  # seconds since the epoch
    step_s: float
    p50: list[float | None]  # seconds
    p95: list[float | None]


class Picture(Struct, frozen=True):
    """An uploaded picture, as it is served."""

    file: str  # its name below `assets/`, which changes with its content
    media_type: str
    body: bytes


class Shown(Struct, frozen=True):
    """A component as it is shown."""

    id: str
    slug: str
    name: str
    description: str
    group: str | None
    status: str
    position: int
    created_at: datetime
    updated_at: datetime
    uptime: float | None
    uptime_by: str
    days: list[Day]  # empty where it does not show them
    shows_uptime: bool = True
    latency: list[Series] = []


class Update(Struct, frozen=True):
    """What was said of an incident."""

    id: str
    status: str
    text: str
    is_markdown: bool
    at: datetime
    components: dict[str, str] = {}  # ids of listed components -> what they were shown as from then on

    @property
    def plain(self) -> str:
        """`text` for who is shown no Markdown."""
        return markdown.plain(self.text) if self.is_markdown else self.text


class Report(Struct, frozen=True):
    """Written after it was over; Markdown."""

    text: str
    at: datetime


class Incident(Struct, frozen=True):
    """An incident or announced maintenance as it is shown."""

    id: str
    kind: Literal["incident", "maintenance"]
    title: str
    status: str
    impact: Impact
    created_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    starts_at: datetime | None  # of maintenance
    ends_at: datetime | None
    components: dict[str, str]  # ids of listed components -> what it says of them now
    updates: list[Update]  # newest first
    report: Report | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Document:
    """A whole page at one moment: all that any view of it is made from."""

    id: str
    rule: Page
    status: str
    components: list[Shown]  # in the page's order
    incidents: list[Incident]  # all that the page remembers, newest first; open ones are among them
    maintenances: list[
        Incident
    ]  # likewise: those to come and under way by when they begin, then those that are over, newest first
    at: datetime  # when it was read
    pictures: Mapping[str, Picture]  # logo, logo-dark, favicon
    seal: str = field(default="", repr=False)  # what its cookies and links are signed with
    proof: str = field(default="", repr=False)  # what a link carries that lets in by password; "": none does
    stale_since: datetime | None = None  # when newer could not be read any more

    @property
    def open(self) -> list[Incident]:
        """Incidents that are not over."""
        return [incident for incident in self.incidents if not incident.is_over]

    @property
    def ahead(self) -> list[Incident]:
        """Maintenance that is not over."""
        return [one for one in self.maintenances if not one.is_over]

    @property
    def state(self) -> str:
        """The status whose colour the whole has: what names no component counts too."""
        if self.status == "operational" and self.open:
            return "degraded_performance"
        is_kept = self.status == "operational" and any(one.status != "scheduled" for one in self.ahead)
        return "under_maintenance" if is_kept else self.status

    @property
    def told(self) -> list[Incident]:
        """All incidents and maintenance."""
        return [*self.incidents, *self.maintenances]

    def one(self, incident_id: str) -> Incident | None:
        """The one of them with this id."""
        return next((one for one in self.told if one.id == incident_id), None)

    def named(self, incident: Incident) -> list[str]:
        """The names of the components it is about."""
        return [shown.name for shown in self.components if shown.id in incident.components]


def days(now: float) -> list[float]:
    """The edges of the days, UTC, whose bars are shown."""
    return edges(first_day(now), now, DAY_S)


@dataclass(frozen=True, slots=True)
class Told:
    """An incident or maintenance, and what it said of each listed component: made once for each of its revisions."""

    incident: Incident
    said: Mapping[
        str, Sequence[tuple[object, float, str | None]]
    ]  # of `of_incidents`, by id of the component
    changed: Mapping[str, datetime]  # when that was last something else


@dataclass(frozen=True, slots=True)
class Found:
    """What was read of a page. `incidents` and `maintenances` newest first."""

    page: Stored
    components: Sequence[Stored]
    incidents: Sequence[Told]
    maintenances: Sequence[Told]
    measured: Mapping[UUID, Sequence[Bar]]  # days of components that are measured
    latencies: Mapping[UUID, list[Series]]
    maintained: Mapping[
        UUID, float
    ]  # components that a window of them, or of the page, covers now: since when
    pictures: Mapping[str, Picture]


def document(found: Found, now: datetime) -> Document:
    """The page at `now`."""
    told = [one.incident for one in found.maintenances]
    current: dict[str, list[str]] = {}
    for incident in [one.incident for one in found.incidents if not one.incident.is_over]:
        for key, status in incident.components.items():
            current.setdefault(key, []).append(status)
    for one in told:
        for key in () if one.is_over or one.status == "scheduled" else one.components:
            current.setdefault(key, []).append("under_maintenance")
    said: dict[str, list[tuple[object, float, str | None]]] = {}
    changed: dict[str, datetime] = {}
    for history in (*found.incidents, *found.maintenances):
        for key, at in history.changed.items():
            changed[key] = max(at, changed.get(key, at))
    until = _until(found, now.timestamp())
    since = days(until)[0]
    for history in found.incidents:
        if history.incident.resolved_at is None or history.incident.resolved_at.timestamp() >= since:
            for key, steps in history.said.items():
                said.setdefault(key, []).extend(steps)
    components = [
        _component(
            stored,
            found,
            until,
            current.get(key := show("component", stored.id), []),
            said.get(key, []),
            changed.get(key),
        )
        for stored in public(found.components)
    ]
    return Document(
        id=show("page", found.page.id),
        rule=Page.model_validate(found.page.spec),
        status=overall_status(component.status for component in components),
        components=components,
        incidents=[one.incident for one in found.incidents],
        maintenances=[
            *sorted((one for one in told if not one.is_over), key=lambda one: (one.starts_at or now, one.id)),
            *(one for one in told if one.is_over),
        ],
        at=now,
        pictures=found.pictures,
    )


def public(components: Iterable[Stored]) -> list[Stored]:
    """Those that the page shows, in its order."""
    listed = [stored for stored in components if stored.spec.get("listed", True)]
    return sorted(listed, key=lambda stored: (stored.spec.get("position", 0), stored.spec["name"].lower()))


def _until(found: Found, now_s: float) -> float:
    """Up to when days are drawn: the last whole minute, or a second after what happened since. Else every page would be another
    each second, as the share of time that it was up is.
    """
    said = (at for one in found.incidents for steps in one.said.values() for _, at, _ in steps)
    born = (stored.created_at.timestamp() for stored in found.components)
    newest = max(at for at in (now_s // DAY_S * DAY_S, *said, *born) if at <= now_s)
    return max(now_s // REDRAWN_S * REDRAWN_S, min(now_s, newest + 1))


def _component(
    stored: Stored,
    found: Found,
    until: float,
    current: list[str],
    said: Sequence[tuple[object, float, str | None]],
    changed: datetime | None,
) -> Shown:
    rule = Component.model_validate(stored.spec)
    moments = [stored.created_at, *([changed] if changed else [])]
    if rule.status is not None:
        moments.append(stored.updated_at)
    if stored.id in found.maintained:
        current = [*current, "under_maintenance"]
        moments.append(datetime.fromtimestamp(found.maintained[stored.id], UTC))
    drawn, share = list[Day](), None
    if rule.shows_uptime and (daily := found.measured.get(stored.id)):
        drawn, share = _drawn(daily)
    elif rule.shows_uptime:
        born = max(stored.created_at.timestamp(), days(until)[0])
        drawn, share = _told_days(tuple(said), born, until)
    return Shown(
        id=show("component", stored.id),
        slug=rule.slug,
        name=rule.name,
        description=rule.description,
        group=rule.group,
        status=component_status(rule.status, current),
        position=rule.position,
        created_at=stored.created_at,
        updated_at=max(moments),
        uptime=share,
        uptime_by=rule.uptime.by,
        days=drawn,
        shows_uptime=rule.shows_uptime,
        latency=found.latencies.get(stored.id, []),
    )


def _status(bar: Bar) -> str | None:
    if bar.worst is None:
        return "under_maintenance" if bar.parts.maintenance else None
    return _OF_STAGE.get(bar.worst, bar.worst)


@lru_cache(256)
def _date(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).date().isoformat()


def _drawn(daily: Sequence[Bar]) -> tuple[list[Day], float | None]:
    shown = [Day(_date(bar.start), _status(bar), bar.parts.uptime) for bar in daily]
    return shown, whole(daily).uptime


@lru_cache(2000)
def _told_days(
    said: tuple[tuple[object, float, str | None], ...], born: float, until: float
) -> tuple[list[Day], float | None]:
    """Days by what approved updates said. Components of which nothing was said share theirs."""
    impacts, edges_s = of_incidents(said, until), days(until)
    line = incident_line(impacts, max(told_since(impacts, born), edges_s[0]), until)
    return _drawn(bars(line, edges_s, INCIDENTS_DOWN))


def told(row: Row, updates: Sequence[Row], ids: Mapping[str, str]) -> Told:
    """An incident or maintenance and its updates, newest first. `ids`: of listed components, as they are stored -> as shown."""
    is_told = row["report_status"] == "published" and row["status"] == "resolved"
    incident = Incident(
        id=show("incident", row["id"]),
        kind=row["kind"],
        title=row["title"],
        status=row["status"],
        impact=impact_of(row["severity"], row["components"].values(), row["impact"]),
        created_at=row["created_at"],
        updated_at=max((update["at"] for update in updates), default=row["created_at"]),
        resolved_at=row["resolved_at"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        components={ids[key]: said for key, said in row["components"].items() if key in ids},
        updates=[
            Update(
                show("update", one["id"]),
                one["status"],
                one["text"],
                one["is_markdown"],
                one["at"],
                {ids[key]: said for key, said in one["components"].items() if key in ids},
            )
            for one in updates
        ],
        report=Report(row["report"], row["report_at"]) if is_told else None,
    )
    return Told(incident, *_said(incident))


def _said(
    incident: Incident,
) -> tuple[dict[str, list[tuple[object, float, str | None]]], dict[str, datetime]]:
    said: dict[str, list[tuple[object, float, str | None]]] = {}
    changed: dict[str, datetime] = {}
    spoken = incident.updates[::-1]
    for key in {key for one in spoken for key in one.components}:
        # What was entered after the fact began before that.
        steps: list[tuple[object, float, str | None]] = [
            (incident.id, incident.created_at.timestamp(), spoken[0].components.get(key))
        ]
        before = "operational"
        for one in spoken:
            is_none = one.status == "scheduled" or one.status in ENDED
            status = None if is_none else one.components.get(key)
            steps.append((incident.id, one.at.timestamp(), status))
            if (shown := status or "operational") != before:
                changed[key], before = one.at, shown
        said[key] = steps
    return said, changed


def past(page: Document) -> list[tuple[str, list[Incident]]]:
    """The last `PAST_DAYS` days, newest first, each with the incidents that are over and began there."""
    today = page.at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    dates = [(today - timedelta(days=back)).date() for back in range(PAST_DAYS)]
    over: dict[Any, list[Incident]] = {}
    for incident in page.incidents:
        if incident.is_over:
            over.setdefault(incident.created_at.astimezone(UTC).date(), []).append(incident)
    return [(date.isoformat(), over.get(date, [])) for date in dates]
