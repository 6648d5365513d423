"""The pool, its codecs, and migrations: a plain runner over numbered SQL files, up and down."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import resources
from typing import Any, Final, NoReturn, TypeAlias

import asyncpg

# asyncpg's classes are generic for type checkers only.
Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"
Row = asyncpg.Record
Pool: TypeAlias = "asyncpg.Pool[Any]"

DATABASE_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asyncpg's word for a connection that broke in the middle of its protocol
)
"""What a query raises while the database cannot be worked with."""
POISON: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""And what it raises for what it is given; anything else is the database's own trouble."""

_MIGRATION_LOCK = 0x75706265  # "upbe": one migrator at a time in a database


async def open_pool(url: str, *, size: int = 10) -> Pool:
    """A pool of at most `size` connections. Raises `asyncpg` and `OSError` errors when the server cannot be reached."""
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        init=codecs,
        command_timeout=30,
        server_settings={"application_name": "upbeat", "timezone": "UTC", "jit": "off"},
    )


async def codecs(connection: "asyncpg.Connection[Any]") -> None:
    """Let `connection` speak JSON as Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


@asynccontextmanager
async def unless_cancelled(pool: Pool) -> AsyncIterator[Connection]:
    """A connection that is hung up on when its user is cancelled: to give it back would wait for a database that hangs."""
    async with pool.acquire() as connection:
        try:
            yield connection
        except asyncio.CancelledError:
            connection.terminate()
            raise


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in a transaction: committed when the block ends, rolled back when it raises."""
    async with pool.acquire() as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def listening(connection: Connection, channel: str, heard: Callable[[], None]) -> AsyncIterator[None]:
    """Call `heard()` with every notification on `channel`, and when the connection is lost."""

    def told(*_: object) -> None:
        heard()

    await connection.add_listener(channel, told)
    connection.add_termination_listener(told)
    try:
        yield
    finally:
        # A lost connection is the pool's again already, and says so: that must not take the place of a cancellation.
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.remove_termination_listener(told)
            await connection.remove_listener(channel, told)


async def follow(
    pool: Pool,
    channels: Sequence[str],
    look: Callable[[Connection], Awaitable[float]],
    *,
    told: asyncio.Event | None = None,
    on_away: Callable[[Exception], None] = lambda _: None,
) -> NoReturn:
    """Until cancelled: `look`, which returns after how many seconds to look again, or when told so on `channels` or by `told`.

    While the database is away it is tried every second; `on_away` hears why.
    """
    told = told or asyncio.Event()
    while True:
        try:
            async with pool.acquire() as connection, AsyncExitStack() as stack:
                for channel in channels:
                    await stack.enter_async_context(listening(connection, channel, told.set))
                while True:  # a connection that was lost fails at the next look
                    told.clear()
                    wait_s = await look(connection)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await told.wait()
        except DATABASE_AWAY as failure:
            on_away(failure)
            await asyncio.sleep(1.0)


class MigrationError(Exception):
    """The database cannot be brought to this program's version."""


def versions() -> list[str]:
    """Names of all migrations this program knows, in order: `0001_foundation`, ..."""
    files = resources.files("engine.store").joinpath("migrations").iterdir()
    return sorted(file.name.removesuffix(".up.sql") for file in files if file.name.endswith(".up.sql"))


async def migrate(pool: Pool, *, to: str | None = None) -> list[str]:
    """Bring the schema up (or down) to version `to`, by default the newest; one transaction a step. Returns the steps.

    Raises `MigrationError` when the database is newer than this program, or a lock is not had within 5 seconds.
    """
    known = versions()
    target = len(known) if to is None else known.index(to) + 1 if to else 0
    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        try:
            return await _steps(connection, known, target)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)


async def _steps(connection: Connection, known: list[str], target: int) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (version text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    applied = [
        row["version"] for row in await connection.fetch("SELECT version FROM migrations ORDER BY version")
    ]
    if applied != known[: len(applied)]:
        raise MigrationError(
            f"the database was migrated to {applied[-1]}, which this program does not know; "
            f"it knows up to {known[-1]}. Start the newer program, or migrate down with it first"
        )
    steps = [(name, "up") for name in known[len(applied) : target]]
    steps += [(name, "down") for name in reversed(applied[target:])]
    for name, direction in steps:
        await _step(connection, name, direction)
    return [f"{name} {direction}" for name, direction in steps]


async def _step(connection: Connection, name: str, direction: str) -> None:
    sql = resources.files("engine.store").joinpath("migrations", f"{name}.{direction}.sql").read_text("utf-8")
    record = (
        "INSERT INTO migrations (version) VALUES ($1)"
        if direction == "up"
        else "DELETE FROM migrations WHERE version = $1"
    )
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            await connection.execute(sql)
            await connection.execute(record, name)
    except asyncpg.LockNotAvailableError:
        raise MigrationError(f"{name}: another session holds a table for more than 5 s; try again") from None
