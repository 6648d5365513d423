"""Received events from the commit that acknowledges them to the one that judges them: the queue of arrivals, and what was judged, in order. It judges nothing."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from engine.store.database import Connection
from engine.store.ids import PARTITIONS, show
from engine.store.received import event_of
from engine.store.states import ConflictError
from evaluators.event import Event
from evaluators.trigger import Outcome, Verdict


class Arrival(NamedTuple):
    """A delivery of an event that nobody has judged yet. `event` None: it is too old to be there any more."""

    id: int
    inbox_id: UUID
    event_id: UUID
    received_at: datetime
    at: float  # when this delivery came, seconds since the epoch
    is_repeat: bool
    event: Event | None


class ByTrigger(msgspec.Struct):
    """What a trigger made of an event."""

    revision: int
    outcomes: list[Outcome]


class Judged(NamedTuple):
    """What the triggers of an inbox made of an arrival, but for those that it did not match; `at` as they took it."""

    arrival: Arrival
    at: float
    verdict: Verdict
    outcomes: dict[str, ByTrigger]


# A body is read only where it is wanted; the lateral keeps the planner from looking through all events there are.
_WAITING = (
    "SELECT * FROM (SELECT a.id AS n, a.inbox_id, a.event_id, a.received_at, extract(epoch FROM a.at)::float8 AS at, "
    " a.is_repeat, e.*, coalesce(sum(octet_length(e.body)) OVER (ORDER BY a.id) - octet_length(e.body), 0) AS before "
    " FROM (SELECT * FROM arrivals WHERE partition = $1 ORDER BY id LIMIT $2) a LEFT JOIN LATERAL "
    " (SELECT id, extract(epoch FROM received_at)::float8 AS received, headers, query, body, tested_by FROM events e "
    "  WHERE e.id = a.event_id AND e.received_at = a.received_at OFFSET 0) e ON true) w WHERE before < $3 ORDER BY n"
)


async def waiting_in(connection: Connection, partition: int, most: int, most_bytes: int) -> list[Arrival]:
    """The oldest arrivals of a partition with their events: so many, and of so many bytes, but for the last one's."""
    rows = await connection.fetch(_WAITING, partition, most, most_bytes)
    return [Arrival._make((*tuple(row)[:6], event_of(row) if row["id"] else None)) for row in rows]


async def turn(connection: Connection, partition: int) -> tuple[int, float]:
    """How far a partition is judged: version, and the latest that triggers took for now."""
    row = await connection.fetchrow("SELECT version, at FROM judging WHERE partition = $1", partition)
    assert row is not None
    return row["version"], row["at"]


async def take(
    connection: Connection, partition: int, version: int, at: float, arrivals: Collection[Arrival]
) -> None:
    """Take these away, up to `at`, in the transaction that judges them. From then on the version is one more.

    Raises `ConflictError` where somebody else judged anything of the partition meanwhile.
    """
    taken = await connection.execute(
        "UPDATE judging SET version = version + 1, at = greatest(at, $3) WHERE partition = $1 AND version = $2",
        partition,
        version,
        at,
    )
    if taken != "UPDATE 1":
        raise ConflictError
    if arrivals:
        await connection.execute("DELETE FROM arrivals WHERE id = ANY ($1)", [one.id for one in arrivals])


async def keep(connection: Connection, judged: Sequence[Judged]) -> None:
    """Write what was judged, in this order."""
    if judged:
        await connection.execute(
            "INSERT INTO judged (inbox_id, event_id, received_at, at, is_repeat, verdict, outcomes) "
            "SELECT inbox_id, event_id, received_at, at, is_repeat, verdict, outcomes::json FROM unnest($1::uuid[], "
            "$2::uuid[], $3::timestamptz[], $4::float8[], $5::bool[], $6::text[], $7::text[]) WITH ORDINALITY "
            "AS j (inbox_id, event_id, received_at, at, is_repeat, verdict, outcomes, n) ORDER BY n",
            [one.arrival.inbox_id for one in judged],
            [one.arrival.event_id for one in judged],
            [one.arrival.received_at for one in judged],
            [one.at for one in judged],
            [one.arrival.is_repeat for one in judged],
            [one.verdict for one in judged],
            # Who looks for events reads this as jsonb, which has no NUL.
            [msgspec.json.encode(one.outcomes).decode().replace("\\u0000", "\\ufffd") for one in judged],
        )


async def untested(connection: Connection, events: Collection[str]) -> set[str]:
    """Those of these events, as they are shown, that nobody fired by hand."""
    rows = await connection.fetch(
        "SELECT id FROM events WHERE id = ANY ($1) AND tested_by IS NULL",
        [UUID(event.rpartition("_")[2]) for event in events],
    )
    return {show("event", row["id"]) for row in rows}


async def waiting(connection: Connection) -> tuple[int, float]:
    """(how many arrivals are not judged yet, seconds since the oldest of them came)."""
    count: int = await connection.fetchval("SELECT count(*) FROM arrivals")
    return count, await oldest_s(connection)


async def oldest_s(connection: Connection) -> float:
    """Seconds since the oldest arrival came that is not judged yet; 0 where there is none. Cheap however many wait."""
    age_s: float = await connection.fetchval(
        "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(o.at)), 0)::float8 "
        "FROM generate_series(0, $1) AS p (n), "
        "LATERAL (SELECT at FROM arrivals WHERE partition = p.n ORDER BY id LIMIT 1) o",
        PARTITIONS - 1,
    )
    return max(age_s, 0.0)


class Deaf(NamedTuple):
    """A time when nobody could take what others post, in seconds since the epoch."""

    began_at: float
    ended_at: float


async def deafness(connection: Connection, since: float) -> list[Deaf]:
    """Those that ended after `since`, in order."""
    rows = await connection.fetch(
        "SELECT extract(epoch FROM began_at)::float8, extract(epoch FROM ended_at)::float8 FROM deafness "
        "WHERE ended_at > to_timestamp($1) ORDER BY ended_at",
        since,
    )
    return [Deaf(*row) for row in rows]
