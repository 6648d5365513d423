"""Answers kept for a day under the client's Idempotency-Key, so that a repeated request changes nothing."""

from typing import Any

from engine.store.database import Connection, Row

ABANDONED_S = 120
"""After so long a request that never ended may be tried again: its process is gone."""


async def begin(connection: Connection, actor: str, key: str, digest: bytes) -> Row | None:
    """Take the key; None when it was free, else what is known of its first request (status None: under way)."""
    taken = await connection.fetchval(
        "INSERT INTO idempotency (actor, key, digest) VALUES ($1, $2, $3) ON CONFLICT (actor, key) DO UPDATE "
        "SET digest = EXCLUDED.digest, at = now(), status = NULL, headers = NULL, body = NULL "
        "WHERE idempotency.at < now() - CASE WHEN idempotency.status IS NULL THEN make_interval(secs => $4) "
        "ELSE interval '1 day' END RETURNING true",
        actor,
        key,
        digest,
        float(ABANDONED_S),
    )
    if taken:
        return None
    return await connection.fetchrow(
        "SELECT digest, status, headers, body FROM idempotency WHERE actor = $1 AND key = $2", actor, key
    )


async def finish(
    connection: Connection, actor: str, key: str, status: int, headers: dict[str, Any], body: bytes | None
) -> None:
    """Keep the answer; without `body` only that there was one."""
    await connection.execute(
        "UPDATE idempotency SET status = $3, headers = $4, body = $5 WHERE actor = $1 AND key = $2",
        actor,
        key,
        status,
        headers,
        body,
    )


async def release(connection: Connection, actor: str, key: str) -> None:
    """Nothing came of it: the key is free again."""
    await connection.execute("DELETE FROM idempotency WHERE actor = $1 AND key = $2", actor, key)
