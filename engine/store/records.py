"""What triggers did and have open, for who reads it and decides whether they may speak by themselves. What they remember is `engine.store.triggers`'."""

import hashlib
import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from engine.store import reviews
from engine.store.database import Connection
from engine.store.states import moment
from engine.store.triggers import Tally
from evaluators.trigger import Head, Key
from rules.redaction import hidden_text
from rules.trigger import Trigger

NEWEST: Final = 1000
"""Open signals of a trigger that are shown."""


class Standing(NamedTuple):
    """What is shown of a trigger beside its rule."""

    tally: Tally
    promoted: dict[str, Any] | None
    open_signals: int


class Open(NamedTuple):
    """An open signal for people, and the slug of what it is about: `group:slug` of a group."""

    fingerprint: str
    severity: str
    since: datetime
    event: str | None
    message: str
    target: str | None


class Record(msgspec.Struct, frozen=True):
    """What a trigger did since it decides as it does now, and what people made of what it proposed."""

    since: float
    matches: int
    opened: int
    resolved: int
    errors: int
    real_firings: int
    real_recoveries: int
    approved_unedited: int
    approved_edited: int
    rejected: int
    expired: int

    @property
    def lacks(self) -> str | None:
        """Why it may not be promoted; None where it may."""
        missing = {"firing": self.real_firings, "recovery": self.real_recoveries}
        said = " and no ".join(name for name, count in missing.items() if not count)
        return f"no {said} was seen yet that nobody fired by hand, with the rule as it is" if said else None

    def digest(self, rule: Trigger) -> str:
        """Another one where more was seen or decided that says something of the rule; how often it matched does not."""
        said = {name: count for name, count in msgspec.structs.asdict(self).items() if name not in _VOLATILE}
        return hashlib.sha256(json.dumps([rule.digest, said]).encode()).hexdigest()[:32]


_VOLATILE: Final = frozenset({"matches", "opened", "resolved", "errors"})


async def standings(connection: Connection, triggers: Sequence[UUID]) -> dict[UUID, Standing]:
    """Of these triggers."""
    rows = await connection.fetch(
        "SELECT s.trigger_id, s.head::text, s.tally::text, s.promoted, (SELECT count(*) FROM trigger_keys k "
        " WHERE k.trigger_id = s.trigger_id AND k.state->>0 IS NOT NULL) AS opened "
        "FROM trigger_states s WHERE s.trigger_id = ANY ($1)",
        list(triggers),
    )
    decode = msgspec.json.decode
    return {
        row["trigger_id"]: Standing(
            decode(row["tally"], type=Tally),
            row["promoted"],
            row["opened"] + decode(row["head"], type=Head).is_absent,
        )
        for row in rows
    }


async def opened(connection: Connection, trigger_id: UUID) -> list[Open]:
    """The open signals of a trigger, the newest first."""
    rows = await connection.fetch(
        "SELECT k.fingerprint, k.state::text, o.kind, o.slug FROM trigger_keys k JOIN trigger_states s USING (trigger_id) "
        "LEFT JOIN objects o ON o.id = coalesce(k.target_id, s.target_id) WHERE k.trigger_id = $1 "
        "AND k.state->>0 IS NOT NULL ORDER BY (k.state->>1)::float8 DESC, k.fingerprint LIMIT $2",
        trigger_id,
        NEWEST,
    )
    found = []
    for row in rows:
        key = msgspec.json.decode(row["state"], type=Key)
        about = f"group:{row['slug']}" if row["kind"] == "group" else row["slug"]
        said = (moment(key.since), key.event or None, hidden_text(key.message))
        found.append(Open(row["fingerprint"], str(key.severity), *said, about))
    return found


async def record(connection: Connection, trigger_id: UUID, rule: Trigger, tally: Tally) -> Record:
    """The record of `rule`: nothing where the trigger decided by another one until now."""
    tally = tally if tally.rule == rule.digest else Tally()
    decided = await reviews.tally(connection, trigger=trigger_id, since=tally.since or math.inf)
    del decided["proposed"]
    counts = {name: getattr(tally, name) for name in ("since", *_VOLATILE, "real_firings", "real_recoveries")}
    return Record(**counts, **decided)
