"""What belongs to the installation as a whole: its settings, as its file or the environment gave them, for every process."""

from typing import Any

from engine.store.database import Connection

CHANGED = "upbeat_settings"
"""PostgreSQL notification sent when settings are written."""


async def read_settings(connection: Connection) -> dict[str, Any]:
    """The settings in their JSON form; empty when nobody wrote any."""
    value: dict[str, Any] | None = await connection.fetchval(
        "SELECT value FROM settings WHERE key = 'installation'"
    )
    return value or {}


async def write_settings(connection: Connection, settings: dict[str, Any]) -> None:
    """Replace the settings and tell every process."""
    await connection.execute(
        "INSERT INTO settings (key, value) VALUES ('installation', $1) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        settings,
    )
    await connection.execute("SELECT pg_notify($1, '')", CHANGED)
