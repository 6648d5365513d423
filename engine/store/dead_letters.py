"""Messages nobody could use, kept for a person with the reason."""

from engine.store.database import Connection, Row


async def put(connection: Connection, source: str, payload: bytes, error: str) -> None:
    """Keep `payload` from `source` with the traceback that condemned it; one that comes again is kept once."""
    await connection.execute(
        "INSERT INTO dead_letters (source, payload, error) SELECT $1::text, $2::bytea, $3::text "
        "WHERE NOT EXISTS (SELECT FROM dead_letters WHERE source = $1 AND payload = $2)",
        source,
        payload,
        error,
    )


async def listing(connection: Connection, limit: int = 100) -> list[Row]:
    """Newest first."""
    return await connection.fetch("SELECT * FROM dead_letters ORDER BY id DESC LIMIT $1", limit)
