"""Messages nobody could use, kept for a person with the reason."""

from engine.store.database import Connection, Row


async def put(connection: Connection, source: str, payload: bytes, error: str) -> None:
    """Keep `payload` from `source` with the traceback that condemned it."""
    await connection.execute(
        "INSERT INTO dead_letters (source, payload, error) VALUES ($1, $2, $3)", source, payload, error
    )


async def listing(connection: Connection, limit: int = 100) -> list[Row]:
    """Newest first."""
    return await connection.fetch("SELECT * FROM dead_letters ORDER BY id DESC LIMIT $1", limit)
