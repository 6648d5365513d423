"""What others pushed to beats (pings, reports), from the commit that acknowledges it to the one that folds it. A queue, no history."""

from typing import Any, Final
from uuid import UUID

import msgspec

from engine.store.database import Connection
from engine.store.ids import partition_of
from evaluators.heartbeat import Signal
from evaluators.model import Severity

SUBJECT: Final = "upbeat.pushed"
"""Told on the bus, with the partition behind it, when something was pushed: nobody needs to wait for the next look."""


class Ping(msgspec.Struct, frozen=True, omit_defaults=True, tag="ping"):
    """A request of a heartbeat's URL."""

    signal: Signal
    method: str
    address: str
    agent: str = ""
    run: str = ""
    code: int | None = None


class Report(msgspec.Struct, frozen=True, omit_defaults=True, tag="report"):
    """What somebody else says of a beat. No severity: it is over. `source` is `report`, or the id of a trigger."""

    source: str
    fingerprint: str
    severity: Severity | None
    message: str
    at: float
    by: str
    evidence: dict[str, Any] | None = None


Fact = Ping | Report


class Pushed(msgspec.Struct, frozen=True):
    """One of them. `at` is when it came: server time, seconds since the epoch."""

    id: int
    beat_id: UUID
    at: float
    fact: Fact
    body: bytes | None


_FACT: Final = msgspec.json.Decoder(Fact)
encode = msgspec.json.Encoder().encode


async def put(connection: Connection, beat_id: UUID, at: float, fact: Fact) -> int:
    """Keep `fact` for the evaluator of its beat. Returns its id."""
    pushed_id: int = await connection.fetchval(
        "INSERT INTO pushed (partition, beat_id, at, fact) VALUES ($1, $2, $3, $4::text::json) RETURNING id",
        partition_of(beat_id),
        beat_id,
        at,
        encode(fact).decode(),
    )
    return pushed_id


async def take(connection: Connection, partition: int, most: int) -> list[Pushed]:
    """Take away the oldest of a partition, in the caller's transaction: rolled back, they are there again."""
    rows = await connection.fetch(
        "DELETE FROM pushed WHERE id IN (SELECT id FROM pushed WHERE partition = $1 ORDER BY id LIMIT $2) "
        "RETURNING id, beat_id, at, fact::text AS fact, body",
        partition,
        most,
    )
    taken = [Pushed(r["id"], r["beat_id"], r["at"], _FACT.decode(r["fact"]), r["body"]) for r in rows]
    return sorted(taken, key=lambda one: one.id)


async def is_waiting(connection: Connection, pushed_id: int) -> bool:
    """Whether it is not folded yet."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pushed WHERE id = $1)", pushed_id))


async def waiting(connection: Connection) -> tuple[int, float]:
    """(how many are not folded yet, seconds since the oldest of them was pushed)."""
    row = await connection.fetchrow(
        "SELECT count(*) AS count, coalesce(extract(epoch FROM now()) - min(at), 0)::float8 AS age_s FROM pushed"
    )
    assert row is not None
    return row["count"], max(row["age_s"], 0.0)


async def discard(connection: Connection, partition: int) -> bytes | None:
    """Take away the oldest of a partition, which nobody can use: what it was, for the dead letters."""
    fact: str | None = await connection.fetchval(
        "DELETE FROM pushed WHERE id = (SELECT id FROM pushed WHERE partition = $1 ORDER BY id LIMIT 1) "
        "RETURNING fact::text",
        partition,
    )
    return fact.encode() if fact else None
