"""Pictures of pages, as they were checked and made anew when they were uploaded. What is allowed is the caller's."""

import hashlib
from typing import Literal
from uuid import UUID

from engine.store.database import Connection, Row

Name = Literal["logo", "logo-dark", "favicon"]
_EXTENSION = "CASE media_type WHEN 'image/svg+xml' THEN 'svg' ELSE 'png' END"


async def put(connection: Connection, page_id: UUID, name: Name, media_type: str, body: bytes) -> None:
    """Store it, instead of what was there."""
    await connection.execute(
        "INSERT INTO assets (page_id, name, media_type, body, digest) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (page_id, name) DO UPDATE SET media_type = $3, body = $4, digest = $5, updated_at = now()",
        page_id,
        name,
        media_type,
        body,
        hashlib.sha256(body).hexdigest()[:16],
    )


async def remove(connection: Connection, page_id: UUID, name: Name) -> bool:
    """Whether there was one."""
    done = await connection.execute("DELETE FROM assets WHERE page_id = $1 AND name = $2", page_id, name)
    return str(done) == "DELETE 1"


async def files(connection: Connection, page_id: UUID) -> dict[str, str]:
    """Those a page has, each with its file name, which changes with its content."""
    rows = await connection.fetch(
        f"SELECT name, name || '-' || digest || '.' || {_EXTENSION} AS file FROM assets WHERE page_id = $1 ORDER BY name",
        page_id,
    )
    return {row["name"]: row["file"] for row in rows}


async def all_of(connection: Connection, page_id: UUID) -> list[Row]:
    """Those of a page: `name`, `file`, `media_type`, `body`."""
    return await connection.fetch(
        f"SELECT name, name || '-' || digest || '.' || {_EXTENSION} AS file, media_type, body FROM assets WHERE page_id = $1",
        page_id,
    )
