"""Pages that are kept as files: when one is due to be written anew. Who writes it, and what, is others' to say."""

import hashlib
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from engine.store import objects, uptime
from engine.store.database import Connection
from evaluators.lifecycle import ENDED
from evaluators.model import Refresh
from rules.models import TYPED
from rules.publishers.static import EVERY_S, StaticPublisher
from rules.shape import spec_of

KINDS: Final = {kind: rule for kind, rule in TYPED["publisher"].items() if issubclass(rule, StaticPublisher)}
_NOW_S: Final = 0.001
# Of deliveries, each publisher's one row: a next time takes the place of one that failed.
_DUE: Final = (
    "INSERT INTO outbox AS o (target_id, line, key, item) VALUES ($1, 'page', 'page', $2) ON CONFLICT (target_id, key) DO UPDATE SET "
    "item = excluded.item, attempts = 0, due_at = now(), finished_at = NULL, status = 'pending', "
    "created_at = CASE o.status WHEN 'pending' THEN o.created_at ELSE now() END, "
    "begun_at = CASE o.status WHEN 'pending' THEN o.begun_at END, tried_at = CASE o.status WHEN 'pending' THEN o.tried_at END "
    "WHERE o.status <> 'pending' OR o.attempts > 0"
)
_COUNTS: Final = (
    "SELECT p.id, p.revision, (SELECT string_agg(digest, ' ' ORDER BY name) FROM assets WHERE page_id = p.id), "
    "(SELECT (count(*), sum(revision))::text FROM incidents WHERE page_id = p.id) FROM objects p WHERE p.id = ANY ($1)"
)
_OPEN: Final = (
    "SELECT id::text, revision, page_id, named FROM incidents "
    "WHERE named && $1 AND status <> ALL ($2) AND removed_at IS NULL ORDER BY id"
)


async def states(
    connection: Connection, kept: Sequence[tuple[UUID, StaticPublisher]], now_s: float
) -> list[str]:
    """Which of its states each of these pages is in, kept so: another one after whatever changes it but the measured days.

    A constant number of queries, however many they are.
    """
    pages = [*{page_id for page_id, _ in kept}]
    shown = await objects.listing(connection, "component", pages=pages)
    windows = await uptime.windows(connection, shown, now_s, now_s + _NOW_S)
    seen: dict[UUID, list[object]] = {
        row["id"]: [*map(str, row)] for row in await connection.fetch(_COUNTS, pages)
    }
    homes: dict[UUID, UUID] = {}
    for one in shown:
        if one.page_id in seen:
            homes[one.id] = one.page_id
            seen[one.page_id].append((str(one.id), one.revision, bool(windows[one.id])))
    for row in await connection.fetch(_OPEN, [*homes], ENDED):  # also of other pages
        for page_id in {homes[key] for key in row["named"] if key in homes} - {row["page_id"]}:
            seen[page_id].append((row["id"], row["revision"]))
    said = ([seen.get(page_id), spec_of(rule)] for page_id, rule in kept)
    return [hashlib.sha256(msgspec.json.encode(one, order="deterministic")).hexdigest()[:32] for one in said]


async def look(connection: Connection, now_s: float, _: str) -> None:
    """Have pages written whose files say something else, or are as old as they may be; after a failure not again at once."""
    rows = await connection.fetch(
        "SELECT o.id, o.page_id, o.spec, coalesce(t.failures, 0) AS failures, r.remote->>'state' AS state, "
        "extract(epoch FROM r.updated_at)::float8 AS written_s, "
        "CASE WHEN t.failures > 0 AND o.updated_at <= t.failed_at THEN extract(epoch FROM t.failed_at)::float8 END AS failed_s "
        "FROM objects o LEFT JOIN targets t ON t.target_id = o.id LEFT JOIN LATERAL (SELECT remote, updated_at FROM remotes "
        " WHERE target_id = o.id ORDER BY updated_at DESC LIMIT 1) r ON true "
        "WHERE o.kind = 'publisher' AND o.removed_at IS NULL AND o.spec->>'type' = ANY ($1) "
        "AND coalesce((o.spec->>'enabled')::bool, true) AND t.stopped_at IS NULL",
        [*KINDS],
    )
    if not rows:
        return
    rules = [KINDS[row["spec"]["type"]].model_validate(row["spec"]) for row in rows]
    found = await states(
        connection, [(row["page_id"], rule) for row, rule in zip(rows, rules, strict=True)], now_s
    )
    due = [
        row["id"]
        for row, rule, state in zip(rows, rules, found, strict=True)
        if (row["failed_s"] is None or now_s - row["failed_s"] >= min(rule.every, EVERY_S))
        and (row["written_s"] is None or now_s - row["written_s"] >= rule.every or row["state"] != state)
    ]
    item = msgspec.to_builtins(Refresh(now_s))
    await connection.executemany(_DUE, [(target_id, item) for target_id in due])
    await connection.execute(  # what they could not take, or refused, while they took nothing
        "UPDATE outbox SET status = 'pending', attempts = 0, due_at = now(), finished_at = NULL WHERE target_id = ANY ($1) "
        "AND incident_id IS NOT NULL AND (status = 'dead' OR status = 'pending' AND attempts > 0 AND due_at > now())",
        [row["id"] for row in rows if not row["failures"]],
    )
