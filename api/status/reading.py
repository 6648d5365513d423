"""What is read of a page from the database: a constant number of queries. Measured days are read less often, as they cost most."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from api.context import Services
from api.status.access import proof_of, seal_of
from api.status.document import (
    Document,
    Found,
    Incident,
    Picture,
    Series,
    Told,
    days,
    document,
    public,
    told,
)
from api.uptime import DAY_S, first_day, measure
from engine.store import assets, incidents, objects, rollups, uptime, views
from engine.store.database import Connection, Row, unless_cancelled
from engine.store.ids import show
from engine.store.objects import Stored
from engine.store.rollups import HOUR_S
from engine.store.signing import signing_key
from engine.store.states import moment
from evaluators.sketch import quantiles_s
from evaluators.uptime import Bar
from rules.component import Component, Uptime

MEASURED_S: Final = 60.0
"""How old measured days may be: they cost more than all else on the page."""
MEASURING_S: Final = 1.0
"""How long a page waits for newer ones, those measured longest ago first, while it has all."""
ARCHIVED_S: Final = 60.0
"""How old what was over before the first day shown may be."""
MOST_TOLD: Final = 5000
"""Incidents that a page remembers, and as much maintenance."""
AT_ONCE: Final = 200
HOURS: Final = 24
"""Of latency."""
MOST_SERIES: Final = 100
MOST_PAGES: Final = 1000
_NOW_S: Final = 0.001  # maintenance that touches so much of time is now


@dataclass(slots=True)
class Measured:
    """The days of components whose uptime is measured."""

    made: dict[UUID, tuple[float, int, list[Bar]]] = field(default_factory=dict)

    async def days(self, db: Connection, components: Sequence[Stored], now_s: float) -> dict[UUID, list[Bar]]:
        """Of those whose uptime is not simply what incidents said, the days up to now (seconds since the epoch)."""
        ways = {one.id: (one, Component.model_validate(one.spec).uptime) for one in components}
        asked = [key for key, (_, how) in ways.items() if how != Uptime()]
        self.made = {key: self.made.get(key, (0.0, 0, [])) for key in asked}
        clock = asyncio.get_running_loop().time
        enough = clock() + MEASURING_S
        for key in sorted(asked, key=lambda key: self.made[key][0]):
            component, how = ways[key]
            at, revision, _ = self.made[key]
            is_old = not 0 <= now_s - at < MEASURED_S and clock() < enough
            if is_old or revision != component.revision:
                (found,), _ = await measure(db, component, how, now_s, days(now_s))
                self.made[key] = now_s, component.revision, found
        return {key: found for key, (_, _, found) in self.made.items()}


@dataclass(slots=True)
class Remembered:
    """Incidents and maintenance of one page: what is open or of the days shown is looked at each time, the others rarely."""

    ids: Mapping[str, str]  # of listed components, as stored -> as shown
    made: dict[UUID, tuple[Row, Told]] = field(default_factory=dict)
    incidents: list[Told] = field(default_factory=list)  # newest first
    maintenances: list[Told] = field(default_factory=list)
    whole_s: float = float("-inf")

    async def look(self, db: Connection, page: Stored, now_s: float) -> None:
        """Make those anew that are otherwise, and forget those that are gone."""
        is_whole = not 0 <= now_s - self.whole_s < ARCHIVED_S
        since = moment(0.0 if is_whole else first_day(now_s) - DAY_S)
        rows = await views.stamps(db, page.id, [*self.ids], since, MOST_TOLD)
        stamps = {row["id"]: row for row in rows}
        fresh = [key for key, row in stamps.items() if key not in self.made or self.made[key][0] != row]
        gone = [key for key, (_, one) in self.made.items() if key not in stamps and _lasted(one, since)]
        for begin in range(0, len(fresh), AT_ONCE):
            keys = fresh[begin : begin + AT_ONCE]
            found, updates = await views.told(db, keys), await incidents.updates(db, keys)
            made = await asyncio.to_thread(self._told, found, updates)
            self.made |= {row["id"]: (stamps[row["id"]], one) for row, one in zip(found, made, strict=True)}
        for key in gone:
            self.made.pop(key, None)
        self.whole_s = now_s if is_whole else self.whole_s
        if fresh or gone:
            newest = sorted(self.made.values(), key=lambda one: _order(one[1].incident), reverse=True)
            self.incidents = [one for _, one in newest if one.incident.kind == "incident"][:MOST_TOLD]
            self.maintenances = [one for _, one in newest if one.incident.kind == "maintenance"][:MOST_TOLD]

    def _told(self, rows: Sequence[Row], updates: Mapping[UUID, Sequence[Row]]) -> list[Told]:
        return [told(row, updates[row["id"]], self.ids) for row in rows]


def _lasted(one: Told, since: datetime) -> bool:
    incident = one.incident
    ends = (incident.resolved_at, incident.ends_at)
    return not incident.is_over or any(end is not None and end >= since for end in ends)


def _order(incident: Incident) -> tuple[datetime, str]:
    return incident.starts_at or incident.created_at, incident.id


@dataclass(slots=True)
class Latencies:
    """What public beats took: read anew once a minute, and at once where one of them is not public any more."""

    read_s: float = 0.0
    versions: dict[str, int] = field(default_factory=dict)
    series: dict[UUID, list[Series]] = field(default_factory=dict)

    async def of(
        self, db: Connection, page: Stored, components: Sequence[Stored], now_s: float
    ) -> dict[UUID, list[Series]]:
        """By component, those of the last `HOURS` hours of what feeds it."""
        versions = self.versions
        if 0 <= now_s - self.read_s < MEASURED_S and versions == await views.versions(
            db, [*map(UUID, versions)]
        ):
            return self.series
        begin = (now_s // HOUR_S - HOURS + 1) * HOUR_S
        slugs = {one.id: one.slug for one in components}
        beats = await views.shown_beats(db, page.slug, page.id, slugs, MOST_SERIES)
        rows = await rollups.totals(db, [*{row["beat_id"] for row in beats}], moment(begin)) if beats else []
        hours: dict[UUID, tuple[list[float | None], ...]] = {}
        for row in rows:
            place = int((row["start"].timestamp() - begin) // HOUR_S)
            p50s, p95s = hours.setdefault(row["beat_id"], ([None] * HOURS, [None] * HOURS))
            if place < HOURS and (cells := rollups.sketches(row).get("total")):
                p50s[place], p95s[place] = quantiles_s(cells, (0.5, 0.95))
        series: dict[UUID, list[Series]] = {}
        for row in beats:
            if row["beat_id"] in hours:
                one = Series(row["name"], begin, HOUR_S, *hours[row["beat_id"]])
                series.setdefault(row["component_id"], []).append(one)
        self.read_s, self.series = now_s, series
        self.versions = {key: n for row in beats for key, n in row["versions"].items()}
        return series


@dataclass(slots=True)
class Memory:
    """What was read of one page before."""

    measured: Measured = field(default_factory=Measured)
    latencies: Latencies = field(default_factory=Latencies)
    told: Remembered = field(default_factory=lambda: Remembered({}))
    pictures: dict[str, Picture] = field(default_factory=dict)

    async def look_at_pictures(self, db: Connection, page_id: UUID) -> None:
        """Read them where they changed."""
        files = await assets.files(db, page_id)
        if files != {name: picture.file for name, picture in self.pictures.items()}:
            rows = await assets.all_of(db, page_id)
            self.pictures = {
                row["name"]: Picture(row["file"], row["media_type"], row["body"]) for row in rows
            }


@dataclass(slots=True)
class Reader:
    """Reads pages; remembers what it read, of those that were read last."""

    services: Services
    pages: dict[UUID, Memory] = field(default_factory=dict)

    async def page(self, slug: str) -> Document | None:
        """The page `slug` as it is now; None: there is none."""
        now_s = self.services.clock.epoch_s()
        now = moment(now_s)
        async with unless_cancelled(self.services.pool) as db:
            try:
                stored = await objects.find(db, "page", slug)
            except objects.MissingError:
                return None
            components = await objects.listing(db, "component", pages=[stored.id])
            listed = public(components)
            ids = {str(one.id): show("component", one.id) for one in listed}
            memory = self.pages[stored.id] = self.pages.pop(stored.id, Memory())
            if len(self.pages) > MOST_PAGES:
                del self.pages[next(iter(self.pages))]
            if memory.told.ids != ids:
                memory.told = Remembered(ids)
            known = memory.told
            await known.look(db, stored, now_s)
            latencies = await memory.latencies.of(db, stored, listed, now_s)
            measured = await memory.measured.days(db, listed, now_s)
            windows = await uptime.windows(db, components, now_s, now_s + _NOW_S)
            await memory.look_at_pictures(db, stored.id)
            seal = seal_of(await signing_key(db), stored.id)
        found = Found(
            page=stored,
            components=components,
            incidents=known.incidents,
            maintenances=known.maintenances,
            measured=measured,
            latencies=latencies,
            maintained={component_id: spans[0][0] for component_id, spans in windows.items() if spans},
            pictures=memory.pictures,
        )
        page = await asyncio.to_thread(document, found, now)
        if not self.services.settings.can_mail:  # nobody is offered what cannot be
            kinds = [kind for kind in page.rule.subscribers.kinds if kind != "email"]
            offered = page.rule.subscribers.model_copy(update={"kinds": kinds})
            page = replace(page, rule=page.rule.model_copy(update={"subscribers": offered}))
        return replace(page, seal=seal, proof=proof_of(page.rule, seal, self.services.secrets.of(stored.id)))
