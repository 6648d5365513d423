"""What a maintenance window is shown with: whether it runs, when next, what it covers. Declaring one is `api.saving`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from api.auth import Permission, Principal
from engine.store import announcing, incidents, maintenance
from engine.store.database import Connection
from engine.store.ids import show
from engine.store.objects import Stored
from engine.store.states import moment
from rules.maintenance import Maintenance, Moment
from rules.shape import Slug

_SAID: Final = ("status", "text", "is_markdown", "notify", "at", "by")


class Begun(Maintenance):
    """A new window as API and console take it: begun now, under a slug made up, unless it says otherwise."""

    slug: Slug | None = None  # type: ignore[assignment]
    start: Moment | None = None  # type: ignore[assignment]


async def seen(
    db: Connection, asking: Principal, found: Sequence[Stored], pages: Mapping[UUID, str], now_s: float
) -> list[dict[str, Any]]:
    """Of each of these `active`, `next` (the time that runs, else the next one), `covers`, and what was `announced`."""
    rules = {stored.id: (pages[stored.page_id or stored.id], rule_of(stored)) for stored in found}
    covers = await maintenance.covered(db, asking.pages_for(Permission.READ), rules)
    rows = await announcing.listing(db, [stored.id for stored in found], now_s)
    updates = await incidents.updates(db, [row["id"] for row in rows])
    spans = [rules[stored.id][1].next(now_s) for stored in found]
    return [
        {
            "active": span is not None and span[0] <= now_s,
            "next": {"start": moment(span[0]), "end": moment(span[1])} if span else None,
            "covers": covers[stored.id],
            "announced": [
                {"incident": show("incident", row["id"])}
                | {name: row[name] for name in ("title", "status", "starts_at", "ends_at")}
                | {"updates": [{name: said[name] for name in _SAID} for said in updates[row["id"]]]}
                for row in rows
                if row["window_id"] == stored.id
            ],
        }
        for stored, span in zip(found, spans, strict=True)
    ]


def rule_of(stored: Stored) -> Maintenance:
    """The window as it is declared."""
    return Maintenance.model_validate(stored.spec)
