"""Says once a second that this process takes pings, so that what nobody could hear is not missed. It takes none itself."""

import asyncio

from engine.store.database import DATABASE_AWAY, Pool, transaction
from engine.store.pings import LISTENING_S, listen


async def keep_listening(pool: Pool) -> None:
    """Until cancelled. While the database is away no ping can be kept, and nobody listens."""
    while True:
        try:
            async with asyncio.timeout(LISTENING_S * 2), transaction(pool) as connection:
                await listen(connection)
        except DATABASE_AWAY:
            pass
        await asyncio.sleep(LISTENING_S)
