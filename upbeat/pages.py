"""Pages as files, for publishers that keep them: read from the database, made by the views that make the live ones."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from api.context import Services
from api.status import export
from api.status.reading import Reader
from engine.store import objects, refreshing
from exporters.outcome import Rejected
from exporters.static import Rendered
from rules.publishers.static import StaticPublisher


@dataclass(slots=True)
class Pages:
    """Those of an installation. `services` are asked for once they are needed: a process may have no API."""

    services: Callable[[], Services]
    _reader: Reader | None = None

    async def rendered(self, page_id: UUID | None, rule: StaticPublisher) -> Rendered | Rejected:
        """The page as this publisher keeps it."""
        services = self.services()
        self._reader = reader = self._reader or Reader(services)
        async with services.pool.acquire() as db:
            stored = await objects.get(db, page_id) if page_id else None
            # Before the page is read: what changes between the two is written once more.
            (state,) = (
                await refreshing.states(db, [(page_id, rule)], services.clock.epoch_s()) if page_id else [""]
            )
        page = await reader.page(stored.slug) if stored and stored.removed_at is None else None
        if page is None:
            return Rejected("its page is not there")
        if not (page.rule.access.is_public or rule.public):
            return Rejected(export.REFUSED)
        url = services.settings.public_url
        live = f"{url}/p/{page.rule.slug}" if url else ""
        place = export.place_of(page, rule.origin, rule.base, live, index=rule.index)
        return Rendered(page.rule.slug, state, export.files(page, place))
