"""Pictures of pages, as they were checked and made anew when they were uploaded. What is allowed is the caller's."""

import hashlib
from typing import Final
from uuid import UUID

from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from rules.page import PictureUse

_FILE: Final = (
    "name || '-' || digest || '.' || CASE media_type WHEN 'image/svg+xml' THEN 'svg' ELSE 'png' END AS file"
)


async def put(
    connection: Connection, actor: Actor, page_id: UUID, name: PictureUse, media_type: str, body: bytes
) -> str:
    """Store it, instead of what was there; its file name, which changes with its content."""
    before = (await files(connection, page_id)).get(name)
    file: str = await connection.fetchval(
        "INSERT INTO assets (page_id, name, media_type, body, digest) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (page_id, name) DO UPDATE SET media_type = $3, body = $4, digest = $5, updated_at = now() "
        f"RETURNING {_FILE}",
        page_id,
        name,
        media_type,
        body,
        hashlib.sha256(body).hexdigest()[:16],
    )
    await record(
        connection, actor, "picture.upload", name, page_id, before and {"file": before}, {"file": file}
    )
    return file


async def remove(connection: Connection, actor: Actor, page_id: UUID, name: PictureUse) -> bool:
    """Whether there was one."""
    sql = f"DELETE FROM assets WHERE page_id = $1 AND name = $2 RETURNING {_FILE}"
    before = await connection.fetchval(sql, page_id, name)
    if before:
        await record(connection, actor, "picture.remove", name, page_id, {"file": before})
    return bool(before)


async def files(connection: Connection, page_id: UUID) -> dict[str, str]:
    """Those a page has, each with its file name, which changes with its content."""
    rows = await connection.fetch(
        f"SELECT name, {_FILE} FROM assets WHERE page_id = $1 ORDER BY name", page_id
    )
    return {row["name"]: row["file"] for row in rows}


async def all_of(connection: Connection, page_id: UUID) -> list[Row]:
    """Those of a page: `name`, `file`, `media_type`, `body`."""
    return await connection.fetch(
        f"SELECT name, {_FILE}, media_type, body FROM assets WHERE page_id = $1", page_id
    )
