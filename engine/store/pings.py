"""Heartbeats' pings: the secret keys of their URLs, taking pings in, the history of them, and whether anybody listens."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from engine.store.pushed import Ping, Pushed, encode
from rules.redaction import hidden_text

if TYPE_CHECKING:
    from engine.store.objects import Stored  # which gives each heartbeat its key

KEPT_BODY_BYTES: Final = 10_000
KEPT_PER_BEAT: Final = 1000
KEY_BYTES: Final = 24  # 192 bits
KEY_CHARACTERS: Final = 32
LISTENING_S: Final = 1.0
DEAF_AFTER_S: Final = 2.5
"""Without a word for so long, nobody was listening."""
DEAF_AGAIN_S: Final = 60.0
"""Deaf again so soon is deaf all the time: what was due the first time may not have been judged in between."""


class Arrived(NamedTuple):
    """A ping with the key it came to."""

    key: str
    at: float
    ping: Ping
    body: bytes


# ---- keys


async def give_key(connection: Connection, beat_id: UUID) -> None:
    """See that a heartbeat has a key."""
    key = secrets.token_urlsafe(KEY_BYTES)
    await connection.execute(
        "INSERT INTO ping_keys (beat_id, key, digest) VALUES ($1, $2, $3) ON CONFLICT (beat_id) DO NOTHING",
        beat_id,
        key,
        _digest(key),
    )


async def rotate_key(connection: Connection, actor: Actor, beat: "Stored") -> None:
    """Another key for `beat`. From the commit on the old one is no key at all; neither is in the audit log."""
    key = secrets.token_urlsafe(KEY_BYTES)
    await connection.execute(
        "UPDATE ping_keys SET key = $2, digest = $3 WHERE beat_id = $1", beat.id, key, _digest(key)
    )
    await record(connection, actor, "beat.rotate_ping_key", beat.slug, beat.page_id, None, None)


async def keys(connection: Connection, beats: Sequence[UUID]) -> dict[UUID, str]:
    """The key of each of these beats that has one."""
    rows = await connection.fetch("SELECT beat_id, key FROM ping_keys WHERE beat_id = ANY ($1)", list(beats))
    return {row["beat_id"]: row["key"] for row in rows}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


# ---- in


async def put(connection: Connection, arrived: Sequence[Arrived]) -> dict[int, int]:
    """Keep pings for the evaluators, in one statement. The partition of each, by its place; those of no key have none."""
    rows = await connection.fetch(
        "WITH known AS (SELECT s.n, s.at, s.fact, s.body, k.beat_id, b.partition FROM "
        " unnest($1::int[], $2::bytea[], $3::float8[], $4::text[], $5::bytea[]) AS s (n, digest, at, fact, body) "
        " JOIN ping_keys k USING (digest) JOIN states b ON b.subject_id = k.beat_id JOIN objects o ON o.id = k.beat_id "
        " WHERE o.removed_at IS NULL AND o.spec->>'type' = 'heartbeat'), "
        "put AS (INSERT INTO pushed (partition, subject_id, at, fact, body) "
        " SELECT partition, beat_id, at, fact::json, body FROM known ORDER BY n) SELECT n, partition FROM known",
        list(range(len(arrived))),
        [_digest(one.key) for one in arrived],
        [one.at for one in arrived],
        [encode(one.ping).decode() for one in arrived],
        [one.body or None for one in arrived],
    )
    return {row["n"]: row["partition"] for row in rows}


# ---- history


async def keep(connection: Connection, pinged: Sequence[tuple[Pushed, bool]]) -> None:
    """Write history; the flag says whether it counted."""
    pings = [(one, ping, counted) for one, counted in pinged if isinstance(ping := one.fact, Ping)]
    if not pings:
        return
    await connection.execute(
        "INSERT INTO pings (id, beat_id, at, signal, code, run, method, address, agent, body, counted) "
        "SELECT id, beat_id, to_timestamp(at), signal, code, run, method, address, agent, body, counted FROM unnest("
        "$1::int8[], $2::uuid[], $3::float8[], $4::text[], $5::int2[], $6::text[], $7::text[], $8::text[], $9::text[], "
        "$10::bytea[], $11::bool[]) AS p (id, beat_id, at, signal, code, run, method, address, agent, body, counted)",
        [one.id for one, _, _ in pings],
        [one.subject_id for one, _, _ in pings],
        [one.at for one, _, _ in pings],
        [ping.signal for _, ping, _ in pings],
        [ping.code for _, ping, _ in pings],
        [ping.run for _, ping, _ in pings],
        [ping.method for _, ping, _ in pings],
        [ping.address for _, ping, _ in pings],
        [ping.agent for _, ping, _ in pings],
        [one.body for one, _, _ in pings],
        [counted for _, _, counted in pings],
    )


async def listing(
    connection: Connection, beat_id: UUID, *, before: tuple[datetime, int] | None = None, limit: int = 100
) -> list[Row]:
    """Pings of a beat, newest first, those behind the cursor `before`."""
    return await connection.fetch(
        "SELECT * FROM pings WHERE beat_id = $1 AND ($2::timestamptz IS NULL OR (at, id) < ($2, $3)) "
        "ORDER BY at DESC, id DESC LIMIT $4",
        beat_id,
        *(before or (None, None)),
        limit,
    )


async def sweep(connection: Connection, days: int) -> None:
    """Forget pings that are older, and all but the newest of a beat that pings very often."""
    await connection.execute("DELETE FROM pings WHERE at < now() - make_interval(days => $1)", days)
    await connection.execute(
        "DELETE FROM pings p USING ping_keys k CROSS JOIN LATERAL (SELECT at, id FROM pings "
        "WHERE beat_id = k.beat_id ORDER BY at DESC, id DESC OFFSET $1 LIMIT 1) AS oldest "
        "WHERE p.beat_id = k.beat_id AND (p.at, p.id) <= (oldest.at, oldest.id)",
        KEPT_PER_BEAT,
    )


# ---- listening


async def listen(connection: Connection) -> None:
    """Say that pings, and events, can be taken now; if nobody said so just before, nobody could."""
    await connection.execute("SET LOCAL synchronous_commit = off")
    await connection.execute(
        "INSERT INTO deafness (began_at, ended_at) SELECT at, clock_timestamp() FROM listening "
        "WHERE clock_timestamp() - at > $1 * interval '1 s' ON CONFLICT DO NOTHING",
        DEAF_AFTER_S,
    )
    await connection.execute(
        "UPDATE listening SET at = now.at, deaf_from = CASE WHEN now.at - listening.at <= $1 * interval '1 s' "
        " OR listening.at - deaf_until < $2 * interval '1 s' THEN deaf_from ELSE listening.at END, "
        "deaf_until = CASE WHEN now.at - listening.at > $1 * interval '1 s' THEN now.at ELSE deaf_until END "
        "FROM clock_timestamp() AS now (at)",
        DEAF_AFTER_S,
        DEAF_AGAIN_S,
    )


async def heard_until(connection: Connection) -> tuple[float, float]:
    """Now by the database, and until when all that others said could be heard: now as well, where somebody listens."""
    row = await connection.fetchrow(
        "SELECT extract(epoch FROM now.at)::float8 AS now, extract(epoch FROM CASE WHEN now.at - listening.at "
        "<= $1 * interval '1 s' THEN now.at ELSE listening.at END)::float8 AS until "
        "FROM listening, clock_timestamp() AS now (at)",
        DEAF_AFTER_S,
    )
    assert row is not None
    return row["now"], row["until"]


async def deafness(connection: Connection) -> tuple[float, float]:
    """From when to when nobody could take pings, the last time; until now where nobody can. Seconds since the epoch."""
    row = await connection.fetchrow(
        "SELECT extract(epoch FROM at)::float8 AS at, extract(epoch FROM clock_timestamp())::float8 AS now, "
        "extract(epoch FROM deaf_from)::float8 AS deaf_from, extract(epoch FROM deaf_until)::float8 AS deaf_until "
        "FROM listening"
    )
    assert row is not None
    if row["now"] - row["at"] <= DEAF_AFTER_S:
        return row["deaf_from"], row["deaf_until"]
    is_again = row["at"] - row["deaf_until"] < DEAF_AGAIN_S
    return row["deaf_from" if is_again else "at"], row["now"]


def text_of(body: bytes | None) -> str:
    """A body as people are shown it: as text whatever its bytes, without what looks like a secret."""
    text = (body or b"").decode("utf-8", "replace").replace("\0", "\ufffd")
    return hidden_text(text)
