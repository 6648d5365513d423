"""The servers behind an installation on this machine: those that run now, or embedded ones started for a moment."""

import asyncio
import contextlib
import getpass
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import asyncpg
import click
import uvloop

from api.context import Guide
from api.passwords import LEAST_LENGTH, hash_password
from api.people import LOGIN_PATH
from engine.embedded import backup as backups
from engine.embedded.folder import FolderError
from engine.embedded.process import ServerError
from engine.embedded.supervisor import start
from engine.store import installation, people
from engine.store.audit import Actor
from engine.store.database import Pool, open_pool, transaction
from engine.store.objects import MissingError
from upbeat.cli.client import LOCAL_URL, RefusedError, UnreachableError, local_url
from upbeat.serve import Running, ServeError, serve
from upbeat.settings import ServeSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Servers:
    """Where PostgreSQL and NATS are. `is_ours`: embedded ones, started by whoever asks and stopped after."""

    database_url: str
    nats_url: str | None
    is_ours: bool = False


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on the loop the server uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def running(settings: ServeSettings) -> Servers | None:
    """The servers of this installation that answer now. An external database that does not is for the caller to find."""
    if settings.database_url:
        return Servers(settings.database_url, settings.nats_url)
    url = _socket_url(settings.data)
    with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
        await (await asyncpg.connect(url, timeout=5.0)).close()
        return Servers(url, _nats_url(settings.data))
    return None


async def serving(
    settings: ServeSettings,
    *,
    guide: Callable[[], Guide | None] = lambda: None,
    then: Callable[[Running], Awaitable[None]] | None = None,
) -> None:
    """`serve`, with its address left in the data folder for commands on this machine; `then` is run once it answers."""
    place = settings.data / LOCAL_URL

    async def ready(started: Running) -> None:
        if started.base_url and settings.data.is_dir():
            place.write_text(started.base_url, "utf-8")
            after.callback(place.unlink, missing_ok=True)  # only here: another server's stays
        if then is not None:
            await then(started)
        elif started.base_url and sys.stderr.isatty():
            click.echo(
                f"Open {started.base_url}/console. `upbeat login` prints a link that signs you in.", err=True
            )

    try:
        with contextlib.ExitStack() as after:
            await serve(settings, guide=guide, on_ready=ready)
    except ServeError as refused:
        raise RefusedError(str(refused)) from None


@contextlib.asynccontextmanager
async def servers(settings: ServeSettings) -> AsyncIterator[Servers]:
    """The servers of this installation: as they run, or its embedded ones for as long as the block lasts."""
    found = await running(settings)
    if found is not None:
        yield found
        return
    if not (settings.data / "format.json").exists():
        raise RefusedError(
            f"{settings.data} is no data folder of Upbeat. Name the server's with --data or UPBEAT_DATA."
        )
    try:
        embedded = await start(settings.data, durable=settings.durable)
    except (FolderError, ServerError) as refused:
        raise RefusedError(str(refused)) from None
    try:
        yield Servers(embedded.database_url, embedded.nats_url, is_ours=True)
    finally:
        await embedded.stop()


async def with_pool(url: str, work: Callable[[Pool], Awaitable[T]]) -> T:
    """What `work` returns, given the database at `url`."""
    try:
        pool = await open_pool(url, size=2)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as failure:
        raise UnreachableError(
            f"The database does not answer: {str(failure) or type(failure).__name__}"
        ) from None
    try:
        return await work(pool)
    except asyncpg.UndefinedTableError:
        raise RefusedError("The database holds no installation yet. Start `upbeat serve` once.") from None
    finally:
        await pool.close()


def _socket_url(data: Path) -> str:
    """Where the embedded PostgreSQL of a data folder listens while it runs."""
    record = data / "socket-folder"  # written where the path of `run` is too long for a socket
    folder = Path(record.read_text("utf-8")) if record.exists() else data.resolve() / "run"
    return f"postgresql://upbeat@/upbeat?host={quote(str(folder))}&port=5432"


def _nats_url(data: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        (ports,) = (data / "nats").glob("*.ports")
        seen = urlsplit(json.loads(ports.read_text("utf-8"))["nats"][0])
        return f"nats://{(data / 'nats.token').read_text('utf-8')}@{seen.hostname}:{seen.port}"
    return None


def _actor() -> Actor:
    return Actor(f"{getpass.getuser()} on the server's machine", "cli")


async def login_link(settings: ServeSettings, email: str | None, url: str | None) -> str:
    """The address of a new login link; it begins with `url`, or as the installation is reached."""

    async def work(pool: Pool) -> str:
        async with transaction(pool) as connection:
            stored = (await installation.read_settings(connection)).get("public_url")
            try:
                secret = await people.make_login_link(connection, _actor(), email)
            except MissingError as missing:
                raise RefusedError(f"{str(missing).capitalize()}.") from None
        base = url or settings.public_url or stored or local_url(settings.data)
        return (
            f"{(base or f'http://{settings.host}:{settings.port}').rstrip('/')}{LOGIN_PATH}?secret={secret}"
        )

    async with servers(settings) as found:
        if found.is_ours:
            click.echo("No server runs here now: start it within the hour.", err=True)
        return await with_pool(found.database_url, work)


async def set_password(settings: ServeSettings, email: str, password: str) -> None:
    """Give the user with this address a new password."""
    if len(password) < LEAST_LENGTH:
        raise RefusedError(f"A password has at least {LEAST_LENGTH} characters.")
    hashed = await hash_password(password)

    async def work(pool: Pool) -> None:
        async with transaction(pool) as connection:
            row = await people.user_by_email(connection, email)
            if row is None:
                raise RefusedError(f"There is no user {email}.")
            await people.set_password(connection, _actor(), row["id"], hashed)

    async with servers(settings) as found:
        await with_pool(found.database_url, work)


async def back_up(settings: ServeSettings, file: Path) -> backups.Backup:
    """Write the database to `file`."""
    async with servers(settings) as found:
        try:
            return await backups.backup(found.database_url, file)
        except (backups.BackupError, ServerError) as failed:
            raise click.ClickException(str(failed)) from None


async def restore_from(settings: ServeSettings, file: Path, force: bool) -> backups.Backup:
    """Fill the database, which no server may be using, from `file`."""
    try:
        if settings.database_url:
            await _refuse_while_used(settings.database_url)
            return await backups.restore(settings.database_url, file, force=force)
        embedded = await start(settings.data, durable=settings.durable)  # refuses a folder in use
        try:
            return await backups.restore(embedded.database_url, file, force=force)
        finally:
            await embedded.stop()
    except (FolderError, ServerError) as refused:
        raise RefusedError(str(refused)) from None
    except backups.BackupError as failed:
        raise click.ClickException(str(failed)) from None


async def _refuse_while_used(url: str) -> None:
    async def living(pool: Pool) -> None:
        async with pool.acquire() as connection:
            if not await connection.fetchval("SELECT to_regclass('members')"):
                return
            if count := await connection.fetchval(
                "SELECT count(DISTINCT holder) FROM members WHERE until > now()"
            ):
                raise RefusedError(f"{count} server(s) use this database now. Stop them first.")

    await with_pool(url, living)
