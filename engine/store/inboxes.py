"""Inboxes: the tokens that open them, and taking in what is delivered to them. What becomes of it is `engine.triggering`'s.

A token is random and kept as SHA-256; its text is shown once, and is in no log.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from engine.store import people
from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from engine.store.ids import new_id, partition_of

if TYPE_CHECKING:
    from engine.store.objects import Stored

SUBJECT: Final = "upbeat.events"
"""Told on the bus, with the partition behind it, when something arrived."""
PREFIX: Final = "upi_"
KEPT_KEYS_S: Final = 3 * 86400.0
"""How long the name of a delivery is known: no sender tries again for longer."""
KEY_BYTES: Final = 16
MOST_OVERLAP: Final = timedelta(days=30)
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


# ---- tokens


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token, shown this once; and until when the one before it is valid (None: there was none)."""

    id: UUID
    text: str
    old_until: datetime | None


def is_token(text: str) -> bool:
    """Whether `text` can open an inbox at all. Asks no database."""
    return people.is_token(text, PREFIX)


async def issue_token(
    connection: Connection, actor: Actor, inbox: "Stored", overlap: timedelta = timedelta(0)
) -> Issued:
    """Another token for `inbox`, in a transaction. The newest one before is valid for `overlap`, all others no more."""
    await connection.execute("SELECT 1 FROM objects WHERE id = $1 FOR UPDATE", inbox.id)
    await connection.execute(
        "DELETE FROM inbox_tokens WHERE inbox_id = $1 AND (expires_at <= now() OR $2 <= interval '0' OR "
        "id <> (SELECT id FROM inbox_tokens WHERE inbox_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1))",
        inbox.id,
        overlap,
    )
    old_until = await connection.fetchval(
        "UPDATE inbox_tokens SET expires_at = least(expires_at, now() + $2::interval) WHERE inbox_id = $1 "
        "RETURNING expires_at",
        inbox.id,
        min(overlap, MOST_OVERLAP),
    )
    issued = Issued(new_id(), people.new_token(PREFIX), old_until)
    await connection.execute(
        "INSERT INTO inbox_tokens (digest, id, inbox_id, hint, created_by, created_at) "
        "VALUES ($1, $2, $3, $4, $5, clock_timestamp())",
        people.digest_of(issued.text),
        issued.id,
        inbox.id,
        issued.text[-4:],
        actor.name,
    )
    after = {"hint": issued.text[-4:], "old_until": old_until.isoformat() if old_until else None}
    await record(connection, actor, "inbox.issue_token", inbox.slug, inbox.page_id, None, after)
    return issued


async def revoke_token(connection: Connection, actor: Actor, inbox: "Stored", token_id: UUID) -> bool:
    """End a token of `inbox` now; False where it has no such one."""
    hint = await connection.fetchval(
        "DELETE FROM inbox_tokens WHERE inbox_id = $1 AND id = $2 RETURNING hint", inbox.id, token_id
    )
    if hint is not None:
        await record(connection, actor, "inbox.revoke_token", inbox.slug, inbox.page_id, {"hint": hint}, None)
    return hint is not None


async def tokens(connection: Connection, inboxes: Sequence[UUID]) -> list[Row]:
    """The valid tokens of these inboxes, newest first: `id`, `inbox_id`, `hint`, `created_by`, `created_at`, `expires_at`."""
    return await connection.fetch(
        "SELECT id, inbox_id, hint, created_by, created_at, expires_at FROM inbox_tokens "
        "WHERE inbox_id = ANY ($1) AND (expires_at IS NULL OR expires_at > now()) ORDER BY created_at DESC, id DESC",
        list(inboxes),
    )


class Opened(NamedTuple):
    """The inbox that a token opens, as it is stored."""

    id: UUID
    page_id: UUID
    revision: int
    spec: dict[str, Any]


async def opened_by(connection: Connection, digests: Iterable[bytes]) -> dict[bytes, Opened]:
    """The living inboxes that tokens with these digests open now."""
    rows = await connection.fetch(
        "SELECT t.digest, o.id, o.page_id, o.revision, o.spec FROM inbox_tokens t JOIN objects o ON o.id = t.inbox_id "
        "WHERE t.digest = ANY ($1) AND o.removed_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())",
        list(digests),
    )
    return {row["digest"]: Opened(*row[1:]) for row in rows}


# ---- in


class Delivery(NamedTuple):
    """One delivery, ready to be kept. `id` is that of its event, if it becomes one."""

    id: UUID
    inbox_id: UUID
    at: float  # server time, seconds since the epoch
    address: str
    headers: Sequence[tuple[str, str]]  # without what opens the inbox
    query: str
    body: bytes
    name: str | None = None  # as the sender says: the same name again is the same delivery
    key: bytes | None = None  # the digest of what names it; None: it is no repeat of any
    same_body_s: float = 0.0  # within so long the same body again is a repeat
    is_signed: bool = False
    tested_by: str | None = None


class Kept(NamedTuple):
    """What a delivery became: the event of this id, or a repeat of that."""

    event_id: UUID
    is_repeat: bool


_PUT: Final = (
    # A delivery whose name is known says nothing, so that its body does not count; another process may be at both now.
    "WITH given AS (SELECT * FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::int2[], $5::float8[], $6::bytea[], "
    " $7::bytea[], $8::float8[]) AS g (n, id, inbox_id, partition, epoch, key, body_key, same_s), "
    " LATERAL (SELECT to_timestamp(epoch) AS at) AS t), "
    "bodies AS (INSERT INTO deliveries AS d (inbox_id, key, event_id, received_at, until) "
    " SELECT DISTINCT ON (inbox_id, body_key) inbox_id, body_key, id, at, at + same_s * interval '1 s' FROM given g "
    " WHERE body_key IS NOT NULL AND NOT EXISTS "
    "  (SELECT FROM deliveries k WHERE k.inbox_id = g.inbox_id AND k.key = g.key) "
    " ORDER BY inbox_id, body_key, n ON CONFLICT (inbox_id, key) DO UPDATE SET (event_id, received_at, until) = "
    "  (SELECT (one).event_id, (one).received_at, (one).until FROM "
    "   (SELECT CASE WHEN d.until > excluded.received_at THEN d ELSE excluded END AS one) AS c) "
    " RETURNING inbox_id, key, event_id, received_at), "
    "names AS (INSERT INTO deliveries AS d (inbox_id, key, event_id, received_at, until) "
    " SELECT g.inbox_id, g.key, coalesce(b.event_id, g.id), coalesce(b.received_at, g.at), g.at + $9 * interval '1 s' "
    " FROM given g LEFT JOIN bodies b ON b.inbox_id = g.inbox_id AND b.key = g.body_key WHERE g.key IS NOT NULL "
    " ORDER BY g.inbox_id, g.key ON CONFLICT (inbox_id, key) DO UPDATE SET event_id = d.event_id "
    " RETURNING inbox_id, key, event_id, received_at), "
    "told AS (SELECT g.*, coalesce(k.event_id, b.event_id, g.id) AS event_id, "
    " coalesce(k.received_at, b.received_at, g.at) AS event_at, "
    " b.event_id <> g.id AND (k.event_id IS NULL OR k.event_id = b.event_id) AS is_same FROM given g "
    " LEFT JOIN bodies b ON b.inbox_id = g.inbox_id AND b.key = g.body_key "
    " LEFT JOIN names k ON k.inbox_id = g.inbox_id AND k.key = g.key), "
    "events AS (INSERT INTO events (id, inbox_id, received_at, address, headers, query, body, delivery, is_signed, "
    "  tested_by) SELECT t.id, t.inbox_id, t.at, e.address, e.headers::json, e.query, e.body, e.name, e.is_signed IS TRUE, "
    "  e.tested_by FROM unnest($1::int[], $10::text[], $11::text[], $12::text[], $13::bytea[], $14::text[], $15::bool[], "
    "  $16::text[]) AS e (n, address, headers, query, body, name, is_signed, tested_by) JOIN told t USING (n) "
    " WHERE t.event_id = t.id), "
    "arrivals AS (INSERT INTO arrivals (partition, inbox_id, event_id, received_at, at, is_repeat) "
    " SELECT partition, inbox_id, event_id, event_at, at, event_id <> id FROM told WHERE event_id = id OR is_same "
    " ORDER BY n) "
    "SELECT n, event_id, event_id <> id AS is_repeat FROM told"
)


async def put(connection: Connection, deliveries: Sequence[Delivery]) -> list[Kept]:
    """Keep deliveries, in one statement: each an event that waits to be judged, or a repeat of one.

    The same name again is nothing; the same body again, where the inbox wants that, is an arrival of the event before.
    Whoever judges is told after the commit: `SUBJECT`, with the partition of the inbox behind it.
    """
    first: dict[tuple[UUID, bytes], int] = {}  # the statement takes no name twice
    told, again = [], {}
    for n, one in enumerate(deliveries):
        if one.key is not None and (place := first.setdefault((one.inbox_id, one.key), n)) != n:
            again[n] = place
        else:
            told.append((n, one))
    rows = await connection.fetch(
        _PUT,
        [n for n, _ in told],
        [one.id for _, one in told],
        [one.inbox_id for _, one in told],
        [partition_of(one.inbox_id) for _, one in told],
        [one.at for _, one in told],
        [one.key for _, one in told],
        _some([_body_key(one) for _, one in told]),
        _some([one.same_body_s for _, one in told]),
        KEPT_KEYS_S,
        [one.address for _, one in told],
        [_encode(one.headers).decode() for _, one in told],
        [one.query for _, one in told],
        [one.body for _, one in told],
        [one.name for _, one in told],
        _some([one.is_signed for _, one in told]),
        _some([one.tested_by for _, one in told]),
    )
    kept = {row["n"]: Kept(row["event_id"], row["is_repeat"]) for row in rows}
    kept |= {n: Kept(kept[place].event_id, True) for n, place in again.items()}
    return [kept[n] for n in range(len(deliveries))]


def _some(values: list[T]) -> list[T]:
    """`values` if there are any but empty ones: `unnest` fills up with NULL what is not there, at no cost."""
    return values if any(values) else []


def _body_key(one: Delivery) -> bytes | None:
    return hashlib.sha256(b"body\0" + one.body).digest()[:KEY_BYTES] if one.same_body_s else None


def key_of(*said: str) -> bytes:
    """The key of a delivery by what names it."""
    return hashlib.sha256("\0".join(("name", *said)).encode()).digest()[:KEY_BYTES]


def partitions(inboxes: Iterable[UUID]) -> set[int]:
    """Those that have something to take now."""
    return {partition_of(inbox_id) for inbox_id in inboxes}


async def sweep(connection: Connection) -> None:
    """Forget tokens that expired and keys that nobody asks for any more."""
    await connection.execute("DELETE FROM inbox_tokens WHERE expires_at <= now()")
    await connection.execute("DELETE FROM deliveries WHERE until <= now()")
