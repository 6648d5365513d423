"""What others pushed to beats and groups (pings, reports, what they say to each other), from the commit that acknowledges it to the one that folds it. A queue, no history."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.store.database import Connection
from engine.store.ids import partition_of
from evaluators.facts import Asked, MemberChanged, ParentChanged
from evaluators.heartbeat import Signal
from evaluators.model import Severity
from evaluators.modes import Modes

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
    """What somebody else says of a beat. No severity: it is over. `source` is `report`, or the id of a trigger.

    `modes` and `careful` are those of `evaluators.facts.SignalChanged`. What a trigger says has its `event` and `trigger`,
    a slug, in the evidence.
    """

    source: str
    fingerprint: str
    severity: Severity | None
    message: str
    at: float
    by: str
    evidence: dict[str, Any] | None = None
    modes: Modes | None = None
    careful: bool = False


class Relayed(msgspec.Struct, frozen=True, tag="relayed"):
    """What one beat or group says to another: a member to its group, a parent to its children, a child to its parents."""

    fact: MemberChanged | ParentChanged | Asked


Fact = Ping | Report | Relayed


class Pushed(msgspec.Struct, frozen=True):
    """One of them. `at` is when it came: server time, seconds since the epoch."""

    id: int
    subject_id: UUID
    at: float
    fact: Fact
    body: bytes | None


_FACT: Final = msgspec.json.Decoder(Fact)
encode = msgspec.json.Encoder().encode


async def put(connection: Connection, subject_id: UUID, at: float, fact: Fact) -> int:
    """Keep `fact` for the evaluator of its beat. Returns its id."""
    pushed_id: int = await connection.fetchval(
        "INSERT INTO pushed (partition, subject_id, at, fact) VALUES ($1, $2, $3, $4::text::json) RETURNING id",
        partition_of(subject_id),
        subject_id,
        at,
        encode(fact).decode(),
    )
    return pushed_id


async def relay(
    connection: Connection, facts: Sequence[tuple[UUID, Relayed | Report]], at: float
) -> set[int]:
    """Keep what is said to these; returns the partitions that have something to take now."""
    if facts:
        await connection.execute(
            "INSERT INTO pushed (partition, subject_id, at, fact) SELECT partition, subject_id, $4, fact::json "
            "FROM unnest($1::int2[], $2::uuid[], $3::text[]) WITH ORDINALITY AS p (partition, subject_id, fact, n) ORDER BY n",
            [partition_of(subject_id) for subject_id, _ in facts],
            [subject_id for subject_id, _ in facts],
            [encode(fact).decode() for _, fact in facts],
            at,
        )
    return {partition_of(subject_id) for subject_id, _ in facts}


async def take(connection: Connection, partition: int, most: int) -> list[Pushed]:
    """Take away the oldest of a partition, in the caller's transaction: rolled back, they are there again."""
    rows = await connection.fetch(
        "DELETE FROM pushed WHERE id IN (SELECT id FROM pushed WHERE partition = $1 ORDER BY id LIMIT $2) "
        "RETURNING id, subject_id, at, fact::text AS fact, body",
        partition,
        most,
    )
    taken = [Pushed(r["id"], r["subject_id"], r["at"], _FACT.decode(r["fact"]), r["body"]) for r in rows]
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
