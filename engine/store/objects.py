"""Declared objects (pages, components, regions, channels, groups, beats, maintenance, inboxes, triggers): created, replaced, removed and found, always audited."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from engine.store import pings, targets
from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from engine.store.ids import new_id, partition_of, read
from rules.known import Kind, Known
from rules.maintenance import Maintenance
from rules.trigger import Trigger

_TURNS_LOCK = 0x6170706C  # "appl"
CHANGED = "upbeat_objects"
"""PostgreSQL notification sent with every change; its payload is the kind."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One declared object. `spec` is the JSON form of its rule, without what is its default."""

    id: UUID
    kind: Kind
    page_id: UUID | None
    slug: str
    spec: dict[str, Any]
    managed_by: Literal["api", "file"]
    source: str | None
    revision: int
    created_at: datetime
    updated_at: datetime
    removed_at: datetime | None


class MissingError(LookupError):
    """No such object among those asked for."""


class AmbiguousError(LookupError):
    """Several pages have the slug; `pages` names them."""

    def __init__(self, kind: str, slug: str, pages: Sequence[str]) -> None:
        super().__init__(f"{kind} {slug!r} exists on the pages {', '.join(pages)}; say which with ?page=")
        self.pages = tuple(pages)


class TakenError(ValueError):
    """The slug is in use."""


class StaleError(ValueError):
    """It was changed by somebody else; `current` is its revision now."""

    def __init__(self, current: int) -> None:
        super().__init__(f"it was changed meanwhile; it is at revision {current} now")
        self.current = current


class InUseError(ValueError):
    """Something else refers to it."""


class ManagedByFileError(ValueError):
    """It is declared in a file and read-only elsewhere."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(f"{stored.kind} {stored.slug!r} is managed by {stored.source}; change it there")
        self.source = stored.source


def _stored(row: Row) -> Stored:
    return Stored(*(row[name] for name in Stored.__slots__))


_COLUMNS = ", ".join(f"o.{name}" for name in Stored.__slots__)


async def take_turns(connection: Connection) -> None:
    """Wait, until this transaction ends, for all others that change what depends on what: together they could make a circle."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _TURNS_LOCK)


async def known(connection: Connection, managed_by: Literal["api", "file"] | None = None) -> Known:
    """What exists, or what of it is managed so, as others refer to it."""
    rows = await connection.fetch(
        "SELECT o.kind, p.slug AS page, o.slug, jsonb_build_object('zone', o.spec->'zone', "
        "'depends_on', o.spec->'depends_on', 'group', o.spec->'group') AS related "
        "FROM objects o LEFT JOIN objects p ON p.id = o.page_id "
        "WHERE o.removed_at IS NULL AND ($1::text IS NULL OR o.managed_by = $1)",
        managed_by,
    )
    return Known.of(((row["kind"], row["page"], row["slug"]), row["related"]) for row in rows)


async def find(
    connection: Connection,
    kind: Kind,
    ref: str,
    *,
    pages: Sequence[UUID] | None = None,
    lock: bool = False,
) -> Stored:
    """The living object with this slug or id, among `pages` (None: all). Raises `MissingError`, `AmbiguousError`."""
    by_id = read(kind, ref)
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM objects o WHERE o.kind = $1 AND o.removed_at IS NULL "
        "AND (o.id = $2 OR ($2 IS NULL AND o.slug = $3)) "
        "AND ($4::uuid[] IS NULL OR coalesce(o.page_id, CASE WHEN o.kind = 'page' THEN o.id END) = ANY ($4) "
        "     OR o.kind = 'region')" + (" FOR UPDATE" if lock else ""),
        kind,
        by_id,
        ref,
        pages,
    )
    if not rows:
        raise MissingError(f"there is no {kind} {ref!r}")
    if len(rows) > 1:
        names = await connection.fetch(
            "SELECT slug FROM objects WHERE id = ANY ($1) ORDER BY slug", [row["page_id"] for row in rows]
        )
        raise AmbiguousError(kind, ref, [row["slug"] for row in names])
    return _stored(rows[0])


async def get(connection: Connection, object_id: UUID) -> Stored | None:
    """The object with this id, removed or not."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM objects o WHERE o.id = $1", object_id)
    return _stored(row) if row else None


async def several(connection: Connection, ids: Sequence[UUID]) -> list[Stored]:
    """The objects with these ids, removed or not, in no order."""
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM objects o WHERE o.id = ANY ($1)", list(ids))
    return [_stored(row) for row in rows]


async def listing(
    connection: Connection,
    kind: Kind,
    *,
    pages: Sequence[UUID] | None = None,
    after: tuple[str, UUID] | None = None,
    limit: int | None = None,
    search: str | None = None,
    tag: str | None = None,
) -> list[Stored]:
    """Living objects ordered by (slug, id), those behind the cursor `after`; `pages` None means all."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM objects o WHERE o.kind = $1 AND o.removed_at IS NULL "
        "AND ($2::uuid[] IS NULL OR coalesce(o.page_id, CASE WHEN o.kind = 'page' THEN o.id END) = ANY ($2) "
        "     OR o.kind = 'region') "
        "AND ($3::text IS NULL OR (o.slug, o.id) > ($3, $4)) "
        "AND ($6::text IS NULL OR o.slug ILIKE '%' || $6 || '%' OR o.spec->>'name' ILIKE '%' || $6 || '%') "
        "AND ($7::text IS NULL OR o.spec->'tags' ? $7) "
        "ORDER BY o.slug, o.id LIMIT $5",
        kind,
        pages,
        *(after or (None, None)),
        limit,
        search,
        tag,
    )
    return [_stored(row) for row in rows]


async def create(
    connection: Connection,
    actor: Actor,
    kind: Kind,
    page_id: UUID | None,
    spec: dict[str, Any],
    *,
    source: str | None = None,
) -> Stored:
    """A new object; file-managed when it has a `source`. Raises `TakenError`."""
    object_id, slug = new_id(), spec["slug"]
    try:
        async with connection.transaction():
            row = await connection.fetchrow(
                "INSERT INTO objects AS o (id, kind, page_id, slug, spec, managed_by, source) "
                f"VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {_COLUMNS}",
                object_id,
                kind,
                page_id,
                slug,
                spec,
                "file" if source else "api",
                source,
            )
            if kind in ("beat", "group"):
                await connection.execute(
                    "INSERT INTO states (subject_id, partition) VALUES ($1, $2)",
                    object_id,
                    partition_of(object_id),
                )
            if kind == "beat":
                await _give_key(connection, object_id, spec)
            if kind == "trigger":
                await _keep_version(connection, object_id, 1, spec, actor)
                await connection.execute("INSERT INTO trigger_states (trigger_id) VALUES ($1)", object_id)
    except asyncpg.UniqueViolationError:
        raise TakenError(f"there is a {kind} {slug!r} already") from None
    assert row is not None
    await record(connection, actor, f"{kind}.create", slug, page_id, None, spec)
    await _notify(connection, kind)
    return _stored(row)


async def replace(
    connection: Connection,
    actor: Actor,
    stored: Stored,
    spec: dict[str, Any],
    *,
    expected: int | None = None,
    source: str | None = None,
) -> Stored:
    """`stored` with another spec. A file (`source` given) may take over what the API made; never the other way.

    Raises `StaleError` when `expected` is not its revision, `ManagedByFileError`, `TakenError`.
    """
    if stored.managed_by == "file" and source is None:
        raise ManagedByFileError(stored)
    try:
        async with connection.transaction():
            row = await connection.fetchrow(
                "UPDATE objects AS o SET slug = $2, spec = $3, managed_by = $4, source = $5, "
                "revision = revision + 1, updated_at = clock_timestamp() "
                "WHERE id = $1 AND removed_at IS NULL AND revision = $6 "
                f"RETURNING {_COLUMNS}",
                stored.id,
                spec["slug"],
                spec,
                "file" if source else "api",
                source,
                expected if expected is not None else stored.revision,
            )
    except asyncpg.UniqueViolationError:
        raise TakenError(f"there is a {stored.kind} {spec['slug']!r} already") from None
    if row is None:
        current = await get(connection, stored.id)
        raise StaleError(current.revision if current else 0)
    if stored.kind == "beat":
        await _give_key(connection, stored.id, spec)
    if stored.kind in ("channel", "publisher"):
        await targets.resume(connection, stored.id)
    if stored.kind == "trigger":
        await _keep_version(connection, stored.id, row["revision"], spec, actor)
        if Trigger.model_validate(spec).digest != Trigger.model_validate(stored.spec).digest:
            # What was promoted was another rule; should that one ever come back, people look again.
            await connection.execute(
                "UPDATE trigger_states SET promoted = jsonb_set(promoted::jsonb, '{rule}', '\"\"') WHERE trigger_id = $1",
                stored.id,
            )
    if stored.kind == "component" and spec.get("status") != stored.spec.get("status"):
        await connection.execute(  # what publishers show of it is looked at again: see `posts.settle`
            "UPDATE incidents SET posted = '{}' WHERE id IN (SELECT id FROM incidents WHERE $1 = ANY (named) "
            "AND resolved_at IS NULL AND removed_at IS NULL FOR UPDATE SKIP LOCKED)",  # who holds one looks again, too
            stored.id,
        )
    await record(connection, actor, f"{stored.kind}.change", stored.slug, stored.page_id, stored.spec, spec)
    await _notify(connection, stored.kind)
    return _stored(row)


async def remove(
    connection: Connection,
    actor: Actor,
    stored: Stored,
    *,
    by_file: bool = False,
    leaving: Collection[UUID] = (),
) -> None:
    """Take `stored` away; its history stays for 30 days. What is `leaving` with it may still refer to it.

    Raises `ManagedByFileError`, `InUseError`.
    """
    if stored.managed_by == "file" and not by_file:
        raise ManagedByFileError(stored)
    await _refuse_if_used(connection, stored, leaving)
    await connection.execute(
        "UPDATE objects SET removed_at = clock_timestamp(), updated_at = clock_timestamp(), revision = revision + 1 "
        "WHERE id = $1",
        stored.id,
    )
    if stored.kind == "page":
        await connection.execute(
            "DELETE FROM secrets WHERE page_id = $1", stored.id
        )  # no part of its history
    await record(connection, actor, f"{stored.kind}.remove", stored.slug, stored.page_id, stored.spec, None)
    await _notify(connection, stored.kind)


async def moved(connection: Connection, stored: Stored, source: str) -> None:
    """The same declaration now stands on another line of its file: no change worth a revision."""
    await connection.execute("UPDATE objects SET source = $2 WHERE id = $1", stored.id, source)


_USES: Final[dict[Kind, str]] = {
    "page": "o.page_id = $1",
    "region": "o.spec->'regions' ? $2",
    "channel": "o.page_id = $3 AND o.spec->'channels' ? $2",
    "component": "o.page_id = $3 AND o.spec->'components' ? $2 OR o.spec->'components' ? (p.slug || '/' || $2)",
    "inbox": "o.page_id = $3 AND o.spec->>'inbox' = $2",
    "group": "o.page_id = $3 AND (o.spec->>'group' = $2 OR o.spec->'target'->>'group' = $2 OR o.spec->'groups' ? $2 OR o.spec->'depends_on' ? ('group:' || $2)) "
    "OR o.spec->'depends_on' ? ('group:' || p.slug || '/' || $2)",
    "beat": "o.page_id = $3 AND ($2 IN (o.spec->'target'->>'beat', o.spec->'target'->>'external') OR o.spec->'beats' ? $2 OR o.spec->'depends_on' ? $2) "
    "OR o.spec->'depends_on' ? (p.slug || '/' || $2)",
}
"""What of an object `o` names one with the id $1 and the slug $2, of the page `p` with the id $3."""


async def _refuse_if_used(connection: Connection, stored: Stored, leaving: Collection[UUID]) -> None:
    if (uses := _USES.get(stored.kind)) is None:
        return
    users = await connection.fetch(
        "SELECT o.kind, o.slug, o.spec, extract(epoch FROM clock_timestamp())::float8 AS now "
        "FROM objects o LEFT JOIN objects p ON p.id = $3 WHERE o.removed_at IS NULL "
        f"AND o.id <> ALL ($4) AND ($5 OR o.kind IN ('beat', 'group', 'maintenance', 'trigger')) AND ({uses}) "
        "AND $1::uuid IS NOT NULL AND $2::text IS NOT NULL ORDER BY o.kind, o.slug",
        stored.id,
        stored.slug,
        stored.page_id,
        [stored.id, *leaving],
        stored.kind == "page",
    )
    for user in users:
        if stored.kind != "page" and user["kind"] == "maintenance" and _is_over(user["spec"], user["now"]):
            continue
        raise InUseError(
            f"{stored.kind} {stored.slug!r} is used by {user['kind']} {user['slug']!r}; change that first"
        )


def _is_over(spec: dict[str, Any], now: float) -> bool:
    """Whether a maintenance window is history: it needs nothing any more."""
    return Maintenance.model_validate(spec).next(now) is None


async def _give_key(connection: Connection, beat_id: UUID, spec: dict[str, Any]) -> None:
    if spec["type"] == "heartbeat":
        await pings.give_key(connection, beat_id)


async def _keep_version(
    connection: Connection, object_id: UUID, revision: int, spec: dict[str, Any], actor: Actor
) -> None:
    await connection.execute(
        "INSERT INTO versions (object_id, revision, spec, by) VALUES ($1, $2, $3, $4)",
        object_id,
        revision,
        spec,
        actor.name,
    )


async def _notify(connection: Connection, kind: str) -> None:
    await connection.execute("SELECT pg_notify($1, $2)", CHANGED, kind)
