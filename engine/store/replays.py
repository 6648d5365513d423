"""Replays that were asked for: what is to be done, how far it is, what was found. Kept for an hour; any node may be asked."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from engine.store.database import Connection, Row
from engine.store.ids import new_id
from engine.store.states import BOUND, decode_bound
from evaluators.policy import Bound
from evaluators.replay import Compared, Outcome

MOST_AT_ONCE: Final = 4
"""Of an installation; more are refused."""
GONE_S: Final = 15.0
"""Nothing heard for so long from the node that runs it: it is no more."""
_KEPT: Final = "interval '1 hour'"


class Played(Struct):
    """A beat or group in a replay: its specs under the old and the new policy, and what others make of it now."""

    id: UUID
    slug: str
    kind: str
    specs: list[dict[str, Any]]
    bound: Bound
    born: float


class Plan(Struct):
    """What is to be replayed: what hears of each other is one component. `exact`: as it was, from birth on."""

    since: float
    until: float
    exact: bool
    components: list[list[Played]]


class Replayed(Struct):
    """An owner of episodes under the policy it has and under the new one."""

    id: str
    slug: str
    kind: str
    old: Outcome
    new: Outcome
    compared: Compared


class Retraced(Struct):
    """Whether the log leads to the stored state; hashes of both. `reason`: why it cannot be known."""

    id: str
    slug: str
    kind: str
    is_same: bool = False
    stored: str = ""
    replayed: str = ""
    differs: list[str] = []
    reason: str | None = None
    facts: int = 0
    results: int = 0


class Found(Struct):
    """What a replay found: of owners, or where it was exact of all."""

    replayed: list[Replayed] = []
    retraced: list[Retraced] = []
    rows: int = 0
    digest: str = ""


_PLAN: Final = msgspec.json.Decoder(Plan)
_FOUND: Final = msgspec.json.Decoder(Found)


async def components(connection: Connection, ids: Sequence[UUID]) -> list[list[Played]]:
    """These, with the groups they are in and all members of those; together what hears of each other. With one spec each."""
    rows = await connection.fetch(
        "WITH owners AS (SELECT coalesce(nullif(bound->>'group', '')::uuid, subject_id) AS id FROM states WHERE subject_id = ANY ($1)) "
        "SELECT o.id, o.slug, o.kind, o.spec, extract(epoch FROM o.created_at)::float8 AS born, "
        f"{BOUND} AS bound FROM states s JOIN objects o ON o.id = s.subject_id WHERE o.removed_at IS NULL "
        "AND (o.id IN (SELECT id FROM owners) OR s.bound->>'group' IN (SELECT id::text FROM owners)) ORDER BY o.id",
        list(ids),
    )
    played = {
        str(row["id"]): Played(
            row["id"], row["slug"], row["kind"], [row["spec"]], decode_bound(row["bound"]), row["born"]
        )
        for row in rows
    }
    together = {name: [name] for name in played}
    for name, one in played.items():
        for other in {one.bound.group, *one.bound.parents} & played.keys():
            if together[name] is not together[other]:
                together[name] += together[other]
                together |= dict.fromkeys(together[other], together[name])
    once = {id(names): names for names in together.values()}
    return [[played[name] for name in sorted(names)] for names in once.values()]


async def create(
    connection: Connection, by: str, pages: Sequence[UUID], asked: Mapping[str, Any], plan: Plan, workers: int
) -> UUID | None:
    """Keep a replay that waits to be run; None when too many do. Old ones are forgotten."""
    await connection.execute(f"DELETE FROM jobs WHERE at < now() - {_KEPT}")
    created: UUID | None = await connection.fetchval(
        "INSERT INTO jobs (id, page_ids, by, asked, plan, workers) "
        "SELECT $1, $2, $3, $4::text::json, $5::text::json, $6 WHERE (SELECT count(*) FROM jobs "
        "WHERE status IN ('waiting', 'running') AND seen_at > now() - make_interval(secs => $7)) < $8 RETURNING id",
        new_id(),
        list(pages),
        by,
        msgspec.json.encode(asked).decode(),
        msgspec.json.encode(plan).decode(),
        workers,
        GONE_S,
        MOST_AT_ONCE,
    )
    return created


async def get(connection: Connection, replay_id: UUID) -> Row | None:
    """How a replay is doing, as a row, or None. `is_gone`: the node that ran it is no more."""
    return await connection.fetchrow(
        "SELECT id, page_ids, by, asked, workers, status, done, rows, found::text AS found, error, at, finished_at, "
        "status IN ('waiting', 'running') AND seen_at < now() - make_interval(secs => $2) AS is_gone "
        f"FROM jobs WHERE id = $1 AND at > now() - {_KEPT}",
        replay_id,
        GONE_S,
    )


async def plan_of(connection: Connection, replay_id: UUID) -> Plan:
    """What a replay is to do."""
    return _PLAN.decode(await connection.fetchval("SELECT plan::text FROM jobs WHERE id = $1", replay_id))


async def progress(connection: Connection, replay_id: UUID, done: float, rows: int, *, runs: bool) -> bool:
    """Say how far it is. Whether anybody still wants it."""
    status = "running" if runs else "waiting"
    said = await connection.execute(
        "UPDATE jobs SET done = $2, rows = $3, status = $4, seen_at = now() "
        "WHERE id = $1 AND status IN ('waiting', 'running')",
        *(replay_id, done, rows, status),
    )
    return said == "UPDATE 1"


async def finish(
    connection: Connection, replay_id: UUID, found: Found | None, error: str | None = None
) -> None:
    """Keep what was found, or why nothing was, unless it was cancelled."""
    await connection.execute(
        "UPDATE jobs SET status = CASE WHEN $3::text IS NULL THEN 'done' ELSE 'failed' END, done = 1, "
        "found = $2::text::json, error = $3, rows = coalesce($4, rows), finished_at = now() "
        "WHERE id = $1 AND status IN ('waiting', 'running')",
        replay_id,
        msgspec.json.encode(found).decode() if found else None,
        error,
        found.rows if found else None,
    )


async def cancel(connection: Connection, replay_id: UUID) -> None:
    """Nobody wants it any more: the node that runs it ends it within a second."""
    await connection.execute(
        "UPDATE jobs SET status = 'cancelled', finished_at = now() WHERE id = $1 AND status IN ('waiting', 'running')",
        replay_id,
    )


def decode(text: str) -> Found:
    """A `found` column read as text."""
    return _FOUND.decode(text)
