"""What is read of a page from the database: a constant number of queries. Measured days are read less often, as they cost most."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from api.context import Services
from api.status.access import proof_of, seal_of
from api.status.document import Document, Found, Picture, days, document, public
from api.uptime import first_day, measure
from engine.store import assets, incidents, objects, uptime, views
from engine.store.database import Connection
from engine.store.objects import Stored
from engine.store.signing import signing_key
from engine.store.states import moment
from evaluators.uptime import Bar
from rules.component import Component, Uptime

MEASURED_S: Final = 60.0
"""How old measured days may be: they cost more than all else on the page."""
MEASURING_S: Final = 1.0
"""How long a page waits for newer ones, those measured longest ago first, while it has all."""
MOST_MEASURED: Final = 10_000
_NOW_S: Final = 0.001  # maintenance that touches so much of time is now


@dataclass(slots=True)
class Measured:
    """The days of components whose uptime is measured."""

    made: dict[UUID, tuple[float, int, list[Bar]]] = field(default_factory=dict)

    async def days(self, db: Connection, components: Sequence[Stored], now_s: float) -> dict[UUID, list[Bar]]:
        """Of those whose uptime is not simply what incidents said, the days up to now (seconds since the epoch)."""
        ways = {one.id: (one, Component.model_validate(one.spec).uptime) for one in components}
        clock = asyncio.get_running_loop().time
        shown, enough = {}, clock() + MEASURING_S
        for key in sorted(ways, key=lambda key: self.made[key][0] if key in self.made else 0.0):
            component, how = ways[key]
            if how == Uptime():
                continue
            at, revision, found = self.made.get(key, (0.0, 0, []))
            is_old = not 0 <= now_s - at < MEASURED_S and clock() < enough
            if is_old or revision != component.revision:
                (found,), _ = await measure(db, component, how, now_s, days(now_s))
                if len(self.made) >= MOST_MEASURED:
                    self.made.clear()
                self.made[key] = now_s, component.revision, found
            shown[key] = found
        return shown


@dataclass(slots=True)
class Reader:
    """Reads pages; knows what it measured before."""

    services: Services
    measured: Measured = field(default_factory=Measured)
    pictures: dict[UUID, dict[str, Picture]] = field(default_factory=dict)

    async def page(self, slug: str) -> Document | None:
        """The page `slug` as it is now; None: there is none."""
        now_s = self.services.clock.epoch_s()
        now = moment(now_s)
        async with self.services.pool.acquire() as db:
            try:
                stored = await objects.find(db, "page", slug)
            except objects.MissingError:
                return None
            components = await objects.listing(db, "component", pages=[stored.id])
            ids = [component.id for component in components]
            since = moment(first_day(now_s)) - timedelta(days=1)
            told = await views.published(db, stored.id, ids, since)
            announced = await views.announced(db, stored.id, ids, since)
            updates = await incidents.updates(db, [row["id"] for row in [*told, *announced]])
            measured = await self.measured.days(db, public(components), now_s)
            windows = await uptime.windows(db, components, now_s, now_s + _NOW_S)
            pictures = await self._pictures(db, stored.id)
            seal = seal_of(await signing_key(db), stored.id)
        found = Found(
            page=stored,
            components=components,
            incidents=told,
            maintenances=announced,
            updates=updates,
            measured=measured,
            latencies={},
            maintained={component_id for component_id, spans in windows.items() if spans},
            pictures=pictures,
        )
        page = await asyncio.to_thread(document, found, now)
        return replace(page, seal=seal, proof=proof_of(page.rule, seal, self.services.secrets.of(stored.id)))

    async def _pictures(self, db: Connection, page_id: UUID) -> dict[str, Picture]:
        """Those of a page, read where they changed."""
        files = await assets.files(db, page_id)
        known = self.pictures.get(page_id, {})
        if files != {name: picture.file for name, picture in known.items()}:
            rows = await assets.all_of(db, page_id)
            known = {row["name"]: Picture(row["file"], row["media_type"], row["body"]) for row in rows}
            self.pictures[page_id] = known
        return known
